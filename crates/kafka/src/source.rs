//! `connector = 'kafka'`: topics as a replayable source.
//!
//! **Owns** which partitions are read and from where, gathering their messages into chunks, noticing the end of each, and saying
//! what is wrong with the brokers. **Does not own** positions (the engine keeps them) or decoding.
//!
//! One run reads all partitions, by assignment: no consumer group decides who reads what. The group named in the options only
//! shows other people how far reading is.
//!
//! A source is caught up when every partition was seen at its end after the last record read from it; one that drains, when every
//! partition was read up to the end it had when draining began. While it is not, [`Source::poll`] never says so: it waits longer
//! than it was asked to, and then hands back an empty chunk.

mod assign;
mod context;
mod partition;
mod range;
mod sketch;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use watershed_ports::{Lag, PartitionLag, Polled, RawChunk, Source};
use watershed_types::{Error, Positions, Result};

use crate::source_options::{KafkaSourceOptions, Topics};
use crate::trouble;
use context::{Consumer, Told};
use partition::Partition;

/// Chunks read ahead in one go.
const AHEAD: usize = 4;
/// How long a poll waits while the end was not reached and nothing comes.
const UNSETTLED: Duration = Duration::from_secs(1);
/// How long one wait for messages may last.
const SLICE: Duration = Duration::from_millis(50);
/// How long brokers may be away before anybody is told.
const AWAY: Duration = Duration::from_secs(3);
/// With no word from partitions whose end was not reached, they are assigned anew.
const STUCK: Duration = Duration::from_secs(15);
/// How long a question may take while reading.
const BRIEF: Duration = Duration::from_secs(1);
/// Notices remembered so that each is given once.
const REMEMBERED: usize = 10_000;

/// What the reader of records needs besides their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Each record's key.
    pub key: bool,
    /// Each record's headers.
    pub headers: bool,
    /// Each record's timestamp.
    pub timestamp: bool,
}

/// Reads topics.
pub struct KafkaSource {
    options: KafkaSourceOptions,
    wants: Wants,
    told: Arc<Told>,
    consumer: Option<Consumer>,
    partitions: Vec<Partition>,
    /// Where each topic's partitions are in `partitions`, by number.
    by_topic: HashMap<Arc<str>, Vec<Option<usize>>>,
    ready: VecDeque<RawChunk>,
    turn: usize,
    draining: bool,
    /// The ends at which draining stops are known.
    stops_known: bool,
    next_discovery: Instant,
    /// Topics that were not there at the last look.
    missing: HashSet<String>,
    /// When anything came last.
    heard_at: Instant,
    /// The offsets are to be checked against what is there.
    check_ranges: bool,
    /// Positions are to be asked for.
    stale_positions: bool,
    down_told: Option<Instant>,
    notices: Vec<String>,
    given: HashSet<String>,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource").field("options", &self.options).field("partitions", &self.partitions.len()).finish()
    }
}

/// What a look at the queue found besides messages.
#[derive(Default)]
struct Found {
    fatal: Option<Error>,
    unknown_topic: bool,
    trouble: Option<String>,
}

impl KafkaSource {
    /// A source over the topics that `options` name. Reaches no broker before [`Source::seek`].
    pub fn new(options: KafkaSourceOptions, wants: Wants) -> Result<Self> {
        let now = Instant::now();
        crate::client::check(&assign::config(&options))?;
        Ok(Self {
            options,
            wants,
            told: Arc::default(),
            consumer: None,
            partitions: Vec::new(),
            by_topic: HashMap::new(),
            ready: VecDeque::new(),
            turn: 0,
            draining: false,
            stops_known: false,
            next_discovery: now,
            missing: HashSet::new(),
            heard_at: now,
            check_ranges: false,
            stale_positions: false,
            down_told: None,
            notices: Vec::new(),
            given: HashSet::new(),
        })
    }

    fn consumer(&self) -> Result<&Consumer> {
        self.consumer.as_ref().ok_or_else(|| Error::internal(trouble::UNREADABLE, "a Kafka source was polled before it was sought"))
    }

    /// Adds a partition to those that are read; the consumer is told elsewhere.
    fn add(&mut self, partition: Partition) {
        let of_topic = self.by_topic.entry(Arc::clone(&partition.topic)).or_default();
        let number = partition.number as usize;
        if of_topic.len() <= number {
            of_topic.resize(number + 1, None);
        }
        of_topic[number] = Some(self.partitions.len());
        self.partitions.push(partition);
    }

    fn several_topics(&self) -> bool {
        !matches!(&self.options.topics, Topics::Named(names) if names.len() == 1)
    }

    /// Moves messages from librdkafka's queue into the partitions' buffers, waiting for the first up to `wait`.
    fn fill(&mut self, max_bytes: usize, wait: Duration) -> Result<()> {
        let several = self.several_topics();
        let Self { consumer: Some(consumer), partitions, by_topic, ready, options, wants, .. } = self else { return Ok(()) };
        let only = if several { None } else { by_topic.values().next() };
        let budget = max_bytes.saturating_mul(AHEAD).min(64 << 20);
        let (mut wait, mut taken, mut heard) = (wait, 0usize, false);
        let mut found = Found::default();
        while taken < budget {
            let Some(result) = consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            let message = match result {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(number)) => {
                    heard = true;
                    self.stale_positions = true;
                    for partition in partitions.iter_mut().filter(|partition| partition.number == number) {
                        // The event does not say of which topic it speaks.
                        if several {
                            partition.maybe_at_end = !partition.at_end;
                        } else {
                            partition.at_end = true;
                        }
                    }
                    continue;
                }
                Err(error) => {
                    note(&error, &mut found, &mut self.check_ranges, options.connection.brokers());
                    if found.fatal.is_some() {
                        break;
                    }
                    continue;
                }
            };
            heard = true;
            let of_topic = match only {
                Some(of_topic) => Some(of_topic),
                None => by_topic.get(message.topic()),
            };
            let index = of_topic.and_then(|of_topic| of_topic.get(message.partition() as usize).copied().flatten());
            let Some(partition) = index.and_then(|index| partitions.get_mut(index)) else { continue };
            let bytes = message.payload_len() + message.key_len();
            if partition.waiting() > 0 && partition.waiting() + bytes > max_bytes {
                ready.push_back(partition.cut(several));
            }
            partition.take(&message, *wants, options.tombstones);
            if partition.waiting() >= max_bytes {
                ready.push_back(partition.cut(several));
            }
            taken += bytes + 64;
        }
        if heard {
            self.heard_at = Instant::now();
            self.told.health.up();
        }
        if found.unknown_topic {
            self.next_discovery = self.next_discovery.min(Instant::now());
        }
        self.notices.extend(found.trouble);
        match found.fatal {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// A chunk that is ready, or of the next partition that has records.
    fn next_chunk(&mut self) -> Option<RawChunk> {
        if let Some(chunk) = self.ready.pop_front() {
            return Some(chunk);
        }
        let several = self.several_topics();
        let count = self.partitions.len();
        for _ in 0..count {
            self.turn = (self.turn + 1) % count;
            let partition = &mut self.partitions[self.turn];
            if partition.has_chunk() && !partition.held {
                return Some(partition.cut(several));
            }
        }
        None
    }

    fn at_end(&self, partition: &Partition) -> bool {
        match partition.stop {
            Some(stop) if self.draining => partition.next >= stop || partition.at_end,
            _ => partition.at_end,
        }
    }

    /// True if all partitions that may be read are at their ends.
    fn caught_up(&self) -> bool {
        self.partitions.iter().all(|partition| partition.held || self.at_end(partition))
    }

    /// True if a held partition has more, or waits with what was read of it.
    fn holds_back(&self) -> bool {
        self.partitions.iter().any(|partition| partition.held && (partition.has_chunk() || !self.at_end(partition)))
    }

    /// True if a draining source has handed out everything up to its stops; what came since is left for the next run.
    fn drained(&self) -> bool {
        let done = |partition: &Partition| {
            let handed_out = partition.stop.is_some_and(|stop| partition.given >= stop);
            !partition.due && (handed_out || (!partition.has_chunk() && (partition.at_end || partition.stop.is_some_and(|stop| partition.next >= stop))))
        };
        self.draining && self.stops_known && self.ready.is_empty() && self.partitions.iter().all(done)
    }

    /// Brings `next` past markers of transactions, which are never handed out.
    fn refresh_positions(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.stale_positions) {
            return Ok(());
        }
        let several = self.several_topics();
        let consumer = self.consumer.as_ref().ok_or_else(|| Error::internal(trouble::UNREADABLE, "a Kafka source was polled before it was sought"))?;
        let Ok(positions) = consumer.position() else { return Ok(()) };
        for element in positions.elements() {
            let index = self.by_topic.get(element.topic()).and_then(|of_topic| of_topic.get(element.partition() as usize).copied().flatten());
            let Some(partition) = index.map(|index| &mut self.partitions[index]) else { continue };
            if let Offset::Offset(offset) = element.offset() {
                partition.next = partition.next.max(offset.max(0) as u64);
            }
        }
        if !several {
            return Ok(());
        }
        for partition in self.partitions.iter_mut().filter(|partition| partition.maybe_at_end) {
            match consumer.fetch_watermarks(&partition.topic, partition.number, BRIEF) {
                Ok((_, end)) => {
                    partition.end = end.max(0) as u64;
                    (partition.at_end, partition.maybe_at_end) = (partition.next >= partition.end, false);
                }
                Err(_) => self.stale_positions = true,
            }
        }
        Ok(())
    }

    /// What is due besides reading.
    fn tend(&mut self) -> Result<()> {
        let now = Instant::now();
        match self.told.health.down_since() {
            Some(since) if now.duration_since(since) >= AWAY && self.down_told != Some(since) => {
                self.down_told = Some(since);
                let at = chrono::DateTime::<chrono::Utc>::from(SystemTime::now() - now.duration_since(since));
                let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                self.notices.push(format!("brokers \"{}\" are unreachable since {at}; reading goes on when they are back", self.options.connection.brokers()));
            }
            _ => {}
        }
        if let Some(words) = self.told.health.denied() {
            return Err(trouble::denied(self.options.connection.brokers(), &words));
        }
        if let Some(words) = self.told.commit_failure.lock().take() {
            self.notices.push(format!("group \"{}\" does not show how far reading is: {words}", self.options.group));
        }
        if std::mem::take(&mut self.check_ranges) {
            self.check_all_ranges()?;
        }
        if self.draining && !self.stops_known {
            self.find_stops()?;
        }
        if now >= self.next_discovery && self.told.health.down_since().is_none() {
            self.discover()?;
        }
        if now.duration_since(self.heard_at) >= STUCK && !self.caught_up() && self.told.health.down_since().is_none() {
            self.heard_at = now;
            self.assign_all()?;
        }
        Ok(())
    }
}

/// Sorts an error from the queue.
fn note(error: &KafkaError, found: &mut Found, check_ranges: &mut bool, brokers: &str) {
    use RDKafkaErrorCode as C;
    if let KafkaError::MessageConsumptionFatal(code) = error {
        found.fatal = Some(Error::unavailable(trouble::UNREADABLE, format!("reading from brokers \"{brokers}\" has ended: {code}")).hint("Start the run again."));
        return;
    }
    match error.rdkafka_error_code() {
        Some(C::AutoOffsetReset | C::OffsetOutOfRange) => *check_ranges = true,
        Some(C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition) => found.unknown_topic = true,
        Some(code) if trouble::is_denial(code) => found.fatal = Some(trouble::denied(brokers, &code.to_string())),
        // librdkafka connects again by itself; the brokers' absence is told elsewhere.
        Some(
            C::AllBrokersDown | C::BrokerTransportFailure | C::OperationTimedOut | C::RequestTimedOut | C::Resolve | C::NoError | C::NotLeaderForPartition | C::LeaderNotAvailable,
        ) => {}
        _ => found.trouble = Some(format!("brokers \"{brokers}\": {error}")),
    }
}

impl Source for KafkaSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        self.seek_to(positions)
    }

    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled> {
        let max_bytes = max_bytes.max(1);
        self.consumer()?;
        if let Some(chunk) = self.ready.pop_front() {
            return Ok(Polled::Chunk(chunk));
        }
        let started = Instant::now();
        let mut slice = Duration::ZERO;
        loop {
            self.tend()?;
            self.fill(max_bytes, slice)?;
            self.refresh_positions()?;
            if self.drained() {
                return Ok(Polled::CaughtUp);
            }
            if let Some(chunk) = self.next_chunk() {
                return Ok(Polled::Chunk(chunk));
            }
            let caught_up = self.caught_up();
            let most = if caught_up { wait } else { wait.max(UNSETTLED) };
            let left = most.saturating_sub(started.elapsed());
            if left.is_zero() {
                if caught_up {
                    return Ok(if self.holds_back() { Polled::Held } else { Polled::CaughtUp });
                }
                // One that is to be read and has nothing to hand out: it is waited for.
                return Ok(match self.partitions.iter_mut().find(|partition| !partition.held) {
                    Some(first) => Polled::Chunk(first.pause()),
                    None => Polled::Held,
                });
            }
            // One that drains looks at positions itself: transactions may end in markers that no event tells of.
            self.stale_positions |= self.draining;
            slice = left.min(SLICE);
        }
    }

    fn drain(&mut self) {
        (self.draining, self.stops_known) = (true, false);
    }

    fn partitions(&self) -> Vec<String> {
        self.partitions.iter().map(|partition| partition.name.to_string()).collect()
    }

    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        self.hold_back(partitions)
    }

    fn unread(&mut self) -> BTreeSet<String> {
        let waits = |partition: &&Partition| partition.has_chunk() || !self.at_end(partition) || self.ready.iter().any(|chunk| chunk.partition == partition.name);
        self.partitions.iter().filter(waits).map(|partition| partition.name.to_string()).collect()
    }

    fn lag(&mut self) -> Lag {
        let mut lag = Lag { records: Some(0), ..Lag::default() };
        for partition in &self.partitions {
            let told = self.told.end(&partition.topic, partition.number, self.options.read_committed);
            let mut end = told.unwrap_or(partition.end).max(partition.next);
            if told.is_none_or(|told| told < partition.next) && partition.at_end {
                end = partition.next;
            }
            // What waits in chunks is not read yet as others see it.
            let position = partition.given.min(partition.next);
            let position = if partition.has_chunk() || self.ready.iter().any(|chunk| chunk.partition == partition.name) { position } else { partition.next };
            lag.records = lag.records.map(|records| records + end.saturating_sub(position));
            lag.partitions.push(PartitionLag { partition: partition.name.to_string(), position, end, hot_key: partition.sketch.hot() });
        }
        lag
    }

    fn committed(&mut self, positions: &Positions) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let Some(position) = positions.get(&*partition.name) else { continue };
            // Behind the last record there may be markers only: for others, that is the end.
            let offset = if position.offset >= partition.given && !partition.has_chunk() { partition.next } else { position.offset };
            // An offset too large for Kafka cannot come from it.
            let _ = list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset as i64));
        }
        if list.count() == 0 {
            return Ok(());
        }
        if let Err(error) = self.consumer()?.commit(&list, CommitMode::Async) {
            self.notices.push(format!("group \"{}\" does not show how far reading is: {error}", self.options.group));
        }
        Ok(())
    }

    fn notices(&mut self) -> Vec<String> {
        let fresh = std::mem::take(&mut self.notices);
        if self.given.len() > REMEMBERED {
            self.given.clear();
        }
        fresh.into_iter().filter(|notice| self.given.insert(notice.clone())).collect()
    }
}
