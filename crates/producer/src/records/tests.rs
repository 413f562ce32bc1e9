use std::collections::BTreeMap;

use watershed_simulator::Profile;

use super::*;
use crate::generate::Supply;
use crate::{ProduceOptions, Rate};

/// Partition → keys and values in the order they are sent.
type Sent = BTreeMap<u32, Vec<(Vec<u8>, Vec<u8>)>>;

fn options() -> ProduceOptions {
    let mut options = ProduceOptions::new("nowhere:1", "t");
    (options.rate, options.hot_keys, options.salt_hot_keys, options.records) = (Rate::Max, 0.3, 4, Some(20_000));
    options
}

fn records(options: &ProduceOptions, partitions: u32) -> Records {
    let simulator = Simulator::new(options.profile(0));
    let salt = Salt::find(&simulator, options.records, 0.25 / f64::from(partitions), options.salt_hot_keys);
    Records::new(simulator, Arc::new(salt), partitions)
}

/// Everything a run sends, asking for `want` records at a time.
fn sent(options: &ProduceOptions, want: usize) -> Sent {
    let partitions = 6;
    let mut supply = Supply::start(records(options, partitions), options.records, options.generators).expect("threads");
    let mut all = Sent::new();
    while let Some((chunk, rows)) = supply.take(want) {
        assert!(!rows.is_empty() && rows.len() <= want);
        for row in rows {
            let (key, value) = (chunk.key(row).to_vec(), chunk.value(row).to_vec());
            all.entry(java_partition(&key, partitions)).or_default().push((key, value));
        }
    }
    all
}

#[test]
fn the_same_options_send_the_same_records_in_the_same_order() {
    let first = sent(&options(), 100);
    assert_eq!(first.values().map(Vec::len).sum::<usize>(), 20_000);
    for (generators, want) in [(0, 1), (0, 512), (1, 77), (3, 1_000)] {
        let mut again = options();
        again.generators = generators;
        assert!(sent(&again, want) == first, "{generators} threads, {want} at a time");
    }
    let mut other = options();
    other.seed += 1;
    assert!(sent(&other, 512) != first);
}

#[test]
fn a_key_is_the_customer_in_the_record() {
    let records = records(&options(), 6);
    let hot = records.simulator.hot_customers()[0];
    let mut chunk = Chunk::default();
    records.fill(0..5_000, &mut chunk);
    let mut suffixes = BTreeMap::new();
    for row in 0..chunk.len() {
        let key = String::from_utf8(chunk.key(row).to_vec()).expect("text");
        let (customer, suffix) = key.split_once('#').map_or((key.as_str(), None), |(customer, suffix)| (customer, Some(suffix)));
        assert_eq!(suffix.is_some(), customer == format!("C{hot:06}"), "{key}");
        *suffixes.entry(suffix.map(str::to_owned)).or_insert(0u64) += 1;
        assert_eq!(chunk.unsalted_partition(row), java_partition(customer.as_bytes(), 6));
        if matches!(chunk.made(row), Made::Good | Made::Duplicate | Made::Late) {
            let value: serde_json::Value = serde_json::from_slice(chunk.value(row)).expect("JSON");
            assert_eq!(value["customer_id"], customer);
        }
    }
    assert_eq!(suffixes.len(), 5, "four suffixes, and none: {suffixes:?}");
}

#[test]
fn without_salt_keys_are_plain() {
    let plain = Records::new(Simulator::new(Profile::default()), Arc::default(), 6);
    let mut chunk = Chunk::default();
    plain.fill(7..107, &mut chunk);
    assert_eq!(chunk.len(), 100);
    assert!((0..100).all(|row| chunk.key(row).len() == 7 && !chunk.is_empty()));
}
