//! Stream relations in every form and place, and the names a query reads.

use super::good;
use crate::{AsOfTime, Emit, Keep, OnLate, QueryDef, Relation, RelationInput, RelationKind};

const MINUTE: i64 = 60_000_000;
const TABLES: &str = "CREATE SOURCE t (id INT, k INT, ts TIMESTAMP) WITH (connector='x'); CREATE VIEW per AS SELECT * FROM t;";

fn query(text: &str) -> QueryDef {
    good(&format!("{TABLES} CREATE TABLE result AS {text}")).tables.pop().expect("one table").query
}

fn only(text: &str) -> Relation {
    let mut query = query(text);
    assert_eq!(query.relations.len(), 1, "{text}");
    query.relations.pop().expect("one relation")
}

#[test]
fn every_form_of_a_call_means_the_same() {
    let tumble = |offset| RelationKind::Tumble { column: "ts".to_owned(), size_micros: MINUTE, offset_micros: offset };
    for text in [
        "SELECT * FROM TUMBLE(t, ts, INTERVAL '1 minute')",
        "SELECT * FROM tumble ( T , TS , interval '60' second )",
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))",
        "SELECT * FROM TUMBLE(data => t, size => INTERVAL '00:01:00', timecol => ts) EMIT ON CLOSE",
        "SELECT * FROM TUMBLE(TABLE(t), \"ts\", INTERVAL '1 minute', INTERVAL '0 seconds')",
    ] {
        let relation = only(text);
        assert_eq!((relation.kind, relation.input), (tumble(0), RelationInput::Named("t".to_owned())), "{text}");
    }
    assert_eq!(only("SELECT * FROM TUMBLE(t, ts, INTERVAL '1 minute', - INTERVAL '16' MINUTE)").kind, tumble(-16 * MINUTE));
    assert_eq!(only("SELECT * FROM TUMBLE(t, ts, INTERVAL '1 minute', \"OFFSET\" => INTERVAL '4 minutes')").kind, tumble(4 * MINUTE));
    let hop = RelationKind::Hop { column: "ts".to_owned(), slide_micros: MINUTE, size_micros: 5 * MINUTE, offset_micros: 0 };
    for text in [
        "SELECT * FROM HOP(t, ts, INTERVAL '1 minute', INTERVAL '5 minutes')",
        "SELECT * FROM TABLE(HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTES))",
    ] {
        assert_eq!(only(text).kind, hop, "{text}");
    }
    let dedup = |keep, within_micros| RelationKind::Deduplicate { key: vec!["id".to_owned(), "k".to_owned()], keep, within_micros };
    assert_eq!(only("SELECT * FROM DEDUPLICATE(t, KEY (id, k))").kind, dedup(Keep::First, None));
    assert_eq!(only("SELECT * FROM DEDUPLICATE(t, KEEP first, KEY (id, k))").kind, dedup(Keep::First, None));
    assert_eq!(only("SELECT * FROM DEDUPLICATE(TABLE t, WITHIN INTERVAL '1 minute', KEY => DESCRIPTOR(id, K), KEEP LAST)").kind, dedup(Keep::Last, Some(MINUTE)));
    let cumulate = |offset| RelationKind::Cumulate { column: "ts".to_owned(), step_micros: MINUTE, size_micros: 5 * MINUTE, offset_micros: offset };
    assert_eq!(only("SELECT * FROM CUMULATE(t, ts, INTERVAL '1 minute', INTERVAL '5 minutes')").kind, cumulate(0));
    let flink =
        "SELECT * FROM TABLE(CUMULATE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTES, `OFFSET` => -INTERVAL '9' MINUTES))";
    assert_eq!(only(flink).kind, cumulate(-9 * MINUTE));
    let session = |by: &[&str]| RelationKind::Session { column: "ts".to_owned(), partition_by: by.iter().map(|&name| name.to_owned()).collect(), gap_micros: 5 * MINUTE };
    assert_eq!(only("SELECT * FROM SESSION(t, ts, INTERVAL '5 minutes')").kind, session(&[]));
    for text in [
        "SELECT * FROM SESSION(t PARTITION BY (id, K), ts, INTERVAL '5 minutes')",
        "SELECT * FROM TABLE(SESSION(TABLE t PARTITION BY (id, k), DESCRIPTOR(ts), INTERVAL '5' MINUTES))",
        "SELECT * FROM TABLE(SESSION(DATA => TABLE(t) PARTITION BY (id, k), TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '5' MINUTES))",
    ] {
        assert_eq!(only(text).kind, session(&["id", "k"]), "{text}");
    }
    assert_eq!(only("SELECT * FROM TABLE(SESSION(TABLE t PARTITION BY id, DESCRIPTOR(ts), INTERVAL '5' MINUTES))").kind, session(&["id"]));
}

#[test]
fn windows_of_the_old_form_become_relations() {
    for (text, kind, said) in [
        (
            "SELECT TUMBLE_START(ts, INTERVAL '1' MINUTE) AS s, k, count(*) FROM t GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), k",
            RelationKind::Tumble { column: "ts".to_owned(), size_micros: MINUTE, offset_micros: 0 },
            "SELECT window_start AS s, k, count(*) FROM {} AS \"t\" GROUP BY window_start, window_end, k",
        ),
        (
            "SELECT k, HOP_ROWTIME(ts, INTERVAL '1' MINUTE, INTERVAL '2' MINUTE) FROM t AS x GROUP BY k, HOP(x.ts, INTERVAL '1' MINUTE, INTERVAL '2' MINUTE) HAVING max(id) > 1",
            RelationKind::Hop { column: "ts".to_owned(), slide_micros: MINUTE, size_micros: 2 * MINUTE, offset_micros: 0 },
            "SELECT k, window_time FROM {} AS x GROUP BY k, window_start, window_end, window_time HAVING max(id) > 1",
        ),
        (
            "SELECT k, SESSION_END(ts, INTERVAL '1' MINUTE) FROM t GROUP BY k, SESSION(ts, INTERVAL '1' MINUTE)",
            RelationKind::Session { column: "ts".to_owned(), partition_by: vec!["k".to_owned()], gap_micros: MINUTE },
            "SELECT k, window_end FROM {} AS \"t\" GROUP BY k, window_start, window_end",
        ),
    ] {
        let query = query(text);
        let [relation] = query.relations.as_slice() else { panic!("one relation in {text}") };
        assert_eq!((&relation.kind, &relation.input), (&kind, &RelationInput::Named("t".to_owned())));
        assert_eq!(query.query.to_string(), said.replace("{}", &relation.placeholder));
        assert_eq!(query.inputs, ["t"]);
    }
    let nested = query("SELECT count(*) FROM DEDUPLICATE(t, KEY (id)) AS d GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE)");
    assert_eq!(nested.relations.last().map(|outer| outer.input.clone()), Some(RelationInput::Relation(0)));
}

#[test]
fn the_versioned_side_of_a_join_is_a_relation() {
    let column = |relation: Option<&str>, column: &str| AsOfTime::Column { relation: relation.map(str::to_owned), column: column.to_owned() };
    for (join, time, said) in [
        ("JOIN per FOR SYSTEM_TIME AS OF t.ts ON t.k = per.k", column(Some("t"), "ts"), "JOIN {} AS \"per\" ON t.k = per.k"),
        ("LEFT JOIN per FOR SYSTEM_TIME AS OF ts AS p ON t.k = p.k", column(None, "ts"), "LEFT JOIN {} AS p ON t.k = p.k"),
        ("JOIN per FOR SYSTEM_TIME AS OF PROCTIME() p USING (k)", AsOfTime::Processing, "JOIN {} p USING(k)"),
    ] {
        let query = query(&format!("SELECT t.id FROM t {join}"));
        let [relation] = query.relations.as_slice() else { panic!("one relation for {join}") };
        assert_eq!((&relation.kind, &relation.input), (&RelationKind::AsOf { time }, &RelationInput::Named("per".to_owned())));
        assert_eq!(query.query.to_string(), format!("SELECT t.id FROM t {}", said.replace("{}", &relation.placeholder)));
        assert_eq!(query.inputs, ["t", "per"]);
    }
    let nested = query("SELECT t.id FROM t JOIN DEDUPLICATE(per, KEY (id), KEEP LAST) FOR SYSTEM_TIME AS OF t.ts ON t.k = per.k");
    assert_eq!(nested.relations.last().map(|outer| outer.input.clone()), Some(RelationInput::Relation(0)));
}

#[test]
fn clauses_stand_behind_a_query_in_any_order() {
    let clauses = |text: &str| {
        let query = query(text);
        assert!(query.text.starts_with("SELECT") && !query.query.to_string().contains("EMIT"), "{text}");
        (query.emit, query.allowed_lateness_micros, query.on_late)
    };
    let close = |early_micros| Emit::OnClose { early_micros };
    for (text, expected) in [
        ("SELECT * FROM t", (close(None), None, OnLate::Quarantine)),
        ("SELECT * FROM t EMIT ON CLOSE", (close(None), None, OnLate::Quarantine)),
        ("SELECT * FROM t EMIT ON WINDOW CLOSE ON LATE DROP", (close(None), None, OnLate::Drop)),
        ("SELECT * FROM t EMIT ON CHANGE", (Emit::OnChange, None, OnLate::Quarantine)),
        ("SELECT * FROM t EMIT ON CLOSE, EARLY EVERY INTERVAL '1 minute'", (close(Some(MINUTE)), None, OnLate::Quarantine)),
        ("SELECT * FROM t EMIT ON CLOSE EARLY EVERY INTERVAL '1' MINUTE", (close(Some(MINUTE)), None, OnLate::Quarantine)),
        ("SELECT * FROM t ON LATE UPDATE ALLOWED LATENESS INTERVAL '1 minute' EMIT ON CHANGE", (Emit::OnChange, Some(MINUTE), OnLate::Update)),
        ("SELECT allowed lateness FROM t JOIN per AS late ON late.id = t.id AND late.k > 1 ON LATE QUARANTINE", (close(None), None, OnLate::Quarantine)),
    ] {
        assert_eq!(clauses(text), expected, "{text}");
    }
    let condition = "SELECT t.id FROM t JOIN per AS late ON late IS NULL";
    assert_eq!(query(condition).query.to_string(), condition);
}

#[test]
fn a_nested_call_comes_before_its_reader_and_gives_its_name() {
    let query = query("SELECT t.id FROM TUMBLE(DEDUPLICATE(t, KEY (id)), ts, INTERVAL '1 minute')");
    let [inner, outer] = query.relations.as_slice() else { panic!("two relations") };
    assert_eq!(inner.input, RelationInput::Named("t".to_owned()));
    assert_eq!(outer.input, RelationInput::Relation(0));
    assert_eq!(query.query.to_string(), format!("SELECT t.id FROM {} AS \"t\"", outer.placeholder));
    assert_eq!(query.inputs, ["t"]);
    assert_eq!(outer.place.column, inner.place.column - "TUMBLE(".len() as u32);
}

#[test]
fn calls_stand_wherever_a_table_may() {
    let query = query(
        "WITH hop (a, b) AS (SELECT id, k FROM TUMBLE(per, ts, INTERVAL '1 minute')),
              t AS (SELECT * FROM t)
         SELECT hop.a FROM hop
         JOIN HOP(per, ts, INTERVAL '1 minute', INTERVAL '2 minutes') h ON h.id = hop.a
         LEFT JOIN (SELECT * FROM DEDUPLICATE(per, KEY (id)) AS d(x, y, z)) AS sub ON true, t
         WHERE hop.a IN (SELECT id FROM (DEDUPLICATE(per, KEY (id)) JOIN per AS q USING (id)))
         UNION ALL SELECT 1",
    );
    assert_eq!(query.relations.len(), 4);
    let text = query.query.to_string();
    for (relation, alias) in query.relations.iter().zip(["AS \"per\"", "h ON", "AS d (x, y, z)", "AS \"per\" JOIN"]) {
        assert!(text.contains(&format!("{} {alias}", relation.placeholder)), "{alias} in {text}");
    }
    assert_eq!(query.inputs, ["per", "t"], "the WITH query reads the project's t, the last FROM its own");
}

#[test]
fn a_with_name_hides_one_of_the_project() {
    assert_eq!(query("WITH per AS (SELECT 1 AS one) SELECT * FROM per, t").inputs, ["t"]);
    assert_eq!(query("SELECT * FROM (WITH per AS (SELECT 1) SELECT * FROM per) AS x, \"per\"").inputs, ["per"]);
    assert_eq!(query("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n").inputs, [""; 0]);
}

#[test]
fn names_of_calls_may_also_be_columns() {
    let text = "SELECT hop, session, t.tumble FROM t AS session (hop, session, tumble) ORDER BY session.hop";
    assert!(query(text).relations.is_empty());
}
