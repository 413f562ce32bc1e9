use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;
use watershed_types::{OptionValue, PartitionPosition};

use super::*;

const TYPES: [EventType; 3] = [EventType::Person, EventType::Auction, EventType::Bid];

fn source(kind: EventType, events: u64) -> NexmarkSource {
    NexmarkSource::new(NexmarkOptions { kind, events: Some(events), events_per_second: 10_000, start_millis: START })
}

/// Everything from an ordinal on.
fn read(source: &mut NexmarkSource, from: u64, max_bytes: usize) -> Vec<u8> {
    source.seek(&Positions::from([(PARTITION.to_owned(), PartitionPosition { offset: from, record: from })])).expect("seek");
    let (mut next, mut all) = (from, Vec::new());
    while let Polled::Chunk(chunk) = source.poll(max_bytes, Duration::ZERO).expect("poll") {
        assert_eq!((chunk.offset, chunk.record), (next, next));
        assert_eq!(chunk.bytes.iter().filter(|byte| **byte == b'\n').count() as u64, chunk.end_offset - chunk.offset);
        next = chunk.end_offset;
        all.extend_from_slice(&chunk.bytes);
    }
    all
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).expect("is JSON")).collect()
}

#[test]
fn replays_the_same_bytes_in_any_slices_and_from_any_position() {
    for kind in TYPES {
        let whole = read(&mut source(kind, 25_013), 0, 1 << 30);
        for max_bytes in [1, 777, 65_536] {
            assert_eq!(read(&mut source(kind, 25_013), 0, max_bytes), whole);
        }
        let skipped: usize = whole.split_inclusive(|byte| *byte == b'\n').take(123).map(<[u8]>::len).sum();
        assert_eq!(read(&mut source(kind, 25_013), 123, 5_000), whole[skipped..]);
    }
    assert!(source(EventType::Bid, 1).seek(&Positions::from([("7".to_owned(), PartitionPosition::default())])).is_err());
}

#[test]
fn the_three_sources_are_one_run() {
    let [people, auctions, bids] = TYPES.map(|kind| lines(&read(&mut source(kind, 50_000), 0, 1 << 20)));
    assert_eq!((people.len(), auctions.len(), bids.len()), (1_000, 3_000, 46_000));
    let ids = |rows: &[Value], name: &str| rows.iter().map(|row| row[name].as_u64().expect("is a number")).collect::<BTreeSet<u64>>();
    // Ids run a little ahead of the events that carry them.
    let known = |part: BTreeSet<u64>, whole: BTreeSet<u64>| part.iter().filter(|id| !whole.contains(id)).count() * 100 <= part.len();
    assert!(known(ids(&auctions, "seller"), ids(&people, "id")) && known(ids(&bids, "auction"), ids(&auctions, "id")));
    for rows in [&people, &auctions, &bids] {
        let times: Vec<&str> = rows.iter().map(|row| row["date_time"].as_str().expect("is text")).collect();
        assert!(times.is_sorted(), "event times never go back");
        assert!(times[0].starts_with("2026-01-01T00:00:00.0") && times[times.len() - 1].starts_with("2026-01-01T00:00:0"), "10,000 events a second");
    }
}

#[test]
fn options_are_taken_and_checked() {
    let options = |pairs: &[(&str, &str)]| {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        Options::new("source \"bid\"", values)
    };
    let mut given = options(&[("type", "bid"), ("events", "10_000"), ("start", "2015-07-15T00:00:00Z")]);
    let taken = NexmarkOptions::take(&mut given).expect("fine");
    given.finish().expect("all taken");
    assert_eq!(taken, NexmarkOptions { kind: EventType::Bid, events: Some(10_000), events_per_second: 10_000, start_millis: 1_436_918_400_000 });
    assert_eq!(NexmarkOptions::take(&mut options(&[])).expect_err("no type").code(), "GEN0003");
    for wrong in [("type", "offer"), ("events", "many"), ("events_per_second", "0"), ("start", "soon")] {
        assert!(NexmarkOptions::take(&mut options(&[("type", "bid"), wrong])).is_err(), "{wrong:?}");
    }
}

#[test]
#[ignore = "a figure, not a test: how fast bids are made on one thread"]
fn speed() {
    let started = Instant::now();
    let bytes = read(&mut source(EventType::Bid, 1_000_000), 0, 1 << 20);
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} bids/s, {:.0} MB/s", 920_000.0 / seconds, bytes.len() as f64 / seconds / 1e6);
}
