//! The connection's settings, and the topic before the first record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaRespErr;
use watershed_types::{Error, Result};

use crate::delivery::{Deliveries, Tally};
use crate::options::{Guarantee, ProduceOptions};

/// How long brokers may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(15);
const ATTEMPT: Duration = Duration::from_secs(2);

/// librdkafka's properties: what suits throughput, then what the options say, then what the user says.
pub(crate) fn properties(options: &ProduceOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in DEFAULTS {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &options.brokers);
    match &options.guarantee {
        Guarantee::None => {}
        Guarantee::Idempotent => {
            config.set("enable.idempotence", "true");
        }
        Guarantee::Transactional { .. } => {
            let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            config.set("transactional.id", format!("watershed-produce-{}-{}", std::process::id(), moment.as_nanos()));
            // Nobody waits longer for a record than the broker does for its transaction.
            config.remove("delivery.timeout.ms");
        }
    }
    for (name, value) in &options.properties {
        // Aliases first: librdkafka takes the last one set, in an order that a map of names does not keep.
        for (one, other) in ALIASES {
            if name == one {
                config.remove(other);
            } else if name == other {
                config.remove(one);
            }
        }
        config.set(name, value);
    }
    config
}

/// Names of one property, the name in [`DEFAULTS`] first.
const ALIASES: [(&str, &str); 4] =
    [("linger.ms", "queue.buffering.max.ms"), ("compression.type", "compression.codec"), ("acks", "request.required.acks"), ("delivery.timeout.ms", "message.timeout.ms")];

/// Measured on two cores shared with the broker; `docs/reference/produce.md` has the reasons.
const DEFAULTS: [(&str, &str); 11] = [
    ("client.id", "watershed-produce"),
    ("acks", "all"),
    ("linger.ms", "20"),
    ("compression.type", "lz4"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.messages", "32768"),
    ("queue.buffering.max.kbytes", "131072"),
    ("delivery.timeout.ms", "120000"),
    ("partitioner", "murmur2_random"),
    ("statistics.interval.ms", "500"),
];

/// A producer with these properties.
pub(crate) fn connect(config: &ClientConfig, tally: &std::sync::Arc<Tally>) -> Result<BaseProducer<Deliveries>> {
    const SILENT: &str = "delivery.report.only.error";
    if config.get(SILENT) == Some("true") {
        return Err(Error::invalid("PRD0002", format!("the property \"{SILENT}\" has to stay false"))
            .hint("Leave it out: what is acknowledged is counted by reports. They cost next to nothing."));
    }
    config.create_with_context(Deliveries(std::sync::Arc::clone(tally))).map_err(refused)
}

fn refused(error: KafkaError) -> Error {
    let hint = "librdkafka's CONFIGURATION.md lists the properties and their values.";
    match error {
        KafkaError::ClientConfig(_, reason, name, _) => {
            let secret = ["password", "secret", "key", "jaas", "config", "token"].iter().any(|word| name.contains(word));
            let error = Error::invalid("PRD0002", format!("librdkafka refuses the property \"{name}\"")).hint(hint);
            if secret { error } else { error.caused_by(reason) }
        }
        KafkaError::ClientCreation(reason) => Error::invalid("PRD0002", format!("librdkafka refuses the properties: {}", reason.trim_end_matches('.'))).hint(hint),
        other => Error::invalid("PRD0002", "librdkafka refuses the properties").hint(hint).caused_by(other),
    }
}

/// How many partitions the topic has; creates it first if that is wanted.
pub(crate) fn prepare(options: &ProduceOptions, config: &ClientConfig, producer: &BaseProducer<Deliveries>, tally: &Tally, stop: &AtomicBool) -> Result<u32> {
    reach(options, producer, tally, stop)?;
    if options.create_topic {
        create(options, config)?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = producer.client().fetch_metadata(Some(&options.topic), ATTEMPT);
        let mut cause: Option<String> = None;
        match &answer {
            Ok(metadata) => {
                let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
                let partitions = topic.map_or(0, |topic| topic.partitions().len());
                let led = topic.is_some_and(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0));
                match topic.and_then(|topic| topic.error()) {
                    // A topic that was created a moment ago is known everywhere a moment later.
                    Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) if !options.create_topic => return Err(missing(options)),
                    Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                        return Err(Error::denied("PRD0004", format!("the topic \"{}\" may not be described", options.topic)).hint("Ask for the right to describe and write it."));
                    }
                    Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) => {
                        return Err(Error::invalid("PRD0004", format!("\"{}\" is no name of a topic", options.topic)).hint("Use letters, digits, '.', '_' and '-'."));
                    }
                    Some(error) => cause = Some(RDKafkaErrorCode::from(error).to_string()),
                    None if partitions > 0 && led => return Ok(partitions as u32),
                    None => {}
                }
            }
            Err(error) => cause = Some(error.to_string()),
        }
        if stop.load(Ordering::SeqCst) || Instant::now() > deadline {
            let error = Error::unavailable("PRD0003", format!("the topic \"{}\" has no leader for each of its partitions", options.topic)).hint("Look at the brokers' health.");
            return Err(if let Some(cause) = cause { error.caused_by(cause) } else { error });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn missing(options: &ProduceOptions) -> Error {
    Error::invalid("PRD0004", format!("the topic \"{}\" does not exist", options.topic)).hint("Add --create-topic, with --partitions if it matters, or create it yourself.")
}

/// Waits until a broker answers.
fn reach(options: &ProduceOptions, producer: &BaseProducer<Deliveries>, tally: &Tally, stop: &AtomicBool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = producer.client().fetch_cluster_id(ATTEMPT);
        if answer.is_some() {
            return Ok(());
        }
        // Error events wait in the queue until somebody polls.
        (0..16).for_each(|_| producer.poll(Duration::ZERO));
        let problems = tally.problems();
        let refused = problems.counts.keys().any(|name| name == "_AUTHENTICATION" || name == "_SSL");
        if refused || stop.load(Ordering::SeqCst) || Instant::now() > deadline {
            let error = if refused {
                Error::denied("PRD0003", format!("the brokers \"{}\" refuse the connection", options.brokers)).hint("Check the security.*, sasl.* and ssl.* properties.")
            } else {
                Error::unavailable("PRD0003", format!("the brokers \"{}\" do not answer", options.brokers)).hint("Check the addresses, and security.protocol.")
            };
            return Err(if let Some(last) = problems.last { error.caused_by(last) } else { error });
        }
    }
}

fn create(options: &ProduceOptions, config: &ClientConfig) -> Result<()> {
    let failed = |cause: String, kind: fn(&'static str, String) -> Error| {
        kind("PRD0005", format!("the topic \"{}\" cannot be created", options.topic)).caused_by(cause).hint("Check the right to create topics, and --partitions and --replication.")
    };
    let mut admin_config = ClientConfig::new();
    // Only what is about the connection: an admin client knows nothing of batches.
    let about_connection = |name: &str| ["bootstrap.", "security.", "sasl.", "ssl.", "client.id", "enable.ssl", "socket.", "broker."].iter().any(|start| name.starts_with(start));
    for (name, value) in config.config_map() {
        if about_connection(name) {
            admin_config.set(name, value);
        }
    }
    let admin: AdminClient<DefaultClientContext> = admin_config.create().map_err(refused)?;
    let partitions = options.partitions.map_or(-1, |partitions| i32::try_from(partitions).unwrap_or(i32::MAX));
    let replication = options.replication.map_or(-1, |replication| i32::try_from(replication).unwrap_or(i32::MAX));
    let topic = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(replication));
    let limits = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let answers = futures::executor::block_on(admin.create_topics([&topic], &limits)).map_err(|e| failed(e.to_string(), Error::unavailable))?;
    match answers.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
        Some(Err((_, code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)))) => Err(failed(code.to_string(), Error::denied)),
        Some(Err((_, code))) => Err(failed(code.to_string(), Error::invalid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_properties_win_whatever_their_name() {
        let mut options = ProduceOptions::new("b:1", "t");
        options.properties = [("queue.buffering.max.ms", "3"), ("compression.codec", "zstd"), ("enable.idempotence", "false")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let config = properties(&options);
        assert_eq!((config.get("linger.ms"), config.get("queue.buffering.max.ms")), (None, Some("3")));
        assert_eq!((config.get("compression.type"), config.get("compression.codec")), (None, Some("zstd")));
        assert_eq!((config.get("enable.idempotence"), config.get("acks"), config.get("bootstrap.servers")), (Some("false"), Some("all"), Some("b:1")));
    }

    #[test]
    fn what_librdkafka_refuses_is_named() {
        let code = |name: &str, value: &str| {
            let mut options = ProduceOptions::new("b:1", "t");
            options.properties = vec![(name.to_owned(), value.to_owned())];
            let error = connect(&properties(&options), &Tally::new()).err().expect("refused");
            assert_eq!(error.code(), "PRD0002");
            error.report()
        };
        assert!(code("linger.mss", "3").contains("\"linger.mss\""));
        assert!(code("acks", "1").contains("acks"), "idempotence needs all");
        assert!(code("delivery.report.only.error", "true").contains("has to stay false"));
        assert!(!code("sasl.oauthbearer.client.secret.x", "hunter2").contains("hunter2"));
    }
}
