//! Point reads of a table by key through the API, at 1,000 a second, by the tier that answers.

use std::fs;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::latency::{RATE, SECONDS, Up, WARM_UP, paced, say};
use crate::server::{Server, load};

/// Keys in the table.
const KEYS: u64 = 100_000;
const CLIENTS: usize = 4;

/// A connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn open(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks, and reads head and body.
    fn ask(&mut self, request: &str) -> Result<(String, String)> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(Error::other("the API hung up"));
            }
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.trim().parse().map_err(Error::other)?;
            }
            head.push_str(&line);
        }
        let mut body = vec![0u8; length];
        self.stream.read_exact(&mut body)?;
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    }

    fn get(&mut self, table: &str, key: u64) -> Result<(String, String)> {
        self.ask(&format!("GET /v1/tables/{table}?key={key} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
}

/// Fills two tables of the same rows, one with a hot tier and one without, and reads each.
pub fn by_key(binary: &Path, folder: &Path) -> Result<()> {
    let (postgres, redis) = match (Server::start("postgres", folder), Server::start("redis", folder)) {
        (Ok(postgres), Ok(redis)) => (postgres, redis),
        (Err(error), _) | (_, Err(error)) => {
            println!("reads       left out: {error}");
            return Ok(());
        }
    };
    let project = folder.join("reads");
    fs::create_dir_all(&project)?;
    // All requests come from one caller: its limit is not what is measured.
    fs::write(project.join("watershed.toml"), format!("[serve]\nrequests_per_second = {}\n", 100 * RATE))?;
    fs::write(
        project.join("pipelines.sql"),
        format!(
            "CREATE SOURCE s (id BIGINT NOT NULL, name VARCHAR, amount DECIMAL(12,2), at TIMESTAMP NOT NULL) WITH (connector = 'http');
             CREATE TABLE hot AS SELECT * FROM s;
             CREATE TABLE warm AS SELECT * FROM s;
             CREATE SINK hot_keys FROM hot WITH (connector = 'redis', url = '{redis}', key = 'row:{{id}}');
             CREATE SINK hot_rows FROM hot WITH (connector = 'postgres', url = '{postgres}', table = 'hot', mode = 'upsert', key = 'id');
             CREATE SINK warm_rows FROM warm WITH (connector = 'postgres', url = '{postgres}', table = 'warm', mode = 'upsert', key = 'id');",
            redis = redis.url,
            postgres = postgres.url
        ),
    )?;
    let (_up, address) = Up::start(binary, &project)?;
    let mut client = Client::open(&address)?;
    for first in (0..KEYS).step_by(10_000) {
        let body: Vec<String> =
            (first..first + 10_000).map(|id| format!("{{\"id\":{id},\"name\":\"customer {id}\",\"amount\":{}.25,\"at\":\"2026-01-01T00:00:00Z\"}}", id % 100)).collect();
        let body = body.join("\n");
        client.ask(&format!("POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
    }
    let until = Instant::now() + Duration::from_secs(60);
    for table in ["hot", "warm"] {
        while client.get(table, KEYS - 1)?.1.trim() == "[]" || !client.get(table, KEYS - 1)?.0.contains(&format!("{table}=used, rows 1")) {
            if Instant::now() > until {
                return Err(Error::other(format!("table {table} was never there: {}", client.get(table, KEYS - 1)?.0)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let seen = measure(&address, table)?;
        say(&format!("point read by key through the API, answered {table}, 1,000/s over {CLIENTS} connections (load {})", load()), seen, 5);
    }
    Ok(())
}

fn measure(address: &str, table: &'static str) -> Result<Vec<Duration>> {
    let (hands, takers): (Vec<_>, Vec<_>) = (0..CLIENTS).map(|_| std::sync::mpsc::channel::<(u64, Instant)>()).unzip();
    let mut clients = Vec::new();
    for taker in takers {
        let mut client = Client::open(address)?;
        clients.push(std::thread::spawn(move || -> Result<Vec<Duration>> {
            let mut seen = Vec::new();
            for (number, due) in taker {
                let (head, body) = client.get(table, number * 7_919 % KEYS)?;
                // From when it was due, so that a wait for the one before counts.
                if number >= WARM_UP * RATE {
                    seen.push(due.elapsed());
                }
                if !head.contains(&format!("{table}=used, rows 1")) || !body.contains("customer") {
                    return Err(Error::other(format!("another answer: {head}{body}")));
                }
            }
            Ok(seen)
        }));
    }
    let handed = paced(WARM_UP + SECONDS, |number| hands[number as usize % CLIENTS].send((number, Instant::now())).map_err(Error::other));
    drop(hands);
    let mut seen = Vec::new();
    for client in clients {
        seen.extend(client.join().map_err(|_| Error::other("a client panicked"))??);
    }
    // After the clients: one that gave up says why.
    handed.map(|()| seen)
}
