//! `connector = 'kafka'` as a sink: its options.

use arrow::datatypes::{DataType, SchemaRef};
use watershed_types::{Options, Result, near_miss};

use crate::client::KafkaConnection;
use crate::trouble;

/// librdkafka's properties that a sink hands on besides [`crate::client::COMMON`].
pub const PRODUCER: &[&str] = &[
    "compression.type",
    "compression.level",
    "linger.ms",
    "batch.size",
    "batch.num.messages",
    "acks",
    "message.max.bytes",
    "message.timeout.ms",
    "request.timeout.ms",
    "delivery.timeout.ms",
    "partitioner",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "sticky.partitioning.linger.ms",
    "retry.backoff.ms",
    "transaction.timeout.ms",
];

/// How surely rows arrive once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Each epoch in a transaction: readers with `read_committed` see every row once. See [`crate::KafkaTarget`].
    #[default]
    ExactlyOnce,
    /// At once, and again after a crash. See [`crate::KafkaLive`].
    AtLeastOnce,
}

/// What messages of one key mean to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkMode {
    /// Nothing: every row is an event.
    #[default]
    Append,
    /// The last one counts: the topic is made for compaction.
    Upsert,
}

/// The options of a Kafka sink.
#[derive(Debug, Clone)]
pub struct KafkaSinkOptions {
    /// The sink's name, for ledgers and errors.
    pub name: String,
    /// The brokers, and properties handed on.
    pub connection: KafkaConnection,
    /// The topic rows go to.
    pub topic: String,
    /// How surely.
    pub delivery: Delivery,
    /// What messages of one key mean to each other.
    pub mode: SinkMode,
    /// The columns whose text makes a message's key, joined by `|`; empty: messages have no key.
    pub key: Vec<usize>,
    /// The columns that become headers too.
    pub headers: Vec<usize>,
    /// The BOOLEAN column that, where true, makes a row its key's tombstone: a message without a value.
    pub delete_when: Option<usize>,
    /// The producer's identity towards the brokers, if it was written.
    pub transactional_id: Option<String>,
    /// True if a topic that does not exist is made.
    pub create_topic: bool,
    /// With how many partitions (-1: as the brokers are set up).
    pub partitions: i32,
    /// With how many replicas (-1: as the brokers are set up).
    pub replication_factor: i32,
}

impl KafkaSinkOptions {
    /// Takes a sink's options and checks its columns against the rows' schema.
    pub fn take(options: &mut Options, sink_name: &str, schema: &SchemaRef) -> Result<Self> {
        let owner = options.owner().to_owned();
        let mut connection = KafkaConnection::take(options)?;
        connection.pass_through(options, PRODUCER);
        if connection.property("acks").is_some_and(|acks| acks != "all" && acks != "-1") {
            return Err(trouble::option(&owner, "has \"acks\" other than 'all': rows could be lost after they were acknowledged", "Leave acks out."));
        }
        connection.default_to("acks", "all");
        // Java's partitioner, so that a key goes where other programs send and look for it.
        connection.default_to("partitioner", "murmur2_random");
        connection.default_to("queue.buffering.max.kbytes", "131072");
        connection.default_to("queue.buffering.max.messages", "500000");
        let topic = options.require("topic")?;
        let delivery = options.parse("delivery", "'exactly_once' or 'at_least_once'", |text| match text {
            "exactly_once" => Some(Delivery::ExactlyOnce),
            "at_least_once" => Some(Delivery::AtLeastOnce),
            _ => None,
        })?;
        let mode = options.parse("mode", "'append' or 'upsert'", |text| match text {
            "append" => Some(SinkMode::Append),
            "upsert" => Some(SinkMode::Upsert),
            _ => None,
        })?;
        let key = columns(options.take("key"), "key", &owner, schema)?;
        let headers = columns(options.take("headers"), "headers", &owner, schema)?;
        let mode = mode.unwrap_or_default();
        if mode == SinkMode::Upsert && key.is_empty() {
            return Err(trouble::option(&owner, "has mode 'upsert' and no \"key\"", "Add key = '…', the columns that identify a row."));
        }
        let delete_when = columns(options.take("delete_when"), "delete_when", &owner, schema)?;
        let delete_when = match delete_when.as_slice() {
            [] => None,
            [column] if mode == SinkMode::Upsert && schema.field(*column).data_type() == &DataType::Boolean => Some(*column),
            [_] if mode != SinkMode::Upsert => return Err(trouble::option(&owner, "has \"delete_when\" and appends", "Add mode = 'upsert' and a key.")),
            _ => return Err(trouble::option(&owner, "has a \"delete_when\" that is not one BOOLEAN column", "Name one BOOLEAN column of the sink's query.")),
        };
        let whole = |text: &str| text.trim().parse::<i32>().ok().filter(|number| *number > 0);
        Ok(Self {
            name: sink_name.to_owned(),
            connection,
            topic,
            delivery: delivery.unwrap_or_default(),
            mode,
            key,
            headers,
            delete_when,
            transactional_id: options.take("transactional.id"),
            create_topic: options.flag("create_topic")?.unwrap_or(false),
            partitions: options.parse("partitions", "a whole number above 0", whole)?.unwrap_or(-1),
            replication_factor: options.parse("replication_factor", "a whole number above 0", whole)?.unwrap_or(-1),
        })
    }
}

fn columns(list: Option<String>, option: &str, owner: &str, schema: &SchemaRef) -> Result<Vec<usize>> {
    let list = list.unwrap_or_default();
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            schema.index_of(name).map_err(|_| {
                let hint = match near_miss(name, schema.fields().iter().map(|field| field.name().as_str())) {
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => "Name a column of the sink's query.".to_owned(),
                };
                trouble::option(owner, &format!("has no column \"{name}\" for its option \"{option}\""), &hint)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;
    use watershed_types::OptionValue;

    #[test]
    fn key_columns_must_be_there() {
        let schema = Arc::new(Schema::new(vec![Field::new("account", DataType::Utf8, false)]));
        let take = |pairs: &[(&str, &str)]| {
            let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
            KafkaSinkOptions::take(&mut Options::new("sink \"s\"", values), "s", &schema)
        };
        let common = [("brokers", "b"), ("topic", "t")];
        let right = take(&[common[0], common[1], ("key", "account")]).expect("right");
        assert_eq!((right.key, right.delivery), (vec![0], Delivery::ExactlyOnce));
        let error = take(&[common[0], common[1], ("key", "acount")]).expect_err("no such column");
        assert_eq!(error.next_step(), Some("Did you mean \"account\"?"));
        let error = take(&[common[0], common[1], ("mode", "upsert"), ("key", "account"), ("delete_when", "account")]).expect_err("no BOOLEAN");
        assert_eq!(error.code(), trouble::OPTION);
        assert_eq!(take(&[common[0], common[1], ("mode", "upsert")]).expect_err("needs a key").code(), trouble::OPTION);
    }
}
