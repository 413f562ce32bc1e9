//! Stream relations in every form and place, and the names a query reads.

use super::good;
use crate::{QueryDef, Relation, RelationInput, RelationKind};

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
    let dedup = |within_micros| RelationKind::Deduplicate { key: vec!["id".to_owned(), "k".to_owned()], within_micros };
    assert_eq!(only("SELECT * FROM DEDUPLICATE(t, KEY (id, k))").kind, dedup(None));
    assert_eq!(only("SELECT * FROM DEDUPLICATE(TABLE t, WITHIN INTERVAL '1 minute', KEY => DESCRIPTOR(id, K))").kind, dedup(Some(MINUTE)));
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
