//! What watching costs: the same pipeline under `watershed up` with everything on and with everything off, by turns.
//!
//! On: metrics, the default rules every second, a rule over SQL every five, a trace of every epoch, and somebody who asks
//! `/metrics` every second. Off: none of it. A pair is two runs beside each other in time, since a machine has moods.
//! The same is asked of clients of the live API: many, one of which never reads, against none.

#[allow(dead_code)]
#[path = "../../serve/examples/ws_clients/socket.rs"]
mod socket;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::load;
use crate::{process, workload};
use socket::Socket;

const PAIRS: usize = 5;
/// Clients of the live API; the first of them never reads.
const CLIENTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(600);

/// Seconds from the first record to the last, and CPU seconds of the process by then.
struct Turn {
    seconds: f64,
    cpu_seconds: f64,
}

/// A collector that takes every span and does nothing with it; it counts requests.
fn collector() -> std::io::Result<(String, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 64 << 10];
            let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((address, taken))
}

/// Prints by how much everything slows the pipeline down.
pub fn measure(binary: &Path, folder: &Path, rows: u64) -> std::io::Result<()> {
    workload::write_project(folder, rows)?;
    let (address, spans) = collector()?;
    let off = "[engine]\nepoch_interval = \"2s\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[alerts]\nenabled = false\n[telemetry]\nmetrics = false\n".to_owned();
    let on = format!(
        "[engine]\nepoch_interval = \"2s\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[alerts]\ninterval = \"1s\"\n[[alerts.rules]]\nname = \"unbalanced\"\n\
         sql = \"SELECT table_name, sum(read) - sum(delivered + filtered + duplicate + late + quarantined) AS missing FROM system.ledger GROUP BY table_name\"\n\
         when = \"missing != 0\"\nevery = \"5s\"\n[telemetry]\notlp_endpoint = \"{address}\"\n"
    );
    // The first run warms the files.
    turn(binary, folder, rows, &off, &Beside::Nobody)?;
    let (mut slower, mut dearer) = (vec![], vec![]);
    let mut best = [f64::INFINITY; 2];
    for pair in 0..PAIRS {
        // Who goes first changes, for the same reason.
        let watched_first = pair % 2 == 1;
        let once = |watched| if watched { turn(binary, folder, rows, &on, &Beside::Scraper) } else { turn(binary, folder, rows, &off, &Beside::Nobody) };
        let first = once(watched_first)?;
        let second = once(!watched_first)?;
        let (with, without) = if watched_first { (first, second) } else { (second, first) };
        slower.push(with.seconds / without.seconds - 1.0);
        dearer.push(with.cpu_seconds / without.cpu_seconds - 1.0);
        best = [best[0].min(without.seconds), best[1].min(with.seconds)];
    }
    println!(
        "watched     {:.0} rows/s with metrics, alerts, traces and a scraper, {:.0} without; median of {PAIRS} pairs: {:+.1}% time, {:+.1}% CPU ({} exports of spans) (asked: under 3%)",
        rows as f64 / best[1],
        rows as f64 / best[0],
        median(&mut slower) * 100.0,
        median(&mut dearer) * 100.0,
        spans.load(Ordering::Relaxed)
    );
    Ok(())
}

/// Prints how soon clients of the live API have what changes, and by how much they slow the pipeline down.
pub fn clients(binary: &Path, folder: &Path, rows: u64) -> std::io::Result<()> {
    workload::write_project(folder, rows)?;
    let settings = "[engine]\nepoch_interval = \"2s\"\n[serve]\nlisten = \"127.0.0.1:0\"\n";
    turn(binary, folder, rows, settings, &Beside::Nobody)?;
    let (sender, delivered) = channel();
    let beside = Beside::Clients(sender);
    let (mut slower, mut dearer) = (vec![], vec![]);
    for pair in 0..PAIRS {
        let once = |watched| turn(binary, folder, rows, settings, if watched { &beside } else { &Beside::Nobody });
        let watched_first = pair % 2 == 1;
        let (first, second) = (once(watched_first)?, once(!watched_first)?);
        let (with, without) = if watched_first { (first, second) } else { (second, first) };
        slower.push(with.seconds / without.seconds - 1.0);
        dearer.push(with.cpu_seconds / without.cpu_seconds - 1.0);
    }
    drop(beside);
    let mut seen: Vec<f64> = delivered.iter().collect();
    seen.sort_by(f64::total_cmp);
    let quantile = |share: f64| seen.get((seen.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN) * 1e3;
    println!(
        "clients     {CLIENTS} WebSockets on the same cores, one of which never reads, beside a pipeline at full speed: {} messages, p50 {:.0} ms, p99 {:.0} ms from the server's look to the client (asked: p99 below 250 ms); median of {PAIRS} pairs with and without them: {:+.1}% time, {:+.1}% CPU of watershed (asked: 2%; load {})",
        seen.len(),
        quantile(0.5),
        quantile(0.99),
        median(&mut slower) * 100.0,
        median(&mut dearer) * 100.0,
        load()
    );
    Ok(())
}

/// Follows the graph until it is closed; says how old each message is.
fn follow(address: &str, reads: bool, done: &AtomicBool, delivered: &Sender<f64>) -> std::io::Result<()> {
    let mut socket = Socket::open(address, "")?;
    socket.send(r#"{"subscribe":["graph","series","alerts"]}"#)?;
    while !reads && !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    while reads && let Some(text) = socket.next()? {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let at = text.contains("\"topic\":\"graph\"").then(|| text.split_once("\"at\":")).flatten();
        let at: Option<i64> = at.and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        if let Some(at) = at.filter(|_| !done.load(Ordering::Relaxed)) {
            let _ = delivered.send((now - at) as f64 / 1e6); // The other end outlives every client.
        }
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Ends a process that is still there when something went wrong.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Who looks on.
enum Beside {
    Nobody,
    /// `/metrics`, every second.
    Scraper,
    /// Many clients of the live API, which say how old their messages are.
    Clients(Sender<f64>),
}

fn turn(binary: &Path, folder: &Path, rows: u64, settings: &str, beside: &Beside) -> std::io::Result<Turn> {
    let _ = fs::remove_dir_all(folder.join(".watershed"));
    fs::write(folder.join("watershed.toml"), settings)?;
    let child = Command::new(binary).args(["up", "--format", "json", "--project"]).arg(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut running = Running(child);
    let pid = running.0.id();
    let until = Instant::now() + PATIENCE;
    let (mut started, mut scraped) = (None, Instant::now());
    let (done, mut threads) = (Arc::new(AtomicBool::new(false)), Vec::new());
    let ended = loop {
        if Instant::now() > until || running.0.try_wait()?.is_some() {
            return Err(std::io::Error::other("watershed up did not read all records"));
        }
        std::thread::sleep(Duration::from_millis(10));
        let Some(address) = address(folder, pid) else { continue };
        let Some(status) = status(&address) else { continue };
        let read = status["records"].as_u64().unwrap_or(0);
        if read > 0 && started.is_none() {
            started = Some((Instant::now(), read, process::cpu_seconds_of(&pid.to_string())));
            if let Beside::Clients(delivered) = beside {
                for client in 0..CLIENTS {
                    let (address, done, delivered) = (address.clone(), Arc::clone(&done), delivered.clone());
                    // One that the server hangs up on at the end is no failure.
                    threads.push(std::thread::spawn(move || follow(&address, client > 0, &done, &delivered).unwrap_or_default()));
                }
            }
        }
        if matches!(beside, Beside::Scraper) && scraped.elapsed() >= Duration::from_secs(1) {
            scraped = Instant::now();
            let _ = get(&address, "/metrics");
        }
        if read >= rows {
            break (Instant::now(), process::cpu_seconds_of(&pid.to_string()));
        }
    };
    done.store(true, Ordering::Relaxed);
    let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    running.0.wait()?;
    for thread in threads {
        let _ = thread.join();
    }
    let (since, read, cpu) = started.ok_or_else(|| std::io::Error::other("watershed up read nothing"))?;
    // The first look saw some records already: the rest is what was timed.
    let share = rows as f64 / (rows - read).max(1) as f64;
    Ok(Turn { seconds: ended.0.duration_since(since).as_secs_f64() * share, cpu_seconds: (ended.1 - cpu) * share })
}

fn address(folder: &Path, pid: u32) -> Option<String> {
    let run: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(".watershed/run.json")).ok()?).ok()?;
    (run["pid"].as_u64() == Some(u64::from(pid))).then(|| run["address"].as_str().map(str::to_owned)).flatten()
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn status(address: &str) -> Option<serde_json::Value> {
    serde_json::from_str(&get(address, "/v1/status")?).ok()
}
