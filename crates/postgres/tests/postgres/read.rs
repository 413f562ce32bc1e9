//! Tables read back through DataFusion: the same rows whether Postgres filters or DataFusion does.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use watershed_postgres::read::PostgresReader;
use watershed_types::{Error, Kind};

use crate::server::Server;
use crate::support::{options, runtime, shared, sql};

/// A session over one Postgres table as `t`.
fn session(url: &str, table: &str) -> SessionContext {
    let reader = PostgresReader::new(options(url, &[("table", table)]).expect("options"), "shop", runtime().handle().clone());
    let context = SessionContext::new();
    context.register_table("t", Arc::new(runtime().block_on(reader.open()).expect("a table"))).expect("a name of its own");
    context
}

fn ask(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    runtime().block_on(async { context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await.unwrap_or_else(|e| panic!("{sql}: {e}")) })
}

fn shown(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).expect("shown").to_string()
}

/// The statement that goes to Postgres.
fn sent(context: &SessionContext, sql: &str) -> String {
    let plan = shown(&ask(context, &format!("EXPLAIN {sql}")));
    let line = plan.lines().find(|line| line.contains("PostgresExec: sql=")).unwrap_or_else(|| panic!("no PostgresExec in\n{plan}")).to_owned();
    line.split("sql=").nth(1).expect("the SQL").trim_end_matches([' ', '|']).to_owned()
}

const EVERY: &str = "CREATE TABLE every_kind (
  id int8 PRIMARY KEY, ok bool, small int2, whole int4, single float4, double float8, price numeric(18,2), any_number numeric, word text, \"we\"\"ird Name\" varchar(20),
  padded char(5), raw bytea, day date, moment time, at timestamp, zoned timestamptz, key uuid, doc jsonb, json_text json, tags text[], numbers int4[], prices numeric(9,3)[], address inet, gap interval);
INSERT INTO every_kind VALUES
 (1, true, -5, 7, 1.5, 0.1, -0.01, 123456789012345678901234567890.5, 'O''Brien \\', 'Zoë', 'ab', '\\x00ff', '2024-02-29', '13:05:00.000001', '2024-02-29 13:05:00.5', '2024-02-29 13:05:00+02',
  '0190aab8-0000-7000-8000-00000000beef', '{\"a\": [1]}', '[ 1]', '{a,NULL,\"b c\"}', '{}', '{1.5,-2}', '10.0.0.1', '1 day'),
 (2, false, 5, -7, '-Infinity', 'NaN', 1234567.89, 0, 'a', 'B', 'ab   ', '\\x', '0001-01-01', '00:00', '1969-12-31 23:59:59.999999', '9999-12-31 00:00+00',
  '00000000-0000-0000-0000-000000000000', 'null', '{}', '{}', '{1,2}', NULL, '::1', '-3 months'),
 (3, NULL, NULL, NULL, -0.0, -0.0, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, true, 0, 0, 0.0, 0.0, 0, -1, 'Ä', 'b', 'cd', '\\xff', '2024-03-01', '12:00', '2024-03-01', '2024-03-01 00:00+00', NULL, '1', '1', NULL, NULL, '{}', NULL, NULL)";

#[test]
fn every_type_is_read_and_filters_keep_the_same_rows_on_both_sides() {
    let url = &shared().url;
    sql(url, EVERY);
    let there = session(url, "every_kind");
    let all = ask(&there, "SELECT * FROM t ORDER BY id");
    let kinds: Vec<String> = all[0].schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
    assert_eq!(kinds[6..9], ["price: Decimal128(18, 2)", "any_number: Utf8", "word: Utf8"]);
    assert_eq!(kinds[14..16], ["at: Timestamp(µs)", "zoned: Timestamp(µs, \"UTC\")"]);
    let text = shown(&all);
    for value in [
        "123456789012345678901234567890.5",
        "0190aab8-0000-7000-8000-00000000beef",
        "13:05:00.000001",
        "2024-02-29T11:05:00Z",
        "1969-12-31T23:59:59.999999",
        "[a, , b c]",
        "{\"a\": [1]}",
        "[1.500, -2.000]",
        "10.0.0.1",
        "00ff",
    ] {
        assert!(text.contains(value), "{value} is not in\n{text}");
    }
    // The same rows in memory: DataFusion does all the filtering there.
    let here = SessionContext::new();
    here.register_table("t", Arc::new(MemTable::try_new(all[0].schema(), vec![all.clone()]).expect("a table"))).expect("a name of its own");
    let filters = [
        "id IN (1, 3)",
        "id NOT IN (1, 3)",
        "small < 0",
        "whole >= 0",
        "ok",
        "NOT ok",
        "ok IS NOT TRUE",
        "ok IS NULL",
        "single < 1",
        "single >= 0",
        "double = 0.1",
        "double <> 0.1",
        "double < 0.5",
        "double > 0",
        "double = 0",
        "double > 'NaN'",
        "price = -0.01",
        "price BETWEEN -1 AND 1",
        "price NOT BETWEEN -1 AND 1",
        "any_number = '0'",
        "word = 'O''Brien \\'",
        "word <> 'a'",
        "word > 'a'",
        "word >= 'Z'",
        "word < 'Ä'",
        "word LIKE '_'",
        "word NOT LIKE 'a%'",
        "word ILIKE 'A'",
        "\"we\"\"ird Name\" = 'Zoë'",
        "\"we\"\"ird Name\" > 'B'",
        "padded = 'ab'",
        "padded = 'ab   '",
        "raw = X'00ff'",
        "raw > X'00'",
        "day = DATE '0001-01-01'",
        "day > DATE '2024-02-29'",
        "moment IS NOT NULL",
        "at < TIMESTAMP '1970-01-01 00:00:00'",
        "at = '2024-02-29T13:05:00.5'",
        "zoned = TIMESTAMPTZ '2024-02-29 11:05:00+00'",
        "zoned > '2024-03-01T00:00:00Z'",
        "key = '0190aab8-0000-7000-8000-00000000beef'",
        "key = '0190AAB8-0000-7000-8000-00000000BEEF'",
        "key > '0'",
        "doc = 'null'",
        "address = '::1'",
        "tags IS NULL",
        "price IS NULL OR word = ''",
        "(small < 0 AND ok) OR (whole = 0 AND NOT (id = 3))",
        "at > now()",
        "length(word) = 1",
    ];
    for filter in filters {
        let query = format!("SELECT id FROM t WHERE {filter} ORDER BY id");
        assert_eq!(shown(&ask(&there, &query)), shown(&ask(&here, &query)), "{filter}, sent: {}", sent(&there, &query));
    }
}

#[test]
fn projections_filters_and_limits_are_sent_and_explain_shows_them() {
    let url = &shared().url;
    sql(
        url,
        "CREATE SCHEMA \"odd schema\"; CREATE TABLE \"odd schema\".\"ta\"\"ble\" (id int8, \"select\" text, x float8); INSERT INTO \"odd schema\".\"ta\"\"ble\" SELECT n, 'v' || n, n FROM generate_series(1, 20000) n",
    );
    let there = session(url, "odd schema.ta\"ble");
    assert_eq!(
        sent(&there, "SELECT \"select\" FROM t WHERE id > 19990 AND \"select\" <> 'it''s' LIMIT 3"),
        "SELECT \"select\" FROM \"odd schema\".\"ta\"\"ble\" WHERE (\"id\" > 19990) AND (\"select\" <> 'it''s') LIMIT 3"
    );
    assert_eq!(ask(&there, "SELECT \"select\" FROM t WHERE id > 19990 AND \"select\" <> 'it''s' LIMIT 3").iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    // What Postgres may keep more of is filtered again, and so the limit stays here.
    assert!(!sent(&there, "SELECT id FROM t WHERE x > 5 LIMIT 3").contains("LIMIT"));
    assert_eq!(shown(&ask(&there, "SELECT count(*) AS n, sum(id) AS s FROM t")).lines().nth(3), Some("| 20000 | 200010000 |"));
    // Joins need nothing more.
    assert_eq!(ask(&there, "SELECT a.id FROM t a JOIN t b ON a.id = b.id WHERE b.id <= 10").iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
}

#[test]
fn what_arrow_cannot_hold_names_the_column() {
    let url = &shared().url;
    sql(
        url,
        "CREATE TABLE unholdable (id int8, till timestamptz, price numeric(9,2), grid int4[]); INSERT INTO unholdable VALUES (1, 'infinity', 1, '{1}'), (2, now(), 'NaN', '{1}'), (3, now(), 1, '{{1},{2}}')",
    );
    let there = session(url, "unholdable");
    for (id, what) in [
        (1, "column \"till\" (timestamp with time zone) holds an infinite timestamp"),
        (2, "column \"price\" (numeric(9,2)) holds NaN"),
        (3, "column \"grid\" (integer[]) holds an array of more than one dimension"),
    ] {
        let failed = runtime().block_on(async { there.sql(&format!("SELECT * FROM t WHERE id = {id}")).await.expect("a plan").collect().await }).expect_err("no such value");
        let error = Error::find(&failed).expect("an error of ours");
        assert!(error.code() == "PG0032" && error.message().contains(what), "{}", error.report());
    }
}

#[test]
fn a_dead_server_is_said_so_and_the_next_query_connects_again() {
    let server = Server::start(true);
    sql(&server.url, "CREATE TABLE rows_of_it AS SELECT n::int8 AS id FROM generate_series(1, 10) n");
    let there = session(&server.url, "rows_of_it");
    assert_eq!(ask(&there, "SELECT * FROM t")[0].num_rows(), 10);
    server.kill();
    for _ in 0..2 {
        let failed = runtime().block_on(async { there.sql("SELECT * FROM t").await.expect("a plan").collect().await }).expect_err("nobody there");
        let error = Error::find(&failed).expect("an error of ours");
        assert_eq!((error.code(), error.kind()), ("PG0030", Kind::Unavailable), "{}", error.report());
        assert!(error.message().contains("public.rows_of_it"), "{}", error.report());
    }
    server.restart();
    assert_eq!(ask(&there, "SELECT * FROM t")[0].num_rows(), 10);
    let missing = PostgresReader::new(options(&server.url, &[("table", "nowhere")]).expect("options"), "shop", runtime().handle().clone());
    assert_eq!(runtime().block_on(missing.open()).expect_err("no table").code(), "PG0031");
}

#[test]
fn a_read_given_up_stops_at_the_server_and_cannot_write() {
    let url = &shared().url;
    sql(url, "CREATE TABLE long_one AS SELECT n::int8 AS id, repeat('x', 200) AS filler FROM generate_series(1, 300000) n");
    let there = session(url, "long_one");
    assert_eq!(ask(&there, "SELECT id FROM t WHERE length(filler) = 200 LIMIT 1")[0].num_rows(), 1, "a limit that stays here ends the scan early");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%long_one%' AND pid <> pg_backend_pid()";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while sql(url, running) != ["0"] {
        assert!(std::time::Instant::now() < until, "the statement still runs");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let reader = PostgresReader::new(options(url, &[("table", "long_one")]).expect("options"), "shop", runtime().handle().clone());
    let refused = runtime().block_on(async { reader.client().await.expect("a connection").batch_execute("DELETE FROM long_one").await }).expect_err("read-only");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
}
