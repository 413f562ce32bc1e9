//! One partition: its segments, its published end, its newest frames in memory.
//!
//! **Owns** what appender and reader share. **Does not own** writing (`appender`) or reading (`reader`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

/// Payload bytes kept in memory, so that a reader that keeps up does not touch files.
const CACHE_BYTES: usize = 32 << 20;

/// A published frame.
#[derive(Debug, Clone)]
pub(crate) struct CachedFrame {
    pub(crate) base: u64,
    pub(crate) records: u32,
    pub(crate) ingested_at: i64,
    pub(crate) payload: Bytes,
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its first offset, also its name.
    pub(crate) base: u64,
    /// Published bytes.
    pub(crate) len: u64,
    /// When its last frame was accepted, microseconds since 1970; for older ones the file's time.
    pub(crate) newest_at: i64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Oldest first; the last one is written to.
    pub(crate) segments: Vec<Segment>,
    /// The offset the next record gets.
    pub(crate) end: u64,
    /// What the reader has committed.
    pub(crate) committed: u64,
    /// Payload bytes the reader has not taken.
    pub(crate) unread: u64,
    /// The newest frames, without gaps.
    pub(crate) cache: VecDeque<CachedFrame>,
    pub(crate) cached_bytes: usize,
}

/// What appender, reader and door share.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: String,
    pub(crate) index: u32,
    pub(crate) folder: PathBuf,
    pub(crate) state: Mutex<State>,
    wake: Condvar,
}

impl Partition {
    pub(crate) fn new(log: &str, index: u32, folder: &Path, state: State) -> Self {
        Self { log: log.to_owned(), index, folder: folder.to_owned(), state: Mutex::new(state), wake: Condvar::new() }
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        segment_path(&self.folder, base)
    }

    /// Makes synced frames visible to the reader.
    pub(crate) fn publish(&self, frames: Vec<CachedFrame>, segment_len: u64) {
        let mut state = self.state.lock();
        for frame in frames {
            state.end = frame.base + u64::from(frame.records);
            state.unread += frame.payload.len() as u64;
            state.cached_bytes += frame.payload.len();
            if let Some(segment) = state.segments.last_mut() {
                segment.newest_at = frame.ingested_at;
            }
            state.cache.push_back(frame);
        }
        while state.cached_bytes > CACHE_BYTES {
            let Some(oldest) = state.cache.pop_front() else { break };
            state.cached_bytes -= oldest.payload.len();
        }
        if let Some(segment) = state.segments.last_mut() {
            segment.len = segment_len;
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Waits until there is something at `offset`, at most so long.
    pub(crate) fn wait_for(&self, offset: u64, wait: Duration) {
        let mut state = self.state.lock();
        if state.end <= offset {
            self.wake.wait_for(&mut state, wait);
        }
    }
}

pub(crate) fn segment_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}
