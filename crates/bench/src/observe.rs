//! What watching costs: the same pipeline under `watershed up` with everything on and with everything off, by turns.
//!
//! On: metrics, the default rules every second, a rule over SQL every five, a trace of every epoch, and somebody who asks
//! `/metrics` every second. Off: none of it. A pair is two runs beside each other in time, since a machine has moods.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{process, workload};

const PAIRS: usize = 5;
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
    turn(binary, folder, rows, &off, false)?;
    let (mut slower, mut dearer) = (vec![], vec![]);
    let mut best = [f64::INFINITY; 2];
    for pair in 0..PAIRS {
        // Who goes first changes, for the same reason.
        let watched_first = pair % 2 == 1;
        let first = turn(binary, folder, rows, if watched_first { &on } else { &off }, watched_first)?;
        let second = turn(binary, folder, rows, if watched_first { &off } else { &on }, !watched_first)?;
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

fn turn(binary: &Path, folder: &Path, rows: u64, settings: &str, scrape: bool) -> std::io::Result<Turn> {
    let _ = fs::remove_dir_all(folder.join(".watershed"));
    fs::write(folder.join("watershed.toml"), settings)?;
    let child = Command::new(binary).args(["up", "--format", "json", "--project"]).arg(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut running = Running(child);
    let pid = running.0.id();
    let until = Instant::now() + PATIENCE;
    let (mut started, mut scraped) = (None, Instant::now());
    let done = loop {
        if Instant::now() > until || running.0.try_wait()?.is_some() {
            return Err(std::io::Error::other("watershed up did not read all records"));
        }
        std::thread::sleep(Duration::from_millis(10));
        let Some(address) = address(folder, pid) else { continue };
        let Some(status) = status(&address) else { continue };
        let read = status["records"].as_u64().unwrap_or(0);
        if read > 0 && started.is_none() {
            started = Some((Instant::now(), read, process::cpu_seconds_of(&pid.to_string())));
        }
        if scrape && scraped.elapsed() >= Duration::from_secs(1) {
            scraped = Instant::now();
            let _ = get(&address, "/metrics");
        }
        if read >= rows {
            break (Instant::now(), process::cpu_seconds_of(&pid.to_string()));
        }
    };
    let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    running.0.wait()?;
    let (since, read, cpu) = started.ok_or_else(|| std::io::Error::other("watershed up read nothing"))?;
    // The first look saw some records already: the rest is what was timed.
    let share = rows as f64 / (rows - read).max(1) as f64;
    Ok(Turn { seconds: done.0.duration_since(since).as_secs_f64() * share, cpu_seconds: (done.1 - cpu) * share })
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
