//! The ceiling: the same bytes decoded to Arrow columns on all cores, and nothing else.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::datatypes::{DataType, Field, TimeUnit};
use bytes::Bytes;
use watershed_codec::{ColumnSpec, Decoder, Format, Scratch};
use watershed_ports::{Framing, RawChunk};

/// What was measured.
pub struct Ceiling {
    pub rows_per_second: f64,
    pub cpu_per_million: f64,
}

fn columns() -> Vec<ColumnSpec> {
    let text = |name: &str, nullable| ColumnSpec { name: name.to_owned(), data_type: DataType::Utf8View, nullable };
    let entries = DataType::Struct(vec![Field::new("key", DataType::Utf8View, false), Field::new("value", DataType::Utf8View, true)].into());
    vec![
        text("transaction_id", false),
        text("customer_id", false),
        ColumnSpec { name: "amount".to_owned(), data_type: DataType::Decimal128(12, 2), nullable: false },
        text("currency", true),
        text("merchant", true),
        text("category", true),
        text("status", false),
        ColumnSpec { name: "timestamp".to_owned(), data_type: DataType::Timestamp(TimeUnit::Microsecond, None), nullable: false },
        ColumnSpec { name: "metadata".to_owned(), data_type: DataType::Map(Field::new("entries", entries, false).into(), false), nullable: true },
    ]
}

/// Reads every file of a folder into memory, then decodes it in chunks of about 2 MiB on `cores` threads.
pub fn decode(folder: &Path, cores: usize) -> std::io::Result<Ceiling> {
    let mut chunks = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let bytes = Bytes::from(std::fs::read(entry?.path())?);
        let mut start = 0;
        while start < bytes.len() {
            let limit = (start + (2 << 20)).min(bytes.len());
            let end = bytes[start..limit].iter().rposition(|b| *b == b'\n').map_or(bytes.len(), |at| start + at + 1);
            chunks.push(bytes.slice(start..end));
            start = end;
        }
    }
    let decoder = Decoder::new(columns(), Format::Json).map_err(std::io::Error::other)?;
    let (next, rows) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (started, cpu) = (Instant::now(), crate::process::own_cpu_seconds());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                while let Some(bytes) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let chunk = RawChunk {
                        partition: "0".into(),
                        stretch: "0".into(),
                        offset: 0,
                        end_offset: bytes.len() as u64,
                        record: 0,
                        byte_positions: true,
                        ingested_at: 0,
                        framing: Framing::Lines,
                        bytes: bytes.clone(),
                        header: false,
                        facts: None,
                        lost: 0,
                        skipped: 0,
                    };
                    if let Ok(decoded) = decoder.decode(&chunk, &mut scratch) {
                        rows.fetch_add(decoded.records.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let rows = rows.load(Ordering::Relaxed) as f64;
    Ok(Ceiling { rows_per_second: rows / started.elapsed().as_secs_f64(), cpu_per_million: (crate::process::own_cpu_seconds() - cpu) / rows * 1e6 })
}
