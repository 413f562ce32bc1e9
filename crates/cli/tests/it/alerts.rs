//! A pipeline that is watched: what fails is told, traces and latencies are there, and nobody waits for who listens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;

use crate::receivers::{Http, Request, wait};
use crate::servers;
use crate::support::{Project, finish, signal};

const SQL: &str = "CREATE SOURCE s (id BIGINT NOT NULL, amount INT NOT NULL, note VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
  WITH (connector = 'http');
CREATE TABLE clean (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION FAIL) AS SELECT * FROM s;";

/// Settings for tests: everything quick, everything told to one webhook.
fn settings(url: &str, more: &str) -> String {
    format!(
        "name = \"p\"\n[engine]\nepoch_interval = \"100ms\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[alerts]\ninterval = \"50ms\"\ncooldown = \"1ms\"\nkeep_firing_for = \"0s\"\n\
         [alerts.routes.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n{more}"
    )
}

fn up(project: &Project) -> (Child, String) {
    let child = project.spawn_piped(&["up"]);
    let address = wait("the API comes up", || {
        let run: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(project.path(".watershed/run.json")).ok()?).ok()?;
        (run["pid"].as_u64() == Some(u64::from(child.id()))).then(|| run["address"].as_str().expect("an address").to_owned())
    });
    (child, address)
}

fn ask(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn post(address: &str, id: i64, amount: i64) {
    ask(address, "POST /v1/ingest/s", &format!("{{\"id\":{id},\"amount\":{amount},\"note\":null,\"at\":\"2026-01-01T00:00:00Z\"}}"));
}

fn about<'r>(requests: &'r [Request], rule: &str, action: &str) -> Option<&'r Request> {
    requests.iter().find(|r| r.json()["group"]["rule"] == rule && r.json()["action"] == action)
}

/// The message about a rule, once it is there.
fn told(server: &Http, rule: &str, action: &str) -> serde_json::Value {
    wait(&format!("{action} of {rule}"), || about(&server.taken(), rule, action).map(Request::json))
}

fn ok() -> Http {
    Http::start(Box::new(|_| (200, "")))
}

#[test]
fn a_pipeline_that_fails_says_so_with_its_last_breath_and_the_next_one_resolves_it() {
    let server = ok();
    let project = Project::new(SQL);
    let query = "[[alerts.rules]]\nname = \"many\"\nsql = \"SELECT table_name, sum(read) AS n FROM system.ledger GROUP BY table_name\"\nwhen = \"n >= 2\"\nevery = \"100ms\"\n";
    project.write("watershed.toml", settings(&server.url("/in"), query));
    assert!(project.run(&["alert", "test"]).ok().stdout.contains("sent"));
    assert_eq!(server.wait_for(1)[0].json()["action"], "test");

    let (child, address) = up(&project);
    post(&address, 1, 5);
    post(&address, 2, 5);
    assert_eq!(told(&server, "many", "trigger")["firing"][0]["labels"]["table_name"], "clean");
    let listed = project.run(&["alert", "list", "--format", "json"]).ok().stdout;
    // The machine may have alerts of its own: a disk that is nearly full.
    let mut alerts = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let alert = alerts.find(|alert| alert["rule"] == "many").unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(alert["state"].as_str(), Some("firing"), "{listed}");
    let id = alert["id"].as_str().expect("an id");
    project.run(&["alert", "ack", id]).ok();
    project.run(&["alert", "silence", "--rule", "manny"]).refused(&["ALR0011", "Did you mean \"many\"?"]);
    project.run(&["alert", "silence", "--alert", id, "--for", "1h"]).ok();
    assert!(project.run(&["alert", "list"]).ok().stdout.contains("20"), "silenced until a time");
    let checked = project.run(&["alert", "check", "--format", "json"]).ok().stdout;
    assert!(checked.lines().any(|l| l.contains("\"many\"") && l.contains("\"holds\"")), "{checked}");

    // A row that must not be: the pipeline fails, which is the fault.
    post(&address, 3, -1);
    let ran = finish(child);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(told(&server, "stopped", "trigger")["severity"], "P0");
    assert!(project.run(&["alert", "list"]).ok().stdout.contains("stopped"), "it is remembered");

    project.write("pipelines.sql", SQL.replace("FAIL", "DROP"));
    let (child, _) = up(&project);
    told(&server, "stopped", "resolve");
    signal(child.id(), "TERM");
    finish(child).ok();
    assert!(project.run(&["alert", "silence", "--list"]).ok().stdout.contains(id), "silences survive");
}

#[test]
fn a_warehouse_that_dies_is_told_and_its_return_too_and_latency_is_known_by_stage() {
    let server = ok();
    let postgres = servers::postgres();
    let sink = format!("{SQL}\nCREATE SINK warehouse FROM clean WITH (connector = 'postgres', url = '{}', table = 'clean');", postgres.address);
    let project = Project::new(&sink);
    project.write("watershed.toml", settings(&server.url("/in"), "[alerts.default.sink-down]\nfor = \"0s\"\n"));
    let (child, address) = up(&project);
    post(&address, 1, 5);
    let stages = ["accepted", "processed", "lake", "sink:warehouse", "committed"];
    wait("every stage", || {
        let metrics = ask(&address, "GET /metrics", "");
        stages.iter().all(|stage| metrics.contains(&format!("watershed_latency_seconds_count{{stage=\"{stage}\"}}"))).then_some(())
    });
    postgres.tell(&["kill"]);
    post(&address, 2, 5);
    let message = told(&server, "sink-down", "trigger");
    assert_eq!((&message["firing"][0]["labels"]["sink"], &message["firing"][0]["runbook"]), (&"warehouse".into(), &"docs/runbooks/sink-down.md".into()));
    postgres.tell(&["restart"]);
    told(&server, "sink-down", "resolve");
    signal(child.id(), "TERM");
    finish(child).ok();
    project.run(&["verify"]).ok();
}

/// A field of a protobuf message: its number, and its bytes or its number as bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = vec![];
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, number(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => number(&mut bytes) as usize,
            _ => 4,
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    found
}

fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(number, _)| *number == field).map(|(_, value)| value).collect()
}

#[derive(Debug, Clone)]
struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    from: u64,
    until: u64,
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(body: &[u8]) -> Vec<Span> {
    let one = |span: Vec<u8>| {
        let get = |field| all(&span, field).into_iter().next().unwrap_or_default();
        let time = |field| u64::from_le_bytes(get(field).try_into().expect("eight bytes"));
        Span { trace: get(1), id: get(2), parent: get(4), name: String::from_utf8(get(5)).expect("text"), from: time(7), until: time(8) }
    };
    all(body, 1).iter().flat_map(|resource| all(resource, 2)).flat_map(|scope| all(&scope, 2)).map(one).collect()
}

#[test]
fn an_epoch_is_a_trace_with_its_steps_in_order() {
    let collector = ok();
    let project = Project::new(SQL);
    project.write("watershed.toml", settings("http://127.0.0.1:9/", &format!("[telemetry]\notlp_endpoint = \"{}\"\n", collector.url(""))));
    let (child, address) = up(&project);
    post(&address, 1, 5);
    wait("an epoch", || ask(&address, "GET /metrics", "").contains("watershed_epoch_committed 1").then_some(()));
    signal(child.id(), "TERM");
    finish(child).ok();
    let requests = collector.taken();
    assert!(requests.iter().all(|r| r.path == "/v1/traces" && r.headers["content-type"] == "application/x-protobuf"), "{requests:?}");
    let spans: Vec<Span> = requests.iter().flat_map(|r| spans(&r.raw)).collect();
    let root = spans.iter().find(|span| span.name == "epoch").expect("an epoch");
    assert!(root.parent.is_empty());
    let mut steps: Vec<&Span> = spans.iter().filter(|span| span.trace == root.trace && span.parent == root.id).collect();
    steps.sort_by_key(|span| (span.from, span.until));
    let names: Vec<&str> = steps.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["open", "seal", "prepare", "commit clean", "record"]);
    assert!(steps.iter().all(|step| root.from <= step.from && step.from <= step.until && step.until <= root.until), "{steps:?}");
}

#[test]
fn nobody_waits_for_a_collector_or_a_receiver_that_is_deaf() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address_of_deaf = format!("http://{}", deaf.local_addr().expect("its address"));
    let project = Project::new(SQL);
    let rule = "[[alerts.rules]]\nname = \"always\"\nwhen = \"epoch_committed >= 0\"\n";
    project.write("watershed.toml", settings(&address_of_deaf, &format!("{rule}[telemetry]\notlp_endpoint = \"{address_of_deaf}\"\n")));
    let (child, address) = up(&project);
    for id in 0..50 {
        post(&address, id, 5);
    }
    let committed = || ask(&address, "GET /metrics", "").lines().find_map(|line| line.strip_prefix("watershed_epoch_committed ")?.parse::<u64>().ok());
    wait("epochs go on", || committed().filter(|epoch| *epoch >= 1));
    deaf.accept().expect("the fault has fired: somebody waits for an answer");
    post(&address, 50, 5);
    signal(child.id(), "TERM");
    finish(child).ok();
    assert_eq!(project.number("SELECT count(*) FROM clean"), 51);
    let waiting = std::fs::read_dir(project.path(".watershed/alerts/outbox/hook")).expect("a folder").count();
    assert!(waiting >= 1, "the message leaves after the next start");
}
