//! Nested values as JSON text, for `jsonb` columns: numbers exact, times as ISO 8601, bytes as `\x` and hexadecimal digits.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

const NUL: &str = "text with a NUL byte (0x00), which Postgres cannot store";

/// Appends one value. Errors with the reason why Postgres would not take it.
pub(crate) fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), &'static str> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
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
        DataType::Utf8 => text(out, array.as_string::<i32>().value(row))?,
        DataType::LargeUtf8 => text(out, array.as_string::<i64>().value(row))?,
        DataType::Utf8View => text(out, array.as_string_view().value(row))?,
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
            timestamp(out, micros.ok_or("a time that is out of range")?, zone.is_some());
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push(b'{');
            for (i, (field, column)) in fields.iter().zip(columns.columns()).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                text(out, field.name())?;
                out.push(b':');
                value(out, column, row)?;
            }
            out.push(b'}');
        }
        DataType::List(_) => list(out, array.as_list::<i32>().values(), span(array.as_list::<i32>().value_offsets(), row))?,
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            list(out, array.as_list::<i64>().values(), offsets[row] as usize..offsets[row + 1] as usize)?;
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            out.push(b'{');
            let range = span(map.value_offsets(), row);
            for entry in range.clone() {
                if entry > range.start {
                    out.push(b',');
                }
                key(out, map.keys(), entry)?;
                out.push(b':');
                value(out, map.values(), entry)?;
            }
            out.push(b'}');
        }
        _ => return Err("a nested type that has no JSON form"),
    }
    Ok(())
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

fn list(out: &mut Vec<u8>, values: &ArrayRef, range: std::ops::Range<usize>) -> Result<(), &'static str> {
    out.push(b'[');
    for item in range.clone() {
        if item > range.start {
            out.push(b',');
        }
        value(out, values, item)?;
    }
    out.push(b']');
    Ok(())
}

/// A map's key: JSON wants text.
fn key(out: &mut Vec<u8>, keys: &ArrayRef, row: usize) -> Result<(), &'static str> {
    let from = out.len();
    value(out, keys, row)?;
    if out.get(from) != Some(&b'"') {
        out.insert(from, b'"');
        out.push(b'"');
    }
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<(), &'static str> {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        if *byte == 0 {
            return Err(NUL);
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
    Ok(())
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

fn timestamp(out: &mut Vec<u8>, micros: i64, zoned: bool) {
    out.push(b'"');
    date(out, micros.div_euclid(86_400_000_000));
    out.push(b'T');
    time(out, micros.rem_euclid(86_400_000_000));
    out.extend_from_slice(if zoned { b"Z\"" } else { b"\"" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_and_decimals_are_right_at_the_edges() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(written(&|out| timestamp(out, -1, true)), "\"1969-12-31T23:59:59.999999Z\"");
        assert_eq!(written(&|out| timestamp(out, 951_782_400_000_000, false)), "\"2000-02-29T00:00:00\"");
        assert_eq!(written(&|out| decimal(out, -5, 3)), "-0.005");
        assert_eq!(written(&|out| text(out, "a\"\\\u{1}b").expect("no NUL")), r#""a\"\\\u0001b""#);
        assert_eq!(text(&mut Vec::new(), "a\0"), Err(NUL));
    }
}
