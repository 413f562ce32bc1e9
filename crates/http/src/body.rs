//! From a request's body to newline-terminated records.
//!
//! **Owns** framing and its limits. **Does not own** the meaning of a record: bad ones go through, to be quarantined.
//!
//! I1: a payload holds exactly `records` lines, each ends with a newline and none is blank; a body that already is like
//! that is taken without a copy.
//! I2: a body is taken whole or refused whole.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use memchr::memchr_iter;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use watershed_types::{Error, Result};

use crate::trouble;

/// How records lie in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON document a line.
    Ndjson,
    /// One JSON array of records.
    JsonArray,
    /// An array if the first non-blank byte is `[`, one object if it spans the body over several lines, else lines.
    Auto,
    /// CSV or text: every non-blank line is a record.
    Lines,
}

/// Records ready for a frame.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) payload: Bytes,
    pub(crate) count: u32,
    pub(crate) crc: u32,
}

impl Records {
    fn new(payload: Bytes, count: u32) -> Self {
        let crc = crc32c::crc32c(&payload);
        Self { payload, count, crc }
    }
}

/// Splits a body into records no longer than `max_record`.
pub(crate) fn split(body: Bytes, kind: BodyKind, max_record: u64) -> Result<Records> {
    let body = match body.strip_prefix(b"\xEF\xBB\xBF".as_slice()) {
        Some(_) => body.slice(3..),
        None => body,
    };
    match kind {
        BodyKind::Ndjson | BodyKind::Lines => lines(body, max_record),
        BodyKind::JsonArray => array(&body, max_record),
        BodyKind::Auto => match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => array(&body, max_record),
            Some(b'{') if may_be_one_object(&body) => match serde_json::from_slice::<&RawValue>(&body) {
                Ok(object) => join(&[object], max_record),
                Err(_) => lines(body, max_record),
            },
            _ => lines(body, max_record),
        },
    }
}

/// Whether the first line looks like the beginning of a pretty-printed object and not like a whole one.
fn may_be_one_object(body: &[u8]) -> bool {
    let text = body.trim_ascii();
    memchr::memchr(b'\n', text).is_some_and(|end| !text[..end].trim_ascii_end().ends_with(b"}"))
}

fn lines(body: Bytes, max_record: u64) -> Result<Records> {
    let mut count = 0;
    let mut blank = false;
    let mut start = 0;
    for end in memchr_iter(b'\n', &body).chain((!body.ends_with(b"\n")).then_some(body.len())) {
        let line = &body[start..end];
        start = end + 1;
        if line.trim_ascii().is_empty() {
            blank = true;
            continue;
        }
        check_len(line.len(), u64::from(count), max_record)?;
        count += 1;
    }
    if !blank && body.ends_with(b"\n") {
        return Ok(Records::new(body, count));
    }
    let mut payload = Vec::with_capacity(body.len() + 1);
    for line in body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        payload.extend_from_slice(line);
        payload.push(b'\n');
    }
    Ok(Records::new(payload.into(), count))
}

fn array(body: &[u8], max_record: u64) -> Result<Records> {
    let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
        Error::invalid(trouble::BAD_ARRAY, format!("the body is not a JSON array: {error}"))
            .hint("Send one array of records, or one record a line with Content-Type application/x-ndjson.")
            .definite()
    })?;
    join(&elements, max_record)
}

fn join(elements: &[&RawValue], max_record: u64) -> Result<Records> {
    let mut payload = Vec::with_capacity(elements.iter().map(|element| element.get().len() + 1).sum());
    for (index, element) in elements.iter().enumerate() {
        check_len(element.get().len(), index as u64, max_record)?;
        let start = payload.len();
        payload.extend_from_slice(element.get().as_bytes());
        // Inside strings JSON allows no raw line ends, so these are whitespace between tokens.
        for byte in payload[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        payload.push(b'\n');
    }
    Ok(Records::new(payload.into(), elements.len() as u32))
}

fn check_len(len: usize, index: u64, max_record: u64) -> Result<()> {
    if len as u64 <= max_record {
        return Ok(());
    }
    Err(Error::invalid(
        trouble::RECORD_TOO_LARGE,
        format!("record {index} of the body has {len} bytes, more than max_record = {max_record}"),
    )
    .hint("Records are counted from 0. Send it smaller, or raise max_record; nothing of this body was taken.")
    .definite())
}

/// Deals records out by the raw text of their field `key`; those without it go to partition 0.
pub(crate) fn deal(records: &Records, key: &str, partitions: u32) -> Vec<(u32, Records)> {
    let mut piles: Vec<(Vec<u8>, u32)> = vec![(Vec::new(), 0); partitions as usize];
    let mut start = 0;
    for end in memchr_iter(b'\n', &records.payload) {
        let line = &records.payload[start..=end];
        start = end + 1;
        let chosen = raw_field(line, key).map_or(0, |text| crc32c::crc32c(text.as_bytes()) % partitions);
        let (payload, count) = &mut piles[chosen as usize];
        payload.extend_from_slice(line);
        *count += 1;
    }
    let piles = (0..).zip(piles).filter(|(_, (_, count))| *count > 0);
    piles.map(|(partition, (payload, count))| (partition, Records::new(payload.into(), count))).collect()
}

/// The text of a top-level field, as written.
fn raw_field<'a>(record: &'a [u8], key: &str) -> Option<&'a str> {
    let found = Cell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(record);
    // The visitor stops with an error as soon as it has the field; the rest of the record does not matter.
    let _ = parser.deserialize_map(FieldVisitor { key, found: &found });
    found.get()
}

struct FieldVisitor<'k, 'f, 'a> {
    key: &'k str,
    found: &'f Cell<Option<&'a str>>,
}

impl<'a> Visitor<'a> for FieldVisitor<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'a, str>>()? {
            if name == self.key {
                self.found.set(Some(map.next_value::<&'a RawValue>()?.get()));
                return Err(serde::de::Error::custom("found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
