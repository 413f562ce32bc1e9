use std::collections::BTreeMap;

use watershed_types::{OptionValue, PartitionPosition};

use super::*;

const NO_WAIT: Duration = Duration::ZERO;

fn bounded(rows: u64, partitions: u32) -> GeneratorSource {
    GeneratorSource::new(GeneratorOptions { rows: Some(rows), rate: Rate::Max, partitions, ..GeneratorOptions::default() })
}

/// Everything from `positions` on, per partition, in slices of some size.
fn read(source: &mut GeneratorSource, positions: &Positions, max_bytes: usize) -> BTreeMap<String, Vec<u8>> {
    source.seek(positions).expect("seek");
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut next = positions.clone();
    loop {
        match source.poll(max_bytes, NO_WAIT).expect("poll") {
            Polled::Chunk(chunk) => {
                let at = next.entry(chunk.stretch.to_string()).or_default();
                assert_eq!((at.offset, chunk.record), (chunk.offset, chunk.offset));
                at.offset = chunk.end_offset;
                let lines = chunk.bytes.iter().filter(|b| **b == b'\n').count() as u64;
                assert_eq!(lines, chunk.end_offset - chunk.offset);
                all.entry(chunk.stretch.to_string()).or_default().extend_from_slice(&chunk.bytes);
            }
            Polled::End => return all,
            Polled::CaughtUp | Polled::Held => unreachable!("no pace is set, and nothing is held"),
        }
    }
}

#[test]
fn replays_the_same_bytes_in_any_slices_and_ends() {
    let whole = read(&mut bounded(5_003, 3), &Positions::new(), 1 << 30);
    assert_eq!(whole.values().map(|b| b.iter().filter(|b| **b == b'\n').count()).sum::<usize>(), 5_003);
    for max_bytes in [1, 777, 65_536] {
        assert_eq!(read(&mut bounded(5_003, 3), &Positions::new(), max_bytes), whole);
    }
}

#[test]
fn seeks_to_an_ordinal() {
    let whole = read(&mut bounded(2_000, 2), &Positions::new(), 1 << 20);
    let mut positions = Positions::new();
    positions.insert("1".to_owned(), PartitionPosition { offset: 600, record: 600 });
    let rest = read(&mut bounded(2_000, 2), &positions, 5_000);
    assert_eq!(rest["0"], whole["0"]);
    let skipped: usize = whole["1"].split_inclusive(|b| *b == b'\n').take(600).map(<[u8]>::len).sum();
    assert_eq!(rest["1"], whole["1"][skipped..]);
    let mut unknown = Positions::new();
    unknown.insert("7".to_owned(), PartitionPosition::default());
    assert!(bounded(10, 2).seek(&unknown).is_err());
}

#[test]
fn keeps_its_pace() {
    let options = GeneratorOptions { rate: Rate::PerSecond(2_000.0), ..GeneratorOptions::default() };
    let mut source = GeneratorSource::new(options);
    source.seek(&Positions::new()).expect("seek");
    let started = Instant::now();
    let mut rows = 0;
    while started.elapsed() < Duration::from_millis(300) {
        if let Polled::Chunk(chunk) = source.poll(1 << 20, Duration::from_millis(5)).expect("poll") {
            rows += chunk.end_offset - chunk.offset;
        }
    }
    assert!(rows as f64 <= started.elapsed().as_secs_f64() * 2_000.0 + 1.0 && rows > 300, "{rows}");
}

#[test]
fn options_are_taken_and_checked() {
    let options = |pairs: &[(&str, &str)]| {
        let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), OptionValue::new(*v, *v, "a.sql:1:1"))).collect();
        watershed_types::Options::new("source \"s\"", values)
    };
    let mut given = options(&[("rows", "10"), ("rate", "max"), ("start", "2026-02-03T00:00:00Z"), ("late", "0.1")]);
    let taken = GeneratorOptions::take(&mut given).expect("fine");
    given.finish().expect("all taken");
    assert_eq!((taken.rows, taken.rate, taken.profile.late), (Some(10), Rate::Max, 0.1));
    assert_eq!(taken.profile.start_micros, 1_770_076_800_000_000);
    for wrong in [("late", "2"), ("rate", "fast"), ("start", "soon"), ("partitions", "0")] {
        assert!(GeneratorOptions::take(&mut options(&[wrong])).is_err(), "{wrong:?}");
    }
}
