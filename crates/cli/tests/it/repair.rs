//! A checkpoint damaged in every way: `diagnose` names the damage, `repair` takes a way out, and the next run ends
//! with exactly what an undamaged project holds, or the way said what it would lose.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cut, Held, Project, Ran, binary, bytes_below, finish, same, signal};

const SQL: &str =
    "CREATE SOURCE s (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '2 minutes') WITH (connector = 'files', path = 'data', format = 'json');
    CREATE TABLE kept (CONSTRAINT known EXPECT (id % 97 <> 5) ON VIOLATION QUARANTINE) AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
    CREATE TABLE minutes AS SELECT window_start, count(*) AS n, sum(id) AS total FROM TUMBLE(kept, at, INTERVAL '1 minute') GROUP BY window_start;";

fn lines(from: u64, to: u64) -> String {
    (from..to).map(|id| format!("{{\"id\":{id},\"at\":\"2026-03-01T10:{:02}:{:02}Z\"}}\n", id / 60 % 60, id % 60)).collect()
}

/// A project after its first input, the way back to that moment, and what the second input leads to.
struct Patient {
    project: Project,
    healthy: BTreeMap<PathBuf, Vec<u8>>,
    golden: Held,
}

impl Patient {
    fn new() -> Patient {
        let project = Project::new(SQL);
        project.cut(Cut::tiny(2));
        project.write("data/a.json", lines(0, 2_000));
        project.once().ok();
        let healthy = bytes_below(&project.path(".watershed"));
        let mut patient = Patient { project, healthy, golden: Held::default() };
        patient.golden = patient.second_input();
        patient.reset();
        patient
    }

    /// Half of the second input repeats what was read before: only whoever remembers it leaves it out.
    fn second_input(&self) -> Held {
        self.project.write("data/b.json", lines(1_900, 2_400));
        self.project.to_the_end().ok();
        self.project.run(&["verify", "--deep"]).ok();
        self.project.held()
    }

    fn reset(&self) {
        fs::remove_dir_all(self.project.path(".watershed")).expect("is removed");
        for (path, bytes) in &self.healthy {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        let _ = fs::remove_file(self.project.path("data/b.json"));
    }

    fn file(&self, folder: &str, like: &str, from_the_end: usize) -> PathBuf {
        let at = self.project.path(&format!(".watershed/checkpoints/{folder}"));
        let mut names: Vec<PathBuf> = fs::read_dir(at).expect("a folder").flatten().map(|e| e.path()).filter(|p| p.display().to_string().contains(like)).collect();
        names.sort();
        assert!(names.len() > from_the_end, "{folder} has {} files like {like:?}", names.len());
        names.swap_remove(names.len() - 1 - from_the_end)
    }

    fn diagnose(&self, extra: &[&str]) -> Value {
        let ran = self.project.run(&[&["checkpoint", "diagnose", "--format", "json"], extra].concat());
        let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        assert_eq!(ran.code, Some(i32::from(found["healthy"] == Value::Bool(false))), "{ran:?}");
        found
    }
}

fn flip(file: &PathBuf) {
    let mut bytes = fs::read(file).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).expect("the damage");
}

fn cut(file: &PathBuf) {
    let bytes = fs::read(file).expect("the file");
    fs::write(file, &bytes[..bytes.len() / 2]).expect("the damage");
}

fn gone(file: &PathBuf) {
    fs::remove_file(file).expect("the damage");
}

/// What cannot be read at all: a disk gives no byte of it, or it is no file.
fn unreadable(file: &PathBuf) {
    fs::remove_file(file).expect("the damage");
    fs::create_dir(file).expect("the damage");
}

type Damage = fn(&PathBuf);

#[test]
fn every_damaged_file_is_named_and_repaired_without_loss() {
    let patient = Patient::new();
    let history = patient.project.checkpoint().history().expect("a history");
    assert!(history.last_committed().0 > 6, "{history:?}");
    assert_eq!(patient.diagnose(&[])["healthy"], true);
    let top = |name: &str| patient.project.path(&format!(".watershed/checkpoints/{name}"));
    let cases: Vec<(PathBuf, &[Damage], &str)> = vec![
        (top("metadata.json"), &[cut, flip, gone, unreadable], "mend"),
        (patient.file("generations", "", 0), &[cut, flip], "mend"),
        (patient.file("commits", "", 0), &[cut, flip], "mend"),
        (patient.file("commits", "", 3), &[cut, flip, gone, unreadable], "mend"),
        (patient.file("offsets", "", 3), &[cut, flip, gone], "mend"),
        (patient.file("offsets", "", 0), &[cut, flip, gone, unreadable], "rollback"),
        (patient.file("state", "source-s", 0), &[cut, flip, gone, unreadable], "mend"),
    ];
    for (file, damages, way) in cases {
        for (number, damage) in damages.iter().enumerate() {
            patient.reset();
            damage(&file);
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let found = patient.diagnose(&[]);
            let what = format!("{} damaged in way {number}", file.display());
            assert_eq!(found["healthy"], false, "{what}");
            assert!(found["troubles"][0]["message"].as_str().expect("words").contains(&name), "{what}: {found:#}");
            assert_eq!((found["ways"][0]["name"].as_str(), &found["ways"][0]["exact"]), (Some(way), &Value::Bool(true)), "{what}: {found:#}");
            let before = bytes_below(&patient.project.path(".watershed"));
            patient.project.run(&["checkpoint", "repair", "--plan"]).ok();
            patient.project.run(&["checkpoint", "repair"]).refused(&["CLI0112", "--yes"]);
            let mut after = bytes_below(&patient.project.path(".watershed"));
            after.retain(|path, _| !path.ends_with("run.lock"));
            assert!(before.iter().all(|(path, bytes)| path.ends_with("run.lock") || after.get(path) == Some(bytes)), "{what}: a plan changed something");
            patient.project.run(&["checkpoint", "repair", "--yes"]).ok();
            assert_eq!(patient.diagnose(&[])["healthy"], true, "{what}");
            same(&patient.second_input(), &patient.golden, &what);
        }
    }
}

#[test]
fn lost_state_leads_back_or_says_what_is_lost() {
    let patient = Patient::new();
    let newest = patient.project.checkpoint().history().expect("a history").last_committed().0;
    let dedup = patient.file("state", "kept", 0);
    gone(&dedup);
    let found = patient.diagnose(&[]);
    assert_eq!(found["troubles"][0]["kind"], "missing");
    let ways: Vec<&str> = found["ways"].as_array().expect("ways").iter().map(|w| w["name"].as_str().expect("a name")).collect();
    assert!(ways.contains(&"reset") && ways.contains(&"fresh"), "{found:#}");
    if ways[0] == "rollback" {
        patient.project.run(&["checkpoint", "repair", "--yes"]).ok();
        assert!(patient.project.checkpoint().history().expect("a history").last_committed().0 < newest);
        same(&patient.second_input(), &patient.golden, "after going back");
        patient.reset();
        gone(&dedup);
    }

    // With nothing to remember, the repeats of the second input are delivered again: so many, and the way said so.
    let reset = found["ways"].as_array().expect("ways").iter().find(|w| w["name"] == "reset").expect("a way");
    assert!(reset["exact"] == Value::Bool(false) && reset["repeats"].as_str().expect("words").contains("delivered again"), "{reset:#}");
    patient.project.run(&["checkpoint", "repair", "--yes", "--way", "reset"]).ok();
    let held = patient.second_input();
    let repeated = held.tables["kept"].len() - patient.golden.tables["kept"].len();
    assert!((90..=100).contains(&repeated), "{repeated} of the 100 that come twice");

    // Everything anew: from the sources alone, the same rows; the old ones are kept.
    patient.reset();
    gone(&dedup);
    patient.project.run(&["checkpoint", "repair", "--yes", "--way", "fresh"]).ok();
    assert!(!patient.project.path(".watershed/lake").exists());
    let kept = fs::read_dir(patient.project.path(".watershed")).expect("a folder").flatten().filter(|e| e.file_name().to_string_lossy().contains(".before-repair-")).count();
    assert_eq!(kept, 2, "checkpoint and lake");
    let held = patient.second_input();
    assert_eq!(held.tables["kept"], patient.golden.tables["kept"]);
    assert_eq!(held.tables["minutes"], patient.golden.tables["minutes"]);

    // A way that does not lead out is refused.
    patient.reset();
    patient.project.run(&["checkpoint", "repair", "--yes"]).ok();
    gone(&dedup);
    patient.project.run(&["checkpoint", "repair", "--yes", "--way", "mend"]).refused(&["CLI0111", "reset"]);
}

#[test]
fn a_backup_gives_back_a_file_and_an_older_one_takes_the_tables_with_it() {
    let patient = Patient::new();
    let backup = patient.project.path("backup").display().to_string();
    patient.project.run(&["checkpoint", "backup", &backup]).ok();
    let dedup = patient.file("state", "kept", 0);
    flip(&dedup);
    let found = patient.diagnose(&["--from", &backup]);
    assert_eq!(found["ways"][0]["name"], "mend", "{found:#}");
    patient.project.run(&["checkpoint", "repair", "--yes", "--from", &backup]).ok();
    same(&patient.second_input(), &patient.golden, "from the backup");

    // The checkpoint is now older than every table.
    patient.project.run(&["checkpoint", "restore", &backup]).ok();
    patient.project.once().refused(&["RUN0018"]);
    let found = patient.diagnose(&[]);
    assert_eq!((&found["troubles"][0]["kind"], &found["ways"][0]["name"]), (&Value::from("ahead"), &Value::from("rollback")), "{found:#}");
    patient.project.run(&["checkpoint", "repair", "--yes"]).ok();
    same(&patient.second_input(), &patient.golden, "after the tables went back with it");

    // The drill: the checkpoint is gone altogether.
    fs::remove_dir_all(patient.project.path(".watershed/checkpoints")).expect("the loss");
    patient.project.run(&["checkpoint", "restore", &backup]).ok();
    patient.project.run(&["checkpoint", "repair", "--yes"]).ok();
    same(&patient.second_input(), &patient.golden, "after the drill");
}

#[test]
fn tables_without_their_checkpoint_are_not_written_a_second_time() {
    let patient = Patient::new();
    let backup = patient.project.path("backup").display().to_string();
    patient.project.run(&["checkpoint", "backup", &backup]).ok();
    let lose = || fs::remove_dir_all(patient.project.path(".watershed/checkpoints")).expect("the loss");
    let ways = |found: &Value| found["ways"].as_array().expect("ways").iter().map(|way| way["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>();
    lose();
    patient.project.once().refused(&["CLI0131", "\"kept\", \"minutes\"", "checkpoint diagnose"]);
    for told in [["status"].as_slice(), &["checkpoint", "list"]] {
        patient.project.run(told).refused(&["CLI0131", "\"kept\", \"minutes\"", "checkpoint diagnose"]);
    }
    let found = patient.diagnose(&[]);
    assert_eq!((&found["troubles"][0]["kind"], ways(&found)), (&Value::from("missing"), vec!["fresh".to_owned()]), "{found:#}");
    let found = patient.diagnose(&["--from", &backup]);
    assert_eq!(ways(&found), ["restore", "fresh"], "{found:#}");
    patient.project.run(&["checkpoint", "repair", "--yes", "--from", &backup]).ok();
    same(&patient.second_input(), &patient.golden, "after the backup");

    lose();
    let rows = || patient.project.run(&["query", "--format", "csv", "SELECT count(*) FROM kept"]).ok().stdout.lines().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a count");
    let before = rows();
    patient.project.run(&["verify"]).refused(&[]);
    patient.project.run(&["checkpoint", "repair", "--yes", "--way", "fresh"]).ok();
    patient.project.once().ok();
    assert_eq!(rows(), before);
}

#[test]
fn a_changed_operator_is_said_to_be_no_damage() {
    let patient = Patient::new();
    patient.project.write("pipelines.sql", SQL.replace("KEY (id)", "KEY (id, at)"));
    let found = patient.diagnose(&[]);
    assert_eq!((&found["troubles"][0]["kind"], &found["ways"][0]["name"]), (&Value::from("unfit"), &Value::from("reset")), "{found:#}");
    assert!(found["troubles"][0]["message"].as_str().expect("words").contains("the key was (id), is (id, at)"), "{found:#}");
    assert!(found["advice"].as_str().expect("advice").contains("Undo the change"), "{found:#}");
}

#[test]
fn a_schedule_takes_backups_beside_the_pipeline_and_keeps_the_newest() {
    let project = Project::new(SQL);
    let sql = SQL.replace("connector = 'files', path = 'data', format = 'json'", "connector = 'http'");
    project.write("pipelines.sql", sql);
    // Due again before one is done: it ends with the pipeline all the same.
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"50ms\"\nparallelism = 2\n[checkpoints.backup]\nto = \"safe\"\nevery = \"1ms\"\nkeep = \"1s\"\n");
    let mut child = project.spawn(&["up", "--listen", "127.0.0.1:0"]);
    let started = Instant::now();
    let patience = Duration::from_secs(60);
    let run = || -> Value { fs::read(project.path(".watershed/run.json")).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default() };
    while run()["pid"].as_u64() != Some(u64::from(child.id())) {
        assert!(started.elapsed() < patience, "the project did not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    let address = run()["address"].as_str().expect("an address").to_owned();
    let ask = |request: &str| -> String {
        let mut stream = std::net::TcpStream::connect(&address).expect("the API");
        stream.write_all(request.as_bytes()).expect("is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let names = || -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(project.path("safe/backups")).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|n| n.ends_with(".json"));
        names.sort();
        names
    };
    // Until the first backup has been cleaned away, so that there were several and the old ones went.
    let (mut id, mut first) = (0, None);
    loop {
        assert!(started.elapsed() < patience, "backups: {:?}", names());
        let body = lines(id, id + 20);
        id += 20;
        let answer = ask(&format!("POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let there = names();
        let oldest = first.get_or_insert_with(|| there.first().cloned()).clone();
        match oldest {
            None => first = None,
            Some(oldest) if !there.is_empty() && !there.contains(&oldest) => break,
            Some(_) => {}
        }
    }
    let metrics = ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let age: f64 = metrics.lines().find_map(|l| l.strip_prefix("watershed_backup_age_seconds ")).expect("the metric").parse().expect("a number");
    assert!((0.0..60.0).contains(&age), "{age}");
    signal(child.id(), "TERM");
    assert!(child.wait().expect("its end").success());
    assert!(fs::read_dir(project.path("safe/unfinished")).is_ok_and(|mut d| d.next().is_none()), "nothing is left half done");

    // The newest is whole, and `backup` without a place takes one more; both can be restored from.
    project.run(&["checkpoint", "backup"]).ok();
    let newest = names().pop().expect("a backup").replace(".json", "");
    let held = project.held();
    flip(&project.path(".watershed/checkpoints/metadata.json"));
    let found = project.run(&["checkpoint", "diagnose"]);
    assert!(found.code == Some(1) && found.stdout.contains("the backup has this very file") && found.stdout.contains(&newest), "{found:?}");
    project.run(&["checkpoint", "repair", "--yes"]).ok();
    project.once().ok();
    same(&project.held(), &held, "after the repair from the schedule's backup");
}

/// An S3 as moto has it, on a port of its own.
struct Bucket {
    server: Child,
    endpoint: String,
}

impl Bucket {
    /// `None`, with the reason on stdout, where the test's Python has no moto.
    fn new() -> Option<Bucket> {
        let python = std::env::var("WATERSHED_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        if !Command::new(&python).args(["-c", "import moto.server"]).output().is_ok_and(|done| done.status.success()) {
            println!("SKIPPED: {python} has no moto.server");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let server =
            Command::new(&python).args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moto starts");
        let bucket = Bucket { server, endpoint: format!("127.0.0.1:{port}") };
        let started = Instant::now();
        while !bucket.ask("PUT /safe HTTP/1.1").contains("200 OK") {
            assert!(started.elapsed() < Duration::from_secs(60), "moto did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(bucket)
    }

    fn ask(&self, request: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = std::net::TcpStream::connect(&self.endpoint) {
            let _ = write!(stream, "{request}\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", self.endpoint);
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// Runs the program on a project with this bucket in its environment.
    fn run(&self, project: &Project, arguments: &[&str]) -> Ran {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--project").arg(project.path("")).env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("AWS_ENDPOINT", format!("http://{}", self.endpoint)).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        finish(command.spawn().expect("the binary starts"))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_backup_in_an_object_store_mends_and_is_restored_from() {
    let Some(bucket) = Bucket::new() else { return };
    let patient = Patient::new();
    let project = &patient.project;
    let settings = fs::read_to_string(project.path("watershed.toml")).expect("settings");
    project.write("watershed.toml", format!("{settings}[checkpoints.backup]\nto = \"s3://safe/shop\"\n"));
    bucket.run(project, &["checkpoint", "backup"]).ok();
    bucket.run(project, &["checkpoint", "backup", "s3://safe/single"]).ok();
    bucket.run(project, &["checkpoint", "backup", "s3://safe/single"]).refused(&["CLI0072"]);

    let dedup = patient.file("state", "kept", 0);
    flip(&dedup);
    let found = bucket.run(project, &["checkpoint", "diagnose"]);
    assert!(found.code == Some(1) && found.stdout.contains("the backup has this very file"), "{found:?}");
    bucket.run(project, &["checkpoint", "repair", "--yes"]).ok();
    same(&patient.second_input(), &patient.golden, "mended from the object store");

    fs::remove_dir_all(project.path(".watershed/checkpoints")).expect("the loss");
    bucket.run(project, &["checkpoint", "restore", "s3://safe/single"]).ok();
    bucket.run(project, &["checkpoint", "repair", "--yes"]).ok();
    same(&patient.second_input(), &patient.golden, "after the drill");
}
