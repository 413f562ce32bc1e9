//! Alerts, as the project's book has them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::access::{AlertList, AlertView};
use crate::auth::Caller;
use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::{Shared, blocking};

/// The longest silence: a month.
const LONGEST: u64 = 31 * 86_400;

/// How long an alert is to be quiet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// So long; 0 ends it.
    #[schema(maximum = 2678400)]
    pub seconds: u64,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Somebody is at it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Acknowledgement {
    /// What they say.
    pub note: String,
}

/// Every alert.
#[utoipa::path(
    get,
    path = "/v1/alerts",
    tag = "alerts",
    responses((status = 200, description = "Alerts and their last changes", body = AlertList), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn alerts(State(shared): State<Arc<Shared>>) -> Json<AlertList> {
    Json(shared.alerts.list())
}

fn none(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, code::NO_ALERT, format!("there is no alert \"{id}\"")).hint("GET /v1/alerts lists them.")
}

/// Keep an alert quiet for a while.
#[utoipa::path(
    post,
    path = "/v1/alerts/{id}/silence",
    tag = "alerts",
    params(("id" = String, Path)),
    request_body = Silence,
    responses((status = 200, description = "It", body = AlertView), (status = "4XX", description = "There is none", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn silence(State(shared): State<Arc<Shared>>, Path(id): Path<String>, Extension(caller): Extension<Caller>, Json(silence): Json<Silence>) -> Answer<Json<AlertView>> {
    if silence.seconds > LONGEST {
        return Err(Problem::bad(code::PARAMETER, "\"seconds\" is too long a silence").hint(format!("At most {LONGEST}.")));
    }
    let (book, name) = (Arc::clone(&shared.alerts), id.clone());
    blocking(move || book.silence(&name, silence.seconds, &silence.reason, &caller.name).transpose()).await?.map(Json).ok_or_else(|| none(&id))
}

/// Say that somebody is at it.
#[utoipa::path(
    post,
    path = "/v1/alerts/{id}/ack",
    tag = "alerts",
    params(("id" = String, Path)),
    request_body = Acknowledgement,
    responses((status = 200, description = "It", body = AlertView), (status = "4XX", description = "There is none", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
    Json(note): Json<Acknowledgement>,
) -> Answer<Json<AlertView>> {
    let (book, name) = (Arc::clone(&shared.alerts), id.clone());
    blocking(move || book.acknowledge(&name, &note.note, &caller.name).transpose()).await?.map(Json).ok_or_else(|| none(&id))
}
