//! The appender: one thread a partition writes whatever requests are waiting with one write and one sync.
//!
//! Under load groups grow by themselves while the disk is busy; at low load nothing waits for company.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use watershed_types::{Error, Result};

use crate::body::Records;
use crate::disk::{Disk, SegmentFile};
use crate::frame::{FrameHeader, HEADER};
use crate::partition::{CachedFrame, Partition, Segment};
use crate::trouble;

/// At most so many payload bytes are written as one group.
const GROUP_BYTES: usize = 64 << 20;

/// A request that waits for its place.
pub(crate) struct Request {
    pub(crate) records: Records,
    /// Answered with the first offset.
    pub(crate) answer: oneshot::Sender<Result<u64>>,
}

pub(crate) struct Appender {
    pub(crate) partition: Arc<Partition>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_bytes: u64,
    pub(crate) fsync: bool,
}

/// A small payload is often a slice of a connection's larger buffer: a copy does not keep that alive.
fn cached(payload: &bytes::Bytes) -> bytes::Bytes {
    if payload.len() < 64 << 10 { bytes::Bytes::copy_from_slice(payload) } else { payload.clone() }
}

/// The segment being written, and its good length.
struct Open {
    file: Box<dyn SegmentFile>,
    len: u64,
    /// The length on disk may differ from `len` after a failure that could not be rolled back.
    suspect: bool,
}

impl Appender {
    /// Runs until every sender is gone.
    pub(crate) fn run(self, requests: &Receiver<Request>) {
        let mut open: Option<Open> = None;
        while let Ok(first) = requests.recv() {
            let mut bytes = first.records.bytes.len();
            let mut group = vec![first];
            while bytes < GROUP_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.records.bytes.len();
                group.push(next);
            }
            match self.append(&mut open, &group) {
                Ok(bases) => {
                    for (request, base) in group.into_iter().zip(bases) {
                        let _ = request.answer.send(Ok(base));
                    }
                }
                Err((error, rolled_back)) => {
                    tracing::error!(log = self.partition.log, %error, "records could not be written");
                    for request in group {
                        let failed: Error = trouble::write_failed(&self.partition.log, &self.partition.folder, &error, rolled_back);
                        let _ = request.answer.send(Err(failed));
                    }
                }
            }
        }
    }

    /// Writes a group; returns each request's first offset. An error says whether the group is surely gone.
    fn append(&self, open: &mut Option<Open>, group: &[Request]) -> std::result::Result<Vec<u64>, (std::io::Error, bool)> {
        let end = self.partition.state.lock().end;
        let size: u64 = group.iter().map(|r| (r.records.bytes.len() + HEADER) as u64).sum();
        let segment = self.segment_for(open, size, end).map_err(|e| (e, true))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        let mut offset = end;
        let mut frames = Vec::with_capacity(group.len());
        let mut headers = Vec::with_capacity(group.len());
        for request in group {
            let header = FrameHeader {
                payload_crc: crc32c::crc32c(&request.records.bytes),
                payload_len: request.records.bytes.len() as u32,
                records: request.records.count,
                base_offset: offset,
                group_start: segment.len,
                ingested_at: now,
            };
            headers.push(header.encode());
            frames.push(CachedFrame { base: offset, records: request.records.count, ingested_at: now, payload: cached(&request.records.bytes) });
            offset = header.end_offset();
        }
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(group.len() * 2);
        for (header, request) in headers.iter().zip(group) {
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(&request.records.bytes));
        }
        let written = segment.file.append(&mut parts).and_then(|()| if self.fsync { segment.file.sync() } else { Ok(()) });
        if let Err(error) = written {
            // After a failed sync the kernel may have dropped the pages: cut them off and never acknowledge them.
            let rolled_back = segment.file.truncate(segment.len).is_ok() && segment.file.sync().is_ok();
            segment.suspect = !rolled_back;
            if !rolled_back {
                *open = None;
            }
            return Err((error, rolled_back));
        }
        segment.len += size;
        let bases = frames.iter().map(|f| f.base).collect();
        self.partition.publish(frames, segment.len);
        Ok(bases)
    }

    fn segment_for<'a>(&self, open: &'a mut Option<Open>, size: u64, end: u64) -> std::io::Result<&'a mut Open> {
        let full = |len: u64| len > 0 && len + size > self.segment_bytes;
        let last = self.partition.state.lock().segments.last().cloned();
        let stay = last.as_ref().filter(|segment| !full(segment.len));
        if open.as_ref().is_some_and(|o| o.suspect || stay.is_none()) {
            *open = None;
        }
        match open {
            Some(opened) => Ok(opened),
            None => {
                let (base, len) = stay.map_or((end, 0), |segment| (segment.base, segment.len));
                let mut file = self.disk.open_segment(&self.partition.path(base))?;
                // Whatever an earlier failure left behind the published end was never acknowledged.
                file.truncate(len)?;
                self.disk.sync_dir(&self.partition.folder)?;
                if stay.is_none() {
                    self.partition.state.lock().segments.push(Segment { base, len: 0, newest_at: 0 });
                }
                Ok(open.insert(Open { file, len, suspect: false }))
            }
        }
    }
}
