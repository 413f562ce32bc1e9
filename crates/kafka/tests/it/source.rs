use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;
use watershed_kafka::Wants;
use watershed_ports::{Polled, Source};
use watershed_types::{PartitionPosition, Positions};

use crate::broker::{Broker, Reading};

const WAIT: Duration = Duration::from_secs(30);

fn at(positions: &[(&str, u64)]) -> Positions {
    positions.iter().map(|(name, offset)| ((*name).to_owned(), PartitionPosition { offset: *offset, record: *offset })).collect()
}

/// Three partitions with plain records, committed and aborted transactions, and a transaction's marker at each end.
fn fill(broker: &Broker, topic: &str) -> BTreeMap<String, Vec<String>> {
    broker.create(topic, 3);
    let plain = broker.producer(&[]);
    let transactional = broker.producer(&[("transactional.id", topic)]);
    transactional.0.init_transactions(WAIT).expect("ready");
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..6 {
        let aborted = round % 3 == 1;
        transactional.0.begin_transaction().expect("begun");
        for partition in 0..3 {
            for n in 0..200 {
                let value = format!("t{round}-{n}");
                transactional.send(topic, partition, &value);
                if !aborted {
                    expected.entry(format!("{topic}-{partition}")).or_default().push(value);
                }
            }
        }
        transactional.flush();
        if aborted {
            transactional.0.abort_transaction(WAIT).expect("aborted");
        } else {
            transactional.0.commit_transaction(WAIT).expect("committed");
        }
        if round < 5 {
            for partition in 0..3 {
                let value = format!("p{round}");
                plain.send(topic, partition, &value);
                expected.entry(format!("{topic}-{partition}")).or_default().push(value);
            }
            plain.flush();
        }
    }
    expected
}

#[test]
fn held_partitions_are_left_alone_and_come_whole_and_in_order_later() {
    let broker = Broker::shared();
    let mut expected = fill(broker, "held");
    let plain = broker.producer(&[]);
    for n in 0..15_000 {
        let value = format!("more{n}");
        plain.send("held", n % 3, &value);
        expected.entry(format!("held-{}", n % 3)).or_default().push(value);
    }
    plain.flush();
    let held = |partitions: &[&str]| partitions.iter().map(|partition| (*partition).to_owned()).collect::<BTreeSet<String>>();
    for draining in [false, true] {
        let mut source = broker.source(&[("topic", "held")], Wants::default());
        source.seek(&Positions::new()).expect("sought");
        if draining {
            source.drain();
        }
        // From the start, before anything of it was read; and one after the other while they are read.
        source.hold(&held(&["held-0"])).expect("held");
        let mut reading = Reading::default().read_on(&mut source);
        assert!(reading.values("held-0").is_empty(), "it was not to be read");
        assert!(matches!(source.poll(4 << 10, Duration::from_millis(50)).expect("polls"), Polled::Held), "it is not caught up: it leaves one alone");
        assert_eq!(source.unread(), held(&["held-0"]));
        for turn in 0..40 {
            source.hold(&held(if turn % 2 == 0 { &["held-1"] } else { &["held-0", "held-2"] })).expect("held");
            if let Polled::Chunk(chunk) = source.poll(1 << 10, Duration::from_millis(50)).expect("polls") {
                reading.take(&chunk);
            }
        }
        source.hold(&held(&["held-0"])).expect("held");
        // What was gathered already may come, and nothing further.
        reading = reading.read_on(&mut source);
        let before = reading.values("held-0").len();
        reading = reading.read_on(&mut source);
        assert_eq!(reading.values("held-0").len(), before);
        source.hold(&held(&[])).expect("let go");
        let reading = reading.read_on(&mut source);
        assert!(before < reading.values("held-0").len(), "nothing was left to be held: {before}");
        for (partition, values) in &expected {
            assert_eq!(&reading.values(partition), values, "{partition}");
        }
        assert_eq!(source.unread(), held(&[]));
    }
}

#[test]
fn reads_committed_records_in_order_and_resumes_anywhere() {
    let broker = Broker::shared();
    let expected = fill(broker, "orders");
    let open = |positions: &Positions| {
        let mut source = broker.source(&[("topic", "orders")], Wants::default());
        source.seek(positions).expect("sought");
        source
    };
    let mut source = open(&Positions::new());
    assert_eq!(source.partitions(), ["orders-0", "orders-1", "orders-2"]);
    let all = Reading::default().read_on(&mut source);
    for (partition, values) in &expected {
        assert_eq!(&all.values(partition), values, "{partition}");
    }
    let lag = source.lag();
    assert_eq!(lag.records, Some(0), "{lag:?}");
    assert_eq!(lag.partitions.len(), 3);
    // From the positions after every record: exactly the rest comes.
    for cut in [1, all.records.len() / 3, all.records.len() - 1] {
        let mut positions = Positions::new();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for record in &all.records[..cut] {
            positions.insert(record.partition.clone(), PartitionPosition { offset: record.offset + 1, record: record.offset + 1 });
            *seen.entry(&record.partition).or_default() += 1;
        }
        let rest = Reading::default().read_on(&mut open(&positions));
        for (partition, values) in &expected {
            assert_eq!(rest.values(partition), values[seen.get(partition.as_str()).copied().unwrap_or(0)..], "{partition} from {cut}");
        }
    }
    // At the end positions there is nothing, and the group shows it.
    let mut source = open(&all.positions);
    assert!(Reading::default().read_on(&mut source).records.is_empty());
    source.committed(&all.positions).expect("never an error");
    let until = Instant::now() + WAIT;
    let shown = loop {
        source.poll(1 << 10, Duration::from_millis(50)).expect("polls");
        let shown = broker.group("watershed-s", "orders", 3);
        if shown.iter().all(Option::is_some) || Instant::now() > until {
            break shown;
        }
    };
    let ends: Vec<Option<u64>> = source.lag().partitions.iter().map(|partition| Some(partition.end)).collect();
    assert_eq!(shown, ends, "the group stands at the end, markers included");
    assert!(source.notices().is_empty());
}

#[test]
fn a_draining_source_stops_although_records_keep_coming() {
    let broker = Broker::shared();
    broker.create("busy", 1);
    let first = broker.producer(&[]);
    first.send("busy", 0, "x");
    first.flush();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = broker.producer(&[]);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                writer.send("busy", 0, "x");
                std::thread::sleep(Duration::from_millis(1));
            }
            writer.flush();
        });
        std::thread::sleep(Duration::from_millis(500));
        let mut source = broker.source(&[("topic", "busy")], Wants::default());
        source.seek(&Positions::new()).expect("sought");
        source.drain();
        let started = Instant::now();
        let read = Reading::default().read_on(&mut source);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!read.records.is_empty() && started.elapsed() < Duration::from_secs(10), "{} records in {:?}", read.records.len(), started.elapsed());
    });
}

#[test]
fn starts_at_a_time_at_the_end_or_at_offsets() {
    let broker = Broker::shared();
    broker.create("timed", 2);
    let writer = broker.producer(&[]);
    for n in 0..10 {
        writer.send_with("timed", 0, "k", Some(&format!("{n}")), None, 1_767_225_600_000 + n * 1_000);
    }
    writer.flush();
    let read = |start: &str| {
        let mut source = broker.source(&[("topic", "timed"), ("start", start)], Wants::default());
        source.seek(&Positions::new()).expect("sought");
        Reading::default().read_on(&mut source)
    };
    assert_eq!(read("2026-01-01T00:00:07Z").values("timed-0"), ["7", "8", "9"]);
    assert_eq!(read("timestamp:1767225608500").values("timed-0"), ["9"]);
    assert_eq!(read("{\"0\": 8}").values("timed-0"), ["8", "9"]);
    let latest = read("latest");
    assert!(latest.records.is_empty());
    // The next run goes on where this one began, though it has read nothing.
    assert_eq!(latest.positions.get("timed-0").map(|position| position.offset), Some(10));
}

#[test]
fn a_new_partition_is_found_and_read_from_its_start() {
    let broker = Broker::shared();
    broker.create("growing", 1);
    let writer = broker.producer(&[("topic.metadata.refresh.interval.ms", "500")]);
    writer.send("growing", 0, "a");
    writer.flush();
    let mut source = broker.source(&[("topic", "growing"), ("discovery_interval", "200ms")], Wants::default());
    source.seek(&Positions::new()).expect("sought");
    let mut reading = Reading::default().read_on(&mut source);
    broker.grow("growing", 2);
    std::thread::sleep(Duration::from_millis(1_500));
    writer.send("growing", 1, "b");
    writer.send("growing", 0, "c");
    writer.flush();
    let until = Instant::now() + WAIT;
    while reading.records.len() < 3 && Instant::now() < until {
        reading = reading.read_on(&mut source);
    }
    assert_eq!((reading.values("growing-0"), reading.values("growing-1")), (vec!["a", "c"], vec!["b"]));
    assert_eq!(source.partitions(), ["growing-0", "growing-1"]);
    assert!(source.notices().iter().any(|notice| notice.contains("growing-1")));
}

#[test]
fn lost_records_are_an_error_or_a_number() {
    let broker = Broker::shared();
    broker.create("short", 1);
    let writer = broker.producer(&[]);
    for n in 0..100 {
        writer.send("short", 0, &n.to_string());
    }
    writer.flush();
    broker.remove_before("short", 0, 40);
    let mut strict = broker.source(&[("topic", "short")], Wants::default());
    let error = strict.seek(&at(&[("short-0", 10)])).expect_err("30 records are gone");
    assert_eq!(error.code(), "KAF0006");
    assert!(error.message().contains("offset 10") && error.message().contains("40") && error.next_step().is_some_and(|hint| hint.contains("on_data_loss")), "{error:?}");
    assert_eq!(strict.seek(&at(&[("short-0", 500)])).expect_err("it never had so many").code(), "KAF0007");

    let mut lenient = broker.source(&[("topic", "short"), ("on_data_loss", "continue")], Wants::default());
    lenient.seek(&at(&[("short-0", 10)])).expect("goes on");
    let read = Reading::default().read_on(&mut lenient);
    assert_eq!((read.lost, read.records.len(), read.records[0].offset), (30, 60, 40));
    assert!(lenient.notices().iter().any(|notice| notice.contains("30 record(s)")));
    // A position that is just there is no loss, nor is one at the end.
    strict.seek(&at(&[("short-0", 40)])).expect("there");
    strict.seek(&at(&[("short-0", 100)])).expect("the end");
}

#[test]
fn records_removed_while_reading_are_noticed() {
    let broker = Broker::shared();
    broker.create("shrinking", 1);
    let writer = broker.producer(&[]);
    let value = "z".repeat(500);
    (0..20_000).for_each(|_| writer.send("shrinking", 0, &value));
    writer.flush();
    let open = |on_data_loss: &str| {
        let small = [("fetch.message.max.bytes", "20000"), ("queued.max.messages.kbytes", "100"), ("queued.min.messages", "50")];
        let pairs: Vec<(&str, &str)> = [("topic", "shrinking"), ("on_data_loss", on_data_loss)].into_iter().chain(small).collect();
        let mut source = broker.source(&pairs, Wants::default());
        source.seek(&Positions::new()).expect("sought");
        let mut reading = Reading::default();
        while reading.records.is_empty() {
            if let Polled::Chunk(chunk) = source.poll(4 << 10, Duration::from_secs(1)).expect("polls") {
                reading.take(&chunk);
            }
        }
        (source, reading)
    };
    let (mut strict, strict_reading) = open("fail");
    let (mut lenient, lenient_reading) = open("continue");
    broker.remove_before("shrinking", 0, 15_000);
    let error = strict_reading.try_read_on(&mut strict).expect_err("records are gone");
    assert_eq!(error.code(), "KAF0006", "{error:?}");
    let read = lenient_reading.read_on(&mut lenient);
    assert!(read.lost > 0);
    assert_eq!(read.records.len() as u64 + read.lost, 20_000, "every record is read or counted as lost");
}

#[test]
fn keys_headers_timestamps_and_tombstones_come_along() {
    let broker = Broker::shared();
    broker.create("facts", 1);
    let writer = broker.producer(&[]);
    writer.send_with("facts", 0, "k1", Some("v1"), Some(("trace", "abc")), 1_767_225_600_123);
    writer.send_with("facts", 0, "k2", None, None, 1_767_225_600_124);
    writer.send("facts", 0, "");
    writer.flush();
    let wants = Wants { key: true, headers: true, timestamp: true };
    let mut source = broker.source(&[("topic", "facts")], wants);
    source.seek(&Positions::new()).expect("sought");
    let read = Reading::default().read_on(&mut source).records;
    assert_eq!((read[0].value.as_str(), read[0].key.as_deref(), read[0].timestamp), ("v1", Some("k1"), 1_767_225_600_123_000));
    assert_eq!(read[0].headers, [("trace".to_owned(), Some("abc".to_owned()))]);
    assert!(read[1].tombstone && read[1].key.as_deref() == Some("k2") && read[1].headers.is_empty());
    assert!(!read[2].tombstone && read[2].value.is_empty() && read[2].key.is_none());
    let mut skipping = broker.source(&[("topic", "facts"), ("tombstones", "skip")], Wants::default());
    skipping.seek(&Positions::new()).expect("sought");
    let read = Reading::default().read_on(&mut skipping);
    assert_eq!((read.records.len(), read.skipped, read.records[1].offset), (2, 1, 2));
}

#[test]
fn several_topics_are_read_by_pattern_and_a_wrong_name_gets_a_hint() {
    let broker = Broker::shared();
    let writer = broker.producer(&[]);
    for topic in ["pat-a", "pat-b"] {
        broker.create(topic, 2);
        for n in 0..50 {
            writer.send(topic, n % 2, &format!("{topic}{n}"));
        }
    }
    writer.flush();
    let mut source = broker.source(&[("topic_pattern", "pat-.*")], Wants::default());
    source.seek(&Positions::new()).expect("sought");
    let read = Reading::default().read_on(&mut source);
    assert_eq!(read.records.len(), 100);
    assert_eq!(source.lag().records, Some(0));
    let error = broker.source(&[("topic", "pat-aa")], Wants::default()).seek(&Positions::new()).expect_err("no such topic");
    assert_eq!((error.code(), error.next_step()), ("KAF0003", Some("Did you mean \"pat-a\"?")));
}

#[test]
fn a_deleted_topic_is_an_error_that_names_it() {
    let broker = Broker::shared();
    broker.create("doomed", 1);
    broker.producer(&[]).send("doomed", 0, "x");
    let mut source = broker.source(&[("topic", "doomed"), ("discovery_interval", "200ms")], Wants::default());
    source.seek(&Positions::new()).expect("sought");
    Reading::default().read_on(&mut source);
    broker.delete("doomed");
    let until = Instant::now() + WAIT;
    let error = loop {
        assert!(Instant::now() < until, "nobody noticed");
        match source.poll(1 << 20, Duration::from_millis(50)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.code() == "KAF0008" && error.message().contains("doomed"), "{error:?}");
}

#[test]
fn one_large_message_comes_in_a_chunk_of_its_own() {
    let broker = Broker::shared();
    broker.create("sizes", 1);
    let writer = broker.producer(&[]);
    let large = "y".repeat(300_000);
    for value in ["a", &large, "b"] {
        writer.send("sizes", 0, value);
    }
    writer.flush();
    let mut source = broker.source(&[("topic", "sizes")], Wants::default());
    source.seek(&Positions::new()).expect("sought");
    let read = Reading::default().read_on(&mut source);
    assert_eq!(read.records.iter().map(|record| record.value.len()).collect::<Vec<_>>(), [1, 300_000, 1]);
    assert!(read.chunks >= 3);
}

#[test]
fn reading_goes_on_when_the_broker_comes_back() {
    let broker = Broker::start();
    broker.create("flaky", 2);
    let writer = broker.producer(&[]);
    let write = |from: i32| {
        (from..from + 5_000).for_each(|n| writer.send("flaky", n % 2, &n.to_string()));
        writer.flush();
    };
    write(0);
    let mut source = broker.source(&[("topic", "flaky")], Wants::default());
    source.seek(&Positions::new()).expect("sought");
    let mut reading = Reading::default();
    if let Polled::Chunk(chunk) = source.poll(4 << 10, Duration::from_secs(5)).expect("polls") {
        reading.take(&chunk);
    }
    broker.stop();
    let until = Instant::now() + WAIT;
    while !source.notices().iter().any(|notice| notice.contains("are unreachable since")) {
        assert!(Instant::now() < until, "nobody was told");
        if let Polled::Chunk(chunk) = source.poll(4 << 10, Duration::from_millis(50)).expect("an absent broker is no error") {
            reading.take(&chunk);
        }
    }
    broker.restart();
    write(5_000);
    let until = Instant::now() + WAIT;
    while reading.records.len() < 10_000 && Instant::now() < until {
        reading = reading.read_on(&mut source);
    }
    for partition in 0..2 {
        let expected: Vec<String> = (0..10_000).filter(|n| n % 2 == partition).map(|n| n.to_string()).collect();
        assert_eq!(reading.values(&format!("flaky-{partition}")), expected);
    }
}
