//! How soon many clients get what changes: `ws_clients ADDRESS [CLIENTS] [SECONDS] [SLOW]`.
//!
//! Every client follows the graph, the series and alerts. The figure is the time from a frame's own `at` (when the server
//! looked at the pipeline) to the client having all of it. SLOW clients of them never read. All on one machine: one clock.

mod socket;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket::Socket;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        eprintln!("usage: ws_clients ADDRESS [CLIENTS] [SECONDS] [SLOW]");
        std::process::exit(2);
    };
    let mut number = |default: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (clients, seconds, slow) = (number(100), number(20), number(1));
    let (sender, figures) = channel();
    let until = Instant::now() + Duration::from_secs(seconds);
    let threads: Vec<_> = (0..clients)
        .map(|index| {
            let (address, sender, reads) = (address.clone(), sender.clone(), index >= slow);
            std::thread::spawn(move || {
                // The other end outlives every client.
                let note = |latency, bytes| sender.send((latency, bytes)).unwrap_or_default();
                if let Err(error) = follow(&address, until, reads, note) {
                    eprintln!("client {index}: {error}");
                }
            })
        })
        .collect();
    drop(sender);
    let mut all: Vec<(f64, usize)> = figures.iter().collect();
    for thread in threads {
        // A client that failed has said so.
        let _ = thread.join();
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let quantile = |share: f64| all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1))).map_or(f64::NAN, |(latency, _)| latency * 1e3);
    let bytes: usize = all.iter().map(|(_, bytes)| bytes).sum();
    println!("{clients} clients, {slow} of them never read, {seconds} s: {} graph messages, {:.1} MB/s", all.len(), bytes as f64 / 1e6 / seconds as f64);
    println!("delivery: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, most {:.1} ms", quantile(0.5), quantile(0.95), quantile(0.99), quantile(1.0));
}

fn follow(address: &str, until: Instant, reads: bool, mut note: impl FnMut(f64, usize)) -> std::io::Result<()> {
    let mut socket = Socket::open(address, "")?;
    socket.send(r#"{"subscribe":["graph","series","alerts"]}"#)?;
    if !reads {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        return Ok(());
    }
    while Instant::now() < until {
        let Some(text) = socket.next()? else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let at = text.contains("\"topic\":\"graph\"").then(|| between(&text, "\"at\":")).flatten();
        if let Some(at) = at {
            note((now - at) as f64 / 1e6, text.len());
        }
    }
    Ok(())
}

fn between(text: &str, name: &str) -> Option<i64> {
    let from = text.find(name)? + name.len();
    let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
