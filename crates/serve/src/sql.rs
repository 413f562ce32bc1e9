//! Queries of callers: bounded in time, memory, rows and number, and gone when the caller is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, SchemaRef};
use axum::http::StatusCode;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use utoipa::ToSchema;
use watershed_engine::json::value_as_json;

use crate::problem::{Answer, Problem, code};
use crate::shared::{Shared, blocking};

/// An answer is cut when its values take about this much.
const ANSWER_BYTES: usize = 16 << 20;
/// Whole numbers beyond this are not exact in JavaScript.
const EXACT: u64 = 1 << 53;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows given back.
    pub rows: usize,
    /// Rows left out before them.
    pub offset: usize,
    /// Time.
    pub time: Duration,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryAnswer {
    /// Columns in order.
    pub columns: Vec<AnswerColumn>,
    /// Rows: a value a column.
    pub rows: Vec<Vec<Value>>,
    /// How many.
    pub row_count: usize,
    /// True if there are more.
    pub truncated: bool,
    /// How long it took.
    pub elapsed_seconds: f64,
}

/// A column of an answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnswerColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// `number`, `text`, `time`, `boolean`, `bytes` or `json`.
    pub kind: String,
}

/// A task that ends with its owner.
struct Leash<T>(JoinHandle<T>);

impl<T> Drop for Leash<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one statement that only reads. Dropping the future stops it.
pub async fn answer(shared: &Arc<Shared>, sql: &str, limits: Limits) -> Answer<QueryAnswer> {
    let Ok(_place) = shared.queries.try_acquire() else {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, code::QUERY_BUSY, "too many queries run at once").hint("Wait for one to end.").retry_after(1));
    };
    let started = Instant::now();
    let (opener, text) = (Arc::clone(shared), sql.to_owned());
    let session = blocking(move || opener.project.session()).await?;
    let mut task = Leash(shared.query_threads.spawn(async move {
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = session.sql_with_options(&text, reading).await?;
        let schema = Arc::clone(frame.schema().inner());
        let rows = gather(frame, limits).await?;
        Ok::<_, DataFusionError>((schema, rows))
    }));
    let finished = tokio::time::timeout(limits.time, &mut task.0).await;
    let Ok(finished) = finished else {
        let title = format!("the query took longer than {} s, and was stopped", limits.time.as_secs());
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, code::QUERY_TIME, title).hint("Ask for less, or raise \"timeout_seconds\"."));
    };
    let result = finished.map_err(|error| {
        tracing::error!(%error, "a query's task has ended");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code::QUERY, "the statement cannot be run").hint("The log says more.")
    })?;
    match result {
        Ok((schema, (rows, truncated))) => Ok(QueryAnswer { columns: columns(&schema), row_count: rows.len(), rows, truncated, elapsed_seconds: started.elapsed().as_secs_f64() }),
        Err(error) => {
            let (shared, sql) = (Arc::clone(shared), sql.to_owned());
            Err(blocking(move || Ok(failure(&shared, &error, &sql))).await?)
        }
    }
}

fn failure(shared: &Shared, error: &DataFusionError, sql: &str) -> Problem {
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        let title = format!("the query needs more than the {} MiB that queries may take together", shared.query_memory >> 20);
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code::QUERY_MEMORY, title).hint("Ask for fewer rows or groups; [serve] query_memory sets the limit.");
    }
    let explained = shared.project.explain_query(error, sql);
    let problem = Problem::from(explained);
    // A statement that cannot be run is the caller's, unless something stored or the outside is at fault.
    if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code::QUERY, problem.body().title).hint(problem.body().detail)
    } else {
        problem
    }
}

async fn gather(frame: datafusion::dataframe::DataFrame, limits: Limits) -> Result<(Vec<Vec<Value>>, bool), DataFusionError> {
    let mut stream = frame.execute_stream().await?;
    let (mut rows, mut skip, mut bytes) = (Vec::new(), limits.offset, 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let from = skip.min(batch.num_rows());
        skip -= from;
        for row in from..batch.num_rows() {
            if rows.len() == limits.rows || bytes > ANSWER_BYTES {
                return Ok((rows, true));
            }
            let values: Vec<Value> = batch.columns().iter().map(|column| value(column, row)).collect();
            bytes += values.iter().map(weight).sum::<usize>();
            rows.push(values);
        }
        tokio::task::yield_now().await;
    }
    Ok((rows, false))
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + weight(value) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}

/// One value as JSON: what JavaScript cannot hold exactly is text.
pub fn value(column: &arrow::array::ArrayRef, row: usize) -> Value {
    match value_as_json(column, row) {
        Value::Number(number) if number.as_i64().map(i64::unsigned_abs).or(number.as_u64()).is_some_and(|n| n > EXACT) => Value::String(number.to_string()),
        other => other,
    }
}

/// An answer's columns.
pub fn columns(schema: &SchemaRef) -> Vec<AnswerColumn> {
    schema.fields().iter().map(|field| AnswerColumn { name: field.name().clone(), r#type: field.data_type().to_string(), kind: kind(field.data_type()).to_owned() }).collect()
}

fn kind(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        other if other.is_numeric() => "number",
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        other if other.is_nested() => "json",
        _ => "text",
    }
}

/// Text for SQL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name for SQL; `system.ledger` has two parts.
pub fn named(name: &str) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    match name.strip_prefix("system.") {
        Some(table) => format!("system.{}", quote(table)),
        None => quote(name),
    }
}
