//! Questions to the brokers that both ends ask: which topics there are, how large their messages may be, and making one.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use watershed_types::{Error, Result};

use crate::client::{self, KafkaConnection};
use crate::sink_options::{KafkaSinkOptions, SinkMode};
use crate::trouble;

/// How long a start waits for brokers that do not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question may take before it is asked again.
pub(crate) const QUESTION: Duration = Duration::from_secs(10);

/// Asks until there is an answer, for [`PATIENCE`] in all. Errors that waiting does not cure come at once.
pub(crate) fn ask<T>(brokers: &str, denied: impl Fn() -> Option<String>, mut question: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T> {
    let started = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(started.elapsed());
        let error = match question(left.min(QUESTION)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if let Some(code) = error.rdkafka_error_code().filter(|code| trouble::is_denial(*code)) {
            return Err(trouble::denied(brokers, &code.to_string()));
        }
        if let Some(words) = denied() {
            return Err(trouble::denied(brokers, &words));
        }
        if started.elapsed() >= PATIENCE {
            return Err(trouble::unreachable(brokers, PATIENCE, Some(error)));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// All topics there are.
pub(crate) fn all_topics<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Result<Metadata, KafkaError> {
    client.fetch_metadata(None, timeout)
}

/// How many partitions a topic has in an answer; [`None`] if there is no such topic.
pub(crate) fn partitions_of(metadata: &Metadata, topic: &str) -> Option<Vec<i32>> {
    let found = metadata.topics().iter().find(|found| found.name() == topic)?;
    let mut partitions: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    (!partitions.is_empty()).then_some(partitions)
}

fn admin(connection: &KafkaConnection) -> Result<AdminClient<DefaultClientContext>> {
    client::create(&connection.config(), DefaultClientContext)
}

/// Makes a topic. One that is there already is left as it is.
pub(crate) fn create_topic(connection: &KafkaConnection, topic: &str, partitions: i32, replicas: i32, compacted: bool) -> Result<()> {
    let admin = admin(connection)?;
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    if compacted {
        wanted = wanted.set("cleanup.policy", "compact");
    }
    let options = AdminOptions::new().request_timeout(Some(QUESTION)).operation_timeout(Some(QUESTION));
    let made = block_on(admin.create_topics([&wanted], &options));
    let refused = |words: String| {
        Error::unavailable(trouble::CREATE, format!("topic \"{topic}\" cannot be created: {words}"))
            .hint("Create it by hand, or correct partitions and replication_factor; the brokers may not let this user create topics.")
            .definite()
    };
    match made {
        Ok(answers) => match answers.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(refused(code.to_string())),
            _ => Ok(()),
        },
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A topic's `max.message.bytes`, if the brokers tell.
pub(crate) fn largest_message(connection: &KafkaConnection, topic: &str) -> Option<usize> {
    let admin = admin(connection).ok()?;
    let options = AdminOptions::new().request_timeout(Some(QUESTION));
    let answers = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options)).ok()?;
    let resource = answers.into_iter().next()?.ok()?;
    resource.get("max.message.bytes")?.value.as_deref()?.parse().ok()
}

/// Waits for a future on this thread. The admin client's futures are woken by a thread of its own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(1)),
        }
    }
}

/// Checks that a sink's topic is there, or makes it.
pub(crate) fn ensure<C: ClientContext>(client: &Client<C>, options: &KafkaSinkOptions, denied: impl Fn() -> Option<String>) -> Result<()> {
    let brokers = options.connection.brokers();
    // All topics: asking for one by name would make it on brokers that create topics unasked.
    let metadata = ask(brokers, &denied, |timeout| all_topics(client, timeout))?;
    if partitions_of(&metadata, &options.topic).is_some() {
        return Ok(());
    }
    if !options.create_topic {
        return Err(trouble::no_topic(&options.topic, metadata.topics().iter().map(|topic| topic.name())).definite());
    }
    create_topic(&options.connection, &options.topic, options.partitions, options.replication_factor, options.mode == SinkMode::Upsert)?;
    let started = Instant::now();
    while started.elapsed() < QUESTION {
        let metadata = ask(brokers, &denied, |timeout| all_topics(client, timeout))?;
        if partitions_of(&metadata, &options.topic).is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::unavailable(trouble::CREATE, format!("topic \"{}\" was created and does not show up", options.topic)).hint("Try again.").definite())
}
