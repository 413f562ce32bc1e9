//! Rows as JSON, JSON lines and CSV.
//!
//! **Owns** the forms of an answer. **Does not own** how one value looks: the live stream writes values the same way.

use std::fmt::Write as _;

use arrow::array::{ArrayRef, RecordBatch};
use serde_json::Value;
use watershed_engine::json::{row_as_json, value_as_json};
use watershed_types::Result;

use crate::error::not_acceptable;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An array of objects.
    Json,
    /// An object a line.
    Lines,
    /// RFC 4180 with a header. NULL is empty; an empty text is `""`.
    Csv,
}

impl Form {
    /// What an `Accept` header asks for: the first of its types that there is. Errors: `TIER0005`.
    pub fn of(accept: Option<&str>) -> Result<Form> {
        let Some(accept) = accept else { return Ok(Form::Json) };
        for wanted in accept.split(',') {
            match wanted.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "application/json" | "application/*" | "*/*" | "" => return Ok(Form::Json),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => return Ok(Form::Lines),
                "text/csv" | "text/*" => return Ok(Form::Csv),
                _ => {}
            }
        }
        Err(not_acceptable(accept))
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Lines => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Writes rows.
    pub fn write(self, batch: &RecordBatch) -> String {
        match self {
            Form::Json => {
                let rows: Vec<String> = (0..batch.num_rows()).map(|row| row_as_json(batch, row)).collect();
                if rows.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", rows.join(",\n")) }
            }
            Form::Lines => (0..batch.num_rows()).fold(String::new(), |mut out, row| {
                let _ = writeln!(out, "{}", row_as_json(batch, row));
                out
            }),
            Form::Csv => csv(batch),
        }
    }
}

fn csv(batch: &RecordBatch) -> String {
    let header: Vec<String> = batch.schema().fields().iter().map(|field| field_of(field.name())).collect();
    let mut out = header.join(",") + "\r\n";
    for row in 0..batch.num_rows() {
        let fields: Vec<String> = batch.columns().iter().map(|column| cell(column, row)).collect();
        out.push_str(&fields.join(","));
        out.push_str("\r\n");
    }
    out
}

fn cell(column: &ArrayRef, row: usize) -> String {
    match value_as_json(column, row) {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => field_of(&text),
        other => field_of(&other.to_string()),
    }
}

fn field_of(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn every_form_of_the_same_rows() {
        let text = StringArray::from(vec![Some("a\"b,c"), Some(""), None]);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef), ("t", Arc::new(text))]).expect("a batch");
        assert_eq!(Form::Csv.write(&batch), "n,t\r\n1,\"a\"\"b,c\"\r\n2,\"\"\r\n3,\r\n");
        assert_eq!(Form::Lines.write(&batch), "{\"n\":1,\"t\":\"a\\\"b,c\"}\n{\"n\":2,\"t\":\"\"}\n{\"n\":3,\"t\":null}\n");
        assert_eq!(serde_json::from_str::<Value>(&Form::Json.write(&batch)).expect("JSON").as_array().map(Vec::len), Some(3));
        assert_eq!(Form::Json.write(&batch.slice(0, 0)), "[]\n");
    }

    #[test]
    fn the_first_acceptable_type_is_taken() {
        let of = |accept| Form::of(Some(accept)).map_err(|error| error.code());
        assert_eq!((of("text/html, text/csv;q=0.5"), of("*/*"), of("application/x-ndjson"), of("text/html")), (Ok(Form::Csv), Ok(Form::Json), Ok(Form::Lines), Err("TIER0005")));
        assert_eq!(Form::of(None).map_err(|error| error.code()), Ok(Form::Json));
    }
}
