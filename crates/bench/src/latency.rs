//! How long rows take, at 1,000 a second: over HTTP to a live output, and from topic to topic.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Rows a second.
pub const RATE: u64 = 1_000;
/// How long is measured, and how long is waited before.
pub const SECONDS: u64 = 20;
pub const WARM_UP: u64 = 3;

/// `watershed up` in a project; ended when dropped.
pub struct Up(Child);

impl Up {
    /// Starts it, and says where its API is.
    pub fn start(binary: &Path, project: &Path) -> std::io::Result<(Up, String)> {
        let log = fs::File::create(project.join("up.log"))?;
        let up = Up(Command::new(binary).args(["up", "--listen", "127.0.0.1:0", "--project"]).arg(project).stdout(Stdio::null()).stderr(log).spawn()?);
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Ok(text) = fs::read_to_string(project.join(".watershed/run.json")) {
                let run: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                if run["pid"].as_u64() == Some(u64::from(up.0.id()))
                    && let Some(address) = run["address"].as_str()
                {
                    return Ok((up, address.to_owned()));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(std::io::Error::other(format!("watershed up did not come up: {}", fs::read_to_string(project.join("up.log")).unwrap_or_default())))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prints a distribution.
pub fn say(what: &str, mut seen: Vec<Duration>, asked: u64) {
    seen.sort_unstable();
    let at = |share: f64| seen.get(((seen.len() as f64 * share) as usize).min(seen.len().saturating_sub(1))).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    println!("latency     {what}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} rows; asked: p99 below {asked} ms)", at(0.5), at(0.95), at(0.99), at(1.0), seen.len());
}

/// Runs `send` with a growing number, `RATE` times a second.
pub fn paced(seconds: u64, mut send: impl FnMut(u64) -> std::io::Result<()>) -> std::io::Result<()> {
    let started = Instant::now();
    for number in 0..seconds * RATE {
        let due = started + Duration::from_micros(number * 1_000_000 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(number)?;
    }
    Ok(())
}

/// One record a request over one connection, each acknowledged on disk; seen in the live stream of a table.
pub fn http(binary: &Path, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("watershed.toml"), "")?;
    fs::write(
        folder.join("pipelines.sql"),
        "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'http');
         CREATE TABLE seen (CONSTRAINT good EXPECT (id >= 0) ON VIOLATION QUARANTINE) AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '10 minutes');",
    )?;
    let (_up, address) = Up::start(binary, folder)?;
    let sent: Arc<Mutex<BTreeMap<u64, Instant>>> = Arc::default();
    let seen: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let mut live = TcpStream::connect(&address)?;
    write!(live, "GET /v1/tables/seen/live HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    {
        let (sent, seen) = (Arc::clone(&sent), Arc::clone(&seen));
        std::thread::spawn(move || {
            for line in BufReader::new(live).lines().map_while(Result::ok) {
                let Some(id) = line.split("\"id\":").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()) else { continue };
                if let (Ok(mut sent), Ok(mut seen)) = (sent.lock(), seen.lock())
                    && let Some(at) = sent.remove(&id)
                    && id >= WARM_UP * RATE
                {
                    seen.push(at.elapsed());
                }
            }
        });
    }
    let mut connections = Vec::new();
    for _ in 0..4 {
        let stream = TcpStream::connect(&address)?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    // Four clients that take turns, so that a request may wait for the disk while the next one leaves.
    let (hands, takers): (Vec<_>, Vec<_>) = (0..connections.len()).map(|_| std::sync::mpsc::channel::<u64>()).unzip();
    let clients: Vec<_> = connections
        .into_iter()
        .zip(takers)
        .map(|(mut stream, taker)| {
            let sent = Arc::clone(&sent);
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut answer = [0u8; 4096];
                for id in taker {
                    if let Ok(mut sent) = sent.lock() {
                        sent.insert(id, Instant::now());
                    }
                    let body = format!("{{\"id\":{id},\"at\":\"2026-01-01T00:00:00Z\"}}");
                    write!(stream, "POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
                    if stream.read(&mut answer)? == 0 {
                        return Err(std::io::Error::other("the API hung up"));
                    }
                }
                Ok(())
            })
        })
        .collect();
    paced(WARM_UP + SECONDS, |id| hands[id as usize % hands.len()].send(id).map_err(std::io::Error::other))?;
    drop(hands);
    for client in clients {
        client.join().map_err(|_| std::io::Error::other("a client panicked"))??;
    }
    std::thread::sleep(Duration::from_secs(1));
    let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    say("HTTP, on disk, deduplicated, to the live stream at 1,000 rows/s, default epochs", seen, 50);
    Ok(())
}

/// Topic to topic, nothing kept: at least once, and exactly once with epochs of 100 ms.
pub fn kafka(binary: &Path, folder: &Path, brokers: &str) -> std::io::Result<()> {
    for (delivery, asked) in [("at_least_once", 20), ("exactly_once", 250)] {
        let folder = folder.join(delivery);
        fs::create_dir_all(&folder)?;
        let (from, to) = (format!("latency-{delivery}-in"), format!("latency-{delivery}-out"));
        super::kafka::topic(brokers, &from, 2)?;
        super::kafka::topic(brokers, &to, 2)?;
        fs::write(folder.join("watershed.toml"), if delivery == "exactly_once" { "[engine]\nepoch_interval = \"100ms\"\n" } else { "" })?;
        fs::write(
            folder.join("pipelines.sql"),
            format!(
                "CREATE SOURCE s (id BIGINT NOT NULL, sent BIGINT NOT NULL, at TIMESTAMP NOT NULL) WITH (connector = 'kafka', brokers = '{brokers}', topic = '{from}', fetch.wait.max.ms = 10);
                 CREATE VIEW passed AS SELECT id, sent, upper('x') AS mark FROM s WHERE id >= 0;
                 CREATE SINK onward FROM passed WITH (connector = 'kafka', brokers = '{brokers}', topic = '{to}', delivery = '{delivery}', linger.ms = 1);"
            ),
        )?;
        let (_up, _) = Up::start(binary, &folder)?;
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create().map_err(std::io::Error::other)?;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", &to)
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "10")
            .create()
            .map_err(std::io::Error::other)?;
        consumer.subscribe(&[&to]).map_err(std::io::Error::other)?;
        let total = (WARM_UP + SECONDS) * RATE;
        let reader = std::thread::spawn(move || {
            let (mut seen, mut count, until) = (Vec::new(), 0, Instant::now() + Duration::from_secs(WARM_UP + SECONDS + 30));
            while count < total && Instant::now() < until {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let now = micros();
                let row: serde_json::Value = message.payload().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
                count += 1;
                if row["id"].as_u64() >= Some(WARM_UP * RATE)
                    && let Some(sent) = row["sent"].as_u64()
                {
                    seen.push(Duration::from_micros(now.saturating_sub(sent)));
                }
            }
            seen
        });
        paced(WARM_UP + SECONDS, |id| {
            let body = format!("{{\"id\":{id},\"sent\":{},\"at\":\"2026-01-01T00:00:00Z\"}}", micros());
            producer.send(BaseRecord::<[u8], str>::to(&from).payload(&body)).map_err(|(error, _)| std::io::Error::other(error))?;
            producer.poll(Duration::ZERO);
            Ok(())
        })?;
        producer.flush(Duration::from_secs(30)).map_err(std::io::Error::other)?;
        let seen = reader.join().map_err(|_| std::io::Error::other("the reader panicked"))?;
        let what = if delivery == "exactly_once" { "Kafka to Kafka, exactly once, epochs of 100 ms, 1,000 rows/s" } else { "Kafka to Kafka, at least once, 1,000 rows/s" };
        say(what, seen, asked);
    }
    Ok(())
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
