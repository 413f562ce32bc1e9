//! What a run measures of itself besides its status: how long rows took to each stage, and what the last epochs did.
//!
//! **Owns** distributions since the start and the last epochs. **Does not own** windows of time: whoever shows figures
//! of the last second takes the difference of two looks.
//!
//! I1: memory does not grow with the run. I2: a tick pays for chunks, never for rows.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// Epochs that are remembered.
const EPOCHS: usize = 720;
/// Below this, microseconds, everything is one bucket.
const LEAST: f64 = 64.0;
/// Buckets per doubling.
const STEPS: f64 = 8.0;
/// From 64 µs to about 76 hours.
const BUCKETS: usize = 256;
/// Rows of a chunk whose event time is looked at.
const LOOKS: usize = 64;

/// The stage from a row's event time to its acceptance.
pub const STAGE_EVENT: &str = "event";
/// The stage from acceptance to the end of its tick.
pub const STAGE_PROCESSED: &str = "processed";
/// The stage from acceptance to the commit of the last lake table.
pub const STAGE_LAKE: &str = "lake";

/// How often which latency was seen: buckets an eighth of a doubling wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Notes a latency, microseconds, so many times.
    pub fn note(&mut self, micros: i64, times: u64) {
        let bucket = ((micros as f64 / LEAST).max(1.0).log2() * STEPS) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += times;
        self.total += times;
    }

    /// How often anything was noted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What came since an earlier look.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let counts: Vec<u64> = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        let total = counts.iter().sum();
        Histogram { counts, total }
    }

    /// The latency, seconds, that this share of what was noted stays below. `None` if nothing was.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let wanted = (share * self.total as f64).max(1.0);
        let mut below = 0.0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let within = (wanted - below) / *count as f64;
            if within <= 1.0 {
                return Some(LEAST * ((bucket as f64 + within) / STEPS).exp2() / 1e6);
            }
            below += *count as f64;
        }
        None
    }
}

/// What one sink did in an epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SinkWork {
    /// Rows it was handed.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows it refused.
    pub refused: u64,
    /// How long its commit took.
    pub seconds: f64,
    /// True if it held the epoch already.
    pub already_there: bool,
    /// True if its rows wait, because it was away.
    pub spooled: bool,
    /// When it had them, microseconds since 1970.
    pub done_at: i64,
}

/// One committed epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpochReport {
    /// Which.
    pub epoch: u64,
    /// When its first record came, microseconds since 1970.
    pub opened_at: i64,
    /// When it was sealed.
    pub sealed_at: i64,
    /// When it was complete.
    pub committed_at: i64,
    /// How long its commit took.
    pub commit_seconds: f64,
    /// Records read in it.
    pub records: u64,
    /// By sink.
    pub sinks: BTreeMap<String, SinkWork>,
}

/// When how many rows were accepted, to tell how long they took: hundredths of a second since 1970.
pub type Accepted = BTreeMap<i64, u64>;

/// Notes rows that were accepted at one moment, microseconds since 1970.
pub fn note_accepted(accepted: &mut Accepted, at: i64, rows: u64) {
    *accepted.entry(at.div_euclid(10_000)).or_default() += rows;
}

/// The figures, written by the tick thread and read by anybody.
#[derive(Debug, Default)]
pub struct Observed {
    latencies: Mutex<BTreeMap<String, Histogram>>,
    epochs: Mutex<VecDeque<EpochReport>>,
}

impl Observed {
    /// Latencies since the start, by stage: `event`, `processed`, `lake`, and `sink:NAME` for each target outside.
    pub fn latencies(&self) -> BTreeMap<String, Histogram> {
        self.latencies.lock().clone()
    }

    /// The last epochs, the newest first.
    pub fn epochs(&self, at_most: usize) -> Vec<EpochReport> {
        self.epochs.lock().iter().rev().take(at_most).cloned().collect()
    }

    /// Notes rows that reached a stage.
    pub fn reached(&self, stage: &str, now: i64, accepted: &Accepted) {
        if accepted.is_empty() {
            return;
        }
        let mut latencies = self.latencies.lock();
        let histogram = latencies.entry(stage.to_owned()).or_default();
        for (at, rows) in accepted {
            histogram.note(now - at * 10_000, *rows);
        }
    }

    /// Notes how old a chunk's rows were when they were accepted, from a sample of them.
    pub fn accepted(&self, at: i64, event_times: &[i64]) {
        let step = event_times.len().div_ceil(LOOKS).max(1);
        let mut latencies = self.latencies.lock();
        let histogram = latencies.entry(STAGE_EVENT.to_owned()).or_default();
        for time in event_times.iter().step_by(step).filter(|time| **time != i64::MIN) {
            histogram.note(at.saturating_sub(*time), step as u64);
        }
    }

    /// Notes a committed epoch.
    pub fn committed(&self, report: EpochReport) {
        let mut epochs = self.epochs.lock();
        if epochs.len() == EPOCHS {
            epochs.pop_front();
        }
        epochs.push_back(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_tenth_and_differences_forget_what_was_before() {
        let mut histogram = Histogram::default();
        for millis in 1..=1_000 {
            histogram.note(millis * 1_000, 3);
        }
        for (share, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let found = histogram.quantile(share).expect("something was noted");
            assert!((found / exact - 1.0).abs() < 0.1, "{share}: {found}");
        }
        let before = histogram.clone();
        assert_eq!(histogram.since(&before).quantile(0.5), None);
        histogram.note(-5, 1);
        histogram.note(i64::MAX, 1);
        let new = histogram.since(&before);
        assert_eq!(new.total(), 2);
        assert!(new.quantile(1.0).expect("two") > 3_600.0 && new.quantile(0.1).expect("two") < 1e-3);
    }
}
