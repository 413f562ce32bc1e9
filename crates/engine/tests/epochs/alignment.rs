//! Partitions and sources that would run ahead in event time: read side by side, and no run stands still for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_engine::run::Handle;
use watershed_ports::SystemClock;

use crate::world::{Cut, World, run};

/// Records in a chunk; a tick takes one.
const CUT: Cut = Cut { slice: 10, rows_per_tick: 1, epoch_bytes: 4 << 10, fan_out: 0, once: true };

/// A project over sources `s` and `r` with these options, whose rows are seen in the order in which they were taken.
fn sql(options: &str) -> String {
    let source = |name: &str| {
        format!("CREATE SOURCE {name} (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, p VARCHAR METADATA FROM 'partition', WATERMARK FOR at AS at) WITH (connector = 'log'{options});")
    };
    format!(
        "{}{}CREATE VIEW both AS SELECT 's' AS source, id, at, p FROM s UNION ALL SELECT 'r', id, at, p FROM r; CREATE SINK seen FROM both WITH (connector = 'outside');",
        source("s"),
        source("r")
    )
}

/// So many records of a partition, so many seconds apart, from a second on.
fn fill(world: &World, source: &str, partition: &str, first: u64, step: u64, records: u64) {
    let mut logs = world.logs.lock();
    let log = logs.entry((source.to_owned(), partition.to_owned())).or_default();
    log.extend((0..records).map(|n| {
        let second = first + n * step;
        format!(r#"{{"id":{},"at":"2026-01-01T{:02}:{:02}:{:02}Z"}}"#, second, second / 3600, second / 60 % 60, second % 60)
    }));
}

/// What was taken: of each row its source with its partition, and its second; in order.
fn taken(world: &World) -> Vec<(String, u64)> {
    let row = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).ok()?;
        Some((format!("{}/{}", row["source"].as_str()?, row["p"].as_str()?), row["id"].as_u64()?))
    };
    world.place("seen").lock().rows.iter().filter_map(row).collect()
}

/// By how many seconds a partition was ahead of the least at most, among those of which `of` says that they go together, and that
/// were not read to their ends.
fn drift(world: &World, of: impl Fn(&str, &str) -> bool) -> u64 {
    let rows = taken(world);
    let mut left: BTreeMap<&str, u64> = BTreeMap::new();
    rows.iter().for_each(|(partition, _)| *left.entry(partition).or_default() += 1);
    let (mut greatest, mut most): (BTreeMap<&str, u64>, u64) = (left.keys().map(|partition| (*partition, 0)).collect(), 0);
    for (partition, second) in &rows {
        let least = greatest.iter().filter(|(other, _)| of(partition, other) && left[*other] > 0).map(|(_, second)| *second).min().unwrap_or(*second);
        most = most.max(second.saturating_sub(least));
        greatest.insert(partition, *second);
        left.entry(partition).and_modify(|left| *left -= 1);
    }
    most
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !until() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn held(handle: &Handle, source: &str) -> Vec<String> {
    handle.status.read().sources.get(source).map(|source| source.held.clone()).unwrap_or_default()
}

fn start(world: &Arc<World>, options: &str, folder: &Path, once: bool) -> Handle {
    run(world, &sql(options), folder, Cut { once, ..CUT }, Arc::new(SystemClock)).expect("starts")
}

/// An hour in `s/slow` and `s/swift` in records that lie closely and far apart; an empty partition; half an hour in `r`.
fn uneven() -> Arc<World> {
    let world = Arc::new(World::default());
    fill(&world, "s", "slow", 0, 3, 1_200);
    fill(&world, "s", "swift", 0, 60, 60);
    fill(&world, "s", "empty", 0, 1, 0);
    fill(&world, "r", "only", 0, 90, 20);
    world
}

fn everything(world: &World, what: &str) {
    let mut rows = taken(world);
    rows.sort();
    let wanted: usize = world.logs.lock().values().map(Vec::len).sum();
    assert_eq!(rows.len(), wanted, "{what}");
    rows.dedup();
    assert_eq!(rows.len(), wanted, "{what}: once");
}

#[test]
fn partitions_are_read_side_by_side_and_a_run_that_takes_what_there_is_comes_to_its_end() {
    let same_source = |a: &str, b: &str| a.split('/').next() == b.split('/').next();
    let world = uneven();
    let folder = tempfile::tempdir().expect("a folder");
    start(&world, "", folder.path(), true).join().expect("ends well");
    everything(&world, "without a bound");
    assert!(drift(&world, same_source) > 2_400, "without a bound the swift partition is read at once: {}", drift(&world, same_source));

    let world = uneven();
    let folder = tempfile::tempdir().expect("a folder");
    start(&world, ", max_drift = '5 minutes'", folder.path(), true).join().expect("ends well");
    everything(&world, "each source by itself");
    // A partition that is not yet ahead is given a chunk of ten records, a minute apart.
    let most = 300 + 600;
    assert!(drift(&world, same_source) <= most, "{} s apart", drift(&world, same_source));
    assert!(world.held_often.load(Ordering::SeqCst) > 0, "nothing was held");

    let world = uneven();
    let folder = tempfile::tempdir().expect("a folder");
    start(&world, ", max_drift = '5 minutes', drift_group = 'g'", folder.path(), true).join().expect("ends well");
    everything(&world, "the group");
    assert!(drift(&world, |_, _| true) <= 300 + 900, "{} s apart", drift(&world, |_, _| true));
}

#[test]
fn a_partition_that_is_ahead_waits_until_the_others_come_up_and_goes_on_after_a_stop() {
    let world = Arc::new(World::default());
    fill(&world, "s", "slow", 0, 3, 100);
    fill(&world, "s", "swift", 0, 60, 60);
    fill(&world, "r", "only", 0, 3, 10);
    let folder = tempfile::tempdir().expect("a folder");
    let options = ", max_drift = '5 minutes', idle_timeout = '1 hour'";
    let swift = |world: &World| taken(world).iter().filter(|(partition, _)| partition == "s/swift").count();

    let handle = start(&world, options, folder.path(), false);
    wait("the swift partition is held", || held(&handle, "s") == ["swift"] && taken(&world).iter().filter(|(partition, _)| partition == "s/slow").count() == 100);
    handle.stop();
    handle.join().expect("a stop does not wait for those that are behind");
    let at_first = swift(&world);
    assert!(at_first <= 20, "it is five minutes and a chunk ahead of minute five at most: {at_first} minutes");
    let checkpoint = Checkpoint::open(Store::Local(folder.path().join("checkpoint"))).expect("opens").expect("is there");
    let last = checkpoint.history().expect("lists").last_committed();
    assert_eq!(checkpoint.manifest(last).expect("is there").sources["s"].held, ["swift"]);

    let handle = start(&world, options, folder.path(), false);
    wait("it is held again", || held(&handle, "s") == ["swift"]);
    fill(&world, "s", "slow", 300, 3, 400);
    wait("it is let go on", || swift(&world) > at_first);
    fill(&world, "s", "slow", 1_500, 3, 700);
    wait("it was read to its end", || swift(&world) == 60);
    wait("all is there", || taken(&world).len() == 100 + 400 + 700 + 60 + 10);
    handle.stop();
    handle.join().expect("ends well");
    everything(&world, "after a stop in the middle");
}

#[test]
fn an_idle_partition_holds_nobody() {
    let world = Arc::new(World::default());
    fill(&world, "s", "silent", 0, 1, 10);
    fill(&world, "s", "swift", 0, 60, 60);
    fill(&world, "r", "only", 0, 60, 60);
    let folder = tempfile::tempdir().expect("a folder");
    let handle = start(&world, ", max_drift = '1 minute', drift_group = 'g', idle_timeout = '300ms'", folder.path(), false);
    wait("all is there", || taken(&world).len() == 130);
    assert!(world.held_often.load(Ordering::SeqCst) > 0, "nothing was held before the silent one was idle");
    wait("nothing is held any more", || held(&handle, "s").is_empty() && held(&handle, "r").is_empty());
    handle.stop();
    handle.join().expect("ends well");
    everything(&world, "in the end");
}
