//! What a run says: while it goes on, and at its end. Everything is JSON by `Serialize`, and text by `render`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use watershed_types::{Error, Result};

use crate::text::{grouped, rounded, size};

/// What happens during a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The topic is there and the first record is about to leave.
    Started {
        /// The topic.
        topic: String,
        /// Its partitions.
        partitions: u32,
        /// Customers found hot, in the first pass; empty unless hot keys were asked for or salted.
        hot_keys: usize,
    },
    /// Where the run stands.
    Progress(Progress),
}

impl Event {
    /// One line for people.
    pub fn render(&self) -> String {
        match self {
            Event::Started { topic, partitions, hot_keys: 0 } => format!("sending to \"{topic}\", {partitions} partitions"),
            Event::Started { topic, partitions, hot_keys } => format!("sending to \"{topic}\", {partitions} partitions, {} hot keys", grouped(*hot_keys as u64)),
            Event::Progress(progress) => progress.render(),
        }
    }
}

/// Where a run stands; rates are since the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Seconds since the start.
    pub seconds: f64,
    /// Records handed to librdkafka.
    pub sent: u64,
    /// Records the broker has acknowledged.
    pub acknowledged: u64,
    /// Acknowledged records per second.
    pub records_per_second: f64,
    /// Their keys and values, 1,000,000 bytes per second.
    pub megabytes_per_second: f64,
    /// Records waiting in the queue, for an answer, or for their report to be read.
    pub in_flight: u64,
    /// Records a batch, since the last statistics; 0 without any.
    pub batch_records: f64,
    /// Bytes of a batch as it is sent.
    pub batch_bytes: f64,
    /// Records that have failed.
    pub failed: u64,
    /// Errors of the client as a whole, such as refused connections.
    pub errors: u64,
}

impl Progress {
    /// One line for people.
    pub fn render(&self) -> String {
        let mut line = format!(
            "{:>4.0} s · {}/s · {:.1} MB/s · {} acknowledged · {} in flight",
            self.seconds,
            rounded(self.records_per_second),
            self.megabytes_per_second,
            grouped(self.acknowledged),
            grouped(self.in_flight)
        );
        if self.batch_records > 0.0 {
            let _ = write!(line, " · batch {}, {}", rounded(self.batch_records), size(self.batch_bytes as u64));
        }
        if self.failed > 0 {
            let _ = write!(line, " · {} FAILED", grouped(self.failed));
        }
        if self.errors > 0 {
            let _ = write!(line, " · {} errors", grouped(self.errors));
        }
        line
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It has sent as many records as it should.
    Records,
    /// It has sent for as long as it should.
    Seconds,
    /// It was stopped.
    Stopped,
    /// It could not go on.
    Failed,
}

/// Times from handing a record over to reading its acknowledgement, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the records took at most so long.
    pub p50_ms: f64,
    /// 95 of 100.
    pub p95_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The slowest of those measured.
    pub max_ms: f64,
    /// How many were measured.
    pub samples: u64,
    /// Every so-manyth record was measured.
    pub every: u64,
}

/// Batches as they left, from librdkafka's statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Batches {
    /// How many, retries included.
    pub count: u64,
    /// Records of one, on average.
    pub records: f64,
    /// Bytes of one, compressed and with its header, on average.
    pub bytes: f64,
    /// Bytes of all.
    pub wire_bytes: u64,
    /// Bytes of keys and values over bytes of batches: above 1, compression has saved something.
    pub compression_ratio: f64,
    /// Requests that were sent again.
    pub retries: u64,
}

/// How unevenly partitions are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Skew {
    /// Records of the fullest partition.
    pub max: u64,
    /// Records of a partition on average.
    pub mean: f64,
    /// The fullest over the mean; 1 is perfectly even.
    pub ratio: f64,
}

impl Skew {
    /// The skew of these counts; 0 everywhere without records.
    pub fn of(counts: &[u64]) -> Self {
        let max = counts.iter().copied().max().unwrap_or(0);
        let mean = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
        Self { max, mean, ratio: if mean > 0.0 { max as f64 / mean } else { 0.0 } }
    }
}

/// A key that the first pass found hot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HotKey {
    /// The key, without suffix.
    pub key: String,
    /// The share of the traffic that it surely had in the first pass.
    pub share: f64,
}

/// Hot keys and what salting them has changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SkewReport {
    /// Hot keys, the hottest first.
    pub hot_keys: Vec<HotKey>,
    /// Suffixes each of them was spread over; 1: none.
    pub salt: u32,
    /// Where records would have gone without suffixes; `None` when there were none, or the partitioner is not the
    /// Java client's.
    pub before: Option<Skew>,
    /// Where they went.
    pub after: Skew,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartitionCount {
    /// Its number.
    pub partition: u32,
    /// Records that were acknowledged.
    pub records: u64,
    /// Records that would have gone here without suffixes.
    pub unsalted: Option<u64>,
}

/// Records that were not acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Failed {
    /// Surely in no log (or in an aborted transaction).
    pub surely: u64,
    /// Sent and not answered: may be in a log.
    pub perhaps: u64,
    /// By librdkafka's name of the error.
    pub by_error: BTreeMap<String, u64>,
}

/// Transactions of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Transactions {
    /// How many were committed.
    pub committed: u64,
    /// Records in them.
    pub records: u64,
    /// How many were aborted.
    pub aborted: u64,
    /// Acknowledged records in them, which readers of committed records never see.
    pub aborted_records: u64,
    /// Acknowledged records whose transaction may have been committed or not.
    pub unknown_records: u64,
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The topic.
    pub topic: String,
    /// Why it ended.
    pub ended: Ended,
    /// From the first record to the last acknowledgement.
    pub seconds: f64,
    /// Records handed to librdkafka.
    pub sent: u64,
    /// Records that count as delivered: acknowledged, and committed if there are transactions.
    pub acknowledged: u64,
    /// Bytes of the keys and values of all acknowledged records.
    pub bytes: u64,
    /// Acknowledged records per second.
    pub records_per_second: f64,
    /// Their keys and values, 1,000,000 bytes per second.
    pub megabytes_per_second: f64,
    /// `None` if `statistics.interval.ms` is 0.
    pub batches: Option<Batches>,
    /// From handing over to acknowledgement.
    pub latency: Latency,
    /// What was not acknowledged.
    pub failed: Failed,
    /// Errors of the client as a whole by librdkafka's name; most are followed by a successful retry.
    pub errors: BTreeMap<String, u64>,
    /// The last of them in words.
    pub last_error: Option<String>,
    /// Seconds the sender has waited because the queue was full.
    pub waited_seconds: f64,
    /// What the records sent were meant to be: `good`, `duplicate`, `invalid`, `corrupt`, `wrong_type`, `late`.
    pub made: BTreeMap<&'static str, u64>,
    /// Hot keys, and skew before and after.
    pub skew: SkewReport,
    /// Each partition.
    pub partitions: Vec<PartitionCount>,
    /// `None` without transactions.
    pub transactions: Option<Transactions>,
    /// Why it could not go on, if it could not.
    pub fatal: Option<String>,
}

impl Report {
    /// An error if a record failed (`PRD0006`), a transaction did (`PRD0007`), or the run could not go on (`PRD0008`).
    /// The report is worth printing in any case.
    pub fn verdict(&self) -> Result<()> {
        let Failed { surely, perhaps, .. } = &self.failed;
        let (surely, perhaps) = (*surely, *perhaps);
        let counts = format!("{} records surely failed and {} may have landed", grouped(surely), grouped(perhaps));
        let code = match (&self.fatal, &self.transactions) {
            (None, _) if surely + perhaps == 0 => return Ok(()),
            (Some(_), Some(_)) => "PRD0007",
            (Some(_), None) => "PRD0008",
            (None, _) => "PRD0006",
        };
        let error = match code {
            "PRD0007" => Error::unavailable(code, format!("the transactions into \"{}\" cannot go on; {counts}", self.topic)),
            "PRD0008" => Error::unavailable(code, format!("the producer for \"{}\" cannot go on; {counts}", self.topic)),
            _ => Error::unavailable(code, format!("of {} records for \"{}\", {counts}", grouped(self.sent), self.topic)),
        };
        let error = if perhaps > 0 { error.indefinite() } else { error.definite() };
        let error = error.hint("The report names the errors; run `watershed explain` with the code for what to do.");
        Err(match (&self.fatal, &self.last_error) {
            (Some(cause), _) | (None, Some(cause)) => error.caused_by(cause.clone()),
            (None, None) => error,
        })
    }

    /// Text for people, several lines.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_into(&mut out);
        out
    }

    fn render_into(&self, out: &mut String) {
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        let why = match self.ended {
            Ended::Records | Ended::Seconds => "",
            Ended::Stopped => " (stopped)",
            Ended::Failed => " (could not go on)",
        };
        line(format!("{} of {} records acknowledged by \"{}\" in {:.2} s{why}", grouped(self.acknowledged), grouped(self.sent), self.topic, self.seconds));
        let each = self.bytes / self.acknowledged.max(1);
        line(format!("  {} records/s, {:.1} MB/s, {} a record with its key", rounded(self.records_per_second), self.megabytes_per_second, size(each)));
        if let Some(b) = &self.batches {
            line(format!(
                "  {} batches of {} records and {}; compression {:.2} ({} as {})",
                grouped(b.count),
                rounded(b.records),
                size(b.bytes as u64),
                b.compression_ratio,
                size((b.compression_ratio * b.wire_bytes as f64) as u64),
                size(b.wire_bytes)
            ));
        }
        let l = &self.latency;
        let sampled = if l.every > 1 { format!("one record in {}", grouped(l.every)) } else { "every record".to_owned() };
        line(format!("  acknowledged after p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({sampled})", l.p50_ms, l.p95_ms, l.p99_ms, l.max_ms));
        if self.waited_seconds >= 0.05 {
            line(format!("  the sender waited {:.1} s for room in the queue", self.waited_seconds));
        }
        if let Some(t) = &self.transactions {
            let aborted = if t.aborted > 0 { format!("; {} aborted, with {}", grouped(t.aborted), grouped(t.aborted_records)) } else { String::new() };
            line(format!("  {} transactions committed, with {} records{aborted}", grouped(t.committed), grouped(t.records)));
        }
        let made: Vec<String> = self.made.iter().map(|(kind, count)| format!("{} {}", grouped(*count), kind.replace('_', " "))).collect();
        line(format!("  made: {}", made.join(", ")));
        self.render_skew(&mut line);
        if self.failed.surely + self.failed.perhaps > 0 {
            let named: Vec<String> = self.failed.by_error.iter().map(|(name, count)| format!("{} {name}", grouped(*count))).collect();
            line(format!("  ✗ {} surely failed, {} may have landed: {}", grouped(self.failed.surely), grouped(self.failed.perhaps), named.join(", ")));
        }
        if !self.errors.is_empty() {
            let named: Vec<String> = self.errors.iter().map(|(name, count)| format!("{} {name}", grouped(*count))).collect();
            line(format!("  errors of the client: {}", named.join(", ")));
        }
        if let Some(fatal) = &self.fatal {
            line(format!("  ✗ {fatal}"));
        }
    }

    fn render_skew(&self, line: &mut impl FnMut(String)) {
        let s = &self.skew;
        if !s.hot_keys.is_empty() {
            let most: Vec<String> = s.hot_keys.iter().take(5).map(|hot| format!("{} {:.1}%", hot.key, hot.share * 100.0)).collect();
            let more = if s.hot_keys.len() > 5 { format!(" and {} more", grouped(s.hot_keys.len() as u64 - 5)) } else { String::new() };
            line(format!("  hot keys: {}{more}", most.join(", ")));
        }
        let ratio = |skew: &Skew| format!("{:.2} (fullest {}, mean {})", skew.ratio, grouped(skew.max), rounded(skew.mean));
        match &s.before {
            Some(before) => {
                line(format!("  skew without salt {}", ratio(before)));
                line(format!("  skew with {} suffixes {}", s.salt, ratio(&s.after)));
            }
            None => line(format!("  skew {}", ratio(&s.after))),
        }
        const SHOWN: usize = 16;
        for partition in self.partitions.iter().take(SHOWN) {
            let unsalted = partition.unsalted.map(|count| format!("   (without salt {})", grouped(count))).unwrap_or_default();
            line(format!("    partition {:>3}  {:>14}{unsalted}", partition.partition, grouped(partition.records)));
        }
        if self.partitions.len() > SHOWN {
            line(format!("    … {} partitions more", self.partitions.len() - SHOWN));
        }
    }
}

#[cfg(test)]
mod tests;
