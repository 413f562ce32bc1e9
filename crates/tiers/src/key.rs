//! Keys as they are written in a request: `key=2026-01-01T00:00:00Z,paid`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use watershed_types::Result;

use crate::error::bad_parameter;
use crate::tier::Keys;

/// Reads the values of each key, which stand in the key's declared order; one that holds a comma is quoted as in CSV.
pub(crate) fn parse(texts: &[String], places: &[usize], schema: &SchemaRef) -> Result<Keys> {
    let names: Vec<&str> = places.iter().map(|place| schema.field(*place).name().as_str()).collect();
    let hint = || format!("Write key={}.", names.join(","));
    let mut values: Vec<Vec<String>> = vec![Vec::with_capacity(texts.len()); places.len()];
    for text in texts {
        let parts = if places.len() == 1 {
            vec![text.clone()]
        } else {
            split(text).ok_or_else(|| bad_parameter(format!("parameter \"key\" is \"{text}\", which cannot be read"), hint()))?
        };
        if parts.len() != places.len() {
            return Err(bad_parameter(format!("parameter \"key\" is \"{text}\", which has {} values, and the key has {}", parts.len(), places.len()), hint()));
        }
        for (column, part) in values.iter_mut().zip(parts) {
            column.push(part);
        }
    }
    let mut columns = Vec::with_capacity(places.len());
    for (place, values) in places.iter().zip(values) {
        let field = schema.field(*place);
        let texts: ArrayRef = Arc::new(StringArray::from(values));
        let options = CastOptions { safe: false, ..CastOptions::default() };
        columns.push(
            cast_with_options(&texts, field.data_type(), &options)
                .map_err(|cause| bad_parameter(format!("parameter \"key\": a value of \"{}\" is no {}", field.name(), field.data_type()), hint()).caused_by(cause))?,
        );
    }
    Ok(Keys { places: places.to_vec(), columns })
}

fn split(text: &str) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).ok()?.then(|| record.iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};

    use super::*;

    #[test]
    fn values_are_read_in_the_order_of_the_key_and_in_its_types() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("status", DataType::Utf8, false),
        ]));
        let texts = ["1970-01-01T00:00:01Z,\"a,b\"".to_owned(), "1970-01-01T00:00:02+00:00,".to_owned()];
        let keys = parse(&texts, &[1, 2], &schema).expect("keys");
        assert_eq!(keys.columns[0].as_primitive::<TimestampMicrosecondType>().values(), &[1_000_000, 2_000_000]);
        assert_eq!((keys.columns[1].as_string::<i32>().value(0), keys.columns[1].as_string::<i32>().value(1)), ("a,b", ""));
        assert_eq!(parse(&["7".to_owned()], &[0], &schema).expect("a key").columns[0].as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(parse(&["a,b".to_owned()], &[2], &schema).expect("a key of one column is taken as it is").columns[0].as_string::<i32>().value(0), "a,b");
        for (text, places) in [("x", [0usize].as_slice()), ("now,a", &[1, 2]), ("a", &[1, 2]), ("1970-01-01,b,c", &[1, 2])] {
            let error = parse(&[text.to_owned()], places, &schema).expect_err(text);
            assert_eq!(error.code(), "TIER0001", "{}", error.report());
        }
    }
}
