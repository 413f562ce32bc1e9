//! Epochs against an outside that fails: every row once, everywhere, whatever was cut, lost or overtaken.

mod alignment;
mod change;
mod fan_out;
mod growth;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_ports::{ManualClock, SystemClock};
use watershed_types::{Epoch, Kind};
use world::{Cut, Fault, World, run};

/// As above, with a sink that may be left behind.
const SPOOLING: &str = "CREATE SINK late FROM clean WITH (connector = 'outside', on_unavailable = 'spool', spool_after = '100ms', spool_max_bytes = '64MB');";

const SQL: &str = r#"CREATE SOURCE s (id BIGINT NOT NULL, word VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'log');
CREATE TABLE clean (CONSTRAINT worded EXPECT (word IS NOT NULL) ON VIOLATION QUARANTINE) AS SELECT id, word, at FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
CREATE VIEW loud AS SELECT id, upper(word) AS word FROM s;
CREATE SINK warehouse FROM clean WITH (connector = 'outside');
CREATE SINK shout FROM loud WITH (connector = 'outside');"#;

fn record(id: u64) -> String {
    let word = match id % 10 {
        3 => "null",
        7 => "\"refuse\"",
        _ => "\"word\"",
    };
    format!(r#"{{"id":{id},"word":{word},"at":"2026-01-01T00:{:02}:00Z"}}"#, id / 100 % 60)
}

/// Which ids a place shows, in order.
fn ids(world: &World, place: &str) -> Vec<u64> {
    let id = |row: &String| serde_json::from_str::<serde_json::Value>(row).ok()?["id"].as_u64();
    world.place(place).lock().rows.iter().filter_map(id).collect()
}

fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
    ids.sort_unstable();
    ids
}

#[test]
fn commits_that_fail_land_or_vanish_show_every_row_once() {
    for seed in 0..8u64 {
        let mut random = SmallRng::seed_from_u64(seed);
        let world = Arc::new(World::default());
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(1_767_225_600_000_000));
        let (mut written, mut failed, mut fired) = (0, 0, 0);
        for _ in 0..8 {
            for _ in 0..random.random_range(1..60) {
                // Every fifth record comes twice.
                let copies = if written % 5 == 0 { 2 } else { 1 };
                world.log.lock().extend((0..copies).map(|_| record(written)));
                written += 1;
            }
            for name in ["clean", "warehouse", "shout", "quarantine", "quarantine.refused"] {
                let fault = [Fault::Definite, Fault::Landed, Fault::Vanished][random.random_range(0..3)];
                // One more than is tried: the run gives up, and the next one finishes the epoch.
                let times = if random.random_bool(0.1) { 7 } else { usize::from(random.random_bool(0.3)) };
                let place = world.place(name);
                let mut place = place.lock();
                fired += place.fired.len();
                place.fired.clear();
                place.faults = std::iter::repeat_n(fault, times).collect();
            }
            // The clock jumps, backwards too.
            clock.set(1_767_225_600_000_000 + random.random_range(-4_000_000_000_000..4_000_000_000_000i64));
            let cut = Cut { slice: random.random_range(1..30), rows_per_tick: random.random_range(1..50), epoch_bytes: random.random_range(100..4_000), fan_out: 0, once: true };
            let ended = run(&world, SQL, folder.path(), cut, clock.clone()).and_then(|handle| handle.join());
            failed += usize::from(ended.is_err());
        }
        for name in ["clean", "warehouse", "shout", "quarantine", "quarantine.refused"] {
            world.place(name).lock().faults.clear();
        }
        run(&world, SQL, folder.path(), Cut { slice: 10, rows_per_tick: 100, epoch_bytes: 1 << 20, fan_out: 0, once: true }, clock.clone())
            .expect("starts")
            .join()
            .expect("ends well");

        let of = |keep: &dyn Fn(u64) -> bool| (0..written).filter(|id| keep(*id)).collect::<Vec<_>>();
        assert_eq!(sorted(ids(&world, "clean")), of(&|id| id % 10 != 3), "seed {seed}: the lake");
        assert_eq!(ids(&world, "warehouse"), of(&|id| id % 10 != 3 && id % 10 != 7), "seed {seed}: the target, in the order of the stream");
        let doubled: Vec<u64> = of(&|_| true).into_iter().flat_map(|id| std::iter::repeat_n(id, if id % 5 == 0 { 2 } else { 1 })).collect();
        assert_eq!(ids(&world, "shout"), doubled, "seed {seed}: a view that is kept nowhere");
        let refused = world.place("quarantine.refused").lock().rows.len() as u64;
        assert_eq!(refused, of(&|id| id % 10 == 7).len() as u64, "seed {seed}: what the target refused waits in the quarantine, once");
        assert!(fired > 0, "seed {seed}: no fault came to pass");
        let checkpoint = Checkpoint::open(Store::Local(folder.path().join("checkpoint"))).expect("opens").expect("is there");
        let ledger = checkpoint.ledger().expect("is whole");
        assert!(ledger.iter().all(|row| row.account.balances()), "seed {seed}");
        let sum = |table: &str, of: fn(&watershed_protocol::Account) -> u64| ledger.iter().filter(|r| r.table_name == table).map(|r| of(&r.account)).sum::<u64>();
        assert_eq!(sum("warehouse", |a| a.read), sum("clean", |a| a.delivered), "seed {seed}");
        assert_eq!(sum("warehouse", |a| a.quarantined), refused, "seed {seed}");
        let left: Vec<String> = checkpoint.store.list("staged").expect("lists").into_iter().filter(|name| name.ends_with(".arrow")).collect();
        assert_eq!(left, Vec::<String>::new(), "seed {seed}: nothing is left in the outbox");
        eprintln!("seed {seed}: {written} records, {fired} faults, {failed} runs gave up");
    }
}

#[test]
fn a_zombie_that_wakes_after_its_epoch_was_finished_by_another_run_changes_nothing() {
    let world = Arc::new(World::default());
    let folder = tempfile::tempdir().expect("a folder");
    let cut = Cut { slice: 10, rows_per_tick: 100, epoch_bytes: 1 << 20, fan_out: 0, once: false };
    world.log.lock().extend((0..100).map(record));
    world.hold.store(true, Ordering::SeqCst);
    let zombie = run(&world, SQL, folder.path(), cut, Arc::new(SystemClock)).expect("starts");
    let until = Instant::now() + Duration::from_secs(30);
    while !world.holding.load(Ordering::SeqCst) {
        assert!(Instant::now() < until, "the first run never got to its commit");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Its manifest is written, its commit hangs. The second run takes over; its commits must pass.
    let folder_of_second = folder.path().to_owned();
    let second = {
        let world = Arc::clone(&world);
        std::thread::spawn(move || run(&world, SQL, &folder_of_second, Cut { once: true, ..cut }, Arc::new(SystemClock)).and_then(|handle| handle.join()))
    };
    let checkpoint = Checkpoint::open(Store::Local(folder.path().join("checkpoint"))).expect("opens").expect("is there");
    while checkpoint.newest_generation().expect("lists").0 < 2 {
        assert!(Instant::now() < until, "the second run never claimed the pipeline");
        std::thread::sleep(Duration::from_millis(1));
    }
    world.log.lock().extend((100..150).map(record));
    world.hold.store(false, Ordering::SeqCst);
    let second = second.join().expect("does not panic").expect("ends well");
    assert!(second.epoch > Epoch::ZERO);
    let ended = zombie.join().expect_err("a fenced run does not end well");
    assert_eq!(ended.kind(), Kind::Fenced, "{}", ended.report());
    run(&world, SQL, folder.path(), Cut { once: true, ..cut }, Arc::new(SystemClock)).expect("starts").join().expect("ends well");
    assert_eq!(sorted(ids(&world, "clean")), (0..150).filter(|id| id % 10 != 3).collect::<Vec<_>>());
    assert_eq!(ids(&world, "warehouse"), (0..150).filter(|id| id % 10 != 3 && id % 10 != 7).collect::<Vec<_>>());
}

#[test]
fn a_target_that_is_away_leaves_the_others_alone_and_gets_everything_later_in_order() {
    let sql = format!("{SQL}\n{SPOOLING}");
    for seed in 0..6u64 {
        let mut random = SmallRng::seed_from_u64(seed);
        let world = Arc::new(World::default());
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(1_767_225_600_000_000));
        let cut = Cut { slice: 10, rows_per_tick: 20, epoch_bytes: 600, fan_out: 0, once: true };
        let checkpoint = || Checkpoint::open(Store::Local(folder.path().join("checkpoint"))).expect("opens").expect("is there");
        let mut written = 0;
        for round in 0..5 {
            // There or away, by turns and by chance; some commits fail besides, also while it is away.
            world.away.store(round == 1 || random.random_bool(0.5), Ordering::SeqCst);
            for name in ["clean", "warehouse", "late", "quarantine.refused"] {
                let fault = [Fault::Definite, Fault::Landed, Fault::Vanished][random.random_range(0..3)];
                let place = world.place(name);
                place.lock().faults = std::iter::repeat_n(fault, usize::from(random.random_bool(0.4))).collect();
            }
            let count = random.random_range(40..120);
            world.log.lock().extend((written..written + count).map(record));
            written += count;
            run(&world, &sql, folder.path(), cut, clock.clone()).expect("starts").join().expect("ends well, whether the target is there or not");
            let known = checkpoint();
            assert!(known.history().expect("a history").last_committed() == known.history().expect("a history").last_prepared());
            let of = |id: &u64| id % 10 != 3 && id % 10 != 7;
            assert_eq!(ids(&world, "warehouse"), (0..written).filter(of).collect::<Vec<_>>(), "seed {seed}: the other target is never held up");
            let late = ids(&world, "late");
            assert_eq!(late, (0..written).filter(of).take(late.len()).collect::<Vec<_>>(), "seed {seed}: what it has is the beginning, in order");
            if world.away.load(Ordering::SeqCst) {
                assert!(!known.owed().expect("owed")["late"].is_empty(), "seed {seed}: the checkpoint knows what it is owed");
                assert!(late.len() < (0..written).filter(of).count());
            }
        }
        assert!(world.missed.load(Ordering::SeqCst) > 0, "seed {seed}: the target was never missed");
        // A fault that is left over would make it look away once more, and the run would end without it.
        world.away.store(false, Ordering::SeqCst);
        world.place("late").lock().faults.clear();
        run(&world, &sql, folder.path(), cut, clock.clone()).expect("starts").join().expect("ends well");
        assert_eq!(ids(&world, "late"), ids(&world, "warehouse"), "seed {seed}: nothing is missing, nothing twice");
        assert!(checkpoint().owed().expect("owed").is_empty(), "seed {seed}");
        // The accounts came with the deliveries.
        let ledger = checkpoint().ledger().expect("is whole");
        let sum = |table: &str, of: fn(&watershed_protocol::Account) -> u64| ledger.iter().filter(|r| r.table_name == table).map(|r| of(&r.account)).sum::<u64>();
        assert_eq!((sum("late", |a| a.read), sum("late", |a| a.quarantined)), (sum("warehouse", |a| a.read), sum("warehouse", |a| a.quarantined)), "seed {seed}");
        assert!(checkpoint().records().expect("records").iter().flat_map(|r| r.sinks.values()).all(|receipt| !receipt.spooled), "seed {seed}");
    }
}

#[test]
fn a_spool_that_is_full_holds_everything_up_until_the_target_is_back() {
    let sql = format!("{SQL}\n{}", SPOOLING.replace("64MB", "1KB"));
    let world = Arc::new(World::default());
    let folder = tempfile::tempdir().expect("a folder");
    let cut = Cut { slice: 10, rows_per_tick: 20, epoch_bytes: 600, fan_out: 0, once: false };
    world.away.store(true, Ordering::SeqCst);
    world.log.lock().extend((0..400).map(record));
    let handle = run(&world, &sql, folder.path(), cut, Arc::new(SystemClock)).expect("starts although the target is away");
    let until = Instant::now() + Duration::from_secs(60);
    let full = |handle: &watershed_engine::run::Handle| handle.status.read().notices.iter().any(|notice| notice.contains("is full"));
    while !full(&handle) {
        assert!(Instant::now() < until, "the bound was never reached: {:?}", handle.status.read().spools);
        std::thread::sleep(Duration::from_millis(1));
    }
    let waiting = handle.status.read().spools["late"].clone();
    assert!(waiting.bytes >= 1024 && waiting.epochs > 0 && waiting.first_epoch == Some(1) && waiting.away.is_some(), "{waiting:?}");
    assert!(ids(&world, "clean").len() < 300, "everything waits");
    world.away.store(false, Ordering::SeqCst);
    let all: Vec<u64> = (0..400).filter(|id| id % 10 != 3 && id % 10 != 7).collect();
    while ids(&world, "late").len() < all.len() {
        assert!(Instant::now() < until, "it never caught up: {:?}", handle.status.read().spools);
        std::thread::sleep(Duration::from_millis(1));
    }
    handle.stop();
    handle.join().expect("ends well");
    assert_eq!(ids(&world, "late"), all);
}
