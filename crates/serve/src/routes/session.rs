//! Logins of the console.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{COOKIE, Caller, Role, SESSION};
use crate::problem::{Answer, ProblemBody};
use crate::shared::Shared;

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// True if callers have to say who they are.
    pub required: bool,
    /// True if this one did, or need not.
    pub authenticated: bool,
    /// As the token is called.
    pub name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
    /// `watershed`.
    pub product: String,
    /// Of the program.
    pub version: String,
    /// The pipeline, for those who may know.
    pub pipeline: Option<String>,
}

/// A login.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As `watershed token create` printed it.
    #[schema(example = "ws_…")]
    pub token: String,
}

fn view(shared: &Shared, caller: Option<Caller>) -> SessionView {
    SessionView {
        required: shared.door.required(),
        authenticated: caller.is_some(),
        pipeline: caller.as_ref().map(|_| shared.figures.status.read().pipeline.clone()),
        name: caller.as_ref().map(|caller| caller.name.clone()),
        role: caller.map(|caller| caller.role),
        product: "watershed".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Who am I?
#[utoipa::path(get, path = "/v1/session", tag = "access", responses((status = 200, description = "Also without a token", body = SessionView)))]
pub async fn session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Json<SessionView> {
    // A token that is not known is nobody's.
    let caller = shared.door.caller(&headers).unwrap_or_default();
    Json(view(&shared, caller))
}

/// Open a session: the answer sets a cookie.
#[utoipa::path(
    post,
    path = "/v1/login",
    tag = "access",
    request_body = Login,
    responses(
        (status = 200, description = "Open for twelve hours", body = SessionView),
        (status = "4XX", description = "Not known", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn login(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(login): Json<Login>) -> Answer<Response> {
    shared.rate.strangers()?;
    let (id, caller) = shared.door.login(&login.token)?;
    tracing::info!(name = caller.name, role = caller.role.name(), "a session was opened");
    // The page's own address says whether its connection is encrypted; we stand behind a proxy then.
    let encrypted = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if encrypted { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", SESSION.as_secs());
    let mut response = Json(view(&shared, Some(caller))).into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    Ok(response)
}

/// End the session.
#[utoipa::path(post, path = "/v1/logout", tag = "access", responses((status = 204, description = "Ended, if there was one"), (status = "4XX", description = "Not from our page", content_type = "application/problem+json", body = ProblemBody)))]
pub async fn logout(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.door.logout(&headers);
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response()
}
