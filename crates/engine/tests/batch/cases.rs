//! Single cases, each of which once went wrong: copies of a source row, NULLs, rules that cannot be evaluated, windows over
//! windows. Where batch and stream are both defined they must agree, however the stream is cut.

use watershed_engine::plan::Rounds;

use crate::input::Records;
use crate::pipelines::{CATEGORIES, Pipeline, chains, mixed};
use crate::same;
use crate::world::{Cut, Tables, as_batch, as_stream, streamed, try_plan};

const WHOLE: Cut = Cut { slice: 1_000, rows_per_tick: 100_000, parallelism: 1 };
const TINY: Cut = Cut { slice: 1, rows_per_tick: 1, parallelism: 1 };

fn pipeline(sql: &'static str) -> Pipeline {
    Pipeline { name: "case", sql, statics: &[CATEGORIES], input: |_| vec![] }
}

/// Any two ways to run a pipeline give the same.
#[track_caller]
pub fn agree(sql: &'static str, records: &Records) -> Tables {
    let pipeline = pipeline(sql);
    let batch = as_batch(&pipeline, records, Rounds::UntilDone).unwrap_or_else(|e| panic!("batch: {}", e.report()));
    for cut in [WHOLE, TINY, Cut { slice: 2, ..TINY }, Cut { parallelism: 3, ..WHOLE }] {
        same(&as_stream(&pipeline, records, cut).unwrap_or_else(|e| panic!("{cut:?}: {}", e.report())), &batch, &format!("stream {cut:?} against batch"));
    }
    batch
}

/// The stream's tables and why rows are in its quarantine, the same however it is cut.
#[track_caller]
fn run(sql: &'static str, records: &Records) -> (Tables, Vec<String>) {
    let all = |cut| streamed(&pipeline(sql), records, cut).unwrap_or_else(|e| panic!("{cut:?}: {}", e.report()));
    let whole = all(WHOLE);
    for cut in [TINY, Cut { slice: 2, ..TINY }, Cut { parallelism: 3, ..WHOLE }] {
        assert_eq!(all(cut), whole, "{cut:?}");
    }
    whole
}

/// What a project that cannot run says, and what to do instead.
#[track_caller]
fn refused(sql: &'static str) -> (String, String) {
    let error = try_plan(&pipeline(sql)).err().expect("is refused");
    (error.message().to_owned(), error.next_step().unwrap_or_default().to_owned())
}

fn record(seq: u64, second: u64, more: &str) -> String {
    format!(r#"{{"id":"k{seq}","seq":{seq},"at":"2026-01-01T00:{:02}:{:02}Z"{more}}}"#, second / 60, second % 60)
}

#[test]
fn rows_that_a_join_multiplied_can_be_deduplicated() {
    agree(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE VIEW families AS SELECT s.id, s.seq, s.at, c.family, c.rank FROM s JOIN categories c ON s.category = c.category;
         CREATE TABLE first_family AS SELECT * FROM DEDUPLICATE(families, KEY (id), WITHIN INTERVAL '3 minutes') AS t;
         CREATE TABLE all_families AS SELECT * FROM DEDUPLICATE(families, KEY (id, family), WITHIN INTERVAL '3 minutes') AS t WHERE rank <> 20;
         CREATE TABLE kept AS SELECT * FROM families;
         CREATE TABLE once AS SELECT id, seq FROM DEDUPLICATE(kept, KEY (id), WITHIN INTERVAL '3 minutes') AS t;",
        &chains(1),
    );
}

#[test]
fn a_late_row_that_a_join_multiplied_is_late_once() {
    let (kept, details) = run(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE VIEW families AS SELECT s.id, s.seq, s.at, c.rank FROM s JOIN categories c ON s.category = c.category;
         CREATE TABLE d AS SELECT seq, rank FROM DEDUPLICATE(families, KEY (id, rank), WITHIN INTERVAL '3 minutes') AS t;",
        &vec![vec![record(0, 0, r#","category":"food""#), record(1, 600, r#","category":"food""#), record(2, 5, r#","category":"fuel""#)]],
    );
    assert_eq!(kept["d"], ["seq Int64 | rank Int64", "0 | 10", "1 | 10"]);
    assert_eq!(details.len(), 1, "{details:?}");
}

#[test]
fn a_nullable_text_key_is_the_same_key_in_every_chunk() {
    let records = vec![vec![record(0, 0, r#","word":"a""#), record(1, 1, r#","word":null"#), record(2, 2, r#","word":"a""#), record(3, 3, r#","word":"b""#), record(4, 4, "")]];
    agree("CREATE TABLE d AS SELECT seq, word FROM DEDUPLICATE(s, KEY (word), WITHIN INTERVAL '1 minute') AS t;", &records);
}

#[test]
fn windows_over_the_starts_of_windows_must_end_with_them() {
    let records = mixed(1);
    agree(
        "CREATE TABLE h AS SELECT window_time AS moment, count(*) AS n FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end, window_time;
         CREATE TABLE t AS SELECT window_start, sum(n) AS n FROM TUMBLE(h, moment, INTERVAL '2 minutes') GROUP BY window_start, window_end;
         CREATE TABLE m AS SELECT window_start AS began, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end;
         CREATE TABLE f AS SELECT window_start, sum(n) AS n FROM TUMBLE(m, began, INTERVAL '5 minutes') GROUP BY window_start, window_end;
         CREATE TABLE g AS SELECT window_start, sum(n) AS n FROM HOP(m, began, INTERVAL '1 minute', INTERVAL '2 minutes') GROUP BY window_start, window_end;",
        &records,
    );
    let (message, hint) = refused(
        "CREATE TABLE h AS SELECT window_start AS began, count(*) AS n FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end;
         CREATE TABLE t AS SELECT window_start, sum(n) AS n FROM TUMBLE(h, began, INTERVAL '2 minutes') GROUP BY window_start, window_end;",
    );
    assert!(message.contains("\"began\" is the start of a window"), "{message}");
    assert!(hint.contains("window_time"), "{hint}");
    let (message, hint) = refused(
        "CREATE TABLE m AS SELECT window_start AS began, window_end AS ended, count(*) AS n FROM TUMBLE(s, at, INTERVAL '5 minutes') GROUP BY window_start, window_end;
         CREATE TABLE t AS SELECT window_start, sum(n) AS n FROM TUMBLE(m, began, INTERVAL '1 minutes') GROUP BY window_start, window_end;",
    );
    assert!(message.contains("\"began\" is the start of a window") && hint.ends_with("here that is: ended."), "{message} {hint}");
    let (message, hint) = refused(
        "CREATE TABLE m AS SELECT window_start AS began, id, count(*) AS n FROM TUMBLE(s, at, INTERVAL '5 minutes') GROUP BY window_start, window_end, id;
         CREATE TABLE d AS SELECT * FROM DEDUPLICATE(m, KEY (id), WITHIN INTERVAL '7 minutes') AS t;",
    );
    assert!(message.contains("\"began\" is the start of a window") && hint.contains("window_time"), "{message} {hint}");
}

#[test]
fn a_window_over_a_column_of_its_own_name_is_refused_with_a_way_out() {
    let (message, hint) = refused(
        "CREATE TABLE m AS SELECT window_start, window_time AS moment, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end, window_time;
         CREATE TABLE t AS SELECT window_end, sum(n) AS n FROM TUMBLE(m, moment, INTERVAL '5 minutes') GROUP BY window_end;",
    );
    assert!(message.ends_with("a window adds the column \"window_start\", and its input has one of that name"), "{message}");
    assert!(hint.contains("window_start AS"), "{hint}");
}

#[test]
fn not_in_a_list_with_a_null_keeps_nothing() {
    let kept = agree(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE none AS SELECT id, seq FROM s WHERE category NOT IN (SELECT category FROM categories);
         CREATE TABLE some AS SELECT id, seq, category FROM s WHERE category NOT IN (SELECT category FROM categories WHERE rank < 15);
         CREATE TABLE cased AS SELECT id, seq, category FROM s WHERE lower(category) NOT IN (SELECT category FROM categories WHERE category IS NOT NULL AND rank < 25);
         CREATE TABLE every AS SELECT id, seq, category FROM s WHERE category NOT IN (SELECT category FROM categories WHERE rank > 99);",
        &mixed(1),
    );
    let nulls = |table: &str| kept[table].iter().filter(|row| row.ends_with("NULL")).count();
    assert!(kept["none"].len() == 1 && kept["some"].len() > 1 && nulls("some") == 0 && nulls("every") > 0, "{kept:#?}");
    let (message, hint) = refused(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE n AS SELECT id FROM s WHERE category NOT IN (SELECT c.category FROM categories c WHERE c.rank > s.seq);",
    );
    assert!(message.contains("NOT IN") && hint.contains("NOT EXISTS"), "{message} {hint}");
}

#[test]
fn the_first_of_a_windows_results_does_not_depend_on_the_parallelism() {
    agree(
        "CREATE TABLE a AS SELECT window_start AS began, window_time AS moment, id, category, count(*) AS n FROM TUMBLE(s, at, INTERVAL '5 minutes') GROUP BY window_start, window_end, window_time, category, id;
         CREATE TABLE d AS SELECT * FROM DEDUPLICATE(a, KEY (began), WITHIN INTERVAL '1 minute') AS t;
         CREATE TABLE l AS SELECT window_end, array_agg(id) AS ids, first_value(category) AS category FROM TUMBLE(a, moment, INTERVAL '10 minutes') GROUP BY window_end;",
        &mixed(1),
    );
}

#[test]
fn a_fail_rule_that_a_copy_breaks_stops_the_stream() {
    let pipeline = pipeline(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE f (CONSTRAINT low EXPECT (rank > 20) ON VIOLATION QUARANTINE, CONSTRAINT never EXPECT (rank < 30) ON VIOLATION FAIL)
           AS SELECT s.seq, c.rank FROM s JOIN categories c ON s.category = c.category;",
    );
    let records = vec![vec![record(0, 0, r#","category":"fuel""#)]];
    assert_eq!(as_batch(&pipeline, &records, Rounds::UntilDone).expect_err("a copy breaks it").code(), "PLAN0020");
    assert_eq!(as_stream(&pipeline, &records, WHOLE).expect_err("a copy breaks it").code(), "RUN0006");
}

#[test]
fn the_strongest_action_over_all_copies_is_the_one() {
    let (kept, details) = run(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE f (CONSTRAINT dropped EXPECT (rank <> 20) ON VIOLATION DROP, CONSTRAINT held EXPECT (rank <> 30) ON VIOLATION QUARANTINE)
           AS SELECT s.seq, c.rank FROM s JOIN categories c ON s.category = c.category;",
        &vec![vec![record(0, 0, r#","category":"fuel""#), record(1, 1, r#","category":"food""#)]],
    );
    assert_eq!((kept["f"].as_slice(), details.as_slice()), (["seq Int64 | rank Int64", "1 | 10"].map(str::to_owned).as_slice(), ["rule held: rank <> 30".to_owned()].as_slice()));
}

#[test]
fn a_rule_that_cannot_be_evaluated_breaks_itself_alone() {
    let records = vec![(0..4).map(|seq| record(seq, seq, "")).collect::<Vec<_>>()];
    let (kept, details) = run(
        "CREATE TABLE f (CONSTRAINT share EXPECT (100 / seq > 0) ON VIOLATION QUARANTINE, CONSTRAINT never EXPECT (seq >= 0) ON VIOLATION FAIL) AS SELECT seq FROM s;
         CREATE TABLE w (CONSTRAINT half EXPECT (100 / seq > 50) ON VIOLATION WARN, CONSTRAINT full EXPECT (100 / seq < 100) ON VIOLATION DROP) AS SELECT seq FROM s WHERE seq > 0;
         CREATE TABLE shared (CONSTRAINT a EXPECT (100 / seq > 10) ON VIOLATION WARN, CONSTRAINT b EXPECT (seq < 3 OR 100 / seq < 10) ON VIOLATION QUARANTINE) AS SELECT seq FROM s;",
        &records,
    );
    assert_eq!(kept["f"], ["seq Int64", "1", "2", "3"]);
    assert_eq!(kept["w"], ["seq Int64", "2", "3"]);
    assert_eq!(kept["shared"], ["seq Int64", "0", "1", "2"]);
    assert!(details[0].starts_with("rule b: seq < 3 OR 100 / seq < 10") && !details[0].contains("failed"), "{details:?}");
    assert!(details[1].starts_with("rule share: 100 / seq > 0, which failed on this row: ") && details[1].contains("ivide by zero"), "{details:?}");
    let stops = pipeline("CREATE TABLE f (CONSTRAINT share EXPECT (100 / seq > 0) ON VIOLATION FAIL) AS SELECT seq FROM s;");
    let error = as_stream(&stops, &records, WHOLE).expect_err("the rule fails on a row");
    assert!(error.code() == "RUN0006" && error.message().contains("ivide by zero"), "{}", error.report());
}

#[test]
fn copies_share_their_fate_where_a_rule_cannot_be_evaluated() {
    let (kept, details) = run(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE f (CONSTRAINT share EXPECT (100 / (rank - 30) < 0) ON VIOLATION QUARANTINE) AS SELECT s.seq, c.rank FROM s JOIN categories c ON s.category = c.category;",
        &vec![vec![record(0, 0, r#","category":"fuel""#), record(1, 1, r#","category":"food""#)]],
    );
    assert_eq!(kept["f"], ["seq Int64 | rank Int64", "1 | 10"]);
    assert_eq!(details.len(), 1, "{details:?}");
}

#[test]
fn copies_share_their_fate_where_a_query_fails_on_one() {
    let (kept, details) = run(
        "CREATE STATIC TABLE categories WITH (connector = 'files');
         CREATE TABLE m AS SELECT s.seq, c.rank FROM s JOIN categories c ON s.category = c.category;
         CREATE TABLE q AS SELECT seq, 100 / (rank - 30) AS share FROM m;",
        &vec![(0..9).map(|seq| record(seq, seq, if seq % 3 == 0 { r#","category":"food""# } else { r#","category":"fuel""# })).collect::<Vec<_>>()],
    );
    assert_eq!(kept["q"], ["seq Int64 | share Int64", "0 | -5", "3 | -5", "6 | -5"]);
    assert_eq!((kept["m"].len(), details.len()), (1 + 3 + 12, 6), "{details:?}");
}

#[test]
fn a_computed_column_is_a_function_of_its_record() {
    let (message, hint) = refused(
        "CREATE SOURCE r (seq BIGINT NOT NULL, at TIMESTAMP NOT NULL, seen AS (now()), WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'log');
         CREATE TABLE t AS SELECT seq, seen = now() AS same FROM r;",
    );
    assert!(message.ends_with("column \"seen\": a computed column is a function of its record, and the value of now() is not"), "{message}");
    assert!(hint.contains("METADATA FROM 'ingest_time'"), "{hint}");
    let (message, _) = refused("CREATE SOURCE r (seq BIGINT NOT NULL, luck AS (seq + random())) WITH (connector = 'log'); CREATE TABLE t AS SELECT * FROM r;");
    assert!(message.contains("random()"), "{message}");
}

#[test]
fn results_that_change_are_taken_back_as_they_came() {
    for (query, words) in [
        ("SELECT at, count(*) AS n FROM (SELECT now() AS at FROM c) GROUP BY at", "an aggregate over results that change depends on the time of the tick"),
        ("SELECT k, n FROM c WHERE n > 100 * random()", "a condition over results that change depends on the time of the tick"),
        ("SELECT k, at FROM (SELECT k, now() AS at FROM c) ORDER BY k LIMIT 3", "column \"at\" of results that change depends on the time of the tick"),
    ] {
        let sql = format!("CREATE TABLE c AS SELECT category AS k, count(*) AS n FROM s GROUP BY category EMIT ON CHANGE; CREATE TABLE t AS {query} EMIT ON CHANGE;");
        let (message, hint) = refused(Box::leak(sql.into_boxed_str()));
        assert!(message.contains(words) && hint.contains("in front of what makes the results change"), "{message}");
    }
}
