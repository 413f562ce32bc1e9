//! A project that is served: records over HTTP, the process killed, the accounts audited, refused rows sent round again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::Project;

const SQL: &str = r#"CREATE SOURCE s (id BIGINT NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
  WITH (connector = 'http');
CREATE TABLE clean (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION QUARANTINE) AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
CREATE TABLE minutes AS SELECT window_start, count(*) AS n, sum(amount) AS total FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start;"#;

/// The address of the running process, once it says so.
pub fn address(project: &Project, process: u32) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if let Ok(text) = std::fs::read_to_string(project.path(".watershed/run.json")) {
            let run: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if run["pid"].as_u64() == Some(u64::from(process)) {
                return run["address"].as_str().expect("an address").to_owned();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the API did not come up");
}

/// Posts a body; true if it was acknowledged.
fn post(address: &str, body: &str) -> bool {
    let send = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    send().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn acknowledged_records_survive_kills_and_refused_ones_go_round_once() {
    let project = Project::new(SQL);
    let mut acknowledged = 0;
    let (mut killed, mut id) = (0, 0);
    for round in 0..4 {
        let mut child = project.spawn(&["up", "--listen", "127.0.0.1:0"]);
        let address = address(&project, child.id());
        for request in 0..40 + 30 * round {
            let lines: Vec<String> =
                (id..id + 5).map(|id| format!(r#"{{"id":{id},"amount":{},"at":"2026-01-01T00:{:02}:00Z"}}"#, if id % 50 == 7 { -1 } else { 2 }, id / 100 % 60)).collect();
            if post(&address, &lines.join("\n")) {
                acknowledged += 5;
                id += 5;
            }
            if request % 20 == 0 {
                assert!(post(&address, "{\"id\": broken}"), "bytes that are no JSON are the pipeline's business");
            }
        }
        killed += u32::from(child.try_wait().expect("its state").is_none());
        child.kill().expect("is killed");
        child.wait().expect("its end");
    }
    assert_eq!(killed, 4, "every kill hit a running process");
    project.run(&["run", "--once"]).ok();
    project.run(&["verify", "--deep"]).ok();
    let bad = (0..id).filter(|id| id % 50 == 7).count() as i64;
    assert_eq!(acknowledged, id);
    assert_eq!(project.number("SELECT count(*) FROM clean"), id - bad, "every acknowledged good record, once");
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM clean"), id - bad);

    // The rule is mended; the rows go round once, through `up` or by themselves, and both their lives are in the ledger.
    project.write("pipelines.sql", SQL.replace("amount > 0", "amount > -5"));
    let replay = ["quarantine", "replay", "--reason", "violation"];
    project.run(&replay).ok();
    assert_eq!(project.number("SELECT count(*) FROM clean"), id);
    let again = project.run(&replay).ok();
    assert!(again.stdout.contains("nothing to replay"), "{again:?}");
    assert_eq!(project.number("SELECT count(*) FROM clean"), id);
    let ledger = project.ledger();
    assert_eq!(ledger["clean <- s"].quarantined as i64, bad + project.number("SELECT count(*) FROM quarantine WHERE reason = 'corrupt'"));
    assert_eq!(ledger["clean <- replay:s"].delivered as i64, bad);
    project.run(&["verify", "--deep"]).ok();

    // An audit that could not fail would prove nothing: files that are gone must be noticed. (Some were staged by runs
    // that were killed, and belong to no epoch: all go.)
    for entry in std::fs::read_dir(project.table("clean")).expect("lists").flatten() {
        if entry.path().extension().is_some_and(|e| e == "parquet") {
            std::fs::remove_file(entry.path()).expect("is removed");
        }
    }
    let audit = project.run(&["verify"]);
    assert_eq!(audit.code, Some(1), "{audit:?}");
    assert!(audit.stdout.contains("FAIL") && audit.stdout.contains("clean"), "{audit:?}");
}
