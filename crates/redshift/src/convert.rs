//! Rows as they are staged: types that COPY takes, and no value that the table's columns cannot hold.
//!
//! **Owns** the refusals that need no server: each names the column and what it holds, never the value. **Does not own** the
//! files. What is found here costs nothing; what Redshift finds costs trial loads.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringBuilder};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use watershed_ports::RefusedRow;
use watershed_types::Result;

use crate::columns::{Column, Columns, Staged};
use crate::error::unfit_rows;
use crate::plan::{DELETE, ORDER};

/// 4713 BC, where Redshift's timestamps begin, in microseconds from 1970. They end after the last microsecond there is.
const FIRST_MICROS: i64 = -210_866_803_200_000_000;
/// The same for dates, in days from 1970; they end in the year 294276.
const DAYS: std::ops::Range<i32> = -2_440_588..106_751_992;

/// Columns of the staged files: the sink's own, the row's ordinal, and whether it deletes its key.
pub(crate) fn staged_schema(columns: &Columns) -> SchemaRef {
    let mut fields: Vec<Field> = columns.list.iter().map(|column| Field::new(&column.name, arrow_type(column.staged), true)).collect();
    fields.push(Field::new(ORDER, DataType::Int64, true));
    if columns.delete.is_some() {
        fields.push(Field::new(DELETE, DataType::Boolean, true));
    }
    Arc::new(Schema::new(fields))
}

fn arrow_type(staged: Staged) -> DataType {
    match staged {
        Staged::Boolean => DataType::Boolean,
        Staged::Integer => DataType::Int32,
        Staged::BigInt => DataType::Int64,
        Staged::Real => DataType::Float32,
        Staged::Double => DataType::Float64,
        // With 38 digits the writer uses the fixed-length form, the only one of decimals that Redshift is sure to read.
        Staged::Decimal(scale) => DataType::Decimal128(38, scale),
        Staged::Text { .. } | Staged::Hex { .. } | Staged::Json { .. } | Staged::Time => DataType::Utf8,
        Staged::Date => DataType::Date32,
        // In UTC, so that the writer notes the older TIMESTAMP_MICROS beside the newer logical type, which Redshift does not read.
        Staged::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// Turns batches of an epoch into staged ones.
pub(crate) struct Converter<'a> {
    sink: &'a str,
    columns: &'a Columns,
    schema: SchemaRef,
    /// Rows seen so far.
    pub ordinal: u64,
    /// Rows that are not staged.
    pub refused: Vec<RefusedRow>,
}

impl<'a> Converter<'a> {
    pub fn new(sink: &'a str, columns: &'a Columns) -> Self {
        Self { sink, columns, schema: staged_schema(columns), ordinal: 0, refused: Vec::new() }
    }

    /// The rows of a batch that can be staged. Errors: `RSH0014` if it does not have the declared columns.
    pub fn convert(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let unfit = |what: String| unfit_rows(self.sink, what);
        if batch.num_columns() != self.columns.width {
            return Err(unfit(format!("{} columns instead of {}", batch.num_columns(), self.columns.width)));
        }
        let rows = batch.num_rows();
        let mut reasons: Vec<Option<String>> = vec![None; rows];
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for column in &self.columns.list {
            let array = batch.column(column.index);
            let array = match array.data_type() {
                DataType::Dictionary(_, values) => cast(array, values).map_err(|cause| unfit(cause.to_string()))?,
                _ => Arc::clone(array),
            };
            if !array.data_type().equals_datatype(&column.data_type) {
                return Err(unfit(format!("column \"{}\" is {} instead of {}", column.name, array.data_type(), column.data_type)));
            }
            let mut refuse = |row: usize, reason: &str| {
                reasons[row].get_or_insert_with(|| format!("column \"{}\" holds {reason}", column.name));
            };
            if !column.nullable {
                let why = if column.key { "NULL, and it is part of the key" } else { "NULL, and the table takes none" };
                (0..rows).filter(|row| array.is_null(*row)).for_each(|row| refuse(row, why));
            }
            arrays.push(stage(column, &array, &mut refuse).map_err(|cause| unfit(format!("column \"{}\": {cause}", column.name)))?);
        }
        arrays.push(Arc::new((self.ordinal as i64..(self.ordinal + rows as u64) as i64).collect::<Int64Array>()));
        if let Some(index) = self.columns.delete {
            let deletes = batch.column(index).as_boolean_opt().ok_or_else(|| unfit("the delete column is not boolean".to_owned()))?;
            arrays.push(Arc::new(deletes.iter().map(|delete| Some(delete == Some(true))).collect::<BooleanArray>()));
        }
        let staged = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|cause| unfit(cause.to_string()))?;
        let first = self.ordinal;
        self.ordinal += rows as u64;
        let kept: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
        self.refused.extend(reasons.into_iter().enumerate().filter_map(|(row, reason)| Some(RefusedRow { row: first + row as u64, detail: reason? })));
        if kept.true_count() == rows {
            return Ok(staged);
        }
        filter_record_batch(&staged, &kept).map_err(|cause| unfit_rows(self.sink, cause))
    }
}

fn stage(column: &Column, array: &ArrayRef, refuse: &mut impl FnMut(usize, &str)) -> Result<ArrayRef, ArrowError> {
    Ok(match column.staged {
        Staged::Decimal(scale) => match array.data_type() {
            DataType::Decimal128(..) => Arc::new(array.as_primitive::<Decimal128Type>().clone().with_precision_and_scale(38, scale)?),
            _ => {
                let wide = cast(array, &DataType::Decimal128(38, 0))?;
                let wide: Decimal128Array = wide.as_primitive::<Decimal128Type>().clone();
                Arc::new(wide.with_precision_and_scale(38, scale)?)
            }
        },
        Staged::Text { bytes, ascii } => {
            let text = cast(array, &DataType::Utf8)?;
            for (row, value) in text.as_string::<i32>().iter().enumerate() {
                let Some(value) = value else { continue };
                if value.len() > bytes {
                    refuse(row, &format!("text of {} bytes, and the table takes {bytes}", value.len()));
                } else if value.contains('\0') {
                    refuse(row, "text with a NUL byte (0x00), which Redshift cannot store");
                } else if ascii && !value.is_ascii() {
                    refuse(row, "text beyond ASCII, which CHAR does not take");
                }
            }
            text
        }
        Staged::Hex { bytes } => {
            let binary = cast(array, &DataType::Binary)?;
            written(array, refuse, |row, out| {
                let value = binary.as_binary::<i32>().value(row);
                if value.len() > bytes {
                    return Ok(Some(format!("{} bytes, and the table takes {bytes}", value.len())));
                }
                value.iter().for_each(|byte| out.extend([byte >> 4, byte & 15].iter().filter_map(|digit| char::from_digit(u32::from(*digit), 16))));
                Ok(None)
            })?
        }
        Staged::Json { bytes } => written(array, refuse, |row, out| {
            // A time that no calendar has.
            if crate::json::value(out, array, row).is_err() {
                return Ok(Some("a nested value that has no JSON form".to_owned()));
            }
            Ok((out.len() > bytes).then(|| format!("JSON of {} bytes, and {bytes} can be loaded", out.len())))
        })?,
        Staged::Time => {
            let options = FormatOptions::new().with_display_error(false);
            let shown = ArrayFormatter::try_new(array.as_ref(), &options)?;
            written(array, refuse, |row, out| {
                // A number that is no time of day.
                let Ok(time) = shown.value(row).try_to_string() else { return Ok(Some("a time of day that is out of range".to_owned())) };
                out.push_str(&time);
                Ok(None)
            })?
        }
        Staged::Timestamp => {
            // An overflow becomes NULL, which is told from a NULL that was there.
            let zone = if let DataType::Timestamp(_, zone) = array.data_type() { zone.clone() } else { None };
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
            let values = micros.as_primitive::<TimestampMicrosecondType>();
            for row in 0..array.len() {
                if array.is_valid(row) && (values.is_null(row) || values.value(row) < FIRST_MICROS) {
                    refuse(row, "a timestamp that is out of Redshift's range");
                }
            }
            Arc::new(values.clone().with_timezone("UTC"))
        }
        Staged::Date => {
            let days = cast(array, &DataType::Date32)?;
            for (row, day) in days.as_primitive::<Date32Type>().iter().enumerate() {
                if day.is_some_and(|day| !DAYS.contains(&day)) {
                    refuse(row, "a date that is out of Redshift's range");
                }
            }
            days
        }
        plain => cast(array, &arrow_type(plain))?,
    })
}

/// Text written value by value. A refused value is NULL.
fn written(
    array: &ArrayRef,
    refuse: &mut impl FnMut(usize, &str),
    mut write: impl FnMut(usize, &mut String) -> Result<Option<String>, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let mut builder = StringBuilder::new();
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        match write(row, &mut text)? {
            None => builder.append_value(&text),
            Some(reason) => {
                refuse(row, &reason);
                builder.append_null();
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}
