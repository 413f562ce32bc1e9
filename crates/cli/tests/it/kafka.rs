//! Kafka in, Kafka and lake out: killed over and over, another program reads every row once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use crate::servers::{self, Reader, Sender, json, kafka};
use crate::support::{Dice, Project, signal};

const KILLS: usize = 100;
/// Where a commit can be cut in two, in and around Kafka's transaction.
const STEPS: [&str; 9] = ["after_seal", "after_state", "after_prepare", "kafka_begun", "kafka_sent", "kafka_marked", "kafka_committed", "after_sinks", "after_complete"];

fn sql(name: &str) -> String {
    let brokers = &kafka().address;
    format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, k VARCHAR METADATA FROM 'key', WATERMARK FOR at AS at - INTERVAL '1 minute')
           WITH (connector = 'kafka', brokers = '{brokers}', topic = '{name}-in', discovery_interval = '1s');
         CREATE TABLE clean AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
         CREATE VIEW doubled AS SELECT id, amount * 2 AS amount, k FROM s;
         CREATE SINK out FROM doubled WITH (connector = 'kafka', brokers = '{brokers}', topic = '{name}-out', key = 'k', linger.ms = 1);"
    )
}

fn project(name: &str) -> Project {
    servers::topic(&format!("{name}-in"), 3);
    servers::topic(&format!("{name}-out"), 3);
    let project = Project::new(&sql(name));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"100ms\"\n[serve]\nlisten = \"127.0.0.1:0\"\n");
    project
}

fn record(id: u64) -> String {
    let minute = id / 1000;
    format!(r#"{{"id":{id},"amount":{}.25,"at":"2026-01-01T{:02}:{:02}:00Z"}}"#, id % 90, minute / 60, minute % 60)
}

/// Checks everything a reader saw: every id once, in the order of its key.
#[track_caller]
fn every_id_once(seen: &[(i32, u64)], sent: u64) {
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    seen.iter().for_each(|(_, id)| *times.entry(*id).or_default() += 1);
    let repeated: Vec<_> = times.iter().filter(|(_, n)| **n > 1).take(5).collect();
    assert!(repeated.is_empty(), "seen more than once: {repeated:?}");
    let missing: Vec<u64> = (0..sent).filter(|id| !times.contains_key(id)).take(5).collect();
    assert!(missing.is_empty(), "{} of {sent} seen; missing: {missing:?}", times.len());
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, id) in seen {
        let before = last.insert(id % 20, *id);
        assert!(before < Some(*id), "key {} went back from {before:?} to {id}", id % 20);
    }
}

/// Tells threads to stop, however the block that holds it ends.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_hundred_kills_show_a_committed_reader_every_row_once() {
    let mut dice = Dice::new(20_261_121);
    let project = project("kills");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = std::thread::scope(|scope| {
        // Also where an assertion fails: the scope waits for its threads.
        let _stopped = Stopped(&stop);
        let sending = scope.spawn(|| {
            let sender = Sender::new();
            while !stop.load(Ordering::SeqCst) {
                for _ in 0..5 {
                    let id = sent.fetch_add(1, Ordering::SeqCst);
                    sender.send("kills-in", &format!("key-{}", id % 20), &record(id));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            sender.flush();
        });
        let reader = scope.spawn(|| {
            let (reader, mut seen) = (Reader::new("kills-out"), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                reader.read(Duration::from_millis(200), |message| seen.push((message.partition(), json(message)["id"].as_u64().expect("an id"))));
            }
            (reader, seen)
        });
        let (mut kills, mut redriven) = (0, 0);
        while kills < KILLS {
            let mut child = project.spawn(&["up"]);
            std::thread::sleep(Duration::from_millis(150 + dice.below(900)));
            let alive = child.try_wait().expect("its state").is_none();
            child.kill().expect("a kill");
            child.wait().expect("its end");
            assert!(alive, "it ended by itself: {:?}", project.run(&["run", "--once"]));
            kills += 1;
            if project.path(".watershed/checkpoints/metadata.json").exists() {
                let history = project.checkpoint().history().expect("a history");
                redriven += usize::from(history.last_prepared() > history.last_committed());
            }
        }
        stop.store(true, Ordering::SeqCst);
        println!("{kills} kills; {redriven} of them left an epoch to finish");
        assert!(redriven > 0, "no kill fell between prepare and commit");
        sending.join().expect("the sender");
        let (reader, mut seen) = reader.join().expect("the reader");
        project.run(&["run", "--once"]).ok();
        let missing = sent.load(Ordering::SeqCst).saturating_sub(seen.len() as u64);
        reader.read_at_least(missing, |message| seen.push((message.partition(), json(message)["id"].as_u64().expect("an id"))));
        seen
    });
    let sent = sent.load(Ordering::SeqCst);
    every_id_once(&seen, sent);
    assert_eq!(project.number("SELECT count(*) FROM clean"), sent as i64, "the lake holds them, too");
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM clean"), sent as i64);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_cut_between_any_two_steps_of_the_transaction_is_mended() {
    let project = project("steps");
    let (sender, reader, mut seen, mut sent) = (Sender::new(), Reader::new("steps-out"), Vec::new(), 0);
    for step in STEPS {
        for _ in 0..40 {
            sender.send("steps-in", &format!("key-{}", sent % 20), &record(sent));
            sent += 1;
        }
        sender.flush();
        let cut = project.once_but(&format!("{step}:1"));
        eprintln!("{step}: {}", cut.stderr.lines().last().unwrap_or_default());
        assert!(cut.died_at_failpoint(), "{step} was never reached: {cut:?}");
        // A lingering transaction is dealt with by the next start, not by its timeout of a minute.
        let started = Instant::now();
        project.run(&["run", "--once"]).ok();
        assert!(started.elapsed() < Duration::from_secs(30), "{step}: the start waited for a transaction to time out");
    }
    reader.read_at_least(sent, |message| seen.push((message.partition(), json(message)["id"].as_u64().expect("an id"))));
    every_id_once(&seen, sent);
    assert_eq!(project.number("SELECT count(*) FROM clean"), sent as i64);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_partition_that_runs_ahead_waits_in_the_broker_for_the_slow_one() {
    servers::topic("pace-slow", 1);
    servers::topic("pace-swift", 1);
    let project = Project::new(&format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at)
           WITH (connector = 'kafka', brokers = '{}', topic = 'pace-slow,pace-swift', max_drift = '10 minutes', idle_timeout = '1 day');
         CREATE TABLE all_of_it WITH (zone = 'silver') AS SELECT id, at FROM s;",
        kafka().address
    ));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"100ms\"\nchunk_bytes = \"4KB\"\n[serve]\nlisten = \"127.0.0.1:0\"\n");
    let at = |minute: u64| format!(r#"{{"id":{minute},"at":"2026-01-{:02}T{:02}:{:02}:00Z"}}"#, 1 + minute / 1440, minute / 60 % 24, minute % 60);
    let sender = Sender::new();
    (0..5_000).for_each(|minute| sender.send("pace-swift", "k", &at(minute)));
    (0..5).for_each(|minute| sender.send("pace-slow", "k", &at(minute)));
    sender.flush();
    let until = Instant::now() + Duration::from_secs(90);
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < until, "{what}: not in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let begun = || project.path(".watershed/lake/silver/all_of_it/_delta_log/00000000000000000000.json").exists();
    let rows = || if begun() { project.number("SELECT count(*) FROM all_of_it") } else { 0 };
    let mut child = project.spawn(&["up"]);
    wait("the slow partition was read and the swift one is held", &|| {
        let shown = begun().then(|| project.run(&["query", "--format", "csv", "SELECT partition FROM system.watermarks WHERE held"])).map(|ran| ran.stdout).unwrap_or_default();
        shown.contains("pace-swift-0") && rows() > 5
    });
    let read = rows();
    assert!(read < 1_000, "ten minutes and a chunk ahead of minute four, not {read} rows");
    sender.send("pace-slow", "k", &at(5_000));
    sender.flush();
    wait("everything was read", &|| rows() == 5_006);
    signal(child.id(), "TERM");
    assert!(child.wait().expect("its end").success());
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM all_of_it"), 5_001);
    project.run(&["verify", "--deep"]).ok();
}
