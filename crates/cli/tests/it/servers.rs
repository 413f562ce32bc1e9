//! Real servers, private to this test process: started by the repository's scripts, gone when it ends.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

/// A server and the folder it lives in.
pub struct Server {
    script: PathBuf,
    folder: TempDir,
    /// What it printed about itself: `bootstrap=…`, `url=…`.
    pub address: String,
}

impl Server {
    /// Starts one of `scripts/{kafka,postgres,redis}`; it ends with this process.
    fn start(name: &str, arguments: &[&str]) -> Server {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
        let folder = tempfile::Builder::new().prefix(&format!("ws-{name}-")).tempdir().expect("a temporary folder");
        let mut command = Command::new(&script);
        command.arg("start").arg(folder.path()).args(arguments).arg("--parent").arg(std::process::id().to_string());
        let output = command.output().expect("the script runs");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name} cannot be started; scripts/setup --test installs what it needs:\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
        let address = stdout.lines().filter_map(|line| line.split_once('=')).map(|(_, value)| value.trim().to_owned()).next_back().expect("it says its address");
        Server { script, folder, address }
    }

    /// `stop`, `restart`, `kill`.
    pub fn tell(&self, verb: &[&str]) {
        let status = Command::new(&self.script).arg(verb[0]).arg(self.folder.path()).args(&verb[1..]).stdout(std::process::Stdio::null()).status().expect("the script runs");
        assert!(status.success(), "{verb:?} failed");
    }
}

/// The broker of this test process.
pub fn kafka() -> &'static Server {
    static KAFKA: LazyLock<Server> = LazyLock::new(|| Server::start("kafka", &[]));
    &KAFKA
}

/// A Postgres of its own; waits for the disk, as a real one does.
pub fn postgres() -> Server {
    Server::start("postgres", &[])
}

/// A Redis of its own.
pub fn redis() -> Server {
    Server::start("redis", &[])
}

/// Makes a topic.
pub fn topic(name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &kafka().address).create().expect("an admin client");
    let wanted = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let made = runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).expect("topics can be made");
    made.into_iter().for_each(|made| drop(made.expect("the topic is made")));
}

/// A producer that waits until what it sent is there.
pub struct Sender(BaseProducer);

impl Sender {
    pub fn new() -> Sender {
        let producer = ClientConfig::new().set("bootstrap.servers", &kafka().address).set("enable.idempotence", "true").set("linger.ms", "2").create();
        Sender(producer.expect("a producer"))
    }
    pub fn send(&self, topic: &str, key: &str, value: &str) {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        while let Err((_, back)) = self.0.send(record) {
            self.0.poll(Duration::from_millis(5));
            record = back;
        }
        self.0.poll(Duration::ZERO);
    }
    pub fn flush(&self) {
        self.0.flush(Duration::from_secs(60)).expect("everything is acknowledged");
    }
}

/// Reads a topic from its beginning as another program would, with `read_committed`.
pub struct Reader(BaseConsumer);

impl Reader {
    pub fn new(topic: &str) -> Reader {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka().address)
            .set("group.id", format!("reader-of-{topic}"))
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribes");
        Reader(consumer)
    }
    /// What arrives until `count` messages have come and then nothing for two seconds; gives up after two minutes.
    pub fn read_at_least(&self, count: u64, mut take: impl FnMut(&BorrowedMessage<'_>)) {
        let (started, mut seen) = (Instant::now(), 0);
        loop {
            self.read(Duration::from_secs(2), |message| {
                seen += 1;
                take(message);
            });
            if seen >= count || started.elapsed() > Duration::from_secs(120) {
                return;
            }
        }
    }
    /// What arrives until nothing has come for `quiet`.
    pub fn read(&self, quiet: Duration, mut take: impl FnMut(&BorrowedMessage<'_>)) {
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            if let Some(Ok(message)) = self.0.poll(Duration::from_millis(50)) {
                last = Instant::now();
                take(&message);
            }
        }
    }
}

/// A message's value as JSON.
pub fn json(message: &BorrowedMessage<'_>) -> serde_json::Value {
    serde_json::from_slice(message.payload().expect("a value")).expect("JSON")
}
