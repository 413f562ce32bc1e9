//! Values without a Postgres type, as JSON: maps, structs, and lists of them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Number, Value};

/// True if values of a type are shown as JSON.
pub(crate) fn is_json(kind: &DataType) -> bool {
    match kind {
        DataType::Map(..) | DataType::Struct(_) | DataType::Union(..) => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::ListView(field) | DataType::LargeListView(field) => {
            is_json(field.data_type()) || is_list(field.data_type())
        }
        DataType::Dictionary(_, value) => is_json(value),
        DataType::RunEndEncoded(..) => true,
        _ => false,
    }
}

fn is_list(kind: &DataType) -> bool {
    matches!(kind, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) | DataType::LargeListView(_))
}

/// One value.
pub(crate) fn value(array: &dyn Array, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let list = |values: &dyn Array| (0..values.len()).map(|at| value(values, at)).collect::<Result<Vec<_>, _>>().map(Value::Array);
    Ok(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut object = Map::new();
            for (at, field) in fields.iter().enumerate() {
                object.insert(field.name().clone(), value(columns.column(at), row)?);
            }
            Value::Object(object)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut object = Map::new();
            for at in 0..entries.len() {
                object.insert(text(entries.column(0), at)?, value(entries.column(1), at)?);
            }
            Value::Object(object)
        }
        DataType::Decimal128(_, scale) => number(&array.as_primitive::<Decimal128Type>().value_as_string(row), *scale),
        DataType::Decimal256(_, scale) => number(&array.as_primitive::<Decimal256Type>().value_as_string(row), *scale),
        kind if kind.is_integer() => text(array, row)?.parse::<Number>().map_or(Value::Null, Value::Number),
        kind if kind.is_floating() => text(array, row)?.parse::<f64>().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number),
        _ => Value::String(text(array, row)?),
    })
}

/// A decimal stays exact: as a number if it is one in JSON too, else as text.
fn number(text: &str, scale: i8) -> Value {
    if scale <= 0
        && let Ok(number) = text.parse::<Number>()
    {
        return Value::Number(number);
    }
    Value::String(text.to_owned())
}

fn text(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    Ok(ArrayFormatter::try_new(array, &options)?.value(row).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Builder, MapBuilder, StringBuilder};

    #[test]
    fn a_map_is_an_object() {
        let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        builder.keys().append_value("a\"b");
        builder.values().append_value(7);
        builder.keys().append_value("c");
        builder.values().append_null();
        builder.append(true).expect("an entry");
        builder.append(false).expect("a null");
        let map = builder.finish();
        assert_eq!(value(&map, 0).expect("a value").to_string(), r#"{"a\"b":7,"c":null}"#);
        assert_eq!(value(&map, 1).expect("a value"), Value::Null);
        assert!(is_json(map.data_type()) && !is_json(&DataType::Utf8));
    }
}
