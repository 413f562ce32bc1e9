//! A query is changed between two runs: what state is kept leads to what a computation of its own says, and what is not kept
//! is refused in words that name the difference.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_engine::operator::{Change, Effect};
use watershed_engine::run::{Fate, fates};
use watershed_ports::ManualClock;
use watershed_protocol::{Manifest, Paths, seal};
use watershed_types::Result;

use crate::world::{Cut, World, plan, run_with};

/// One record; its time in seconds after noon.
#[derive(Clone, Copy)]
struct Row {
    id: i64,
    second: i64,
}

impl Row {
    fn k(self) -> i64 {
        self.id % 3
    }
    fn x(self) -> i64 {
        self.id * 7 % 11
    }
    fn minute(self) -> i64 {
        self.second / 60
    }
    fn record(self) -> String {
        let (id, k, x, second) = (self.id, self.k(), self.x(), self.second);
        format!(r#"{{"id":{id},"k":"K{k}","x":{x},"at":"2026-01-01T12:{:02}:{:02}Z"}}"#, second / 60, second % 60)
    }
}

/// A row a second.
fn rows(from: i64, to: i64) -> Vec<Row> {
    (from..to).map(|id| Row { id, second: id }).collect()
}

fn project(query: &str) -> String {
    let source = |name: &str| {
        format!(
            "CREATE SOURCE {name} (id BIGINT NOT NULL, k VARCHAR NOT NULL, x BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '10 seconds') WITH (connector = 'log');"
        )
    };
    if query.starts_with("CREATE") { format!("{}\n{}\n{query};", source("s"), source("r")) } else { format!("{}\nCREATE TABLE t AS {query};", source("s")) }
}

/// A pipeline that was run on some rows by one query.
struct Changed {
    world: Arc<World>,
    folder: TempDir,
    second: String,
}

impl Changed {
    fn new(first: &str, before: &[Row], second: &str) -> Changed {
        let changed = Changed { world: Arc::default(), folder: tempfile::tempdir().expect("a folder"), second: project(second) };
        changed.run(&project(first), before, false, false).expect("the first run ends well");
        changed
    }

    fn run(&self, sql: &str, rows: &[Row], finalize: bool, rebuild: bool) -> Result<()> {
        self.world.log.lock().extend(rows.iter().map(|row| row.record()));
        let cut = Cut { slice: 20, rows_per_tick: 30, epoch_bytes: 4_000, fan_out: 0, once: true };
        let set = |config: &mut watershed_engine::run::Config| (config.finalize, config.rebuild) = (finalize, rebuild);
        run_with(&self.world, sql, self.folder.path(), cut, Arc::new(ManualClock::at(1_767_225_600_000_000)), set)?.join().map(|_| ())
    }

    /// Runs the second query over further rows; the rows of `t` that both runs have shown.
    fn then(&self, after: &[Row]) -> Vec<Value> {
        self.run(&self.second, after, true, false).unwrap_or_else(|e| panic!("{}\n{}", self.second, e.report()));
        self.shown()
    }

    fn shown(&self) -> Vec<Value> {
        self.world.place("t").lock().rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect()
    }

    fn manifest(&self) -> (Checkpoint, Manifest) {
        open(self.folder.path())
    }

    /// What becomes of each operator's state.
    fn fates(&self) -> BTreeMap<String, Fate> {
        fates(&plan(&self.second), &self.manifest().1.state)
    }

    fn one_change(&self) -> Change {
        let fates = self.fates();
        let changes: Vec<&Change> = fates.values().flat_map(Fate::changes).collect();
        assert_eq!(changes.len(), 1, "{fates:?}");
        changes[0].clone()
    }
}

fn open(folder: &Path) -> (Checkpoint, Manifest) {
    let checkpoint = Checkpoint::open(Store::Local(folder.join("checkpoint"))).expect("a good checkpoint").expect("a checkpoint");
    let manifest = checkpoint.manifest(checkpoint.history().expect("a history").last_committed()).expect("a manifest");
    (checkpoint, manifest)
}

fn number(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row}"))
}

/// What is left of results that change: the last row of each key.
fn last(rows: &[Value], key: impl Fn(&Value) -> String) -> BTreeMap<String, Value> {
    let mut left = BTreeMap::new();
    for row in rows {
        match row["_deleted"] == Value::Bool(true) {
            true => left.remove(&key(row)),
            false => left.insert(key(row), row.clone()),
        };
    }
    left
}

const BY_MINUTE: &str = "FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, k";

#[test]
fn windows_keep_what_functions_that_stay_have_taken_in() {
    let first = format!("SELECT date_part('minute', window_start) AS m, k, count(*) AS n, sum(x) AS total, max(x) AS most {BY_MINUTE}");
    let second = "SELECT max(x) AS biggest, k AS who, date_part('minute', window_start) AS m, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY k, window_start";
    let changed = Changed::new(&first, &rows(0, 150), second);
    let change = changed.one_change();
    assert_eq!((change.words.as_str(), change.effect), ("sum(x) was removed", Effect::Fits));
    let shown = changed.then(&rows(150, 400));
    let all = rows(0, 400);
    let mut seen = 0;
    for row in shown.iter().filter(|row| !row["biggest"].is_null()) {
        let of: Vec<&Row> = all.iter().filter(|r| r.minute() == number(row, "m") && format!("K{}", r.k()) == row["who"]).collect();
        assert_eq!((number(row, "n"), number(row, "biggest")), (of.len() as i64, of.iter().map(|r| r.x()).max().expect("rows")), "{row}");
        seen += of.len();
    }
    assert_eq!(seen, 400 - 120, "the windows that were open at the change, and those after it");
}

#[test]
fn groups_that_are_kept_for_ever_keep_functions_that_stay() {
    let changed = Changed::new(
        "SELECT k, count(*) AS n, sum(x) AS total, avg(x) AS mean FROM s GROUP BY k EMIT ON CHANGE",
        &rows(0, 150),
        "SELECT avg(x) AS mean, k, sum(x) AS total FROM s GROUP BY k EMIT ON CHANGE",
    );
    assert_eq!(changed.one_change().words, "count(*) was removed");
    let left = last(&changed.then(&rows(150, 400)), |row| row["k"].to_string());
    for k in 0..3 {
        let of: Vec<i64> = rows(0, 400).iter().filter(|r| r.k() == k).map(|r| r.x()).collect();
        let row = &left[&format!("\"K{k}\"")];
        let total = of.iter().sum::<i64>();
        assert_eq!(number(row, "total"), total);
        assert!((row["mean"].as_f64().expect("a mean") - total as f64 / of.len() as f64).abs() < 1e-9, "{row}");
    }
}

#[test]
fn groups_change_places_and_rows_that_are_kept_fill_new_functions() {
    let query = |keys: &str| format!("SELECT {keys}, count(*) AS n FROM s GROUP BY {} EMIT ON CHANGE", keys.replace(" AS odd", ""));
    let changed = Changed::new(&query("k, x % 2 AS odd"), &rows(0, 150), &query("x % 2 AS odd, k"));
    assert_eq!(changed.one_change().words, "the order of the groups was (k, x % 2), is (x % 2, k)");
    let left = last(&changed.then(&rows(150, 400)), |row| format!("{}{}", row["odd"], row["k"]));
    assert_eq!(left.len(), 6);
    for row in left.values() {
        let of = rows(0, 400).iter().filter(|r| r.x() % 2 == number(row, "odd") && format!("K{}", r.k()) == row["k"]).count();
        assert_eq!(number(row, "n"), of as i64, "{row}");
    }

    // Over rows that are taken back: the greatest id of each remainder, of which the latest counts.
    let query = |more: &str| {
        format!(
            "CREATE TABLE newest AS SELECT x, max(id) AS id FROM s GROUP BY x EMIT ON CHANGE; CREATE TABLE t AS SELECT id % 2 AS odd, count(*) AS n{more} FROM newest GROUP BY id % 2 EMIT ON CHANGE"
        )
    };
    let changed = Changed::new(&query(", max(id) AS most"), &rows(0, 150), &query(", max(id) AS most, min(id) AS least"));
    let change = changed.one_change();
    assert_eq!((change.words.as_str(), change.effect), ("min(id) was added", Effect::Fits));
    let alias = Changed::new(&query(""), &rows(0, 50), &query("").replace("FROM newest", "FROM newest AS z"));
    assert!(alias.fates().values().all(|fate| matches!(fate, Fate::Reused { changes, .. } if changes.is_empty())), "{:?}", alias.fates());
    let left = last(&changed.then(&rows(150, 400)), |row| row["odd"].to_string());
    let newest: Vec<i64> = (0..11).map(|x| rows(0, 400).iter().filter(|r| r.x() == x).map(|r| r.id).max().expect("an id")).collect();
    for row in left.values() {
        let of: Vec<i64> = newest.iter().copied().filter(|id| id % 2 == number(row, "odd")).collect();
        assert_eq!((number(row, "n"), Some(&number(row, "least"))), (of.len() as i64, of.iter().min()), "{row}");
    }
}

#[test]
fn lateness_changes_and_what_was_given_up_stays_so() {
    let query = |minutes: i64| {
        format!(
            "SELECT window_start, date_part('minute', window_start) AS m, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start ALLOWED LATENESS INTERVAL '{minutes} minutes'"
        )
    };
    let late = |id: i64, second: i64| Row { id, second };
    let counts = |shown: Vec<Value>| -> Vec<i64> { last(&shown, |row| row["m"].to_string()).values().map(|row| number(row, "n")).collect() };

    // At 139 the first minute is given up by one minute of lateness, the second is not.
    let longer = Changed::new(&query(1), &rows(0, 150), &query(5));
    let change = longer.one_change();
    assert_eq!((change.words.as_str(), change.effect), ("ALLOWED LATENESS was 1 minute, is 5 minutes", Effect::Fits));
    let mut after = vec![late(1_000, 30), late(1_001, 90)];
    after.extend(rows(150, 360));
    after.push(late(1_002, 130));
    assert_eq!(counts(longer.then(&after)), [60, 61, 61, 60, 60, 60]);
    assert_eq!(longer.world.place("quarantine").lock().rows.len(), 1, "the row of the minute that was given up");

    // At 189 the first two minutes are given up by the shorter lateness, and were not by the longer.
    let shorter = Changed::new(&query(5), &rows(0, 200), &query(1));
    let mut after = vec![late(1_000, 90), late(1_001, 130)];
    after.extend(rows(200, 360));
    assert_eq!(counts(shorter.then(&after)), [60, 60, 61, 60, 60, 60]);
    assert_eq!(shorter.world.place("quarantine").lock().rows.len(), 1);
}

#[test]
fn keys_are_remembered_by_another_interval() {
    let query = |minutes: i64| format!("SELECT id FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '{minutes} minutes')");
    let times = |shown: &[Value], id: i64| shown.iter().filter(|row| number(row, "id") == id).count();
    let again = |id: i64, second: i64| Row { id, second };

    let longer = Changed::new(&query(1), &rows(0, 201), &query(10));
    assert_eq!(longer.one_change().words, "WITHIN was 1 minute, is 10 minutes");
    let shown = longer.then(&[again(125, 210), again(10, 215), again(10, 300)]);
    assert_eq!(times(&shown, 125), 1, "85 seconds apart: remembered, and within the new interval");
    assert_eq!(times(&shown, 10), 2, "forgotten by the old interval; from now on remembered");

    let shorter = Changed::new(&query(10), &rows(0, 201), &query(1));
    let shown = shorter.then(&[again(10, 215), again(190, 220)]);
    assert_eq!((times(&shown, 10), times(&shown, 190)), (2, 1));
}

#[test]
fn names_and_places_of_columns_are_no_change() {
    let first = "CREATE VIEW v AS SELECT id AS a, k, at FROM s; CREATE TABLE t AS SELECT a AS id FROM DEDUPLICATE(v, KEY (a), WITHIN INTERVAL '1 hour')";
    let second = "CREATE VIEW v AS SELECT x, at, upper(k) AS k, id AS b FROM s; CREATE TABLE t AS SELECT b AS id, k FROM DEDUPLICATE(v, KEY (b), WITHIN INTERVAL '1 hour')";
    let changed = Changed::new(first, &rows(0, 100), second);
    assert!(matches!(&changed.fates()["t/1:dedup"], Fate::Reused { changes, .. } if changes.is_empty()), "{:?}", changed.fates());
    assert_eq!(changed.then(&rows(90, 120)).len(), 120);
}

#[test]
fn another_condition_in_front_keeps_the_state_and_is_told() {
    let query = |least: i64| format!("SELECT k, count(*) AS n FROM s WHERE x > {least} GROUP BY k EMIT ON CHANGE");
    let changed = Changed::new(&query(5), &rows(0, 150), &query(2));
    let change = changed.one_change();
    assert_eq!((change.words.as_str(), change.effect), ("in front of it was x > 5, is x > 2", Effect::Mixes));
    let left = last(&changed.then(&rows(150, 400)), |row| row["k"].to_string());
    for k in 0..3 {
        let of = rows(0, 400).iter().filter(|r| r.k() == k && r.x() > if r.id < 150 { 5 } else { 2 }).count();
        assert_eq!(number(&left[&format!("\"K{k}\"")], "n"), of as i64, "each row by the condition of its time");
    }
}

#[test]
fn a_table_in_front_that_computes_something_else_is_told() {
    let project = |what: &str, rule: &str| {
        format!(
            "CREATE TABLE clean (CONSTRAINT c EXPECT (x >= {rule}) ON VIOLATION DROP) AS SELECT k, {what} AS x, at FROM s; CREATE TABLE t AS SELECT k, sum(x) AS total FROM clean GROUP BY k EMIT ON CHANGE"
        )
    };
    let changed = Changed::new(&project("x * 2", "0"), &rows(0, 50), &project("x * 3", "1"));
    let change = changed.one_change();
    assert_eq!(change.effect, Effect::Mixes);
    assert_eq!(change.words, "in front of it was in clean: expect x >= 0; in clean: x is x * 2, is in clean: expect x >= 1; in clean: x is x * 3");
    let elsewhere = Changed::new(&project("x * 2", "0"), &rows(0, 50), &project("x * 2", "0").replace("SELECT k, x", "SELECT id, k, x"));
    assert!(matches!(&elsewhere.fates()["t/1:changes"], Fate::Reused { changes, .. } if changes.is_empty()), "another column of it is nothing to the sum");
}

#[test]
fn an_operator_is_found_again_where_one_in_front_of_it_is_gone() {
    let first = "SELECT date_part('minute', window_start) AS m, count(*) AS n FROM TUMBLE(DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour'), at, INTERVAL '1 minute') GROUP BY window_start";
    let second = "SELECT date_part('minute', window_start) AS m, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start";
    let changed = Changed::new(first, &rows(0, 150), second);
    assert_eq!(changed.fates()["t/1:window"].from(), Some("t/2:window"));
    assert_eq!(changed.one_change().effect, Effect::Mixes);
    let shown = changed.then(&rows(150, 360));
    assert_eq!(shown.iter().map(|row| (number(row, "m"), number(row, "n"))).collect::<Vec<_>>(), (0..6).map(|m| (m, 60)).collect::<Vec<_>>());
}

#[test]
fn joins_keep_rows_without_the_columns_that_are_gone() {
    let query = |columns: &str| {
        format!("CREATE TABLE t AS SELECT {columns} FROM s JOIN r ON s.id + 5 = r.id AND r.at BETWEEN s.at - INTERVAL '10 seconds' AND s.at + INTERVAL '10 seconds'")
    };
    let changed = Changed::new(&query("s.id, s.x, s.k, r.x AS other"), &rows(0, 150), &query("r.x AS other, s.id"));
    let fates = changed.fates();
    assert!(matches!(&fates["t/1:join"], Fate::Reused { changes, .. } if !changes.is_empty()), "{fates:?}");
    let mut ids: Vec<i64> = Vec::new();
    for row in changed.then(&rows(150, 300)) {
        let id = number(&row, "id");
        assert_eq!(number(&row, "other"), Row { id: id + 5, second: 0 }.x(), "{row}");
        ids.push(id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..295).collect::<Vec<_>>(), "each row has met its partner once, over the change too");
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_rebuilt_on_demand() {
    let dedup = "SELECT id FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour')";
    let window = format!("SELECT window_start, k, count(*) AS n {BY_MINUTE}");
    let cases: Vec<(&str, String, &str, &str)> = vec![
        (dedup, dedup.replace("KEY (id)", "KEY (id, k)"), "the key was (id), is (id, k)", "the keys it remembers"),
        (&window, window.replace("1 minute", "5 minutes"), "the window was TUMBLE 1 minute on at, is TUMBLE 5 minutes on at", "windows that are open"),
        (&window, window.replace("count(*) AS n", "count(*) AS n, sum(x) AS total"), "sum(x) was added", "windows that are open"),
        (
            &window,
            window.replace("SELECT window_start, k", "SELECT window_start, upper(k) AS k").replace("GROUP BY window_start, k", "GROUP BY window_start, upper(k)"),
            "GROUP BY was (k), is (upper(k))",
            "",
        ),
        (
            &window,
            format!("{window} ALLOWED LATENESS INTERVAL '1 minute'"),
            "it was an aggregate of windows that are final when they close, is an aggregate whose results change",
            "",
        ),
        (
            "CREATE TABLE t AS SELECT s.id FROM s JOIN r ON s.id = r.id AND s.k <> 'none' AND r.at BETWEEN s.at - INTERVAL '1 minute' AND s.at",
            "CREATE TABLE t AS SELECT s.id FROM s JOIN r ON s.id = r.id AND s.k <> 'none' AND r.at BETWEEN s.at - INTERVAL '90 seconds' AND s.at".to_owned(),
            "is r.at >= s.at - INTERVAL '90 seconds' AND r.at <= s.at",
            "the rows that wait for a partner",
        ),
        (
            "CREATE VIEW v AS SELECT k, x, at FROM s; CREATE TABLE t AS SELECT k, sum(x) AS total FROM v GROUP BY k EMIT ON CHANGE",
            "CREATE VIEW v AS SELECT k, x * 2 AS x, at FROM s; CREATE TABLE t AS SELECT k, sum(x) AS total FROM v GROUP BY k EMIT ON CHANGE".to_owned(),
            "sum(x * 2) was added; sum(x) was removed",
            "what its groups hold",
        ),
        (
            "SELECT k, count(*) AS n FROM s GROUP BY k HAVING count(*) > 3 EMIT ON CHANGE",
            "SELECT k, count(*) AS n FROM s GROUP BY k HAVING count(*) > 60 EMIT ON CHANGE".to_owned(),
            "the condition on rows that change in t was count(*) > 3, is count(*) > 60 (rows that the old one has shown would never be taken back)",
            "what its groups hold",
        ),
        (
            "SELECT k, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE",
            "SELECT k AS who, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE".to_owned(),
            "the key of t was k, is k AS who",
            "what its groups hold",
        ),
        (
            "SELECT n, count(*) AS groups FROM (SELECT k, count(*) AS n FROM s GROUP BY k) WHERE n > 3 GROUP BY n EMIT ON CHANGE",
            "SELECT n, count(*) AS groups FROM (SELECT k, count(*) AS n FROM s GROUP BY k) WHERE n > 4 GROUP BY n EMIT ON CHANGE".to_owned(),
            "the condition on rows that change was count(*) > 3, is count(*) > 4",
            "",
        ),
    ];
    for (first, second, words, loss) in cases {
        let changed = Changed::new(first, &rows(0, 150), &second);
        let error = changed.run(&changed.second, &[], false, false).expect_err("it does not fit");
        assert_eq!(error.code(), "RUN0019", "{}", error.report());
        assert!(error.message().contains(words), "{}", error.report());
        assert!(error.next_step().is_some_and(|hint| hint.contains(loss) && hint.contains("--rebuild")), "{}", error.report());
        changed.run(&changed.second, &rows(150, 200), true, true).unwrap_or_else(|e| panic!("{}", e.report()));
        assert!(changed.fates().values().all(|fate| matches!(fate, Fate::Reused { changes, .. } if changes.is_empty())), "{:?}", changed.fates());
    }
}

/// A table without state of its own that reads one whose rows come and go: what it shows is as good as its condition.
#[test]
fn a_condition_on_rows_that_change_is_held_by_what_makes_them() {
    let project = |condition: &str, more: &str| {
        format!(
            "CREATE TABLE counts AS SELECT k, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE; CREATE TABLE t AS SELECT k, n * 10 AS n FROM counts WHERE {condition} EMIT ON CHANGE{more}"
        )
    };
    let changed = Changed::new(&project("n > 3", ""), &rows(0, 150), &project("n > 5", ""));
    let change = changed.one_change();
    assert_eq!((change.words.as_str(), change.effect), ("the condition on rows that change in t was n > 3, is n > 5", Effect::Breaks));
    let tens = |times: i64| {
        format!(
            "CREATE TABLE counts AS SELECT k, count(*) * {times} AS n FROM s GROUP BY k EMIT ON CHANGE; CREATE TABLE t AS SELECT n, count(*) AS ks FROM counts GROUP BY n EMIT ON CHANGE"
        )
    };
    let computed = Changed::new(&tens(1), &rows(0, 150), &tens(10));
    let change = computed.one_change();
    assert_eq!(change.effect, Effect::Breaks, "a row that is taken back is not the one that came: {change:?}");
    let in_front = Changed::new(&tens(1), &rows(0, 150), &tens(1).replace("FROM s", "FROM s WHERE x > 1"));
    assert!(in_front.fates().values().flat_map(Fate::changes).all(|change| change.effect == Effect::Mixes), "{:?}", in_front.fates());

    let another = Changed::new(&project("n > 3", ""), &rows(0, 150), &project("n > 3", "; CREATE TABLE u AS SELECT k, n FROM counts WHERE n > 9 EMIT ON CHANGE"));
    assert!(matches!(&another.fates()["counts/1:changes"], Fate::Reused { changes, .. } if changes.is_empty()), "{:?}", another.fates());
}

/// A rule is what it computes, and an operator that has not seen rows come cannot tell which of them go.
#[test]
fn what_takes_rows_back_is_what_brought_them() {
    let project =
        |times: i64| format!("CREATE TABLE t (CONSTRAINT small EXPECT (m < 500) ON VIOLATION DROP) AS SELECT k, count(*) * {times} AS m FROM s GROUP BY k EMIT ON CHANGE");
    let rule = Changed::new(&project(3), &rows(0, 150), &project(2));
    let change = rule.one_change();
    assert_eq!(change.words, "the condition on rows that change in t was expect count(*) * 3 < 500, is expect count(*) * 2 < 500");

    let counts = "CREATE TABLE counts AS SELECT k, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE";
    let sizes = "CREATE TABLE t AS SELECT n, count(*) AS ks FROM counts GROUP BY n EMIT ON CHANGE";
    let late = Changed::new(counts, &rows(0, 150), &format!("{counts}; {sizes}"));
    let error = late.run(&late.second, &[], false, false).expect_err("it begins in the middle");
    assert!(
        error.code() == "RUN0019" && error.message().contains("\"t/1:keyed\" cannot begin in the middle") && error.message().contains("\"counts/1:changes\""),
        "{}",
        error.report()
    );
    assert!(!late.world.opened().contains(&"t".to_owned()), "nothing was made for it");
    let both = Changed::new(counts, &rows(0, 150), &format!("{counts}; {sizes}").replace("counts", "counted"));
    assert!(both.fates().values().all(|fate| *fate == Fate::New), "{:?}", both.fates());
    both.then(&rows(150, 200));
}

#[test]
fn a_key_of_another_type_is_another_key() {
    let changed = Changed::new("SELECT id FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour')", &rows(0, 50), "");
    let text = |name: &str| project("SELECT id FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour')").replace("id BIGINT", name);
    let fates = fates(&plan(&text("id INTEGER")), &changed.manifest().1.state);
    assert!(matches!(&fates["t/1:dedup"], Fate::Rebuild { changes, .. } if changes[0].words == "the type of id was Int64, is Int32"), "{fates:?}");
}

#[test]
fn state_of_an_earlier_version_is_compared_as_that_version_did() {
    let query = "SELECT k, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE";
    let changed = Changed::new(query, &rows(0, 150), query);
    let (checkpoint, mut manifest) = changed.manifest();
    let planned = plan(&changed.second);
    for (id, fingerprint) in planned.tables.iter().flat_map(|table| &table.steps).filter_map(|step| step.stateful()) {
        let chain = manifest.state.get_mut(id).expect("its state");
        assert_ne!(chain.fingerprint, fingerprint.earlier);
        chain.fingerprint.clone_from(&fingerprint.earlier);
    }
    checkpoint.store.put(&Paths::offsets(manifest.epoch), &seal(&manifest).expect("bytes")).expect("a file");
    let left = last(&changed.then(&rows(150, 300)), |row| row["k"].to_string());
    assert_eq!(left.values().map(|row| number(row, "n")).collect::<Vec<_>>(), [100, 100, 100]);
    assert!(changed.manifest().1.state["t/1:changes"].fingerprint.starts_with('{'), "written anew with its parts");

    let (checkpoint, mut manifest) = changed.manifest();
    manifest.state.get_mut("t/1:changes").expect("its state").fingerprint = "changes windows=None lateness=0 show=OnChange groups=[\"x@1\"] functions=[]".to_owned();
    checkpoint.store.put(&Paths::offsets(manifest.epoch), &seal(&manifest).expect("bytes")).expect("a file");
    let error = changed.run(&changed.second, &[], false, false).expect_err("it does not fit");
    assert!(error.code() == "RUN0019" && error.message().contains("x@1"), "{}", error.report());
}
