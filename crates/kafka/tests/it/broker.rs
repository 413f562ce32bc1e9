//! A broker for the tests, and what they do to topics.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use watershed_kafka::{KafkaSource, KafkaSourceOptions, Wants};
use watershed_ports::{Framing, Polled, RawChunk, Source};
use watershed_types::{OptionValue, Options, PartitionPosition, Positions, Result};

/// One Kafka server. It ends with the test process.
pub struct Broker {
    dir: PathBuf,
    pub bootstrap: String,
}

fn script(arguments: &[&str]) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka");
    let output = Command::new(path).args(arguments).output().expect("scripts/kafka can be started");
    assert!(output.status.success(), "scripts/kafka {} failed, and these tests need Apache Kafka:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("its output is text")
}

impl Broker {
    /// A server of its own, for tests that stop it.
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = std::process::id();
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{id}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let _ = std::fs::remove_dir_all(&dir);
        let said = script(&["start", &dir.to_string_lossy(), "--parent", &id.to_string()]);
        let bootstrap = said.trim().strip_prefix("bootstrap=").expect("it says where it answers").to_owned();
        Self { dir, bootstrap }
    }

    /// The server that most tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            // Folders of runs that were killed.
            for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).expect("the folder is there").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let owner = name.strip_prefix("kafka-").and_then(|rest| rest.split('-').next()).map(str::to_owned);
                if owner.is_some_and(|owner| !PathBuf::from(format!("/proc/{owner}")).exists()) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
            Self::start()
        })
    }

    /// Kills it as a power cut would, and starts it again.
    pub fn restart(&self) {
        script(&["restart", &self.dir.to_string_lossy(), "--hard"]);
    }

    /// Kills it.
    pub fn stop(&self) {
        script(&["stop", &self.dir.to_string_lossy(), "--hard"]);
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().expect("an admin client")
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]);
    }

    pub fn create_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            wanted = wanted.set(key, value);
        }
        let made = block_on(self.admin().create_topics([&wanted], &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|topic| drop(topic.expect("created")));
    }

    pub fn delete(&self, topic: &str) {
        let gone = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).expect("an answer");
        gone.into_iter().for_each(|topic| drop(topic.expect("deleted")));
    }

    pub fn grow(&self, topic: &str, partitions: usize) {
        let grown = block_on(self.admin().create_partitions([&NewPartitions::new(topic, partitions)], &AdminOptions::new())).expect("an answer");
        grown.into_iter().for_each(|topic| drop(topic.expect("grown")));
    }

    /// Removes the records before an offset, as retention does.
    pub fn remove_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("removed");
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> Writer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("enable.idempotence", "true").set("linger.ms", "1");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        Writer(config.create().expect("a producer"))
    }

    pub fn options(&self, pairs: &[(&str, &str)]) -> Options {
        let all = pairs.iter().copied().chain([("brokers", self.bootstrap.as_str())]);
        let values: BTreeMap<String, OptionValue> = all.map(|(key, value)| (key.to_owned(), OptionValue::new(value, value, "test.sql:1:1"))).collect();
        Options::new("source \"s\"", values)
    }

    pub fn source(&self, pairs: &[(&str, &str)], wants: Wants) -> KafkaSource {
        let mut options = self.options(pairs);
        let taken = KafkaSourceOptions::take(&mut options, "s").expect("right options");
        options.finish().expect("nothing unknown");
        KafkaSource::new(taken, wants).expect("a source")
    }

    /// How far a consumer group stands on each partition.
    pub fn group(&self, group: &str, topic: &str, partitions: i32) -> Vec<Option<u64>> {
        let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.bootstrap).set("group.id", group).create().expect("a consumer");
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let known = reader.committed_offsets(asked, Duration::from_secs(20)).expect("an answer");
        known.elements().iter().map(|element| element.offset().to_raw().and_then(|offset| u64::try_from(offset).ok())).collect()
    }

    /// All there is to read with `read_committed`, from the first record on.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let mut source = self.source(&[("topic", topic), ("group", "reader")], Wants { key: true, headers: true, timestamp: true });
        source.seek(&Positions::new()).expect("sought");
        source.drain();
        Reading::default().read_on(&mut source).records
    }
}

/// Sends messages.
pub struct Writer(pub ThreadedProducer<DefaultProducerContext>);

impl Writer {
    pub fn send(&self, topic: &str, partition: i32, value: &str) {
        self.record(BaseRecord::<[u8], [u8]>::to(topic).partition(partition).payload(value.as_bytes()));
    }

    pub fn send_with(&self, topic: &str, partition: i32, key: &str, value: Option<&str>, header: Option<(&str, &str)>, at: i64) {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).key(key.as_bytes()).timestamp(at);
        if let Some(value) = value {
            record = record.payload(value.as_bytes());
        }
        if let Some((key, value)) = header {
            record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        }
        self.record(record);
    }

    pub fn record(&self, mut record: BaseRecord<'_, [u8], [u8]>) {
        while let Err((error, again)) = self.0.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::QueueFull), "{error}");
            record = again;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn flush(&self) {
        self.0.flush(Duration::from_secs(60)).expect("acknowledged");
    }
}

/// One record as it came out of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub partition: String,
    pub offset: u64,
    pub value: String,
    pub key: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
    pub timestamp: i64,
    pub tombstone: bool,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Reading {
    pub records: Vec<Record>,
    pub positions: Positions,
    pub lost: u64,
    pub skipped: u64,
    pub chunks: usize,
}

impl Reading {
    pub fn values(&self, partition: &str) -> Vec<&str> {
        self.records.iter().filter(|record| record.partition == partition).map(|record| record.value.as_str()).collect()
    }

    /// Reads until the source says that it is caught up.
    pub fn read_on(self, source: &mut KafkaSource) -> Self {
        self.try_read_on(source).expect("reading goes well")
    }

    pub fn try_read_on(mut self, source: &mut KafkaSource) -> Result<Self> {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(90), "the end was not reached: {:?}", source.lag());
            match source.poll(64 << 10, Duration::from_millis(50))? {
                Polled::Chunk(chunk) => self.take(&chunk),
                _ => return Ok(self),
            }
        }
    }

    pub fn take(&mut self, chunk: &RawChunk) {
        let Framing::Ranges(ranges) = &chunk.framing else { panic!("a log has ranges") };
        let text = |(start, end): (u32, u32)| String::from_utf8_lossy(&chunk.bytes[start as usize..end as usize]).into_owned();
        let facts = chunk.facts.as_deref().cloned().unwrap_or_default();
        for (at, range) in ranges.iter().enumerate() {
            let headers = facts.headers.get(at).map(|(start, end)| &facts.header_items[*start as usize..*end as usize]).unwrap_or_default();
            self.records.push(Record {
                partition: chunk.partition.to_string(),
                offset: facts.offsets.get(at).copied().unwrap_or(chunk.record + at as u64),
                value: text(*range),
                key: facts.keys.get(at).copied().flatten().map(text),
                headers: headers.iter().map(|item| (text(item.name), item.value.map(text))).collect(),
                timestamp: facts.timestamps.get(at).copied().unwrap_or(i64::MIN),
                tombstone: facts.tombstones.contains(&(at as u32)),
            });
        }
        assert!(chunk.end_offset >= chunk.offset + ranges.len() as u64, "{chunk:?}");
        self.positions.insert(chunk.stretch.to_string(), PartitionPosition { offset: chunk.end_offset, record: chunk.end_offset });
        self.lost += chunk.lost;
        self.skipped += chunk.skipped;
        self.chunks += 1;
    }
}

/// Waits for an admin client's answer.
pub fn block_on<F: Future>(future: F) -> F::Output {
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
