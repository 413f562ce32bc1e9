//! Progress on stderr: two live lines on a terminal, plain lines elsewhere, JSON events for machines.
//!
//! **Owns** what is shown and how often. **Does not own** the figures: they are the pipeline's status, read a few times a
//! second, so that the tick thread never waits for a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use watershed_engine::run::{Handle, SharedStatus, Status};

use crate::arguments::Format;

/// How often a line is written when nothing changes.
const QUIET: Duration = Duration::from_secs(60);

/// A progress reporter; ends with the pipeline.
pub struct Progress {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Terminal,
    Lines,
    Json,
}

impl Progress {
    /// Starts reporting.
    pub fn start(handle: &Handle, format: Format) -> Progress {
        let manner = match format {
            Format::Json => Manner::Json,
            Format::Table | Format::Csv if std::io::stderr().is_terminal() => Manner::Terminal,
            Format::Table | Format::Csv => Manner::Lines,
        };
        let status = Arc::clone(&handle.status);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || report(&status, manner, &stopped)).ok();
        Progress { stop, thread }
    }

    /// Writes the last line.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn report(status: &SharedStatus, manner: Manner, stop: &AtomicBool) {
    let every = Duration::from_millis(match manner {
        Manner::Terminal => 200,
        Manner::Lines => 2_000,
        Manner::Json => 1_000,
    });
    let bars = (manner == Manner::Terminal).then(Bars::new);
    let mut rate = Rate::default();
    let mut told = ((u64::MAX, 0, String::new()), Instant::now());
    let mut next = Instant::now() + every;
    loop {
        let ends = stop.load(Ordering::SeqCst);
        if !ends && Instant::now() < next {
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            continue;
        }
        next = Instant::now() + every;
        let seen = status.read().clone();
        let now = rate.now(seen.records);
        match (manner, &bars) {
            (Manner::Json, _) => eprintln!("{}", event(&seen, now)),
            (_, Some(bars)) if !ends => bars.show(&seen, now),
            (_, Some(bars)) => bars.clear(),
            (_, None) => {
                // A log of somebody's quiet night need not hold a line every two seconds.
                let moved = (seen.records, seen.epoch, seen.state.clone());
                if moved != told.0 || told.1.elapsed() >= QUIET || ends {
                    told = (moved, Instant::now());
                    eprintln!("{}", headline(&seen, now));
                    eprintln!("  {}", details(&seen));
                }
            }
        }
        if ends {
            return;
        }
    }
}

struct Bars {
    all: MultiProgress,
    lines: [ProgressBar; 2],
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let lines = [(); 2].map(|()| all.add(ProgressBar::new_spinner().with_style(style.clone())));
        Self { all, lines }
    }
    fn show(&self, status: &Status, rate: f64) {
        self.lines[0].set_message(headline(status, rate));
        self.lines[1].set_message(format!("  {}", details(status)));
        for line in &self.lines {
            line.tick();
        }
    }
    fn clear(&self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}

/// Records a second over the last few seconds; falls to nothing when nothing comes.
#[derive(Default)]
struct Rate {
    marks: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    fn now(&mut self, total: u64) -> f64 {
        let now = Instant::now();
        self.marks.push_back((now, total));
        while self.marks.len() > 2 && now.duration_since(self.marks[0].0) > Duration::from_secs(3) {
            self.marks.pop_front();
        }
        let (since, before) = self.marks[0];
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 { total.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

fn headline(status: &Status, rate: f64) -> String {
    let mut parts = vec![status.state.clone(), format!("epoch {}", status.epoch), format!("{}/s", grouped(rate.round() as u64)), format!("{} records", grouped(status.records))];
    parts.extend(lag(status));
    let (rows, bytes) = state(status);
    if rows > 0 {
        parts.push(format!("state {} rows, {}", grouped(rows), size(bytes)));
    }
    if status.committed_at.is_some() {
        parts.push(format!("commit {:.0} ms", status.commit_seconds * 1e3));
    }
    parts.join(" · ")
}

fn details(status: &Status) -> String {
    let mut parts = Vec::new();
    if status.watermark == Some(i64::MAX) {
        parts.push("watermark at the end of time".to_owned());
    } else if let Some(watermark) = status.watermark {
        let behind = (chrono::Utc::now().timestamp_micros() - watermark) / 1_000_000;
        parts.push(format!("watermark {}, {}", clock(watermark), behind_now(behind)));
    }
    let refused: Vec<String> = status.quarantine.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
    if !refused.is_empty() {
        parts.push(format!("refused {}", refused.join(", ")));
    }
    if parts.is_empty() && status.records == 0 {
        parts.push("waiting for records".to_owned());
    }
    parts.join(" · ")
}

fn lag(status: &Status) -> Option<String> {
    let lags = |pick: fn(&watershed_engine::run::SourceStatus) -> Option<u64>| status.sources.values().filter_map(pick).reduce(|a, b| a.saturating_add(b));
    match (lags(|s| s.lag_records), lags(|s| s.lag_bytes)) {
        (Some(0), _) | (None, Some(0)) => Some("caught up".to_owned()),
        (Some(records), _) => Some(format!("{} behind", grouped(records))),
        (None, Some(bytes)) => Some(format!("{} behind", size(bytes))),
        (None, None) => None,
    }
}

fn state(status: &Status) -> (u64, u64) {
    status.operators.values().fold((0, 0), |(rows, bytes), o| (rows + o.rows, bytes + o.bytes))
}

fn event(status: &Status, rate: f64) -> serde_json::Value {
    let (rows, bytes) = state(status);
    json!({
        "event": "progress",
        "state": status.state,
        "epoch": status.epoch,
        "records": status.records,
        "rate": rate.round() as u64,
        "lag_records": status.sources.values().filter_map(|s| s.lag_records).reduce(|a, b| a.saturating_add(b)),
        "lag_bytes": status.sources.values().filter_map(|s| s.lag_bytes).reduce(|a, b| a.saturating_add(b)),
        "watermark": status.watermark.map(watershed_engine::time::timestamp),
        "quarantine": status.quarantine,
        "state_rows": rows,
        "state_bytes": bytes,
        "operators": status.operators,
        "stages": status.stages,
        "first_row_seconds": status.first_row_seconds,
        "commit_seconds": status.commit_seconds,
        "error": status.error,
    })
}

fn behind_now(seconds: i64) -> String {
    match seconds {
        i64::MIN..=-1 => format!("{} ahead", span(seconds.saturating_neg())),
        _ => format!("{} behind", span(seconds)),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", grouped((seconds / 86_400) as u64)),
    }
}

/// Microseconds since 1970 as a date and a time of day.
pub fn clock(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(|| "at the end of time".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 2_048, 3 << 20, 5 << 29].map(size), ["5 B", "2.0 KB", "3.0 MB", "2.50 GB"]);
        assert_eq!([-5, 90, 600, 7_200, 400_000].map(behind_now), ["5 s ahead", "90 s behind", "10 min behind", "2 h behind", "4 days behind"]);
    }
}
