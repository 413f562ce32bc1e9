//! The Postgres port of `watershed up`: tables of one epoch, refusals at the start, and noise that the pipeline does not hear.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::support::{Project, signal};

/// Both tables get every row, so that their counts agree in every epoch and in no state between two.
const SQL: &str = "CREATE SOURCE s (id BIGINT NOT NULL, tags MAP<VARCHAR, VARCHAR>, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'http');
    CREATE TABLE first_table AS SELECT * FROM s;
    CREATE TABLE second_table AS SELECT id + 1 AS id FROM s;";

/// The addresses of the API and of the Postgres port.
fn addresses(project: &Project, process: u32) -> (String, String) {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        let run: serde_json::Value = std::fs::read(project.path(".watershed/run.json")).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
        if run["pid"].as_u64() == Some(u64::from(process)) {
            let text = |name: &str| run[name].as_str().expect("an address").to_owned();
            return (text("address"), text("postgres"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the project did not come up");
}

async fn client(address: &str) -> Client {
    let (host, port) = address.rsplit_once(':').expect("a port");
    let (client, connection) = tokio_postgres::connect(&format!("host={host} port={port} user=test dbname=watershed"), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn post(address: &str, from: i64, rows: i64) {
    let body: String = (from..from + rows).map(|id| format!("{{\"id\":{id},\"tags\":{{\"k\":\"v\"}},\"at\":\"2026-01-01T00:00:00Z\"}}\n")).collect();
    let mut stream = TcpStream::connect(address).expect("the API");
    write!(stream, "POST /v1/ingest/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_read_side_by_side_as_of_one_epoch() {
    let project = Project::new(SQL);
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"50ms\"\nparallelism = 2\n");
    let mut child = project.spawn(&["up", "--listen", "127.0.0.1:0", "--postgres", "127.0.0.1:0"]);
    let (api, postgres) = addresses(&project, child.id());
    let reader = client(&postgres).await;
    let mut seen = std::collections::BTreeSet::new();
    let (mut sent, started) = (0, Instant::now());
    while seen.len() < 12 {
        assert!(started.elapsed() < Duration::from_secs(90), "only {seen:?} after {sent} rows");
        let batch = sent;
        let at = api.clone();
        let posting = tokio::task::spawn_blocking(move || post(&at, batch, 50));
        sent += 50;
        let counted = "SELECT (SELECT count(*) FROM first_table) AS a, (SELECT count(*) FROM second_table) AS b, (SELECT sum(delivered) FROM system.ledger WHERE table_name = 'first_table') AS c";
        match reader.query_one(counted, &[]).await {
            Ok(row) => {
                let (first, second, ledger): (i64, i64, Option<i64>) = (row.get(0), row.get(1), row.get(2));
                assert_eq!((first, second), (ledger.unwrap_or(0), ledger.unwrap_or(0)), "a statement saw two epochs");
                seen.insert(first);
            }
            // Before the first epoch there is no table, or an empty one and no ledger.
            Err(error) => assert!(seen.is_empty() && !error.is_closed(), "{error:?}"),
        }
        posting.await.expect("posted");
    }
    // A transaction keeps its epoch while others come.
    reader.batch_execute("BEGIN").await.expect("a transaction");
    let before: i64 = reader.query_one("SELECT count(*) FROM first_table", &[]).await.expect("a row").get(0);
    let (at, other) = (api.clone(), client(&postgres).await);
    tokio::task::spawn_blocking(move || post(&at, sent, 50)).await.expect("posted");
    while other.query_one("SELECT count(*) FROM first_table", &[]).await.expect("a row").get::<_, i64>(0) <= before {
        assert!(started.elapsed() < Duration::from_secs(120), "the rows never came");
    }
    assert_eq!(reader.query_one("SELECT count(*) FROM second_table", &[]).await.expect("a row").get::<_, i64>(0), before);
    reader.batch_execute("COMMIT").await.expect("an end");
    assert!(reader.query_one("SELECT count(*) FROM second_table", &[]).await.expect("a row").get::<_, i64>(0) > before);

    let error = reader.query("SELECT * FROM first_tabel", &[]).await.expect_err("no such table");
    let said = error.as_db_error().expect("a refusal");
    assert_eq!((said.code().code(), said.hint().is_some_and(|h| h.contains("Did you mean first_table?"))), ("42P01", true), "{said:?}");
    let shown = Command::new("psql")
        .args(["-X", "-At", "-d", &format!("postgres://test@{postgres}/watershed"), "-c", "SELECT tags FROM first_table LIMIT 1"])
        .output()
        .expect("psql is installed");
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), r#"{"k":"v"}"#, "{shown:?}");

    // Noise on the port, and then records still become rows.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 4096], b"\x00\x00\x00\x08\x04\xd2\x16\x2f"] {
        let mut socket = TcpStream::connect(&postgres).expect("the port");
        let _ = socket.write_all(bytes);
    }
    assert!(child.try_wait().expect("its state").is_none(), "`up` goes on");
    assert!(reader.query_one("SELECT count(*) FROM first_table", &[]).await.is_ok());
    signal(child.id(), "TERM");
    assert!(child.wait().expect("its end").success());
    project.run(&["verify"]).ok();
}

#[test]
fn a_port_for_everybody_is_refused_before_anything_starts() {
    let project = Project::new(SQL);
    for (settings, code) in [
        ("[serve]\npostgres = \"0.0.0.0:0\"\n", "WIRE0001"),
        ("[serve]\npostgres = \"127.0.0.1:0\"\n[serve.postgres_users.bi]\npassword_env = \"WATERSHED_NO_SUCH_VARIABLE\"\n", "WIRE0006"),
        ("[serve]\npostgres = \"127.0.0.1:0\"\n[serve.postgres_users.bi]\nverifier = \"secret\"\n", "WIRE0006"),
        ("[serve]\npostgres = \"127.0.0.1:0\"\npostgres_tls = { certificate = \"none.crt\", key = \"none.key\" }\n", "WIRE0005"),
        ("[serve]\npostgres = \"nowhere\"\n", "WIRE0003"),
    ] {
        project.write("watershed.toml", format!("name = \"p\"\n{settings}"));
        let ran = project.run(&["up", "--listen", "127.0.0.1:0"]).refused(&[code]);
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
        assert!(!project.path(".watershed/run.json").exists());
    }
}
