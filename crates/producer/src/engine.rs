//! The run: one thread that sends, polls, and keeps the pace.
//!
//! Sending and reading delivery reports share a thread on purpose: a report's memory is freed by the thread that
//! allocated it, and no thread wakes another for each batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use watershed_simulator::{Rate, Simulator};
use watershed_types::{Error, Result};

use crate::delivery::{Tally, Wire};
use crate::generate::Supply;
use crate::link::Link;
use crate::options::{Guarantee, ProduceOptions};
use crate::pace::{Pace, Turn};
use crate::partitioner::{Counts, is_java};
use crate::records::Records;
use crate::report::{Ended, Event, Progress, Report};
use crate::salt::Salt;
use crate::summary::KINDS;
use crate::topic;
use crate::transactions::Transacting;

/// Waits are cut into pieces of this length, so that a stop is noticed.
const SLICE: Duration = Duration::from_millis(20);
/// How long the sender waits for room in the queue before it looks again.
const ROOM: Duration = Duration::from_micros(300);
/// How many latencies a second are enough.
const SAMPLES_PER_SECOND: f64 = 5_000.0;
/// Every so-manyth latency without a pace.
const UNPACED_EVERY: u64 = 16;

/// Sends simulated transactions until the options or `stop` end it; then waits for what is in flight.
///
/// `events` is called on this thread, about as often as `progress_every` says. Records that failed are no error here:
/// ask [`Report::verdict`].
///
/// # Errors
///
/// `PRD0001` options, `PRD0002` properties, `PRD0003` brokers that do not answer, `PRD0004` no such topic, `PRD0005` a
/// topic that cannot be created, `PRD0007` no transactions possible, `PRD0009` no thread: nothing was sent.
pub fn run(options: ProduceOptions, stop: Arc<AtomicBool>, events: impl FnMut(Event)) -> Result<Report> {
    options.check()?;
    let config = topic::properties(&options);
    let tally = Tally::new();
    let link = Link { producer: topic::connect(&config, &tally)?, tally };
    let partitions = topic::prepare(&options, &config, &link.producer, &link.tally, &stop)?;
    link.tally.partitions_are(partitions);
    let now = chrono::Utc::now().timestamp_micros();
    let simulator = Simulator::new(options.profile(now));
    let salt = Arc::new(find_salt(&options, &simulator, partitions));
    let transacting = match &options.guarantee {
        Guarantee::Transactional { records, interval } => Some(Transacting::start(&link, *records, *interval).map_err(|e| no_transactions(&options, e))?),
        _ => None,
    };
    let supply = Supply::start(Records::new(simulator, Arc::clone(&salt), partitions), options.records, options.generators)?;
    let every = match options.rate {
        Rate::Max => UNPACED_EVERY,
        Rate::PerSecond(rate) => ((rate / SAMPLES_PER_SECOND).ceil() as u64).max(1),
    };
    let statistics = config.get("statistics.interval.ms").and_then(|text| text.parse().ok()).map(Duration::from_millis).filter(|every| !every.is_zero());
    let salting = salt.ways() > 1 && config.get("partitioner").is_some_and(is_java);
    let began = Instant::now();
    let mut run = Run {
        next_progress: (!options.progress_every.is_zero()).then(|| began + options.progress_every),
        ends_at: options.seconds.and_then(|seconds| began.checked_add(Duration::from_secs_f64(seconds))),
        last: Progress::default(),
        last_bytes: 0,
        last_wire: Wire::default(),
        unsalted: salting.then(|| Counts::new(partitions)),
        sent: 0,
        moment: 0,
        made: [0; KINDS.len()],
        refused: BTreeMap::new(),
        waited: Duration::ZERO,
        ended: None,
        fatal: None,
        options,
        link,
        stop,
        events,
        transacting,
        every,
        began,
    };
    (run.events)(Event::Started { topic: run.options.topic.clone(), partitions, hot_keys: salt.hot.len() });
    run.send_all(supply);
    let took = run.settle();
    let wire = statistics.map(|interval| run.link.last_statistics(interval));
    Ok(run.report(took, wire, &salt))
}

fn find_salt(options: &ProduceOptions, simulator: &Simulator, partitions: u32) -> Salt {
    if options.hot_keys <= 0.0 && options.salt_hot_keys < 2 {
        return Salt::default();
    }
    let threshold = options.hot_key_threshold.unwrap_or(0.25 / f64::from(partitions.max(1)));
    Salt::find(simulator, options.records, threshold, options.salt_hot_keys)
}

fn no_transactions(options: &ProduceOptions, cause: KafkaError) -> Error {
    Error::unavailable("PRD0007", format!("transactions into \"{}\" cannot be started", options.topic))
        .caused_by(cause.to_string())
        .hint("Check the right to use the transactional.id, and that the brokers' transaction log is up.")
        .definite()
}

/// A run at work: what it was told, and what it has counted.
pub(crate) struct Run<F> {
    pub(crate) options: ProduceOptions,
    pub(crate) link: Link,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) events: F,
    pub(crate) transacting: Option<Transacting>,
    pub(crate) began: Instant,
    pub(crate) ends_at: Option<Instant>,
    pub(crate) next_progress: Option<Instant>,
    pub(crate) last: Progress,
    pub(crate) last_bytes: u64,
    pub(crate) last_wire: Wire,
    /// Every so-manyth record carries the time it was sent.
    pub(crate) every: u64,
    pub(crate) unsalted: Option<Counts>,
    pub(crate) sent: u64,
    /// The time records get now, milliseconds since 1970.
    pub(crate) moment: i64,
    pub(crate) made: [u64; KINDS.len()],
    /// Records librdkafka did not take, by its error code.
    pub(crate) refused: BTreeMap<i32, u64>,
    pub(crate) waited: Duration,
    pub(crate) ended: Option<Ended>,
    pub(crate) fatal: Option<String>,
}

impl<F: FnMut(Event)> Run<F> {
    fn send_all(&mut self, mut supply: Supply) {
        let mut pace = Pace::start(self.options.rate, self.began);
        let topic = self.options.topic.clone();
        while self.ended.is_none() {
            let now = Instant::now();
            self.tick(now);
            match pace.turn(now) {
                Turn::Wait(wait) => std::thread::sleep(wait.min(SLICE)),
                Turn::Send(due) => {
                    let Some(due) = self.room(due) else { break };
                    let Some((chunk, rows)) = supply.take(due as usize) else {
                        self.ended = Some(Ended::Records);
                        break;
                    };
                    let before = self.sent;
                    // One look at the wall clock for all of them; librdkafka would take one for each.
                    self.moment = wall_clock();
                    for row in rows {
                        if !self.send(&topic, chunk.key(row), chunk.value(row)) {
                            break;
                        }
                        self.made[chunk.made(row) as usize] += 1;
                        if let Some(counts) = &mut self.unsalted {
                            counts.add(chunk.unsalted_partition(row));
                        }
                    }
                    pace.sent(self.sent - before);
                    if let Some(transacting) = &mut self.transacting {
                        transacting.sent(self.sent - before);
                    }
                }
            }
            self.link.poll();
            if self.transacting.as_ref().is_some_and(|transacting| transacting.due(Instant::now())) {
                self.commit();
            }
        }
    }

    /// How many of these records may be sent now; `None` if the run has to end.
    fn room(&mut self, due: u64) -> Option<u64> {
        let Some(transacting) = &mut self.transacting else { return Some(due) };
        match transacting.room(&self.link, due) {
            Ok(room) => Some(room),
            Err(cause) => {
                self.fail(cause);
                None
            }
        }
    }

    /// Hands one record over, waiting for room if the queue is full. `false`: the run ends and it was not sent.
    fn send(&mut self, topic: &str, key: &[u8], value: &[u8]) -> bool {
        let stamp = if self.sent.is_multiple_of(self.every) { self.link.tally.stamp() } else { 0 };
        let mut record = BaseRecord::with_opaque_to(topic, stamp).key(key).payload(value).timestamp(self.moment);
        loop {
            match self.link.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return true;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    if !self.wait_for_room() {
                        return false;
                    }
                    self.moment = wall_clock();
                    record.timestamp = Some(self.moment);
                }
                Err((error, _)) => return self.refuse(&error),
            }
        }
    }

    /// A record that librdkafka does not take: counted if it is the record's fault, the end of the run if it is not.
    fn refuse(&mut self, error: &KafkaError) -> bool {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if matches!(code, RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize | RDKafkaErrorCode::InvalidRecord) {
            *self.refused.entry(code as i32).or_default() += 1;
            self.sent += 1;
            return true;
        }
        let cause = self.link.producer.client().fatal_error().map_or_else(|| error.to_string(), |(_, reason)| reason);
        self.fail(cause);
        false
    }

    fn wait_for_room(&mut self) -> bool {
        let since = Instant::now();
        let settled = self.link.tally.settled.load(Relaxed);
        self.link.poll();
        if self.link.tally.settled.load(Relaxed) == settled {
            std::thread::sleep(ROOM);
        }
        let now = Instant::now();
        self.waited += now.duration_since(since);
        self.tick(now);
        self.ended.is_none()
    }

    fn fail(&mut self, cause: String) {
        self.fatal.get_or_insert(cause);
        self.ended = Some(Ended::Failed);
    }

    /// Notices a stop, the end of time, a fatal error; says where the run stands when that is due.
    fn tick(&mut self, now: Instant) {
        if self.stop.load(Relaxed) {
            self.ended.get_or_insert(Ended::Stopped);
        } else if self.ends_at.is_some_and(|end| now >= end) {
            self.ended.get_or_insert(Ended::Seconds);
        }
        if self.next_progress.is_some_and(|next| now >= next) {
            self.next_progress = Some(now + self.options.progress_every);
            self.progress(now);
            if let Some((_, reason)) = self.link.producer.client().fatal_error() {
                self.fail(reason);
            }
        }
    }

    fn progress(&mut self, now: Instant) {
        let tally = &self.link.tally;
        let (acknowledged, bytes, wire) = (tally.acknowledged.load(Relaxed), tally.bytes.load(Relaxed), tally.wire());
        let seconds = now.duration_since(self.began).as_secs_f64();
        let since = (seconds - self.last.seconds).max(1e-6);
        let batches = wire.batches - self.last_wire.batches;
        let each = |total: u64, before: u64| if batches > 0 { (total - before) as f64 / batches as f64 } else { 0.0 };
        let progress = Progress {
            seconds,
            sent: self.sent,
            acknowledged,
            records_per_second: (acknowledged - self.last.acknowledged) as f64 / since,
            megabytes_per_second: (bytes - self.last_bytes) as f64 / 1e6 / since,
            in_flight: self.link.producer.in_flight_count().max(0) as u64,
            batch_records: each(wire.batch_records, self.last_wire.batch_records),
            batch_bytes: each(wire.batch_bytes, self.last_wire.batch_bytes),
            failed: tally.failures().values().chain(self.refused.values()).sum(),
            errors: tally.problems().counts.values().sum(),
        };
        (self.events)(Event::Progress(progress));
        (self.last, self.last_bytes, self.last_wire) = (progress, bytes, wire);
    }

    /// Waits for the open transaction's records and commits it.
    fn commit(&mut self) {
        self.wait_until_settled();
        if let Some(transacting) = &mut self.transacting
            && let Err(cause) = transacting.commit(&self.link)
        {
            self.fail(cause);
        }
    }

    /// Waits until everything is acknowledged or has failed. Gives the rest up when the run has failed, or when a stop
    /// has been waited for too long.
    fn wait_until_settled(&mut self) {
        let mut give_up_at = None;
        while !self.link.drain(SLICE) {
            let now = Instant::now();
            self.tick(now);
            let mut expired = || self.stop.load(Relaxed) && now >= *give_up_at.get_or_insert(now + self.options.flush_timeout);
            if self.ended == Some(Ended::Failed) || expired() {
                self.link.purge();
                return;
            }
        }
    }

    /// Waits for what is in flight, closes the transaction; returns how long the whole run took.
    fn settle(&mut self) -> Duration {
        if self.ended == Some(Ended::Failed)
            && let Some(transacting) = &mut self.transacting
        {
            transacting.give_up(&self.link);
        }
        self.commit();
        self.began.elapsed()
    }
}

fn wall_clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
