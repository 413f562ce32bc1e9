//! What librdkafka tells a consumer besides records.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::Health;

pub(super) type Consumer = BaseConsumer<Context>;

/// Where partitions end, by number: all records, and those of finished transactions.
type Ends = HashMap<i32, (i64, i64)>;

/// Shared between the consumer and the source.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) health: Health,
    /// The end of each partition, by topic, as the last fetch said.
    ends: Mutex<HashMap<String, Ends>>,
    /// Why the last commit to the group failed.
    pub(super) commit_failure: Mutex<Option<String>>,
}

impl Told {
    /// Where a partition ends, for the reader.
    pub(super) fn end(&self, topic: &str, partition: i32, read_committed: bool) -> Option<u64> {
        let ends = self.ends.lock();
        let (all, stable) = ends.get(topic)?.get(&partition)?;
        u64::try_from(if read_committed { *stable } else { *all }).ok()
    }
}

pub(super) struct Context(pub(super) Arc<Told>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, words: &str) {
        self.0.health.log(level, facility, words);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.health.error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            self.0.health.up();
        }
        let mut ends = self.0.ends.lock();
        for (name, topic) in statistics.topics {
            let known = ends.entry(name).or_default();
            for (number, partition) in topic.partitions {
                if partition.hi_offset >= 0 {
                    known.insert(number, (partition.hi_offset, partition.ls_offset));
                }
            }
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        *self.0.commit_failure.lock() = result.err().map(|error| error.to_string());
    }
}
