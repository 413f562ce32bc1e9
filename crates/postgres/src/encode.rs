//! Rows as the tuples of a binary `COPY`.
//!
//! **Owns** the binary form of every type. **Does not own** the frames, or which rows go where.
//!
//! Columns are looked up once per batch; a value costs a branch and a copy, and no allocation.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use watershed_types::Result;

use crate::columns::{Column, Columns, Wire};
use crate::error::unfit_rows;
use crate::{json, numeric};

/// How a binary `COPY` begins: signature, flags, no extension.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// How it ends.
pub const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// Postgres counts from 2000-01-01.
const DAYS_TO_2000: i64 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 * 86_400_000_000;
/// 4714-11-24 BC, the first day Postgres knows, to 294276-12-31 for timestamps and 5874897-12-31 for dates; from 2000.
const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
const DAYS: std::ops::Range<i64> = -2_451_545..2_145_031_949;

/// Why a row is not sent at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The column.
    pub column: String,
    /// What it holds that Postgres does not take; never the value.
    pub reason: &'static str,
}

impl Refusal {
    /// For the quarantine.
    pub fn detail(&self) -> String {
        format!("column \"{}\" holds {}", self.column, self.reason)
    }
}

/// Encodes the rows of one batch.
pub struct Encoder<'a> {
    cells: Vec<Cell<'a>>,
    delete: Option<&'a BooleanArray>,
}

struct Cell<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    column: &'a Column,
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal(&'a [i128], u8),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Bytes(&'a BinaryArray),
    LargeBytes(&'a LargeBinaryArray),
    BytesView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
    Date(&'a [i32]),
    /// With the microseconds of one unit.
    Time32(&'a [i32], i64),
    Time(&'a [i64]),
    Timestamp(&'a [i64], i64),
    Nested(&'a ArrayRef),
}

fn slice<T: ArrowPrimitiveType>(array: &ArrayRef) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

fn values(array: &ArrayRef) -> Option<Values<'_>> {
    Some(match array.data_type() {
        DataType::Boolean => Values::Bool(array.as_boolean()),
        DataType::Int8 => Values::I8(slice::<Int8Type>(array)),
        DataType::Int16 => Values::I16(slice::<Int16Type>(array)),
        DataType::Int32 => Values::I32(slice::<Int32Type>(array)),
        DataType::Int64 => Values::I64(slice::<Int64Type>(array)),
        DataType::UInt8 => Values::U8(slice::<UInt8Type>(array)),
        DataType::UInt16 => Values::U16(slice::<UInt16Type>(array)),
        DataType::UInt32 => Values::U32(slice::<UInt32Type>(array)),
        DataType::UInt64 => Values::U64(slice::<UInt64Type>(array)),
        DataType::Float32 => Values::F32(slice::<Float32Type>(array)),
        DataType::Float64 => Values::F64(slice::<Float64Type>(array)),
        DataType::Decimal128(_, scale) => Values::Decimal(slice::<Decimal128Type>(array), u8::try_from(*scale).ok()?),
        DataType::Utf8 => Values::Text(array.as_string()),
        DataType::LargeUtf8 => Values::LargeText(array.as_string()),
        DataType::Utf8View => Values::TextView(array.as_string_view()),
        DataType::Binary => Values::Bytes(array.as_binary()),
        DataType::LargeBinary => Values::LargeBytes(array.as_binary()),
        DataType::BinaryView => Values::BytesView(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary()),
        DataType::Date32 => Values::Date(slice::<Date32Type>(array)),
        DataType::Time32(TimeUnit::Second) => Values::Time32(slice::<Time32SecondType>(array), 1_000_000),
        DataType::Time32(_) => Values::Time32(slice::<Time32MillisecondType>(array), 1_000),
        DataType::Time64(TimeUnit::Microsecond) => Values::Time(slice::<Time64MicrosecondType>(array)),
        DataType::Timestamp(TimeUnit::Second, _) => Values::Timestamp(slice::<TimestampSecondType>(array), 1_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Values::Timestamp(slice::<TimestampMillisecondType>(array), 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(slice::<TimestampMicrosecondType>(array), 1),
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) => Values::Nested(array),
        _ => return None,
    })
}

impl<'a> Encoder<'a> {
    /// Looks the columns up. `batch` has the pipeline's columns, dictionaries unpacked. Errors: `PG0014` if it has not.
    pub fn new(sink: &str, columns: &'a Columns, batch: &'a RecordBatch) -> Result<Self> {
        if batch.num_columns() != columns.width {
            return Err(unfit_rows(sink, format!("{} columns instead of {}", batch.num_columns(), columns.width)));
        }
        let mut cells = Vec::with_capacity(columns.list.len());
        for column in &columns.list {
            let array = batch.column(column.index);
            let unfit = || unfit_rows(sink, format!("column \"{}\" is {} instead of {}", column.name, array.data_type(), column.data_type));
            if !array.data_type().equals_datatype(&column.data_type) {
                return Err(unfit());
            }
            cells.push(Cell { values: values(array).ok_or_else(unfit)?, nulls: array.nulls(), column });
        }
        let delete = match columns.delete {
            Some(index) => Some(batch.column(index).as_boolean_opt().ok_or_else(|| unfit_rows(sink, "the delete column is not boolean"))?),
            None => None,
        };
        Ok(Self { cells, delete })
    }

    /// Whether a row deletes its key.
    pub fn deletes(&self, row: usize) -> bool {
        self.delete.is_some_and(|delete| !delete.is_null(row) && delete.value(row))
    }

    /// Appends a row's tuple, or nothing if it is refused.
    pub fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.put_columns(row, self.cells.len() as i16, out)
    }

    /// The same with the row's ordinal and whether it deletes its key as two more columns.
    pub fn put_staged(&self, row: usize, ordinal: u64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.put_columns(row, self.cells.len() as i16 + 2, out)?;
        fixed(out, (ordinal as i64).to_be_bytes());
        fixed(out, [u8::from(self.deletes(row))]);
        Ok(())
    }

    fn put_columns(&self, row: usize, fields: i16, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let from = out.len();
        out.extend_from_slice(&fields.to_be_bytes());
        for cell in &self.cells {
            let put = match cell.nulls {
                Some(nulls) if nulls.is_null(row) => {
                    out.extend_from_slice(&(-1i32).to_be_bytes());
                    if cell.column.key { Err("NULL, and it is part of the key") } else { Ok(()) }
                }
                _ => cell.put(row, out),
            };
            if let Err(reason) = put {
                out.truncate(from);
                return Err(Refusal { column: cell.column.name.clone(), reason });
            }
        }
        Ok(())
    }
}

/// Appends a column's values as elements of an array, length and bytes each. What Postgres does not hold cannot be found there
/// either, and is NULL.
pub(crate) fn elements(owner: &str, column: &Column, array: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    let values = values(array).ok_or_else(|| unfit_rows(owner, format!("a key \"{}\" is {}", column.name, array.data_type())))?;
    let cell = Cell { values, nulls: array.nulls(), column };
    for row in 0..array.len() {
        let from = out.len();
        if cell.nulls.is_some_and(|nulls| nulls.is_null(row)) || cell.put(row, out).is_err() {
            out.truncate(from);
            out.extend_from_slice(&(-1i32).to_be_bytes());
        }
    }
    Ok(())
}

impl Cell<'_> {
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let wire = self.column.wire;
        match &self.values {
            Values::Bool(values) => fixed(out, [u8::from(values.value(row))]),
            Values::I8(values) => integer(out, wire, values[row].into()),
            Values::I16(values) => integer(out, wire, values[row].into()),
            Values::I32(values) => integer(out, wire, values[row].into()),
            Values::I64(values) => integer(out, wire, values[row]),
            Values::U8(values) => integer(out, wire, values[row].into()),
            Values::U16(values) => integer(out, wire, values[row].into()),
            Values::U32(values) => integer(out, wire, values[row].into()),
            Values::U64(values) => numeric::put(out, values[row].into(), 0),
            Values::F32(values) if wire == Wire::Float4 => fixed(out, values[row].to_be_bytes()),
            Values::F32(values) => fixed(out, f64::from(values[row]).to_be_bytes()),
            Values::F64(values) => fixed(out, values[row].to_be_bytes()),
            Values::Decimal(values, scale) => numeric::put(out, values[row], *scale),
            Values::Text(values) => return text(out, wire, values.value(row)),
            Values::LargeText(values) => return text(out, wire, values.value(row)),
            Values::TextView(values) => return text(out, wire, values.value(row)),
            Values::Bytes(values) => return variable(out, values.value(row)),
            Values::LargeBytes(values) => return variable(out, values.value(row)),
            Values::BytesView(values) => return variable(out, values.value(row)),
            Values::Fixed(values) => return variable(out, values.value(row)),
            Values::Date(values) => {
                let days = i64::from(values[row]) - DAYS_TO_2000;
                if !DAYS.contains(&days) {
                    return Err("a date that is out of Postgres' range");
                }
                fixed(out, (days as i32).to_be_bytes());
            }
            Values::Time32(values, unit) => return time(out, i64::from(values[row]) * unit),
            Values::Time(values) => return time(out, values[row]),
            Values::Timestamp(values, unit) => {
                let micros = values[row].checked_mul(*unit).and_then(|micros| micros.checked_sub(MICROS_TO_2000)).filter(|micros| MICROS.contains(micros));
                fixed(out, micros.ok_or("a timestamp that is out of Postgres' range")?.to_be_bytes());
            }
            Values::Nested(values) => {
                let from = out.len();
                out.extend_from_slice(&[0; 4]);
                if wire == Wire::Jsonb {
                    out.push(1);
                }
                json::value(out, values, row)?;
                let length = length(out.len() - from - 4)?;
                out[from..from + 4].copy_from_slice(&length);
            }
        }
        Ok(())
    }
}

/// Length and value at once: one bounds check and one copy.
fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    let mut bytes = [0u8; 12];
    bytes[..4].copy_from_slice(&(N as i32).to_be_bytes());
    bytes[4..4 + N].copy_from_slice(&value);
    out.extend_from_slice(&bytes[..4 + N]);
}

/// The wire is wide enough: `columns::accepts` saw to that.
fn integer(out: &mut Vec<u8>, wire: Wire, value: i64) {
    match wire {
        Wire::Int2 => fixed(out, (value as i16).to_be_bytes()),
        Wire::Int4 => fixed(out, (value as i32).to_be_bytes()),
        Wire::Numeric => numeric::put(out, value.into(), 0),
        _ => fixed(out, value.to_be_bytes()),
    }
}

fn length(length: usize) -> Result<[u8; 4], &'static str> {
    // The server holds a field in at most a gigabyte.
    match i32::try_from(length) {
        Ok(length) if length < 1 << 30 => Ok(length.to_be_bytes()),
        _ => Err("more than a gigabyte"),
    }
}

fn variable(out: &mut Vec<u8>, value: &[u8]) -> Result<(), &'static str> {
    out.extend_from_slice(&length(value.len())?);
    out.extend_from_slice(value);
    Ok(())
}

fn text(out: &mut Vec<u8>, wire: Wire, value: &str) -> Result<(), &'static str> {
    let bytes = value.as_bytes();
    if bytes.contains(&0) {
        return Err("text with a NUL byte (0x00), which Postgres cannot store");
    }
    match wire {
        Wire::Uuid => variable(out, &uuid(bytes).ok_or("text that is not a UUID")?),
        Wire::Jsonb => {
            out.extend_from_slice(&length(bytes.len() + 1)?);
            out.push(1);
            out.extend_from_slice(bytes);
            Ok(())
        }
        _ => variable(out, bytes),
    }
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text = text.strip_prefix(b"{").and_then(|inner| inner.strip_suffix(b"}")).unwrap_or(text);
    let mut uuid = [0u8; 16];
    let mut digits = 0;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        let digit = (*byte as char).to_digit(16)? as u8;
        *uuid.get_mut(digits / 2)? |= if digits % 2 == 0 { digit << 4 } else { digit };
        digits += 1;
    }
    (digits == 32).then_some(uuid)
}

fn time(out: &mut Vec<u8>, micros: i64) -> Result<(), &'static str> {
    if !(0..=86_400_000_000).contains(&micros) {
        return Err("a time of day that is out of range");
    }
    fixed(out, micros.to_be_bytes());
    Ok(())
}
