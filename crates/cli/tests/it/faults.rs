//! Things that go wrong outside. Each test asserts that its fault happened.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use watershed_types::{Epoch, Generation, Kind};

use crate::goldens::agrees_with_the_model;
use crate::support::{Cut, Held, Project, bytes_below, finish, same, signal};
use crate::workload::{self, CATEGORIES};

/// Lines with an `id`, kept as they are, and counted by the minute.
const PLAIN: &str = "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'files', path = 'data', format = 'json');
    CREATE TABLE kept AS SELECT * FROM s;
    CREATE TABLE minutes AS SELECT window_start, count(*) AS n FROM TUMBLE(kept, at, INTERVAL '1 minute') GROUP BY window_start;";

fn lines(from: u64, to: u64) -> String {
    (from..to).map(|id| format!("{{\"id\":{id},\"at\":\"2026-03-01T10:{:02}:{:02}Z\"}}\n", id / 60 % 60, id % 60)).collect()
}

fn plain(content: &str) -> Project {
    let project = Project::new(PLAIN);
    project.write("data/a.json", content);
    project
}

fn heavy(rows: i64, cut: Cut) -> (Project, workload::Workload) {
    let made = workload::transactions(rows, 700, 9);
    let project = Project::new(workload::SQL);
    project.cut(cut);
    project.write("data/a.json", &made.lines);
    project.write("categories.csv", CATEGORIES);
    (project, made)
}

#[test]
fn a_damaged_checkpoint_file_is_refused_by_name_and_nothing_changes() {
    let project = plain(&lines(0, 300));
    project.cut(Cut::tiny(2));
    project.once().ok();
    let held = project.held();
    let newest = |folder: &str, like: &str| {
        let mut names: Vec<_> = fs::read_dir(project.path(&format!(".watershed/checkpoints/{folder}"))).expect("a folder").flatten().map(|e| e.path()).collect();
        names.retain(|p| p.display().to_string().contains(like));
        names.sort();
        names.pop().unwrap_or_else(|| panic!("no file of {folder}"))
    };
    let kinds = [project.path(".watershed/checkpoints/metadata.json"), newest("offsets", ""), newest("state", "minutes"), newest("state", "source-s")];
    for file in kinds {
        let good = fs::read(&file).expect("the file");
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 0x10;
        for (how, bad) in [("cut short", good[..good.len() / 2].to_vec()), ("one bit flipped", flipped), ("empty", vec![])] {
            fs::write(&file, bad).expect("the damage");
            let before = (bytes_below(&project.path(".watershed/lake")), bytes_below(&project.path(".watershed/checkpoints")));
            let ran = project.once();
            let said = ran.stderr.clone();
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            assert_eq!(ran.code, Some(1), "{name} {how}: {said}");
            assert!(said.contains(&name) && said.contains("hint:"), "{name} {how}: {said}");
            let mut after = (bytes_below(&project.path(".watershed/lake")), bytes_below(&project.path(".watershed/checkpoints")));
            // A start claims its generation before it reads; that is all it may leave.
            after.1.retain(|path, _| before.1.contains_key(path) || !path.display().to_string().contains("/generations/"));
            assert!(before == after, "{name} {how}: the refused run changed something");
        }
        fs::write(&file, good).expect("the repair");
        project.once().ok();
    }
    same(&project.held(), &held, "after the repairs");
}

#[test]
fn a_damaged_commit_record_is_named_by_whoever_reads_it() {
    let project = plain(&lines(0, 100));
    project.once().ok();
    let file = project.path(".watershed/checkpoints/commits/000000000001.json");
    let good = fs::read(&file).expect("a commit record");
    fs::write(&file, &good[..good.len() / 2]).expect("the damage");
    let error = project.checkpoint().records().expect_err("it is damaged");
    assert!(error.report().contains("000000000001.json"), "{}", error.report());
}

#[test]
fn a_second_run_of_one_project_is_refused_with_the_process_of_the_first() {
    let (project, made) = heavy(60_000, Cut { parallelism: 1, rows_per_tick: 500, epoch_bytes: 256 << 10 });
    let first = project.spawn_piped(&["run", "--once", "--final"]);
    let lock = project.path(".watershed/run.lock");
    let started = Instant::now();
    while fs::read_to_string(&lock).unwrap_or_default().trim() != first.id().to_string() {
        assert!(started.elapsed() < Duration::from_secs(10), "the first run never took its lock");
        std::thread::sleep(Duration::from_millis(1));
    }
    project.to_the_end().refused(&["CLI0005", &first.id().to_string()]);
    finish(first).ok();
    agrees_with_the_model(&project, &made);
}

#[test]
fn a_zombie_of_an_older_generation_cannot_prepare() {
    let project = plain(&lines(0, 100));
    project.once().ok();
    let checkpoint = project.checkpoint();
    let mut manifest = checkpoint.manifest(Epoch(1)).expect("epoch 1");
    let zombie: Generation = checkpoint.claim("the zombie", 0).expect("a generation");
    let owner = checkpoint.claim("the owner", 0).expect("a newer one");
    manifest.epoch = Epoch(2);
    manifest.generation = zombie;
    assert_eq!(checkpoint.prepare(&manifest).expect_err("it is fenced").kind(), Kind::Fenced);
    assert_eq!(checkpoint.history().expect("history").last_prepared(), Epoch(1));
    manifest.generation = owner;
    checkpoint.prepare(&manifest).expect("the owner may");
    assert_eq!(checkpoint.prepare(&manifest).expect_err("once").kind(), Kind::Conflict);
}

#[test]
fn an_unknown_option_is_refused_before_anything_is_written() {
    let project = Project::new("CREATE SOURCE s (id BIGINT) WITH (connector = 'files', path = 'data'); CREATE TABLE t WITH (colour = 'red') AS SELECT id FROM s;");
    project.write("data/a.json", "{\"id\":1}\n");
    project.once().refused(&["has no option \"colour\"", "pipelines.sql:1:"]);
    assert!(!project.path(".watershed/checkpoints").exists());
}

/// A file system of its own; `None`, with the reason on stdout, where mounting is not permitted.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(at: std::path::PathBuf, size: &str) -> Option<Mount> {
        fs::create_dir_all(&at).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).output().expect("mount is there");
        if mounted.status.success() {
            return Some(Mount(at));
        }
        println!("SKIPPED: no tmpfs may be mounted here: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        None
    }
    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().expect("mount is there");
        assert!(done.success(), "remount {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_run_and_space_brings_the_right_result() {
    let (project, made) = heavy(8_000, Cut { parallelism: 2, rows_per_tick: 500, epoch_bytes: 128 << 10 });
    let Some(disk) = Mount::new(project.path(".watershed"), "600k") else { return };
    let ran = project.to_the_end();
    assert_eq!(ran.code, Some(1), "the disk was meant to fill up: {ran:?}");
    assert!(ran.stderr.contains("hint:") && ran.stderr.to_lowercase().contains("space"), "{}", ran.stderr);
    disk.remount("size=200m");
    project.to_the_end().ok();
    agrees_with_the_model(&project, &made);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let project = plain(&lines(0, 100));
    let Some(disk) = Mount::new(project.path(".watershed"), "20m") else { return };
    disk.remount("ro");
    let ran = project.once().refused(&["CLI0004", ".watershed", "hint:"]);
    assert!(ran.stdout.is_empty());
    disk.remount("rw");
    project.once().ok();
    assert_eq!(project.number("SELECT count(*) FROM kept"), 100);
}

#[test]
fn half_a_last_line_waits_until_it_is_whole() {
    let whole = lines(0, 11);
    let half = whole.len() - 12;
    let project = plain(&whole[..half]);
    project.once().ok();
    assert_eq!(project.ledger()["kept <- s"].read, 10, "half a line is no record yet");
    project.write("data/a.json", &whole);
    project.once().ok();
    let account = project.ledger()["kept <- s"];
    assert_eq!((account.read, account.delivered), (11, 11));
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM kept"), 11);
}

#[test]
fn a_file_that_vanishes_or_shrinks_takes_nothing_back_and_repeats_nothing() {
    let project = plain(&lines(0, 100));
    project.write("data/b.json", lines(100, 200));
    project.once().ok();
    fs::remove_file(project.path("data/a.json")).expect("it vanishes");
    project.write("data/b.json", lines(100, 150));
    project.write("data/c.json", lines(200, 260));
    let ran = project.once();
    println!("after vanishing and shrinking: {ran:?}");
    if ran.code == Some(0) {
        assert_eq!(project.number("SELECT count(*) FROM kept"), 260);
    } else {
        assert!(ran.stderr.contains("b.json") && ran.stderr.contains("hint:"), "{}", ran.stderr);
        project.write("data/b.json", lines(100, 200));
        project.once().ok();
    }
    assert_eq!(project.number("SELECT count(*) FROM kept"), 260);
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM kept"), 260);
}

#[test]
fn hostile_bytes_are_accounted_for_with_the_right_reason() {
    let at = "\"at\":\"2026-03-01T10:00:00Z\"";
    let mut bytes = Vec::new();
    let mut add = |line: &[u8]| {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    };
    add(format!("{{\"id\":1,{at}}}").as_bytes());
    add(b"{\"id\":2,\"at\":\"\xff\xfe\"}");
    add(format!("{{\"id\":3,\"deep\":{}{},{at}}}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes());
    add(format!("{{\"id\":99999999999999999999,{at}}}").as_bytes());
    add(format!("{{\"id\":4,\"id\":5,{at}}}").as_bytes());
    add(b"{\"id\":6,\"at\":null}");
    add(b"[1,2,3]");
    add(b"\0\0\0");
    add(b"{\"id\":1e400,\"at\":\"2026-03-01T10:00:00Z\"}");
    add(b"{\"id\":7,\"at\":\"+999999-01-01T00:00:00Z\"}");
    let mut long = format!("{{\"id\":8,{at},\"pad\":\"").into_bytes();
    long.resize(long.len() + (100 << 20), b'x');
    long.extend_from_slice(b"\"}");
    add(&long);
    add(format!("{{\"id\":9,{at}}}").as_bytes());
    let project = Project::new(PLAIN);
    project.write("data/a.json", &bytes);
    project.once().ok();
    let account = project.ledger()["kept <- s"];
    assert_eq!(account.read, 12, "every line was read");
    assert_eq!(account.delivered + account.quarantined, 12, "{account:?}");
    let raw = project.number("SELECT CAST(sum(length(encode(raw, 'hex')) / 2) AS BIGINT) FROM quarantine WHERE table_name = 'kept'");
    let ids = project.query("SELECT id FROM kept");
    let reasons = project.query("SELECT reason, substr(detail, 1, 60) AS detail, length(encode(raw, 'hex')) / 2 AS bytes FROM quarantine WHERE table_name = 'kept'");
    println!("kept {ids:?}\nrefused {reasons:#?}\n{raw} raw bytes");
    assert!(ids.contains(&"{\"id\":1}".to_owned()) && ids.contains(&"{\"id\":8}".to_owned()) && ids.contains(&"{\"id\":9}".to_owned()), "{ids:?}");
    assert_eq!(project.number("SELECT count(*) FROM quarantine WHERE table_name = 'kept'") as u64, account.quarantined);
    assert_eq!(project.number("SELECT count(*) FROM quarantine WHERE reason NOT IN ('corrupt', 'schema')"), 0);
}

#[test]
fn sigterm_closes_the_epoch_and_nothing_is_lost() {
    let (project, made) = heavy(60_000, Cut { parallelism: 1, rows_per_tick: 200, epoch_bytes: 512 << 20 });
    let mut stopped_early = 0;
    for pause in [60, 90, 130, 200] {
        let child = project.spawn_piped(&["run", "--once"]);
        std::thread::sleep(Duration::from_millis(pause));
        signal(child.id(), "TERM");
        let ran = finish(child);
        // Before its handler is there, a signal ends it as any process.
        assert!(ran.code == Some(0) || ran.code.is_none(), "{ran:?}");
        if ran.code == Some(0) && ran.stderr.contains("closing the epoch") {
            let read = project.ledger().get("clean_transactions <- transactions").map_or(0, |a| a.read);
            assert!(read > 0, "the epoch was closed with what it had");
            stopped_early += usize::from(read < made.account.read);
        }
    }
    assert!(stopped_early > 0, "no signal hit a running pipeline");
    project.to_the_end().ok();
    agrees_with_the_model(&project, &made);
}

#[test]
fn on_violation_fail_stops_with_the_position_and_commits_nothing_of_the_epoch() {
    let project = Project::new(&PLAIN.replace("TABLE kept AS", "TABLE kept (CONSTRAINT small EXPECT (id < 150) ON VIOLATION FAIL) AS"));
    project.write("data/a.json", lines(0, 100));
    project.once().ok();
    let held: Held = project.held();
    project.write("data/b.json", lines(100, 200));
    project.once().refused(&["RUN0006", "b.json:", "small", "hint:"]);
    same(&project.held(), &held, "after the failed epoch");
    project.write("data/b.json", lines(100, 150));
    project.once().ok();
    assert_eq!(project.number("SELECT count(*) FROM kept"), 150);
}

#[test]
fn a_project_that_cannot_run_is_refused_before_anything_is_written() {
    const SOURCE: &str = "CREATE SOURCE s (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'files', path = 'data'); ";
    #[rustfmt::skip]
    let table = [
        ("CREATE TABLE t AS SELECT idd FROM s", "idd"),
        ("CREATE TABLE t PARTITIONED BY (year) AS SELECT id FROM s", "PARTITIONED BY names \"year\", which the query does not select"),
        ("CREATE TABLE t WITH (zone = 'golden') AS SELECT id FROM s", "zone"),
        ("CREATE TABLE t AS SELECT id FROM nowhere", "nowhere"),
        ("CREATE TABLE t AS SELECT * FROM DEDUPLICATE(s, KEY (idd), WITHIN INTERVAL '1 minute')", "KEY names \"idd\", which is not a column"),
        ("CREATE TABLE t AS SELECT id, count(*) AS n FROM s GROUP BY id", "hint:"),
        ("CREATE TABLE t AS SELECT id, window_start, count(*) AS n FROM SESSION(s PARTITION BY (id), at, INTERVAL '1 minute') GROUP BY id, window_start", "these windows differ in length"),
        ("CREATE TABLE t AS SELECT DISTINCT id FROM s", "DISTINCT over a stream has to remember every row for ever"),
        ("CREATE SOURCE u (id BIGINT, WATERMARK FOR at AS at) WITH (connector = 'files', path = 'data')", "there is no column \"at\" to take the watermark from"),
        ("CREATE SOURCE u (id BIGINT, WATERMARK FOR id AS id) WITH (connector = 'files', path = 'data')", "the watermark column \"id\" is not a TIMESTAMP"),
        ("CREATE TABLE t (CONSTRAINT c EXPECT (id + 1)) AS SELECT id FROM s", "a rule must be true or false"),
    ];
    for (statement, words) in table {
        let project = Project::new(&format!("{SOURCE}\n{statement};"));
        project.write("data/a.json", "{\"id\":1,\"at\":\"2026-03-01T10:00:00Z\"}\n");
        let ran = project.once();
        assert_eq!(ran.code, Some(1), "{statement}: {ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains("pipelines.sql:2:"), "{statement}:\n{}", ran.stderr);
        assert!(!project.path(".watershed/checkpoints").exists(), "{statement}: something was written");
    }
}

#[test]
fn a_run_after_final_fills_later_windows_and_still_knows_its_keys() {
    let project = Project::new(
        "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '10 minutes') WITH (connector = 'files', path = 'data/*.json');
         CREATE TABLE clean AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
         CREATE TABLE minutes AS SELECT window_start, count(*) AS n FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start;",
    );
    let line = |id: u64, minute: u64| format!("{{\"id\":{id},\"at\":\"2026-01-01T00:{minute:02}:10Z\"}}\n");
    project.write("data/a.json", line(1, 0) + &line(2, 1));
    project.to_the_end().ok();
    assert_eq!(project.number("SELECT sum(n) FROM minutes"), 2);
    // A repeat, a row of a window that is closed, a row of a later one.
    project.write("data/b.json", line(1, 0) + &line(3, 1) + &line(4, 5));
    project.to_the_end().ok();
    assert_eq!(project.number("SELECT count(*) FROM clean"), 4, "the repeat is still a repeat");
    assert_eq!(project.number("SELECT sum(n) FROM minutes"), 3, "the later window is filled");
    let ledger = project.ledger();
    assert_eq!((ledger["clean <- s"].duplicate, ledger["minutes <- clean"].late), (1, 1));
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn state_beyond_its_memory_goes_to_disk_and_where_it_cannot_nothing_is_lost() {
    let project = Project::new(
        "CREATE SOURCE s (id BIGINT NOT NULL, note VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '10 minutes') WITH (connector = 'files', path = 'data/*.json');
         CREATE TABLE clean AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 day');
         CREATE TABLE latest (PRIMARY KEY (id) NOT ENFORCED) AS SELECT id, count(*) AS n, max(note) AS note FROM s GROUP BY id EMIT ON CHANGE;",
    );
    let note = "x".repeat(200);
    let lines = |from: u64, to: u64| (from..to).map(|id| format!("{{\"id\":{id},\"note\":\"{note}{id}\",\"at\":\"2026-01-01T00:00:00Z\"}}\n")).collect::<String>();
    project.write("data/a.json", lines(0, 20_000));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nmemory = \"2MB\"\nmax_rows_per_tick = 1000\n");
    project.write(".watershed/spill", "in the way");
    let refused = project.once();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("RUN0045") && refused.stderr.contains("spill"), "{refused:?}");
    std::fs::remove_file(project.path(".watershed/spill")).expect("it goes");
    project.once().ok();
    assert!(!project.path(".watershed/spill").exists(), "what was on disk is gone with the run");
    // Half of the second file is known already; its keys are on disk again once the state was read.
    project.write("data/b.json", lines(10_000, 30_000));
    project.once().ok();
    assert_eq!(project.number("SELECT count(*) FROM clean"), 30_000);
    assert_eq!(project.number("SELECT count(*) FROM latest"), 30_000);
    assert_eq!(project.number("SELECT sum(n) FROM latest"), 40_000);
    assert_eq!(project.ledger()["clean <- s"].duplicate, 10_000);
    project.run(&["verify", "--deep"]).ok();
}
