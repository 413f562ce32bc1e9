//! The most recent frames in memory, so that a reader that keeps up does not read files.
//!
//! **Owns** a bounded, gapless run of frames that ends at the partition's end. **Does not own** durability: only
//! frames that were synced come here.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry costs beside its records.
const OVERHEAD: u64 = 160;

/// One frame.
#[derive(Debug, Clone)]
pub(crate) struct CachedFrame {
    pub(crate) base: u64,
    pub(crate) records: u32,
    pub(crate) ingested_at: i64,
    pub(crate) payload: Bytes,
    /// The segment it lies in, and the byte after it there.
    pub(crate) segment: u64,
    pub(crate) pos_after: u64,
    /// Bytes of the partition up to its end.
    pub(crate) total_after: u64,
}

/// The frames, oldest first.
#[derive(Debug)]
pub(crate) struct TailCache {
    frames: VecDeque<CachedFrame>,
    bytes: u64,
    limit: u64,
}

impl TailCache {
    pub(crate) fn new(limit: u64) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit }
    }

    pub(crate) fn push(&mut self, frame: CachedFrame) {
        self.bytes += frame.payload.len() as u64 + OVERHEAD;
        self.frames.push_back(frame);
        while self.bytes > self.limit
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.payload.len() as u64 + OVERHEAD;
        }
    }

    /// Frames from the one that holds `offset`, about `want` bytes of them; none if that one is not here.
    pub(crate) fn from(&self, offset: u64, want: usize) -> Vec<CachedFrame> {
        let after = self.frames.partition_point(|frame| frame.base <= offset);
        let Some(first) = after.checked_sub(1) else { return Vec::new() };
        let mut bytes = 0;
        let mut found = Vec::new();
        for frame in self.frames.range(first..) {
            if !found.is_empty() && bytes + frame.payload.len() > want {
                break;
            }
            bytes += frame.payload.len();
            found.push(frame.clone());
        }
        found
    }
}
