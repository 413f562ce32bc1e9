//! The thread that writes one partition: group commit.
//!
//! **Owns** the queue, the open segment, rolling over, rolling back. **Does not own** framing or answering HTTP.
//!
//! I1: a group is written by one vectored write and one sync, into one segment; only then it is published and answered.
//! I2: no timer: a request that finds the thread idle is written at once; those that come during a sync form the next group.
//! I3: after a failed write or sync nothing is written before the segment was cut to its last good length, reopened
//! and synced. Data whose sync failed is never acknowledged: it is cut off.
//! I4: a segment is sealed, durably, before its successor is created.
//!
//! Failure and recovery: the requests of a failed group get the error (definite if the cut succeeded); the next group
//! first tries to repair the segment. If the thread ends, its queue is closed and every waiting request is told.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use watershed_ports::Clock;
use watershed_types::{Error, Result};

use crate::body::Records;
use crate::cache::CachedFrame;
use crate::disk::{Disk, SegmentFile};
use crate::frame::{FrameHeader, FrameKind, HEADER};
use crate::partition::{Partition, SegmentMeta};
use crate::segment::segment_name;
use crate::trouble;

/// A group holds about this much, so that its first request does not wait for too long.
const GROUP_BYTES: u64 = 32 << 20;
/// Waiting bytes of one partition, in units of [`UNIT`]; more wait outside.
const QUEUE_UNITS: u32 = 65_536;
const UNIT: usize = 1_024;

/// Where a request's records landed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landed {
    pub(crate) first_offset: u64,
    pub(crate) records: u32,
}

pub(crate) struct Request {
    records: Records,
    answer: oneshot::Sender<Result<Landed>>,
    _room: OwnedSemaphorePermit,
}

/// Requests on their way to the thread, bounded by bytes.
pub(crate) struct Queue {
    waiting: Mutex<(VecDeque<Request>, bool)>,
    changed: Condvar,
    room: Arc<Semaphore>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        let room = Arc::new(Semaphore::new(QUEUE_UNITS as usize));
        Self { waiting: Mutex::new((VecDeque::new(), false)), changed: Condvar::new(), room }
    }

    /// Waits for room, then hands the records over. `None` if the log is closed.
    pub(crate) async fn send(&self, records: Records) -> Option<oneshot::Receiver<Result<Landed>>> {
        let units = ((records.payload.len() / UNIT) as u32 + 1).min(QUEUE_UNITS);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.ok()?;
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.1 {
            return None;
        }
        waiting.0.push_back(Request { records, answer, _room: room });
        drop(waiting);
        self.changed.notify_one();
        Some(receiver)
    }

    /// Takes no more; what waits is still written.
    pub(crate) fn close(&self) {
        self.waiting.lock().1 = true;
        self.room.close();
        self.changed.notify_all();
    }

    /// The next group, `None` when closed and empty.
    fn group(&self, most: u64) -> Option<Vec<Request>> {
        let mut waiting = self.waiting.lock();
        while waiting.0.is_empty() {
            if waiting.1 {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = waiting.0.front() {
            bytes += (HEADER + next.records.payload.len()) as u64;
            if !group.is_empty() && bytes > most {
                break;
            }
            group.extend(waiting.0.pop_front());
        }
        Some(group)
    }
}

/// Closes the queue when the thread ends, however it ends.
struct CloseAtEnd(Arc<Queue>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
        // Dropping the requests tells those who wait for an answer.
        self.0.waiting.lock().0.clear();
    }
}

pub(crate) struct Appender {
    pub(crate) partition: Arc<Partition>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) segment_bytes: u64,
    pub(crate) fsync: bool,
    /// The open segment; `None` before the first append and after a failure.
    pub(crate) file: Option<Box<dyn SegmentFile>>,
    /// The last good frame is a seal.
    pub(crate) sealed: bool,
    /// The file may hold bytes behind its last good length.
    pub(crate) suspect: bool,
    /// The last segment was sealed for a successor that may exist as a file: nothing goes behind the seal any more.
    pub(crate) rolling: bool,
}

impl Appender {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _end = CloseAtEnd(Arc::clone(&self.queue));
        while let Some(group) = self.queue.group(GROUP_BYTES.min(self.segment_bytes)) {
            self.commit(group);
        }
        let written = !self.partition.lock().segments.is_empty();
        if written && !self.sealed && let Err(error) = self.open_last().and_then(|()| self.seal()) {
            tracing::warn!(log = %self.partition.log, %error, "the log was closed without a seal; nothing is lost");
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let bytes = group.iter().map(|request| (HEADER + request.records.payload.len()) as u64).sum();
        let outcome = self.prepare(bytes).and_then(|()| self.write(&group));
        match outcome {
            Ok(()) => self.publish(group),
            Err(error) => self.fail(group, &error),
        }
    }

    /// Makes sure that a good segment is open and has room.
    fn prepare(&mut self, bytes: u64) -> io::Result<()> {
        let last = self.partition.lock().segments.last().copied();
        let Some(last) = last else { return self.create(0) };
        self.open_last()?;
        if self.rolling || (last.len > 0 && last.len + bytes > self.segment_bytes) {
            if !self.sealed {
                self.seal()?;
            }
            self.rolling = true;
            self.create(last.end)?;
            self.rolling = false;
        }
        Ok(())
    }

    /// Opens the last segment, and repairs it if it is suspect (I3).
    fn open_last(&mut self) -> io::Result<()> {
        if self.file.is_some() && !self.suspect {
            return Ok(());
        }
        let last = self.last();
        self.file = None;
        let mut file = self.disk.open_segment(&self.partition.dir.join(segment_name(last.base)))?;
        if self.suspect {
            file.truncate(last.len)?;
            file.sync()?;
            self.suspect = false;
        }
        self.file = Some(file);
        Ok(())
    }

    fn create(&mut self, base: u64) -> io::Result<()> {
        self.file = None;
        let mut file = self.disk.open_segment(&self.partition.dir.join(segment_name(base)))?;
        // A file of this name is left over from a failed attempt: it holds nothing that was published.
        file.truncate(0)?;
        self.disk.sync_dir(&self.partition.dir)?;
        let mut state = self.partition.lock();
        let (start, newest_at) = (state.end_total(), self.clock.now_micros());
        state.segments.push(SegmentMeta { base, end: base, len: 0, start, newest_at });
        drop(state);
        self.file = Some(file);
        self.sealed = false;
        Ok(())
    }

    fn seal(&mut self) -> io::Result<()> {
        let last = self.last();
        let header = FrameHeader::seal(last.end, last.len, self.clock.now_micros()).encode();
        self.put(&mut [IoSlice::new(&header)])?;
        let mut state = self.partition.lock();
        if let Some(last) = state.segments.last_mut() {
            last.len += HEADER as u64;
        }
        self.sealed = true;
        Ok(())
    }

    fn write(&mut self, group: &[Request]) -> io::Result<()> {
        let last = self.last();
        let now = self.clock.now_micros();
        let frames = headers(group, last, now);
        let encoded: Vec<[u8; HEADER]> = frames.iter().map(FrameHeader::encode).collect();
        let parts = encoded.iter().zip(group);
        let mut parts: Vec<IoSlice<'_>> = parts
            .flat_map(|(header, request)| [IoSlice::new(header), IoSlice::new(&request.records.payload)])
            .collect();
        self.put(&mut parts)?;
        self.publish_frames(&frames, group);
        Ok(())
    }

    /// Writes and syncs. Any error leaves the segment suspect.
    fn put(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the segment is not open"))?;
        self.suspect = true;
        file.append(parts)?;
        if self.fsync {
            file.sync()?;
        }
        self.suspect = false;
        Ok(())
    }

    fn publish_frames(&mut self, frames: &[FrameHeader], group: &[Request]) {
        let mut state = self.partition.lock();
        let state = &mut *state;
        let Some(last) = state.segments.last_mut() else { return };
        for (header, request) in frames.iter().zip(group) {
            last.len += header.frame_len();
            last.end = header.end_offset();
            last.newest_at = last.newest_at.max(header.ingested_at);
            state.cache.push(CachedFrame {
                base: header.base_offset,
                records: header.records,
                ingested_at: header.ingested_at,
                payload: request.records.payload.clone(),
                segment: last.base,
                pos_after: last.len,
                total_after: last.start + last.len,
            });
        }
        self.sealed = false;
    }

    fn publish(&self, group: Vec<Request>) {
        self.partition.signal.notify();
        let mut next = self.last().end - group.iter().map(|request| u64::from(request.records.count)).sum::<u64>();
        for request in group {
            let landed = Landed { first_offset: next, records: request.records.count };
            next += u64::from(landed.records);
            // Whoever asked may be gone; the records stay.
            let _ = request.answer.send(Ok(landed));
        }
    }

    fn fail(&mut self, group: Vec<Request>, error: &io::Error) {
        // The cut is tried at once, so that the answer can say whether the records are surely not there.
        let rolled_back = !self.suspect || self.open_last().is_ok();
        tracing::warn!(log = %self.partition.log, folder = %self.partition.dir.display(), %error, rolled_back,
            requests = group.len(), "a group of records could not be written");
        for request in group {
            let answer: Error = trouble::write_failed(&self.partition.log, &self.partition.dir, error, rolled_back);
            let _ = request.answer.send(Err(answer));
        }
    }

    fn last(&self) -> SegmentMeta {
        self.partition.lock().segments.last().copied().expect("prepare has made a segment")
    }
}

fn headers(group: &[Request], last: SegmentMeta, now: i64) -> Vec<FrameHeader> {
    let mut next = last.end;
    let header_of = |request: &Request| {
        let header = FrameHeader {
            kind: FrameKind::Data,
            payload_crc: request.records.crc,
            payload_len: request.records.payload.len() as u32,
            records: request.records.count,
            base_offset: next,
            group_start: last.len,
            ingested_at: now,
        };
        next = header.end_offset();
        header
    };
    group.iter().map(header_of).collect()
}
