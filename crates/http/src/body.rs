//! What a request's body holds: records, newline-terminated.
//!
//! **Owns** the framing at the door. **Does not own** parsing: a record that is no JSON is accepted here and refused,
//! with its bytes kept, by the pipeline.

use bytes::Bytes;
use serde_json::value::RawValue;
use watershed_types::{Error, Result};

use crate::trouble;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyKind {
    /// One record a line.
    Ndjson,
    /// A JSON array; its elements are the records.
    JsonArray,
    /// An array if the first byte that is not blank is `[`, else lines.
    #[default]
    Auto,
}

/// Records, each ended by one `\n`, none blank.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) bytes: Bytes,
    pub(crate) count: u32,
}

/// Splits a body. Refuses a malformed array and a record larger than `max_record`.
pub(crate) fn split(body: Bytes, kind: BodyKind, max_record: u64) -> Result<Records> {
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    if kind == BodyKind::JsonArray || (kind == BodyKind::Auto && first == Some(&b'[')) { split_array(&body, max_record) } else { split_lines(body, max_record) }
}

fn too_large(index: u32, size: usize, max_record: u64) -> Error {
    Error::invalid(trouble::RECORD_TOO_LARGE, format!("record {index} has {size} bytes, and at most {max_record} are taken"))
        .hint("Send smaller records, or raise max_record in the source's WITH clause.")
        .definite()
}

fn split_lines(body: Bytes, max_record: u64) -> Result<Records> {
    let (mut count, mut blank, mut start) = (0u32, false, 0);
    for end in memchr::memchr_iter(b'\n', &body).chain([body.len()]) {
        let line = &body[start..end];
        if line.is_empty() || line == b"\r" {
            // The stretch after the last newline is empty in a well-formed body.
            blank |= end < body.len() || !line.is_empty();
        } else {
            if line.len() as u64 > max_record {
                return Err(too_large(count, line.len(), max_record));
            }
            count += 1;
        }
        start = end + 1;
    }
    if !blank && (body.is_empty() || body.ends_with(b"\n")) {
        return Ok(Records { bytes: body, count });
    }
    let mut bytes = Vec::with_capacity(body.len() + 1);
    for line in body.split(|b| *b == b'\n').filter(|line| !line.is_empty() && *line != b"\r") {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    Ok(Records { bytes: bytes.into(), count })
}

fn split_array(body: &[u8], max_record: u64) -> Result<Records> {
    let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| {
        Error::invalid(trouble::BAD_ARRAY, format!("the body is not a JSON array: {e}")).hint("Send a JSON array of objects, or one JSON object a line.").definite()
    })?;
    let mut bytes = Vec::with_capacity(body.len());
    for (index, element) in elements.iter().enumerate() {
        let text = element.get().as_bytes();
        if text.len() as u64 > max_record {
            return Err(too_large(index as u32, text.len(), max_record));
        }
        // Newlines are legal in an element only as white space.
        bytes.extend(text.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
        bytes.push(b'\n');
    }
    Ok(Records { bytes: bytes.into(), count: elements.len() as u32 })
}

/// Spreads records over partitions by the text of one of their fields; those without it go to the first.
pub(crate) fn by_key(records: &Records, key: &str, partitions: u32) -> Vec<(u32, Records)> {
    let mut parts = vec![(Vec::new(), 0u32); partitions as usize];
    for line in records.bytes.split_inclusive(|b| *b == b'\n') {
        let fields: Option<std::collections::HashMap<String, &RawValue>> = serde_json::from_slice(line).ok();
        let partition = fields.and_then(|f| f.get(key).map(|value| crc32c::crc32c(value.get().as_bytes()) % partitions)).unwrap_or(0);
        let part = &mut parts[partition as usize];
        part.0.extend_from_slice(line);
        part.1 += 1;
    }
    let numbered = parts.into_iter().enumerate().filter(|(_, (_, count))| *count > 0);
    numbered.map(|(index, (bytes, count))| (index as u32, Records { bytes: bytes.into(), count })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &str) -> (String, u32) {
        let records = split(Bytes::from(body.to_owned()), BodyKind::Auto, 100).expect("splits");
        (String::from_utf8(records.bytes.to_vec()).expect("text"), records.count)
    }

    #[test]
    fn bodies_become_one_record_a_line() {
        assert_eq!(lines(""), (String::new(), 0));
        assert_eq!(lines("{}\n{}\n"), ("{}\n{}\n".to_owned(), 2));
        assert_eq!(lines("{}\r\n\n\r\n{}"), ("{}\r\n{}\n".to_owned(), 2));
        assert_eq!(lines(" [ {\"a\":\n \"x]\\n[\"} , 3,[1,\r\n2]] "), ("{\"a\":  \"x]\\n[\"}\n3\n[1,  2]\n".to_owned(), 3));
        assert_eq!(lines("[]"), (String::new(), 0));
        assert!(split(Bytes::from_static(b"[1,"), BodyKind::Auto, 100).is_err());
        assert!(split(Bytes::from(vec![b'x'; 101]), BodyKind::Auto, 100).is_err());
    }
}
