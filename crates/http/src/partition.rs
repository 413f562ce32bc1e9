//! One partition as its appender and its readers share it: what is published, who has read how far.
//!
//! **Owns** the published end, the list of segments, the tail cache, the readers' marks. **Does not own** threads
//! or files.
//!
//! I1: segments follow each other without a gap; the last one takes the appends.
//! I2: what is published is synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::cache::TailCache;
use crate::recover::Recovered;

/// One segment, as far as it is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentMeta {
    /// Its first offset, and its name.
    pub(crate) base: u64,
    /// The offset after its last record.
    pub(crate) end: u64,
    /// Its bytes.
    pub(crate) len: u64,
    /// Bytes of the partition before it, counted from the first segment at opening.
    pub(crate) start: u64,
    /// When its newest frame was accepted, microseconds since 1970.
    pub(crate) newest_at: i64,
}

/// How far one reader is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    /// Bytes of the partition it has read.
    pub(crate) consumed_total: u64,
    /// The offset it has committed.
    pub(crate) committed: u64,
    /// Bytes of the partition before that offset.
    pub(crate) committed_total: u64,
}

/// What is known under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) segments: Vec<SegmentMeta>,
    pub(crate) cache: TailCache,
    pub(crate) readers: BTreeMap<u64, Mark>,
    /// What all readers have committed; stands for them while there are none.
    pub(crate) committed: Mark,
}

impl State {
    /// The first offset that is still there.
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().map_or(0, |first| first.base)
    }
    /// The offset after the last published record.
    pub(crate) fn end(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.end)
    }
    /// Published bytes, in the same count as [`SegmentMeta::start`].
    pub(crate) fn end_total(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.start + last.len)
    }
    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.end_total() - self.segments.first().map_or(0, |first| first.start)
    }
    /// Bytes that the slowest reader has not read.
    pub(crate) fn unread(&self) -> u64 {
        let read = self.readers.values().map(|mark| mark.consumed_total).min();
        self.end_total().saturating_sub(read.unwrap_or(self.committed.consumed_total))
    }
    /// The segment that holds an offset below the end.
    pub(crate) fn segment_of(&self, offset: u64) -> Option<SegmentMeta> {
        let after = self.segments.partition_point(|segment| segment.base <= offset);
        // An empty segment shares its base with nothing below it, so the last candidate that reaches further is it.
        self.segments[..after].iter().rev().find(|segment| segment.end > offset).copied()
    }
}

/// One partition.
pub(crate) struct Partition {
    pub(crate) log: Arc<str>,
    pub(crate) number: u32,
    pub(crate) dir: PathBuf,
    state: Mutex<State>,
    pub(crate) signal: Arc<Signal>,
}

impl Partition {
    pub(crate) fn new(
        log: &Arc<str>,
        number: u32,
        dir: &Path,
        recovered: &Recovered,
        cache: u64,
        signal: &Arc<Signal>,
    ) -> Self {
        let state = State {
            segments: recovered.segments.clone(),
            cache: TailCache::new(cache),
            readers: BTreeMap::new(),
            committed: Mark::default(),
        };
        Self {
            log: Arc::clone(log),
            number,
            dir: dir.to_owned(),
            state: Mutex::new(state),
            signal: Arc::clone(signal),
        }
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Wakes readers of any partition of a log.
#[derive(Default)]
pub(crate) struct Signal {
    commits: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// To be read before looking for records, and given to [`Signal::wait`] if there were none.
    pub(crate) fn seen(&self) -> u64 {
        *self.commits.lock()
    }
    pub(crate) fn notify(&self) {
        *self.commits.lock() += 1;
        self.changed.notify_all();
    }
    /// Waits for a commit after `seen`; false if the deadline came first.
    pub(crate) fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut commits = self.commits.lock();
        while *commits == seen {
            if self.changed.wait_until(&mut commits, deadline).timed_out() {
                return *commits != seen;
            }
        }
        true
    }
}
