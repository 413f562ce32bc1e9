//! The API as the console uses it: what it shows, who may do what, what it makes of garbage, and what live clients get.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::address;
use crate::support::{Project, signal};

#[path = "../../../serve/examples/ws_clients/socket.rs"]
mod socket;
use socket::Socket;

const SQL: &str = r#"CREATE SOURCE s (id BIGINT NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
  WITH (connector = 'http');
CREATE TABLE clean (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION QUARANTINE) AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
CREATE SINK hole FROM clean WITH (connector = 'blackhole');"#;

/// A query that takes hours.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000)";

/// Ample; a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A served project; it ends with its owner.
struct Served {
    project: Project,
    child: Child,
    address: String,
}

impl Served {
    fn start(sql: &str, serve: &str) -> Served {
        let project = Project::new(sql);
        project.write("watershed.toml", format!("name = \"p\"\n[engine]\nparallelism = 2\nepoch_interval = \"300ms\"\n[serve]\nrequests_per_second = 100000\n{serve}"));
        Served::of(project)
    }

    fn of(project: Project) -> Served {
        let child = project.spawn(&["up", "--listen", "127.0.0.1:0"]);
        let address = address(&project, child.id());
        Served { project, child, address }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", self.address, body.len());
        raw(&self.address, &[head.as_bytes(), body].concat())
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "", b"").json(200)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes())
    }

    fn ingest(&self, from: i64, to: i64) {
        let lines: Vec<String> = (from..to).map(|id| format!(r#"{{"id":{id},"amount":{},"at":"2026-01-01T00:00:00Z"}}"#, if id % 50 == 7 { -1 } else { 2 })).collect();
        assert_eq!(self.ask("POST", "/v1/ingest/s", "", lines.join("\n").as_bytes()).status, 200);
    }

    /// Waits until an answer is as it should be.
    fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path);
            if good(&found) {
                return found;
            }
            assert!(Instant::now() < until, "{path} stays {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        let problem = self.json(status);
        assert_eq!(problem["code"], code, "{problem}");
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }
}

/// Sends bytes and reads the answer: its head, and at most a megabyte of its body. An answer that does not come is a hang.
fn raw(address: &str, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // A server that has heard enough may hang up before it has heard all.
    let _ = stream.write_all(bytes);
    let mut all = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no answer to {}: {error}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])),
        }
        // A stream of rows does not end.
        let endless = find(&all, b"\r\n\r\n").is_some_and(|end| find(&all[..end], b"application/x-ndjson").is_some());
        if endless || all.len() > 1 << 20 {
            break;
        }
    }
    let end = find(&all, b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunk(&all[end..]) } else { all[end..].to_vec() };
    Answer { status, head, body }
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).ok().and_then(|text| usize::from_str_radix(text, 16).ok()).unwrap_or(0);
        if size == 0 || rest.len() < at + 2 + size {
            break;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = rest.get(at + 4 + size..).unwrap_or_default();
    }
    body
}

#[test]
fn everything_a_pipeline_did_is_shown_and_refused_rows_go_round() {
    let served = Served::start(SQL, "query_memory = \"16MB\"\n");
    served.ingest(0, 100);
    assert_eq!(served.ask("POST", "/v1/ingest/s", "", b"{broken").status, 200);
    let graph = served.until("/v1/graph", |graph| graph["epoch"].as_u64() > Some(0) && graph["nodes"][2]["rows"] == 98);
    assert_eq!(
        graph["edges"],
        json!([{ "from": "source:s", "to": "table:clean", "kind": "rows", "rate": graph["edges"][0]["rate"] }, { "from": "table:clean", "to": "sink:hole", "kind": "rows", "rate": graph["edges"][1]["rate"] }])
    );
    let account = &graph["nodes"][1]["account"];
    assert_eq!((&account["read"], &account["delivered"], &account["quarantined"]), (&json!(101), &json!(98), &json!(3)));

    // Accounts by page: every line once, and the totals of all of them.
    let ledger = served.until("/v1/ledger?table=clean", |ledger| ledger["totals"]["read"] == 101);
    let (mut lines, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = served.get(&format!("/v1/ledger?limit=1{cursor}"));
        lines.extend(page["rows"].as_array().expect("rows").iter().map(|row| (row["epoch"].clone(), row["table"].clone())));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let whole = served.get("/v1/ledger?limit=1000");
    assert!(whole["total_rows"].as_u64() >= ledger["total_rows"].as_u64());
    assert_eq!(lines, whole["rows"].as_array().expect("rows").iter().map(|row| (row["epoch"].clone(), row["table"].clone())).collect::<Vec<_>>());

    // The quarantine: filters, pages, bytes as they came.
    let broken = served.until("/v1/quarantine?text=broken", |found| found["total"] == 1);
    assert_eq!((&broken["rows"][0]["reason"], &broken["rows"][0]["raw"]), (&json!("corrupt"), &json!("{broken")));
    let first = served.get("/v1/quarantine?reason=violation&limit=1");
    let second = served.get(&format!("/v1/quarantine?reason=violation&limit=1&cursor={}", first["next"].as_str().expect("a page more")));
    assert_eq!((&first["total"], &second["next"]), (&json!(2), &Value::Null));
    assert_ne!(first["rows"][0]["id"], second["rows"][0]["id"]);
    let wanted = json!({ "ids": [first["rows"][0]["id"], second["rows"][0]["id"]] });
    let dry = served.post("/v1/quarantine/replay", &json!({ "filter": { "reason": "violation" }, "dry_run": true })).json(200);
    assert_eq!((&dry["rows"], &dry["request"]), (&json!(2), &Value::Null));
    assert_eq!(served.post("/v1/quarantine/replay", &wanted).json(200)["rows"], 2);
    // The rule still refuses them: both go round and come back, as new rows.
    served.until("/v1/quarantine/summary", |summary| summary["groups"][1]["rows"] == 4 && summary["groups"][1]["replayed"] == 2);
    served.until("/v1/ledger?source=replay:s", |ledger| ledger["totals"]["quarantined"] == 2);
    let again = served.post("/v1/quarantine/replay", &wanted).json(200);
    assert_eq!((&again["rows"], &again["left_out"]["replayed"]), (&json!(0), &json!(2)), "a row goes round once");

    // Tables and queries.
    let tables = served.get("/v1/tables");
    assert_eq!((&tables["tables"][0]["name"], &tables["tables"][0]["rows"]), (&json!("clean"), &json!(98)));
    assert_eq!(served.get("/v1/tables/clean/rows?limit=5&offset=96")["row_count"], 2);
    let query = |sql: &str| served.post("/v1/query", &json!({ "sql": sql, "limit": 2 }));
    assert_eq!(query("SELECT count(*) AS n, 9007199254740993 AS big FROM clean").json(200)["rows"], json!([[98, "9007199254740993"]]));
    assert_eq!(query("SELECT id FROM clean").json(200)["truncated"], true);
    query("SELECT nope FROM clean").refused(400, "CLI0065");
    query("DELETE FROM clean").refused(400, "CLI0063");
    query("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'").refused(400, "CLI0063");
    served.post("/v1/query", &json!({ "sql": ENDLESS, "timeout_seconds": 1 })).refused(408, "SRV0011");
    query("SELECT array_agg(value) FROM generate_series(1, 20000000)").refused(413, "SRV0012");
    // Endless queries take every place; whoever hangs up takes the query along.
    let mut callers = Vec::new();
    while query("SELECT 1").status != 429 {
        let mut stream = TcpStream::connect(&served.address).expect("it listens");
        let body = json!({ "sql": ENDLESS, "timeout_seconds": 300 }).to_string();
        write!(stream, "POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("is sent");
        callers.push(stream);
        assert!(callers.len() < 1_000, "the places are never taken");
    }
    drop(callers);
    let until = Instant::now() + PATIENCE;
    while query("SELECT 1").status == 429 {
        assert!(Instant::now() < until, "queries of callers that are gone go on");
        std::thread::sleep(Duration::from_millis(50));
    }

    // The checkpoint, the audit, series.
    let checkpoints = served.get("/v1/checkpoints?limit=1");
    let epoch = checkpoints["epochs"][0]["epoch"].as_u64().expect("an epoch");
    assert_eq!(served.get(&format!("/v1/checkpoints/{epoch}"))["complete"], true);
    served.ask("GET", "/v1/checkpoints/999999", "", b"").refused(404, "SRV0016");
    let audit = served.post("/v1/verify", &json!({})).json(200);
    assert_eq!(audit["ok"], true, "{audit}");
    let series = served.until("/v1/series?names=rate,latency.lake.p99,sink.hole.rate", |series| {
        series["series"]["rate"].as_array().is_some_and(|points| points.iter().any(|p| p.as_f64() > Some(0.0)))
    });
    assert!(series["series"]["latency.lake.p99"].as_array().expect("points").iter().any(|point| point.as_f64() > Some(0.0)), "{series}");
    let epochs = served.get("/v1/epochs?limit=1000");
    let records: u64 = epochs["epochs"].as_array().expect("epochs").iter().map(|epoch| epoch["records"].as_u64().expect("a number")).sum();
    assert_eq!(records, 103, "what was read, and what went round");
    assert_eq!(served.get("/v1/alerts")["available"], true);
    assert!(served.ask("GET", "/v1/errors/SRV0003", "", b"").body.starts_with(b"# SRV0003"));
    assert!(served.project.run(&["status"]).ok().stdout.contains("p is running"));
}

#[test]
fn live_clients_get_changes_and_a_slow_one_is_nobodys_trouble() {
    let served = Served::start(SQL, "");
    let slow = {
        // It asks for everything and reads nothing, so that its share of the network's buffers fills.
        let mut socket = Socket::open(&served.address, "").expect("a socket");
        socket.send(r#"{"subscribe":["graph","series","rows:clean"]}"#).expect("is sent");
        socket
    };
    let mut socket = Socket::open(&served.address, "").expect("a socket");
    let next = |socket: &mut Socket, topic: &str| -> Value {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let message: Value = serde_json::from_str(&socket.next().expect("it stays open").expect("a message")).expect("JSON");
            if message["topic"] == topic {
                return message;
            }
        }
        panic!("nothing of {topic}");
    };
    assert_eq!(next(&mut socket, "hello")["role"], "admin");
    socket.send(r#"{"subscribe":["graph","rows:clean","alerts"]}"#).expect("is sent");
    let whole = next(&mut socket, "graph");
    assert_eq!((&whole["full"], whole["data"]["nodes"].as_array().map(Vec::len)), (&json!(true), Some(3)));
    let change = next(&mut socket, "graph");
    assert_eq!((&change["full"], change["seq"].as_u64()), (&json!(false), whole["seq"].as_u64().map(|seq| seq + 1)));
    assert!(change["data"]["pipeline"].is_null(), "what did not change is not sent");

    served.ingest(0, 500);
    let (mut total, mut shown) = (0, 0);
    while total < 490 {
        let rows = next(&mut socket, "rows:clean");
        total += rows["total"].as_u64().expect("a number");
        shown += rows["rows"].as_array().expect("rows").len() as u64;
        assert_eq!(rows["rows"].as_array().map(Vec::len).map(|n| n as u64), Some(rows["total"].as_u64().expect("a number") - rows["skipped"].as_u64().expect("a number")));
    }
    assert_eq!(total, 490);
    assert!(shown <= 490 && shown > 0);

    socket.send(r#"{"subscribe":["rows:clen"],"ping":[7]}"#).expect("is sent");
    assert_eq!(next(&mut socket, "error")["code"], "SRV0022");
    assert_eq!(next(&mut socket, "pong")["ping"], json!([7]));
    for garbage in ["", "null", "{\"subscribe\":7}", "[[[[[[", "\u{0}", "{\"topic\":\"graph\"}"] {
        socket.send(garbage).expect("is sent");
        assert_eq!(next(&mut socket, "error")["code"], "SRV0022", "{garbage}");
    }

    // At the end everybody is told, and the slow one holds nothing up.
    signal(served.child.id(), "TERM");
    assert_eq!(next(&mut socket, "bye")["why"], "the pipeline stops");
    assert!(matches!(socket.next(), Ok(None)));
    let mut child = served;
    let ended = child.child.wait().expect("its end");
    assert!(ended.success(), "{ended}");
    drop(slow);
}

/// Every route of the document, with its parameters filled in.
fn routes(served: &Served) -> Vec<(String, String)> {
    let document = served.get("/v1/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let routes: Vec<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("methods").keys().filter(|key| ["get", "post"].contains(&key.as_str())).map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    assert!(routes.len() > 25, "{routes:?}");
    routes
}

#[test]
fn garbage_gets_an_answer_and_never_a_server_error_or_a_secret() {
    let hash = "0b".repeat(32);
    let served = Served::start(SQL, &format!("tokens = [{{ name = \"t\", role = \"admin\", hash = \"sha256:{hash}\" }}]\n"));
    let run: Value = serde_json::from_slice(&std::fs::read(served.project.path(".watershed/run.json")).expect("a file")).expect("JSON");
    let token = run["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    served.ask("POST", "/v1/ingest/s", &bearer, b"{\"id\":1,\"amount\":2,\"at\":\"2026-01-01T00:00:00Z\"}\n{");

    let values =
        ["x", "..%2f..%2f..%2fetc%2fpasswd", "%00", "%ff%fe", "%F0%9F%92%A9", "-1", "99999999999999999999999999", "'%20OR%201=1--", "%22%3B%20DROP", "a".repeat(4_000).as_str()]
            .map(str::to_owned);
    let queries = [
        "",
        "?limit=-1",
        "?limit=99999999999999999999",
        "?cursor=%27",
        "?cursor=18446744073709551615.18446744073709551615",
        "?text=%25%5C%27%22",
        "?text=%ff",
        "?since=x",
        "?epoch=18446744073709551615",
        "?a=b&a=b",
        "?limit=1&limit=2",
        "?%",
    ];
    let deep = "[".repeat(20_000);
    let bodies: [(&str, Vec<u8>); 12] = [
        ("application/json", vec![]),
        ("application/json", b"{".to_vec()),
        ("application/json", deep.into_bytes()),
        ("application/json", b"{\"sql\":\"\\u0000\\ud800\"}".to_vec()),
        ("application/json", format!("{{\"sql\":\"SELECT {}1\"}}", "(".repeat(3_000)).into_bytes()),
        ("application/json", b"{\"sql\":\"SELECT '\xff'\"}".to_vec()),
        ("application/json", b"{\"sql\":\"SELECT 1/0, CAST('x' AS INT), repeat('x', -1)\",\"limit\":18446744073709551615}".to_vec()),
        ("application/json", b"{\"ids\":[\"q1.zz\"],\"filter\":{}}".to_vec()),
        ("application/json", b"{\"filter\":{\"text\":\"'; DROP TABLE clean --\",\"reason\":\"nope\"}}".to_vec()),
        ("application/json", b"{\"token\":\"ws_wrong\",\"seconds\":1e400}".to_vec()),
        ("text/plain", b"{\"sql\":\"SELECT 1\"}".to_vec()),
        ("application/x-www-form-urlencoded; charset=ÿ", vec![0xff; 70_000]),
    ];
    let mut asked = 0;
    let mut check = |what: String, answer: Answer| {
        asked += 1;
        assert!((200..500).contains(&answer.status), "{what}: {}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
        let told = [answer.head.as_bytes(), &answer.body].concat();
        for secret in [token.as_bytes(), hash.as_bytes()] {
            assert!(find(&told, secret).is_none(), "{what} tells a secret: {}", String::from_utf8_lossy(&told));
        }
        if answer.status >= 400 {
            let json = answer.head.contains("application/problem+json");
            // What cannot be parsed as HTTP at all gets a bare answer.
            assert!(json || answer.body.is_empty(), "{what}: {}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
        }
    };
    for (method, path) in routes(&served) {
        let fill = |value: &str| {
            let mut filled = path.clone();
            while let (Some(open), Some(close)) = (filled.find('{'), filled.find('}')) {
                filled.replace_range(open..=close, value);
            }
            filled
        };
        if path.contains('{') {
            for value in &values {
                check(format!("{method} {path} with {value}"), served.ask(&method, &fill(value), &bearer, b"{}"));
            }
        }
        let plain = fill("clean");
        for query in queries {
            check(format!("{method} {plain}{query}"), served.ask(&method, &format!("{plain}{query}"), &bearer, b"{}"));
        }
        for wrong in ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "HEAD"] {
            check(format!("{wrong} {plain}"), served.ask(wrong, &plain, &bearer, b""));
        }
        if method == "POST" {
            for (kind, body) in &bodies {
                let headers = [bearer.as_bytes(), b"Content-Type: ", kind.as_bytes(), b"\r\n"].concat();
                let head = format!("POST {plain} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", served.address);
                let bytes = [head.as_bytes(), &headers, format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
                check(format!("POST {plain} {kind} {}", String::from_utf8_lossy(&body[..body.len().min(60)])), raw(&served.address, &bytes));
            }
        }
    }
    // Not even HTTP, or too much of it.
    let host = &served.address;
    for odd in [
        format!("GET /v1/graph HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
        format!("GET /v1/graph HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(500)),
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(100_000)),
        format!("GET /../../../../etc/passwd HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        format!("GET /assets/..%2f..%2f..%2fetc/passwd HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        format!("POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n"),
        format!("POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n"),
        "\u{16}\u{3}\u{1}\u{0}\u{5}".to_owned(),
        "HELLO\r\n\r\n".to_owned(),
    ] {
        let answer = raw(host, odd.as_bytes());
        assert!(answer.status < 500, "{}: {}", &odd[..40.min(odd.len())], answer.head);
        assert!(find(&answer.body, b"root:").is_none());
    }
    assert!(asked > 500, "{asked}");
    assert_eq!(served.ask("GET", "/v1/graph", &bearer, b"").json(200)["state"], "running");
}

#[test]
fn the_description_holds_for_a_program_that_takes_it_at_its_word() {
    let Some(python) = std::env::var_os("WATERSHED_PYTHON").map(std::path::PathBuf::from) else {
        println!("SKIPPED: set WATERSHED_PYTHON to a python with the package schemathesis");
        return;
    };
    let served = Served::start(SQL, "");
    served.ingest(0, 100);
    served.until("/v1/graph", |graph| graph["epoch"].as_u64() > Some(0));
    let checks = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance";
    // Streams do not end, and records are no JSON document.
    let left_out = ["/v1/live/ws", "/v1/tables/{table}/live", "/v1/ingest/{source}"].iter().flat_map(|path| ["--exclude-path", path]);
    let output = std::process::Command::new(python.with_file_name("st"))
        .args(["run", &format!("http://{}/v1/openapi.json", served.address), "--checks", checks, "--phases", "examples,fuzzing", "--max-examples", "15"])
        .args(["--request-timeout", "30", "--generation-deterministic", "--no-color"])
        .args(left_out)
        .current_dir(served.project.path(""))
        .output()
        .expect("schemathesis starts: `make setup-test` installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("passed"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn everybody_may_do_what_their_role_says_and_no_foreign_page_may_do_anything() {
    let project = Project::new(SQL);
    project.write("watershed.toml", "name = \"p\"\n[serve]\norigins = [\"http://localhost:5173\"]\n");
    let token = |role: &str| project.run(&["token", "create", "--name", role, "--role", role]).ok().stdout.trim().to_owned();
    let roles = ["ingest", "viewer", "operator", "admin"];
    let tokens = roles.map(token);
    let kept = std::fs::read_to_string(project.path(".watershed/tokens.json")).expect("a file");
    assert!(tokens.iter().all(|token| token.starts_with("ws_") && !kept.contains(token.as_str())));
    project.run(&["token", "create", "--name", "admin"]).refused(&["SRV0019", "already"]);
    let listed = project.run(&["token", "list", "--format", "json"]).ok().stdout;
    assert!(roles.iter().all(|role| listed.contains(role)), "{listed}");
    let served = Served::of(project);
    let with = |token: &str| format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let cases = [
        ("GET", "/v1/graph", [403, 200, 200, 200]),
        ("GET", "/metrics", [403, 200, 200, 200]),
        ("POST", "/v1/query", [403, 200, 200, 200]),
        ("POST", "/v1/quarantine/replay", [403, 403, 200, 200]),
        ("POST", "/v1/verify", [403, 403, 200, 200]),
        ("POST", "/v1/alerts/x/ack", [403, 403, 404, 404]),
        ("GET", "/v1/settings", [403, 403, 403, 200]),
        ("POST", "/v1/ingest/s", [200, 403, 200, 200]),
        ("GET", "/healthz", [200, 200, 200, 200]),
    ];
    let body = |path: &str| match path {
        "/v1/query" => json!({ "sql": "SELECT 1" }),
        "/v1/quarantine/replay" => json!({ "filter": {} }),
        "/v1/ingest/s" => json!({ "id": 1, "amount": 1, "at": "2026-01-01T00:00:00Z" }),
        _ => json!({}),
    };
    for (method, path, wanted) in cases {
        let found = [0, 1, 2, 3].map(|index| served.ask(method, path, &with(&tokens[index]), body(path).to_string().as_bytes()).status);
        assert_eq!(found, wanted, "{method} {path}");
        if path != "/healthz" {
            served.ask(method, path, "Content-Type: application/json\r\n", body(path).to_string().as_bytes()).refused(401, "SRV0002");
        }
    }
    served.ask("GET", "/v1/settings", &with(&tokens[1]), b"").refused(403, "SRV0003");
    assert!(Socket::open(&served.address, "").is_err(), "a socket needs a token too");
    assert!(Socket::open(&served.address, &format!("Authorization: Bearer {}\r\n", tokens[1])).is_ok());
    assert!(!String::from_utf8_lossy(&served.ask("GET", "/", "", b"").body).contains("/v1/ingest/s"), "strangers are not told names");
    assert!(served.project.run(&["status"]).ok().stdout.contains("p is running"), "commands of this machine have a token of their own");

    // The console: a login, its cookie, and pages that are not ours.
    served.post("/v1/login", &json!({ "token": "ws_wrong" })).refused(401, "SRV0002");
    let login = served.post("/v1/login", &json!({ "token": tokens[2] }));
    assert_eq!((&login.json(200)["name"], &login.json(200)["role"]), (&json!("operator"), &json!("operator")));
    let cookie = login.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: {}\r\nContent-Type: application/json\r\n", cookie.split(';').next().expect("a pair"));
    let dry = json!({ "filter": {}, "dry_run": true }).to_string();
    let replay = |headers: &str| served.ask("POST", "/v1/quarantine/replay", &format!("{cookie}{headers}"), dry.as_bytes());
    assert_eq!(replay("").status, 200);
    assert_eq!(replay(&format!("Origin: http://{}\r\n", served.address)).status, 200);
    assert_eq!(replay("Origin: http://localhost:5173\r\n").status, 200, "named in the settings");
    for foreign in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: http://127.0.0.1:1\r\n"] {
        replay(foreign).refused(403, "SRV0004");
    }
    let socket = |origin: &str| Socket::open(&served.address, &format!("{cookie}Origin: {origin}\r\n"));
    assert!(socket("http://evil.example").is_err());
    assert!(socket(&format!("http://{}", served.address)).is_ok());
    for (host, status) in [("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost", 401), ("[::1]:80", 401), ("app.localhost:7", 401)] {
        let answer = raw(&served.address, format!("GET /v1/graph HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, status, "{host}");
    }
    assert!(login.header("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors 'none'")));

    // Taken back, a token is worth nothing, nor is what was opened with it.
    served.project.run(&["token", "revoke", "--name", "operator"]).ok();
    let until = Instant::now() + PATIENCE;
    while replay("").status != 401 {
        assert!(Instant::now() < until, "a revoked token still opens");
        std::thread::sleep(Duration::from_millis(50));
    }
    served.ask("POST", "/v1/logout", &cookie, b"{}");
}

#[test]
fn beyond_loopback_nothing_is_served_without_a_token_and_too_many_requests_wait() {
    let project = Project::new(SQL);
    project.run(&["up", "--listen", "0.0.0.0:0"]).refused(&["SRV0001", "watershed token create"]);
    project.write("watershed.toml", "name = \"p\"\n[serve]\nrequests_per_second = 5\n");
    let served = Served::of(project);
    let answers: Vec<Answer> = (0..40).map(|_| served.ask("GET", "/v1/session", "", b"")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "who am I is not limited");
    let answers: Vec<Answer> = (0..40).map(|_| served.ask("GET", "/v1/graph", "", b"")).collect();
    let limited: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!limited.is_empty() && answers[0].status == 200);
    limited[0].refused(429, "SRV0006");
    assert!(limited[0].header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|n| n >= 1)));
    for id in 0..40 {
        served.ingest(id, id + 1);
    }
}
