//! Columns under construction.
//!
//! **Owns** the values of the rows accepted so far, nested ones too. **Does not own** their meaning.
//!
//! I1: a builder can forget everything after row `n` ([`Builder::truncate`]), at any depth; that is how a refused
//! record leaves no trace.
//! I2: strings are kept as spans of the chunk, or of `side` where they had to be unescaped, and become an array once
//! per chunk, column by column.
//! I3: NULLs are a sorted list of rows; a column without NULLs pays nothing for being nullable.

mod finish;

pub(crate) use finish::Text;

use crate::column::{Kind, Node};

/// A string of the chunk or of the side buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    /// The start; the top bit is set for the side buffer. Chunks are at most 2 GiB.
    start: u32,
    length: u32,
}

const SIDE: u32 = 1 << 31;

impl Span {
    /// Bytes `start..end` of the chunk.
    #[inline]
    pub(crate) fn raw(start: u32, end: u32) -> Self {
        Self { start, length: end - start }
    }
    /// Bytes `start..end` of the side buffer.
    pub(crate) fn side(start: usize, end: usize) -> Self {
        Self { start: start as u32 | SIDE, length: (end - start) as u32 }
    }
    /// The start and end of a span of the chunk.
    #[inline]
    pub(crate) fn range(self) -> (usize, usize) {
        (self.start as usize, self.start as usize + self.length as usize)
    }
    /// The bytes, given a record that starts at `base` of the chunk.
    #[inline]
    pub(crate) fn within<'a>(self, record: &'a [u8], base: u32, side: &'a str) -> &'a [u8] {
        let length = self.length as usize;
        if self.start & SIDE == 0 {
            let start = (self.start - base) as usize;
            &record[start..start + length]
        } else {
            let start = (self.start & !SIDE) as usize;
            &side.as_bytes()[start..start + length]
        }
    }
}

/// The values of a column; a NULL row holds a placeholder.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(Vec<bool>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    String(Vec<Span>),
    Binary { bytes: Vec<u8>, ends: Vec<usize> },
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    List { offsets: Vec<i32>, item: Box<Builder> },
    Map { offsets: Vec<i32>, keys: Vec<Span>, value: Box<Builder> },
    Struct { rows: usize, fields: Vec<Builder> },
}

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Builder {
    /// The rows that are NULL, ascending.
    nulls: Vec<u32>,
    pub(crate) values: Values,
}

impl Builder {
    /// An empty column of this type.
    pub(crate) fn new(node: &Node) -> Self {
        let values = match &node.kind {
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Int16 => Values::Int16(Vec::new()),
            Kind::Int32 => Values::Int32(Vec::new()),
            Kind::Int64 => Values::Int64(Vec::new()),
            Kind::Float32 => Values::Float32(Vec::new()),
            Kind::Float64 => Values::Float64(Vec::new()),
            Kind::Decimal { .. } => Values::Decimal(Vec::new()),
            Kind::String => Values::String(Vec::new()),
            Kind::Binary => Values::Binary { bytes: Vec::new(), ends: Vec::new() },
            Kind::Date => Values::Date(Vec::new()),
            Kind::Timestamp => Values::Timestamp(Vec::new()),
            Kind::List(item) => Values::List { offsets: vec![0], item: Box::new(Builder::new(item)) },
            Kind::Map(value) => Values::Map { offsets: vec![0], keys: Vec::new(), value: Box::new(Builder::new(value)) },
            Kind::Struct(fields) => Values::Struct { rows: 0, fields: fields.nodes.iter().map(Builder::new).collect() },
        };
        Self { nulls: Vec::new(), values }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(v) => v.len(),
            Values::Int16(v) => v.len(),
            Values::Int32(v) | Values::Date(v) => v.len(),
            Values::Int64(v) | Values::Timestamp(v) => v.len(),
            Values::Float32(v) => v.len(),
            Values::Float64(v) => v.len(),
            Values::Decimal(v) => v.len(),
            Values::String(v) => v.len(),
            Values::Binary { ends, .. } => ends.len(),
            Values::List { offsets, .. } | Values::Map { offsets, .. } => offsets.len() - 1,
            Values::Struct { rows, .. } => *rows,
        }
    }

    /// Adds a NULL.
    pub(crate) fn push_null(&mut self) {
        self.nulls.push(self.len() as u32);
        match &mut self.values {
            Values::Boolean(v) => v.push(false),
            Values::Int16(v) => v.push(0),
            Values::Int32(v) | Values::Date(v) => v.push(0),
            Values::Int64(v) | Values::Timestamp(v) => v.push(0),
            Values::Float32(v) => v.push(0.0),
            Values::Float64(v) => v.push(0.0),
            Values::Decimal(v) => v.push(0),
            Values::String(v) => v.push(Span::default()),
            Values::Binary { bytes, ends } => ends.push(bytes.len()),
            Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                let last = offsets[offsets.len() - 1];
                offsets.push(last);
            }
            Values::Struct { rows, fields } => {
                *rows += 1;
                fields.iter_mut().for_each(Builder::push_null);
            }
        }
    }

    /// Forgets every row from `rows` on (I1).
    pub(crate) fn truncate(&mut self, rows: usize) {
        while self.nulls.last().is_some_and(|row| *row as usize >= rows) {
            self.nulls.pop();
        }
        match &mut self.values {
            Values::Boolean(v) => v.truncate(rows),
            Values::Int16(v) => v.truncate(rows),
            Values::Int32(v) | Values::Date(v) => v.truncate(rows),
            Values::Int64(v) | Values::Timestamp(v) => v.truncate(rows),
            Values::Float32(v) => v.truncate(rows),
            Values::Float64(v) => v.truncate(rows),
            Values::Decimal(v) => v.truncate(rows),
            Values::String(v) => v.truncate(rows),
            Values::Binary { bytes, ends } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::List { offsets, item } => {
                offsets.truncate(rows + 1);
                item.truncate(offsets[offsets.len() - 1] as usize);
            }
            Values::Map { offsets, keys, value } => {
                offsets.truncate(rows + 1);
                let entries = offsets[offsets.len() - 1] as usize;
                keys.truncate(entries);
                value.truncate(entries);
            }
            Values::Struct { rows: count, fields } => {
                *count = rows.min(*count);
                fields.iter_mut().for_each(|field| field.truncate(rows));
            }
        }
    }
}
