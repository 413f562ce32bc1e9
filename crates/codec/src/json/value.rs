//! One JSON value into one declared type.
//!
//! **Owns** which JSON is a value of which type. **Does not own** grammar or nesting.

use base64::Engine;

use super::{Record, nested, scan};
use crate::builder::{Builder, Span, Values};
use crate::column::{Kind, Node};
use crate::fault::{Fault, Step, excerpt};
use crate::number::{self, Misfit};
use crate::timestamp;

/// Reads the value at `at` (no white space before it) into a builder and returns its end.
pub(super) fn decode(record: &mut Record<'_>, node: &Node, out: &mut Builder, at: usize, depth: usize) -> Step<usize> {
    let bytes = record.bytes;
    let first = bytes.get(at).copied().unwrap_or(0);
    if first == b'n' {
        let end = scan::literal(bytes, at, "null")?;
        if !node.nullable {
            return Err(Fault::not_null("null"));
        }
        out.push_null();
        return Ok(end);
    }
    let number = first == b'-' || first.is_ascii_digit();
    match (&mut out.values, &node.kind) {
        (Values::String(spans), _) if first == b'"' => {
            let (span, end) = string(record, at)?;
            spans.push(span);
            Ok(end)
        }
        (Values::Timestamp(values), _) if first == b'"' => {
            let (span, end) = string(record, at)?;
            let Some(value) = timestamp::timestamp(record.text(span)) else {
                return Err(misfit(record, node, at, ", which is not of the form YYYY-MM-DD HH:MM:SS[.ffffff][Z|±HH:MM] or not in the calendar"));
            };
            values.push(value);
            Ok(end)
        }
        (Values::Decimal(values), Kind::Decimal { precision, scale }) if number => {
            if let Some((value, end)) = number::short_decimal(bytes, at, *precision, *scale) {
                values.push(value);
                return Ok(end);
            }
            let end = number::token(bytes, at)?.end;
            let value = number::decimal(&bytes[at..end], *precision, *scale).map_err(|why| match why {
                Misfit::Scale => misfit(record, node, at, &format!(", which has more than {scale} fractional digits")),
                Misfit::Precision => misfit(record, node, at, &format!(", which has more than {} digits before the point", precision - scale)),
            })?;
            values.push(value);
            Ok(end)
        }
        (Values::Int64(values), _) if number => integer(record, node, at, values),
        (Values::Int32(values), _) if number => integer(record, node, at, values),
        (Values::Int16(values), _) if number => integer(record, node, at, values),
        (Values::Float64(values), _) if number => {
            let (text, end) = digits(bytes, at)?;
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            values.push(value.ok_or_else(|| misfit(record, node, at, ", which is out of range"))?);
            Ok(end)
        }
        (Values::Float32(values), _) if number => {
            let (text, end) = digits(bytes, at)?;
            let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
            values.push(value.ok_or_else(|| misfit(record, node, at, ", which is out of range"))?);
            Ok(end)
        }
        (Values::Boolean(values), _) if first == b't' || first == b'f' => {
            let end = scan::literal(bytes, at, if first == b't' { "true" } else { "false" })?;
            values.push(first == b't');
            Ok(end)
        }
        (Values::Date(values), _) if first == b'"' => {
            let (span, end) = string(record, at)?;
            let value = timestamp::date(record.text(span));
            values.push(value.ok_or_else(|| misfit(record, node, at, ", which is not of the form YYYY-MM-DD or not in the calendar"))?);
            Ok(end)
        }
        (Values::Binary { bytes: all, ends }, _) if first == b'"' => {
            let (span, end) = string(record, at)?;
            if base64::engine::general_purpose::STANDARD.decode_vec(record.text(span), all).is_err() {
                return Err(misfit(record, node, at, ", which is not base64"));
            }
            ends.push(all.len());
            Ok(end)
        }
        (Values::List { offsets, item }, Kind::List(item_node)) if first == b'[' => {
            let end = list(record, item_node, item, at, depth)?;
            offsets.push(item.len() as i32);
            Ok(end)
        }
        (Values::Map { offsets, keys, value }, Kind::Map(value_node)) if first == b'{' => {
            let end = nested::map(value_node, record, keys, value, at, depth)?;
            offsets.push(keys.len() as i32);
            Ok(end)
        }
        (Values::Struct { rows, fields }, Kind::Struct(field_nodes)) if first == b'{' => {
            let end = nested::structure(field_nodes, record, fields, *rows, at, depth)?;
            *rows += 1;
            Ok(end)
        }
        _ => {
            scan::skip(bytes, at, depth)?;
            Err(misfit(record, node, at, ""))
        }
    }
}

/// Reads the string whose quote is at `at`: where its text lies, and its end.
#[inline]
pub(super) fn string(record: &mut Record<'_>, at: usize) -> Step<(Span, usize)> {
    let start = at + 1;
    let end = scan::run(record.bytes, start);
    if record.bytes.get(end) == Some(&b'"') {
        return Ok((Span::raw(record.base + start as u32, record.base + end as u32), end + 1));
    }
    let mark = record.side.len();
    let end = scan::escaped(record.bytes, start, Some(record.side))?;
    Ok((Span::side(mark, record.side.len()), end + 1))
}

impl Record<'_> {
    /// The text of a span of this record.
    #[inline]
    fn text(&self, span: Span) -> &[u8] {
        span.within(self.bytes, self.base, self.side)
    }
}

/// The text of a number.
fn digits(bytes: &[u8], at: usize) -> Step<(&str, usize)> {
    let end = number::token(bytes, at)?.end;
    Ok((std::str::from_utf8(&bytes[at..end]).unwrap_or_default(), end))
}

#[inline]
fn integer<T: TryFrom<i64>>(record: &Record<'_>, node: &Node, at: usize, values: &mut Vec<T>) -> Step<usize> {
    let token = number::token(record.bytes, at)?;
    if !token.whole {
        return Err(misfit(record, node, at, ""));
    }
    let value = number::integer(&record.bytes[at..token.end]).and_then(|value| T::try_from(value).ok());
    values.push(value.ok_or_else(|| misfit(record, node, at, ", which is out of range"))?);
    Ok(token.end)
}

fn list(record: &mut Record<'_>, node: &Node, item: &mut Builder, at: usize, depth: usize) -> Step<usize> {
    let depth = scan::deeper(depth, at)?;
    let bytes = record.bytes;
    let first = item.len();
    let mut at = scan::blank(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        at = decode(record, node, item, at, depth).map_err(|fault| fault.within(&format!("[{}]", item.len() - first)))?;
        at = scan::blank(bytes, at);
        match bytes.get(at) {
            Some(b',') => at = scan::blank(bytes, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(scan::expected(bytes, at, "',' or ']'")),
        }
    }
}

/// The refusal of a value, with an excerpt of it.
#[cold]
fn misfit(record: &Record<'_>, node: &Node, at: usize, clause: &str) -> Box<Fault> {
    let bytes = record.bytes;
    let end = scan::skip(bytes, at, 0).unwrap_or(bytes.len());
    let found = match bytes.get(at) {
        Some(b'"') => format!("the string \"{}\"", excerpt(&bytes[at + 1..end.saturating_sub(1).max(at + 1)])),
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b't' | b'f') => format!("the boolean {}", excerpt(&bytes[at..end])),
        _ => format!("the number {}", excerpt(&bytes[at..end])),
    };
    Fault::mismatch(node, &found, clause)
}
