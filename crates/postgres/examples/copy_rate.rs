//! How fast epochs land: `cargo run --release -p watershed-postgres --example copy_rate -- [rows per epoch] [epochs] [rows of the upserted table]`.
//!
//! Each line with its share of the ceiling: the same bytes made beforehand and sent by one binary `COPY` per epoch, committed.
//! The upsert's own ceiling is the same SQL on rows that are in the server already. The server is private and syncs.

#[path = "../tests/support/proxy.rs"]
mod proxy;
#[path = "../tests/support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::SinkExt as _;
use tokio::runtime::Runtime;
use watershed_ports::Target;
use watershed_postgres::{Columns, Encoder, PostgresOptions, PostgresTarget, SIGNATURE, TRAILER, table_ddl};
use watershed_types::{Epoch, Generation, OptionValue, Options};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("customer", DataType::Int32, true),
        Field::new("status", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(18, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("score", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

/// Batches of 8,192 rows with the ids given.
fn rows(ids: &[i64]) -> Outcome<Vec<RecordBatch>> {
    ids.chunks(8_192)
        .map(|ids| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(ids.to_vec())),
                Arc::new(Int32Array::from_iter_values(ids.iter().map(|id| (id % 99_991) as i32))),
                Arc::new(StringArray::from_iter_values(ids.iter().map(|id| ["paid", "open", "cancelled"][(id % 3) as usize]))),
                Arc::new(Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(id * 37 % 1_000_000))).with_precision_and_scale(18, 2)?),
                Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| 1_700_000_000_000_000 + id * 1_000)).with_timezone("UTC")),
                Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| *id as f64 / 7.0))),
                Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("order {id} of a customer")))),
            ];
            Ok(RecordBatch::try_new(schema(), columns)?)
        })
        .collect()
}

fn options(url: &str, table: &str, more: &[(&str, &str)]) -> Outcome<PostgresOptions> {
    let mut pairs = vec![("url", url), ("table", table)];
    pairs.extend_from_slice(more);
    let values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "rate"))).collect();
    Ok(PostgresOptions::take(&mut Options::new("sink \"rate\"", values), "rate")?)
}

fn target(runtime: &Runtime, url: &str, table: &str, more: &[(&str, &str)]) -> Outcome<PostgresTarget> {
    let target = PostgresTarget::new(options(url, table, more)?, table, "rate", schema(), runtime.handle().clone())?;
    target.claim(Generation(1))?;
    Ok(target)
}

/// Rows per second over epochs from `first` on.
fn deliver(target: &PostgresTarget, first: u64, epochs: &[Vec<RecordBatch>]) -> Outcome<f64> {
    let began = Instant::now();
    let mut count = 0;
    for (i, batches) in epochs.iter().enumerate() {
        count += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        target.deliver(Epoch(first + i as u64), Generation(1), &mut batches.iter().cloned().map(Ok))?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn connect(url: &str) -> Outcome<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The ceiling: bytes made beforehand, one COPY and one commit per epoch.
async fn raw(url: &str, table: &str, epochs: &[Vec<Bytes>], rows: usize) -> Outcome<f64> {
    let client = connect(url).await?;
    let began = Instant::now();
    for frames in epochs {
        client.batch_execute("BEGIN").await?;
        let sink = client.copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN BINARY")).await?;
        futures::pin_mut!(sink);
        for frame in frames {
            sink.feed(frame.clone()).await?;
        }
        sink.finish().await?;
        client.batch_execute("COMMIT").await?;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

fn encoded(columns: &Columns, batches: &[RecordBatch]) -> Outcome<Vec<Bytes>> {
    let mut frames = Vec::new();
    let mut frame = SIGNATURE.to_vec();
    for batch in batches {
        let encoder = Encoder::new("rate", columns, batch)?;
        for row in 0..batch.num_rows() {
            encoder.put(row, &mut frame).map_err(|refusal| refusal.detail())?;
            if frame.len() >= 128 << 10 {
                frames.push(Bytes::from(std::mem::take(&mut frame)));
            }
        }
    }
    frame.extend_from_slice(TRAILER);
    frames.push(Bytes::from(frame));
    Ok(frames)
}

fn line(name: &str, rate: f64, ceiling: f64) {
    println!("{name:<58} {rate:>9.0} rows/s   {:.2}", rate / ceiling);
}

fn main() -> Outcome<()> {
    let argument = |i: usize, default: i64| std::env::args().nth(i).map_or(Ok(default), |text| text.parse());
    let (per_epoch, epochs, table_rows) = (argument(1, 100_000)?, argument(2, 10)?, argument(3, 1_000_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = server::Server::start(false);
    let url = server.url.as_str();
    let total = (per_epoch * epochs) as usize;

    let ids: Vec<i64> = (0..per_epoch * epochs).collect();
    let fresh: Vec<Vec<RecordBatch>> = ids.chunks(per_epoch as usize).map(rows).collect::<Outcome<_>>()?;
    let columns = Columns::new(&options(url, "raw", &[])?, &schema())?;
    let began = Instant::now();
    let bytes: Vec<Vec<Bytes>> = fresh.iter().map(|batches| encoded(&columns, batches)).collect::<Outcome<_>>()?;
    let encoding = total as f64 / began.elapsed().as_secs_f64();
    let size: usize = bytes.iter().flatten().map(Bytes::len).sum();
    println!("{epochs} epochs of {per_epoch} rows of 7 columns, {} bytes a row on the wire; encoding alone {encoding:.0} rows/s\n", size / total);

    // Twice, and the second counts: the first also grows the files of the log.
    let mut ceiling = 0.0;
    for table in ["warm", "raw"] {
        runtime.block_on(async { connect(url).await?.batch_execute(&table_ddl(&options(url, table, &[])?, &schema())?).await.map_err(Box::<dyn std::error::Error>::from) })?;
        ceiling = runtime.block_on(raw(url, table, &bytes, total))?;
    }
    line("ceiling: raw binary COPY, bytes made beforehand", ceiling, ceiling);
    line("append", deliver(&target(&runtime, url, "append", &[])?, 1, &fresh)?, ceiling);
    line("append, 3 connections", deliver(&target(&runtime, url, "append3", &[("connections", "3")])?, 1, &fresh)?, ceiling);
    let beside = proxy::Proxy::start(server.port, Duration::ZERO);
    line("append, through the same proxy, no delay", deliver(&target(&runtime, &server.through(beside.port), "append_near", &[])?, 1, &fresh)?, ceiling);
    let proxy = proxy::Proxy::start(server.port, Duration::from_millis(5));
    let far = server.through(proxy.port);
    line("append, 10 ms away", deliver(&target(&runtime, &far, "append_far", &[])?, 1, &fresh)?, ceiling);

    // Half of each epoch's keys are there, spread over the table.
    let upsert = target(&runtime, url, "upsert", &[("mode", "upsert"), ("key", "id")])?;
    deliver(&upsert, 1, &[rows(&(0..table_rows).map(|id| id * 2).collect::<Vec<_>>())?])?;
    for statement in ["VACUUM ANALYZE upsert", "CHECKPOINT"] {
        runtime.block_on(async { connect(url).await?.batch_execute(statement).await.map_err(Box::<dyn std::error::Error>::from) })?;
    }
    let mixed = |round: i64| -> Outcome<Vec<Vec<RecordBatch>>> {
        (0..epochs)
            .map(|epoch| rows(&(0..per_epoch).map(|i| ((i * 2_654_435_761 + (epoch + round * epochs) * 97) & i64::from(i32::MAX)) % (table_rows * 2)).collect::<Vec<_>>()))
            .collect()
    };
    let (near, distant, inside) = (mixed(0)?, mixed(1)?, mixed(2)?);
    let near = deliver(&upsert, 2, &near)?;
    let distant = deliver(&target(&runtime, &far, "upsert", &[("mode", "upsert"), ("key", "id")])?, 100, &distant)?;
    // The merge alone: rows staged in an ordinary table beforehand, untimed.
    let bytes: Vec<Vec<Bytes>> = inside.iter().map(|batches| encoded(&columns, batches)).collect::<Outcome<_>>()?;
    let merge = runtime.block_on(async {
        let client = connect(url).await?;
        let mut spent = Duration::ZERO;
        for frames in &bytes {
            client.batch_execute("SET work_mem = '64MB'; CREATE TEMP TABLE IF NOT EXISTS staged (LIKE upsert)").await?;
            raw_into(&client, frames).await?;
            let began = Instant::now();
            client
                .batch_execute(
                    "INSERT INTO upsert SELECT DISTINCT ON (id) * FROM staged ORDER BY id ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, status = excluded.status, \
                     amount = excluded.amount, at = excluded.at, score = excluded.score, note = excluded.note",
                )
                .await?;
            spent += began.elapsed();
            client.batch_execute("TRUNCATE staged").await?;
        }
        Outcome::Ok(total as f64 / spent.as_secs_f64())
    })?;
    println!();
    line("ceiling of the upsert: its merge alone, rows in the server", merge, merge);
    line(&format!("upsert into {table_rows} rows"), near, merge);
    line("upsert, 10 ms away", distant, merge);
    Ok(())
}

async fn raw_into(client: &tokio_postgres::Client, frames: &[Bytes]) -> Outcome<()> {
    let sink = client.copy_in::<_, Bytes>("COPY staged FROM STDIN BINARY").await?;
    futures::pin_mut!(sink);
    for frame in frames {
        sink.feed(frame.clone()).await?;
    }
    sink.finish().await?;
    Ok(())
}
