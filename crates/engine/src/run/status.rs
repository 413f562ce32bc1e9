//! What a running pipeline says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use watershed_protocol::{Account, Lateness};

pub use super::flow::FlowReport;

/// The state of a pipeline, for `status`, progress lines and the API. Times are microseconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// The pipeline.
    pub pipeline: String,
    /// `starting`, `running`, `stopping`, `stopped`, `failed`.
    pub state: String,
    /// Which run this is.
    pub generation: u64,
    /// The last committed epoch.
    pub epoch: u64,
    /// The epoch that is being filled.
    #[serde(default)]
    pub open_epoch: u64,
    /// When it was committed.
    pub committed_at: Option<i64>,
    /// How long the last commit took, seconds.
    pub commit_seconds: f64,
    /// Ticks since the start.
    pub ticks: u64,
    /// How long the last tick took, seconds.
    pub tick_seconds: f64,
    /// Records read since the start.
    pub records: u64,
    /// Raw bytes read since the start.
    pub bytes: u64,
    /// Records a second over the last seconds.
    pub rate: f64,
    /// The combined watermark.
    pub watermark: Option<i64>,
    /// Seconds from the start of the process to the first processed row.
    pub first_row_seconds: Option<f64>,
    /// Sources.
    pub sources: BTreeMap<String, SourceStatus>,
    /// Tables: accounts since the start, both of committed epochs and of the running one.
    pub tables: BTreeMap<String, TableStatus>,
    /// Targets of the tables, outside ones and live ones.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkStatus>,
    /// Stateful operators.
    pub operators: BTreeMap<String, OperatorStatus>,
    /// Rows put into quarantine since the start, by reason.
    pub quarantine: BTreeMap<String, u64>,
    /// Thread seconds by stage since the start.
    pub stages: BTreeMap<String, f64>,
    /// Sinks that may be left behind, and what waits for them.
    #[serde(default)]
    pub spools: BTreeMap<String, SpoolStatus>,
    /// Conditions worth a person's attention.
    pub notices: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Records read since the start.
    pub records: u64,
    /// Records not yet read, where known.
    pub lag_records: Option<u64>,
    /// Bytes not yet read, where known.
    pub lag_bytes: Option<u64>,
    /// True if there was nothing more at the last look.
    pub caught_up: bool,
    /// Its watermark.
    pub watermark: Option<i64>,
    /// Which partition holds the watermark back.
    pub held_by: Option<String>,
    /// Partitions that do not count because they are idle.
    pub idle: Vec<String>,
    /// Partitions that are not read until others have come up.
    #[serde(default)]
    pub held: Vec<String>,
    /// Each partition's watermark.
    pub partitions: BTreeMap<String, i64>,
    /// How far the watermark is behind the greatest event time, microseconds.
    #[serde(default)]
    pub delay: i64,
    /// How late rows were.
    #[serde(default)]
    pub lateness: Lateness,
    /// Rates in and out, partition by partition, where the source knows.
    #[serde(default)]
    pub flow: FlowReport,
}

/// A table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TableStatus {
    /// Its accounts, all inputs together.
    #[serde(flatten)]
    pub account: Account,
    /// What the open epoch has so far; it is not in the accounts yet.
    #[serde(default)]
    pub open: Account,
    /// Rows handed to its writers.
    pub written: u64,
    /// How often each rule was broken.
    pub violations: BTreeMap<String, u64>,
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// True if it gets rows after each tick, and not with the epoch.
    pub live: bool,
    /// Rows it took since the start.
    pub rows: u64,
    /// Rows it refused since the start.
    pub refused: u64,
    /// The newest epoch it holds.
    pub epoch: u64,
    /// When it took that, microseconds since 1970.
    pub committed_at: Option<i64>,
    /// How long that took, seconds.
    pub commit_seconds: f64,
    /// What it is waited for, in its own words, while it is.
    pub waiting: Option<String>,
}

/// A stateful operator.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OperatorStatus {
    /// Keys or groups held.
    pub rows: u64,
    /// Bytes held in memory.
    pub bytes: u64,
    /// Bytes held on disk, because there was no room.
    #[serde(default)]
    pub spilled: u64,
    /// Keys or groups forgotten since the start.
    pub evictions: u64,
}

/// What waits for a sink whose target may be away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Epochs.
    pub epochs: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes in the checkpoint store.
    pub bytes: u64,
    /// The first of them.
    pub first_epoch: Option<u64>,
    /// The target's last words, while it is away.
    pub away: Option<String>,
}

/// Status as the tick thread writes and others read it.
pub type SharedStatus = Arc<RwLock<Status>>;

/// A rate over the last few seconds.
#[derive(Debug)]
pub struct Meter {
    marks: std::collections::VecDeque<(Instant, u64)>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { marks: std::collections::VecDeque::from([(Instant::now(), 0)]) }
    }
}

impl Meter {
    /// Takes the total so far and returns the rate a second.
    pub fn rate(&mut self, total: u64) -> f64 {
        let now = Instant::now();
        self.marks.push_back((now, total));
        while self.marks.len() > 2 && now.duration_since(self.marks[0].0).as_secs_f64() > 3.0 {
            self.marks.pop_front();
        }
        let (since, before) = self.marks[0];
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 { (total - before) as f64 / seconds } else { 0.0 }
    }
}
