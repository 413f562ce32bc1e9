//! What a plan says of state that event time does not bound.

use watershed_engine::operator::Step;

use crate::world::plan;

/// With what the operators of a query's table grow, those that do.
fn grows(query: &str) -> Vec<&'static str> {
    let sql = format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, k BIGINT, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at) WITH (connector = 'log');
         CREATE SOURCE r (id BIGINT NOT NULL, k BIGINT, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at) WITH (connector = 'log');
         CREATE TABLE t AS {query};"
    );
    let steps = plan(&sql).tables.into_iter().flat_map(|table| table.steps);
    steps.filter_map(|step| if let Step::Operator(spec) = step { spec.grows() } else { None }).map(|growth| growth.with).collect()
}

#[test]
fn operators_that_no_watermark_bounds_say_with_what_they_grow() {
    let unbounded = [
        ("SELECT s.id, r.at FROM s JOIN r ON s.k = r.k", "the rows of both streams"),
        ("SELECT k, count(*) AS n FROM s GROUP BY k EMIT ON CHANGE", "its groups"),
        ("SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour', KEEP LAST) EMIT ON CHANGE", "its keys"),
        ("SELECT id, k, at, row_number() OVER (PARTITION BY k ORDER BY at) AS n FROM s", "every row"),
        ("SELECT id, k, at, sum(id) OVER (PARTITION BY k ORDER BY at ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS n FROM s", "the keys of PARTITION BY"),
        ("SELECT s.id, v.at AS since FROM s JOIN r FOR SYSTEM_TIME AS OF s.at AS v ON s.k = v.k", "the keys of the versions"),
        ("SELECT s.id, v.at AS since FROM s JOIN r FOR SYSTEM_TIME AS OF PROCTIME() AS v ON s.k = v.k", "the keys of the versions"),
    ];
    for (query, with) in unbounded {
        assert_eq!(grows(query), [with], "{query}");
    }
    let bounded = [
        "SELECT s.id, r.at FROM s JOIN r ON s.k = r.k AND s.at BETWEEN r.at - INTERVAL '1 hour' AND r.at",
        "SELECT window_start, k, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 hour') GROUP BY window_start, k",
        "SELECT window_start, k, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 hour') GROUP BY window_start, k EMIT ON CHANGE",
        "SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour')",
        "SELECT count(*) AS n FROM s EMIT ON CHANGE",
        "SELECT id, k, at, sum(id) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS n FROM s",
    ];
    for query in bounded {
        assert_eq!(grows(query), [""; 0], "{query}");
    }
}
