//! Objects within columns, and the careful reading of the record itself.
//!
//! **Owns** structs, maps and the rule that the last of several equal keys wins. **Does not own** single values.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Record, scan, twice, value};
use crate::builder::{Builder, Span};
use crate::column::{Fields, Node};
use crate::fault::{Fault, Step};

/// The field that a key names, unescaping the key if need be.
pub(super) fn find(fields: &Fields, bytes: &[u8], open: usize, close: usize, guess: usize) -> Step<Option<usize>> {
    Ok(fields.find(&unescaped(bytes, open, close)?, guess))
}

/// The text between two quotes.
fn unescaped(bytes: &[u8], open: usize, close: usize) -> Step<Cow<'_, [u8]>> {
    let raw = &bytes[open + 1..close];
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = String::new();
    scan::escaped(bytes, open + 1, Some(&mut text))?;
    Ok(Cow::Owned(text.into_bytes()))
}

/// A field that the object does not have.
pub(super) fn missing(node: &Node, out: &mut Builder) -> Step<()> {
    if !node.nullable {
        return Err(Fault::not_null("missing"));
    }
    out.push_null();
    Ok(())
}

/// Checks an object and finds where the last value of each field starts.
pub(super) fn last_values(fields: &Fields, record: &Record<'_>, at: usize, depth: usize) -> Step<(Vec<Option<usize>>, usize)> {
    let bytes = record.bytes;
    let mut values = vec![None; fields.nodes.len()];
    let mut guess = 0;
    let end = scan::members(bytes, at, depth, |open, close, value| {
        if let Some(field) = find(fields, bytes, open, close, guess)? {
            values[field] = Some(value);
            guess = field + 1;
        }
        Ok(())
    })?;
    Ok((values, end))
}

/// Decodes one value per field, in the order of the declaration. `joint` stands between a path and a field's name.
pub(super) fn children(fields: &Fields, record: &mut Record<'_>, values: &[Option<usize>], columns: &mut [Builder], depth: usize, joint: &str) -> Step<()> {
    for (field, (node, column)) in fields.nodes.iter().zip(columns).enumerate() {
        let result = match values[field] {
            Some(at) => value::decode(record, node, column, at, depth).map(|_| ()),
            None => missing(node, column),
        };
        result.map_err(|fault| fault.within(&format!("{joint}{}", fields.names[field])))?;
    }
    Ok(())
}

/// Decodes the object at `at` into the fields of a struct, whose rows so far are `rows`.
pub(super) fn structure(fields: &Fields, record: &mut Record<'_>, columns: &mut [Builder], rows: usize, at: usize, depth: usize) -> Step<usize> {
    let depth = scan::deeper(depth, at)?;
    if record.careful {
        let (values, end) = last_values(fields, record, at, depth)?;
        children(fields, record, &values, columns, depth, ".")?;
        return Ok(end);
    }
    let bytes = record.bytes;
    let mut guess = 0;
    let mut found = 0;
    let mut at = scan::blank(bytes, at + 1);
    if bytes.get(at) != Some(&b'}') {
        loop {
            let (close, start) = scan::key(bytes, at)?;
            at = match find(fields, bytes, at, close, guess)? {
                Some(field) if columns[field].len() > rows => return Err(twice(at)),
                Some(field) => {
                    guess = field + 1;
                    found += 1;
                    value::decode(record, &fields.nodes[field], &mut columns[field], start, depth)?
                }
                None => scan::skip(bytes, start, depth)?,
            };
            at = scan::blank(bytes, at);
            match bytes.get(at) {
                Some(b',') => at = scan::blank(bytes, at + 1),
                Some(b'}') => break,
                _ => return Err(scan::expected(bytes, at, "',' or '}'")),
            }
        }
    }
    if found < columns.len() {
        for (node, column) in fields.nodes.iter().zip(columns) {
            if column.len() == rows {
                missing(node, column)?;
            }
        }
    }
    Ok(at + 1)
}

/// How many keys a map may have before they are checked for equals by hashing.
const FEW: usize = 16;

/// Decodes the object at `at` into the entries of a map.
pub(super) fn map(node: &Node, record: &mut Record<'_>, keys: &mut Vec<Span>, out: &mut Builder, at: usize, depth: usize) -> Step<usize> {
    let depth = scan::deeper(depth, at)?;
    if record.careful {
        return careful_map(node, record, keys, out, at, depth);
    }
    let bytes = record.bytes;
    let first = keys.len();
    let mut at = scan::blank(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let (close, start) = scan::key(bytes, at)?;
        let key = &bytes[at + 1..close];
        let base = record.base as usize;
        // Unescaped keys only: an escaped one might equal one of these.
        let equal = |span: &Span| {
            let (start, end) = span.range();
            &bytes[start - base..end - base] == key
        };
        if keys.len() - first >= FEW || key.contains(&b'\\') || keys[first..].iter().any(equal) {
            return Err(twice(at));
        }
        keys.push(Span::raw(record.base + at as u32 + 1, record.base + close as u32));
        at = scan::blank(bytes, value::decode(record, node, out, start, depth)?);
        match bytes.get(at) {
            Some(b',') => at = scan::blank(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(scan::expected(bytes, at, "',' or '}'")),
        }
    }
}

/// The same for many keys, escaped keys and equal keys: the last of equal keys stays, where it stands.
fn careful_map(node: &Node, record: &mut Record<'_>, keys: &mut Vec<Span>, out: &mut Builder, at: usize, depth: usize) -> Step<usize> {
    let bytes = record.bytes;
    let mut entries = Vec::new();
    let mut last = HashMap::new();
    let end = scan::members(bytes, at, depth, |open, close, start| {
        last.insert(unescaped(bytes, open, close)?, entries.len());
        entries.push((open, start));
        Ok(())
    })?;
    let mut kept: Vec<_> = last.into_iter().map(|(key, entry)| (entry, key)).collect();
    kept.sort_unstable();
    for (entry, key) in kept {
        let (open, start) = entries[entry];
        let (span, _) = value::string(record, open)?;
        keys.push(span);
        value::decode(record, node, out, start, depth).map_err(|fault| fault.within(&format!("['{}']", String::from_utf8_lossy(&key))))?;
    }
    Ok(end)
}
