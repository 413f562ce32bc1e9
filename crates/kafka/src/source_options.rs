//! `connector = 'kafka'` as a source: its options.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use watershed_types::{Options, Result};

use crate::client::KafkaConnection;
use crate::trouble;

/// librdkafka's properties that a source hands on besides [`crate::client::COMMON`].
pub const CONSUMER: &[&str] = &[
    "fetch.min.bytes",
    "fetch.max.bytes",
    "fetch.wait.max.ms",
    "fetch.message.max.bytes",
    "fetch.queue.backoff.ms",
    "fetch.error.backoff.ms",
    "max.partition.fetch.bytes",
    "receive.message.max.bytes",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "check.crcs",
    "isolation.level",
];

/// Which topics are read.
#[derive(Debug, Clone)]
pub enum Topics {
    /// Those named, in this order. Each must exist.
    Named(Vec<String>),
    /// All whose whole name fits, also those made later.
    Pattern(Regex),
}

/// Where a partition that no checkpoint knows starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record there is.
    Earliest,
    /// Behind the newest record there is.
    Latest,
    /// At the first record with this timestamp or a later one, milliseconds since 1970.
    At(i64),
    /// At these offsets, by partition number or by `topic-number`; at the oldest record where none is given.
    Offsets(BTreeMap<String, u64>),
}

/// What is done when records are gone before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDataLoss {
    /// An error that says which.
    #[default]
    Fail,
    /// Reading goes on with what is there; the ledger counts the records as lost.
    Continue,
}

/// What a record without a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tombstones {
    /// A record that cannot be decoded: it goes to the quarantine.
    #[default]
    Quarantine,
    /// Left out, and counted as such.
    Skip,
}

/// The options of a Kafka source.
#[derive(Debug, Clone)]
pub struct KafkaSourceOptions {
    /// The brokers, and properties handed on.
    pub connection: KafkaConnection,
    /// Which topics.
    pub topics: Topics,
    /// The consumer group that shows how far reading is. It does not decide where reading starts.
    pub group: String,
    /// Where a partition starts that no checkpoint knows.
    pub start: Start,
    /// What is done when records are gone.
    pub on_data_loss: OnDataLoss,
    /// What records without a value are.
    pub tombstones: Tombstones,
    /// True if records of open and aborted transactions are left out (`isolation.level = 'read_committed'`).
    pub read_committed: bool,
    /// How often new partitions and topics are looked for.
    pub discovery_interval: Duration,
    /// At most so many rows in one tick; the engine's business.
    pub max_rows_per_tick: Option<u64>,
    /// The owner as errors name it: `source "orders"`.
    pub owner: String,
}

impl KafkaSourceOptions {
    /// Takes a source's options. Errors: an option that is missing, contradicts another, or cannot be read.
    pub fn take(options: &mut Options, source_name: &str) -> Result<Self> {
        let owner = options.owner().to_owned();
        let mut connection = KafkaConnection::take(options)?;
        connection.pass_through(options, CONSUMER);
        connection.default_to("queued.max.messages.kbytes", "65536");
        connection.default_to("isolation.level", "read_committed");
        let read_committed = match connection.property("isolation.level") {
            Some("read_committed") => true,
            Some("read_uncommitted") => false,
            _ => return Err(trouble::option(&owner, "has an unknown \"isolation.level\"", "Write 'read_committed' or 'read_uncommitted'.")),
        };
        let topics = take_topics(options, &owner)?;
        let start =
            options.parse("start", "'earliest', 'latest', a time such as '2026-01-01T00:00:00Z', 'timestamp:<milliseconds>' or offsets such as '{\"0\": 100}'", parse_start)?;
        let start = start.unwrap_or(Start::Earliest);
        let several = !matches!(&topics, Topics::Named(names) if names.len() == 1);
        if let Start::Offsets(offsets) = &start
            && several
            && let Some(bare) = offsets.keys().find(|key| !key.contains('-'))
        {
            return Err(trouble::option(
                &owner,
                &format!("reads several topics, and its \"start\" names partition \"{bare}\" without one"),
                "Write partitions as \"topic-number\".",
            ));
        }
        let on_data_loss = options.parse("on_data_loss", "'fail' or 'continue'", |text| match text {
            "fail" => Some(OnDataLoss::Fail),
            "continue" => Some(OnDataLoss::Continue),
            _ => None,
        })?;
        let tombstones = options.parse("tombstones", "'quarantine' or 'skip'", |text| match text {
            "quarantine" => Some(Tombstones::Quarantine),
            "skip" => Some(Tombstones::Skip),
            _ => None,
        })?;
        Ok(Self {
            connection,
            topics,
            group: options.take("group").unwrap_or_else(|| format!("watershed-{source_name}")),
            start,
            on_data_loss: on_data_loss.unwrap_or_default(),
            tombstones: tombstones.unwrap_or_default(),
            read_committed,
            discovery_interval: options.duration("discovery_interval")?.unwrap_or(Duration::from_secs(30)),
            max_rows_per_tick: options.number("max_rows_per_tick")?,
            owner,
        })
    }
}

fn take_topics(options: &mut Options, owner: &str) -> Result<Topics> {
    let pattern = options.parse("topic_pattern", "a regular expression", |text| Regex::new(&format!("^(?:{text})$")).ok())?;
    match (options.take("topic"), pattern) {
        (Some(_), Some(_)) => Err(trouble::option(owner, "has both \"topic\" and \"topic_pattern\"", "Leave one of them out.")),
        (None, None) => Err(trouble::option(owner, "needs the option \"topic\" or \"topic_pattern\"", "Add topic = '…' to its WITH clause.")),
        (None, Some(pattern)) => Ok(Topics::Pattern(pattern)),
        (Some(list), None) => {
            let mut names: Vec<String> = Vec::new();
            for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
            match names.is_empty() {
                true => Err(trouble::option(owner, "has no topic in \"topic\"", "Write topic = '…', several separated by commas.")),
                false => Ok(Topics::Named(names)),
            }
        }
    }
}

fn parse_start(text: &str) -> Option<Start> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "earliest" => return Some(Start::Earliest),
        "latest" => return Some(Start::Latest),
        _ => {}
    }
    if let Some(millis) = text.strip_prefix("timestamp:") {
        return millis.trim().parse().ok().map(Start::At);
    }
    if text.starts_with('{') {
        return serde_json::from_str(text).ok().map(Start::Offsets);
    }
    // A record exactly at the time counts; one within its millisecond but before it cannot be told apart.
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Start::At(time.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use watershed_types::OptionValue;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        Options::new("source \"s\"", values)
    }

    #[test]
    fn options_have_defaults_and_leave_unknown_ones_to_be_refused() {
        let mut given = options(&[("brokers", "b:9092"), ("topic", "a, b"), ("fetch.min.bytes", "7"), ("tpoic", "x")]);
        let taken = KafkaSourceOptions::take(&mut given, "orders").expect("right");
        assert_eq!(taken.group, "watershed-orders");
        assert!(taken.read_committed && taken.start == Start::Earliest);
        assert!(matches!(&taken.topics, Topics::Named(names) if names == &["a", "b"]));
        assert_eq!(taken.connection.config().get("fetch.min.bytes"), Some("7"));
        assert_eq!(given.finish().expect_err("tpoic is unknown").next_step(), Some("Did you mean \"topic\"?"));
    }

    #[test]
    fn start_reads_times_and_offsets() {
        assert_eq!(parse_start("2026-01-01T00:00:00Z"), Some(Start::At(1_767_225_600_000)));
        assert_eq!(parse_start("timestamp:5"), Some(Start::At(5)));
        assert_eq!(parse_start("{\"0\": 100}"), Some(Start::Offsets([("0".to_owned(), 100)].into())));
        assert_eq!(parse_start("yesterday"), None);
        let mut several = options(&[("brokers", "b"), ("topic", "a,b"), ("start", "{\"0\": 1}")]);
        assert_eq!(KafkaSourceOptions::take(&mut several, "s").expect_err("ambiguous").code(), trouble::OPTION);
    }
}
