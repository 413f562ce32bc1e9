//! The source: reads all partitions of a log, fairly, from memory or from its files.
//!
//! **Owns** the reading positions and how frames become chunks. **Does not own** durability or retention decisions.
//!
//! I1: offsets are read without gaps and in order per partition; a position that is no longer, or not yet, there is an error.
//! I2: bytes from a file are checked; bytes from the tail cache are those that were written.
//! I3: a chunk holds whole records whose times of acceptance lie within a second of the first one's.
//!
//! Failure and recovery: reading changes nothing; after an error `seek` starts afresh.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use watershed_ports::{Framing, Lag, Polled, RawChunk, Source};
use watershed_types::{Error, PartitionPosition, Positions, Result};

use crate::frame::FrameKind;
use crate::log::Log;
use crate::partition::{Mark, Partition, SegmentMeta, Signal};
use crate::retention;
use crate::segment::{FrameReader, ReadFault, segment_name};
use crate::trouble;

/// Frames accepted further apart than this do not share a chunk.
const SAME_TIME_MICROS: u64 = 1_000_000;
/// A chunk's bytes must stay below 2 GiB.
const LARGEST_CHUNK: usize = 1 << 30;
/// Chunk ends remembered between commits, to know how many bytes lie behind a committed offset.
const TRAIL: usize = 65_536;

/// Reads a [`Log`]. A partition's stretch is its number as text; offsets count records.
pub struct LogSource {
    log: Arc<Log>,
    id: u64,
    signal: Arc<Signal>,
    cursors: Vec<Cursor>,
    next: usize,
    notices: Vec<String>,
}

impl LogSource {
    pub(crate) fn new(log: Arc<Log>, id: u64, signal: Arc<Signal>) -> Self {
        let cursors: Vec<Cursor> = log.shared().iter().map(|partition| Cursor::new(partition, id)).collect();
        let mut source = Self { log, id, signal, cursors, next: 0, notices: Vec::new() };
        // Until `seek` says otherwise reading starts at the first record that is there; nothing is committed by that.
        for cursor in &mut source.cursors {
            let mut state = cursor.partition.lock();
            let consumed_total = state.segments.first().map_or(0, |first| first.start);
            cursor.position = state.first();
            cursor.total = consumed_total;
            state.readers.insert(id, Mark { consumed_total, committed: 0, committed_total: consumed_total });
        }
        source
    }

    fn ready(&mut self, max_bytes: usize) -> Result<Option<RawChunk>> {
        for step in 0..self.cursors.len() {
            let at = (self.next + step) % self.cursors.len();
            if let Some(chunk) = self.cursors[at].chunk(max_bytes)? {
                self.next = at + 1;
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

impl Source for LogSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        let unknown = positions.iter().find(|(stretch, position)| {
            position.offset > 0 && !self.cursors.iter().any(|cursor| *cursor.stretch == **stretch)
        });
        if let Some((stretch, position)) = unknown {
            let message = format!(
                "log \"{}\" has no partition {stretch}, but offset {} of it was committed",
                self.log.name(),
                position.offset
            );
            return Err(Error::corrupt(trouble::LOST, message).hint("Restore the partition's folder from a backup."));
        }
        for cursor in &mut self.cursors {
            self.notices.extend(cursor.seek(positions.get(&*cursor.stretch))?);
        }
        Ok(())
    }

    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled> {
        let max_bytes = max_bytes.clamp(1, LARGEST_CHUNK);
        let deadline = Instant::now() + wait;
        loop {
            let seen = self.signal.seen();
            if let Some(chunk) = self.ready(max_bytes)? {
                return Ok(Polled::Chunk(chunk));
            }
            if wait.is_zero() || !self.signal.wait(seen, deadline) {
                return Ok(Polled::CaughtUp);
            }
        }
    }

    fn lag(&mut self) -> Lag {
        let (mut records, mut bytes) = (0, 0);
        for cursor in &self.cursors {
            let state = cursor.partition.lock();
            records += state.end().saturating_sub(cursor.position);
            if state.end() > cursor.position {
                bytes += state.end_total().saturating_sub(cursor.total);
            }
        }
        Lag { records: Some(records), bytes: Some(bytes) }
    }

    fn committed(&mut self, positions: &Positions) -> Result<()> {
        if !self.log.writable() {
            return Ok(());
        }
        for cursor in &mut self.cursors {
            let Some(position) = positions.get(&*cursor.stretch) else { continue };
            let total = cursor.total_at(position.offset);
            let committed = (position.offset, total);
            let (options, disk) = (self.log.options(), self.log.disk());
            retention::commit(&cursor.partition, self.id, committed, options, disk, self.log.now())?;
        }
        Ok(())
    }

    fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }
}

impl Drop for LogSource {
    fn drop(&mut self) {
        for cursor in &self.cursors {
            cursor.partition.lock().readers.remove(&self.id);
        }
    }
}

/// Records that were fetched and not yet handed out.
struct Piece {
    base: u64,
    records: u64,
    ingested_at: i64,
    payload: Bytes,
    /// Bytes of the partition up to its end.
    total_after: u64,
}

/// One partition's reading position.
struct Cursor {
    partition: Arc<Partition>,
    reader: u64,
    stretch: Arc<str>,
    /// The next offset to hand out, and the bytes of the partition before it.
    position: u64,
    total: u64,
    ready: VecDeque<Piece>,
    /// Where a frame starts: segment, byte, offset.
    place: Option<(u64, u64, u64)>,
    file: Option<FrameReader>,
    /// Ends of chunks since the last commit: offset, bytes.
    trail: VecDeque<(u64, u64)>,
    committed_total: u64,
}

impl Cursor {
    fn new(partition: &Arc<Partition>, reader: u64) -> Self {
        Self {
            partition: Arc::clone(partition),
            reader,
            stretch: partition.number.to_string().into(),
            position: 0,
            total: 0,
            ready: VecDeque::new(),
            place: None,
            file: None,
            trail: VecDeque::new(),
            committed_total: 0,
        }
    }

    /// Goes to a position; none means the first record that is there. Answers with what a person should know.
    fn seek(&mut self, position: Option<&PartitionPosition>) -> Result<Option<String>> {
        let (log, number) = (Arc::clone(&self.partition.log), self.partition.number);
        let target = {
            let mut state = self.partition.lock();
            let (first, end) = (state.first(), state.end());
            let target = position.map_or(first, |position| position.offset);
            if target < first {
                let message = format!(
                    "offset {target} of log \"{log}\", partition {number}, was removed by retention; the first is {first}"
                );
                return Err(Error::corrupt(trouble::REMOVED, message).hint(format!(
                    "Restore the older segments into \"{}\", or restore a checkpoint that is not older than retention.",
                    self.partition.dir.display()
                )));
            }
            if target > end {
                let message =
                    format!("offset {target} of log \"{log}\", partition {number}, is committed, but its records end at {end}");
                return Err(Error::corrupt(trouble::PAST_END, message)
                    .hint("Its last records are lost: restore the folder from a backup, or a checkpoint that fits."));
            }
            // The mark is set under the same lock, so that nothing is deleted between the check and the reading.
            if let Some(mark) = state.readers.get_mut(&self.reader) {
                mark.committed = target;
            }
            target
        };
        self.position = target;
        self.ready.clear();
        self.trail.clear();
        self.place = None;
        self.file = None;
        self.total = total_of(&self.partition, target)?;
        self.committed_total = self.total;
        let mut state = self.partition.lock();
        let total = self.total;
        state.readers.insert(
            self.reader,
            Mark { consumed_total: total, committed: target, committed_total: total },
        );
        let shortened = position.is_none() && target > 0;
        Ok(shortened.then(|| {
            format!("log \"{log}\", partition {number}: reading starts at offset {target}; retention removed what was before")
        }))
    }

    /// The next chunk, if there is any record.
    fn chunk(&mut self, max_bytes: usize) -> Result<Option<RawChunk>> {
        if self.ready.is_empty() {
            self.fetch(max_bytes)?;
        }
        let Some(first) = self.ready.pop_front() else { return Ok(None) };
        let (offset, ingested_at) = (first.base, first.ingested_at);
        let (bytes, end_offset, total) = match first.payload.len() > max_bytes {
            true => self.split(first, max_bytes),
            false => self.join(first, max_bytes),
        };
        self.position = end_offset;
        self.total = total;
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back((end_offset, total));
        if let Some(mark) = self.partition.lock().readers.get_mut(&self.reader) {
            mark.consumed_total = total;
        }
        Ok(Some(RawChunk {
            partition: Arc::clone(&self.stretch),
            stretch: Arc::clone(&self.stretch),
            offset,
            end_offset,
            record: offset,
            byte_positions: false,
            ingested_at,
            framing: Framing::Lines,
            bytes,
            header: false,
        }))
    }

    /// The head of a piece that is larger than a chunk; the rest goes back.
    fn split(&mut self, piece: Piece, max_bytes: usize) -> (Bytes, u64, u64) {
        let cut = memrchr(b'\n', &piece.payload[..max_bytes])
            .or_else(|| memchr(b'\n', &piece.payload[max_bytes..]).map(|at| max_bytes + at))
            .map_or(piece.payload.len(), |at| at + 1);
        let (head, rest) = (piece.payload.slice(..cut), piece.payload.slice(cut..));
        let records = memchr_iter(b'\n', &head).count() as u64;
        let (end, total) = (piece.base + records, piece.total_after - rest.len() as u64);
        if !rest.is_empty() {
            self.ready.push_front(Piece { base: end, records: piece.records - records, payload: rest, ..piece });
        }
        (head, end, total)
    }

    /// As many pieces as fit a chunk; a single one is not copied.
    fn join(&mut self, first: Piece, max_bytes: usize) -> (Bytes, u64, u64) {
        let fits = |piece: &Piece, len: usize| {
            len + piece.payload.len() <= max_bytes && piece.ingested_at.abs_diff(first.ingested_at) <= SAME_TIME_MICROS
        };
        let (mut end, mut total) = (first.base + first.records, first.total_after);
        if !self.ready.front().is_some_and(|next| fits(next, first.payload.len())) {
            return (first.payload, end, total);
        }
        let fetched: usize = self.ready.iter().map(|piece| piece.payload.len()).sum();
        let mut bytes = BytesMut::with_capacity((first.payload.len() + fetched).min(max_bytes));
        bytes.extend_from_slice(&first.payload);
        while let Some(next) = self.ready.pop_front_if(|next| fits(next, bytes.len())) {
            bytes.extend_from_slice(&next.payload);
            (end, total) = (next.base + next.records, next.total_after);
        }
        (bytes.freeze(), end, total)
    }

    /// Brings in frames from the cache or from a file, about `want` bytes.
    fn fetch(&mut self, want: usize) -> Result<()> {
        let (cached, segment) = {
            let state = self.partition.lock();
            if self.position >= state.end() {
                return Ok(());
            }
            (state.cache.from(self.position, want), state.segment_of(self.position))
        };
        if let Some(last) = cached.last() {
            self.place = Some((last.segment, last.pos_after, last.base + u64::from(last.records)));
            self.ready.extend(cached.into_iter().map(|frame| Piece {
                base: frame.base,
                records: u64::from(frame.records),
                ingested_at: frame.ingested_at,
                payload: frame.payload,
                total_after: frame.total_after,
            }));
        } else {
            let segment = segment.ok_or_else(|| {
                let message = format!("offset {} of log \"{}\" is in no segment", self.position, self.partition.log);
                Error::corrupt(trouble::GAP, message).hint("Restore the missing segment into the log's folder.")
            })?;
            self.fetch_from_file(segment, want)?;
        }
        self.trim();
        Ok(())
    }

    fn fetch_from_file(&mut self, segment: SegmentMeta, want: usize) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) if file.base() == segment.base => file,
            _ => FrameReader::open(&self.partition.dir, segment.base, segment.len).map_err(|error| {
                let path = self.partition.dir.join(segment_name(segment.base));
                trouble::unreadable(&self.partition.log, &path, "open", error)
            })?,
        };
        file.set_limit(segment.len);
        match self.place {
            Some((base, pos, offset)) if base == segment.base && offset == self.position => file.go(pos, offset),
            _ => {
                file.go(0, segment.base);
                let skipped = file.skip_to(self.position);
                skipped.map_err(|fault| self.fault(&file, fault))?;
            }
        }
        let mut bytes = 0;
        while bytes < want {
            let Some(frame) = file.next_frame().map_err(|fault| self.fault(&file, fault))? else { break };
            if frame.header.kind == FrameKind::Seal {
                continue;
            }
            bytes += frame.payload.len();
            self.ready.push_back(Piece {
                base: frame.header.base_offset,
                records: u64::from(frame.header.records),
                ingested_at: frame.header.ingested_at,
                payload: frame.payload,
                total_after: segment.start + file.pos(),
            });
        }
        self.place = Some((segment.base, file.pos(), file.expected()));
        if self.ready.is_empty() {
            let end = file.expected();
            return Err(trouble::gap(&self.partition.log, file.path(), end, segment.end));
        }
        self.file = Some(file);
        Ok(())
    }

    /// Drops the records before the position from the first piece: somebody sought into the middle of a frame.
    fn trim(&mut self) {
        let Some(first) = self.ready.front_mut() else { return };
        let Some(passed) = self.position.checked_sub(first.base).filter(|passed| *passed > 0) else { return };
        let cut = memchr_iter(b'\n', &first.payload).nth(passed as usize - 1).map_or(first.payload.len(), |at| at + 1);
        first.payload = first.payload.slice(cut..);
        first.records -= passed;
        first.base = self.position;
    }

    fn fault(&self, file: &FrameReader, fault: ReadFault) -> Error {
        match fault {
            ReadFault::Io(error) => trouble::unreadable(&self.partition.log, file.path(), "read", error),
            ReadFault::Frame(fault) => trouble::damaged(&self.partition.log, file.path(), file.pos(), fault),
        }
    }

    /// Bytes of the partition before a committed offset; a little less if that is not the end of a chunk.
    fn total_at(&mut self, offset: u64) -> u64 {
        while let Some((_, total)) = self.trail.pop_front_if(|(end, _)| *end <= offset) {
            self.committed_total = total;
        }
        self.committed_total
    }
}

/// Bytes of a partition before an offset; to the start of the frame that holds it.
pub(crate) fn total_of(partition: &Partition, offset: u64) -> Result<u64> {
    let segment = {
        let state = partition.lock();
        if offset >= state.end() {
            return Ok(state.end_total());
        }
        match state.segment_of(offset) {
            Some(segment) if segment.base == offset => return Ok(segment.start),
            Some(segment) => segment,
            None => return Ok(state.segments.first().map_or(0, |first| first.start)),
        }
    };
    let path = partition.dir.join(segment_name(segment.base));
    let mut file = FrameReader::open(&partition.dir, segment.base, segment.len)
        .map_err(|error| trouble::unreadable(&partition.log, &path, "open", error))?;
    match file.skip_to(offset) {
        Ok(()) => Ok(segment.start + file.pos()),
        Err(ReadFault::Io(error)) => Err(trouble::unreadable(&partition.log, &path, "read", error)),
        Err(ReadFault::Frame(fault)) => Err(trouble::damaged(&partition.log, &path, file.pos(), fault)),
    }
}
