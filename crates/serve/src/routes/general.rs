//! What is there, health, metrics, the description of the API, pages of errors.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::auth::Role;
use crate::console;
use crate::problem::{Problem, ProblemBody, code};
use crate::shared::Shared;

/// What there is.
///
/// The console for a browser, a list for everybody else.
#[utoipa::path(get, path = "/", tag = "pipeline", responses((status = 200, description = "A page or a list", content_type = "text/plain", body = String)))]
pub async fn index(State(shared): State<Arc<Shared>>, method: Method, headers: HeaderMap) -> Response {
    if console::wants_page(&method, &headers) {
        return console::page(&headers);
    }
    let known = knows(&shared, &headers);
    let mut text = if known { format!("watershed · {}\n\n", shared.figures.status.read().pipeline) } else { "watershed\n\n".to_owned() };
    if known {
        for source in &shared.doors {
            text.push_str(&format!("POST /v1/ingest/{source}\n     JSON records, one a line; answered when they are on disk\n"));
        }
        for table in &shared.figures.topology.tables {
            text.push_str(&format!("GET  /v1/tables/{}/live\n     rows as JSON lines, as they are made\n", table.name));
        }
    }
    text.push_str("GET  /v1/status\n     the pipeline's state as JSON\nPOST /v1/query\n     SQL that only reads\nGET  /v1/openapi.json\n     everything else there is\n");
    text.push_str("GET  /metrics\n     Prometheus' text format\nGET  /healthz\n     200 while the pipeline runs\n");
    text.into_response()
}

/// True if whoever asks may see more than that we are here.
fn knows(shared: &Shared, headers: &HeaderMap) -> bool {
    shared.door.caller(headers).ok().flatten().is_some_and(|caller| caller.role.covers(Role::Viewer))
}

/// Does the pipeline run?
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "pipeline",
    responses(
        (status = 200, description = "It runs", content_type = "text/plain", body = String),
        (status = 503, description = "It does not", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn health(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let (state, error) = {
        let status = shared.figures.status.read();
        (status.state.clone(), status.error.clone())
    };
    if state == "running" {
        return "ok\n".into_response();
    }
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::NOT_RUNNING, format!("the pipeline is {state}"));
    match error.filter(|_| knows(&shared, &headers)) {
        Some(error) => problem.hint(error).into_response(),
        None => problem.into_response(),
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "pipeline",
    responses(
        (status = 200, description = "Every metric", content_type = "text/plain", body = String),
        (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.project.metrics()).into_response()
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "access", responses((status = 200, description = "OpenAPI", content_type = "application/json", body = Object)))]
pub async fn openapi(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.document.clone()).into_response()
}

/// What an error code means.
#[utoipa::path(
    get,
    path = "/v1/errors/{code}",
    tag = "access",
    params(("code" = String, Path, example = "SRV0003")),
    responses(
        (status = 200, description = "Markdown", content_type = "text/markdown", body = String),
        (status = "4XX", description = "There is no such code", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn error_page(State(shared): State<Arc<Shared>>, Path(wanted): Path<String>) -> Response {
    match shared.project.error_page(&wanted.to_ascii_uppercase()) {
        Some(page) => ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], page).into_response(),
        None => Problem::new(StatusCode::NOT_FOUND, code::NOT_FOUND, "there is no page for that code").into_response(),
    }
}
