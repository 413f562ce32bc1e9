//! The pipeline as of now, and over the last hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use watershed_engine::run::Status;

use crate::observe::{GraphView, Resolution, SeriesView};
use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::{Shared, now};

/// The pipeline's state in one object.
///
/// The older form of `/v1/graph`, with everything the pipeline says of itself.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "pipeline",
    responses((status = 200, description = "As of now", body = Object), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    let status = shared.figures.status.read().clone();
    Json(status)
}

/// The pipeline as a graph, with what holds it back.
#[utoipa::path(
    get,
    path = "/v1/graph",
    tag = "pipeline",
    responses((status = 200, description = "As of now", body = GraphView), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn graph(State(shared): State<Arc<Shared>>) -> Json<GraphView> {
    Json(shared.graph())
}

/// Which points are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// `1s` (ten minutes) or `10s` (two hours).
    #[param(example = "1s")]
    resolution: Option<String>,
    /// Only points after this, microseconds since 1970.
    since: Option<i64>,
    /// Only these, with commas between them.
    names: Option<String>,
}

/// Figures over the last hours.
#[utoipa::path(
    get,
    path = "/v1/series",
    tag = "pipeline",
    params(SeriesQuery),
    responses((status = 200, description = "Points by name", body = SeriesView), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn series(State(shared): State<Arc<Shared>>, Query(query): Query<SeriesQuery>) -> Answer<Json<SeriesView>> {
    let resolution = match query.resolution.as_deref() {
        None | Some("1s") => Resolution::Second,
        Some("10s") => Resolution::TenSeconds,
        Some(other) => return Err(Problem::bad(code::PARAMETER, format!("there is no resolution \"{other}\"")).hint("Use 1s or 10s.")),
    };
    let names: Vec<String> = query.names.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let view = shared.series(resolution).read().view(now(), query.since, &names);
    Ok(Json(view))
}

/// How many epochs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EpochsQuery {
    /// At most so many.
    #[param(maximum = 720)]
    limit: Option<usize>,
}

/// Epochs.
#[derive(Debug, Serialize, ToSchema)]
pub struct EpochsView {
    /// The newest first.
    pub epochs: Vec<EpochView>,
}

/// An epoch that this process committed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EpochView {
    /// Which.
    pub epoch: u64,
    /// When its first record came.
    pub opened_at: i64,
    /// When it was sealed.
    pub sealed_at: i64,
    /// When it was complete.
    pub committed_at: i64,
    /// From opened to sealed.
    pub duration_seconds: f64,
    /// How long its commit took.
    pub commit_seconds: f64,
    /// Records read in it.
    pub records: u64,
    /// Rows it brought to tables and targets.
    pub rows: u64,
    /// By table and target.
    pub sinks: BTreeMap<String, SinkWorkView>,
}

/// What a table or target did in an epoch.
#[derive(Debug, Serialize, ToSchema)]
pub struct SinkWorkView {
    /// Rows it was handed.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows it refused.
    pub refused: u64,
    /// How long it took.
    pub seconds: f64,
    /// True if it held the epoch already.
    pub already_there: bool,
}

/// The epochs this process committed.
#[utoipa::path(
    get,
    path = "/v1/epochs",
    tag = "pipeline",
    params(EpochsQuery),
    responses((status = 200, description = "The newest first", body = EpochsView), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn epochs(State(shared): State<Arc<Shared>>, Query(query): Query<EpochsQuery>) -> Json<EpochsView> {
    let reports = shared.figures.observed.epochs(query.limit.unwrap_or(200).min(720));
    let epochs = reports.into_iter().map(|report| EpochView {
        epoch: report.epoch,
        opened_at: report.opened_at,
        sealed_at: report.sealed_at,
        committed_at: report.committed_at,
        duration_seconds: (report.sealed_at - report.opened_at) as f64 / 1e6,
        commit_seconds: report.commit_seconds,
        records: report.records,
        rows: report.sinks.iter().filter(|(name, _)| !name.starts_with("system.")).map(|(_, work)| work.rows).sum(),
        sinks: report
            .sinks
            .into_iter()
            .map(|(name, work)| (name, SinkWorkView { rows: work.rows, bytes: work.bytes, refused: work.refused, seconds: work.seconds, already_there: work.already_there }))
            .collect(),
    });
    Json(EpochsView { epochs: epochs.collect() })
}
