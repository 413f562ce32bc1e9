//! Values as text: in keys, in hash fields, and as JSON.
//!
//! **Owns** how every type looks. JSON: numbers exact, times as ISO 8601, bytes as `\x` and hexadecimal digits.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

/// Appends one value as JSON.
pub(crate) fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    macro_rules! number {
        ($kind:ty) => {{
            let _ = write!(out, "{}", array.as_primitive::<$kind>().value(row));
        }};
    }
    macro_rules! float {
        ($kind:ty) => {{
            let number = array.as_primitive::<$kind>().value(row);
            // JSON has no NaN and no infinity; Debug writes an exponent instead of three hundred digits.
            let _ = if number.is_finite() { write!(out, "{number:?}") } else { write!(out, "\"{number}\"") };
        }};
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" }),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => float!(Float32Type),
        DataType::Float64 => float!(Float64Type),
        DataType::Decimal128(_, scale) => decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Utf8 => text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(out, array.as_string_view().value(row)),
        DataType::Binary => bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(out, array.as_binary_view().value(row)),
        DataType::Date32 => {
            out.push(b'"');
            date(out, i64::from(array.as_primitive::<Date32Type>().value(row)));
            out.push(b'"');
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            out.push(b'"');
            time(out, array.as_primitive::<Time64MicrosecondType>().value(row));
            out.push(b'"');
        }
        DataType::Timestamp(unit, zone) => {
            let micros = match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000),
                TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
                TimeUnit::Nanosecond => Some(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000)),
            };
            out.push(b'"');
            timestamp(out, micros.unwrap_or(i64::MAX), zone.is_some());
            out.push(b'"');
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push(b'{');
            for (i, (field, column)) in fields.iter().zip(columns.columns()).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                text(out, field.name());
                out.push(b':');
                value(out, column, row);
            }
            out.push(b'}');
        }
        DataType::List(_) => list(out, array.as_list::<i32>().values(), span(array.as_list::<i32>().value_offsets(), row)),
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            list(out, array.as_list::<i64>().values(), offsets[row] as usize..offsets[row + 1] as usize);
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            out.push(b'{');
            let range = span(map.value_offsets(), row);
            for entry in range.clone() {
                if entry > range.start {
                    out.push(b',');
                }
                key(out, map.keys(), entry);
                out.push(b':');
                value(out, map.values(), entry);
            }
            out.push(b'}');
        }
        // `knows` kept the others out.
        _ => out.extend_from_slice(b"null"),
    }
}

/// Appends one value that is not NULL as plain text: a hash field or a string. Nested values are JSON.
pub(crate) fn plain(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    match array.data_type() {
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        DataType::LargeUtf8 => out.extend_from_slice(array.as_string::<i64>().value(row).as_bytes()),
        DataType::Utf8View => out.extend_from_slice(array.as_string_view().value(row).as_bytes()),
        DataType::Binary => out.extend_from_slice(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => out.extend_from_slice(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => out.extend_from_slice(array.as_binary_view().value(row)),
        // JSON, but for the quotes.
        _ => {
            let from = out.len();
            value(out, array, row);
            if out.get(from) == Some(&b'"') {
                out.pop();
                out.remove(from);
            }
        }
    }
}

/// Appends one value as a piece of a key: times without separators.
pub(crate) fn key_piece(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    let from = out.len();
    match array.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let mut bytes = Vec::new();
            plain(&mut bytes, array, row);
            for byte in bytes {
                let _ = write!(out, "{byte:02x}");
            }
        }
        // The date's sign, of a year before 0, is the one separator that stays.
        DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) => {
            plain(out, array, row);
            let mut at = from + 1;
            while at < out.len() {
                if matches!(out[at], b'-' | b':') {
                    out.remove(at);
                } else {
                    at += 1;
                }
            }
        }
        _ => plain(out, array, row),
    }
}

/// Whether [`value`] knows a type.
pub(crate) fn knows(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| knows(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => knows(field.data_type()),
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::Time64(unit) => *unit == TimeUnit::Microsecond,
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Date32 | DataType::Timestamp(..) | DataType::Float32 | DataType::Float64 => true,
        other => other.is_integer(),
    }
}

fn span(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn list(out: &mut Vec<u8>, values: &ArrayRef, range: std::ops::Range<usize>) {
    out.push(b'[');
    for item in range.clone() {
        if item > range.start {
            out.push(b',');
        }
        value(out, values, item);
    }
    out.push(b']');
}

/// A map's key: JSON wants text.
fn key(out: &mut Vec<u8>, keys: &ArrayRef, row: usize) {
    let from = out.len();
    value(out, keys, row);
    if out.get(from) != Some(&b'"') {
        out.insert(from, b'"');
        out.push(b'"');
    }
}

pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => {
                let _ = write!(out, "\\u{other:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\"\\\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push(b'"');
}

fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    let one = 10u128.pow(u32::from(scale.unsigned_abs()));
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let _ = match scale {
        0 => write!(out, "{sign}{value}"),
        _ => write!(out, "{sign}{}.{:0width$}", value / one, value % one, width = usize::from(scale.unsigned_abs())),
    };
}

/// Days since 1970 as year, month and day of the Gregorian calendar (Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + carry, month, day)
}

fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

fn time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros / 1_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros % 1_000_000 != 0 {
        let _ = write!(out, ".{:06}", micros % 1_000_000);
    }
}

pub(crate) fn timestamp(out: &mut Vec<u8>, micros: i64, zoned: bool) {
    date(out, micros.div_euclid(86_400_000_000));
    out.push(b'T');
    time(out, micros.rem_euclid(86_400_000_000));
    if zoned {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn every_form_of_a_value() {
        let both = |array: ArrayRef| {
            let text = |write: &dyn Fn(&mut Vec<u8>)| {
                let mut out = Vec::new();
                write(&mut out);
                String::from_utf8(out).expect("text")
            };
            [text(&|out| key_piece(out, &array, 0)), text(&|out| plain(out, &array, 0)), text(&|out| value(out, &array, 0))]
        };
        let time = |micros| Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
        assert_eq!(both(time(1_709_211_900_000_000)), ["20240229T130500Z", "2024-02-29T13:05:00Z", "\"2024-02-29T13:05:00Z\""]);
        assert_eq!(both(time(-1))[0], "19691231T235959.999999Z");
        assert_eq!(both(Arc::new(Date32Array::from(vec![19_782]))), ["20240229", "2024-02-29", "\"2024-02-29\""]);
        assert_eq!(both(Arc::new(StringArray::from(vec!["a\"b"]))), ["a\"b", "a\"b", "\"a\\\"b\""]);
        assert_eq!(both(Arc::new(BooleanArray::from(vec![true]))), ["true", "true", "true"]);
        assert_eq!(both(Arc::new(Float64Array::from(vec![f64::NAN]))), ["NaN", "NaN", "\"NaN\""]);
        assert_eq!(both(Arc::new(BinaryArray::from(vec![&b"z"[..]]))), ["7a", "z", "\"\\\\x7a\""]);
        let money = Decimal128Array::from(vec![-5]).with_precision_and_scale(9, 3).expect("a decimal");
        assert_eq!(both(Arc::new(money)), ["-0.005", "-0.005", "-0.005"]);
    }
}
