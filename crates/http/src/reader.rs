//! The reader: frames of all partitions, in order within each, as chunks.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use watershed_ports::{Framing, Lag, Polled, RawChunk, Source};
use watershed_types::{Error, Positions, Result};

use crate::frame::{FrameFault, FrameHeader, HEADER};
use crate::log::Log;
use crate::partition::{CachedFrame, Partition};
use crate::trouble;

/// Frames accepted further apart than this do not share a chunk.
const SAME_TIME_MICROS: i64 = 1_000_000;

/// Reads a log.
pub struct LogSource {
    log: Arc<Log>,
    cursors: Vec<Cursor>,
    turn: usize,
}

/// Where one partition's reading is.
#[derive(Default)]
struct Cursor {
    /// The next record's offset.
    offset: u64,
    /// It is left alone until others have come up.
    held: bool,
    /// The file it is in and where its frame starts, if that is known.
    file: Option<(u64, File, u64)>,
}

impl LogSource {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        let cursors = log.partitions().iter().map(|_| Cursor::default()).collect();
        Self { log, cursors, turn: 0 }
    }

    fn has_more(&self, index: usize) -> bool {
        self.log.partitions()[index].state.lock().end > self.cursors[index].offset
    }

    fn poll_partition(&mut self, index: usize, max_bytes: usize) -> Result<Option<RawChunk>> {
        let partition = Arc::clone(&self.log.partitions()[index]);
        let cursor = &mut self.cursors[index];
        let start = cursor.offset;
        let mut frames: Vec<CachedFrame> = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes {
            let next = frames.last().map_or(start, |f| f.base + u64::from(f.records));
            let Some(frame) = next_frame(&partition, cursor, next)? else { break };
            let apart = frames.first().is_some_and(|first| (frame.ingested_at - first.ingested_at).abs() > SAME_TIME_MICROS);
            if apart || (!frames.is_empty() && bytes + frame.payload.len() > max_bytes) {
                break;
            }
            bytes += frame.payload.len();
            frames.push(frame);
        }
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            let mut state = partition.state.lock();
            if state.end == start {
                state.unread = 0;
            }
            return Ok(None);
        };
        let end = last.base + u64::from(last.records);
        let head = after_records(&first.payload, start - first.base);
        let ingested_at = first.ingested_at;
        let payload = match frames.as_slice() {
            [_] => head,
            many => {
                let mut joined = BytesMut::with_capacity(bytes);
                joined.extend_from_slice(&head);
                many[1..].iter().for_each(|frame| joined.extend_from_slice(&frame.payload));
                joined.freeze()
            }
        };
        cursor.offset = end;
        let mut state = partition.state.lock();
        state.unread = state.unread.saturating_sub(bytes as u64);
        drop(state);
        let name: Arc<str> = index.to_string().into();
        Ok(Some(RawChunk {
            partition: Arc::clone(&name),
            stretch: name,
            offset: start,
            end_offset: end,
            record: start,
            byte_positions: false,
            ingested_at,
            framing: Framing::Lines,
            bytes: payload,
            header: false,
            facts: None,
            lost: 0,
            skipped: 0,
        }))
    }
}

impl Source for LogSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        for (index, partition) in self.log.partitions().iter().enumerate() {
            let mut state = partition.state.lock();
            let first = state.segments.first().map_or(state.end, |s| s.base);
            let offset = positions.get(&index.to_string()).map_or(first, |p| p.offset);
            let (log, end) = (&partition.log, state.end);
            if offset < first {
                return Err(Error::invalid(trouble::REMOVED, format!("offset {offset} of log \"{log}\", partition {index}, was removed; the first one there is {first}"))
                    .hint("Restore the log's segments from a backup, or move the checkpoint aside to start from what is there."));
            }
            if offset > end {
                return Err(Error::corrupt(trouble::PAST_END, format!("the pipeline has read up to offset {offset} of log \"{log}\", partition {index}, which ends at {end}"))
                    .hint("Records are missing at the log's end. Restore the log from a backup that fits the checkpoint."));
            }
            state.committed = offset;
            state.unread = state.segments.iter().enumerate().filter(|(at, _)| state.segments.get(at + 1).is_none_or(|next| next.base > offset)).map(|(_, s)| s.len).sum();
            if offset == end {
                state.unread = 0;
            }
            self.cursors[index] = Cursor { offset, ..Cursor::default() };
        }
        Ok(())
    }

    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled> {
        let count = self.cursors.len();
        for again in [false, true] {
            for _ in 0..count {
                self.turn = (self.turn + 1) % count;
                if self.cursors[self.turn].held {
                    continue;
                }
                if let Some(chunk) = self.poll_partition(self.turn, max_bytes)? {
                    return Ok(Polled::Chunk(chunk));
                }
            }
            let Some(open) = (0..count).map(|i| (self.turn + i) % count).find(|index| !self.cursors[*index].held).filter(|_| !again && !wait.is_zero()) else { break };
            // With several partitions one wake-up cannot be waited for: look again soon.
            let most = if count == 1 { wait } else { wait.min(Duration::from_millis(2)) };
            self.log.partitions()[open].wait_for(self.cursors[open].offset, most);
        }
        let waits = |index: usize| self.cursors[index].held && self.has_more(index);
        let held = self.cursors.iter().all(|cursor| cursor.held) || (0..count).any(waits);
        Ok(if held { Polled::Held } else { Polled::CaughtUp })
    }

    fn partitions(&self) -> Vec<String> {
        // Folders of partitions that take no records any more count only if they have some.
        let taking = self.log.options().partitions as usize;
        let alive = |index: &usize| *index < taking || self.has_more(*index);
        (0..self.cursors.len()).filter(alive).map(|index| index.to_string()).collect()
    }

    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        for (index, cursor) in self.cursors.iter_mut().enumerate() {
            cursor.held = partitions.contains(&index.to_string());
        }
        Ok(())
    }

    fn unread(&mut self) -> BTreeSet<String> {
        (0..self.cursors.len()).filter(|index| self.has_more(*index)).map(|index| index.to_string()).collect()
    }

    fn lag(&mut self) -> Lag {
        let mut lag = Lag { records: Some(0), bytes: Some(0), ..Lag::default() };
        for (partition, cursor) in self.log.partitions().iter().zip(&self.cursors) {
            let state = partition.state.lock();
            lag.records = lag.records.map(|r| r + state.end.saturating_sub(cursor.offset));
            lag.bytes = lag.bytes.map(|b| b + state.unread);
        }
        lag
    }

    fn committed(&mut self, positions: &Positions) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        for (index, partition) in self.log.partitions().iter().enumerate() {
            let Some(position) = positions.get(&index.to_string()) else { continue };
            retain(partition, position.offset, now, &self.log)?;
        }
        Ok(())
    }
}

/// Deletes committed segments that are old enough, or too many; the newest always stays.
fn retain(partition: &Partition, committed: u64, now: i64, log: &Log) -> Result<()> {
    let options = log.options();
    loop {
        let mut state = partition.state.lock();
        state.committed = state.committed.max(committed);
        let total: u64 = state.segments.iter().map(|s| s.len).sum();
        let [oldest, next, ..] = state.segments.as_slice() else { return Ok(()) };
        let read = next.base <= committed;
        let old = options.retention.is_some_and(|keep| now - oldest.newest_at >= keep.as_micros() as i64);
        let many = options.retention_bytes.is_some_and(|keep| total > keep);
        if !read || !(old || many) {
            return Ok(());
        }
        let gone = state.segments.remove(0);
        drop(state);
        let path = partition.path(gone.base);
        std::fs::remove_file(&path).map_err(|e| trouble::unreadable(&partition.log, &path, "remove", e))?;
    }
}

/// A payload without its first records.
fn after_records(payload: &Bytes, skip: u64) -> Bytes {
    match skip.checked_sub(1).and_then(|nth| memchr::memchr_iter(b'\n', payload).nth(nth as usize)) {
        Some(end) => payload.slice(end + 1..),
        None => payload.clone(),
    }
}

/// The frame that holds `offset`, from memory or from its file.
fn next_frame(partition: &Partition, cursor: &mut Cursor, offset: u64) -> Result<Option<CachedFrame>> {
    let (base, len, next_base) = {
        let state = partition.state.lock();
        if offset >= state.end {
            return Ok(None);
        }
        if state.cache.front().is_some_and(|first| first.base <= offset) {
            let at = state.cache.partition_point(|frame| frame.base <= offset);
            cursor.file = None;
            return Ok(at.checked_sub(1).and_then(|at| state.cache.get(at)).cloned());
        }
        let at = state.segments.partition_point(|segment| segment.base <= offset);
        let Some(segment) = at.checked_sub(1).and_then(|at| state.segments.get(at)) else { return Ok(None) };
        (segment.base, segment.len, state.segments.get(at).map(|next| next.base))
    };
    let path = partition.path(base);
    let unreadable = |e| trouble::unreadable(&partition.log, &path, "read", e);
    if cursor.file.as_ref().is_none_or(|(open, ..)| *open != base) {
        cursor.file = Some((base, File::open(&path).map_err(unreadable)?, 0));
    }
    let Some((_, file, at)) = &mut cursor.file else { return Ok(None) };
    let mut expected: Option<u64> = (*at == 0).then_some(base);
    loop {
        if *at >= len {
            // The segment ends before the offset it should hold.
            return Err(trouble::gap(&partition.log, &path, expected.unwrap_or(offset), next_base.unwrap_or(offset)));
        }
        let damaged = |fault: FrameFault, at: u64| trouble::damaged(&partition.log, &path, at, fault);
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(*at)).map_err(unreadable)?;
        file.read_exact(&mut header).map_err(unreadable)?;
        let header = FrameHeader::decode(&header).map_err(|fault| damaged(fault, *at))?;
        if let Some(expected) = expected.filter(|e| *e != header.base_offset) {
            return Err(damaged(FrameFault::Sequence { expected, found: header.base_offset }, *at));
        }
        if header.end_offset() <= offset {
            *at += header.frame_len();
            expected = Some(header.end_offset());
            continue;
        }
        let mut payload = vec![0; header.payload_len as usize];
        file.read_exact(&mut payload).map_err(unreadable)?;
        header.verify(&payload).map_err(|fault| damaged(fault, *at))?;
        // The next frame is looked for here; this one is found again from `expected` if it is asked for once more.
        return Ok(Some(CachedFrame { base: header.base_offset, records: header.records, ingested_at: header.ingested_at, payload: payload.into() }));
    }
}
