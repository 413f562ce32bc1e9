//! Delimited records.
//!
//! **Owns** quotes, delimiters, the header, and which text is a value of which type. **Does not own** number and time layouts.
//!
//! A field that starts with a quote ends with one; within it, two quotes are one, and delimiters and newlines are text.
//! A quote anywhere else is an ordinary character. Whether a field was quoted matters (only an unquoted one can be NULL)
//! and spans must be exact, which is why the fields are found here.

use base64::Engine;
use watershed_ports::{Framing, RawChunk};
use watershed_types::Result;

use crate::builder::{Builder, Span, Values};
use crate::column::{Fields, Kind, Node};
use crate::decoder::Output;
use crate::fault::{Fault, Step, excerpt};
use crate::number::{self, Misfit};
use crate::{frame, timestamp};

/// How the fields are written.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// Stands between fields.
    pub delimiter: u8,
    /// Stands around a field that holds delimiters, quotes or newlines.
    pub quote: u8,
    /// Whether files start with a line of column names. The chunk says whether it holds that line.
    pub header: bool,
    /// The unquoted text that means NULL.
    pub null: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"', header: false, null: String::new() }
    }
}

/// Buffers kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    span: Span,
    quoted: bool,
}

/// One record as found.
struct Found {
    /// Its end, without the newline.
    end: usize,
    /// Where the next one starts.
    next: usize,
    fault: Option<Box<Fault>>,
}

/// Decodes every record into a row.
pub(crate) fn decode(chunk: &RawChunk, fields: &Fields, options: &CsvOptions, memory: &mut Memory, out: &mut Output<'_>) -> Result<()> {
    let bytes = out.bytes;
    let mut mapping: Vec<Option<usize>> = (0..fields.nodes.len()).map(Some).collect();
    let mut width = mapping.len();
    let mut at = 0;
    if chunk.header {
        let bom = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        at = split(bytes, bom, bytes.len(), options, &mut memory.cells, out.side).next;
        width = memory.cells.len();
        mapping.fill(None);
        for (place, cell) in memory.cells.iter().enumerate() {
            if let Some(column) = fields.find(cell.span.within(bytes, 0, out.side), place) {
                mapping[column] = Some(place);
            }
        }
    }
    match &chunk.framing {
        Framing::Ranges(_) => {
            for (start, end) in frame::records(chunk)? {
                // Ranges cover the records; a header line lies before them.
                record(start as usize, end as usize, fields, options, &mapping, width, memory, out, true);
            }
        }
        Framing::Lines => {
            while at < bytes.len() {
                if bytes[at] == b'\n' || bytes[at..].starts_with(b"\r\n") || &bytes[at..] == b"\r" {
                    at += 1;
                    continue;
                }
                at = record(at, bytes.len(), fields, options, &mapping, width, memory, out, false);
            }
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "one call site per framing; the parts have different owners")]
fn record(
    start: usize,
    limit: usize,
    fields: &Fields,
    options: &CsvOptions,
    mapping: &[Option<usize>],
    width: usize,
    memory: &mut Memory,
    out: &mut Output<'_>,
    alone: bool,
) -> usize {
    let found = split(out.bytes, start, limit, options, &mut memory.cells, out.side);
    let end = if alone { limit } else { found.end };
    let (from, to) = (start as u32, end as u32);
    let result = match out.utf8(from, to) {
        Err(at) => Err(Fault::corrupt(at, "not valid UTF-8")),
        Ok(()) => match found.fault {
            Some(fault) => Err(fault),
            None if alone && found.next < limit => Err(Fault::corrupt(found.end - start, "more than one line in a record")),
            None if memory.cells.len() != width => Err(Fault::corrupt(end - start, format!("expected {width} fields, found {}", memory.cells.len()))),
            None => row(fields, options, mapping, &memory.cells, out),
        },
    };
    out.close(from, to, result);
    found.next
}

fn row(fields: &Fields, options: &CsvOptions, mapping: &[Option<usize>], cells: &[Cell], out: &mut Output<'_>) -> Step<()> {
    for (column, (node, builder)) in fields.nodes.iter().zip(out.columns.iter_mut()).enumerate() {
        let cell = mapping[column].map(|place| cells[place]);
        let result = match cell {
            None if node.nullable => {
                builder.push_null();
                Ok(())
            }
            None => Err(Fault::not_null("missing")),
            Some(cell) => {
                let text = cell.span.within(out.bytes, 0, out.side);
                if !cell.quoted && text == options.null.as_bytes() {
                    if node.nullable {
                        builder.push_null();
                        Ok(())
                    } else {
                        Err(Fault::not_null("null"))
                    }
                } else {
                    value(node, builder, text, cell.span)
                }
            }
        };
        result.map_err(|fault| fault.within(&fields.names[column]))?;
    }
    Ok(())
}

/// Finds the fields of the record that starts at `start`.
fn split(bytes: &[u8], start: usize, limit: usize, options: &CsvOptions, cells: &mut Vec<Cell>, side: &mut String) -> Found {
    let bytes = &bytes[..limit];
    cells.clear();
    let mut at = start;
    loop {
        let end;
        if bytes.get(at) == Some(&options.quote) {
            let Some((span, after)) = quoted(bytes, at, options.quote, side) else {
                return Found { end: limit, next: limit, fault: Some(Fault::corrupt(at - start, "a quoted field without its closing quote")) };
            };
            cells.push(Cell { span, quoted: true });
            end = if bytes.get(after) == Some(&b'\r') && matches!(bytes.get(after + 1), None | Some(b'\n')) { after + 1 } else { after };
            if end < limit && bytes[end] != options.delimiter && bytes[end] != b'\n' {
                let stop = memchr::memchr(b'\n', &bytes[end..]).map_or(limit, |n| end + n);
                let fault = Some(Fault::corrupt(end - start, "text after the closing quote of a field"));
                return Found { end: frame::without_return(bytes, start, stop), next: (stop + 1).min(limit), fault };
            }
            if bytes.get(end) != Some(&options.delimiter) {
                return Found { end: after, next: (end + 1).min(limit), fault: None };
            }
        } else {
            end = memchr::memchr2(options.delimiter, b'\n', &bytes[at..]).map_or(limit, |n| at + n);
            if bytes.get(end) != Some(&options.delimiter) {
                let text_end = frame::without_return(bytes, at, end);
                cells.push(Cell { span: Span::raw(at as u32, text_end as u32), quoted: false });
                return Found { end: text_end, next: (end + 1).min(limit), fault: None };
            }
            cells.push(Cell { span: Span::raw(at as u32, end as u32), quoted: false });
        }
        at = end + 1;
    }
}

/// Reads the field whose quote is at `open`: its text, and the position after its closing quote.
fn quoted(bytes: &[u8], open: usize, quote: u8, side: &mut String) -> Option<(Span, usize)> {
    let first = open + 1 + memchr::memchr(quote, &bytes[open + 1..])?;
    if bytes.get(first + 1) != Some(&quote) {
        return Some((Span::raw(open as u32 + 1, first as u32), first + 1));
    }
    let mark = side.len();
    let mut from = open + 1;
    let mut close = first;
    loop {
        // Bytes that are not UTF-8 make the record corrupt before anybody looks at this text.
        side.push_str(&String::from_utf8_lossy(&bytes[from..close]));
        if bytes.get(close + 1) != Some(&quote) {
            return Some((Span::side(mark, side.len()), close + 1));
        }
        side.push(char::from(quote));
        from = close + 2;
        close = from + memchr::memchr(quote, &bytes[from..])?;
    }
}

/// Adds a text as a value of the column's type.
fn value(node: &Node, out: &mut Builder, text: &[u8], span: Span) -> Step<()> {
    let wrong = |clause: &str| Fault::mismatch(node, &format!("the text \"{}\"", excerpt(text)), clause);
    match &mut out.values {
        Values::String(values) => values.push(span),
        Values::Boolean(values) => values.push(match text {
            b"true" | b"t" | b"1" => true,
            b"false" | b"f" | b"0" => false,
            _ => return Err(wrong("")),
        }),
        Values::Int16(values) => values.push(integer(text).map_err(wrong)?),
        Values::Int32(values) => values.push(integer(text).map_err(wrong)?),
        Values::Int64(values) => values.push(integer(text).map_err(wrong)?),
        Values::Float32(values) => values.push(float(text, |value: &f32| value.is_finite()).map_err(wrong)?),
        Values::Float64(values) => values.push(float(text, |value: &f64| value.is_finite()).map_err(wrong)?),
        Values::Decimal(values) => {
            let Kind::Decimal { precision, scale } = node.kind else { return Err(wrong("")) };
            let text = text.trim_ascii();
            if !is_number(text) {
                return Err(wrong(""));
            }
            values.push(number::decimal(text, precision, scale).map_err(|why| match why {
                Misfit::Scale => wrong(&format!(", which has more than {scale} fractional digits")),
                Misfit::Precision => wrong(&format!(", which has more than {} digits before the point", precision - scale)),
            })?);
        }
        Values::Date(values) => values.push(timestamp::date(text).ok_or_else(|| wrong(""))?),
        Values::Timestamp(values) => values.push(timestamp::timestamp(text).ok_or_else(|| wrong(""))?),
        Values::Binary { bytes, ends } => {
            base64::engine::general_purpose::STANDARD.decode_vec(text, bytes).map_err(|_| wrong(", which is not base64"))?;
            ends.push(bytes.len());
        }
        Values::List { .. } | Values::Map { .. } | Values::Struct { .. } => return Err(wrong("")),
    }
    Ok(())
}

fn integer<T: TryFrom<i64>>(text: &[u8]) -> std::result::Result<T, &'static str> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("");
    }
    number::integer(text).and_then(|value| T::try_from(value).ok()).ok_or(", which is out of range")
}

fn float<T: std::str::FromStr>(text: &[u8], finite: impl Fn(&T) -> bool) -> std::result::Result<T, &'static str> {
    if !is_number(text) {
        return Err("");
    }
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<T>().ok());
    value.filter(finite).ok_or(", which is out of range")
}

/// `[+-]?digits[.digits][e[+-]digits]`; digits may be absent on one side of the point.
fn is_number(text: &[u8]) -> bool {
    let unsigned = |text: &[u8]| text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text).to_vec();
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let text = unsigned(text);
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], Some(unsigned(&text[at + 1..]))),
        None => (&text[..], None),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    whole.len() + fraction.len() > 0 && digits(whole) && digits(fraction) && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(&exponent))
}
