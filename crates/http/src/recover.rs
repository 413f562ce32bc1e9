//! Opening a partition: which segments there are, and where the last one really ends.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use watershed_types::Result;

use crate::frame::{FrameFault, FrameHeader, HEADER, MAGIC};
use crate::partition::{Segment, State, segment_path};
use crate::trouble;

/// Reads a partition's folder. Cuts a torn tail unless `read_only`.
pub(crate) fn recover(log: &str, folder: &Path, read_only: bool) -> Result<State> {
    let mut segments = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(trouble::unreadable(log, folder, "list", error)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| trouble::unreadable(log, folder, "list", e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(base) = name.strip_suffix(".log").and_then(|n| n.parse::<u64>().ok()) else { continue };
        let meta = entry.metadata().map_err(|e| trouble::unreadable(log, &entry.path(), "look at", e))?;
        let newest_at = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_micros() as i64);
        segments.push(Segment { base, len: meta.len(), newest_at });
    }
    segments.sort_by_key(|s| s.base);
    // A segment that was begun and never written to holds nothing; the one before it may have been written to since.
    while let [.., _, last] = segments.as_slice() {
        if last.len > 0 {
            break;
        }
        if !read_only {
            let path = segment_path(folder, last.base);
            fs::remove_file(&path).map_err(|e| trouble::unreadable(log, &path, "remove", e))?;
        }
        segments.pop();
    }
    let unread = segments.iter().map(|s| s.len).sum();
    let mut state = State { end: 0, unread, segments, ..State::default() };
    if let Some(last) = state.segments.last_mut() {
        let path = segment_path(folder, last.base);
        let bytes = fs::read(&path).map_err(|e| trouble::unreadable(log, &path, "read", e))?;
        let (good, end) = good_length(log, &path, &bytes, last.base)?;
        if good < bytes.len() as u64 {
            tracing::warn!(file = %path.display(), bytes = bytes.len() as u64 - good, "a torn tail of records that were never acknowledged was cut");
        }
        if !read_only {
            // Whole frames that were written but not synced before a crash are about to be read: make them durable.
            let file = fs::File::options().write(true).open(&path).map_err(|e| trouble::unreadable(log, &path, "open", e))?;
            file.set_len(good).and_then(|()| file.sync_all()).map_err(|e| trouble::unreadable(log, &path, "cut", e))?;
        }
        last.len = good;
        state.end = end;
    }
    Ok(state)
}

/// How many bytes of a segment are whole frames, and the offset after them.
fn good_length(log: &str, path: &Path, bytes: &[u8], base: u64) -> Result<(u64, u64)> {
    let (mut at, mut offset) = (0, base);
    while at < bytes.len() {
        match frame_at(bytes, at, offset) {
            Ok(header) => {
                at += header.frame_len() as usize;
                offset = header.end_offset();
            }
            Err(fault) => {
                // A later group was written only after this one was synced: then this is damage, not a torn tail.
                let foreign = matches!(fault, FrameFault::Version(_) | FrameFault::Sequence { .. });
                if foreign || acknowledged_after(bytes, at) {
                    return Err(trouble::damaged(log, path, at as u64, fault));
                }
                return Ok((at as u64, offset));
            }
        }
    }
    Ok((at as u64, offset))
}

/// The frame at a byte, checked; it must start at this offset.
pub(crate) fn frame_at(bytes: &[u8], at: usize, offset: u64) -> std::result::Result<FrameHeader, FrameFault> {
    let header = FrameHeader::decode(&bytes[at..])?;
    if header.base_offset != offset {
        return Err(FrameFault::Sequence { expected: offset, found: header.base_offset });
    }
    let payload = bytes.get(at + HEADER..at + header.frame_len() as usize).ok_or(FrameFault::Short)?;
    header.verify(payload)?;
    Ok(header)
}

/// True if a good header further on says that its group began after `at`.
fn acknowledged_after(bytes: &[u8], at: usize) -> bool {
    memchr::memmem::find_iter(&bytes[at..], &MAGIC).any(|found| found > 0 && FrameHeader::decode(&bytes[at + found..]).is_ok_and(|header| header.group_start > at as u64))
}
