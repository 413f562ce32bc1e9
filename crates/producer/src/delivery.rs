//! What comes back from librdkafka: delivery reports, statistics, errors, log lines.
//!
//! **Owns** the counts of what was acknowledged and what failed. Reports are handled where the producer is polled, one
//! thread at a time, so counters are written without a lock on the bus; others may read them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

use crate::histogram::Histogram;

/// Everything that is counted on the way back.
pub(crate) struct Tally {
    began: Instant,
    /// Records of any fate; moves when a poll has handled something.
    pub settled: AtomicU64,
    /// Records the broker has acknowledged.
    pub acknowledged: AtomicU64,
    /// Bytes of their keys and values.
    pub bytes: AtomicU64,
    partitions: OnceLock<Box<[AtomicU64]>>,
    latency: Mutex<Histogram>,
    failures: Mutex<BTreeMap<i32, u64>>,
    problems: Mutex<Problems>,
    /// librdkafka's error events come through two callbacks, one after the other.
    second_call: AtomicBool,
    wire: Mutex<Wire>,
}

/// Errors of the client as a whole, such as a connection that is refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems {
    /// How often each came, by librdkafka's name.
    pub counts: BTreeMap<String, u64>,
    /// The last one in words.
    pub last: Option<String>,
}

/// Sums over librdkafka's statistics events.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Wire {
    /// How many events were summed.
    pub events: u64,
    /// Batches, and the records and bytes in them (compressed, with headers).
    pub batches: u64,
    pub batch_records: u64,
    pub batch_bytes: u64,
    /// Records put into requests, retries counted again, and the bytes of their keys and values.
    pub sent_records: u64,
    pub sent_bytes: u64,
    /// Everything written to sockets.
    pub socket_bytes: u64,
    /// Requests that were sent again.
    pub retries: u64,
}

fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed) + by, Relaxed);
}

impl Tally {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            settled: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            partitions: OnceLock::new(),
            latency: Mutex::default(),
            failures: Mutex::default(),
            problems: Mutex::default(),
            second_call: AtomicBool::new(false),
            wire: Mutex::default(),
        })
    }

    /// Says how many partitions there are, once they are known.
    pub(crate) fn partitions_are(&self, partitions: u32) {
        let _ = self.partitions.set((0..partitions).map(|_| AtomicU64::new(0)).collect());
    }

    /// What a record whose latency is measured carries: now, never 0.
    pub(crate) fn stamp(&self) -> usize {
        self.began.elapsed().as_micros() as usize + 1
    }

    /// Acknowledged records of each partition.
    pub(crate) fn by_partition(&self) -> Vec<u64> {
        self.partitions.get().map(|all| all.iter().map(|n| n.load(Relaxed)).collect()).unwrap_or_default()
    }

    /// Failed records by librdkafka's error code.
    pub(crate) fn failures(&self) -> BTreeMap<i32, u64> {
        self.failures.lock().clone()
    }

    pub(crate) fn problems(&self) -> Problems {
        self.problems.lock().clone()
    }

    pub(crate) fn wire(&self) -> Wire {
        *self.wire.lock()
    }

    /// Reads the latencies.
    pub(crate) fn latency<T>(&self, read: impl FnOnce(&Histogram) -> T) -> T {
        read(&self.latency.lock())
    }

    fn settle(&self, result: &DeliveryResult<'_>, stamp: usize) {
        bump(&self.settled, 1);
        match result {
            Ok(message) => {
                bump(&self.acknowledged, 1);
                bump(&self.bytes, (message.payload_len() + message.key_len()) as u64);
                if let Some(count) = self.partitions.get().and_then(|all| all.get(message.partition() as usize)) {
                    bump(count, 1);
                }
                if stamp != 0 {
                    let took = self.stamp() - stamp.min(self.stamp());
                    self.latency.lock().add(took as u64);
                }
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().map_or(RDKafkaErrorCode::Unknown as i32, |code| code as i32);
                *self.failures.lock().entry(code).or_default() += 1;
            }
        }
    }
}

/// librdkafka's name of an error, such as `_MSG_TIMED_OUT`.
pub(crate) fn name_of(code: i32) -> String {
    match RDKafkaRespErr::try_from(code) {
        Ok(known) => format!("{known:?}").trim_start_matches("RD_KAFKA_RESP_ERR_").to_owned(),
        Err(_) => format!("ERR_{code}"),
    }
}

/// Whether a record that failed this way surely is in no log.
///
/// SUBTLE: a time-out may have hit a record that was sent and not answered. librdkafka knows which, but its safe Rust
/// interface does not tell; the report bounds their number by what was ever put into a request.
pub(crate) fn surely_failed(code: i32) -> bool {
    use RDKafkaErrorCode as E;
    const MAYBE: [E; 10] = [
        E::MessageTimedOut,
        E::OperationTimedOut,
        E::RequestTimedOut,
        E::TimedOutQueue,
        E::BrokerTransportFailure,
        E::PurgeInflight,
        E::NetworkException,
        E::NotEnoughReplicasAfterAppend,
        E::Unknown,
        E::DestroyBroker,
    ];
    !MAYBE.iter().any(|maybe| *maybe as i32 == code)
}

/// The producer's callbacks.
pub(crate) struct Deliveries(pub Arc<Tally>);

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    /// [`Tally::stamp`] of a record whose latency is measured; 0 of any other.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, stamp: usize) {
        self.0.settle(result, stamp);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => tracing::warn!(facility, "{message}"),
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, "{message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.0.second_call.fetch_xor(true, Relaxed) {
            return;
        }
        let name = error.rdkafka_error_code().map_or_else(|| "UNKNOWN".to_owned(), |code| name_of(code as i32));
        tracing::debug!(name, "{reason}");
        let mut problems = self.0.problems.lock();
        *problems.counts.entry(name).or_default() += 1;
        problems.last = Some(reason.to_owned());
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(seen) => seen.add_to(&mut self.0.wire.lock()),
            Err(error) => tracing::debug!(%error, "statistics that cannot be read"),
        }
    }
}

/// The few of librdkafka's statistics that are used.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    txmsgs: u64,
    #[serde(default)]
    txmsg_bytes: u64,
    #[serde(default)]
    brokers: BTreeMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    #[serde(default)]
    txbytes: u64,
    #[serde(default)]
    txretries: u64,
}

#[derive(Deserialize)]
struct TopicStatistics {
    batchsize: Window,
    batchcnt: Window,
}

/// What was seen since the last statistics event.
#[derive(Deserialize)]
struct Window {
    sum: i64,
    cnt: i64,
}

impl Statistics {
    fn add_to(&self, wire: &mut Wire) {
        wire.events += 1;
        (wire.sent_records, wire.sent_bytes) = (self.txmsgs, self.txmsg_bytes);
        wire.socket_bytes = self.brokers.values().map(|b| b.txbytes).sum();
        wire.retries = self.brokers.values().map(|b| b.txretries).sum();
        for topic in self.topics.values() {
            wire.batches += topic.batchcnt.cnt.max(0) as u64;
            wire.batch_records += topic.batchcnt.sum.max(0) as u64;
            wire.batch_bytes += topic.batchsize.sum.max(0) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_librdkafkas_names_and_a_certainty() {
        let codes = [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::PurgeQueue, RDKafkaErrorCode::MessageSizeTooLarge];
        assert_eq!(codes.map(|code| name_of(code as i32)), ["_MSG_TIMED_OUT", "_PURGE_QUEUE", "MSG_SIZE_TOO_LARGE"]);
        assert_eq!(codes.map(|code| surely_failed(code as i32)), [false, true, true]);
        assert_eq!(name_of(99_999), "ERR_99999");
    }

    #[test]
    fn statistics_are_summed_over_their_windows() {
        let text = r#"{"txmsgs":10,"txmsg_bytes":3000,"brokers":{"a":{"txbytes":900,"txretries":1},"b":{"txbytes":100,"txretries":0}},
            "topics":{"t":{"topic":"t","batchsize":{"sum":800,"cnt":2,"avg":400},"batchcnt":{"sum":10,"cnt":2}}}}"#;
        let seen: Statistics = serde_json::from_str(text).expect("JSON");
        let mut wire = Wire::default();
        seen.add_to(&mut wire);
        seen.add_to(&mut wire);
        let expected = Wire { events: 2, batches: 4, batch_records: 20, batch_bytes: 1_600, sent_records: 10, sent_bytes: 3_000, socket_bytes: 1_000, retries: 1 };
        assert_eq!(wire, expected);
    }
}
