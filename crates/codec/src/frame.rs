//! Where the records of a chunk lie.
//!
//! **Owns** the split by lines and the check of given ranges. **Does not own** CSV, whose quoted fields may hold newlines.

use watershed_ports::{Framing, RawChunk};
use watershed_types::{Error, Result};

/// The byte spans of a chunk's records, without newlines; blank lines are no records.
pub(crate) fn records(chunk: &RawChunk) -> Result<Vec<(u32, u32)>> {
    let bytes = &chunk.bytes[..];
    match &chunk.framing {
        Framing::Ranges(ranges) => {
            for &(start, end) in ranges.iter() {
                if start > end || end as usize > bytes.len() {
                    return Err(Error::internal("CODEC0003", format!("record {start}..{end} lies outside of its chunk of {} bytes", bytes.len())));
                }
            }
            Ok(ranges.to_vec())
        }
        Framing::Lines => {
            let mut out = Vec::with_capacity(bytes.len() / 200 + 4);
            let mut start = 0;
            for newline in memchr::memchr_iter(b'\n', bytes) {
                line(bytes, start, newline, &mut out);
                start = newline + 1;
            }
            line(bytes, start, bytes.len(), &mut out);
            Ok(out)
        }
    }
}

fn line(bytes: &[u8], start: usize, end: usize, out: &mut Vec<(u32, u32)>) {
    let end = without_return(bytes, start, end);
    if start < end {
        out.push((start as u32, end as u32));
    }
}

/// The end of a line without its carriage return.
pub(crate) fn without_return(bytes: &[u8], start: usize, end: usize) -> usize {
    if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end }
}
