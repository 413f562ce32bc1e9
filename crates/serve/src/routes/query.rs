//! SQL that only reads.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use watershed_types::sql::{MOST_CHAINED, chained};

use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::Shared;
use crate::sql::{Limits, QueryAnswer, answer};

/// A query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One statement.
    #[schema(example = "SELECT * FROM system.ledger ORDER BY epoch DESC")]
    pub sql: String,
    /// Rows given back, 1000 unless said otherwise.
    #[schema(maximum = 10000)]
    pub limit: Option<usize>,
    /// How long it may take, 30 unless said otherwise.
    #[schema(maximum = 300)]
    pub timeout_seconds: Option<u64>,
}

/// Run SQL that only reads.
///
/// Tables by their names, and `system.*`. Closing the connection stops it.
#[utoipa::path(
    post,
    path = "/v1/query",
    tag = "data",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "Columns and rows", body = QueryAnswer),
        (status = 400, description = "Wrong, or not only reading", content_type = "application/problem+json", body = ProblemBody),
        (status = 408, description = "It took too long", content_type = "application/problem+json", body = ProblemBody),
        (status = 413, description = "It needs too much memory", content_type = "application/problem+json", body = ProblemBody),
        (status = 429, description = "Too many at once", content_type = "application/problem+json", body = ProblemBody),
        (status = "4XX", description = "Not understood, or not for you", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn query(State(shared): State<Arc<Shared>>, Json(request): Json<QueryRequest>) -> Answer<Json<QueryAnswer>> {
    let sql = request.sql.trim().trim_end_matches(';').trim_end();
    if sql.is_empty() {
        return Err(Problem::bad(code::QUERY, "there is no SQL to run").hint("Such as SELECT * FROM system.ledger."));
    }
    if chained(sql) > MOST_CHAINED {
        return Err(Problem::bad(code::QUERY, format!("the statement chains more than {MOST_CHAINED} operators")).hint("Write x IN (…) for many alternatives, or join a list."));
    }
    let limits = Limits { rows: request.limit.unwrap_or(1_000).clamp(1, 10_000), offset: 0, time: Duration::from_secs(request.timeout_seconds.unwrap_or(30).clamp(1, 300)) };
    answer(&shared, sql, limits).await.map(Json)
}
