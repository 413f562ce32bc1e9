//! Rows that were refused, and sending them round again.
//!
//! A page's cursor names the newest epoch there was at the first page, so that what is refused meanwhile moves nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::{QuarantineFilter, ReplayWanted, Replayed, RowKey};
use crate::auth::Caller;
use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::{Shared, blocking};
use crate::sql::quoted;
use watershed_engine::run::encode_hex;

/// Raw bytes shown of each row.
const RAW: usize = 64 << 10;
/// Rows that one request may name.
const IDS: usize = 10_000;
const REASONS: [&str; 5] = ["corrupt", "schema", "violation", "late", "sink"];

/// Which rows are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QuarantineQuery {
    /// Refused by this table or target.
    table: Option<String>,
    /// Of this source.
    source: Option<String>,
    /// corrupt, schema, violation, late or sink.
    reason: Option<String>,
    /// In this epoch.
    epoch: Option<u64>,
    /// With these words in the detail or the raw bytes.
    text: Option<String>,
    /// So many rows.
    #[param(maximum = 500)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// A page of the quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantineView {
    /// The newest epoch first.
    pub rows: Vec<RefusedView>,
    /// The next page's cursor, if there is one.
    pub next: Option<String>,
    /// Rows that are meant.
    pub total: u64,
}

/// A refused row.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedView {
    /// What names it in requests.
    pub id: String,
    /// The epoch in which it was refused.
    pub epoch: u64,
    /// The table or target that refused it.
    pub table: String,
    /// Its source.
    pub source: String,
    /// Its partition.
    pub partition: String,
    /// Its place there.
    pub position: String,
    /// corrupt, schema, violation, late or sink.
    pub reason: String,
    /// The rule, the column, the parser's words.
    pub detail: String,
    /// As it came, if that is text.
    pub raw: Option<String>,
    /// As it came, if it is none.
    pub raw_base64: Option<String>,
    /// How long it is.
    pub raw_bytes: usize,
    /// True if not all of it is shown.
    pub raw_truncated: bool,
    /// Its event time, if it had one.
    pub event_time: Option<i64>,
    /// When it was refused.
    pub quarantined_at: Option<i64>,
    /// True if it went round again, in an epoch that is committed.
    pub replayed: bool,
    /// True if it can.
    pub replayable: bool,
}

/// A group of refused rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedGroup {
    /// The table or target.
    pub table: String,
    /// The reason.
    pub reason: String,
    /// How many.
    pub rows: u64,
    /// From this epoch.
    pub first_epoch: u64,
    /// To this one.
    pub last_epoch: u64,
    /// How many of them went round again.
    pub replayed: u64,
}

/// The quarantine in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct SummaryView {
    /// By table and reason.
    pub groups: Vec<RefusedGroup>,
    /// All together.
    pub total: u64,
}

/// What to send round again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// These rows.
    pub ids: Option<Vec<String>>,
    /// Or all that this lets through.
    pub filter: Option<QuarantineFilter>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

fn check_reason(reason: Option<&str>) -> Answer<()> {
    match reason.filter(|reason| !REASONS.contains(reason)) {
        Some(other) => Err(Problem::bad(code::PARAMETER, format!("there is no reason \"{other}\"")).hint(format!("Reasons: {}.", REASONS.join(", ")))),
        None => Ok(()),
    }
}

fn condition(query: &QuarantineQuery) -> String {
    let like = |text: &str| quoted(&format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")));
    let parts: Vec<String> = [
        query.table.as_ref().map(|table| format!("table_name = {}", quoted(table))),
        query.source.as_ref().map(|source| format!("source = {}", quoted(source))),
        query.reason.as_ref().map(|reason| format!("reason = {}", quoted(reason))),
        query.epoch.map(|epoch| format!("epoch = {epoch}")),
        // Raw bytes need not be text, so they are searched in hexadecimal, from whole bytes only.
        query.text.as_ref().map(|text| format!("(detail ILIKE {} OR regexp_like(encode(arrow_cast(raw, 'Binary'), 'hex'), '^(..)*{}'))", like(text), encode_hex(text.as_bytes()))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
}

/// Refused rows.
#[utoipa::path(
    get,
    path = "/v1/quarantine",
    tag = "accounts",
    params(QuarantineQuery),
    responses((status = 200, description = "A page", body = QuarantineView), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn rows(State(shared): State<Arc<Shared>>, Query(query): Query<QuarantineQuery>) -> Answer<Json<QuarantineView>> {
    check_reason(query.reason.as_deref())?;
    let limit = query.limit.unwrap_or(50).clamp(1, 500);
    let (newest, offset) = query.cursor.as_deref().map(parse_cursor).transpose()?.unwrap_or((i64::MAX as u64, 0));
    let reader = Arc::clone(&shared);
    let condition = format!("epoch <= {newest} AND {}", condition(&query));
    let (batches, counted, replayed) = read(&reader, move |session| async move {
        let counts = session.sql(&format!("SELECT count(*) AS rows, max(epoch) AS newest FROM system.quarantine WHERE {condition}")).await?.collect().await?;
        let text = |name: &str| format!("arrow_cast({name}, 'Utf8')");
        let columns: Vec<String> = ["table_name", "source", "partition", "position", "reason", "detail"].iter().map(|name| text(name)).collect();
        let sql = format!(
            "SELECT epoch, {}, arrow_cast(raw, 'Binary'), arrow_cast(event_time, 'Timestamp(Microsecond, None)'), arrow_cast(quarantined_at, 'Timestamp(Microsecond, None)') \
             FROM system.quarantine WHERE {condition} ORDER BY epoch DESC, table_name, partition, length(position), position LIMIT {limit} OFFSET {offset}",
            columns.join(", ")
        );
        let rows = session.sql(&sql).await?.collect().await?;
        Ok((rows, counts))
    })
    .await
    .map(|((rows, counts), replayed)| (rows, counts, replayed))?;
    let number = |column: usize| {
        counted.first().filter(|batch| batch.num_rows() > 0 && !batch.column(column).is_null(0)).map_or(0, |batch| batch.column(column).as_primitive::<Int64Type>().value(0) as u64)
    };
    let (total, seen) = (number(0), number(1));
    let mut rows: Vec<RefusedView> = Vec::new();
    for batch in &batches {
        rows.extend((0..batch.num_rows()).map(|row| refused(&shared, batch, row, &replayed)));
    }
    let reached = offset + rows.len() as u64;
    let pinned = if query.cursor.is_some() { newest } else { seen };
    let next = (reached < total && !rows.is_empty()).then(|| format!("{pinned}.{reached}"));
    Ok(Json(QuarantineView { rows, next, total }))
}

fn parse_cursor(text: &str) -> Answer<(u64, u64)> {
    let parsed = text.split_once('.').and_then(|(epoch, offset)| Some((epoch.parse::<u64>().ok()?, offset.parse::<u64>().ok()?)));
    let parsed = parsed.filter(|(epoch, offset)| *epoch <= i64::MAX as u64 && *offset <= i64::MAX as u64);
    parsed.ok_or_else(|| Problem::bad(code::PARAMETER, "\"cursor\" is not one of this list").hint("Use \"next\" of the page before, as it is."))
}

/// Runs queries of ours over the quarantine; also which rows went round before.
async fn read<T, F>(shared: &Arc<Shared>, work: impl FnOnce(datafusion::prelude::SessionContext) -> F + Send + 'static) -> Answer<(T, HashMap<RowKey, String>)>
where
    T: Send + 'static,
    F: Future<Output = datafusion::common::Result<T>> + Send + 'static,
{
    let opener = Arc::clone(shared);
    let (session, replayed) = blocking(move || Ok((opener.project.session()?, opener.project.replayed()?))).await?;
    let found = shared.query_threads.spawn(work(session)).await;
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(%error, "the quarantine cannot be read");
        Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, code::TASK, "the quarantine cannot be read").hint("Run `watershed verify` to see what is wrong.").retry_after(5)
    };
    let found = found.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok((found, replayed.into_iter().collect()))
}

fn refused(shared: &Shared, batch: &RecordBatch, row: usize, replayed: &HashMap<RowKey, String>) -> RefusedView {
    let text = |column: usize| batch.column(column).as_string_opt::<i32>().filter(|c| !c.is_null(row)).map(|c| c.value(row).to_owned()).unwrap_or_default();
    let time = |column: usize| batch.column(column).as_primitive_opt::<TimestampMicrosecondType>().filter(|c| !c.is_null(row)).map(|c| c.value(row));
    let epoch = batch.column(0).as_primitive::<Int64Type>().value(row) as u64;
    let key = RowKey { epoch, table: text(1), source: text(2), partition: text(3), position: text(4) };
    let bytes = batch.column(7).as_binary_opt::<i32>().filter(|c| !c.is_null(row)).map(|c| c.value(row)).unwrap_or_default();
    let (raw, raw_base64) = shown(bytes);
    let reason = text(5);
    let of_sink = reason == "sink" && shared.figures.topology.sinks.iter().any(|sink| sink.name == key.table);
    let of_table = !key.partition.is_empty() && shared.figures.topology.tables.iter().any(|table| table.name == key.table);
    let replayed = replayed.contains_key(&key);
    RefusedView {
        id: show_id(&key),
        replayed,
        replayable: !replayed && (of_sink || of_table),
        epoch,
        table: key.table,
        source: key.source,
        partition: key.partition,
        position: key.position,
        reason,
        detail: text(6),
        raw,
        raw_base64,
        raw_bytes: bytes.len(),
        raw_truncated: bytes.len() > RAW,
        event_time: time(8),
        quarantined_at: time(9),
    }
}

/// Text as text, anything else in base64; both cut.
fn shown(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let cut = &bytes[..bytes.len().min(RAW)];
    match std::str::from_utf8(cut) {
        Ok(text) => (Some(text.to_owned()), None),
        // The cut may have gone through a character.
        Err(error) if bytes.len() > RAW && error.error_len().is_none() => (Some(String::from_utf8_lossy(&cut[..error.valid_up_to()]).into_owned()), None),
        Err(_) => (None, Some(openssl::base64::encode_block(cut))),
    }
}

fn show_id(key: &RowKey) -> String {
    let parts = serde_json::json!([key.epoch, key.table, key.source, key.partition, key.position]).to_string();
    format!("q1.{}", encode_hex(parts.as_bytes()))
}

fn parse_id(id: &str) -> Option<RowKey> {
    let digits = id.strip_prefix("q1.").filter(|digits| digits.is_ascii() && digits.len().is_multiple_of(2) && digits.len() < 16 << 10)?;
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect();
    let (epoch, table, source, partition, position) = serde_json::from_slice(&bytes?).ok()?;
    Some(RowKey { epoch, table, source, partition, position })
}

/// Refused rows by table and reason.
#[utoipa::path(
    get,
    path = "/v1/quarantine/summary",
    tag = "accounts",
    responses((status = 200, description = "Groups", body = SummaryView), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn summary(State(shared): State<Arc<Shared>>) -> Answer<Json<SummaryView>> {
    let (batches, replayed) = read(&shared, |session| async move {
        let sql =
            "SELECT arrow_cast(t, 'Utf8'), arrow_cast(r, 'Utf8'), n, a, z FROM (SELECT table_name AS t, reason AS r, count(*) AS n, min(epoch) AS a, max(epoch) AS z FROM system.quarantine GROUP BY table_name, reason) ORDER BY t, r";
        session.sql(sql).await?.collect().await
    })
    .await?;
    let mut groups = Vec::new();
    for batch in &batches {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row) as u64;
        groups.extend((0..batch.num_rows()).map(|row| RefusedGroup {
            table: text(0, row),
            reason: text(1, row),
            rows: number(2, row),
            first_epoch: number(3, row),
            last_epoch: number(4, row),
            replayed: 0,
        }));
    }
    for (key, reason) in &replayed {
        if let Some(group) = groups.iter_mut().find(|group: &&mut RefusedGroup| group.table == key.table && group.reason == *reason) {
            group.replayed += 1;
        }
    }
    Ok(Json(SummaryView { total: groups.iter().map(|group| group.rows).sum(), groups }))
}

/// Send refused rows round again.
///
/// A row goes round once. The running pipeline takes the request within a second.
#[utoipa::path(
    post,
    path = "/v1/quarantine/replay",
    tag = "accounts",
    request_body = ReplayRequest,
    responses((status = 200, description = "What was, or would be, sent", body = Replayed), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn replay(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>, Json(request): Json<ReplayRequest>) -> Answer<Json<Replayed>> {
    let wanted = match (request.ids, request.filter) {
        (Some(ids), None) if ids.len() <= IDS => {
            let keys: Option<Vec<RowKey>> = ids.iter().map(|id| parse_id(id)).collect();
            ReplayWanted::Rows(keys.ok_or_else(|| Problem::bad(code::ROW_ID, "an id is not one of a quarantined row").hint("Take them from GET /v1/quarantine."))?)
        }
        (None, Some(filter)) => {
            check_reason(filter.reason.as_deref())?;
            ReplayWanted::Filter(filter)
        }
        (Some(ids), None) => return Err(Problem::bad(code::PARAMETER, format!("{} ids are too many at once", ids.len())).hint(format!("Send at most {IDS}, or a filter."))),
        _ => return Err(Problem::bad(code::REQUEST, "say which rows are meant: either \"ids\" or \"filter\"").hint("An empty filter means all of them.")),
    };
    let dry_run = request.dry_run;
    let project = Arc::clone(&shared.project);
    let done = blocking(move || project.replay(&wanted, dry_run)).await?;
    if let Some(request) = &done.request {
        tracing::info!(by = caller.name, rows = done.rows, request, "refused rows go round again");
    }
    Ok(Json(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_went_and_garbage_is_none() {
        let key = RowKey { epoch: 7, table: "t\"'ü".to_owned(), source: String::new(), partition: "a/b".to_owned(), position: "42".to_owned() };
        assert_eq!(parse_id(&show_id(&key)), Some(key));
        for garbage in ["", "q1.", "q1.zz", "q1.7b7d", "q2.00", "q1.é0"] {
            assert_eq!(parse_id(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn raw_bytes_are_text_where_they_are() {
        assert_eq!(shown(b"{}"), (Some("{}".to_owned()), None));
        assert_eq!(shown(&[0xff, 0]), (None, Some("/wA=".to_owned())));
        let long = "ü".repeat(RAW);
        assert_eq!(shown(&long.as_bytes()[1..]).0, None);
        assert_eq!(shown(format!("a{long}").as_bytes()).0.map(|text| text.len()), Some(RAW - 1));
    }
}
