//! Columns as Postgres types, and rows in text or binary.
//!
//! Numbers, times, text, bytes and plain lists are encoded by `arrow-pg`. Decimals of any precision and values that
//! Postgres has no type for, which are shown as `json`, are encoded here.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion_postgres::arrow_pg::datatypes::field_into_pg_type;
use datafusion_postgres::arrow_pg::encoder::encode_value;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::error::refuse;
use crate::json;
use crate::moment::Moment;
use crate::numeric::Numeric;

/// How one column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Decimal,
    Time,
    Json,
}

fn way(kind: &DataType) -> Way {
    match kind {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => Way::Decimal,
        DataType::Timestamp(..) => Way::Time,
        kind if json::is_json(kind) => Way::Json,
        _ => Way::Plain,
    }
}

/// The columns of an answer as its client will see them.
pub(crate) fn fields(schema: &Schema, format: &Format, options: &Arc<FormatOptions>) -> PgWireResult<Vec<FieldInfo>> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let kind = match way(field.data_type()) {
            Way::Decimal => Type::NUMERIC,
            Way::Json => Type::JSON,
            Way::Plain | Way::Time => field_into_pg_type(field)?,
        };
        let format = match format {
            Format::UnifiedText => FieldFormat::Text,
            Format::UnifiedBinary => FieldFormat::Binary,
            Format::Individual(codes) if codes.is_empty() => FieldFormat::Text,
            Format::Individual(codes) => match codes.get(at) {
                Some(code) => FieldFormat::from(*code),
                None => return Err(refuse("08P01", format!("there are {} result formats for {} columns", codes.len(), schema.fields().len()))),
            },
        };
        fields.push(FieldInfo::new(field.name().clone(), None, None, kind, format).with_format_options(Arc::clone(options)));
    }
    Ok(fields)
}

/// Turns batches into rows.
pub(crate) struct RowWriter {
    fields: Arc<Vec<FieldInfo>>,
    ways: Vec<Way>,
    zone: Tz,
    encoder: DataRowEncoder,
}

impl RowWriter {
    /// For batches of one schema.
    pub fn new(schema: &Schema, fields: Arc<Vec<FieldInfo>>) -> PgWireResult<RowWriter> {
        let ways = schema.fields().iter().map(|f| way(f.data_type())).collect();
        let name = fields.first().map_or("UTC", |field| field.format_options().time_zone.as_str());
        let zone = name.parse().map_err(|_| refuse("22023", format!("there is no time zone \"{name}\"")))?;
        Ok(RowWriter { ways, zone, encoder: DataRowEncoder::new(Arc::clone(&fields)), fields })
    }

    /// One row.
    pub fn row(&mut self, batch: &RecordBatch, row: usize) -> PgWireResult<DataRow> {
        let failed = |e: arrow::error::ArrowError| PgWireError::ApiError(Box::new(e));
        for (at, column) in batch.columns().iter().enumerate() {
            match self.ways[at] {
                Way::Plain => encode_value(&mut self.encoder, column, row, batch.schema_ref().field(at), &self.fields[at])?,
                _ if column.is_null(row) => self.encoder.encode_field(&None::<&str>)?,
                Way::Decimal => self.encoder.encode_field(&Numeric(decimal(column.as_ref(), row).map_err(failed)?))?,
                Way::Time => {
                    let zone = matches!(column.data_type(), DataType::Timestamp(_, Some(_))).then_some(self.zone);
                    self.encoder.encode_field(&Moment { micros: micros(column.as_ref(), row).ok_or_else(|| refuse("22008", "a time is out of range"))?, zone })?;
                }
                Way::Json => self.encoder.encode_field(&json::value(column.as_ref(), row).map_err(failed)?.to_string().as_str())?,
            }
        }
        Ok(self.encoder.take_row())
    }
}

/// Nanoseconds are more than Postgres has: what is below a microsecond is cut.
fn micros(column: &dyn Array, row: usize) -> Option<i64> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => column.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => column.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000)),
        _ => None,
    }
}

fn decimal(column: &dyn Array, row: usize) -> Result<String, arrow::error::ArrowError> {
    Ok(match column.data_type() {
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => column.as_primitive::<Decimal256Type>().value_as_string(row),
        other => {
            let wide = arrow::compute::cast(&column.slice(row, 1), &DataType::Decimal128(38, decimal_scale(other)))?;
            wide.as_primitive::<Decimal128Type>().value_as_string(0)
        }
    })
}

fn decimal_scale(kind: &DataType) -> i8 {
    match kind {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => *scale,
        _ => 0,
    }
}
