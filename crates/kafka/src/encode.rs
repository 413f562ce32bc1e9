//! Rows as JSON text, one object a row, straight from columns into one buffer.
//!
//! **Owns** how each type is written: numbers as numbers (decimals with all their digits), timestamps as
//! `2026-01-01T00:00:00.123456Z` without superfluous zeros, dates as `2026-01-01`, bytes as hexadecimal text, NaN and
//! infinities as null. **Does not own** where the text goes.

use std::io::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    LargeBinaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use watershed_types::{Error, Result};

use crate::trouble;

/// A batch, ready to be written row by row.
pub(crate) struct RowEncoder {
    /// Each column with what comes before its value: `{"a":`, `,"b":`.
    columns: Vec<(Vec<u8>, Column)>,
}

impl RowEncoder {
    /// Looks at each column once. Errors: a type that has no JSON.
    pub(crate) fn new(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let named = schema.fields().iter().zip(batch.columns());
        Ok(Self { columns: prefixed(named.map(|(field, array)| (field.name().as_str(), array)))? })
    }

    /// Appends a row as an object.
    pub(crate) fn row(&self, row: usize, out: &mut Vec<u8>) {
        object(&self.columns, row, out);
    }
}

/// A column's values as plain text: for keys and headers.
pub(crate) struct TextColumn {
    column: Column,
}

impl TextColumn {
    pub(crate) fn new(name: &str, array: &ArrayRef) -> Result<Self> {
        Ok(Self { column: Column::new(name, array)? })
    }

    /// Appends the value's text, unquoted. False and nothing appended if it is null.
    pub(crate) fn append(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.column.is_null(row) {
            return false;
        }
        let start = out.len();
        match &self.column.values {
            Values::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::TextView(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::LargeText(values) => out.extend_from_slice(values.value(row).as_bytes()),
            _ => self.column.value(row, out),
        }
        // Times, dates and bytes are written with quotes.
        if matches!(self.column.values, Values::Timestamp(_) | Values::Date(_) | Values::Bytes(_) | Values::LargeBytes(_) | Values::Other(_)) && out.get(start) == Some(&b'"') {
            out.remove(start);
            out.pop();
        }
        true
    }
}

fn prefixed<'a>(named: impl Iterator<Item = (&'a str, &'a ArrayRef)>) -> Result<Vec<(Vec<u8>, Column)>> {
    let mut columns = Vec::new();
    for (name, array) in named {
        let mut prefix = vec![if columns.is_empty() { b'{' } else { b',' }];
        text(name, &mut prefix);
        prefix.push(b':');
        columns.push((prefix, Column::new(name, array)?));
    }
    Ok(columns)
}

fn object(columns: &[(Vec<u8>, Column)], row: usize, out: &mut Vec<u8>) {
    if columns.is_empty() {
        out.push(b'{');
    }
    for (prefix, column) in columns {
        out.extend_from_slice(prefix);
        column.append(row, out);
    }
    out.push(b'}');
}

struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Int8(Int8Array),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    UInt8(UInt8Array),
    UInt16(UInt16Array),
    UInt32(UInt32Array),
    UInt64(UInt64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(Decimal128Array),
    Decimal256(Decimal256Array),
    Text(StringArray),
    TextView(StringViewArray),
    LargeText(LargeStringArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    Timestamp(arrow::array::TimestampMicrosecondArray),
    Date(Date32Array),
    Struct(Vec<(Vec<u8>, Column)>),
    /// Where each row's items start and end, and the items.
    List(Vec<(usize, usize)>, Box<Column>),
    /// The same for entries: key and value.
    Map(Vec<(usize, usize)>, Box<TextColumn>, Box<Column>),
    /// Anything that has a text.
    Other(ArrayRef),
}

impl Column {
    fn new(name: &str, array: &ArrayRef) -> Result<Self> {
        let refused = |error: arrow::error::ArrowError| {
            Error::invalid(trouble::ENCODE, format!("column \"{name}\" of type {} cannot be written as JSON", array.data_type()))
                .hint("Cast it to text, a number or a timestamp in the sink's query.")
                .caused_by(error)
        };
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
            DataType::Int8 => Values::Int8(array.as_primitive().clone()),
            DataType::Int16 => Values::Int16(array.as_primitive().clone()),
            DataType::Int32 => Values::Int32(array.as_primitive().clone()),
            DataType::Int64 => Values::Int64(array.as_primitive().clone()),
            DataType::UInt8 => Values::UInt8(array.as_primitive().clone()),
            DataType::UInt16 => Values::UInt16(array.as_primitive().clone()),
            DataType::UInt32 => Values::UInt32(array.as_primitive().clone()),
            DataType::UInt64 => Values::UInt64(array.as_primitive().clone()),
            DataType::Float32 => Values::Float32(array.as_primitive().clone()),
            DataType::Float64 => Values::Float64(array.as_primitive().clone()),
            DataType::Decimal128(..) => Values::Decimal128(array.as_primitive().clone()),
            DataType::Decimal256(..) => Values::Decimal256(array.as_primitive().clone()),
            DataType::Utf8 => Values::Text(array.as_string().clone()),
            DataType::Utf8View => Values::TextView(array.as_string_view().clone()),
            DataType::LargeUtf8 => Values::LargeText(array.as_string().clone()),
            DataType::Binary => Values::Bytes(array.as_binary().clone()),
            DataType::LargeBinary => Values::LargeBytes(array.as_binary().clone()),
            DataType::BinaryView | DataType::FixedSizeBinary(_) => Values::LargeBytes(cast(array, &DataType::LargeBinary).map_err(refused)?.as_binary().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone()),
            DataType::Timestamp(_, zone) => {
                let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).map_err(refused)?;
                Values::Timestamp(micros.as_primitive::<TimestampMicrosecondType>().clone())
            }
            DataType::Date32 => Values::Date(array.as_primitive().clone()),
            DataType::Date64 => Values::Date(cast(array, &DataType::Date32).map_err(refused)?.as_primitive().clone()),
            DataType::Float16 => return Self::new(name, &cast(array, &DataType::Float32).map_err(refused)?),
            DataType::Dictionary(_, plain) => return Self::new(name, &cast(array, plain).map_err(refused)?),
            DataType::Struct(fields) => {
                let parts = array.as_struct();
                Values::Struct(prefixed(fields.iter().zip(parts.columns()).map(|(field, array)| (field.name().as_str(), array)))?)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(spans(list.offsets()), Box::new(Self::new(name, list.values())?))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                Values::List(spans(list.offsets()), Box::new(Self::new(name, list.values())?))
            }
            DataType::FixedSizeList(_, size) => {
                let (list, size) = (array.as_fixed_size_list(), *size as usize);
                Values::List((0..list.len()).map(|row| (row * size, (row + 1) * size)).collect(), Box::new(Self::new(name, list.values())?))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Values::Map(spans(map.offsets()), Box::new(TextColumn::new(name, map.keys())?), Box::new(Self::new(name, map.values())?))
            }
            _ => {
                ArrayFormatter::try_new(array, &FormatOptions::default()).map_err(refused)?;
                Values::Other(array.clone())
            }
        };
        Ok(Self { nulls: array.nulls().cloned(), values })
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn append(&self, row: usize, out: &mut Vec<u8>) {
        match self.is_null(row) {
            true => out.extend_from_slice(b"null"),
            false => self.value(row, out),
        }
    }

    fn value(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Null => out.extend_from_slice(b"null"),
            Values::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Values::Int8(values) => put(out, values.value(row)),
            Values::Int16(values) => put(out, values.value(row)),
            Values::Int32(values) => put(out, values.value(row)),
            Values::Int64(values) => put(out, values.value(row)),
            Values::UInt8(values) => put(out, values.value(row)),
            Values::UInt16(values) => put(out, values.value(row)),
            Values::UInt32(values) => put(out, values.value(row)),
            Values::UInt64(values) => put(out, values.value(row)),
            Values::Float32(values) => match values.value(row) {
                value if value.is_finite() => serde(out, &value),
                _ => out.extend_from_slice(b"null"),
            },
            Values::Float64(values) => match values.value(row) {
                value if value.is_finite() => serde(out, &value),
                _ => out.extend_from_slice(b"null"),
            },
            Values::Decimal128(values) => decimal(&values.value(row).to_string(), values.scale(), out),
            Values::Decimal256(values) => decimal(&values.value(row).to_string(), values.scale(), out),
            Values::Text(values) => text(values.value(row), out),
            Values::TextView(values) => text(values.value(row), out),
            Values::LargeText(values) => text(values.value(row), out),
            Values::Bytes(values) => hexadecimal(values.value(row), out),
            Values::LargeBytes(values) => hexadecimal(values.value(row), out),
            Values::Timestamp(values) => timestamp(values.value(row), out),
            Values::Date(values) => date(values.value(row), out),
            Values::Struct(columns) => object(columns, row, out),
            Values::List(spans, items) => {
                out.push(b'[');
                let (start, end) = spans[row];
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    items.append(item, out);
                }
                out.push(b']');
            }
            Values::Map(spans, keys, items) => {
                out.push(b'{');
                let (start, end) = spans[row];
                let mut key = Vec::new();
                for entry in start..end {
                    if entry > start {
                        out.push(b',');
                    }
                    key.clear();
                    keys.append(entry, &mut key);
                    text(&String::from_utf8_lossy(&key), out);
                    out.push(b':');
                    items.append(entry, out);
                }
                out.push(b'}');
            }
            Values::Other(array) => match ArrayFormatter::try_new(array, &FormatOptions::default()) {
                Ok(format) => text(&format.value(row).to_string(), out),
                Err(_) => out.extend_from_slice(b"null"),
            },
        }
    }
}

/// Where each row's items start and end.
fn spans<O: arrow::array::OffsetSizeTrait>(offsets: &[O]) -> Vec<(usize, usize)> {
    offsets.windows(2).map(|pair| (pair[0].as_usize(), pair[1].as_usize())).collect()
}

fn put(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a vector takes every write");
}

fn serde(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("a finite number and a text have JSON");
}

/// A string with quotes and escapes.
fn text(value: &str, out: &mut Vec<u8>) {
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    } else {
        serde(out, &value);
    }
}

fn hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}

/// A number from its unscaled digits.
fn decimal(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    out.extend_from_slice(sign.as_bytes());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        let zeros = if digits == "0" { 0 } else { usize::from(scale.unsigned_abs()) };
        out.resize(out.len() + zeros, b'0');
        return;
    }
    let scale = scale as usize;
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    out.push(b'.');
    out.resize(out.len() + scale - fraction.len(), b'0');
    out.extend_from_slice(fraction.as_bytes());
}

fn timestamp(micros: i64, out: &mut Vec<u8>) {
    let days = micros.div_euclid(86_400_000_000);
    let within = micros.rem_euclid(86_400_000_000);
    out.push(b'"');
    if !calendar(days, out) {
        write!(out, "{micros}us\"").expect("a vector takes every write");
        return;
    }
    let (seconds, fraction) = (within / 1_000_000, within % 1_000_000);
    out.push(b'T');
    two(seconds / 3_600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    // None, three or six digits, as elsewhere in the product.
    if fraction != 0 {
        let (value, width) = if fraction % 1_000 == 0 { (fraction / 1_000, 3) } else { (fraction, 6) };
        write!(out, ".{value:0width$}").expect("a vector takes every write");
    }
    out.extend_from_slice(b"Z\"");
}

fn date(days: i32, out: &mut Vec<u8>) {
    out.push(b'"');
    if !calendar(i64::from(days), out) {
        write!(out, "{days}d").expect("a vector takes every write");
    }
    out.push(b'"');
}

/// `2026-01-01` of a day counted from 1970 (Howard Hinnant's algorithm). False outside the years 0 to 9999.
fn calendar(days: i64, out: &mut Vec<u8>) -> bool {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9_999).contains(&year) {
        return false;
    }
    two(year / 100, out);
    two(year % 100, out);
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
    true
}

fn two(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

#[cfg(test)]
mod tests;
