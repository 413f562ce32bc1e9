//! Epochs into a real Postgres on the same cores: appended and upserted, near and 10 ms away, against raw binary `COPY`.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::SinkExt as _;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use watershed_ports::Target;
use watershed_postgres::{Columns, Encoder, PostgresOptions, PostgresTarget, SIGNATURE, TRAILER, table_ddl};
use watershed_types::{Epoch, Generation, OptionValue, Options};

use crate::proxy;
use crate::server::{Server, load};

/// Rows of an epoch, and epochs of a figure.
const ROWS: i64 = 100_000;
const EPOCHS: i64 = 6;
/// Turns of raw and ours, one after the other: what disk and neighbours do meanwhile meets both. The middle one counts.
const TURNS: usize = 5;

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    // What the server said is the cause of "db error".
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::other(format!("{error}{cause}"))
}

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

/// The same rows as SQL, to fill a table with.
const FILL: &str =
    "SELECT n AS id, (n % 99991)::int AS customer, (ARRAY['paid','open','cancelled'])[(n % 3)::int + 1] AS status, ((n * 37 % 1000000) / 100.0)::numeric(18,2) AS amount,
 timestamptz '2023-11-14 22:13:20+00' + n * interval '1 millisecond' AS at, n / 7.0::float8 AS score, 'order ' || n || ' of a customer' AS note";

fn rows(ids: &[i64]) -> Result<Vec<RecordBatch>> {
    let batch = |ids: &[i64]| -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(Int32Array::from_iter_values(ids.iter().map(|id| (id % 99_991) as i32))),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| ["paid", "open", "cancelled"][(id % 3) as usize]))),
            Arc::new(Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(id * 37 % 1_000_000))).with_precision_and_scale(18, 2).map_err(other)?),
            Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| 1_700_000_000_000_000 + id * 1_000)).with_timezone("UTC")),
            Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| *id as f64 / 7.0))),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("order {id} of a customer")))),
        ];
        RecordBatch::try_new(schema(), columns).map_err(other)
    };
    ids.chunks(8_192).map(batch).collect()
}

fn options(url: &str, table: &str, more: &[(&str, &str)]) -> Result<PostgresOptions> {
    let pairs = [("url", url), ("table", table)];
    let values: BTreeMap<_, _> = pairs.iter().chain(more).map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "bench"))).collect();
    PostgresOptions::take(&mut Options::new("sink \"bench\"", values), "bench").map_err(other)
}

fn target(runtime: &Runtime, url: &str, table: &str, more: &[(&str, &str)]) -> Result<PostgresTarget> {
    let target = PostgresTarget::new(options(url, table, more)?, table, "bench", schema(), runtime.handle().clone()).map_err(other)?;
    target.claim(Generation(1)).map_err(other)?;
    Ok(target)
}

/// Rows per second over epochs from `first` on.
fn deliver(target: &PostgresTarget, first: u64, epochs: &[Vec<RecordBatch>]) -> Result<f64> {
    let (began, mut count) = (Instant::now(), 0);
    for (i, batches) in epochs.iter().enumerate() {
        count += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        target.deliver(Epoch(first + i as u64), Generation(1), &mut batches.iter().cloned().map(Ok)).map_err(other)?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(other)?;
    tokio::spawn(connection);
    Ok(client)
}

fn told(runtime: &Runtime, url: &str, statement: &str) -> Result<()> {
    runtime.block_on(async { connect(url).await?.batch_execute(statement).await.map_err(other) })
}

/// The ceiling: bytes made beforehand, one COPY and one commit per epoch, over one connection.
async fn raw(url: &str, table: &str, epochs: &[Vec<Bytes>]) -> Result<f64> {
    let client = connect(url).await?;
    let began = Instant::now();
    for frames in epochs {
        client.batch_execute("BEGIN").await.map_err(other)?;
        let sink = client.copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN BINARY")).await.map_err(other)?;
        futures::pin_mut!(sink);
        for frame in frames {
            sink.feed(frame.clone()).await.map_err(other)?;
        }
        sink.finish().await.map_err(other)?;
        client.batch_execute("COMMIT").await.map_err(other)?;
    }
    Ok((epochs.len() as i64 * ROWS) as f64 / began.elapsed().as_secs_f64())
}

fn encoded(columns: &Columns, batches: &[RecordBatch]) -> Result<Vec<Bytes>> {
    let (mut frames, mut frame) = (Vec::new(), SIGNATURE.to_vec());
    for batch in batches {
        let encoder = Encoder::new("bench", columns, batch).map_err(other)?;
        for row in 0..batch.num_rows() {
            encoder.put(row, &mut frame).map_err(|refusal| other(refusal.detail()))?;
            if frame.len() >= 128 << 10 {
                frames.push(Bytes::from(std::mem::take(&mut frame)));
            }
        }
    }
    frame.extend_from_slice(TRAILER);
    frames.push(Bytes::from(frame));
    Ok(frames)
}

/// A Postgres with its ceiling measured.
struct Measured {
    runtime: Runtime,
    server: Server,
    fresh: Vec<Vec<RecordBatch>>,
    /// The same rows as they are sent.
    bytes: Vec<Vec<Bytes>>,
}

impl Measured {
    /// Rows per second by raw COPY into a new table.
    fn raw(&self, table: &str) -> Result<f64> {
        told(&self.runtime, &self.server.url, &table_ddl(&options(&self.server.url, table, &[])?, &schema()).map_err(other)?)?;
        self.runtime.block_on(raw(&self.server.url, table, &self.bytes))
    }
}

fn middle(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn begin(folder: &Path) -> Result<Option<Measured>> {
    let server = match Server::start("postgres", folder) {
        Ok(server) => server,
        Err(error) => {
            println!("postgres    left out: {error}");
            return Ok(None);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ids: Vec<i64> = (0..ROWS * EPOCHS).collect();
    let fresh: Vec<Vec<RecordBatch>> = ids.chunks(ROWS as usize).map(rows).collect::<Result<_>>()?;
    let columns = Columns::new(&options(&server.url, "raw", &[])?, &schema()).map_err(other)?;
    let bytes: Vec<Vec<Bytes>> = fresh.iter().map(|batches| encoded(&columns, batches)).collect::<Result<_>>()?;
    let measured = Measured { runtime, server, fresh, bytes };
    // It also grows the files of the log, and does not count.
    measured.raw("warm_up")?;
    Ok(Some(measured))
}

/// Appended, near and far.
pub fn append(folder: &Path) -> Result<()> {
    let Some(measured) = begin(folder)? else { return Ok(()) };
    let Measured { runtime, server, fresh, .. } = &measured;
    let (mut ceilings, mut nears, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let ceiling = measured.raw(&format!("raw_{turn}"))?;
        let near = deliver(&target(runtime, &server.url, &format!("append_{turn}"), &[])?, 1, fresh)?;
        ceilings.push(ceiling);
        nears.push(near);
        shares.push(near / ceiling * 100.0);
    }
    let (least, most) = (shares.iter().copied().fold(f64::INFINITY, f64::min), shares.iter().copied().fold(0.0, f64::max));
    let near = middle(nears);
    println!("postgres    {:.0} rows/s: ceiling, raw binary COPY of the same rows, one connection, {EPOCHS} epochs of {ROWS} rows (load {})", middle(ceilings), load());
    println!("append      {near:.0} rows/s, {:.0}% of raw COPY by one connection, {least:.0} to {most:.0}% in {TURNS} turns (asked: 80%; load {})", middle(shares), load());
    let through = |one_way| -> Result<String> { Ok(server.url.replace(&format!(":{}/", server.port()?), &format!(":{}/", proxy::start(server.port()?, one_way)?))) };
    let beside = deliver(&target(runtime, &through(Duration::ZERO)?, "append_beside", &[])?, 1, fresh)?;
    let far = deliver(&target(runtime, &through(Duration::from_millis(5))?, "append_far", &[])?, 1, fresh)?;
    println!(
        "append      {far:.0} rows/s with 10 ms more of round trip, {:.0}% of local (asked: 50%); {:.0}% of the same proxy without the delay (load {})",
        far / near * 100.0,
        far / beside * 100.0,
        load()
    );
    Ok(())
}

/// What Postgres itself takes: such rows, there already in a table of the session, merged by one statement per commit.
async fn merged(url: &str, table: &str, size: i64) -> Result<f64> {
    let client = connect(url).await?;
    let updates = "customer = excluded.customer, status = excluded.status, amount = excluded.amount, at = excluded.at, score = excluded.score, note = excluded.note";
    let mut seconds = 0.0;
    for epoch in 0..EPOCHS {
        let keys = format!("SELECT ((i * 2654435761 + {}) & 2147483647) % {} AS n FROM generate_series(0::bigint, {ROWS} - 1) i", (epoch + EPOCHS) * 97, size * 2);
        client
            .batch_execute(&format!("DROP TABLE IF EXISTS stage; CREATE TEMP TABLE stage AS {FILL} FROM (SELECT DISTINCT n FROM ({keys}) k ORDER BY n) q; ANALYZE stage"))
            .await
            .map_err(other)?;
        let began = Instant::now();
        client.batch_execute(&format!("INSERT INTO {table} SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {updates}")).await.map_err(other)?;
        seconds += began.elapsed().as_secs_f64();
    }
    Ok((EPOCHS * ROWS) as f64 / seconds)
}

/// Upserted into tables of a million and of ten million rows; half of each epoch's keys are there, spread over the table.
pub fn upsert(folder: &Path) -> Result<()> {
    let Some(measured) = begin(folder)? else { return Ok(()) };
    let ceiling = measured.raw("raw")?;
    println!("postgres    {ceiling:.0} rows/s: ceiling, raw binary COPY of such rows, one connection (load {})", load());
    let Measured { runtime, server, .. } = &measured;
    let mut small = f64::NAN;
    for size in [1_000_000i64, 10_000_000] {
        let table = format!("upsert_{size}");
        let upsert = [("mode", "upsert"), ("key", "id")];
        let ddl = table_ddl(&options(&server.url, &table, &upsert)?, &schema()).map_err(other)?;
        told(runtime, &server.url, &format!("{ddl}; INSERT INTO {table} {FILL} FROM (SELECT n * 2 AS n FROM generate_series(0::bigint, {size} - 1) n) q"))?;
        for statement in [format!("VACUUM ANALYZE {table}"), "CHECKPOINT".to_owned()] {
            told(runtime, &server.url, &statement)?;
        }
        let epochs: Vec<Vec<RecordBatch>> =
            (0..EPOCHS).map(|epoch| rows(&(0..ROWS).map(|i| ((i * 2_654_435_761 + epoch * 97) & i64::from(i32::MAX)) % (size * 2)).collect::<Vec<_>>())).collect::<Result<_>>()?;
        let rate = deliver(&target(runtime, &server.url, &table, &upsert)?, 1, &epochs)?;
        let flat = if size > 1_000_000 { format!(", {:.0}% of what a million rows take", rate / small * 100.0) } else { String::new() };
        println!("upsert      {rate:.0} rows/s into {size} rows, {:.0}% of raw COPY (asked: 40%){flat} (load {})", rate / ceiling * 100.0, load());
        let own = runtime.block_on(merged(&server.url, &table, size))?;
        println!("upsert      {own:.0} rows/s: Postgres' own INSERT … ON CONFLICT of such rows, staged beforehand, into the same table; ours is {:.0}% of it", rate / own * 100.0);
        small = rate;
    }
    Ok(())
}
