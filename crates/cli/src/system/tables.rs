//! The tables of the schema `system` that are read from the checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use watershed_engine::checkpoint::{Checkpoint, read_state};
use watershed_engine::run::{REPLAY_SOURCE, pending_requests, quarantine_schema};
use watershed_protocol::{CommitRecord, Manifest, SourceProgress};
use watershed_types::{Epoch, Error, Result};

/// Their names.
pub const SYSTEM_TABLES: [&str; 8] = ["epochs", "lateness", "ledger", "quarantine", "replays", "sinks", "state", "watermarks"];

/// The shares of rows for which a delay is recommended.
pub const SHARES: [f64; 3] = [0.99, 0.999, 0.9999];

/// The manifest of the newest complete epoch.
pub fn newest_manifest(checkpoint: &Checkpoint) -> Result<Option<Manifest>> {
    match checkpoint.history()?.last_committed() {
        Epoch::ZERO => Ok(None),
        epoch => checkpoint.manifest(epoch).map(Some),
    }
}

/// Reads one of them, as of an epoch where it has a line for each.
pub fn read(name: &str, checkpoint: Option<&Checkpoint>, work: &Path, until: Epoch) -> Result<RecordBatch> {
    let mut records = match checkpoint {
        Some(checkpoint) if matches!(name, "epochs" | "ledger" | "sinks") => checkpoint.records()?,
        _ => vec![],
    };
    records.retain(|record| record.epoch <= until);
    let built = match name {
        "ledger" => ledger(&records),
        "epochs" => epochs(&records, &manifests(checkpoint)?),
        "sinks" => sinks(&records),
        "watermarks" => watermarks(checkpoint.map(newest_manifest).transpose()?.flatten().as_ref()),
        "lateness" => lateness(checkpoint.map(newest_manifest).transpose()?.flatten().as_ref()),
        "state" => state(checkpoint.map(newest_manifest).transpose()?.flatten().as_ref()),
        "replays" => return replays(checkpoint, work),
        _ => Ok(RecordBatch::new_empty(zoned(&quarantine_schema()))),
    };
    built.map_err(|e| Error::internal("CLI0060", format!("system.{name} cannot be made")).caused_by(e))
}

/// The quarantine's columns as the lake gives them back: times in UTC.
fn zoned(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Timestamp(unit, None) => Field::new(field.name(), DataType::Timestamp(*unit, Some("UTC".into())), true),
        other => Field::new(field.name(), other.clone(), true),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

type Built = std::result::Result<RecordBatch, arrow::error::ArrowError>;

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|v| i64::try_from(v).unwrap_or(i64::MAX))))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Built {
    let fields: Vec<_> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
}

fn manifests(checkpoint: Option<&Checkpoint>) -> Result<BTreeMap<u64, Manifest>> {
    let Some(checkpoint) = checkpoint else { return Ok(BTreeMap::new()) };
    let history = checkpoint.history()?;
    // One that a running pipeline has just removed is no loss: it only says when its epoch was prepared.
    Ok(history.prepared.iter().filter_map(|epoch| Some((*epoch, checkpoint.manifest(Epoch(*epoch)).ok()?))).collect())
}

fn ledger(records: &[CommitRecord]) -> Built {
    let rows: Vec<_> = records.iter().flat_map(|r| &r.ledger).collect();
    let figures = |of: fn(&watershed_protocol::Account) -> u64| numbers(rows.iter().map(|r| of(&r.account)));
    batch(vec![
        ("epoch", numbers(rows.iter().map(|r| r.epoch))),
        ("table_name", texts(rows.iter().map(|r| r.table_name.as_str()))),
        ("source", texts(rows.iter().map(|r| r.source.as_str()))),
        ("read", figures(|a| a.read)),
        ("delivered", figures(|a| a.delivered)),
        ("filtered", figures(|a| a.filtered)),
        ("duplicate", figures(|a| a.duplicate)),
        ("late", figures(|a| a.late)),
        ("quarantined", figures(|a| a.quarantined)),
        ("lost", figures(|a| a.lost)),
    ])
}

fn epochs(records: &[CommitRecord], manifests: &BTreeMap<u64, Manifest>) -> Built {
    let manifest = |record: &CommitRecord| manifests.get(&record.epoch.0);
    let optional = |of: &dyn Fn(&Manifest) -> u64| -> ArrayRef { Arc::new(records.iter().map(|r| manifest(r).map(|m| of(m) as i64)).collect::<Int64Array>()) };
    batch(vec![
        ("epoch", numbers(records.iter().map(|r| r.epoch.0))),
        ("generation", numbers(records.iter().map(|r| r.generation.0))),
        ("prepared_at", times(records.iter().map(|r| manifest(r).map(|m| m.prepared_at)))),
        ("committed_at", times(records.iter().map(|r| Some(r.committed_at)))),
        ("records", optional(&|m| m.ticks.iter().map(|t| t.records).sum())),
        ("ticks", optional(&|m| m.ticks.len() as u64)),
    ])
}

fn sinks(records: &[CommitRecord]) -> Built {
    let rows: Vec<_> = records.iter().flat_map(|r| r.sinks.iter().map(|(sink, receipt)| (r.epoch.0, sink, receipt))).collect();
    batch(vec![
        ("epoch", numbers(rows.iter().map(|r| r.0))),
        ("sink", texts(rows.iter().map(|r| r.1.as_str()))),
        ("rows", numbers(rows.iter().map(|r| r.2.rows))),
        ("bytes", numbers(rows.iter().map(|r| r.2.bytes))),
        ("refused", numbers(rows.iter().map(|r| r.2.refused))),
        ("already_there", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.2.already_there))))),
        ("spooled", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.2.spooled))))),
    ])
}

/// Each partition's watermark, and what it does to the source's.
fn watermarks(manifest: Option<&Manifest>) -> Built {
    let rows: Vec<_> = manifest.iter().flat_map(|m| &m.sources).flat_map(|(source, progress)| progress.watermarks.iter().map(move |at| (source, progress, at))).collect();
    let flag =
        |of: &dyn Fn(&SourceProgress, &String) -> bool| -> ArrayRef { Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, progress, (name, _))| Some(of(progress, name))))) };
    batch(vec![
        ("source", texts(rows.iter().map(|r| r.0.as_str()))),
        ("partition", texts(rows.iter().map(|r| r.2.0.as_str()))),
        ("watermark", times(rows.iter().map(|r| Some(*r.2.1)))),
        ("source_watermark", times(rows.iter().map(|r| r.1.combined))),
        ("holds_back", flag(&|progress, name| progress.held_by.as_ref() == Some(name))),
        ("idle", flag(&|progress, name| progress.idle.contains(name))),
        ("held", flag(&|progress, name| progress.held.contains(name))),
    ])
}

/// How late rows were: for each source a row for each bucket, with what a delay that long would have covered.
fn lateness(manifest: Option<&Manifest>) -> Built {
    let mut rows: Vec<(&str, i64, u64, f64)> = Vec::new();
    for (source, progress) in manifest.iter().flat_map(|m| &m.sources) {
        let (all, mut sum) = (progress.lateness.rows(), 0);
        for (micros, count) in progress.lateness.buckets() {
            sum += count;
            rows.push((source, micros, count, sum as f64 / all as f64));
        }
    }
    batch(vec![
        ("source", texts(rows.iter().map(|r| r.0))),
        ("late_by_up_to_seconds", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.1 as f64 / 1e6)))),
        ("rows", numbers(rows.iter().map(|r| r.2))),
        ("covered", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.3)))),
    ])
}

fn state(manifest: Option<&Manifest>) -> Built {
    let rows: Vec<_> = manifest.iter().flat_map(|m| &m.state).flat_map(|(operator, state)| state.files.iter().map(move |file| (operator, file))).collect();
    batch(vec![
        ("operator", texts(rows.iter().map(|r| r.0.as_str()))),
        ("path", texts(rows.iter().map(|r| r.1.path.as_str()))),
        ("rows", numbers(rows.iter().map(|r| r.1.rows))),
        ("bytes", numbers(rows.iter().map(|r| r.1.bytes))),
        ("whole", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.1.base))))),
        ("expires_at", times(rows.iter().map(|r| r.1.expires_at))),
    ])
}

/// Every replay request there is, a row each for its rows.
fn replays(checkpoint: Option<&Checkpoint>, work: &Path) -> Result<RecordBatch> {
    let taken = checkpoint.map(taken_requests).transpose()?.unwrap_or_default();
    let requests = pending_requests(work)?;
    let rows: Vec<_> = requests.iter().flat_map(|(name, request)| request.rows.iter().map(move |row| (name, row))).collect();
    batch(vec![
        ("request", texts(rows.iter().map(|r| r.0.as_str()))),
        ("epoch", numbers(rows.iter().map(|r| r.1.row.epoch))),
        ("table_name", texts(rows.iter().map(|r| r.1.row.table_name.as_str()))),
        ("source", texts(rows.iter().map(|r| r.1.row.source.as_str()))),
        ("partition", texts(rows.iter().map(|r| r.1.row.partition.as_str()))),
        ("position", texts(rows.iter().map(|r| r.1.row.position.as_str()))),
        ("reason", texts(rows.iter().map(|r| r.1.reason.as_str()))),
        ("taken", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(taken.contains(r.0)))))),
    ])
    .map_err(|e| Error::internal("CLI0060", "system.replays cannot be made").caused_by(e))
}

/// The replay requests that a committed epoch took.
pub fn taken_requests(checkpoint: &Checkpoint) -> Result<HashSet<String>> {
    let mut taken = HashSet::new();
    let operator = format!("source:{REPLAY_SOURCE}");
    let Some(manifest) = newest_manifest(checkpoint)? else { return Ok(taken) };
    for file in manifest.state.get(&operator).into_iter().flat_map(|state| &state.files) {
        for batch in read_state(checkpoint, file)? {
            if let Some(names) = batch.column_by_name("stretch").and_then(|c| c.as_string_opt::<i32>()) {
                taken.extend(names.iter().flatten().map(str::to_owned));
            }
        }
    }
    Ok(taken)
}
