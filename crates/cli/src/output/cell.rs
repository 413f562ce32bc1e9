//! One value, as text.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;
use watershed_engine::json::value_as_json;
use watershed_engine::time::timestamp;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL, or nothing to say.
    Null,
    /// A number, exactly as written.
    Number(String),
    /// Text.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A list or a structure.
    Json(Value),
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }
    /// A number.
    pub fn number(number: impl ToString) -> Cell {
        Cell::Number(number.to_string())
    }
    /// Bytes, as text where they are text.
    pub fn bytes(bytes: &[u8]) -> Cell {
        Cell::Text(bytes_text(bytes))
    }
    /// A point in time, microseconds since 1970.
    pub fn time(micros: Option<i64>) -> Cell {
        micros.map_or(Cell::Null, |m| Cell::Text(timestamp(m)))
    }

    /// A value of an Arrow column.
    pub fn of(column: &ArrayRef, row: usize) -> Cell {
        if column.is_null(row) {
            return Cell::Null;
        }
        match column.data_type() {
            DataType::Null => Cell::Null,
            DataType::Boolean => Cell::Flag(column.as_boolean().value(row)),
            kind if kind.is_numeric() => Cell::Number(plain(column, row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Cell::Text(timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row))),
            DataType::Timestamp(_, zone) => match arrow::compute::cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())) {
                Ok(column) => Cell::of(&column, row),
                Err(_) => Cell::Text(plain(column, row)),
            },
            DataType::Binary => Cell::Text(bytes_text(column.as_binary::<i32>().value(row))),
            DataType::LargeBinary => Cell::Text(bytes_text(column.as_binary::<i64>().value(row))),
            DataType::BinaryView => Cell::Text(bytes_text(column.as_binary_view().value(row))),
            DataType::FixedSizeBinary(_) => Cell::Text(bytes_text(column.as_fixed_size_binary().value(row))),
            DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _) => Cell::Json(value_as_json(column, row)),
            _ => Cell::Text(plain(column, row)),
        }
    }

    /// For a table: control characters are escaped, so that data cannot drive the terminal.
    pub fn shown(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Number(text) => text.clone(),
            Cell::Text(text) => text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect(),
            Cell::Flag(flag) => flag.to_string(),
            Cell::Json(value) => value.to_string(),
        }
    }

    /// As a CSV field; NULL is empty, and empty text is `""`.
    pub fn csv(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Text(text) if text.is_empty() => "\"\"".to_owned(),
            Cell::Text(text) => csv_field(text),
            other => csv_field(&other.shown()),
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        match self {
            Cell::Null => "null".to_owned(),
            // What JSON has no number for (NaN, Infinity) is text.
            Cell::Number(text) if serde_json::from_str::<serde_json::Number>(text).is_ok() => text.clone(),
            Cell::Number(text) | Cell::Text(text) => json_text(text),
            Cell::Flag(flag) => flag.to_string(),
            Cell::Json(value) => value.to_string(),
        }
    }
}

fn plain(column: &ArrayRef, row: usize) -> String {
    match ArrayFormatter::try_new(column, &FormatOptions::default()) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => String::new(),
    }
}

/// Bytes as text where they are text, else `\x…` as in Postgres.
pub fn bytes_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("\\x{}", watershed_engine::run::encode_hex(bytes)),
    }
}

/// RFC 4180 quoting.
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Text as a JSON string.
pub fn json_text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_must_be_quoted_and_tells_null_from_empty() {
        assert_eq!(Cell::text("a,\"b\"").csv(), "\"a,\"\"b\"\"\"");
        assert_eq!(Cell::text("two\nlines").csv(), "\"two\nlines\"");
        assert_eq!((Cell::Null.csv().as_str(), Cell::text("").csv().as_str()), ("", "\"\""));
    }

    #[test]
    fn json_numbers_are_exact_and_nan_is_text() {
        assert_eq!(Cell::number("12345678901234567890.10").json(), "12345678901234567890.10");
        assert_eq!(Cell::number("NaN").json(), "\"NaN\"");
    }

    #[test]
    fn bytes_are_text_or_hexadecimal() {
        assert_eq!(bytes_text("größe".as_bytes()), "größe");
        assert_eq!(bytes_text(b"\xff\x00"), "\\xff00");
    }
}
