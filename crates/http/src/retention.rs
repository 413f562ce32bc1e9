//! Deleting what every reader has committed and nobody wants to keep.
//!
//! **Owns** the decision and the deletion. **Does not own** the positions: the engine says what is committed.
//!
//! I1: a segment is deleted only if it lies wholly below the least offset committed by any reader, and is not the last.
//! I2: the oldest goes first, so a crash in between leaves no gap.
//! I3: the `committed` file never says more than what the engine committed. It is a lower bound: a lost update is harmless.

use std::fs;
use std::time::Duration;

use watershed_types::Result;

use crate::disk::Disk;
use crate::options::HttpOptions;
use crate::partition::{Mark, Partition, SegmentMeta, State};
use crate::recover::COMMITTED;
use crate::segment::segment_name;
use crate::trouble;

/// Notes that a reader has committed, then deletes what may go.
pub(crate) fn commit(
    partition: &Partition,
    reader: u64,
    committed: (u64, u64),
    options: &HttpOptions,
    disk: &dyn Disk,
    now: i64,
) -> Result<()> {
    let (doomed, floor) = {
        let mut state = partition.lock();
        if let Some(mark) = state.readers.get_mut(&reader) {
            (mark.committed, mark.committed_total) = committed;
        }
        let Some(slowest) = state.readers.values().min_by_key(|mark| mark.committed).copied() else { return Ok(()) };
        let moved = slowest.committed > state.committed.committed;
        state.committed = Mark { consumed_total: slowest.committed_total, ..slowest };
        (choose(&state, options, now), moved.then_some(slowest.committed))
    };
    if let Some(offset) = floor {
        remember(partition, offset)?;
    }
    for segment in doomed {
        let path = partition.dir.join(segment_name(segment.base));
        disk.remove(&path).map_err(|error| trouble::unreadable(&partition.log, &path, "delete", error))?;
        partition.lock().segments.retain(|kept| kept.base != segment.base);
        tracing::debug!(log = %partition.log, file = %path.display(), "deleted a committed segment");
    }
    Ok(())
}

/// The segments that may go, oldest first.
fn choose(state: &State, options: &HttpOptions, now: i64) -> Vec<SegmentMeta> {
    let mut kept_bytes = state.bytes();
    let mut chosen = Vec::new();
    let closed = state.segments.len().saturating_sub(1);
    for segment in &state.segments[..closed] {
        let old = options.retention.is_some_and(|keep| older_than(segment.newest_at, now, keep));
        let over = options.retention_bytes.is_some_and(|most| kept_bytes > most);
        if segment.end > state.committed.committed || !(old || over) {
            break;
        }
        kept_bytes -= segment.len;
        chosen.push(*segment);
    }
    chosen
}

fn older_than(newest_at: i64, now: i64, keep: Duration) -> bool {
    i128::from(now) - i128::from(newest_at) >= keep.as_micros() as i128
}

fn remember(partition: &Partition, offset: u64) -> Result<()> {
    let path = partition.dir.join(COMMITTED);
    let draft = partition.dir.join("committed.tmp");
    let write = || -> std::io::Result<()> {
        fs::write(&draft, format!("{offset}\n"))?;
        fs::rename(&draft, &path)
    };
    write().map_err(|error| trouble::unreadable(&partition.log, &path, "write", error))
}
