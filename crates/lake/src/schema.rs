//! From a query's columns to a Delta table's, and whether they still fit.
//!
//! **Owns** the mapping of types and the making of arrays that match it, without copying where the bytes agree.
//! **Does not own** the log.
//!
//! | query | stored |
//! | --- | --- |
//! | TIMESTAMP with or without zone | `timestamp` (UTC, microseconds): a zoneless value is taken as UTC |
//! | UInt8, UInt16, UInt32 | the next wider signed type |
//! | UInt64 | `long`, refused row by row if it does not fit |
//! | dictionaries, views, fixed-size binaries | their plain counterparts |
//! | intervals, times, NULL, 256-bit decimals | refused |
//!
//! I1: every stored column is nullable, so a column may be dropped from the query or added to it at any time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeListArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use deltalake_core::kernel::{ArrayType, DataType as DeltaType, DecimalType, MapType, PrimitiveType, StructField, StructType};
use watershed_types::Result;

use crate::{error, partition};

/// The zone every stored timestamp has.
const UTC: &str = "UTC";

/// The Arrow type a column is written as, `None` if a lake table cannot hold it.
fn stored_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
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
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) if *scale >= 0 && *scale as u8 <= *precision => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::List(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => DataType::List(Arc::new(Field::new("element", stored_type(item.data_type())?, true))),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(Arc::new(Field::new("element", stored_type(item.data_type())?, true))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| Some(Field::new(field.name(), stored_type(field.data_type())?, true))).collect::<Option<Fields>>()?),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = &pair[..] else { return None };
            let pair = Fields::from(vec![Field::new("key", stored_type(key.data_type())?, false), Field::new("value", stored_type(value.data_type())?, true)]);
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false)
        }
        _ => return None,
    })
}

/// The Delta type of a stored Arrow type.
fn delta_type(data_type: &DataType) -> Option<DeltaType> {
    Some(match data_type {
        DataType::Boolean => DeltaType::BOOLEAN,
        DataType::Int8 => DeltaType::BYTE,
        DataType::Int16 => DeltaType::SHORT,
        DataType::Int32 => DeltaType::INTEGER,
        DataType::Int64 => DeltaType::LONG,
        DataType::Float32 => DeltaType::FLOAT,
        DataType::Float64 => DeltaType::DOUBLE,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DeltaType::STRING,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DeltaType::BINARY,
        DataType::Date32 => DeltaType::DATE,
        DataType::Timestamp(_, _) => DeltaType::TIMESTAMP,
        DataType::Decimal128(precision, scale) => DeltaType::from(DecimalType::try_new(*precision, *scale as u8).ok()?),
        DataType::List(item) | DataType::LargeList(item) => DeltaType::from(ArrayType::new(delta_type(item.data_type())?, true)),
        DataType::Struct(fields) => DeltaType::from(delta_struct(fields)?),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            DeltaType::from(MapType::new(delta_type(pair[0].data_type())?, delta_type(pair[1].data_type())?, true))
        }
        _ => return None,
    })
}

fn delta_struct(fields: &Fields) -> Option<StructType> {
    let fields: Option<Vec<StructField>> = fields.iter().map(|field| Some(StructField::nullable(field.name(), delta_type(field.data_type())?))).collect();
    StructType::try_new(fields?).ok()
}

/// A query's columns, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// As the query produces them.
    pub input: SchemaRef,
    /// As they are written, in the query's order; partition columns too.
    pub stored: SchemaRef,
    /// The columns in the files: without the partition columns.
    pub data: SchemaRef,
    /// Where the data columns are in `input`.
    pub data_at: Vec<usize>,
    /// Where the partition columns are in `input`, in the order of the partitioning.
    pub partition_at: Vec<usize>,
    pub partitioned_by: Vec<String>,
    /// The table's columns as Delta says them.
    pub delta: StructType,
}

impl Columns {
    pub(crate) fn new(table: &str, input: SchemaRef, partitioned_by: &[String]) -> Result<Self> {
        let mut stored: Vec<FieldRef> = Vec::with_capacity(input.fields().len());
        for field in input.fields() {
            let data_type = stored_type(field.data_type()).ok_or_else(|| error::unsupported_type(field.name(), field.data_type()))?;
            if stored.iter().any(|other| other.name().eq_ignore_ascii_case(field.name())) {
                return Err(error::incompatible(
                    table,
                    format!("two of its columns are called \"{}\"", field.name()),
                    "Give each column its own name; a lake table does not tell upper from lower case.",
                ));
            }
            stored.push(Arc::new(Field::new(field.name(), data_type, true)));
        }
        let stored = Arc::new(Schema::new(stored));
        let mut partition_at = Vec::new();
        for name in partitioned_by {
            let Ok(at) = stored.index_of(name) else {
                let names: Vec<&str> = stored.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(error::incompatible(
                    table,
                    format!("PARTITIONED BY names \"{name}\", which the query does not produce"),
                    format!("Its columns are {}.", names.join(", ")),
                ));
            };
            if !partition::can_partition(stored.field(at).data_type()) {
                return Err(error::incompatible(
                    table,
                    format!("column \"{name}\" of type {} cannot partition a table", stored.field(at).data_type()),
                    "Partition by numbers, dates, timestamps or text.",
                ));
            }
            partition_at.push(at);
        }
        let data_at: Vec<usize> = (0..stored.fields().len()).filter(|at| !partition_at.contains(at)).collect();
        if data_at.is_empty() {
            return Err(error::incompatible(table, "every column is a partition column", "Leave at least one column out of PARTITIONED BY."));
        }
        let data = Arc::new(stored.project(&data_at).map_err(|cause| error::bad_batch(table, cause))?);
        let delta = delta_struct(stored.fields()).ok_or_else(|| error::bad_batch(table, "its columns have no Delta schema"))?;
        Ok(Self { input, stored, data, data_at, partition_at, partitioned_by: partitioned_by.to_vec(), delta })
    }

    /// The columns the table lacks; an error if the two do not fit.
    pub(crate) fn missing_in(&self, table: &str, existing: &StructType, partition_columns: &[String]) -> Result<Vec<StructField>> {
        if partition_columns != self.partitioned_by {
            return Err(error::incompatible(
                table,
                format!("it is partitioned by ({}), the query says ({})", partition_columns.join(", "), self.partitioned_by.join(", ")),
                "Keep the partitioning, or give the table a new name and fill it with a backfill.",
            ));
        }
        let mut missing = Vec::new();
        for wanted in self.delta.fields() {
            let Some(found) = existing.fields().find(|field| field.name().eq_ignore_ascii_case(wanted.name())) else {
                missing.push(wanted.clone());
                continue;
            };
            if found.name() != wanted.name() {
                return Err(error::incompatible(
                    table,
                    format!("its column \"{}\" is called \"{}\" in the query", found.name(), wanted.name()),
                    format!("Write AS \"{}\" in the query.", found.name()),
                ));
            }
            if !same_type(found.data_type(), wanted.data_type()) {
                return Err(error::incompatible(
                    table,
                    format!("column \"{}\" is {} and the query makes it {}", found.name(), found.data_type(), wanted.data_type()),
                    format!("CAST \"{}\" in the query, give the column a new name, or write to a new table.", found.name()),
                ));
            }
        }
        for field in existing.fields() {
            if !field.is_nullable() && self.delta.field(field.name()).is_none() {
                return Err(error::incompatible(
                    table,
                    format!("its column \"{}\" is NOT NULL and the query does not produce it", field.name()),
                    format!("Add \"{}\" to the query.", field.name()),
                ));
            }
        }
        Ok(missing)
    }

    /// The data columns of a batch as they are written, and the partition columns.
    pub(crate) fn arrange(&self, table: &str, batch: &RecordBatch) -> Result<(RecordBatch, Vec<ArrayRef>)> {
        if batch.num_columns() != self.input.fields().len() {
            let what = format!("a batch has {} columns, the table was opened for {}", batch.num_columns(), self.input.fields().len());
            return Err(error::bad_batch(table, what));
        }
        if !Arc::ptr_eq(batch.schema_ref(), &self.input) {
            for (found, wanted) in batch.schema_ref().fields().iter().zip(self.input.fields()) {
                if found.name() != wanted.name() {
                    let what = format!("a batch has column \"{}\" where \"{}\" belongs", found.name(), wanted.name());
                    return Err(error::bad_batch(table, what));
                }
            }
        }
        let convert_at = |at: usize, exact: bool| {
            convert(batch.column(at), self.stored.field(at).data_type(), exact)
                .map_err(|cause| error::bad_batch(table, format!("column \"{}\": {cause}", self.stored.field(at).name())))
        };
        let data: Vec<ArrayRef> = self.data_at.iter().map(|&at| convert_at(at, false)).collect::<Result<_>>()?;
        let keys: Vec<ArrayRef> = self.partition_at.iter().map(|&at| convert_at(at, true)).collect::<Result<_>>()?;
        Ok((assemble(&self.data, data, batch.num_rows()).map_err(|cause| error::bad_batch(table, cause))?, keys))
    }
}

/// Arrays as a batch. Their types may differ from the schema's in ways the file writer does not mind (views, dictionaries).
fn assemble(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let exact = schema.fields().iter().zip(&arrays).all(|(field, array)| field.data_type() == array.data_type());
    let schema = if exact {
        schema.clone()
    } else {
        let fields = schema.fields().iter().zip(&arrays);
        Arc::new(Schema::new(fields.map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true)).collect::<Fields>()))
    };
    RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// Equal, whatever may be NULL in them.
fn same_type(one: &DeltaType, other: &DeltaType) -> bool {
    match (one, other) {
        (DeltaType::Array(one), DeltaType::Array(other)) => same_type(one.element_type(), other.element_type()),
        (DeltaType::Map(one), DeltaType::Map(other)) => same_type(one.key_type(), other.key_type()) && same_type(one.value_type(), other.value_type()),
        (DeltaType::Struct(one), DeltaType::Struct(other)) => {
            one.fields().count() == other.fields().count()
                && one.fields().zip(other.fields()).all(|(one, other)| one.name() == other.name() && same_type(one.data_type(), other.data_type()))
        }
        // A table of another writer may say timestamp_ntz; our files hold the instant in UTC.
        (DeltaType::Primitive(PrimitiveType::TimestampNtz), DeltaType::Primitive(PrimitiveType::Timestamp)) => false,
        (one, other) => one == other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// The array as `target`; `exact` also where the file writer would take another flavour of the same values.
pub(crate) fn convert(array: &ArrayRef, target: &DataType, exact: bool) -> Result<ArrayRef, ArrowError> {
    let source = array.data_type();
    if source == target {
        return Ok(array.clone());
    }
    if !exact {
        let values = if let DataType::Dictionary(_, values) = source { values } else { source };
        if (is_text(values) && is_text(target)) || (is_bytes(values) && is_bytes(target)) {
            return Ok(array.clone());
        }
    }
    match (source, target) {
        (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(TimeUnit::Microsecond, Some(zone))) => {
            Ok(Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(zone.clone())))
        }
        (DataType::List(_), DataType::List(item)) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, convert(&values, item.data_type(), true)?, nulls)?))
        }
        (DataType::LargeList(_), DataType::LargeList(item)) => {
            let (_, offsets, values, nulls) = array.as_list::<i64>().clone().into_parts();
            Ok(Arc::new(LargeListArray::try_new(item.clone(), offsets, convert(&values, item.data_type(), true)?, nulls)?))
        }
        (DataType::Struct(from), DataType::Struct(to)) if from.len() == to.len() => Ok(Arc::new(convert_struct(array.as_struct(), to)?)),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(ArrowError::SchemaError("a map without entries".into())) };
            let (_, offsets, rows, nulls, _) = array.as_map().clone().into_parts();
            Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, convert_struct(&rows, pair)?, nulls, *sorted)?))
        }
        // Unsafe in Arrow's words: a value that does not fit is an error and not a NULL.
        _ => cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

fn convert_struct(array: &StructArray, to: &Fields) -> Result<StructArray, ArrowError> {
    let (_, columns, nulls) = array.clone().into_parts();
    let columns = columns.iter().zip(to).map(|(column, field)| convert(column, field.data_type(), true)).collect::<Result<_, _>>()?;
    StructArray::try_new(to.clone(), columns, nulls)
}
