//! Builders to Arrow arrays.
//!
//! **Owns** the conversion, which leaves the builder empty. **Does not own** what the values mean.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BinaryViewBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray,
    StringViewArray, StringViewBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;

use super::{Builder, SIDE, Span, Values};

/// What spans point into.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    /// The chunk, if all of it is UTF-8.
    pub(crate) whole: Option<&'a str>,
    pub(crate) bytes: &'a [u8],
    pub(crate) side: &'a str,
}

impl<'a> Text<'a> {
    #[inline]
    fn get(&self, span: Span) -> &'a str {
        let start = (span.start & !SIDE) as usize;
        let range = start..start + span.length as usize;
        let found = match self.whole {
            _ if span.start & SIDE != 0 => self.side.get(range),
            Some(whole) => whole.get(range),
            None => std::str::from_utf8(&self.bytes[range]).ok(),
        };
        found.expect("spans of accepted records are whole characters")
    }
}

impl Builder {
    /// Turns the rows into an array and empties the builder.
    pub(crate) fn finish(&mut self, data_type: &DataType, text: Text<'_>) -> Result<ArrayRef, ArrowError> {
        let rows = self.len();
        if let Values::String(spans) = &mut self.values {
            let array = strings(spans, &self.nulls, text);
            spans.clear();
            self.nulls.clear();
            return Ok(Arc::new(array));
        }
        let nulls = null_buffer(&mut self.nulls, rows);
        Ok(match &mut self.values {
            Values::Boolean(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(v)), nulls)),
            Values::Int16(v) => Arc::new(Int16Array::new(take(v), nulls)),
            Values::Int32(v) => Arc::new(Int32Array::new(take(v), nulls)),
            Values::Int64(v) => Arc::new(Int64Array::new(take(v), nulls)),
            Values::Float32(v) => Arc::new(Float32Array::new(take(v), nulls)),
            Values::Float64(v) => Arc::new(Float64Array::new(take(v), nulls)),
            Values::Date(v) => Arc::new(Date32Array::new(take(v), nulls)),
            Values::Decimal(v) => Arc::new(Decimal128Array::new(take(v), nulls).with_data_type(data_type.clone())),
            Values::Timestamp(v) => Arc::new(TimestampMicrosecondArray::new(take(v), nulls).with_data_type(data_type.clone())),
            Values::String(_) => unreachable!("finished above"),
            Values::Binary { bytes, ends } => Arc::new(binaries(bytes, ends, nulls)),
            Values::List { offsets, item } => {
                let field = child(data_type)?;
                let items = item.finish(field.data_type(), text)?;
                Arc::new(ListArray::try_new(field.clone(), take_offsets(offsets), items, nulls)?)
            }
            Values::Map { offsets, keys, value } => {
                let field = child(data_type)?;
                let DataType::Struct(pair) = field.data_type() else { return Err(foreign(data_type)) };
                let key_array = strings(keys, &[], text);
                keys.clear();
                let columns = vec![Arc::new(key_array) as ArrayRef, value.finish(pair[1].data_type(), text)?];
                let entries = StructArray::try_new(pair.clone(), columns, None)?;
                Arc::new(MapArray::try_new(field.clone(), take_offsets(offsets), entries, nulls, false)?)
            }
            Values::Struct { rows, fields } => {
                let DataType::Struct(types) = data_type else { return Err(foreign(data_type)) };
                let finished: Result<Vec<ArrayRef>, ArrowError> =
                    fields.iter_mut().zip(types).map(|(field, spec): (&mut Builder, &Arc<Field>)| field.finish(spec.data_type(), text)).collect();
                let array = StructArray::try_new_with_length(types.clone(), finished?, nulls, *rows)?;
                *rows = 0;
                Arc::new(array)
            }
        })
    }
}

/// Takes the values and leaves room for about as many again.
fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let room = Vec::with_capacity(values.len() + values.len() / 16);
    ScalarBuffer::from(std::mem::replace(values, room))
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut room = Vec::with_capacity(offsets.len() + offsets.len() / 16);
    room.push(0);
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, room)))
}

fn null_buffer(nulls: &mut Vec<u32>, rows: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; rows];
    for row in nulls.drain(..) {
        valid[row as usize] = false;
    }
    Some(NullBuffer::from(valid))
}

/// One pass over a column: short strings go into their view, long ones side by side into one block.
fn strings(spans: &[Span], nulls: &[u32], text: Text<'_>) -> StringViewArray {
    let long: u64 = spans.iter().map(|span| if span.length > 12 { u64::from(span.length) } else { 0 }).sum();
    let block = long.clamp(1, 1 << 30) as u32;
    let mut builder = StringViewBuilder::with_capacity(spans.len()).with_fixed_block_size(block);
    let mut at = 0;
    for &null in nulls {
        spans[at..null as usize].iter().for_each(|span| builder.append_value(text.get(*span)));
        builder.append_null();
        at = null as usize + 1;
    }
    spans[at..].iter().for_each(|span| builder.append_value(text.get(*span)));
    builder.finish()
}

fn binaries(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, nulls: Option<NullBuffer>) -> BinaryViewArray {
    let mut builder = BinaryViewBuilder::with_capacity(ends.len());
    let mut start = 0;
    for (row, end) in ends.iter().enumerate() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            builder.append_null();
        } else {
            builder.append_value(&bytes[start..*end]);
        }
        start = *end;
    }
    bytes.clear();
    ends.clear();
    builder.finish()
}

fn child(data_type: &DataType) -> Result<&FieldRef, ArrowError> {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => Ok(field),
        other => Err(foreign(other)),
    }
}

fn foreign(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("builder does not match {data_type}"))
}
