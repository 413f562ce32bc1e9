//! The whole command against a broker: Apache Kafka, started by `scripts/kafka` on free ports.
//!
//! `WATERSHED_TEST_KAFKA=host:port` uses one that runs already. Tests are skipped, and say so, where there is no Java.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use watershed_producer::{Ended, Event, Guarantee, ProduceOptions, Rate, Report, java_partition, run};

const PREFIX: &str = "watershed-producer-";
const WAIT: Duration = Duration::from_secs(20);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka")
}

/// The broker all tests share; ends with this process. `None` if it cannot be started here.
fn broker() -> Option<&'static str> {
    static BROKER: OnceLock<Option<String>> = OnceLock::new();
    let found = BROKER.get_or_init(|| {
        if let Ok(given) = std::env::var("WATERSHED_TEST_KAFKA") {
            return Some(given);
        }
        sweep();
        start(&folder("it"))
    });
    if found.is_none() {
        eprintln!("skipped: no broker; see scripts/kafka");
    }
    found.as_deref()
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{name}-{}", std::process::id()))
}

/// Brokers end with the process that has started them, their folders do not: removes those of earlier runs.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit('-').next()).and_then(|number| number.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn start(folder: &Path) -> Option<String> {
    let output = Command::new(script()).arg("start").arg(folder).args(["--parent", &std::process::id().to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("bootstrap=")).map(str::to_owned);
    if found.is_none() {
        eprintln!("scripts/kafka: {}", String::from_utf8_lossy(&output.stderr));
    }
    found
}

/// Options for a topic of its own, as fast as it goes.
fn options(brokers: &str, name: &str) -> ProduceOptions {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut options = ProduceOptions::new(brokers, format!("it-{name}-{}-{number}", std::process::id()));
    (options.rate, options.create_topic, options.partitions, options.replication) = (Rate::Max, true, Some(6), Some(1));
    options
}

fn go(options: &ProduceOptions) -> Report {
    run(options.clone(), Arc::default(), |_| {}).expect("a run")
}

/// Partition → (key, value) in the order of offsets, as a reader of this isolation sees them.
fn read(options: &ProduceOptions, isolation: &str) -> BTreeMap<i32, Vec<(String, Vec<u8>)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", "it")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(&options.topic), WAIT).expect("metadata");
    let mut assignment = TopicPartitionList::new();
    let mut open = BTreeSet::new();
    for partition in metadata.topics()[0].partitions() {
        assignment.add_partition_offset(&options.topic, partition.id(), Offset::Beginning).expect("an offset");
        open.insert(partition.id());
    }
    consumer.assign(&assignment).expect("assigned");
    let mut all: BTreeMap<i32, Vec<_>> = open.iter().map(|partition| (*partition, Vec::new())).collect();
    let deadline = Instant::now() + WAIT;
    while !open.is_empty() && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let key = String::from_utf8_lossy(message.key().expect("a key")).into_owned();
                all.entry(message.partition()).or_default().push((key, message.payload().expect("a value").to_vec()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    assert!(open.is_empty(), "read to the end");
    all
}

#[test]
fn every_record_arrives_once_and_the_report_counts_like_the_topic() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "counts");
    options.records = Some(30_011);
    let mut events = Vec::new();
    let report = run(options.clone(), Arc::default(), |event| events.push(event)).expect("a run");
    report.verdict().expect("nothing failed");
    assert_eq!((report.sent, report.acknowledged, report.ended), (30_011, 30_011, Ended::Records));
    assert_eq!(report.made.values().sum::<u64>(), 30_011);
    assert!(matches!(&events[0], Event::Started { partitions: 6, .. }));
    let seen = read(&options, "read_committed");
    for partition in &report.partitions {
        let records = &seen[&(partition.partition as i32)];
        assert_eq!(records.len() as u64, partition.records);
        assert!(records.iter().all(|(key, _)| java_partition(key.as_bytes(), 6) == partition.partition), "like the Java client");
    }
    let bytes: usize = seen.values().flatten().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!(bytes as u64, report.bytes);
    let batches = report.batches.expect("statistics");
    assert_eq!((batches.records * batches.count as f64).round() as u64, 30_011);
    assert!(batches.compression_ratio > 1.5 && batches.wire_bytes < report.bytes, "{batches:?}");
    assert!(report.latency.samples > 0 && report.latency.p50_ms > 0.0 && report.latency.p50_ms <= report.latency.p99_ms);
    // The same again, made elsewhere, is the same in every partition.
    let mut again = options.clone();
    again.topic.push_str("-again");
    again.generators = 2;
    go(&again).verdict().expect("nothing failed");
    assert!(read(&again, "read_committed") == seen);
}

#[test]
fn transactions_are_invisible_until_they_are_committed() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "transactions");
    options.rate = Rate::PerSecond(2_000.0);
    options.guarantee = Guarantee::Transactional { records: 1_000_000, interval: Duration::from_secs(30) };
    options.progress_every = Duration::from_millis(50);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, looked) = (Arc::clone(&stop), options.clone());
    let mut unseen = None;
    let report = run(options.clone(), stop, |event| {
        if let Event::Progress(progress) = event
            && progress.acknowledged > 500
            && unseen.is_none()
        {
            let count = |isolation| read(&looked, isolation).values().map(Vec::len).sum::<usize>();
            unseen = Some((count("read_committed"), count("read_uncommitted")));
            stopping.store(true, Ordering::SeqCst);
        }
    })
    .expect("a run");
    report.verdict().expect("nothing failed");
    let (committed, uncommitted) = unseen.expect("looked");
    assert_eq!(committed, 0, "nothing is visible before the commit");
    assert!(uncommitted > 500, "it was in the log, though: {uncommitted}");
    let transactions = report.transactions.expect("transactions");
    assert_eq!((transactions.committed, transactions.aborted, transactions.records), (1, 0, report.sent));
    assert_eq!(read(&options, "read_committed").values().map(Vec::len).sum::<usize>() as u64, report.sent);
    assert_eq!((report.ended, report.acknowledged), (Ended::Stopped, report.sent));
}

#[test]
fn transactions_end_by_count() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "by-count");
    options.records = Some(2_500);
    options.guarantee = Guarantee::Transactional { records: 1_000, interval: Duration::from_secs(30) };
    let report = go(&options);
    report.verdict().expect("nothing failed");
    let transactions = report.transactions.expect("transactions");
    assert_eq!((transactions.committed, transactions.records), (3, 2_500));
    assert_eq!(read(&options, "read_committed").values().map(Vec::len).sum::<usize>(), 2_500);
}

#[test]
fn transactions_end_by_time() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "by-time");
    (options.rate, options.seconds) = (Rate::PerSecond(1_000.0), Some(2.0));
    options.guarantee = Guarantee::Transactional { records: 1_000_000, interval: Duration::from_millis(250) };
    let report = go(&options);
    report.verdict().expect("nothing failed");
    let transactions = report.transactions.expect("transactions");
    assert!((3..=8).contains(&transactions.committed) && transactions.records == report.sent, "{transactions:?}");
}

#[test]
fn a_newer_producer_of_the_same_name_ends_the_transactions() {
    let Some(brokers) = broker() else { return };
    let mut first = options(brokers, "fenced");
    first.properties = vec![("transactional.id".to_owned(), first.topic.clone())];
    first.guarantee = Guarantee::Transactional { records: 1_000_000, interval: Duration::from_millis(200) };
    (first.rate, first.seconds, first.progress_every) = (Rate::PerSecond(1_000.0), Some(20.0), Duration::from_millis(100));
    let mut second = first.clone();
    (second.records, second.seconds) = (Some(10), None);
    let mut newer = None;
    let report = run(first.clone(), Arc::default(), |event| {
        if matches!(event, Event::Progress(progress) if progress.acknowledged > 500) && newer.is_none() {
            newer = Some(go(&second));
        }
    })
    .expect("a report all the same");
    newer.expect("the fault came").verdict().expect("the newer one is fine");
    assert_eq!((report.ended, report.verdict().expect_err("fenced").code()), (Ended::Failed, "PRD0007"));
    let transactions = report.transactions.expect("transactions");
    let seen = read(&first, "read_committed").values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(seen, transactions.records + 10, "what was not committed is not seen: {transactions:?}");
    assert_eq!(report.sent, report.acknowledged + report.failed.surely + report.failed.perhaps, "every record has one fate");
}

/// With librdkafka's own mock of a cluster: nothing here is about what the log holds.
#[test]
fn a_stop_gives_up_what_nobody_answers() {
    let cluster = rdkafka::mocking::MockCluster::new(1).expect("a mock");
    cluster.create_topic("away", 3, 1).expect("a topic");
    let mut options = ProduceOptions::new(cluster.bootstrap_servers(), "away");
    (options.rate, options.progress_every, options.flush_timeout) = (Rate::PerSecond(2_000.0), Duration::from_millis(100), Duration::from_millis(700));
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let mut left = None;
    let report = run(options, stop, |event| {
        let Event::Progress(progress) = event else { return };
        if progress.acknowledged > 100 && left.is_none() {
            cluster.broker_down(1).expect("down");
            left = Some(Instant::now());
        }
        stopping.store(left.is_some_and(|left| left.elapsed() > Duration::from_millis(300)), Ordering::SeqCst);
    })
    .expect("a report all the same");
    assert!(left.expect("the fault came").elapsed() < Duration::from_secs(10));
    assert_eq!((report.ended, report.verdict().expect_err("failed").code()), (Ended::Stopped, "PRD0006"));
    assert_eq!(report.sent, report.acknowledged + report.failed.surely + report.failed.perhaps, "every record has one fate");
    assert!(report.failed.by_error.contains_key("_PURGE_QUEUE"), "{:?}", report.failed);
}

/// A queue of a hundred records and a sender without a pace: it waits, and nothing is lost.
#[test]
fn a_full_queue_makes_the_sender_wait() {
    let cluster = rdkafka::mocking::MockCluster::new(1).expect("a mock");
    cluster.create_topic("narrow", 2, 1).expect("a topic");
    let mut options = ProduceOptions::new(cluster.bootstrap_servers(), "narrow");
    (options.rate, options.records) = (Rate::Max, Some(5_000));
    options.properties = vec![("queue.buffering.max.messages".to_owned(), "100".to_owned())];
    let report = go(&options);
    report.verdict().expect("nothing failed");
    assert!(report.acknowledged == 5_000 && report.waited_seconds > 0.1, "{}", report.waited_seconds);
}

#[test]
fn a_stop_flushes_what_was_sent() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "stop");
    options.properties = vec![("linger.ms".to_owned(), "60000".to_owned())];
    options.progress_every = Duration::from_millis(100);
    options.rate = Rate::PerSecond(3_000.0);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let began = Instant::now();
    let report = run(options.clone(), stop, |event| {
        if let Event::Progress(progress) = event {
            stopping.store(progress.sent > 300, Ordering::SeqCst);
        }
    })
    .expect("a run");
    report.verdict().expect("nothing failed");
    assert!(began.elapsed() < Duration::from_secs(20), "does not wait for the linger");
    assert_eq!(report.ended, Ended::Stopped);
    assert!(report.sent > 300 && report.acknowledged == report.sent);
    assert_eq!(read(&options, "read_committed").values().map(Vec::len).sum::<usize>() as u64, report.sent);
}

#[test]
fn salt_spreads_a_hot_key_over_partitions() {
    let Some(brokers) = broker() else { return };
    let mut plain = options(brokers, "hot");
    (plain.records, plain.hot_keys) = (Some(60_000), 0.4);
    let mut salted = plain.clone();
    salted.topic.push_str("-salted");
    salted.salt_hot_keys = 24;
    let (before, after) = (go(&plain), go(&salted));
    // The topic's own counts say the same as the report.
    let counts = |options: &ProduceOptions| read(options, "read_committed").values().map(|records| records.len() as u64).collect::<Vec<_>>();
    let (plain_counts, salted_counts) = (counts(&plain), counts(&salted));
    assert_eq!(plain_counts, before.partitions.iter().map(|p| p.records).collect::<Vec<_>>());
    assert_eq!(salted_counts, after.partitions.iter().map(|p| p.records).collect::<Vec<_>>());
    // What the salted run says it would have been is what the unsalted run was.
    assert_eq!(plain_counts, after.partitions.iter().map(|p| p.unsalted.expect("salted")).collect::<Vec<_>>());
    assert_eq!(after.skew.before, Some(before.skew.after));
    assert_eq!((after.skew.hot_keys.len(), before.skew.before), (1, None));
    let max_over_mean = |counts: &[u64]| *counts.iter().max().expect("some") as f64 / (60_000.0 / counts.len() as f64);
    assert!(max_over_mean(&plain_counts) > 2.5 && max_over_mean(&salted_counts) < 1.6, "{plain_counts:?} {salted_counts:?}");
}

#[test]
fn a_low_rate_is_even() {
    let Some(brokers) = broker() else { return };
    let mut options = options(brokers, "even");
    (options.rate, options.seconds) = (Rate::PerSecond(500.0), Some(2.0));
    options.properties = vec![("linger.ms".to_owned(), "0".to_owned())];
    let report = go(&options);
    assert!((990..=1_001).contains(&report.sent) && report.ended == Ended::Seconds, "{}", report.sent);
    assert_eq!(report.latency.samples, report.sent, "every record is measured");
}

#[test]
fn a_missing_topic_and_an_absent_broker_are_named() {
    let absent = ProduceOptions { records: Some(1), ..ProduceOptions::new("127.0.0.1:1", "t") };
    let error = run(absent, Arc::new(AtomicBool::new(true)), |_| {}).expect_err("nobody there");
    assert_eq!(error.code(), "PRD0003");
    let Some(brokers) = broker() else { return };
    let mut missing = options(brokers, "missing");
    missing.create_topic = false;
    // A broker that makes topics by itself has none missing.
    if let Err(error) = run(missing, Arc::new(AtomicBool::new(true)), |_| {}) {
        assert_eq!(error.code(), "PRD0004");
    }
}

#[test]
fn a_broker_that_goes_away_fails_records_and_says_how_many() {
    if std::env::var_os("WATERSHED_TEST_KAFKA").is_some() || broker().is_none() {
        return;
    }
    let folder = folder("away");
    let brokers = start(&folder).expect("a broker of its own");
    let mut options = options(&brokers, "away");
    (options.rate, options.seconds) = (Rate::PerSecond(5_000.0), Some(6.0));
    options.properties = vec![("delivery.timeout.ms".to_owned(), "2000".to_owned())];
    let mut away = false;
    let report = run(options, Arc::default(), |event| {
        if matches!(event, Event::Progress(progress) if progress.acknowledged > 0) && !away {
            away = true;
            let stopped = Command::new(script()).arg("stop").arg(&folder).arg("--hard").output().expect("stopped");
            assert!(stopped.status.success());
        }
    })
    .expect("a report all the same");
    let _ = std::fs::remove_dir_all(&folder);
    assert!(away, "the fault came");
    let error = report.verdict().expect_err("records failed");
    assert_eq!(error.code(), "PRD0006");
    assert_eq!(report.sent, report.acknowledged + report.failed.surely + report.failed.perhaps, "every record has one fate");
    assert!(report.failed.by_error.contains_key("_MSG_TIMED_OUT"), "{:?}", report.failed);
    assert!(report.failed.surely > report.failed.perhaps, "most were never put into a request: {:?}", report.failed);
}
