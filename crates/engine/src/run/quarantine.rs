//! `system.quarantine`: refused rows as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use watershed_types::{Epoch, Error, Reason, Result};

use super::outbox::Rejected;
use crate::operator::Refusal;

/// The columns of `system.quarantine`.
pub fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        text("table_name"),
        text("source"),
        text("partition"),
        text("position"),
        text("reason"),
        text("detail"),
        Field::new("raw", DataType::Binary, false),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("quarantined_at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

/// Refused rows of one table and tick.
pub fn batch(epoch: Epoch, table: &str, source: &str, now: i64, refusals: &[Refusal]) -> Result<RecordBatch> {
    let mut partition = StringBuilder::new();
    let mut position = StringBuilder::new();
    let mut reason = StringBuilder::new();
    let mut detail = StringBuilder::new();
    let mut raw = BinaryBuilder::new();
    let mut event_time = TimestampMicrosecondBuilder::new();
    for refusal in refusals {
        reason.append_value(refusal.reason.as_str());
        detail.append_value(&refusal.detail);
        match &refusal.origin {
            Some(origin) => {
                partition.append_value(&origin.chunk.partition);
                position.append_value(origin.position(refusal.record));
                raw.append_value(origin.raw(refusal.record));
                event_time.append_option(refusal.row.and_then(|row| origin.event_time.get(row as usize).copied()));
            }
            None => {
                partition.append_value("");
                position.append_value("");
                raw.append_value(refusal.raw.as_deref().unwrap_or_default());
                event_time.append_null();
            }
        }
    }
    let rows = refusals.len();
    let repeated = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)));
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int64Array::from(vec![epoch.0 as i64; rows])),
            repeated(table),
            repeated(source),
            Arc::new(partition.finish()),
            Arc::new(position.finish()),
            Arc::new(reason.finish()),
            Arc::new(detail.finish()),
            Arc::new(raw.finish()),
            Arc::new(event_time.finish()),
            Arc::new(TimestampMicrosecondArray::from(vec![now; rows])),
        ],
    )
    .map_err(|e| Error::internal("RUN0011", "refused rows do not fit the quarantine").caused_by(e))
}

/// Rows that an outside target refused. `sink` is its name, `table` the table it follows.
pub fn refused_by_sink(epoch: Epoch, sink: &str, table: &str, now: i64, refused: &[Rejected]) -> Result<RecordBatch> {
    let refusals: Vec<Refusal> = refused
        .iter()
        .map(|refused| Refusal { origin: None, record: 0, row: None, reason: Reason::Sink, detail: refused.row.detail.clone(), raw: Some(refused.json.clone().into_bytes()) })
        .collect();
    let rows = batch(epoch, sink, table, now, &refusals)?;
    // Its position is its place among the epoch's rows.
    let position = StringArray::from_iter_values(refused.iter().map(|refused| refused.row.row.to_string()));
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| match field.name().as_str() {
        "position" => Arc::new(position.clone()) as ArrayRef,
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).map_err(|e| Error::internal("RUN0011", "refused rows do not fit the quarantine").caused_by(e))
}
