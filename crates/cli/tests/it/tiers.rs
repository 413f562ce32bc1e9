//! Reads over hot keys, warehouse and lake, with each of them taken away; and the warehouse in queries.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::servers;
use crate::support::{Project, signal};

fn sql(postgres: &str, redis: &str) -> String {
    format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, account VARCHAR NOT NULL, amount DECIMAL(12,2), at TIMESTAMP NOT NULL, tags MAP<VARCHAR, VARCHAR>, WATERMARK FOR at AS at - INTERVAL '0 seconds')
           WITH (connector = 'http');
         CREATE TABLE clean AS SELECT * FROM s;
         CREATE TABLE minutes AS SELECT window_start, account, count(*) AS n, sum(amount) AS total FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start, account;
         CREATE SINK minutes_there FROM minutes WITH (connector = 'postgres', url = '{postgres}', table = 'minutes', mode = 'upsert', key = 'window_start, account',
           retention = '20 minutes', time = 'window_start');
         CREATE SINK minutes_hot FROM minutes WITH (connector = 'redis', url = '{redis}', key = 'minute:{{window_start}}:{{account}}', retention = '5 minutes');
         CREATE SINK clean_there FROM clean WITH (connector = 'postgres', url = '{postgres}', table = 'facts.clean', mode = 'upsert', key = 'id');
         CREATE SINK clean_hot FROM clean WITH (connector = 'redis', url = '{redis}', key = 'row:{{id}}');"
    )
}

/// An answer: its status, its headers by lower-case name, its body.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn rows(&self) -> Vec<serde_json::Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("an array")
    }
    /// What a tier did: `used, rows 3, epoch 7`.
    fn tier(&self, name: &str) -> String {
        let all = &self.headers["x-watershed-tiers"];
        all.split("; ").find_map(|tier| tier.strip_prefix(&format!("{name}="))).unwrap_or_else(|| panic!("no {name} in {all}")).to_owned()
    }
    /// How many rows came from a tier.
    fn from(&self, name: &str) -> usize {
        self.tier(name).split("rows ").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    }
}

struct Up {
    child: Child,
    address: String,
}

impl Up {
    fn start(project: &Project) -> Up {
        let child = project.spawn(&["up"]);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let run: serde_json::Value = std::fs::read_to_string(project.path(".watershed/run.json")).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            if run["pid"].as_u64() == Some(u64::from(child.id())) {
                return Up { child, address: run["address"].as_str().expect("an address").to_owned() };
            }
            assert!(Instant::now() < until, "the API did not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    fn get(&self, path: &str, accept: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"))
    }

    /// Asks until the answer is as wanted.
    fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get(path, "*/*");
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "{path}: {} {:?} {}", answer.status, answer.headers, &answer.body[..answer.body.len().min(600)]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ingest(&self, minutes: std::ops::Range<u64>) {
        let line =
            |id: u64| format!(r#"{{"id":{id},"account":"a{}","amount":{}.25,"at":"2026-01-01T00:{:02}:{:02}Z","tags":{{"k":"v,\"{id}\""}}}}"#, id % 3, id % 7, id / 6, id % 6 * 10);
        let body: Vec<String> = (minutes.start * 6..minutes.end * 6).map(line).collect();
        let body = body.join("\n");
        let answer = self.send(&format!("POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_range_is_merged_over_three_tiers_and_each_of_them_can_go_away() {
    let (postgres, redis) = (servers::postgres(), servers::redis());
    let project = Project::new(&sql(&postgres.address, &redis.address));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"60ms\"\nmaintenance_interval = \"200ms\"\n[serve]\nlisten = \"127.0.0.1:0\"\n");
    let up = Up::start(&project);
    // In pieces, so that there are many epochs; the last minute closes when its successor begins.
    for minute in 0..40 {
        up.ingest(minute..minute + 1);
    }
    let all = "/v1/tables/minutes?from=2026-01-01T00:00:00Z&to=2026-01-01T00:39:00Z";
    // Hot holds five minutes behind the newest, warm twenty, once its housekeeping has been round.
    let settled = |answer: &Answer| (answer.from("cold"), answer.from("warm"), answer.from("hot")) == (18 * 3, 15 * 3, 6 * 3);
    let whole = up.until(all, |answer| answer.status == 200 && answer.rows().len() == 39 * 3 && settled(answer));
    let expected: Vec<String> = project.query("SELECT * FROM minutes");
    let rows = whole.rows();
    assert_eq!(rows.len(), expected.len());
    assert_eq!(rows[0], serde_json::json!({"window_start": "2026-01-01T00:00:00Z", "account": rows[0]["account"], "n": 2, "total": rows[0]["total"]}));
    assert!(rows.windows(2).all(|pair| pair[0]["window_start"].as_str() <= pair[1]["window_start"].as_str()), "the oldest first");
    let sorted = |answer: &Answer| {
        let mut rows: Vec<String> = answer.rows().iter().map(ToString::to_string).collect();
        rows.sort();
        rows
    };
    let same = |answer: &Answer| assert_eq!(sorted(answer), sorted(&whole), "{:?}", answer.headers);

    // Each border alone, and pieces that touch: nothing is missing and nothing is twice.
    for cut in ["00:17:59.999999", "00:18:00", "00:18:00.000001", "00:33:00", "00:33:30", "00:36:00"] {
        let (left, right) = (up.get(&format!("/v1/tables/minutes?to=2026-01-01T{cut}Z"), "*/*"), up.get(&format!("/v1/tables/minutes?from=2026-01-01T{cut}Z"), "*/*"));
        let mut joined: Vec<String> = left.rows().iter().chain(&right.rows()).map(ToString::to_string).collect();
        joined.sort();
        assert_eq!(joined, sorted(&whole), "cut at {cut}");
    }
    let some = up.get("/v1/tables/minutes?limit=55&columns=n,window_start", "text/csv");
    assert_eq!((some.body.lines().count(), some.body.lines().next(), some.headers["x-watershed-more"].as_str()), (56, Some("n,window_start"), "true"));
    assert_eq!(up.get("/v1/tables/minutes?limit=5", "application/x-ndjson").body.lines().count(), 5);

    // By key: hot where it is, cold where it has gone from the others; several at once; none.
    for (minute, tier) in [("38", "hot"), ("20", "warm"), ("05", "cold")] {
        let found = up.get(&format!("/v1/tables/minutes?key=2026-01-01T00:{minute}:00Z,a1"), "*/*");
        assert_eq!((found.rows().len(), found.from(tier)), (1, 1), "{minute}: {:?}", found.headers);
        assert_eq!(found.rows()[0]["window_start"], format!("2026-01-01T00:{minute}:00Z"));
    }
    let two = up.get("/v1/tables/minutes?key=2026-01-01T00:38:00Z,a1&key=2026-01-01T00:05:00Z,a2&key=2026-01-01T00:38:00Z,nobody", "*/*");
    assert_eq!((two.rows().len(), two.from("hot"), two.from("cold")), (2, 1, 1));
    let fact = up.get("/v1/tables/clean?key=7&columns=id,amount", "*/*");
    assert_eq!((fact.rows(), fact.from("hot")), (vec![serde_json::json!({"id": 7, "amount": "0.25"})], 1), "{:?}", fact.headers);
    assert_eq!(up.get("/v1/tables/clean?key=99999", "*/*").rows().len(), 0);
    let nested = |answer: &Answer| assert_eq!(answer.rows()[0]["tags"], serde_json::json!({"k": "v,\"8\""}), "{:?}", answer.headers);
    nested(&up.get("/v1/tables/clean?key=8", "*/*"));

    let wrong = up.get("/v1/tables/minutse", "*/*");
    assert!(wrong.status == 404 && wrong.body.contains("Did you mean \\\"minutes\\\"?"), "{}", wrong.body);
    assert_eq!(up.get("/v1/tables/minutes", "text/html").status, 406);
    assert_eq!(up.get("/v1/tables/minutes?key=7", "*/*").status, 400);

    // The warehouse in queries, joined with the lake.
    let joined = project
        .run(&[
            "query",
            "--format",
            "csv",
            "SELECT count(*) AS n FROM warehouse.minutes_there w JOIN minutes l ON w.window_start = l.window_start AND w.account = l.account AND w.total = l.total",
        ])
        .ok();
    assert_eq!(joined.stdout.lines().nth(1), Some("63"), "{}", joined.stdout);
    let explained = project.run(&["query", "EXPLAIN SELECT total FROM warehouse.minutes WHERE account = 'a1' LIMIT 2"]).ok();
    assert!(explained.stdout.contains("SELECT \"total\" FROM \"public\".\"minutes\" WHERE (\"account\" = 'a1') LIMIT 2"), "{}", explained.stdout);
    project.run(&["query", "SELECT * FROM clean_there"]).refused(&["CLI0066", "warehouse.clean_there"]);

    redis.tell(&["kill"]);
    let without = up.until(all, |answer| answer.tier("hot").starts_with("down"));
    same(&without);
    assert!(without.tier("hot") == "down, RDS0002" && without.headers["warning"].contains("hot is down, warm and cold answered"), "{:?}", without.headers);
    nested(&up.get("/v1/tables/clean?key=8", "*/*"));
    postgres.tell(&["kill"]);
    let without = up.until(all, |answer| answer.status == 200 && answer.tier("warm").starts_with("down"));
    same(&without);
    assert_eq!(without.from("cold"), 39 * 3);
    nested(&up.get("/v1/tables/clean?key=8", "*/*"));

    // Both come back; what the Redis may have lost is not asked of it.
    redis.tell(&["restart"]);
    postgres.tell(&["restart"]);
    same(&up.until(all, |answer| answer.status == 200 && answer.from("warm") > 0));
    up.ingest(40..45);
    // From its next stamp on it is asked again, for times after all that came before.
    up.until("/v1/tables/minutes", |answer| answer.rows().len() == 44 * 3 && answer.tier("hot").starts_with("used, rows 0"));
    up.ingest(45..50);
    let later = up.until("/v1/tables/minutes", |answer| answer.rows().len() == 49 * 3 && answer.from("hot") > 0);
    let mut seen: Vec<String> = later.rows().iter().map(|row| format!("{} {}", row["window_start"], row["account"])).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 49 * 3, "every minute once");
    signal(up.child.id(), "TERM");
}
