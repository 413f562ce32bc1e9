//! The routes: one file a subject, one table of who may take which.
//!
//! I1: a route that is not in [`ROUTES`] is closed, so that none is ever open by mistake.

mod alerts;
mod checkpoints;
mod document;
mod general;
mod graph;
mod ledger;
mod live;
mod project;
mod quarantine;
mod query;
mod session;
mod socket;
mod tables;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Role, guard, outer};
use crate::body::tidy;
use crate::console;
use crate::problem::{Problem, code};
use crate::shared::Shared;

pub use document::document;

/// A body of a request, except one with records.
const BODY: usize = 256 << 10;

/// Who may take which route. `None` is open to everybody.
pub(crate) const ROUTES: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/", None),
    ("GET", "/healthz", None),
    ("GET", "/metrics", Some(Role::Viewer)),
    ("GET", "/v1/session", None),
    ("POST", "/v1/login", None),
    ("POST", "/v1/logout", None),
    ("GET", "/v1/openapi.json", None),
    ("GET", "/v1/errors/{code}", None),
    ("GET", "/v1/status", Some(Role::Viewer)),
    ("GET", "/v1/graph", Some(Role::Viewer)),
    ("GET", "/v1/series", Some(Role::Viewer)),
    ("GET", "/v1/epochs", Some(Role::Viewer)),
    ("GET", "/v1/ledger", Some(Role::Viewer)),
    ("GET", "/v1/quarantine", Some(Role::Viewer)),
    ("GET", "/v1/quarantine/summary", Some(Role::Viewer)),
    ("POST", "/v1/quarantine/replay", Some(Role::Operator)),
    ("GET", "/v1/tables", Some(Role::Viewer)),
    ("GET", "/v1/tables/{table}", Some(Role::Viewer)),
    ("GET", "/v1/tables/{table}/schema", Some(Role::Viewer)),
    ("GET", "/v1/tables/{table}/rows", Some(Role::Viewer)),
    ("GET", "/v1/tables/{table}/live", Some(Role::Viewer)),
    ("POST", "/v1/query", Some(Role::Viewer)),
    ("GET", "/v1/checkpoints", Some(Role::Viewer)),
    ("GET", "/v1/checkpoints/{epoch}", Some(Role::Viewer)),
    ("POST", "/v1/verify", Some(Role::Operator)),
    ("GET", "/v1/alerts", Some(Role::Viewer)),
    ("POST", "/v1/alerts/{id}/silence", Some(Role::Operator)),
    ("POST", "/v1/alerts/{id}/ack", Some(Role::Operator)),
    ("GET", "/v1/project", Some(Role::Viewer)),
    ("GET", "/v1/settings", Some(Role::Admin)),
    ("GET", "/v1/live/ws", Some(Role::Viewer)),
    ("POST", "/v1/ingest/{source}", Some(Role::Ingest)),
];

/// What a request needs: `None` if nobody may, `Some(None)` if everybody may.
pub(crate) fn need(method: &Method, path: &str) -> Option<Option<Role>> {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|(of, at, _)| *of == method && *at == path).map(|(_, _, role)| *role)
}

/// Routes with their description.
pub(crate) fn described() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(document::head())
        .routes(routes!(general::index))
        .routes(routes!(general::health))
        .routes(routes!(general::metrics))
        .routes(routes!(general::openapi))
        .routes(routes!(general::error_page))
        .routes(routes!(session::session))
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(graph::status))
        .routes(routes!(graph::graph))
        .routes(routes!(graph::series))
        .routes(routes!(graph::epochs))
        .routes(routes!(ledger::ledger))
        .routes(routes!(quarantine::rows))
        .routes(routes!(quarantine::summary))
        .routes(routes!(quarantine::replay))
        .routes(routes!(tables::tables))
        .routes(routes!(tables::table))
        .routes(routes!(tables::rows))
        .routes(routes!(live::live))
        .routes(routes!(query::query))
        .routes(routes!(checkpoints::checkpoints))
        .routes(routes!(checkpoints::checkpoint))
        .routes(routes!(checkpoints::verify))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::silence))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(project::project))
        .routes(routes!(project::settings))
        .routes(routes!(socket::socket))
}

/// Everything: routes, the door for records, the console's files, and the checks before them.
pub(crate) fn router(shared: Arc<Shared>, ingest: Router) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(Arc::clone(&shared))
        .merge(ingest)
        .route_layer(from_fn_with_state(Arc::clone(&shared), guard))
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, code::METHOD, "this address does not take that method").hint("GET / lists what there is.")
        })
        .fallback(console::fallback)
        .layer(from_fn(tidy))
        .layer(from_fn_with_state(shared, outer))
        .layer(middleware::map_response(harden))
}

/// Headers that keep pages of others away from ours.
async fn harden(mut response: axum::response::Response) -> axum::response::Response {
    use axum::http::{HeaderName, HeaderValue, header};
    const CSP: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; \
                       object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Figures of a moment are nothing to keep.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_a_role_and_a_description() {
        let document = serde_json::to_value(document()).expect("JSON");
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods").iter().filter(|(name, _)| ["get", "post", "put", "delete", "patch"].contains(&name.as_str())) {
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} says nothing of itself");
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let known: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(described, known);
        assert_eq!(need(&Method::DELETE, "/v1/graph"), None);
        assert_eq!(need(&Method::HEAD, "/v1/graph"), Some(Some(Role::Viewer)));
    }
}
