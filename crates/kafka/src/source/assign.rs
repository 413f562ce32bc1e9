//! Which partitions are read, and from where: at the start, when new ones turn up, and when records are gone.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use watershed_types::{Error, Positions, Result};

use super::context::{Consumer, Context, Told};
use super::partition::Partition;
use super::range::{Verdict, judge};
use super::{BRIEF, KafkaSource};
use crate::client;
use crate::source_options::{KafkaSourceOptions, Start, Topics};
use crate::topics::{self, all_topics, partitions_of};
use crate::trouble;

/// How soon a topic that seems gone is looked for again.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// How a consumer is set up.
pub(super) fn config(options: &KafkaSourceOptions) -> ClientConfig {
    let mut connection = options.connection.clone();
    // A response is held back this long at the end of a partition; the first look at an idle one takes as long.
    connection.default_to("fetch.wait.max.ms", "100");
    // librdkafka pauses a second when its queue is full, long enough to run dry.
    connection.default_to("fetch.queue.backoff.ms", "10");
    let mut config = connection.config();
    config
        .set("group.id", &options.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "1000");
    config
}

/// A consumer that knows no partition yet.
fn consumer(options: &KafkaSourceOptions, told: &Arc<Told>) -> Result<Consumer> {
    client::create::<_, BaseConsumer<Context>>(&config(options), Context(Arc::clone(told)))
}

impl KafkaSource {
    pub(super) fn seek_to(&mut self, positions: &Positions) -> Result<()> {
        self.told = Arc::default();
        self.partitions.clear();
        self.by_topic.clear();
        self.ready.clear();
        self.missing.clear();
        let consumer = consumer(&self.options, &self.told)?;
        let found = self.find(&consumer)?;
        let mut wanted: Vec<(Arc<str>, i32, Option<u64>)> = Vec::new();
        for (topic, numbers) in &found {
            for number in numbers {
                wanted.push((Arc::clone(topic), *number, positions.get(&format!("{topic}-{number}")).map(|position| position.offset)));
            }
        }
        self.check_names(positions, &wanted)?;
        let starts = self.starts(&consumer, &wanted, positions.is_empty())?;
        for ((topic, number, asked), start) in wanted.into_iter().zip(starts) {
            let (first, end) = self.watermarks(&consumer, &topic, number, asked)?;
            let at = match asked {
                Some(asked) => asked,
                None => {
                    let wanted = start.unwrap_or(first);
                    let at = wanted.clamp(first, end.max(first));
                    if at != wanted && matches!(self.options.start, Start::Offsets(_)) {
                        self.notices.push(format!("partition \"{topic}-{number}\" was to start at offset {wanted} and starts at {at}: it holds {first} to {end}"));
                    }
                    at
                }
            };
            let mut partition = Partition::new(topic, number, at, end);
            if asked.is_some() {
                self.put_right(&mut partition, first, end)?;
            } else {
                // SUBTLE: the next run must go on from here, even if no record of this partition ever comes.
                partition.due = at != first;
            }
            self.add(partition);
        }
        self.consumer = Some(consumer);
        let now = Instant::now();
        (self.heard_at, self.next_discovery) = (now, now + self.options.discovery_interval);
        self.stops_known = false;
        self.assign_all()
    }

    /// The topics that are read, with their partitions.
    fn find(&self, consumer: &Consumer) -> Result<Vec<(Arc<str>, Vec<i32>)>> {
        let brokers = self.options.connection.brokers();
        let denied = || self.told.health.denied();
        // Events carry the reasons of failures; there are no messages yet.
        let serve = || drop(consumer.poll(Duration::ZERO));
        let all = || {
            topics::ask(brokers, denied, |timeout| {
                serve();
                all_topics(consumer.client(), timeout)
            })
        };
        let mut found = Vec::new();
        match &self.options.topics {
            Topics::Named(names) => {
                for name in names {
                    let metadata = topics::ask(brokers, denied, |timeout| {
                        serve();
                        consumer.fetch_metadata(Some(name), timeout)
                    })?;
                    match partitions_of(&metadata, name) {
                        Some(numbers) => found.push((Arc::from(name.as_str()), numbers)),
                        None => return Err(trouble::no_topic(name, all()?.topics().iter().map(|topic| topic.name()))),
                    }
                }
            }
            Topics::Pattern(pattern) => {
                let metadata = all()?;
                for topic in metadata.topics().iter().filter(|topic| pattern.is_match(topic.name())) {
                    found.extend(partitions_of(&metadata, topic.name()).map(|numbers| (Arc::from(topic.name()), numbers)));
                }
            }
        }
        Ok(found)
    }

    /// Positions whose partition is not read (any more).
    fn check_names(&mut self, positions: &Positions, wanted: &[(Arc<str>, i32, Option<u64>)]) -> Result<()> {
        let there: HashSet<String> = wanted.iter().map(|(topic, number, _)| format!("{topic}-{number}")).collect();
        for (name, position) in positions {
            if there.contains(name) {
                continue;
            }
            let topic = name.rsplit_once('-').and_then(|(topic, number)| number.parse::<i32>().ok().map(|_| topic));
            let Some(topic) = topic else {
                return Err(Error::invalid(trouble::POSITION, format!("{} has a position of \"{name}\", which is no partition of a topic", self.options.owner))
                    .hint("The source read something else before. Give it another name, or move the checkpoint aside."));
            };
            if wanted.iter().any(|(known, ..)| &**known == topic) {
                // The topic has fewer partitions than before: it was made anew.
                match judge(name, position.offset, 0, 0, self.options.on_data_loss)? {
                    Verdict::GoOn { .. } => self.notices.push(format!("partition \"{name}\" does not exist any more: its topic was made anew with fewer partitions")),
                    Verdict::There => {}
                }
            } else {
                self.notices.push(format!("topic \"{topic}\" was read by earlier runs and is not read any more"));
            }
        }
        Ok(())
    }

    /// Where partitions without a position start; [`None`]: at their first record.
    fn starts(&self, consumer: &Consumer, wanted: &[(Arc<str>, i32, Option<u64>)], first_run: bool) -> Result<Vec<Option<u64>>> {
        let nowhere = vec![None; wanted.len()];
        // A partition that turns up after the first run is new: all of it is read.
        if !first_run {
            return Ok(nowhere);
        }
        match &self.options.start {
            Start::Earliest => Ok(nowhere),
            Start::Latest => Ok(vec![Some(u64::MAX); wanted.len()]),
            Start::Offsets(offsets) => {
                let given = |(topic, number, _): &(Arc<str>, i32, Option<u64>)| offsets.get(&format!("{topic}-{number}")).or_else(|| offsets.get(&number.to_string())).copied();
                let known: HashSet<String> = wanted.iter().flat_map(|(topic, number, _)| [format!("{topic}-{number}"), number.to_string()]).collect();
                match offsets.keys().find(|key| !known.contains(*key)) {
                    Some(key) => {
                        Err(trouble::option(&self.options.owner, &format!("starts partition \"{key}\" at an offset, and there is no such partition"), "Correct its option start."))
                    }
                    None => Ok(wanted.iter().map(given).collect()),
                }
            }
            Start::At(millis) => {
                let found = topics::ask(
                    self.options.connection.brokers(),
                    || self.told.health.denied(),
                    |timeout| {
                        let mut times = TopicPartitionList::with_capacity(wanted.len());
                        for (topic, number, _) in wanted {
                            times.add_partition_offset(topic, *number, Offset::Offset(*millis))?;
                        }
                        consumer.offsets_for_times(times, timeout)
                    },
                )?;
                let of = |(topic, number, _): &(Arc<str>, i32, Option<u64>)| match found.find_partition(topic, *number).map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => Some(offset.max(0) as u64),
                    // No record is that young: behind the last one.
                    _ => Some(u64::MAX),
                };
                Ok(wanted.iter().map(of).collect())
            }
        }
    }

    /// A partition's first offset and its end, for this reader.
    fn watermarks(&self, consumer: &Consumer, topic: &str, number: i32, asked: Option<u64>) -> Result<(u64, u64)> {
        let ask = || {
            topics::ask(self.options.connection.brokers(), || self.told.health.denied(), |timeout| consumer.fetch_watermarks(topic, number, timeout))
                .map(|(first, end)| (first.max(0) as u64, end.max(0) as u64))
        };
        let (first, end) = ask()?;
        if asked.is_some_and(|asked| asked > end) {
            // A leader that has just started may not know its end yet.
            std::thread::sleep(Duration::from_secs(1));
            return ask();
        }
        Ok((first, end))
    }

    /// Goes on behind a loss, if that is allowed.
    fn put_right(&mut self, partition: &mut Partition, first: u64, end: u64) -> Result<()> {
        if let Verdict::GoOn { at, lost, notice } = judge(&partition.name, partition.next, first, end, self.options.on_data_loss)? {
            partition.restart_at(at);
            partition.given = partition.given.min(at);
            partition.lost += lost;
            partition.due = true;
            self.notices.push(notice);
        }
        partition.end = end;
        Ok(())
    }

    /// Tells the consumer to read every partition from where its reading is.
    pub(super) fn assign_all(&self) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        let refused = |error: KafkaError| Error::unavailable(trouble::UNREADABLE, "the partitions cannot be assigned").caused_by(error).hint("Start the run again.");
        for partition in &self.partitions {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(partition.next as i64)).map_err(refused)?;
        }
        self.consumer()?.assign(&list).map_err(refused)?;
        // An assignment makes an end of pauses.
        self.pause(|partition| partition.held, true)
    }

    /// Leaves these partitions alone from now on, and reads the others. The brokers are not asked for what is left alone; what
    /// librdkafka had fetched of it already is fetched again later.
    pub(super) fn hold_back(&mut self, held: &BTreeSet<String>) -> Result<()> {
        let changed: HashSet<Arc<str>> = self.partitions.iter().filter(|partition| partition.held != held.contains(&*partition.name)).map(|p| Arc::clone(&p.name)).collect();
        for partition in self.partitions.iter_mut().filter(|partition| changed.contains(&partition.name)) {
            partition.held = !partition.held;
        }
        self.heard_at = Instant::now();
        self.pause(|partition| partition.held && changed.contains(&partition.name), true)?;
        self.pause(|partition| !partition.held && changed.contains(&partition.name), false)
    }

    /// Pauses partitions at the consumer, or resumes them.
    fn pause(&self, which: impl Fn(&Partition) -> bool, pause: bool) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.partitions.iter().filter(|partition| which(partition)) {
            list.add_partition(&partition.topic, partition.number);
        }
        if list.count() == 0 {
            return Ok(());
        }
        let done = if pause { self.consumer()?.pause(&list) } else { self.consumer()?.resume(&list) };
        done.map_err(|error| Error::unavailable(trouble::UNREADABLE, "partitions cannot be paused or resumed").caused_by(error).hint("Start the run again."))
    }

    /// The brokers said that an offset is not there: which, and what is to be done.
    pub(super) fn check_all_ranges(&mut self) -> Result<()> {
        let mut partitions = std::mem::take(&mut self.partitions);
        let mut judged = Ok(());
        for partition in &mut partitions {
            let asked = self.consumer()?.fetch_watermarks(&partition.topic, partition.number, BRIEF);
            judged = match asked {
                Ok((first, end)) => self.put_right(partition, first.max(0) as u64, end.max(0) as u64),
                Err(_) => {
                    self.check_ranges = true;
                    continue;
                }
            };
            if judged.is_err() {
                break;
            }
        }
        self.partitions = partitions;
        judged?;
        self.assign_all()
    }

    /// Notes the ends at which a draining source stops.
    pub(super) fn find_stops(&mut self) -> Result<()> {
        let mut stops = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let (_, end) = self.watermarks(self.consumer()?, &partition.topic, partition.number, None)?;
            stops.push(end);
        }
        for (partition, end) in self.partitions.iter_mut().zip(stops) {
            (partition.end, partition.stop) = (end, Some(end));
        }
        self.stops_known = true;
        Ok(())
    }

    /// Looks for partitions and topics that are new, or gone.
    pub(super) fn discover(&mut self) -> Result<()> {
        self.next_discovery = Instant::now() + self.options.discovery_interval;
        let mut found: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        match &self.options.topics {
            Topics::Named(names) => {
                for name in names {
                    let Ok(metadata) = self.consumer()?.fetch_metadata(Some(name), BRIEF) else { return Ok(()) };
                    match partitions_of(&metadata, name) {
                        Some(numbers) => found.push((Arc::from(name.as_str()), numbers)),
                        None => gone.push(name.clone()),
                    }
                }
            }
            Topics::Pattern(pattern) => {
                let Ok(metadata) = all_topics(self.consumer()?.client(), BRIEF) else { return Ok(()) };
                for topic in metadata.topics().iter().filter(|topic| pattern.is_match(topic.name())) {
                    found.extend(partitions_of(&metadata, topic.name()).map(|numbers| (Arc::from(topic.name()), numbers)));
                }
                gone.extend(self.by_topic.keys().filter(|known| !found.iter().any(|(topic, _)| topic == *known)).map(|known| known.to_string()));
            }
        }
        // Brokers that have just started may not know their topics yet: one that is missing twice is gone.
        if let Some(topic) = gone.iter().find(|topic| self.missing.contains(*topic)) {
            return Err(trouble::topic_gone(topic));
        }
        if !gone.is_empty() {
            self.next_discovery = Instant::now() + SECOND_LOOK.min(self.options.discovery_interval);
        }
        self.missing = gone.into_iter().collect();
        let mut fresh = TopicPartitionList::new();
        let mut added = Vec::new();
        for (topic, numbers) in found {
            for number in numbers {
                let known = self.by_topic.get(&topic).is_some_and(|of_topic| of_topic.get(number as usize).copied().flatten().is_some());
                if known {
                    continue;
                }
                let Ok((first, end)) = self.consumer()?.fetch_watermarks(&topic, number, BRIEF) else {
                    // Without a leader yet: soon.
                    self.next_discovery = Instant::now() + BRIEF.min(self.options.discovery_interval);
                    continue;
                };
                let (first, end) = (first.max(0) as u64, end.max(0) as u64);
                if fresh.add_partition_offset(&topic, number, Offset::Offset(first as i64)).is_ok() {
                    added.push(Partition::new(Arc::clone(&topic), number, first, end));
                }
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        self.consumer()?
            .incremental_assign(&fresh)
            .map_err(|error| Error::unavailable(trouble::UNREADABLE, "a new partition cannot be assigned").caused_by(error).hint("Start the run again."))?;
        for partition in added {
            self.notices.push(format!("partition \"{}\" is new and is read from its first record on", partition.name));
            self.add(partition);
        }
        self.heard_at = Instant::now();
        Ok(())
    }
}
