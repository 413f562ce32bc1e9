//! How fast rows become a committed table, beside the ceiling of a plain ArrowWriter in the same run.
//!
//! `cargo run --release -p watershed-lake --example write_rate [-- rows [rounds]]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryViewBuilder, Decimal128Array, Int32Array, MapBuilder, RecordBatch, StringViewBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;
use watershed_lake::{Compression, Lake, LakeOptions, LakeTable, TableSpec};
use watershed_ports::Sink;
use watershed_types::{Epoch, Generation};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Any = Result<(), Box<dyn std::error::Error>>;

const BATCH: usize = 16 * 1024;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn batch(random: &mut Random, start: usize, hours: usize) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let pick = |random: &mut Random, values: &[&str]| {
        let mut builder = StringViewBuilder::with_capacity(BATCH);
        (0..BATCH).for_each(|_| builder.append_value(values[random.next() as usize % values.len()]));
        Arc::new(builder.finish()) as ArrayRef
    };
    let mut ids = StringViewBuilder::with_capacity(BATCH);
    let mut customers = StringViewBuilder::with_capacity(BATCH);
    let mut merchants = StringViewBuilder::with_capacity(BATCH);
    let mut hashes = BinaryViewBuilder::with_capacity(BATCH);
    let mut maps = MapBuilder::new(None, arrow::array::StringBuilder::new(), arrow::array::StringBuilder::new());
    for _ in 0..BATCH {
        let (high, low) = (random.next(), random.next());
        ids.append_value(format!("{:08x}-{:04x}-{:04x}-{:016x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low));
        customers.append_value(format!("cust_{:06}", random.next() % 100_000));
        merchants.append_value(format!("merchant_{:04}", random.next() % 1000));
        let hash: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
        hashes.append_value(&hash);
        for (key, value) in [("channel", ["web", "app", "pos"]), ("device", ["ios", "android", "desktop"]), ("region", ["eu", "us", "apac"])] {
            maps.keys().append_value(key);
            maps.values().append_value(value[random.next() as usize % 3]);
        }
        maps.append(true)?;
    }
    let second = 1_790_000_000_i64;
    let hour_of = |row: usize| (start + row) * hours / (1 << 20);
    let timestamps: Vec<i64> = (0..BATCH).map(|row| (second + hour_of(row) as i64 * 3600) * 1_000_000 + (random.next() % 3_600_000_000) as i64).collect();
    let amounts: Vec<i128> = (0..BATCH).map(|_| i128::from(random.next() % 10_000_000)).collect();
    let hour: ArrayRef = Arc::new(Int32Array::from_iter_values((0..BATCH).map(|row| hour_of(row) as i32)));
    let whole = |value: i32| Arc::new(Int32Array::from(vec![value; BATCH])) as ArrayRef;
    Ok(RecordBatch::try_from_iter(vec![
        ("transaction_id", Arc::new(ids.finish()) as ArrayRef),
        ("customer_id", Arc::new(customers.finish())),
        ("amount", Arc::new(Decimal128Array::from(amounts).with_precision_and_scale(12, 2)?)),
        ("currency", pick(random, &["USD", "EUR", "GBP"])),
        ("merchant", Arc::new(merchants.finish())),
        ("category", pick(random, &["food", "travel", "retail", "fuel", "health", "other"])),
        ("status", pick(random, &["approved", "declined", "pending"])),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(timestamps))),
        ("metadata", Arc::new(maps.finish())),
        ("amount_category", pick(random, &["small", "medium", "large"])),
        ("row_hash", Arc::new(hashes.finish())),
        ("year", whole(2026)),
        ("month", whole(9)),
        ("hour", hour),
    ])?)
}

fn ceiling(batches: &[RecordBatch], codec: Codec, path: &std::path::Path) -> Result<(Duration, Duration, u64), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, batches[0].schema(), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    let written = started.elapsed();
    std::fs::File::open(path)?.sync_all()?;
    Ok((written, started.elapsed(), std::fs::metadata(path)?.len()))
}

struct Measured {
    write: Duration,
    seal: Duration,
    commit: Duration,
    bytes: u64,
}

fn epoch(table: &LakeTable, batches: &[RecordBatch], number: u64) -> Result<Measured, Box<dyn std::error::Error>> {
    let started = Instant::now();
    let mut writer = table.writer(Epoch(number))?;
    for batch in batches {
        writer.write(batch)?;
    }
    let write = started.elapsed();
    let started = Instant::now();
    let staged = writer.seal()?;
    let seal = started.elapsed();
    let started = Instant::now();
    table.commit(Epoch(number), Generation(1), std::slice::from_ref(&staged))?;
    Ok(Measured { write, seal, commit: started.elapsed(), bytes: staged.bytes })
}

fn main() -> Any {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let rounds: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let folder = std::env::temp_dir().join(format!("watershed-write-rate-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let batches: Vec<RecordBatch> = (0..rows.div_ceil(BATCH)).map(|number| batch(&mut random, number * BATCH, 4)).collect::<Result<_, _>>()?;
    let rows = batches.len() * BATCH;
    let schema: SchemaRef = batches[0].schema();
    let rate = |time: Duration| format!("{:>6.2} M rows/s", rows as f64 / time.as_secs_f64() / 1e6);
    println!("{rows} rows x {} columns in batches of {BATCH}", schema.fields().len());
    for (name, compression, codec) in [("snappy", Compression::Snappy, Codec::SNAPPY), ("zstd 1", Compression::Zstd(1), Codec::ZSTD(ZstdLevel::try_new(1)?))] {
        for (shape, partitioned_by) in [("one folder", vec![]), ("by year, month, hour", vec!["year".to_owned(), "month".into(), "hour".into()])] {
            let mut options = LakeOptions::new(folder.join("lake").to_string_lossy());
            options.compression = compression;
            let lake = Lake::open(options, runtime.handle().clone())?;
            let table = lake.table(TableSpec {
                name: format!("rate_{}_{}", name.replace(' ', "_"), partitioned_by.len()),
                folder: "silver".into(),
                schema: schema.clone(),
                partitioned_by,
                app_id: "rate".into(),
                compression: None,
                key: None,
            })?;
            let mut best = [Duration::MAX; 3];
            for round in 1..=rounds {
                let (plain, durable, plain_bytes) = ceiling(&batches, codec, &folder.join("plain.parquet"))?;
                let ours = epoch(&table, &batches, round)?;
                let total = ours.write + ours.seal + ours.commit;
                println!(
                    "{name:7} {shape:22} round {round}: ceiling {}, with fsync {} ({:>4} MB) | lake, durable, {} ({:>4} MB): write {:>4} ms, seal {:>4} ms, commit {:>5.1} ms",
                    rate(plain),
                    rate(durable),
                    plain_bytes >> 20,
                    rate(total),
                    ours.bytes >> 20,
                    ours.write.as_millis(),
                    ours.seal.as_millis(),
                    ours.commit.as_secs_f64() * 1e3,
                );
                best = [best[0].min(plain), best[1].min(durable), best[2].min(total)];
            }
            println!("{name:7} {shape:22} best    : ceiling {}, with fsync {} | lake, durable, {}", rate(best[0]), rate(best[1]), rate(best[2]));
        }
    }
    if std::env::var_os("PER_COLUMN").is_some() {
        per_column(&batches, &runtime, &folder)?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Where the time goes: each column written alone, once it is known.
fn per_column(batches: &[RecordBatch], runtime: &tokio::runtime::Runtime, folder: &std::path::Path) -> Any {
    let lake = Lake::open(LakeOptions::new(folder.join("columns").to_string_lossy()), runtime.handle().clone())?;
    for at in 0..batches[0].num_columns() {
        let alone: Vec<RecordBatch> = batches.iter().map(|batch| batch.project(&[at])).collect::<Result<_, _>>()?;
        let field: &Field = batches[0].schema_ref().field(at);
        let table = lake.table(TableSpec {
            name: field.name().clone(),
            folder: "silver".into(),
            schema: Arc::new(Schema::new(vec![field.clone()])),
            partitioned_by: Vec::new(),
            app_id: "rate".into(),
            compression: None,
            key: None,
        })?;
        let mut ours = epoch(&table, &alone, 1)?;
        let (mut plain, _, plain_bytes) = ceiling(&alone, Codec::SNAPPY, &folder.join("plain.parquet"))?;
        for round in 2..=5 {
            let again = epoch(&table, &alone, round)?;
            if again.write + again.seal < ours.write + ours.seal {
                ours = again;
            }
            plain = plain.min(ceiling(&alone, Codec::SNAPPY, &folder.join("plain.parquet"))?.0);
        }
        let kind: &DataType = field.data_type();
        println!(
            "{:16} write {:>4} ms + seal {:>3} ms, {:>6} kB (plain writer {:>4} ms, {:>6} kB) {kind}",
            field.name(),
            ours.write.as_millis(),
            ours.seal.as_millis(),
            ours.bytes >> 10,
            plain.as_millis(),
            plain_bytes >> 10
        );
    }
    Ok(())
}
