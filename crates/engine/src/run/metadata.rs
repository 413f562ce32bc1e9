//! Metadata columns: what a source knows about a record besides its value.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, MapFieldNames, StringViewBuilder, TimestampMicrosecondArray};
use watershed_ports::RecordFacts;
use watershed_sql::MetadataColumn;

use crate::operator::Origin;

/// One metadata column for the accepted rows of a chunk. Its type is [`MetadataColumn::data_type`].
pub fn column(kind: MetadataColumn, rows: usize, origin: &Origin, source: &str) -> ArrayRef {
    let none = RecordFacts::default();
    let facts = origin.chunk.facts.as_deref().unwrap_or(&none);
    let record = |row: usize| origin.record_of[row] as usize;
    match kind {
        MetadataColumn::IngestTime => Arc::new(TimestampMicrosecondArray::from(vec![origin.chunk.ingested_at; rows])),
        MetadataColumn::Partition => texts(rows, |_| Some(origin.chunk.partition.to_string())),
        MetadataColumn::Source => texts(rows, |_| Some(source.to_owned())),
        MetadataColumn::Position => texts(rows, |row| Some(origin.position(origin.record_of[row]))),
        MetadataColumn::Topic => texts(rows, |_| facts.topic.as_deref().map(str::to_owned)),
        MetadataColumn::Key => texts(rows, |row| facts.keys.get(record(row)).copied().flatten().map(|span| readable(slice(origin, span)))),
        MetadataColumn::Timestamp => {
            let of = |row: usize| facts.timestamps.get(record(row)).copied().filter(|at| *at != i64::MIN);
            Arc::new((0..rows).map(of).collect::<TimestampMicrosecondArray>())
        }
        MetadataColumn::Headers => headers(rows, origin, facts),
    }
}

fn headers(rows: usize, origin: &Origin, facts: &RecordFacts) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut builder = MapBuilder::new(Some(names), StringViewBuilder::new(), StringViewBuilder::new());
    for row in 0..rows {
        let (start, end) = facts.headers.get(origin.record_of[row] as usize).copied().unwrap_or_default();
        let items = &facts.header_items[start as usize..end as usize];
        for (index, item) in items.iter().enumerate() {
            let name = slice(origin, item.name);
            if items[index + 1..].iter().any(|later| slice(origin, later.name) == name) {
                continue;
            }
            builder.keys().append_value(readable(name));
            builder.values().append_option(item.value.map(|span| readable(slice(origin, span))));
        }
        // Keys and values were appended in pairs.
        let _ = builder.append(true);
    }
    Arc::new(builder.finish())
}

fn slice(origin: &Origin, (start, end): (u32, u32)) -> &[u8] {
    &origin.chunk.bytes[start as usize..end as usize]
}

/// Bytes as text: UTF-8 as it is, anything else as Postgres writes `bytea`.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("\\x{}", super::encode_hex(bytes)),
    }
}

fn texts(rows: usize, text: impl Fn(usize) -> Option<String>) -> ArrayRef {
    let mut builder = StringViewBuilder::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(text(row));
    }
    Arc::new(builder.finish())
}
