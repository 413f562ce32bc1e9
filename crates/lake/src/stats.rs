//! What a finished file says about its rows, in the log's JSON.
//!
//! **Owns** the `stats` of an Add action. **Does not own** how readers use it.
//!
//! I1: a minimum is at most, and a maximum at least, every value of the file; where that cannot be said (floating point
//! with NaN, text whose end was cut without rounding up), nothing is said.
//! I2: only the first 32 leaf columns are described, and nothing inside lists and maps.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::datatypes::{DataType, Fields, Schema};
use chrono::DateTime;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

const MOST_LEAVES: usize = 32;

/// A bound, comparable with those of the same column.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Whole(i128),
    Text(String),
}

#[derive(Debug, Default)]
struct Leaf {
    least: Option<Bound>,
    greatest: Option<Bound>,
    nulls: Option<u64>,
}

/// The `stats` of a file with these columns.
pub(crate) fn of_file(schema: &Schema, file: &ParquetMetaData) -> String {
    let mut leaves: BTreeMap<String, Leaf> = BTreeMap::new();
    for (number, group) in file.row_groups().iter().enumerate() {
        for chunk in group.columns() {
            let path = chunk.column_path().parts().join("\u{1f}");
            let leaf = leaves.entry(path).or_default();
            let found = chunk.statistics().map(bounds).unwrap_or_default();
            if number == 0 {
                *leaf = found;
                continue;
            }
            // A group that is all NULL has no bounds and takes none away.
            let all_null = found.nulls == Some(chunk.num_values() as u64);
            leaf.nulls = leaf.nulls.zip(found.nulls).map(|(one, other)| one + other);
            if !all_null {
                leaf.least = merge(leaf.least.take(), found.least, |new, old| new < old);
                leaf.greatest = merge(leaf.greatest.take(), found.greatest, |new, old| new > old);
            }
        }
    }
    let mut writer = Writer { leaves: &leaves, budget: MOST_LEAVES };
    let rows = file.file_metadata().num_rows();
    let mut out = format!("{{\"numRecords\":{rows}");
    for (title, part) in [("minValues", Part::Least), ("maxValues", Part::Greatest), ("nullCount", Part::Nulls)] {
        writer.budget = MOST_LEAVES;
        let _ = write!(out, ",\"{title}\":{{{}}}", writer.object(schema.fields(), "", part));
    }
    out.push('}');
    out
}

/// A bound of both, or nothing if either does not say (I1).
fn merge(old: Option<Bound>, new: Option<Bound>, wins: impl Fn(&Bound, &Bound) -> bool) -> Option<Bound> {
    let (old, new) = old.zip(new)?;
    Some(if wins(&new, &old) { new } else { old })
}

fn bounds(statistics: &Statistics) -> Leaf {
    let nulls = statistics.null_count_opt();
    let (least, greatest) = match statistics {
        Statistics::Boolean(found) => (found.min_opt().map(|v| whole(i128::from(*v))), found.max_opt().map(|v| whole(i128::from(*v)))),
        Statistics::Int32(found) => (found.min_opt().map(|v| whole(i128::from(*v))), found.max_opt().map(|v| whole(i128::from(*v)))),
        Statistics::Int64(found) => (found.min_opt().map(|v| whole(i128::from(*v))), found.max_opt().map(|v| whole(i128::from(*v)))),
        Statistics::FixedLenByteArray(found) => (found.min_opt().and_then(|v| big_endian(v.data())), found.max_opt().and_then(|v| big_endian(v.data()))),
        Statistics::ByteArray(found) => (found.min_opt().and_then(|v| text(v.data())), found.max_opt().and_then(|v| text(v.data()))),
        Statistics::Float(_) | Statistics::Double(_) | Statistics::Int96(_) => (None, None),
    };
    Leaf { least, greatest, nulls }
}

fn whole(value: i128) -> Bound {
    Bound::Whole(value)
}

fn big_endian(bytes: &[u8]) -> Option<Bound> {
    let first = *bytes.first()?;
    (bytes.len() <= 16).then(|| {
        let start = if first & 0x80 == 0 { 0 } else { -1 };
        whole(bytes.iter().fold(start, |value: i128, byte| (value << 8) | i128::from(*byte)))
    })
}

fn text(bytes: &[u8]) -> Option<Bound> {
    // A cut maximum is rounded up by the file writer, to bytes that may not be text: then say nothing (I1).
    std::str::from_utf8(bytes).ok().map(|text| Bound::Text(text.to_owned()))
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Least,
    Greatest,
    Nulls,
}

struct Writer<'a> {
    leaves: &'a BTreeMap<String, Leaf>,
    budget: usize,
}

impl Writer<'_> {
    /// The members of one object, without its braces.
    fn object(&mut self, fields: &Fields, prefix: &str, part: Part) -> String {
        let mut out = String::new();
        for field in fields {
            if self.budget == 0 {
                break;
            }
            let path = if prefix.is_empty() { field.name().clone() } else { format!("{prefix}\u{1f}{}", field.name()) };
            let value = match field.data_type() {
                DataType::Struct(inner) => Some(format!("{{{}}}", self.object(inner, &path, part))),
                DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) => {
                    self.budget -= 1;
                    None
                }
                data_type => {
                    self.budget -= 1;
                    self.leaves.get(&path).and_then(|leaf| spell(leaf, data_type, part))
                }
            };
            if let Some(value) = value {
                let comma = if out.is_empty() { "" } else { "," };
                let _ = write!(out, "{comma}{}:{value}", quoted(field.name()));
            }
        }
        out
    }
}

fn spell(leaf: &Leaf, data_type: &DataType, part: Part) -> Option<String> {
    let bound = match part {
        Part::Nulls => return leaf.nulls.map(|nulls| nulls.to_string()),
        Part::Least => leaf.least.as_ref()?,
        Part::Greatest => leaf.greatest.as_ref()?,
    };
    Some(match (bound, data_type) {
        // Booleans: readers disagree whether bounds belong in the log.
        (Bound::Whole(_), DataType::Boolean) => return None,
        (Bound::Whole(days), DataType::Date32) => {
            let date = DateTime::from_timestamp(i64::try_from(*days).ok()?.checked_mul(86_400)?, 0)?;
            format!("\"{}\"", date.format("%Y-%m-%d"))
        }
        (Bound::Whole(micros), DataType::Timestamp(_, _)) => {
            let time = DateTime::from_timestamp_micros(i64::try_from(*micros).ok()?)?;
            format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
        }
        (Bound::Whole(digits), DataType::Decimal128(_, scale)) => decimal(*digits, u32::try_from(*scale).ok()?),
        (Bound::Whole(value), _) => value.to_string(),
        (Bound::Text(value), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => quoted(value),
        (Bound::Text(_), _) => return None,
    })
}

fn decimal(digits: i128, scale: u32) -> String {
    if scale == 0 {
        return digits.to_string();
    }
    let unit = 10_u128.pow(scale);
    let size = digits.unsigned_abs();
    let sign = if digits < 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", size / unit, size % unit, width = scale as usize)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(123_456_789_012_345_678_901_234_567_890, 10), "12345678901234567890.1234567890");
        assert_eq!(big_endian(&[0xff, 0xfe]), Some(whole(-2)));
    }
}
