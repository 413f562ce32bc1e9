//! Rows as JSON, for live outputs and for quarantined rows that have no raw bytes.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

/// One value as JSON: numbers as numbers, decimals as exact number text where that is lossless, times as ISO-8601 text.
pub fn value_as_json(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64 => {
            let text = plain(column, row);
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Value::String(crate::time::timestamp(column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row))),
        DataType::Struct(fields) => {
            let columns = column.as_struct();
            Value::Object(fields.iter().zip(columns.columns()).map(|(f, c)| (f.name().clone(), value_as_json(c, row))).collect())
        }
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            Value::Array((0..values.len()).map(|i| value_as_json(&values, i)).collect())
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            Value::Object((0..entries.len()).map(|i| (plain(keys, i), value_as_json(values, i))).collect())
        }
        _ => Value::String(plain(column, row)),
    }
}

fn plain(column: &ArrayRef, row: usize) -> String {
    match ArrayFormatter::try_new(column, &FormatOptions::default()) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => String::new(),
    }
}

/// One row as a JSON object.
pub fn row_as_json(batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema();
    let object: Map<String, Value> = schema.fields().iter().zip(batch.columns()).map(|(f, c)| (f.name().clone(), value_as_json(c, row))).collect();
    Value::Object(object).to_string()
}
