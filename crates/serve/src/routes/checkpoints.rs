//! The checkpoint and the audit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use watershed_protocol::Manifest;
use watershed_types::{Epoch, Error};

use crate::access::AuditFinding;
use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::{Shared, blocking};

/// Which epochs are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CheckpointsQuery {
    /// So many.
    #[param(maximum = 500)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Epochs of the checkpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointsView {
    /// The newest first.
    pub epochs: Vec<CheckpointView>,
    /// The next page's cursor, if there is one.
    pub next: Option<String>,
}

/// An epoch of the checkpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointView {
    /// Which.
    pub epoch: u64,
    /// The run that completed it.
    pub generation: u64,
    /// When it was prepared, if its manifest is kept.
    pub prepared_at: Option<i64>,
    /// When it was complete.
    pub committed_at: Option<i64>,
    /// False if it was prepared and not finished yet.
    pub complete: bool,
    /// Bytes of state it refers to, if its manifest is kept.
    pub state_bytes: Option<u64>,
    /// True if its manifest is kept.
    pub kept: bool,
    /// What each table and target took.
    pub sinks: BTreeMap<String, ReceiptView>,
}

/// What a table or target took.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptView {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Rows it refused.
    pub refused: u64,
    /// True if recovery found them there.
    pub already_there: bool,
}

/// An audit.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// True if nothing disagrees.
    pub ok: bool,
    /// Line by line.
    pub findings: Vec<AuditFinding>,
    /// How long it took.
    pub elapsed_seconds: f64,
}

fn state_bytes(manifest: &Manifest) -> u64 {
    manifest.state.values().flat_map(|state| &state.files).map(|file| file.bytes).sum()
}

/// Epochs of the checkpoint.
#[utoipa::path(
    get,
    path = "/v1/checkpoints",
    tag = "accounts",
    params(CheckpointsQuery),
    responses((status = 200, description = "A page", body = CheckpointsView), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn checkpoints(State(shared): State<Arc<Shared>>, Query(query): Query<CheckpointsQuery>) -> Answer<Json<CheckpointsView>> {
    let wrong = |_| Problem::bad(code::PARAMETER, "\"cursor\" is not one of this list").hint("Use \"next\" of the page before, as it is.");
    let below: u64 = query.cursor.as_deref().map(str::parse).transpose().map_err(wrong)?.unwrap_or(u64::MAX);
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    blocking(move || {
        let records = shared.records()?;
        let checkpoint = shared.project.checkpoint()?;
        let kept = checkpoint.as_ref().map(|checkpoint| checkpoint.history()).transpose()?.map(|history| history.prepared).unwrap_or_default();
        // One that the running pipeline has just removed is no loss: it is shown without what only it says.
        let manifest = |epoch: u64| checkpoint.as_ref().filter(|_| kept.contains(&epoch)).and_then(|checkpoint| checkpoint.manifest(Epoch(epoch)).ok());
        let page: Vec<_> = records.iter().rev().filter(|record| record.epoch.0 < below).take(limit).collect();
        let next = page.last().filter(|_| page.len() == limit).map(|record| record.epoch.0.to_string());
        let view = |record: &&watershed_protocol::CommitRecord| {
            let manifest = manifest(record.epoch.0);
            let receipt = |(name, r): (&String, &watershed_protocol::SinkReceipt)| {
                (name.clone(), ReceiptView { rows: r.rows, bytes: r.bytes, refused: r.refused, already_there: r.already_there })
            };
            CheckpointView {
                epoch: record.epoch.0,
                generation: record.generation.0,
                prepared_at: manifest.as_ref().map(|manifest| manifest.prepared_at),
                committed_at: Some(record.committed_at),
                complete: true,
                state_bytes: manifest.as_ref().map(state_bytes),
                kept: manifest.is_some(),
                sinks: record.sinks.iter().map(receipt).collect(),
            }
        };
        Ok(CheckpointsView { epochs: page.iter().map(view).collect(), next })
    })
    .await
    .map(Json)
}

/// One epoch's manifest.
#[utoipa::path(
    get,
    path = "/v1/checkpoints/{epoch}",
    tag = "accounts",
    params(("epoch" = u64, Path)),
    responses((status = 200, description = "Positions, watermarks, state, accounts", body = Object), (status = "4XX", description = "It is not kept", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn checkpoint(State(shared): State<Arc<Shared>>, Path(epoch): Path<u64>) -> Answer<Json<Value>> {
    let found = blocking(move || {
        let Some(checkpoint) = shared.project.checkpoint()? else { return Ok(None) };
        let history = checkpoint.history()?;
        if !history.prepared.contains(&epoch) {
            return Ok(None);
        }
        let manifest = checkpoint.manifest(Epoch(epoch))?;
        let committed_at = shared.records()?.iter().find(|record| record.epoch.0 == epoch).map(|record| record.committed_at);
        show(&manifest, committed_at).map(Some)
    })
    .await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, code::NO_EPOCH, format!("there is no manifest of epoch {epoch}")).hint("GET /v1/checkpoints shows which are kept."))
}

fn show(manifest: &Manifest, committed_at: Option<i64>) -> watershed_types::Result<Value> {
    let failed = |e: serde_json::Error| Error::internal(code::TASK, "the manifest cannot be shown").caused_by(e);
    let state: Vec<Value> = manifest
        .state
        .iter()
        .flat_map(|(operator, state)| state.files.iter().map(move |file| (operator, file)))
        .map(|(operator, file)| json!({ "operator": operator, "path": file.path, "rows": file.rows, "bytes": file.bytes, "whole": file.base, "expires_at": file.expires_at }))
        .collect();
    Ok(json!({
        "epoch": manifest.epoch.0,
        "generation": manifest.generation.0,
        "prepared_at": manifest.prepared_at,
        "committed_at": committed_at,
        "complete": committed_at.is_some(),
        "watermark": manifest.watermark,
        "sources": serde_json::to_value(&manifest.sources).map_err(failed)?,
        "ticks": serde_json::to_value(&manifest.ticks).map_err(failed)?,
        "ledger": serde_json::to_value(&manifest.ledger).map_err(failed)?,
        "state": state,
    }))
}

/// Run the audit.
///
/// The same as `watershed verify`: does everything that is stored agree with everything else?
#[utoipa::path(
    post,
    path = "/v1/verify",
    tag = "accounts",
    responses((status = 200, description = "What it found", body = AuditView), (status = "4XX", description = "One runs already, or not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn verify(State(shared): State<Arc<Shared>>) -> Answer<Json<AuditView>> {
    let Ok(_place) = shared.auditing.try_acquire() else {
        return Err(Problem::new(StatusCode::CONFLICT, code::VERIFY_BUSY, "an audit runs already").hint("Wait for it."));
    };
    let started = Instant::now();
    let project = Arc::clone(&shared.project);
    let findings = blocking(move || project.verify()).await?;
    Ok(Json(AuditView { ok: findings.iter().all(|finding| finding.level != "fail"), findings, elapsed_seconds: started.elapsed().as_secs_f64() }))
}
