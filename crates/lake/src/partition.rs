//! Which partition a row belongs to, and how a partition's folder is called.
//!
//! **Owns** splitting a batch and spelling values. **Does not own** the files.
//!
//! I1: rows of one partition keep their order. I2: a folder's name is only a name: readers take partition values from the
//! log, so a value too long for a file name is shortened in the name and whole in the log.
//!
//! A NULL and an empty string share the folder `__HIVE_DEFAULT_PARTITION__`; the log keeps them apart, but the Delta
//! protocol lets readers take an empty partition value for NULL, and Spark does.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use chrono::DateTime;

/// The values of the partition columns, as the log spells them.
pub(crate) type Values = Vec<Option<String>>;

const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";
/// More stretches than this in a batch, and copying rows together is cheaper than many small writes.
const MOST_SLICES: usize = 16;
const LONGEST_NAME: usize = 180;

/// How a batch falls into partitions. Each part comes with one row of it.
pub(crate) enum Split {
    /// Consecutive rows; often just one range, the whole batch.
    Slices(Vec<Range<usize>>),
    /// Row numbers per partition.
    Groups(Vec<UInt32Array>),
}

/// Splits by the partition columns, with one vectorised comparison of neighbours as the fast path.
pub(crate) fn split(columns: &[ArrayRef]) -> Result<Split, ArrowError> {
    let ranges = arrow::compute::partition(columns)?.ranges();
    if ranges.len() <= MOST_SLICES {
        return Ok(Split::Slices(ranges));
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(columns)?;
    let hasher = RandomState::new();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
    for range in ranges {
        let row = rows.row(range.start);
        let same_hash = known.entry(hasher.hash_one(row.as_ref())).or_default();
        let group = match same_hash.iter().find(|&&group| rows.row(groups[group].0) == row) {
            Some(&group) => group,
            None => {
                groups.push((range.start, Vec::new()));
                same_hash.push(groups.len() - 1);
                groups.len() - 1
            }
        };
        groups[group].1.extend(range.start as u32..range.end as u32);
    }
    Ok(Split::Groups(groups.into_iter().map(|(_, rows)| UInt32Array::from(rows)).collect()))
}

/// True if a column of this type can partition a table.
pub(crate) fn can_partition(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Decimal128(_, _)
            | DataType::Timestamp(_, _)
    )
}

/// One row's value as the log spells it. The array has a type that [`can_partition`].
pub(crate) fn spell(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            DateTime::from_timestamp(days * 86_400, 0)?.format("%Y-%m-%d").to_string()
        }
        DataType::Timestamp(_, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            DateTime::from_timestamp_micros(micros)?.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
        }
        _ => return None,
    })
}

/// The folder of a partition, relative to the table, without a slash at the end; empty if there are no columns.
pub(crate) fn folder(columns: &[String], values: &Values) -> String {
    let mut out = String::new();
    for (column, value) in columns.iter().zip(values) {
        if !out.is_empty() {
            out.push('/');
        }
        escape(column, &mut out);
        out.push('=');
        match value.as_deref() {
            None | Some("") => out.push_str(NULL_FOLDER),
            Some(value) => escape(value, &mut out),
        }
    }
    out
}

fn escape(text: &str, out: &mut String) {
    let start = out.len();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() - start > LONGEST_NAME {
        // I2: unique enough to keep apart two long values that start alike; where it fails, they share a folder.
        let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        out.truncate(start + LONGEST_NAME - 20);
        while out.ends_with('%') || out[..out.len() - 1].ends_with('%') {
            out.pop();
        }
        out.push_str(&format!("-{sum:016x}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};

    use super::*;

    #[test]
    fn folders_are_hive_style_and_escaped() {
        let columns = vec!["year".to_owned(), "na me".to_owned()];
        assert_eq!(folder(&columns, &vec![Some("2026".into()), Some("a/b=c ü".into())]), "year=2026/na%20me=a%2Fb%3Dc%20%C3%BC");
        assert_eq!(folder(&columns, &vec![None, Some(String::new())]), "year=__HIVE_DEFAULT_PARTITION__/na%20me=__HIVE_DEFAULT_PARTITION__");
        let long = folder(&columns[..1], &vec![Some("ü".repeat(300))]);
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn interleaved_rows_are_grouped_in_order() {
        let years: ArrayRef = Arc::new(Int32Array::from_iter((0..100).map(|row| if row % 7 == 0 { None } else { Some(row % 3) })));
        let names: ArrayRef = Arc::new(StringArray::from_iter((0..100).map(|row| Some(if row % 2 == 0 { "a" } else { "b" }))));
        let Ok(Split::Groups(groups)) = split(&[years, names]) else { panic!("expected groups") };
        assert_eq!(groups.len(), 8);
        assert_eq!(groups.iter().map(|group| group.len()).sum::<usize>(), 100);
        assert!(groups.iter().all(|group| group.values().is_sorted()), "I1");
    }

    #[test]
    fn one_partition_is_one_slice() {
        let years: ArrayRef = Arc::new(Int32Array::from(vec![2026; 50]));
        assert!(matches!(split(&[years]), Ok(Split::Slices(ranges)) if ranges.len() == 1 && ranges[0] == (0..50)));
    }
}
