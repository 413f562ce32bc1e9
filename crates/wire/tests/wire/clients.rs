//! What clients do.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use openssl::ssl::{SslConnector, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use watershed_wire::{TlsFiles, Verifier};

use crate::world::{connect, options, serve, try_connect};

/// Runs `psql` as a person does; its output, and whether it was content.
fn psql(address: SocketAddr, user: &str, extra: &[(&str, &str)], commands: &[&str]) -> (bool, String, String) {
    let mut command = Command::new("psql");
    command.args(["-X", "-v", "ON_ERROR_STOP=1", "-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-U", user, "-d", "watershed"]);
    for sql in commands {
        command.args(["-c", sql]);
    }
    command.env_remove("PGPASSWORD").env("PGCONNECT_TIMEOUT", "20").envs(extra.iter().copied());
    let done = command.output().expect("psql is installed");
    (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[track_caller]
fn psql_ok(address: SocketAddr, commands: &[&str]) -> String {
    let (fine, out, err) = psql(address, "anybody", &[], commands);
    assert!(fine, "{commands:?}\n{out}\n{err}");
    out
}

#[test]
fn psql_lists_describes_and_reads() {
    let server = serve(options());
    let at = server.address;
    let tables = psql_ok(at, &["\\dt", "\\dt system.*", "\\dn", "\\l"]);
    for word in ["payments", "clock", "ledger", "watershed"] {
        assert!(tables.contains(word), "{word}:\n{tables}");
    }
    let described = psql_ok(at, &["\\d payments"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["id | bigint", "customer | text", "amount | numeric", "at | timestamp with time zone", "local_at | timestamp without time zone", "tags | text[]"] {
        assert!(described.contains(line), "{line}:\n{described}");
    }
    psql_ok(at, &["\\d+ payments", "\\dt+", "\\d", "\\dv", "\\di"]);
    let rows = psql_ok(at, &["SELECT * FROM payments ORDER BY id"]);
    for cell in
        ["12.50", "-0.99", "99999999999999999999999999999.999999999", "2026-01-01 00:00:00+00 ", "2026-01-01 00:00:00.123456+00", r#"{a,"b \"c\""}"#, r#"{"device":7}"#, "böb"]
    {
        assert!(rows.contains(cell), "{cell}:\n{rows}");
    }
    assert!(psql_ok(at, &["SELECT version()"]).contains("PostgreSQL 16.6 (Watershed"));
    assert!(psql_ok(at, &["SET search_path = system", "SELECT count(*) AS n FROM ledger"]).contains('2'));
    assert!(psql_ok(at, &["EXPLAIN SELECT * FROM payments"]).contains("TableScan"));
    let (fine, _, err) = psql(at, "anybody", &[], &["DELETE FROM payments"]);
    assert!(!fine && err.contains("DELETE is refused: this port only reads") && err.contains("HINT"), "{err}");
    let (fine, _, err) = psql(at, "anybody", &[], &["SELECT 1 AS a INTO x"]);
    assert!(!fine && err.contains("only reads"), "{err}");
}

/// What Grafana, Metabase, DBeaver, pgAdmin and pgcli send, one after the other.
const TOOLS: &str = include_str!("tools.sql");

#[tokio::test(flavor = "multi_thread")]
async fn what_tools_ask_about_the_database_is_answered() {
    let server = serve(options());
    let client = connect(server.address, "user=grafana").await;
    let mut wrong = Vec::new();
    let mut tables = Vec::new();
    for (tool, sql) in TOOLS.split("\n;;\n").filter_map(|part| part.split_once('\n')) {
        match client.simple_query(sql).await {
            Ok(messages) if tool == "-- grafana" => {
                tables.extend(messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0).map(str::to_owned) } else { None }))
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{sql}\n{error:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // Grafana's list names those of the search path without their schema.
    assert_eq!(tables, ["clock", "payments", "system.ledger", "id", "customer", "amount", "large", "at", "local_at", "tags", "metadata"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_parameters_and_keep_types() {
    let server = serve(options());
    let client = connect(server.address, "user=anybody").await;
    let rows = client
        .query(
            "SELECT id, customer, at, local_at, tags, amount::float8 AS amount FROM payments WHERE id >= $1 AND (customer = $2 OR customer IS NULL) ORDER BY id",
            &[&2_i64, &"böb"],
        )
        .await
        .expect("rows");
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].get::<_, i64>(0), rows[0].get::<_, &str>(1), rows[1].get::<_, Option<&str>>(1)), (2, "böb", None));
    assert_eq!(rows[0].get::<_, SystemTime>(2), SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456));
    assert_eq!(rows[0].get::<_, SystemTime>(3), SystemTime::UNIX_EPOCH + Duration::from_micros(1));
    assert_eq!((rows[0].get::<_, Vec<String>>(4), rows[0].get::<_, Option<f64>>("amount")), (vec![], Some(-0.99)));
    let types: Vec<String> = client.prepare("SELECT * FROM payments").await.expect("prepared").columns().iter().map(|c| c.type_().name().to_owned()).collect();
    assert_eq!(types, ["int8", "text", "numeric", "numeric", "timestamptz", "timestamp", "_text", "json"]);
    assert_eq!(client.query_one("SELECT $1::int4 + 1", &[&41_i32]).await.expect("a row").get::<_, i64>(0), 42);

    // A prepared statement sees what is committed when it runs; a transaction sees one state.
    let look = client.prepare("SELECT look FROM clock").await.expect("prepared");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(client.query_one(&look, &[]).await.expect("a row").get::<_, i64>(0));
    }
    assert!(seen[0] < seen[1], "{seen:?}");
    client.batch_execute("BEGIN").await.expect("a transaction");
    let first: i64 = client.query_one(&look, &[]).await.expect("a row").get(0);
    assert_eq!(client.query_one("SELECT look FROM clock", &[]).await.expect("a row").get::<_, i64>(0), first);
    let error = client.query("SELECT nothing FROM clock", &[]).await.expect_err("no such column");
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    let error = client.simple_query("SELECT 1").await.expect_err("the transaction has failed");
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    client.batch_execute("ROLLBACK").await.expect("an end");
    assert!(client.query_one(&look, &[]).await.expect("a row").get::<_, i64>(0) > first);

    for (sql, state) in [
        ("INSERT INTO payments VALUES (1)", SqlState::READ_ONLY_SQL_TRANSACTION),
        ("CREATE TABLE x (a int)", SqlState::READ_ONLY_SQL_TRANSACTION),
        ("SELECT * FROM nowhere", SqlState::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION),
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SET nonsense = 1", SqlState::UNDEFINED_OBJECT),
        ("COPY payments TO STDOUT", SqlState::FEATURE_NOT_SUPPORTED),
    ] {
        let error = client.query(sql, &[]).await.expect_err(sql);
        assert_eq!(error.code(), Some(&state), "{sql}: {error:?}");
        assert!(client.simple_query("SELECT 1").await.is_ok(), "the connection goes on after {sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_pieces_by_portal_and_by_cursor() {
    let server = serve(options());
    let mut client = connect(server.address, "user=anybody").await;
    let transaction = client.transaction().await.expect("a transaction");
    let portal = transaction.bind("SELECT value FROM generate_series(1, 100000) ORDER BY value", &[]).await.expect("a portal");
    let mut total = 0_i64;
    loop {
        let rows = transaction.query_portal(&portal, 7_000).await.expect("rows");
        total += rows.iter().map(|r| r.get::<_, i64>(0)).sum::<i64>();
        if rows.len() < 7_000 {
            break;
        }
    }
    assert_eq!(total, 100_000 * 100_001 / 2);
    transaction.commit().await.expect("a commit");
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM payments ORDER BY id").await.expect("a cursor");
    let mut counts = Vec::new();
    for fetch in ["FETCH 2 FROM c", "FETCH ALL FROM c", "FETCH NEXT FROM c"] {
        let messages = client.simple_query(fetch).await.expect(fetch);
        counts.push(messages.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count());
    }
    assert_eq!(counts, [2, 1, 0]);
    client.batch_execute("CLOSE c; COMMIT").await.expect("an end");
    let error = client.simple_query("FETCH 1 FROM c").await.expect_err("it is closed");
    assert_eq!(error.code(), Some(&SqlState::INVALID_CURSOR_NAME));
}

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000000) b WHERE (a.value + b.value) % 7 = 3";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_when_it_is_cancelled_or_takes_too_long() {
    let server = serve(options());
    let client = connect(server.address, "user=anybody").await;
    client.batch_execute("SET statement_timeout = '300ms'").await.expect("a setting");
    let error = client.simple_query(ENDLESS).await.expect_err("too slow");
    assert_eq!((error.code(), error.as_db_error().map(|e| e.message().contains("statement_timeout"))), (Some(&SqlState::QUERY_CANCELED), Some(true)));
    client.batch_execute("SET statement_timeout = 0").await.expect("a setting");
    let cancel = client.cancel_token();
    let other = connect(server.address, "user=anybody").await;
    let running = tokio::spawn(async move { (client.simple_query(ENDLESS).await, client) });
    // A cancel request that comes before its statement does nothing, so they are sent until it has come.
    let stop = tokio::spawn(async move {
        loop {
            cancel.cancel_query(tokio_postgres::NoTls).await.expect("a cancel request");
            other.simple_query("SELECT 1").await.expect("others go on");
        }
    });
    let (ended, client) = running.await.expect("an end");
    stop.abort();
    assert_eq!(ended.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    // A late request may hit the next statement; the connection lives on in any case.
    let mut alive = false;
    for _ in 0..100 {
        alive |= client.simple_query("SELECT 1").await.is_ok();
    }
    assert!(alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_a_right_one_is_not() {
    let mut with_users = options();
    with_users.users.insert("bi".to_owned(), Verifier::of_password("pässword").expect("a verifier"));
    let server = serve(with_users);
    let (fine, out, _) = psql(server.address, "bi", &[("PGPASSWORD", "pässword")], &["SELECT session_user, 40 + 2 AS n"]);
    assert!(fine && out.contains("42"), "{out}");
    for (user, password) in [("bi", "wrong"), ("bi", ""), ("nobody", "pässword"), ("nobody", "wrong")] {
        let (fine, _, err) = psql(server.address, user, &[("PGPASSWORD", password)], &["SELECT 1"]);
        assert!(!fine, "{user} {password}");
        assert!(password.is_empty() || err.contains(&format!("the password of user \"{user}\" is wrong")), "{err}");
    }
    let error = try_connect(server.address, "user=bi password=wrong").await.err().expect("a refusal");
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
    connect(server.address, "user=bi password=pässword").await.simple_query("SELECT 1").await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_nothing_is_served_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let mut options = options();
    options.tls = Some(TlsFiles { certificate: certificate.clone(), key });
    options.users.insert("bi".to_owned(), Verifier::of_password("secret").expect("a verifier"));
    let server = serve(options.clone());
    let error = try_connect(server.address, "user=bi password=secret").await.err().expect("a refusal");
    assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));

    let mut builder = SslConnector::builder(SslMethod::tls()).expect("a connector");
    builder.set_ca_file(&certificate).expect("the certificate vouches for itself");
    let tls = MakeTlsConnector::new(builder.build());
    let (client, connection) =
        tokio_postgres::connect(&format!("host=127.0.0.1 port={} user=bi password=secret sslmode=require", server.address.port()), tls).await.expect("a connection");
    tokio::spawn(connection);
    assert_eq!(client.query("SELECT id FROM payments", &[]).await.expect("rows").len(), 3);
    let root = certificate.display().to_string();
    let (fine, out, err) = psql(server.address, "bi", &[("PGPASSWORD", "secret"), ("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &root)], &["\\conninfo", "SELECT 1"]);
    assert!(fine && out.contains("TLSv1.3"), "{out}{err}");
    let (fine, _, _) = psql(server.address, "bi", &[("PGPASSWORD", "secret"), ("PGSSLMODE", "disable")], &["SELECT 1"]);
    assert!(!fine);

    std::fs::write(&certificate, "no certificate").expect("a file");
    let error =
        watershed_wire::Server::start(watershed_wire::bind("127.0.0.1:0").expect("a port"), std::sync::Arc::new(crate::world::World::default()), options).err().expect("a refusal");
    assert_eq!(error.code(), "WIRE0005");
}
