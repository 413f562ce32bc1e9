//! What a run has counted, as a report.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use watershed_simulator::{Made, customer_id};

use crate::delivery::{Wire, name_of, surely_failed};
use crate::engine::Run;
use crate::report::{Batches, Ended, Failed, HotKey, Latency, PartitionCount, Report, Skew, SkewReport};
use crate::salt::Salt;
use crate::transactions::Transacting;

/// Kinds of records and their names in a report.
pub(crate) const KINDS: [(Made, &str); 6] =
    [(Made::Good, "good"), (Made::Duplicate, "duplicate"), (Made::Invalid, "invalid"), (Made::Corrupt, "corrupt"), (Made::WrongType, "wrong_type"), (Made::Late, "late")];

impl<F> Run<F> {
    /// The report of a run that took so long; `wire` is `None` if there are no statistics.
    pub(crate) fn report(self, took: Duration, wire: Option<Wire>, salt: &Salt) -> Report {
        let tally = &self.link.tally;
        let transactions = self.transacting.as_ref().map(Transacting::totals);
        let settled = tally.acknowledged.load(Relaxed);
        let acknowledged = transactions.map_or(settled, |t| t.records);
        let bytes = tally.bytes.load(Relaxed);
        let seconds = took.as_secs_f64().max(1e-9);
        let counts = tally.by_partition();
        let problems = tally.problems();
        let id = |customer| {
            let mut id = Vec::new();
            customer_id(customer, &mut id);
            String::from_utf8_lossy(&id).into_owned()
        };
        Report {
            topic: self.options.topic.clone(),
            ended: self.ended.unwrap_or(Ended::Stopped),
            seconds,
            sent: self.sent,
            acknowledged,
            bytes,
            records_per_second: acknowledged as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            batches: wire.filter(|wire| wire.batches > 0).map(batches),
            latency: tally.latency(|h| {
                let ms = |share| h.quantile(share) as f64 / 1e3;
                Latency { p50_ms: ms(0.5), p95_ms: ms(0.95), p99_ms: ms(0.99), max_ms: h.max() as f64 / 1e3, samples: h.count(), every: self.every }
            }),
            failed: self.failed(wire, settled, transactions.map_or((0, 0), |t| (t.aborted_records, t.unknown_records))),
            last_error: problems.last.clone(),
            errors: problems.counts,
            waited_seconds: self.waited.as_secs_f64(),
            made: KINDS.iter().zip(self.made_by_kind()).filter(|(_, count)| *count > 0).map(|((_, name), count)| (*name, count)).collect(),
            skew: SkewReport {
                hot_keys: salt.hot.iter().map(|(customer, share)| HotKey { key: id(*customer), share: *share }).collect(),
                salt: salt.ways(),
                before: self.unsalted.as_ref().map(|counts| Skew::of(&counts.0)),
                after: Skew::of(&counts),
            },
            partitions: counts
                .iter()
                .enumerate()
                .map(|(partition, records)| PartitionCount {
                    partition: partition as u32,
                    records: *records,
                    unsalted: self.unsalted.as_ref().and_then(|counts| counts.0.get(partition).copied()),
                })
                .collect(),
            transactions,
            fatal: self.fatal.clone(),
        }
    }

    fn made_by_kind(&self) -> [u64; KINDS.len()] {
        KINDS.map(|(made, _)| self.made[made as usize])
    }

    fn failed(&self, wire: Option<Wire>, settled: u64, (aborted, unknown): (u64, u64)) -> Failed {
        let (mut surely, mut perhaps) = (0, 0);
        let mut by_error = BTreeMap::new();
        for (code, count) in self.link.tally.failures().into_iter().chain(self.refused.clone()) {
            *by_error.entry(name_of(code)).or_default() += count;
            *(if surely_failed(code) { &mut surely } else { &mut perhaps }) += count;
        }
        if self.transacting.is_some() {
            // What is not committed is not seen, whether or not it is in the log.
            (surely, perhaps) = (surely + perhaps + aborted, unknown);
            if aborted > 0 {
                by_error.insert("ABORTED".to_owned(), aborted);
            }
        } else if let Some(wire) = wire {
            // Only what was ever put into a request can have landed.
            let most = wire.sent_records.saturating_sub(settled);
            (surely, perhaps) = (surely + perhaps.saturating_sub(most), perhaps.min(most));
        }
        Failed { surely, perhaps, by_error }
    }
}

fn batches(wire: Wire) -> Batches {
    let count = wire.batches.max(1) as f64;
    Batches {
        count: wire.batches,
        records: wire.batch_records as f64 / count,
        bytes: wire.batch_bytes as f64 / count,
        wire_bytes: wire.batch_bytes,
        compression_ratio: wire.sent_bytes as f64 / wire.batch_bytes.max(1) as f64,
        retries: wire.retries,
    }
}
