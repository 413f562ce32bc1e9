use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use rdkafka::producer::Producer;
use watershed_kafka::{KafkaLive, KafkaSinkOptions, KafkaTarget};
use watershed_ports::{Delivered, EpochRows, KeptEpochs, Recount, RefusedRow, Target};
use watershed_types::{Certainty, Epoch, Generation, Kind};

use crate::broker::Broker;

fn batch(from: i64, count: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((from..from + count).map(|n| format!("name {n}"))));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("two columns")
}

fn options(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> KafkaSinkOptions {
    let pairs: Vec<(&str, &str)> = [("topic", topic), ("key", "id")].into_iter().chain(more.iter().copied()).collect();
    let mut options = broker.options(&pairs);
    let taken = KafkaSinkOptions::take(&mut options, "out", &batch(0, 1).schema()).expect("right options");
    options.finish().expect("nothing unknown");
    taken
}

fn target(broker: &Broker, topic: &str) -> KafkaTarget {
    KafkaTarget::new(options(broker, topic, &[]), &format!("p/{topic}"), batch(0, 1).schema()).expect("a target")
}

fn deliver(target: &KafkaTarget, epoch: u64, generation: u64, batches: Vec<RecordBatch>) -> watershed_types::Result<Delivered> {
    target.deliver(Epoch(epoch), Generation(generation), &mut batches.into_iter().map(Ok))
}

fn ids(broker: &Broker, topic: &str) -> Vec<i64> {
    let mut ids: Vec<i64> = broker
        .read(topic)
        .iter()
        .map(|record| {
            let row: serde_json::Value = serde_json::from_str(&record.value).expect("JSON");
            assert_eq!(record.key.as_deref(), Some(row["id"].to_string().as_str()));
            assert_eq!(row["name"], format!("name {}", row["id"]));
            row["id"].as_i64().expect("a number")
        })
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn an_epoch_is_delivered_once_whoever_asks_again() {
    let broker = Broker::shared();
    broker.create("once", 3);
    let first = target(broker, "once");
    assert_eq!(first.claim(Generation(1)).expect("claimed"), Epoch::ZERO);
    assert_eq!(deliver(&first, 1, 1, vec![batch(0, 500), batch(500, 500)]).expect("delivered"), Delivered::default());
    assert!(deliver(&first, 1, 1, vec![batch(0, 1_000)]).expect("held").already_there);
    assert_eq!(first.last_epoch().expect("known"), Epoch(1));
    assert_eq!(first.recount(Epoch(1)).expect("known"), Some(Recount { rows: 1_000 }));
    assert_eq!(first.recount(Epoch(7)).expect("unknown"), None);
    drop(first);
    // A run after a crash whose answer was lost.
    let second = target(broker, "once");
    assert_eq!(second.claim(Generation(2)).expect("claimed"), Epoch(1));
    assert!(deliver(&second, 1, 2, vec![batch(0, 1_000)]).expect("held").already_there);
    // Rows that cannot be had leave nothing behind, and the next call works.
    let mut broken = [Ok(batch(9_000, 10)), Err(watershed_types::Error::unavailable("RUN0001", "no more rows"))].into_iter();
    second.deliver(Epoch(2), Generation(2), &mut broken).expect_err("the rows failed");
    assert!(!deliver(&second, 2, 2, vec![batch(1_000, 10)]).expect("delivered").already_there);
    assert_eq!(ids(broker, "once"), (0..1_010).collect::<Vec<_>>());
}

#[test]
fn a_run_that_was_overtaken_is_told_so_and_writes_nothing() {
    let broker = Broker::shared();
    broker.create("fence", 1);
    let old = target(broker, "fence");
    old.claim(Generation(1)).expect("claimed");
    deliver(&old, 1, 1, vec![batch(0, 10)]).expect("delivered");
    let new = target(broker, "fence");
    assert_eq!(new.claim(Generation(2)).expect("claimed"), Epoch(1));
    for _ in 0..2 {
        let error = deliver(&old, 2, 1, vec![batch(100, 10)]).expect_err("overtaken");
        assert_eq!((error.kind(), error.code()), (Kind::Fenced, "KAF0020"), "{error:?}");
    }
    // It did not hurt the one that overtook it.
    deliver(&new, 2, 2, vec![batch(10, 10)]).expect("delivered");
    let late = target(broker, "fence").claim(Generation(1)).expect_err("an older generation");
    assert_eq!(late.kind(), Kind::Fenced);
    deliver(&new, 3, 2, vec![batch(20, 10)]).expect("delivered");
    assert_eq!(ids(broker, "fence"), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_claim_aborts_what_a_crash_left_open_at_once() {
    let broker = Broker::shared();
    broker.create("lingering", 1);
    let crashed = broker.producer(&[("transactional.id", "watershed-p-lingering"), ("transaction.timeout.ms", "600000")]);
    crashed.0.init_transactions(Duration::from_secs(30)).expect("ready");
    crashed.0.begin_transaction().expect("begun");
    crashed.send("lingering", 0, "{\"id\":-1}");
    crashed.flush();
    let target = target(broker, "lingering");
    let started = Instant::now();
    target.claim(Generation(1)).expect("claimed");
    deliver(&target, 1, 1, vec![batch(0, 10)]).expect("delivered");
    assert_eq!(ids(broker, "lingering"), (0..10).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn rows_that_are_too_large_are_refused_and_the_others_delivered() {
    let broker = Broker::shared();
    broker.create_with("tight", 1, &[("max.message.bytes", "5000")]);
    let target = target(broker, "tight");
    target.claim(Generation(1)).expect("claimed");
    let names: ArrayRef = Arc::new(StringArray::from(vec!["name 0".to_owned(), "x".repeat(10_000), "name 2".to_owned()]));
    let rows = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![0, 1, 2])) as ArrayRef), ("name", names)]).expect("two columns");
    let delivered = deliver(&target, 1, 1, vec![rows.clone()]).expect("delivered");
    assert_eq!(delivered.refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [1]);
    assert!(delivered.refused[0].detail.contains("too large"), "{delivered:?}");
    let again = deliver(&target, 1, 1, vec![rows]).expect("held");
    assert!(again.already_there && again.refused == delivered.refused);
    assert_eq!(target.recount(Epoch(1)).expect("known"), Some(Recount { rows: 2 }));
    assert_eq!(ids(broker, "tight"), [0, 2]);
}

#[test]
fn a_broker_that_restarts_in_mid_delivery_loses_and_repeats_nothing() {
    let broker = Broker::start();
    broker.create("restart", 2);
    let target = target(&broker, "restart");
    target.claim(Generation(1)).expect("claimed");
    deliver(&target, 1, 1, vec![batch(0, 100)]).expect("delivered");
    let mut restarted = false;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut batches = (0..10).map(|n| {
            if n == 5 && !restarted {
                restarted = true;
                std::thread::sleep(Duration::from_millis(100));
                broker.restart();
            }
            Ok(batch(100 + n * 100, 100))
        });
        match target.deliver(Epoch(2), Generation(1), &mut batches) {
            Ok(_) => break,
            Err(error) => assert!(error.certainty() == Some(Certainty::Definite) && tries < 10, "{error:?}"),
        }
    }
    assert!(restarted, "the fault fired");
    assert_eq!(ids(&broker, "restart"), (0..1_100).collect::<Vec<_>>());
}

#[test]
fn a_transaction_that_the_brokers_gave_up_is_not_mistaken_for_another_run() {
    let broker = Broker::shared();
    broker.create("slow", 1);
    let target = KafkaTarget::new(options(broker, "slow", &[("transaction.timeout.ms", "2000")]), "p/slow", batch(0, 1).schema()).expect("a target");
    target.claim(Generation(1)).expect("claimed");
    let mut slow = (0..3).map(|n| {
        if n == 2 {
            std::thread::sleep(Duration::from_secs(5));
        }
        Ok(batch(n * 10, 10))
    });
    let error = target.deliver(Epoch(1), Generation(1), &mut slow).expect_err("too slow");
    assert_ne!(error.kind(), Kind::Fenced, "{error:?}");
    assert_eq!(error.certainty(), Some(Certainty::Definite), "{error:?}");
    deliver(&target, 1, 1, vec![batch(0, 30)]).expect("delivered");
    assert_eq!(ids(broker, "slow"), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_missing_topic_is_made_only_if_asked() {
    let broker = Broker::shared();
    let error = target(broker, "made").claim(Generation(1)).expect_err("no such topic");
    assert_eq!(error.code(), "KAF0003");
    let made = KafkaTarget::new(options(broker, "made", &[("create_topic", "true"), ("partitions", "4"), ("mode", "upsert")]), "p/made", batch(0, 1).schema()).expect("a target");
    made.claim(Generation(1)).expect("claimed");
    deliver(&made, 1, 1, vec![batch(0, 20)]).expect("delivered");
    assert_eq!(ids(broker, "made").len(), 20);
}

#[test]
fn live_rows_are_there_when_flush_returns() {
    let broker = Broker::shared();
    broker.create("live", 2);
    let live = KafkaLive::new(options(broker, "live", &[("delivery", "at_least_once"), ("headers", "name")]), batch(0, 1).schema()).expect("connected");
    assert!(live.write(&batch(0, 2_000)).expect("taken").is_empty());
    live.flush(Duration::from_secs(30)).expect("acknowledged");
    assert_eq!(ids(broker, "live"), (0..2_000).collect::<Vec<_>>());
    let record = &broker.read("live")[0];
    assert_eq!(record.headers.len(), 1);
    assert!(record.headers[0].1.as_deref().is_some_and(|value| value.starts_with("name ")));
}

#[test]
fn a_row_that_deletes_its_key_is_a_tombstone() {
    let broker = Broker::shared();
    broker.create("gone", 1);
    let gone: ArrayRef = Arc::new(BooleanArray::from(vec![Some(false), Some(true), None]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_from_iter([("id", ids), ("gone", gone)]).expect("two columns");
    let mut options = broker.options(&[("topic", "gone"), ("key", "id"), ("mode", "upsert"), ("delete_when", "gone")]);
    let taken = KafkaSinkOptions::take(&mut options, "out", &rows.schema()).expect("right options");
    let target = KafkaTarget::new(taken, "p/gone", rows.schema()).expect("a target");
    target.claim(Generation(1)).expect("claimed");
    deliver(&target, 1, 1, vec![rows]).expect("delivered");
    let seen: Vec<(Option<String>, bool)> = broker.read("gone").into_iter().map(|record| (record.key, record.tombstone)).collect();
    let key = |id: u64| Some(id.to_string());
    assert_eq!(seen, [(key(1), false), (key(2), true), (key(3), false)]);
}

struct Kept;

impl KeptEpochs for Kept {
    fn rows(&self, epoch: Epoch) -> watershed_types::Result<EpochRows<'_>> {
        Ok(Box::new([Ok(batch(epoch.0 as i64 * 100, 10))].into_iter()))
    }
    fn refused(&self, epoch: Epoch) -> watershed_types::Result<Vec<RefusedRow>> {
        Ok(if epoch == Epoch(4) { vec![RefusedRow { row: 3, detail: "too large".to_owned() }] } else { vec![] })
    }
}

#[test]
fn an_epoch_is_given_back_only_if_it_surely_is_not_in_the_topic() {
    let broker = Broker::shared();
    let topic = "given-back".to_owned();
    broker.create(&topic, 1);
    let never = target(broker, &topic).redrive(&[Epoch(3)], &Kept).expect_err("nobody has claimed it yet");
    assert_eq!(never.code(), "KAF0028");
    let run = target(broker, &topic);
    run.claim(Generation(5)).expect("claims");
    for epoch in 1..=2 {
        deliver(&run, epoch, 5, vec![batch(epoch as i64 * 100, 10)]).expect("delivered");
    }
    drop(run);
    // As after the brokers were put back to a state before epochs 3 and 4.
    let repair = target(broker, &topic);
    let redriven = repair.redrive(&[Epoch(3), Epoch(4)], &Kept).expect("given back");
    assert_eq!(redriven.epochs, std::collections::BTreeMap::from([(3, 10), (4, 9)]));
    let all: Vec<i64> = (1..=4).flat_map(|epoch| epoch * 100..epoch * 100 + 10).filter(|id| *id != 403).collect();
    assert_eq!(ids(broker, &topic), all);
    assert!(target(broker, &topic).redrive(&[Epoch(4)], &Kept).expect("it is there").epochs.is_empty());
    let passed = target(broker, &topic).redrive(&[Epoch(3)], &Kept).expect_err("the mark has passed it");
    assert_eq!(passed.code(), "KAF0028", "{}", passed.report());
    assert_eq!(ids(broker, &topic), all);
    // The next run goes on after it.
    assert_eq!(target(broker, &topic).claim(Generation(6)).expect("claims"), Epoch(4));
}
