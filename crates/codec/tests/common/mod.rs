//! What the tests share: columns, chunks, and decoding in one line.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use watershed_codec::{ColumnSpec, Decoded, Decoder, Format, Scratch};
use watershed_ports::{Framing, RawChunk};
use watershed_types::Reason;

pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

pub fn column(name: &str, data_type: DataType, nullable: bool) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), data_type, nullable }
}

pub fn map_of(value: DataType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8View, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

pub fn list_of(item: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, nullable)))
}

pub fn chunk(bytes: impl Into<Vec<u8>>, framing: Framing) -> RawChunk {
    let bytes = Bytes::from(bytes.into());
    RawChunk {
        partition: "0".into(),
        stretch: "f".into(),
        offset: 0,
        end_offset: bytes.len() as u64,
        record: 0,
        byte_positions: true,
        ingested_at: 0,
        framing,
        bytes,
        header: false,
        facts: None,
        lost: 0,
        skipped: 0,
    }
}

pub fn lines(text: impl Into<Vec<u8>>) -> RawChunk {
    chunk(text, Framing::Lines)
}

pub fn single(bytes: impl Into<Vec<u8>>) -> RawChunk {
    let bytes = bytes.into();
    let ranges = Framing::Ranges(vec![(0, bytes.len() as u32)].into());
    chunk(bytes, ranges)
}

pub fn decode(columns: Vec<ColumnSpec>, format: Format, chunk: &RawChunk) -> Decoded {
    let decoder = Decoder::new(columns, format).expect("supported columns");
    let decoded = decoder.decode(chunk, &mut Scratch::default()).expect("a chunk that keeps its contract");
    assert_eq!(decoded.rows.len(), decoded.batch.num_rows());
    assert_eq!(decoded.records.len(), decoded.rows.len() + decoded.refused.len(), "I1");
    decoded.batch.columns().iter().for_each(|column| column.to_data().validate_full().expect("valid arrays"));
    decoded
}

/// The only refusal.
pub fn refusal(columns: Vec<ColumnSpec>, record: impl Into<Vec<u8>>) -> (Reason, String) {
    let mut decoded = decode(columns, Format::Json, &single(record));
    let refused = decoded.refused.pop().expect("the record is refused");
    (refused.reason, refused.detail)
}

/// Every row as text, cells joined by `|`.
pub fn show(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("formattable")).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}
