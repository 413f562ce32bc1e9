//! What a target remembers in Kafka: the last epoch, as an offset that a consumer group has committed, with its numbers as metadata.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use watershed_types::{Epoch, Error, Generation, Result};

use crate::client::{self, Health, KafkaConnection};
use crate::topics;
use crate::trouble;

/// Kafka takes 4,096 bytes of metadata by default.
const ROOM: usize = 3_500;

/// The last epoch and who wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: Epoch,
    pub(super) generation: Generation,
    /// Which claim wrote it: no two are the same.
    pub(super) claim: String,
    /// Rows of the epoch that were sent.
    pub(super) rows: u64,
    /// Ordinals of rows that were refused; [`None`] if there were too many to write down.
    pub(super) refused: Option<Vec<u64>>,
}

impl Mark {
    /// True if there is no mark: nobody has claimed the target yet, or the brokers have forgotten it.
    pub(super) fn is_forgotten(&self) -> bool {
        self.claim.is_empty()
    }

    /// The metadata: `generation=3 claim=5f rows=100 refused=7,9`.
    fn metadata(&self) -> String {
        let list = self.refused.as_ref().map(|refused| refused.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
        let list = list.filter(|list| list.len() <= ROOM).unwrap_or_else(|| "many".to_owned());
        format!("generation={} claim={} rows={} refused={list}", self.generation, self.claim, self.rows)
    }

    fn parse(epoch: Epoch, metadata: &str) -> Option<Self> {
        let mut mark = Mark { epoch, refused: Some(Vec::new()), ..Mark::default() };
        for word in metadata.split_ascii_whitespace() {
            match word.split_once('=')? {
                ("generation", value) => mark.generation = Generation(value.parse().ok()?),
                ("claim", value) => mark.claim = value.to_owned(),
                ("rows", value) => mark.rows = value.parse().ok()?,
                ("refused", "many") => mark.refused = None,
                ("refused", "") => {}
                ("refused", value) => mark.refused = Some(value.split(',').map(|row| row.parse().ok()).collect::<Option<_>>()?),
                _ => {}
            }
        }
        Some(mark)
    }

    /// As the brokers keep it.
    pub(super) fn offsets(&self, topic: &str) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        let mut element = list.add_partition(topic, 0);
        element.set_offset(Offset::Offset(self.epoch.0 as i64))?;
        element.set_metadata(self.metadata());
        Ok(list)
    }
}

struct Context(Health);

impl ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, words: &str) {
        self.0.log(level, facility, words);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Context {}

/// A member of the group that remembers. It reads no messages.
pub(super) struct Keeper {
    consumer: BaseConsumer<Context>,
    brokers: String,
    topic: String,
    group: String,
}

impl Keeper {
    /// One that is `settled` waits for open transactions: what it reads is final. Another one reads past them: what it reads is
    /// committed, and may be overtaken. SUBTLE: a transaction that a killed run left open stays open until its producer is fenced,
    /// so whoever is about to do that must not wait for it.
    pub(super) fn new(connection: &KafkaConnection, topic: &str, group: &str, settled: bool) -> Result<Self> {
        let mut config = rdkafka::ClientConfig::new();
        // Properties of producers would only be warned about.
        for (name, value) in connection.config().config_map() {
            if name == "bootstrap.servers" || client::COMMON.contains(&name) {
                config.set(name, value);
            }
        }
        // With read_committed, brokers do not answer while a transaction on the offset is open.
        let isolation = if settled { "read_committed" } else { "read_uncommitted" };
        config.set("group.id", group).set("isolation.level", isolation).set("enable.auto.commit", "false");
        let consumer = client::create(&config, Context(Health::default()))?;
        Ok(Self { consumer, brokers: connection.brokers().to_owned(), topic: topic.to_owned(), group: group.to_owned() })
    }

    /// The identity under which a producer writes the mark.
    pub(super) fn group_metadata(&self) -> Result<ConsumerGroupMetadata> {
        self.consumer.group_metadata().ok_or_else(|| Error::internal(trouble::EPOCH, format!("group \"{}\" has no metadata", self.group)))
    }

    /// The mark; [`Mark::default`] if there is none.
    pub(super) fn read(&self) -> Result<Mark> {
        let denied = || self.consumer.client().context().0.denied();
        topics::ask(&self.brokers, denied, |timeout| {
            drop(self.consumer.poll(std::time::Duration::ZERO));
            let mut asked = TopicPartitionList::with_capacity(1);
            asked.add_partition(&self.topic, 0);
            let answer = self.consumer.committed_offsets(asked, timeout)?;
            let Some(element) = answer.find_partition(&self.topic, 0) else { return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)) };
            element.error()?;
            match element.offset() {
                Offset::Offset(epoch) => Ok(Mark::parse(Epoch(epoch.max(0) as u64), element.metadata())),
                _ => Ok(Some(Mark::default())),
            }
        })?
        .ok_or_else(|| {
            Error::corrupt(trouble::EPOCH, format!("group \"{}\" holds an offset of topic \"{}\" that Watershed has not written", self.group, self.topic))
                .hint("Delete the group, or give the sink another name; nothing else may commit offsets to it.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back_as_written() {
        let mut mark = Mark { epoch: Epoch(7), generation: Generation(3), claim: "a1".to_owned(), rows: 10, refused: Some(vec![2, 5]) };
        assert_eq!(Mark::parse(Epoch(7), &mark.metadata()), Some(mark.clone()));
        mark.refused = Some((0..10_000).collect());
        assert_eq!(Mark::parse(Epoch(7), &mark.metadata()).map(|read| read.refused), Some(None));
        assert_eq!(Mark::parse(Epoch(7), "somebody else's"), None);
    }
}
