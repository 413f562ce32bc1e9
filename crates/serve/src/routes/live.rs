//! Rows of a table as a stream, for scripts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;

use crate::problem::{Answer, ProblemBody};
use crate::shared::Shared;

/// Batches that may wait for a reader of live rows.
const LIVE_BACKLOG: usize = 1_024;
/// Rows written at once, so that one reader does not hold a thread for long.
const LIVE_ROWS: usize = 256;

/// Rows as JSON lines, as ticks make them.
///
/// A reader that does not keep up loses its stream.
#[utoipa::path(
    get,
    path = "/v1/tables/{table}/live",
    tag = "data",
    params(("table" = String, Path)),
    responses((status = 200, description = "Until one side ends it", content_type = "application/x-ndjson", body = String), (status = "4XX", description = "There is no such table", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn live(State(shared): State<Arc<Shared>>, Path(table): Path<String>) -> Answer<Response> {
    shared.table(&table)?;
    let rows = shared.live.subscribe(&table, LIVE_BACKLOG);
    let body = stream::unfold((rows, None::<(RecordBatch, usize)>), |(mut rows, rest)| async move {
        let (batch, from) = match rest {
            Some(rest) => rest,
            None => (rows.recv().await?, 0),
        };
        let until = batch.num_rows().min(from + LIVE_ROWS);
        let lines = lines(&batch, from, until);
        let rest = (until < batch.num_rows()).then_some((batch, until));
        Some((Ok::<_, std::convert::Infallible>(lines), (rows, rest)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], Body::from_stream(body)).into_response())
}

fn lines(batch: &RecordBatch, from: usize, until: usize) -> Bytes {
    let mut text = String::with_capacity((until - from) * 400);
    for row in from..until {
        text.push_str(&watershed_engine::json::row_as_json(batch, row));
        text.push('\n');
    }
    Bytes::from(text)
}
