//! How fast JSON transactions become columns, on one thread and on two: `decode_rate [ROUNDS [plain|spaced|escaped|refused]]`.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, TimeUnit};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use watershed_codec::{ColumnSpec, Decoder, Format, Scratch};
use watershed_ports::{Framing, RawChunk};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 200_000;

fn columns() -> Vec<ColumnSpec> {
    let entries = Field::new("entries", DataType::Struct(vec![Field::new("key", DataType::Utf8View, false), Field::new("value", DataType::Utf8View, true)].into()), false);
    let column = |name: &str, data_type, nullable| ColumnSpec { name: name.to_owned(), data_type, nullable };
    vec![
        column("transaction_id", DataType::Utf8View, false),
        column("customer_id", DataType::Utf8View, false),
        column("amount", DataType::Decimal128(12, 2), false),
        column("currency", DataType::Utf8View, true),
        column("merchant", DataType::Utf8View, true),
        column("category", DataType::Utf8View, true),
        column("status", DataType::Utf8View, false),
        column("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        column("metadata", DataType::Map(Arc::new(entries), false), true),
    ]
}

fn rows() -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut pick = |words: &[&'static str]| words[rng.random_range(0..words.len())];
    let mut numbers = SmallRng::seed_from_u64(8);
    (0..ROWS)
        .map(|row| {
            format!(
                concat!(
                    "{{\"transaction_id\":\"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\",\"customer_id\":\"cust-{:06}\",\"amount\":{}.{:02},",
                    "\"currency\":\"{}\",\"merchant\":\"{}\",\"category\":\"{}\",\"status\":\"{}\",\"timestamp\":\"2024-03-{:02}T{:02}:{:02}:{:02}.{:03}Z\",",
                    "\"metadata\":{{\"channel\":\"{}\",\"device\":\"{}\",\"ip\":\"10.{}.{}.{}\"}},\"session\":{},\"tags\":[\"a\",\"b\"]}}\n"
                ),
                numbers.random::<u32>(),
                numbers.random::<u16>(),
                numbers.random_range(0..4096),
                numbers.random_range(0..4096),
                numbers.random::<u64>() >> 16,
                numbers.random_range(0..1_000_000),
                numbers.random_range(1..5000),
                numbers.random_range(0..100),
                pick(&["USD", "EUR", "GBP"]),
                pick(&["Corner Grocery Store", "Acme", "Blue Bottle Coffee"]),
                pick(&["groceries", "travel", "electronics"]),
                pick(&["completed", "pending", "failed"]),
                1 + row % 28,
                row % 24,
                row % 60,
                (row / 7) % 60,
                row % 1000,
                pick(&["web", "mobile", "store"]),
                pick(&["ios", "android", "desktop"]),
                numbers.random_range(0..256),
                numbers.random_range(0..256),
                numbers.random_range(0..256),
                row,
            )
        })
        .collect()
}

fn chunk(bytes: Bytes) -> RawChunk {
    RawChunk {
        partition: "0".into(),
        stretch: "f".into(),
        offset: 0,
        end_offset: bytes.len() as u64,
        record: 0,
        byte_positions: true,
        ingested_at: 0,
        framing: Framing::Lines,
        bytes,
        header: false,
        facts: None,
        lost: 0,
        skipped: 0,
    }
}

fn chunks(rows: &[String]) -> Vec<RawChunk> {
    let mut out = Vec::new();
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(row.as_bytes());
        if bytes.len() >= 1 << 20 {
            out.push(chunk(Bytes::from(std::mem::take(&mut bytes))));
        }
    }
    out.push(chunk(Bytes::from(bytes)));
    out
}

/// The same rows as other writers would write them.
fn vary(variant: &str, at: usize, row: String) -> String {
    match variant {
        "spaced" => row.replace("\":", "\": ").replace(",\"", ", \""),
        "escaped" => row.replace("\"merchant\":\"", "\"merchant\":\"The \\\"real\\\" "),
        "refused" if at.is_multiple_of(10) => row.replace("\"amount\":", "\"amount\":\"\",\"amounts\":"),
        _ => row,
    }
}

fn decode_all(decoder: &Decoder, chunks: &[RawChunk]) -> usize {
    let mut scratch = Scratch::default();
    let decode = |chunk| decoder.decode(chunk, &mut scratch).expect("the chunk keeps its contract").batch.num_rows();
    chunks.iter().map(decode).sum()
}

fn best(rounds: usize, bytes: usize, threads: usize, mut run: impl FnMut()) -> String {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        run();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let show = |s: f64| format!("{:.2} M rows/s ({:.0} MB/s)", (ROWS * threads) as f64 / s / 1e6, (bytes * threads) as f64 / s / 1e6);
    format!("best {}, median {}", show(seconds[0]), show(seconds[rounds / 2]))
}

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(15);
    let variant = std::env::args().nth(2).unwrap_or_else(|| "plain".to_owned());
    let rows: Vec<String> = rows().into_iter().enumerate().map(|(at, row)| vary(&variant, at, row)).collect();
    let expected = if variant == "refused" { ROWS - ROWS.div_ceil(10) } else { ROWS };
    let bytes: usize = rows.iter().map(String::len).sum();
    let chunks = chunks(&rows);
    let decoder = Decoder::new(columns(), Format::Json).expect("the types are supported");
    println!("{} rows of {} bytes, {} chunks", ROWS, bytes / ROWS, chunks.len());
    println!("one thread: {}", best(rounds, bytes, 1, || assert_eq!(decode_all(&decoder, &chunks), expected)));
    println!(
        "two threads: {}",
        best(rounds, bytes, 2, || std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(decode_all(&decoder, &chunks), expected));
            }
        }))
    );
    let mut buffers = simd_json::Buffers::new(1024);
    let mut line = Vec::new();
    println!(
        "simd-json, parse only: {}",
        best(rounds, bytes, 1, || {
            for row in &rows {
                line.clear();
                line.extend_from_slice(row.as_bytes());
                let tape = simd_json::to_tape_with_buffers(&mut line, &mut buffers).expect("the rows are JSON");
                std::hint::black_box(&tape);
            }
        })
    );
}
