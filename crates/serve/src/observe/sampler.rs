//! From what a pipeline says of itself to points of series.
//!
//! A sampler remembers its last look; rates and quantiles are over what came since. One for each resolution.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use watershed_engine::run::{Histogram, Observed, SharedStatus, Status};

use super::process::usage;
use crate::topology::Topology;

/// Where figures come from.
#[derive(Clone)]
pub struct SourceOfFigures {
    /// The pipeline's state.
    pub status: SharedStatus,
    /// What it measures.
    pub observed: Arc<Observed>,
    /// Its shape.
    pub topology: Arc<Topology>,
}

/// A look at everything.
struct Look {
    at: Instant,
    totals: BTreeMap<String, f64>,
    latencies: BTreeMap<String, Histogram>,
}

/// Takes points.
#[derive(Default)]
pub struct Sampler {
    last: Option<Look>,
}

impl Sampler {
    /// A point: values by name. Nothing is known of rates at the first look.
    pub fn sample(&mut self, from: &SourceOfFigures, now: i64) -> BTreeMap<String, Option<f64>> {
        let status = from.status.read().clone();
        let usage = usage();
        let mut totals = totals(&status);
        totals.extend(usage.cpu_seconds.map(|seconds| ("cpu".to_owned(), seconds)));
        let look = Look { at: Instant::now(), totals, latencies: from.observed.latencies() };
        let mut values = gauges(&status, &from.topology, now);
        values.insert("memory_bytes".to_owned(), usage.memory);
        let seconds = self.last.as_ref().map(|last| look.at.duration_since(last.at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        for (name, total) in &look.totals {
            let before = self.last.as_ref().map(|last| last.totals.get(name).copied().unwrap_or(0.0));
            let rate = seconds.zip(before).map(|(seconds, before)| (total - before).max(0.0) / seconds);
            values.insert(name.clone(), rate);
        }
        let nothing = Histogram::default();
        for (stage, histogram) in &look.latencies {
            let before = self.last.as_ref().map(|last| last.latencies.get(stage).unwrap_or(&nothing));
            let new = before.map(|before| histogram.since(before));
            for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                values.insert(format!("latency.{stage}.{name}"), new.as_ref().and_then(|new| new.quantile(share)));
            }
        }
        self.last = Some(look);
        values
    }
}

/// What only grows, by the name of its rate.
fn totals(status: &Status) -> BTreeMap<String, f64> {
    let mut totals = BTreeMap::from([("rate".to_owned(), status.records as f64), ("bytes_rate".to_owned(), status.bytes as f64)]);
    for (name, source) in &status.sources {
        totals.insert(format!("source.{name}.rate"), source.records as f64);
    }
    for (name, table) in &status.tables {
        totals.insert(format!("table.{name}.rate"), table.written as f64);
        let mut account = table.account;
        account.add(&table.open);
        for (what, value) in [("quarantined", account.quarantined), ("late", account.late), ("duplicate", account.duplicate)] {
            totals.insert(format!("table.{name}.{what}_rate"), value as f64);
        }
    }
    for (name, sink) in &status.sinks {
        totals.insert(format!("sink.{name}.rate"), sink.rows as f64);
        totals.insert(format!("sink.{name}.refused_rate"), sink.refused as f64);
    }
    totals
}

/// What goes up and down.
fn gauges(status: &Status, topology: &Topology, now: i64) -> BTreeMap<String, Option<f64>> {
    let behind = |watermark: Option<i64>| watermark.map(|at| (now - at) as f64 / 1e6);
    let mut values = BTreeMap::from([
        ("watermark_lag_seconds".to_owned(), behind(status.watermark)),
        ("state_bytes".to_owned(), Some(status.operators.values().map(|o| o.bytes as f64).sum())),
        ("tick_seconds".to_owned(), (status.ticks > 0).then_some(status.tick_seconds)),
        ("commit_seconds".to_owned(), status.committed_at.map(|_| status.commit_seconds)),
        ("epoch".to_owned(), Some(status.epoch as f64)),
    ]);
    for (name, source) in &status.sources {
        let known = !source.flow.partitions.is_empty();
        values.insert(format!("source.{name}.input_rate"), known.then_some(source.flow.input_rate));
        values.insert(format!("source.{name}.lag"), source.lag_records.map(|lag| lag as f64).or(known.then_some(source.flow.lag as f64)));
        values.insert(format!("source.{name}.watermark_lag_seconds"), behind(source.watermark));
    }
    for table in &topology.tables {
        let state = status.operators.iter().filter(|(id, _)| owner(id) == table.name).map(|(_, operator)| operator.bytes as f64).sum();
        values.insert(format!("table.{}.state_bytes", table.name), Some(state));
    }
    for (name, sink) in &status.sinks {
        values.insert(format!("sink.{name}.commit_seconds"), (!sink.live).then_some(sink.commit_seconds));
    }
    values
}

/// The table an operator belongs to: ids are `table/1:dedup`.
pub fn owner(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(table, _)| table)
}
