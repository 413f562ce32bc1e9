//! Metrics that more than one place sets, each set in one place here. `docs/reference/metrics.md` lists them all.

use std::time::Instant;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use watershed_protocol::Account;

/// How old what has just reached a stage is. `since` and `now` are microseconds since 1970.
pub fn latency(stage: impl Into<metrics::SharedString>, since: i64, now: i64) {
    metrics::histogram!("watershed_latency_seconds", "stage" => stage.into()).record((now - since).max(0) as f64 / 1e6);
}

/// The mean age of a chunk's records when they arrived, as far as their event times are known.
pub fn accepted(event_time: &[i64], accepted_at: i64) {
    let known = event_time.iter().filter(|at| **at != i64::MIN);
    let (sum, count) = known.fold((0i128, 0i128), |(sum, count), at| (sum + i128::from(*at), count + 1));
    if count > 0 {
        latency("accepted", i64::try_from(sum / count).unwrap_or(accepted_at), accepted_at);
    }
}

/// The fates of an epoch's rows.
pub fn ledger(table: &str, source: &str, account: &Account) {
    let fates = [
        ("read", account.read),
        ("delivered", account.delivered),
        ("filtered", account.filtered),
        ("duplicate", account.duplicate),
        ("late", account.late),
        ("quarantined", account.quarantined),
    ];
    for (fate, rows) in fates {
        metrics::counter!("watershed_ledger_rows_total", "table" => table.to_owned(), "source" => source.to_owned(), "fate" => fate).increment(rows);
    }
}

/// The NULLs of rows made for a table, column by column; columns that can have none are left out.
pub fn nulls(table: &str, batch: &RecordBatch) {
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()).filter(|(field, _)| field.is_nullable()) {
        metrics::counter!("watershed_column_nulls_total", "table" => table.to_owned(), "column" => field.name().clone()).increment(column.null_count() as u64);
    }
}

/// Makes the counters of a table's columns, so that their first NULL is a rise from zero.
pub fn expect_nulls(table: &str, schema: &Schema) {
    nulls(table, &RecordBatch::new_empty(std::sync::Arc::new(schema.clone())));
}

/// Time the ticks stood still for somebody else: a sink, or the commit of the epoch before.
pub fn waited(whom: &str, since: Instant) {
    metrics::histogram!("watershed_backpressure_seconds", "sink" => whom.to_owned()).record(since.elapsed().as_secs_f64());
}
