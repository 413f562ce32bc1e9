//! Nested values as JSON text, for `SUPER` columns: numbers exact, times as ISO 8601, bytes as hexadecimal digits.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Appends one value.
pub(crate) fn value(out: &mut String, array: &ArrayRef, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Struct(fields) => {
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                text(out, field.name());
                out.push(':');
                value(out, column, row)?;
            }
            out.push('}');
        }
        DataType::List(_) => list(out, &array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(out, &array.as_list::<i64>().value(row))?,
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push(',');
                }
                // JSON wants text for a key.
                text(out, &leaf(entries.column(0), entry)?);
                out.push(':');
                value(out, entries.column(1), entry)?;
            }
            out.push('}');
        }
        DataType::Float32 | DataType::Float64 => {
            let shown = leaf(array, row)?;
            // JSON has no NaN and no infinity.
            if shown.ends_with(|c: char| c.is_ascii_digit()) { out.push_str(&shown) } else { text(out, &shown) }
        }
        kind if kind.is_integer() || matches!(kind, DataType::Boolean | DataType::Decimal128(..)) => out.push_str(&leaf(array, row)?),
        _ => text(out, &leaf(array, row)?),
    }
    Ok(())
}

/// Whether [`value`] knows a type.
pub(crate) fn knows(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| knows(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => knows(field.data_type()),
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Float32 | DataType::Float64 => true,
        other => other.is_integer(),
    }
}

fn list(out: &mut String, items: &ArrayRef) -> Result<(), ArrowError> {
    out.push('[');
    for item in 0..items.len() {
        if item > 0 {
            out.push(',');
        }
        value(out, items, item)?;
    }
    out.push(']');
    Ok(())
}

fn leaf(array: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::new().with_display_error(false);
    ArrayFormatter::try_new(array.as_ref(), &options)?.value(row).try_to_string()
}

fn text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, StringArray, StructArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn numbers_are_exact_and_text_is_escaped() {
        let field = |name: &str, kind: DataType| Arc::new(Field::new(name, kind, true));
        let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
            (field("a\"b", DataType::Decimal128(38, 3)), Arc::new(Decimal128Array::from(vec![-5]).with_precision_and_scale(38, 3).expect("a decimal"))),
            (field("f", DataType::Float64), Arc::new(Float64Array::from(vec![f64::NAN]))),
            (field("g", DataType::Float64), Arc::new(Float64Array::from(vec![1.5e300]))),
            (field("s", DataType::Utf8), Arc::new(StringArray::from(vec!["x\n\u{1}é"]))),
            (field("n", DataType::Utf8), Arc::new(StringArray::from(vec![None::<&str>]))),
            (field("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))), Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone("UTC"))),
        ];
        let row: ArrayRef = Arc::new(StructArray::from(columns));
        let mut out = String::new();
        value(&mut out, &row, 0).expect("JSON");
        assert_eq!(out, "{\"a\\\"b\":-0.005,\"f\":\"NaN\",\"g\":1.5e300,\"s\":\"x\\n\\u0001é\",\"n\":null,\"t\":\"1969-12-31T23:59:59.999999Z\"}");
    }
}
