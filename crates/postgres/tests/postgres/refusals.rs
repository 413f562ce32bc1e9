//! Rows the server does not take: exactly those, with its words, and the others land.

use watershed_ports::{Recount, RefusedRow, Target};
use watershed_types::{Epoch, Generation, Kind};

use crate::proxy::Proxy;
use crate::support::*;

fn ordinals(refused: &[RefusedRow]) -> Vec<u64> {
    refused.iter().map(|row| row.row).collect()
}

#[test]
fn append_refuses_exactly_the_bad_rows() {
    let url = &shared().url;
    sql(
        url,
        "CREATE TABLE bad_append (id int8 PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name varchar(10) NOT NULL, amount numeric(18,2) CHECK (amount >= 0), gone bool,
         at timestamptz DEFAULT now())",
    );
    let target = target(url, &[("table", "bad_append")], schema());
    target.claim(Generation(1)).expect("claim");
    let mut rows: Vec<(Option<i64>, &str, i128, bool)> = (0..20_000).map(|id| (Some(id), "fine", 100, false)).collect();
    rows[5].1 = "much too long a name";
    rows[6].1 = "nul\0";
    rows[7_000].2 = -1;
    rows[12_345].0 = None;
    rows[12_346].0 = Some(3); // the key of an earlier row
    rows[19_999].1 = "also much too long";
    let batches: Vec<_> = rows.chunks(6_000).map(batch).collect();
    let delivered = deliver(&target, 1, 1, &batches).expect("delivered");
    assert_eq!(ordinals(&delivered.refused), [5, 6, 7_000, 12_345, 12_346, 19_999], "{:?}", delivered.refused);
    let said = |row: u64| delivered.refused.iter().find(|refused| refused.row == row).expect("refused").detail.as_str();
    assert_eq!(said(5), "value too long for type character varying(10) (column \"name\")");
    assert_eq!(said(6), "column \"name\" holds text with a NUL byte (0x00), which Postgres cannot store");
    assert!(said(7_000).contains("violates check constraint \"bad_append_amount_check\"") && said(7_000).contains("Failing row contains"), "{}", said(7_000));
    assert!(said(12_345).contains("null value in column \"id\""), "{}", said(12_345));
    assert!(said(12_346).contains("duplicate key value violates unique constraint \"bad_append_pkey\": Key (id)=(3) already exists."), "{}", said(12_346));
    assert_eq!(sql(url, "SELECT count(*), sum(id) FROM bad_append"), [format!("19994|{}", (0..20_000).sum::<i64>() - 5 - 6 - 7_000 - 12_345 - 12_346 - 19_999)]);
    assert_eq!(sql(url, "SELECT count(*), sum(rows), sum(jsonb_array_length(refused)) FROM watershed.epochs WHERE app_id = 'bad_append'"), ["1|19994|6"]);
    let again = deliver(&target, 1, 1, &batches).expect("again");
    assert!(again.already_there);
    assert_eq!(again.refused, delivered.refused, "the refusals of then");
    assert_eq!(target.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 19_994 }));
}

#[test]
fn rows_without_a_line_are_found_by_halving() {
    let url = &shared().url;
    // A foreign key speaks at the end of the COPY and names no line.
    sql(
        url,
        "CREATE TABLE towns (name text PRIMARY KEY); INSERT INTO towns VALUES ('fine'); CREATE TABLE bad_town (id int8, name text REFERENCES towns, amount numeric, gone bool)",
    );
    let target = target(url, &[("table", "bad_town")], schema());
    target.claim(Generation(1)).expect("claim");
    let mut rows: Vec<(Option<i64>, &str, i128, bool)> = (0..5_000).map(|id| (Some(id), "fine", 100, false)).collect();
    for bad in [0, 1, 2_500, 4_999] {
        rows[bad].1 = "nowhere";
    }
    let delivered = deliver(&target, 1, 1, &[batch(&rows)]).expect("delivered");
    assert_eq!(ordinals(&delivered.refused), [0, 1, 2_500, 4_999]);
    assert!(delivered.refused[0].detail.contains("(name)=(nowhere) is not present in table \"towns\""), "{}", delivered.refused[0].detail);
    assert_eq!(sql(url, "SELECT count(*) FROM bad_town"), ["4996"]);
}

#[test]
fn upsert_keeps_the_last_row_of_a_key_and_deletes() {
    let url = &shared().url;
    let target = target(url, &[("table", "shop.upsert"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone")], schema());
    target.claim(Generation(1)).expect("claim");
    let first = [batch(&[(Some(1), "a", 1, false), (Some(2), "b", 2, false), (Some(1), "c", 3, false)]), batch(&[(Some(3), "d", 4, false), (Some(4), "e", 5, true)])];
    deliver(&target, 1, 1, &first).expect("first");
    assert_eq!(sql(url, "SELECT * FROM shop.upsert ORDER BY id"), ["1|c|0.03", "2|b|0.02", "3|d|0.04"]);
    let second = [batch(&[(Some(2), "gone", 0, true), (Some(3), "gone", 0, true), (Some(3), "back", 9, false), (Some(1), "z", 7, false), (None, "no key", 0, false)])];
    let delivered = deliver(&target, 2, 1, &second).expect("second");
    assert_eq!(delivered.refused, [RefusedRow { row: 4, detail: "column \"id\" holds NULL, and it is part of the key".into() }]);
    assert_eq!(sql(url, "SELECT * FROM shop.upsert ORDER BY id"), ["1|z|0.07", "3|back|0.09"]);
    assert_eq!(target.recount(Epoch(2)).expect("recount"), Some(Recount { rows: 4 }), "before rows of one key are folded");
}

#[test]
fn upsert_refuses_exactly_the_bad_rows_and_falls_back_to_the_one_before() {
    let url = &shared().url;
    sql(url, "CREATE TABLE bad_upsert (id int8 PRIMARY KEY, name varchar(10) UNIQUE, amount numeric(18,2) CHECK (amount >= 0))");
    let target = target(url, &[("table", "bad_upsert"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone")], schema());
    target.claim(Generation(1)).expect("claim");
    let names: Vec<String> = (0..3_000).map(|id| format!("n{id}")).collect();
    let mut rows: Vec<(Option<i64>, &str, i128, bool)> = names.iter().enumerate().map(|(id, name)| (Some(id as i64), name.as_str(), 100, false)).collect();
    rows[10].1 = "much too long a name"; // fails in the COPY
    rows[1_000].2 = -1; // fails in the merge
    rows[2_000].1 = "n1999"; // another key's name
    rows.push((Some(7), "n7", 700, false));
    rows.push((Some(7), "n7", -7, false)); // refused: the one before it counts
    rows.push((Some(8), "n8", -8, false)); // and the one before that
    rows.push((Some(8), "n8", -9, false));
    let delivered = deliver(&target, 1, 1, &rows.chunks(1_100).map(batch).collect::<Vec<_>>()).expect("delivered");
    assert_eq!(ordinals(&delivered.refused), [10, 1_000, 2_000, 3_001, 3_002, 3_003], "{:?}", delivered.refused);
    assert_eq!(sql(url, "SELECT count(*) FROM bad_upsert"), ["2997"]);
    assert_eq!(sql(url, "SELECT id, amount FROM bad_upsert WHERE id IN (7, 8) ORDER BY id"), ["7|7.00", "8|1.00"]);
    assert_eq!(target.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 2_998 }));
    assert_eq!(sql(url, "SELECT count(*) FROM watershed.epochs WHERE app_id = 'bad_upsert'"), ["1"], "one transaction");
}

#[test]
fn a_refused_row_of_an_epoch_too_large_to_keep_asks_for_the_rows_again() {
    let url = &shared().url;
    sql(url, "CREATE TABLE bad_large (id int8, name text, amount numeric CHECK (amount >= 0), gone bool)");
    let target = target(url, &[("table", "bad_large")], schema());
    target.claim(Generation(1)).expect("claim");
    let long = "x".repeat(4_000);
    let rows: Vec<(Option<i64>, &str, i128, bool)> = (0..20_000).map(|id| (Some(id), long.as_str(), if id == 17_171 { -1 } else { 1 }, false)).collect();
    let batches: Vec<_> = rows.chunks(2_000).map(batch).collect();
    let error = deliver(&target, 1, 1, &batches).expect_err("too large to keep");
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "PG0012"));
    assert_eq!(ordinals(&deliver(&target, 1, 1, &batches).expect("with care").refused), [17_171]);
    assert_eq!(sql(url, "SELECT count(*) FROM bad_large"), ["19999"]);
}

#[test]
fn what_no_row_is_to_blame_for_is_an_error() {
    let server = shared();
    let target = target(&server.url, &[("table", "under_way")], schema());
    target.claim(Generation(1)).expect("claim");
    deliver(&target, 1, 1, &many(0, 10)).expect("first");
    // int8 to timestamp has the same width, and would be read as garbage.
    sql(&server.url, "ALTER TABLE under_way ALTER COLUMN id TYPE timestamp USING now()");
    let error = deliver(&target, 2, 1, &many(10, 10)).expect_err("altered");
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "PG0011"), "{}", error.report());
    let error = deliver(&target, 2, 1, &many(10, 10)).expect_err("still altered");
    assert_eq!(error.code(), "PG0005", "{}", error.report());
    assert_eq!(error.next_step(), Some("Run: ALTER TABLE \"public\".\"under_way\" ALTER COLUMN \"id\" TYPE bigint;"));
    sql(&server.url, "DROP TABLE under_way");
    assert_eq!(deliver(&target, 2, 1, &many(10, 10)).expect_err("gone").code(), "PG0006");
    assert_eq!(target.claim(Generation(1)).expect_err("it had rows").code(), "PG0036");
    assert_eq!(sql(&server.url, "SELECT to_regclass('under_way') IS NULL"), ["t"], "no empty table in its place");
    sql(&server.url, "CREATE TABLE under_way (id int8, name text, amount numeric, gone bool)");
    target.claim(Generation(1)).expect("somebody made it");
    deliver(&target, 2, 1, &many(10, 10)).expect("mended");
    sql(&server.url, "ALTER TABLE under_way DROP COLUMN name");
    assert_eq!(deliver(&target, 3, 1, &many(20, 10)).expect_err("a column is gone").code(), "PG0011");
}

#[test]
fn a_server_without_tls_is_not_asked_again() {
    let target = target(&shared().url.replace("sslmode=disable", "sslmode=require"), &[("table", "never")], schema());
    let error = target.claim(Generation(1)).expect_err("it speaks no TLS");
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "PG0002"), "{}", error.report());
}

#[test]
fn errors_name_the_server_and_no_password() {
    let proxy = Proxy::start(1, std::time::Duration::ZERO);
    let target = target(&format!("postgres://me:hunter2@127.0.0.1:{}/shop?sslmode=disable", proxy.port), &[("table", "nowhere")], schema());
    let error = target.claim(Generation(1)).expect_err("nobody there");
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "PG0002"));
    assert!(error.report().contains(&format!("127.0.0.1:{}/shop", proxy.port)) && !error.report().contains("hunter2"), "{}", error.report());
}
