//! Values in Postgres' binary form into Arrow columns.
//!
//! **Owns** the binary form of every type that is read. **Does not own** where the bytes come from.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, RecordBatch,
    RecordBatchOptions, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Schema, SchemaRef};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use watershed_types::{Error, Result};

use super::column::{ReadColumn, Scalar};

/// Postgres counts from 2000-01-01.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

/// A value as it came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Rows of some columns on their way into a batch.
pub struct Decoder {
    columns: Vec<ReadColumn>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
}

struct Builder {
    cells: Cells,
    lists: Option<Lists>,
}

/// Where lists begin and end among the cells.
#[derive(Default)]
struct Lists {
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

enum Cells {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, i8),
    Text(StringBuilder),
    Uuid(StringBuilder),
    Jsonb(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// Why a value has no form in Arrow.
type Unfit = &'static str;

const SHORT: Unfit = "a value of another width than its type has";

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], Unfit> {
    raw.try_into().map_err(|_| SHORT)
}

fn text(raw: &[u8]) -> Result<&str, Unfit> {
    std::str::from_utf8(raw).map_err(|_| "text that is not UTF-8")
}

fn uuid(raw: &[u8]) -> Result<String, Unfit> {
    let bytes: [u8; 16] = fixed(raw)?;
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    Ok(out)
}

/// Digits of base 10,000 as a whole number of 10^-scale.
fn numeric(raw: &[u8], scale: i8) -> Result<i128, Unfit> {
    let word = |i: usize| -> Result<i16, Unfit> { Ok(i16::from_be_bytes(fixed(raw.get(2 * i..2 * i + 2).ok_or(SHORT)?)?)) };
    let (digits, weight, sign) = (word(0)?, i32::from(word(1)?), word(2)? as u16);
    if sign != 0 && sign != 0x4000 {
        return Err("NaN or an infinity, which decimals do not have");
    }
    let wide = "more digits than its type has";
    let mut value = 0i128;
    for place in 0..digits {
        let digit = i128::from(word(4 + place as usize)?);
        let power = 4 * (weight - i32::from(place)) + i32::from(scale);
        let part = if power >= 0 {
            10i128.checked_pow(power as u32).and_then(|ten| digit.checked_mul(ten)).ok_or(wide)?
        } else {
            let ten = 10i128.checked_pow(power.unsigned_abs()).ok_or(wide)?;
            if digit % ten != 0 {
                return Err(wide);
            }
            digit / ten
        };
        value = value.checked_add(part).ok_or(wide)?;
    }
    Ok(if sign == 0 { value } else { -value })
}

impl Cells {
    fn new(scalar: Scalar) -> Cells {
        match scalar {
            Scalar::Bool => Cells::Bool(BooleanBuilder::new()),
            Scalar::Int2 => Cells::Int2(Int16Builder::new()),
            Scalar::Int4 => Cells::Int4(Int32Builder::new()),
            Scalar::Int8 => Cells::Int8(Int64Builder::new()),
            Scalar::Float4 => Cells::Float4(Float32Builder::new()),
            Scalar::Float8 => Cells::Float8(Float64Builder::new()),
            Scalar::Numeric(precision, scale) => {
                let made = Decimal128Builder::new().with_data_type(arrow::datatypes::DataType::Decimal128(precision, scale));
                Cells::Numeric(made, scale)
            }
            Scalar::Text => Cells::Text(StringBuilder::new()),
            Scalar::Uuid => Cells::Uuid(StringBuilder::new()),
            Scalar::Jsonb => Cells::Jsonb(StringBuilder::new()),
            Scalar::Bytea => Cells::Bytea(BinaryBuilder::new()),
            Scalar::Date => Cells::Date(Date32Builder::new()),
            Scalar::Time => Cells::Time(Time64MicrosecondBuilder::new()),
            Scalar::Timestamp => Cells::Timestamp(TimestampMicrosecondBuilder::new()),
            Scalar::TimestampTz => Cells::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    fn put(&mut self, raw: Option<&[u8]>) -> Result<(), Unfit> {
        macro_rules! put {
            ($builder:expr, $value:expr) => {
                match raw {
                    Some(raw) => {
                        let value = $value(raw)?;
                        $builder.append_value(value)
                    }
                    None => $builder.append_null(),
                }
            };
        }
        match self {
            Cells::Bool(b) => put!(b, |raw| Ok::<_, Unfit>(fixed::<1>(raw)?[0] != 0)),
            Cells::Int2(b) => put!(b, |raw| fixed(raw).map(i16::from_be_bytes)),
            Cells::Int4(b) => put!(b, |raw| fixed(raw).map(i32::from_be_bytes)),
            Cells::Int8(b) => put!(b, |raw| fixed(raw).map(i64::from_be_bytes)),
            Cells::Float4(b) => put!(b, |raw| fixed(raw).map(f32::from_be_bytes)),
            Cells::Float8(b) => put!(b, |raw| fixed(raw).map(f64::from_be_bytes)),
            Cells::Numeric(b, scale) => put!(b, |raw| numeric(raw, *scale)),
            Cells::Text(b) => put!(b, text),
            Cells::Uuid(b) => put!(b, uuid),
            Cells::Jsonb(b) => put!(b, |raw: &[u8]| match raw {
                [1, rest @ ..] => text(rest).map(str::to_owned),
                _ => Err("jsonb of a version that is not known"),
            }),
            Cells::Bytea(b) => put!(b, |raw: &[u8]| Ok::<_, Unfit>(raw.to_vec())),
            Cells::Date(b) => put!(b, |raw| match i32::from_be_bytes(fixed(raw)?) {
                i32::MIN | i32::MAX => Err("an infinite date"),
                days => days.checked_add(DAYS_TO_2000).ok_or("a date out of range"),
            }),
            Cells::Time(b) => put!(b, |raw| fixed(raw).map(i64::from_be_bytes)),
            Cells::Timestamp(b) => put!(b, |raw| match i64::from_be_bytes(fixed(raw)?) {
                i64::MIN | i64::MAX => Err("an infinite timestamp"),
                micros => micros.checked_add(MICROS_TO_2000).ok_or("a timestamp out of range"),
            }),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Bool(b) => Arc::new(b.finish()),
            Cells::Int2(b) => Arc::new(b.finish()),
            Cells::Int4(b) => Arc::new(b.finish()),
            Cells::Int8(b) => Arc::new(b.finish()),
            Cells::Float4(b) => Arc::new(b.finish()),
            Cells::Float8(b) => Arc::new(b.finish()),
            Cells::Numeric(b, _) => Arc::new(b.finish()),
            Cells::Text(b) | Cells::Uuid(b) | Cells::Jsonb(b) => Arc::new(b.finish()),
            Cells::Bytea(b) => Arc::new(b.finish()),
            Cells::Date(b) => Arc::new(b.finish()),
            Cells::Time(b) => Arc::new(b.finish()),
            Cells::Timestamp(b) => Arc::new(b.finish()),
        }
    }
}

/// The elements of an array of one dimension; none for an empty one.
fn elements(raw: &[u8]) -> Result<Vec<Option<&[u8]>>, Unfit> {
    let word = |at: usize| -> Result<i32, Unfit> { Ok(i32::from_be_bytes(fixed(raw.get(at..at + 4).ok_or(SHORT)?)?)) };
    match word(0)? {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => return Err("an array of more than one dimension"),
    }
    let count = usize::try_from(word(12)?).map_err(|_| SHORT)?;
    let mut found = Vec::with_capacity(count.min(raw.len() / 4));
    let mut at = 20;
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        match usize::try_from(length) {
            Err(_) => found.push(None),
            Ok(length) => {
                found.push(Some(raw.get(at..at + length).ok_or(SHORT)?));
                at += length;
            }
        }
    }
    Ok(found)
}

impl Builder {
    fn new(column: &ReadColumn) -> Builder {
        Builder { cells: Cells::new(column.scalar), lists: column.list.then(Lists::default) }
    }

    fn put(&mut self, raw: Option<&[u8]>) -> Result<(), Unfit> {
        let Some(lists) = &mut self.lists else { return self.cells.put(raw) };
        lists.valid.push(raw.is_some());
        let elements = raw.map_or_else(|| Ok(Vec::new()), elements)?;
        lists.lengths.push(elements.len());
        elements.into_iter().try_for_each(|element| self.cells.put(element))
    }

    fn finish(&mut self, field: &Field) -> Result<ArrayRef, arrow::error::ArrowError> {
        let cells = self.cells.finish();
        let (Some(lists), arrow::datatypes::DataType::List(item)) = (&mut self.lists, field.data_type()) else { return Ok(cells) };
        let (lengths, valid) = (std::mem::take(&mut lists.lengths), std::mem::take(&mut lists.valid));
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), cells, Some(NullBuffer::from(valid)))?))
    }
}

impl Decoder {
    /// For rows of these columns, in this order.
    pub fn new(columns: Vec<ReadColumn>) -> Decoder {
        let schema = Arc::new(Schema::new(columns.iter().map(ReadColumn::field).collect::<Vec<_>>()));
        let builders = columns.iter().map(Builder::new).collect();
        Decoder { columns, schema, builders, rows: 0 }
    }

    /// The batches' columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes the first columns of a row; more may follow them. Errors: `PG0032` for a value Arrow has no form for.
    pub fn put(&mut self, table: &str, row: &Row) -> Result<()> {
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let raw = row.try_get::<_, Option<Raw<'_>>>(index).map_err(|cause| unfit(table, &self.columns[index], &cause.to_string()))?;
            builder.put(raw.map(|raw| raw.0)).map_err(|what| unfit(table, &self.columns[index], what))?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows taken since the last batch.
    pub fn batch(&mut self) -> Result<RecordBatch> {
        let fields = self.schema.fields();
        let arrays = self.builders.iter_mut().zip(fields).map(|(builder, field)| builder.finish(field)).collect::<Result<Vec<_>, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options))
            .map_err(|cause| Error::internal("PG0033", "rows of a warehouse table do not make a batch").hint("Please report this.").caused_by(cause))
    }
}

fn unfit(table: &str, column: &ReadColumn, what: &str) -> Error {
    let (name, shown) = (&column.name, &column.shown);
    Error::invalid("PG0032", format!("table \"{table}\": column \"{name}\" ({shown}) holds {what}"))
        .hint(format!("Leave the column out, or read it through a view there that casts it: \"{name}\"::text."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_written_are_numerics_read() {
        for scale in 0..=38u8 {
            for value in [0, 1, 9_999, 10_000, 10_001, 123_456_789, u64::MAX.into(), 10i128.pow(37), 10i128.pow(38) - 1] {
                for value in [value, -value] {
                    let mut bytes = Vec::new();
                    crate::numeric::put(&mut bytes, value, scale);
                    assert_eq!(numeric(&bytes[4..], scale as i8), Ok(value), "{value} at scale {scale}");
                }
            }
        }
        assert!(numeric(&[0, 0, 0, 0, 0xc0, 0, 0, 0], 2).is_err(), "NaN");
        assert!(numeric(&[0, 1], 2).is_err(), "cut short");
    }
}
