//! How much thread time each stage took, since the start of the process.
//!
//! Measured per batch, with two clock reads each, and summed over threads: a profile that is always on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The stages of a record's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes to columns, and the source's computed columns.
    Decode,
    /// Hashing, looking up and remembering keys.
    Dedup,
    /// Stateless steps: expressions, filters, lookup joins.
    Query,
    /// Absorbing rows into windows and closing them.
    Window,
    /// Expectations.
    Rules,
    /// Partitioning, encoding, compressing and writing files.
    Encode,
}

const STAGES: [(Stage, &str); 6] =
    [(Stage::Decode, "decode"), (Stage::Dedup, "dedup"), (Stage::Query, "query"), (Stage::Window, "window"), (Stage::Rules, "rules"), (Stage::Encode, "encode")];

static NANOS: [AtomicU64; STAGES.len()] = [const { AtomicU64::new(0) }; STAGES.len()];

/// Runs something and adds its time to a stage.
pub fn timed<T>(stage: Stage, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    NANOS[stage as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}

/// Seconds by stage.
pub fn seconds() -> BTreeMap<String, f64> {
    STAGES.iter().map(|(stage, name)| ((*name).to_owned(), NANOS[*stage as usize].load(Ordering::Relaxed) as f64 / 1e9)).collect()
}
