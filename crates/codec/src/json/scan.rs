//! The grammar of JSON, byte by byte.
//!
//! **Owns** what is well-formed (RFC 8259, and nothing beside it) and how strings are unescaped. **Does not own** types.
//!
//! I1: whatever [`skip`] accepts is a JSON value; nesting is bounded by [`DEEPEST`], so the stack is too.
//! I2: time is linear in the bytes read.

use crate::fault::{Fault, Step, found_byte};
use crate::number;

/// How many objects and arrays may lie within each other.
pub(crate) const DEEPEST: usize = 128;

/// The first byte at or after `at` that is not white space.
#[inline]
pub(crate) fn blank(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The fault of finding something else than what must follow.
#[cold]
pub(crate) fn expected(bytes: &[u8], at: usize, what: &str) -> Box<Fault> {
    Fault::corrupt(at, format!("expected {what}, found {}", found_byte(bytes, at)))
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of a word that end a run of plain text: quotes, backslashes, control characters.
///
/// The lowest mark is always true; a borrow may add false ones above it only.
#[inline]
fn marks(word: u64) -> u64 {
    let quote = word ^ (LOW * b'"' as u64);
    let slash = word ^ (LOW * b'\\' as u64);
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    ((quote.wrapping_sub(LOW) & !quote) | (slash.wrapping_sub(LOW) & !slash) | control) & HIGH
}

/// The end of a run of plain text within a string.
#[inline]
pub(crate) fn run(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|b| !matches!(b, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

/// Reads on after a run that did not end in a quote, unescaping into `out` if there is one. `start` is the string's
/// first byte after its quote; returns the position of the closing quote.
#[cold]
pub(crate) fn escaped(bytes: &[u8], start: usize, mut out: Option<&mut String>) -> Step<usize> {
    let mut at = start;
    loop {
        let end = run(bytes, at);
        if let Some(out) = out.as_deref_mut() {
            out.push_str(std::str::from_utf8(&bytes[at..end]).map_err(|_| Fault::corrupt(at, "not valid UTF-8"))?);
        }
        match bytes.get(end) {
            Some(b'"') => return Ok(end),
            Some(b'\\') => {
                let (found, next) = escape(bytes, end)?;
                if let Some(out) = out.as_deref_mut() {
                    out.push(found);
                }
                at = next;
            }
            Some(_) => {
                return Err(Fault::corrupt(end, format!("a raw control character ({}) in a string", found_byte(bytes, end))));
            }
            None => return Err(Fault::corrupt(end, "the record ends within a string")),
        }
    }
}

/// Reads the escape whose backslash is at `at`.
fn escape(bytes: &[u8], at: usize) -> Step<(char, usize)> {
    let found = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode(bytes, at),
        _ => return Err(Fault::corrupt(at, format!("no such escape: a backslash before {}", found_byte(bytes, at + 1)))),
    };
    Ok((found, at + 2))
}

fn unicode(bytes: &[u8], at: usize) -> Step<(char, usize)> {
    let lone = || Fault::corrupt(at, "a lone surrogate in an escape");
    let first = four_hex(bytes, at + 2)?;
    if !(0xd800..0xe000).contains(&first) {
        return Ok((char::from_u32(first).ok_or_else(lone)?, at + 6));
    }
    if first >= 0xdc00 || bytes.get(at + 6..at + 8) != Some(b"\\u") {
        return Err(lone());
    }
    let second = four_hex(bytes, at + 8)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(lone());
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Ok((char::from_u32(code).ok_or_else(lone)?, at + 12))
}

fn four_hex(bytes: &[u8], start: usize) -> Step<u32> {
    let mut value = 0;
    for at in start..start + 4 {
        let digit = bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        value = value * 16 + digit.ok_or_else(|| expected(bytes, at, "a hexadecimal digit"))?;
    }
    Ok(value)
}

/// Checks a string whose opening quote is at `at`; returns the position of the closing one.
#[inline]
pub(crate) fn string(bytes: &[u8], at: usize) -> Step<usize> {
    let end = run(bytes, at + 1);
    if bytes.get(end) == Some(&b'"') { Ok(end) } else { escaped(bytes, at + 1, None) }
}

/// Checks `true`, `false` or `null`.
#[inline]
pub(crate) fn literal(bytes: &[u8], at: usize, word: &str) -> Step<usize> {
    if bytes[at..].starts_with(word.as_bytes()) { Ok(at + word.len()) } else { Err(Fault::corrupt(at, format!("expected a value, found something that is not {word}"))) }
}

/// Enters one more level.
#[inline]
pub(crate) fn deeper(depth: usize, at: usize) -> Step<usize> {
    if depth < DEEPEST { Ok(depth + 1) } else { Err(Fault::corrupt(at, format!("nested deeper than {DEEPEST} levels"))) }
}

/// Checks the value that starts at `at` (no white space before it) and returns its end.
#[inline]
pub(crate) fn skip(bytes: &[u8], at: usize, depth: usize) -> Step<usize> {
    match bytes.get(at) {
        Some(b'"') => Ok(string(bytes, at)? + 1),
        Some(b'-' | b'0'..=b'9') => Ok(number::token(bytes, at)?.end),
        Some(b't') => literal(bytes, at, "true"),
        Some(b'f') => literal(bytes, at, "false"),
        Some(b'n') => literal(bytes, at, "null"),
        Some(b'{') => members(bytes, at, deeper(depth, at)?, |_, _, _| Ok(())),
        Some(b'[') => elements(bytes, at, deeper(depth, at)?),
        _ => Err(expected(bytes, at, "a value")),
    }
}

fn elements(bytes: &[u8], at: usize, depth: usize) -> Step<usize> {
    let mut at = blank(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        at = blank(bytes, skip(bytes, at, depth)?);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(expected(bytes, at, "',' or ']'")),
        }
    }
}

/// Checks an object and shows every member as `(quote before the key, quote after the key, start of the value)`.
pub(crate) fn members(bytes: &[u8], at: usize, depth: usize, mut seen: impl FnMut(usize, usize, usize) -> Step<()>) -> Step<usize> {
    let mut at = blank(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let (key_end, value) = key(bytes, at)?;
        seen(at, key_end, value)?;
        at = blank(bytes, skip(bytes, value, depth)?);
        match bytes.get(at) {
            Some(b',') => at = blank(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(expected(bytes, at, "',' or '}'")),
        }
    }
}

/// Reads a key and its colon; returns the key's closing quote and the start of the value.
#[inline]
pub(crate) fn key(bytes: &[u8], at: usize) -> Step<(usize, usize)> {
    if bytes.get(at) != Some(&b'"') {
        return Err(expected(bytes, at, "a quoted key"));
    }
    let end = string(bytes, at)?;
    let colon = blank(bytes, end + 1);
    if bytes.get(colon) != Some(&b':') {
        return Err(expected(bytes, colon, "':' after the key"));
    }
    Ok((end, blank(bytes, colon + 1)))
}
