//! Hot keys in a real Redis on the same cores: how many a second, and how soon one can be read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, Result, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use watershed_redis::{RedisLive, RedisOptions};
use watershed_types::{OptionValue, Options};

use crate::latency::{RATE, SECONDS, Up, WARM_UP, paced, say};
use crate::server::{Server, load};

const KEYS: i64 = 1_000_000;

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::other(error)
}

/// Keys a second through the sink, against the same commands made beforehand.
pub fn rate(folder: &Path) -> Result<()> {
    let server = match Server::start("redis", folder) {
        Ok(server) => server,
        Err(error) => {
            println!("redis       left out: {error}");
            return Ok(());
        }
    };
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("status", DataType::Utf8, false), Field::new("orders", DataType::Int64, false)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..KEYS)),
        Arc::new(StringArray::from_iter_values((0..KEYS).map(|_| "paid"))),
        Arc::new(Int64Array::from_iter_values((0..KEYS).map(|id| id * 31))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(other)?;
    let mut connection = redis::Client::open(server.url.as_str()).and_then(|client| client.get_connection()).map_err(other)?;
    let command = |id: i64| redis::cmd("HSET").arg(format!("hash:{id}")).arg("status").arg("paid").arg("orders").arg(id * 31).get_packed_command();
    let flights: Vec<Vec<u8>> = (0..KEYS / 1_000).map(|flight| (flight * 1_000..flight * 1_000 + 1_000).flat_map(command).collect()).collect();
    // Twice, and the second counts: the first makes the keys.
    let mut ceiling = 0.0;
    for _ in 0..2 {
        let (began, mut unanswered) = (Instant::now(), 0);
        for flight in &flights {
            redis::ConnectionLike::req_packed_commands(&mut connection, flight, 0, 1_000).map_err(other)?;
            unanswered += 1_000;
        }
        ceiling = f64::from(unanswered) / began.elapsed().as_secs_f64();
    }
    let pairs = [("url", server.url.as_str()), ("key", "hash:{id}")];
    let values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "bench"))).collect();
    let options = RedisOptions::take(&mut Options::new("sink \"bench\"", values), "bench", &schema).map_err(other)?;
    let mut sink = RedisLive::new(options, "bench", "bench", schema).map_err(other)?;
    let began = Instant::now();
    sink.write(&batch).map_err(other)?;
    let rate = KEYS as f64 / began.elapsed().as_secs_f64();
    println!(
        "redis       {rate:.0} keys/s, hashes of two fields, pipelined; {:.0}% of the same commands made beforehand (asked: 200,000/s; load {})",
        rate / ceiling * 100.0,
        load()
    );
    Ok(())
}

/// From a record's arrival over HTTP, on disk, to its key in Redis, at 1,000 keys a second.
pub fn readable(binary: &Path, folder: &Path) -> Result<()> {
    let Ok(server) = Server::start("redis", folder) else { return Ok(()) };
    let project = folder.join("hot");
    fs::create_dir_all(&project)?;
    fs::write(project.join("watershed.toml"), "")?;
    fs::write(
        project.join("pipelines.sql"),
        format!(
            "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'http');
             CREATE VIEW passed AS SELECT id, at FROM s WHERE id >= 0;
             CREATE SINK hot FROM passed WITH (connector = 'redis', url = '{}', key = 'hot:{{id}}');",
            server.url
        ),
    )?;
    let (_up, address) = Up::start(binary, &project)?;
    let sent: Arc<Mutex<BTreeMap<u64, Instant>>> = Arc::default();
    let total = (WARM_UP + SECONDS) * RATE;
    let reader = {
        let (sent, url) = (Arc::clone(&sent), server.url.clone());
        std::thread::spawn(move || -> Result<Vec<Duration>> {
            let mut connection = redis::Client::open(url.as_str()).and_then(|client| client.get_connection()).map_err(other)?;
            let (mut seen, until) = (Vec::new(), Instant::now() + Duration::from_secs(WARM_UP + SECONDS + 30));
            for id in 0..total {
                while !redis::cmd("EXISTS").arg(format!("hot:{id}")).query::<bool>(&mut connection).map_err(other)? {
                    if Instant::now() > until {
                        return Err(other(format!("key {id} never came")));
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                let at = sent.lock().map_err(|_| other("a client panicked"))?.remove(&id);
                if let Some(at) = at.filter(|_| id >= WARM_UP * RATE) {
                    seen.push(at.elapsed());
                }
            }
            Ok(seen)
        })
    };
    let mut stream = TcpStream::connect(&address)?;
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    // Requests follow each other without waiting: an acknowledgement waits for the disk.
    let drain = std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    paced(WARM_UP + SECONDS, |id| {
        sent.lock().map_err(|_| other("the reader panicked"))?.insert(id, Instant::now());
        let body = format!("{{\"id\":{id},\"at\":\"2026-01-01T00:00:00Z\"}}");
        write!(stream, "POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })?;
    let seen = reader.join().map_err(|_| other("the reader panicked"))??;
    drop(stream);
    drop(_up);
    let _ = drain.join();
    say(&format!("HTTP, on disk, to a key that can be read in Redis, 1,000 keys/s (load {})", load()), seen, 10);
    Ok(())
}
