//! What a partition's folder holds when it is opened.
//!
//! **Owns** the verdict on a folder: whole, torn at its end, or damaged. **Does not own** reading for the pipeline.
//!
//! I1: bytes are cut only behind the last good frame of the last segment, and only if nothing behind them was
//! acknowledged (`frame` I2). Everything else is an error that names file and byte.
//! I2: a segment that is not the last ends with a seal whose offset is the next segment's name. If not, its frames are
//! read to say what is wrong. The records inside earlier segments are checked when they are read.
//! I3: what is found whole is synced before anybody reads it: a crash may have come between its write and its sync.
//! I4: a folder that ends before an offset once committed has lost records, and is an error.
//!
//! Failure and recovery: opening changes nothing but the torn tail, so it may be repeated.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use memchr::memmem;
use watershed_types::{Error, Result};

use crate::frame::{FrameFault, FrameHeader, FrameKind, HEADER, MAGIC};
use crate::partition::SegmentMeta;
use crate::segment::{FrameReader, ReadFault, segment_base, segment_name};
use crate::trouble;

/// The file that keeps the committed offset, as decimal text.
pub(crate) const COMMITTED: &str = "committed";

/// A folder's segments in order; at least one unless the folder has never been written.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<SegmentMeta>,
    /// The last frame is a seal.
    pub(crate) sealed: bool,
    /// The offset known to be committed.
    pub(crate) committed: u64,
}

/// Reads a partition's folder. `repair` cuts a torn tail; without it the tail is only ignored.
pub(crate) fn recover(log: &str, dir: &Path, repair: bool) -> Result<Recovered> {
    let bases = list(log, dir)?;
    let committed = read_committed(dir);
    let mut segments: Vec<SegmentMeta> = Vec::with_capacity(bases.len());
    let mut sealed = false;
    for (at, &base) in bases.iter().enumerate() {
        let start = segments.last().map_or(0, |before| before.start + before.len);
        let mut meta = match bases.get(at + 1) {
            Some(&next) => closed_segment(log, dir, base, next)?,
            None => last_segment(log, dir, base, repair, &mut sealed)?,
        };
        meta.start = start;
        segments.push(meta);
    }
    let end = segments.last().map_or(0, |last| last.end);
    if end < committed {
        let message = format!(
            "log \"{log}\", folder \"{}\": its records end at offset {end}, but {committed} were committed",
            dir.display()
        );
        return Err(Error::corrupt(trouble::LOST, message).hint(
            "Restore the folder from a backup. To go on without the lost records, which were processed already, move the \
             folder away and restore the checkpoint to fit.",
        ));
    }
    Ok(Recovered { segments, sealed, committed })
}

fn list(log: &str, dir: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(dir).map_err(|error| trouble::unreadable(log, dir, "list folder", error))?;
    let mut bases = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| trouble::unreadable(log, dir, "list folder", error))?;
        bases.extend(entry.file_name().to_str().and_then(segment_base));
    }
    bases.sort_unstable();
    Ok(bases)
}

fn read_committed(dir: &Path) -> u64 {
    let path = dir.join(COMMITTED);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| {
            tracing::warn!(file = %path.display(), "the committed offset is unreadable and is ignored");
            0
        }),
        Err(_) => 0,
    }
}

/// A segment that has a successor: its seal is enough, unless it is missing.
fn closed_segment(log: &str, dir: &Path, base: u64, next: u64) -> Result<SegmentMeta> {
    let path = dir.join(segment_name(base));
    let len = length(log, &path)?;
    if let Some(seal) = seal_of(log, dir, base, len)? {
        if seal.base_offset == next {
            return Ok(SegmentMeta { base, end: next, len, start: 0, newest_at: seal.ingested_at });
        }
        return Err(trouble::gap(log, &path, seal.base_offset, next));
    }
    // SUBTLE: no readable seal. The frames tell whether the seal, a frame or a whole segment is missing.
    let mut reader = open(log, dir, base, len)?;
    loop {
        match reader.next_frame() {
            Ok(Some(_)) => {}
            Ok(None) if reader.expected() != next => return Err(trouble::gap(log, &path, reader.expected(), next)),
            Ok(None) => return Err(trouble::damaged(log, &path, len, FrameFault::Short)),
            Err(ReadFault::Frame(fault)) => return Err(trouble::damaged(log, &path, reader.pos(), fault)),
            Err(ReadFault::Io(error)) => return Err(trouble::unreadable(log, &path, "read", error)),
        }
    }
}

fn seal_of(log: &str, dir: &Path, base: u64, len: u64) -> Result<Option<FrameHeader>> {
    let Some(at) = len.checked_sub(HEADER as u64) else { return Ok(None) };
    let mut reader = open(log, dir, base, len)?;
    reader.go(at, base);
    let tail = reader.rest().map_err(|error| trouble::unreadable(log, reader.path(), "read", error))?;
    Ok(FrameHeader::decode(&tail).ok().filter(|header| header.kind == FrameKind::Seal))
}

/// The segment that may have a torn tail: all its frames are read.
fn last_segment(log: &str, dir: &Path, base: u64, repair: bool, sealed: &mut bool) -> Result<SegmentMeta> {
    let path = dir.join(segment_name(base));
    let len = length(log, &path)?;
    let mut reader = open(log, dir, base, len)?;
    let mut newest_at = i64::MIN;
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                *sealed = frame.header.kind == FrameKind::Seal;
                newest_at = newest_at.max(frame.header.ingested_at);
            }
            Ok(None) => break,
            Err(ReadFault::Io(error)) => return Err(trouble::unreadable(log, &path, "read", error)),
            Err(ReadFault::Frame(fault)) => {
                if !is_torn(log, &reader, fault)? {
                    return Err(trouble::damaged(log, &path, reader.pos(), fault));
                }
                break;
            }
        }
    }
    if repair {
        settle(log, &path, len, reader.pos())?;
    }
    Ok(SegmentMeta { base, end: reader.expected(), len: reader.pos(), start: 0, newest_at })
}

/// Whether the bytes from the reader's place on were never acknowledged.
fn is_torn(log: &str, reader: &FrameReader, fault: FrameFault) -> Result<bool> {
    if matches!(fault, FrameFault::Sequence { .. } | FrameFault::Version(_)) {
        return Ok(false);
    }
    let rest = reader.rest().map_err(|error| trouble::unreadable(log, reader.path(), "read", error))?;
    // The damaged frame's own header, if good, has a group that starts at or before it: it proves nothing.
    let later_group = memmem::find_iter(&rest, &MAGIC)
        .filter_map(|at| FrameHeader::decode(&rest[at..]).ok())
        .any(|header| header.group_start > reader.pos());
    Ok(!later_group)
}

/// Cuts the file to its good length and makes that durable.
fn settle(log: &str, path: &Path, len: u64, good: u64) -> Result<()> {
    if len > good {
        tracing::warn!(
            log,
            file = %path.display(),
            bytes = len - good,
            kept = good,
            "cutting a torn tail: it holds only records that were never acknowledged"
        );
    }
    let settle = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        if len > good {
            file.set_len(good)?;
        }
        file.sync_all()
    };
    settle().map_err(|error| trouble::unreadable(log, path, "cut and sync", error))
}

fn length(log: &str, path: &PathBuf) -> Result<u64> {
    fs::metadata(path).map(|found| found.len()).map_err(|error| trouble::unreadable(log, path, "read", error))
}

fn open(log: &str, dir: &Path, base: u64, len: u64) -> Result<FrameReader> {
    FrameReader::open(dir, base, len)
        .map_err(|error| trouble::unreadable(log, &dir.join(segment_name(base)), "open", error))
}
