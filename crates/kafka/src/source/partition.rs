//! One partition: where its reading is, and the records that were read and not yet handed out.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use watershed_ports::{HeaderItem, RawChunk, RecordFacts};

use super::Wants;
use super::sketch::Sketch;
use crate::source_options::Tombstones;

pub(super) struct Partition {
    /// `topic-number`, as positions name it.
    pub(super) name: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    /// The offset of the next record to be read; past markers of transactions once the end was seen.
    pub(super) next: u64,
    /// Up to where chunks were handed out.
    pub(super) given: u64,
    /// The reader stood at the end after the last record.
    pub(super) at_end: bool,
    /// Several topics have a partition of this number, and one of them is at its end.
    pub(super) maybe_at_end: bool,
    /// The last end that was asked for.
    pub(super) end: u64,
    /// Where a draining reader stops.
    pub(super) stop: Option<u64>,
    /// Records found gone since the last chunk.
    pub(super) lost: u64,
    /// An empty chunk is due, so that positions or losses become known without a record.
    pub(super) due: bool,
    /// It is left alone until others have come up.
    pub(super) held: bool,
    pub(super) sketch: Sketch,
    buffer: Buffer,
    /// How large the last chunk was: the next one is likely to be like it.
    usual: usize,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
    offsets: Vec<u64>,
    timestamps: Vec<i64>,
    keys: Vec<Option<(u32, u32)>>,
    headers: Vec<(u32, u32)>,
    header_items: Vec<HeaderItem>,
    tombstones: Vec<u32>,
    skipped: u64,
    read_at: i64,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, number: i32, next: u64, end: u64) -> Self {
        Self {
            name: format!("{topic}-{number}").into(),
            topic,
            number,
            next,
            given: next,
            at_end: false,
            maybe_at_end: false,
            end,
            stop: None,
            lost: 0,
            due: false,
            held: false,
            sketch: Sketch::default(),
            buffer: Buffer::default(),
            usual: 0,
        }
    }

    /// Bytes waiting.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.bytes.len()
    }

    /// True if a chunk can be cut.
    pub(super) fn has_chunk(&self) -> bool {
        self.due || !self.buffer.ranges.is_empty() || self.buffer.skipped > 0
    }

    /// Takes a message into the buffer. One that was read before (after a new assignment) is left out.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>, wants: Wants, tombstones: Tombstones) {
        let offset = message.offset() as u64;
        if offset < self.next {
            return;
        }
        (self.next, self.at_end, self.maybe_at_end) = (offset + 1, false, false);
        let key = message.key();
        self.sketch.see(key);
        let buffer = &mut self.buffer;
        if buffer.bytes.capacity() == 0 {
            buffer.bytes.reserve(self.usual);
        }
        if buffer.ranges.is_empty() && buffer.skipped == 0 {
            buffer.read_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        }
        let value = match message.payload() {
            Some(value) => value,
            None if tombstones == Tombstones::Skip => {
                buffer.skipped += 1;
                return;
            }
            None => {
                buffer.tombstones.push(buffer.ranges.len() as u32);
                &[]
            }
        };
        let range = append(&mut buffer.bytes, value);
        buffer.ranges.push(range);
        buffer.offsets.push(offset);
        if wants.timestamp {
            buffer.timestamps.push(message.timestamp().to_millis().map_or(i64::MIN, |millis| millis.saturating_mul(1_000)));
        }
        if wants.key {
            let range = key.map(|key| append(&mut buffer.bytes, key));
            buffer.keys.push(range);
        }
        if wants.headers {
            buffer.take_headers(message);
        }
    }

    /// The buffer as a chunk, with what was lost before it. Empty ones are for positions and losses only.
    pub(super) fn cut(&mut self, several_topics: bool) -> RawChunk {
        let buffer = std::mem::take(&mut self.buffer);
        self.usual = buffer.bytes.len();
        let first = buffer.offsets.first().copied().unwrap_or(if buffer.skipped > 0 { self.given } else { self.next });
        let end = self.next;
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let read_at = if buffer.read_at == 0 { now() } else { buffer.read_at };
        let holes = buffer.offsets.last().is_some_and(|last| last - first + 1 != buffer.offsets.len() as u64);
        let mut facts = RecordFacts {
            offsets: if holes { buffer.offsets } else { Vec::new() },
            timestamps: buffer.timestamps,
            keys: buffer.keys,
            headers: buffer.headers,
            header_items: buffer.header_items,
            topic: None,
            tombstones: buffer.tombstones,
        };
        if several_topics {
            facts.topic = Some(Arc::clone(&self.topic));
        }
        let telling =
            several_topics || !(facts.offsets.is_empty() && facts.timestamps.is_empty() && facts.keys.is_empty() && facts.headers.is_empty() && facts.tombstones.is_empty());
        let mut chunk = RawChunk::of_log(Arc::clone(&self.name), first, end, read_at, buffer.ranges.into(), Bytes::from(buffer.bytes));
        chunk.facts = telling.then(|| Arc::new(facts));
        chunk.lost = std::mem::take(&mut self.lost);
        chunk.skipped = buffer.skipped;
        (self.given, self.due) = (end, false);
        chunk
    }

    /// An empty chunk, to hand the turn back.
    pub(super) fn pause(&mut self) -> RawChunk {
        debug_assert!(!self.has_chunk(), "a pause hides no records");
        self.cut(false)
    }

    /// Forgets what waits: reading starts anew at `next`.
    pub(super) fn restart_at(&mut self, next: u64) {
        (self.next, self.at_end, self.maybe_at_end) = (next, false, false);
    }
}

impl Buffer {
    fn take_headers(&mut self, message: &BorrowedMessage<'_>) {
        let start = self.header_items.len() as u32;
        if let Some(headers) = message.headers() {
            for at in 0..headers.count() {
                // SUBTLE: rdkafka panics on a name that is not UTF-8, which anybody may send.
                let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers.try_get(at)));
                let Ok(Some(header)) = found else { continue };
                let name = append(&mut self.bytes, header.key.as_bytes());
                let value = header.value.map(|value| append(&mut self.bytes, value));
                self.header_items.push(HeaderItem { name, value });
            }
        }
        self.headers.push((start, self.header_items.len() as u32));
    }
}

fn append(bytes: &mut Vec<u8>, more: &[u8]) -> (u32, u32) {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(more);
    (start, bytes.len() as u32)
}
