//! Queries over input that is made up: the same table however the input is cut, and, where no row is late, the table that a
//! batch over the whole input gives.
//!
//! Two sources of one to three partitions; times out of order, NULL keys, repeats, lists, maps and decimals. A failure names
//! its seed: `WATERSHED_SEED=17` runs that one alone, `WATERSHED_SEEDS=500` many.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::case::{Case, Expect, Rows, Step};
use crate::world::{Cut, World, as_batch};

const SOURCES: &str = "
CREATE SOURCE a (id BIGINT NOT NULL, k VARCHAR, v BIGINT, d DECIMAL(12, 3), tags VARCHAR[], attrs MAP<VARCHAR, BIGINT>, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '10 seconds') WITH (connector = 'log');
CREATE SOURCE b (id BIGINT NOT NULL, k VARCHAR, v BIGINT, d DECIMAL(12, 3), tags VARCHAR[], attrs MAP<VARCHAR, BIGINT>, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '10 seconds') WITH (connector = 'log');
CREATE VIEW ua AS SELECT * FROM DEDUPLICATE(a, KEY (id));
CREATE VIEW ub AS SELECT * FROM DEDUPLICATE(b, KEY (id));
CREATE VIEW both AS SELECT id, k, v, d, attrs, at FROM a UNION ALL SELECT id, k, v, d, attrs, at FROM b;
CREATE VIEW meetings AS SELECT ua.at, ub.id FROM ua JOIN ub ON ua.k = ub.k AND ua.at BETWEEN ub.at - INTERVAL '4 seconds' AND ub.at + INTERVAL '6 seconds';
";

/// Each operator at least once. Orders are complete: what ties would be is the order of arrival.
const QUERIES: &[(&str, &str)] = &[
    ("tumble", "SELECT window_start, k, count(*) AS n, sum(d) AS d, count(DISTINCT v) AS vs FROM TUMBLE(a, at, INTERVAL '7 seconds') GROUP BY window_start, window_end, k"),
    ("hop", "SELECT window_start, window_end, k, count(*) AS n, avg(d) AS d FROM HOP(a, at, INTERVAL '3 seconds', INTERVAL '9 seconds') GROUP BY window_start, window_end, k"),
    ("cumulate", "SELECT window_start, window_end, sum(v) AS v FROM CUMULATE(a, at, INTERVAL '4 seconds', INTERVAL '12 seconds') GROUP BY window_start, window_end"),
    ("rolled_up", "SELECT window_start, window_end, k, v, count(*) AS n FROM TUMBLE(a, at, INTERVAL '10 seconds') GROUP BY window_start, window_end, ROLLUP (k, v)"),
    ("sessions", "SELECT k, window_start, window_end, count(*) AS n, sum(d) AS d FROM SESSION(a PARTITION BY (k), at, INTERVAL '3 seconds') GROUP BY k, window_start, window_end"),
    (
        "sessions_grow",
        "SELECT k, window_start, window_end, count(*) AS n, sum(d) AS d FROM SESSION(a PARTITION BY (k), at, INTERVAL '3 seconds') WHERE v > 1 GROUP BY k, window_start, window_end EMIT ON CHANGE",
    ),
    (
        "session_sizes",
        "SELECT n, count(*) AS sessions FROM (SELECT window_start, window_end, count(*) AS n FROM SESSION(a, at, INTERVAL '2 seconds') GROUP BY window_start, window_end HAVING count(*) > 1) GROUP BY n EMIT ON CHANGE",
    ),
    ("session_rows", "SELECT id, k, d, tags, attrs, window_start, window_end FROM SESSION(ua PARTITION BY (k), at, INTERVAL '3 seconds')"),
    ("first_rows", "SELECT id, k, d, tags, attrs FROM DEDUPLICATE(a, KEY (id))"),
    ("last_rows", "SELECT id, k, d, tags, attrs, at FROM DEDUPLICATE(a, KEY (k), KEEP LAST) EMIT ON CHANGE"),
    ("near", "SELECT ua.id AS a, ub.id AS b, ua.attrs, ub.tags FROM ua JOIN ub ON ua.k = ub.k AND ua.at BETWEEN ub.at - INTERVAL '4 seconds' AND ub.at + INTERVAL '6 seconds'"),
    ("after", "SELECT ua.id AS a, ub.id AS b FROM ua JOIN ub ON ua.k = ub.k AND ua.at BETWEEN ub.at + INTERVAL '5 seconds' AND ub.at + INTERVAL '9 seconds'"),
    ("before", "SELECT ua.id AS a, ub.id AS b FROM ua FULL JOIN ub ON ua.k = ub.k AND ua.at BETWEEN ub.at - INTERVAL '9 seconds' AND ub.at - INTERVAL '5 seconds'"),
    ("near_left", "SELECT a.id AS a, b.id AS b, b.attrs FROM a LEFT JOIN b ON a.k = b.k AND a.v < b.v AND a.at BETWEEN b.at - INTERVAL '2 seconds' AND b.at + INTERVAL '3 seconds'"),
    ("near_full", "SELECT a.id AS a, b.id AS b, a.tags, b.attrs FROM a FULL JOIN b ON a.k = b.k AND a.at BETWEEN b.at - INTERVAL '2 seconds' AND b.at + INTERVAL '3 seconds'"),
    ("near_semi", "SELECT id, attrs FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.k = b.k AND a.at BETWEEN b.at - INTERVAL '2 seconds' AND b.at + INTERVAL '3 seconds')"),
    ("near_anti", "SELECT id, tags FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE a.k = b.k AND a.at BETWEEN b.at - INTERVAL '2 seconds' AND b.at + INTERVAL '3 seconds')"),
    (
        "of_windows",
        "SELECT l.id AS a, r.id AS b, l.window_start, l.attrs FROM TUMBLE(a, at, INTERVAL '5 seconds') AS l LEFT JOIN TUMBLE(b, at, INTERVAL '5 seconds') AS r
         ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k",
    ),
    ("met", "SELECT ua.id AS a, ub.id AS b, ua.attrs FROM ua JOIN ub ON ua.k = ub.k AND ua.v = ub.v"),
    ("met_or_not", "SELECT ua.id AS a, ua.k, ua.v, ua.attrs, ub.id AS b, ub.k AS bk, ub.v AS bv, ub.tags FROM ua LEFT JOIN ub ON ua.k = ub.k AND ua.v = ub.v EMIT ON CHANGE"),
    ("as_of", "SELECT a.id, a.attrs, b.id AS b, b.tags FROM a LEFT JOIN b FOR SYSTEM_TIME AS OF a.at ON a.k = b.k AND a.v <= b.v"),
    ("as_of_inner", "SELECT a.id, b.id AS b, b.attrs FROM a JOIN b FOR SYSTEM_TIME AS OF a.at ON a.k = b.k"),
    ("as_of_where", "SELECT a.id, b.id AS b FROM a LEFT JOIN b FOR SYSTEM_TIME AS OF a.at ON a.k = b.k WHERE b.v > 0 AND a.v > 0 AND b.k <> 'x'"),
    ("running", "SELECT id, attrs, sum(v) OVER (PARTITION BY k ORDER BY at ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s, lag(d) OVER (PARTITION BY k ORDER BY at) AS before FROM ua"),
    ("range", "SELECT id, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '5 seconds' PRECEDING AND CURRENT ROW) AS n FROM ua"),
    ("ahead", "SELECT id, tags, lead(id) OVER (PARTITION BY k ORDER BY at) AS next FROM ua"),
    (
        "best_of_window",
        "SELECT id, k, attrs, window_start, rn FROM (SELECT id, k, attrs, window_start, window_end, row_number() OVER (PARTITION BY window_start, window_end, k ORDER BY v DESC, id) AS rn
         FROM TUMBLE(ua, at, INTERVAL '8 seconds')) WHERE rn <= 2",
    ),
    ("best", "SELECT id, k, attrs, rn FROM (SELECT id, k, attrs, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS rn FROM ua) WHERE rn <= 3 EMIT ON CHANGE"),
    ("top", "SELECT id, d, tags FROM ua ORDER BY d DESC, id LIMIT 5 EMIT ON CHANGE"),
    ("totals", "SELECT k, count(*) AS n, sum(d) AS d, count(DISTINCT v) AS vs, max(at) AS last FROM a GROUP BY k EMIT ON CHANGE"),
    ("by_map", "SELECT tags, attrs, count(*) AS n FROM a GROUP BY tags, attrs EMIT ON CHANGE"),
    ("distinct_rows", "SELECT DISTINCT k, v FROM a EMIT ON CHANGE"),
    ("sizes", "SELECT n, count(*) AS ks FROM (SELECT k, count(*) AS n FROM a GROUP BY k) GROUP BY n EMIT ON CHANGE"),
    (
        "leaders",
        "SELECT k, n, rn FROM (SELECT k, n, row_number() OVER (ORDER BY n DESC, k) AS rn FROM (SELECT k, count(*) AS n FROM a GROUP BY k)) WHERE rn <= 2 EMIT ON CHANGE",
    ),
    (
        "counts_met",
        "SELECT x.k AS xk, x.n AS xn, y.k AS yk, y.n AS yn FROM (SELECT k, count(*) AS n FROM a WHERE k IS NOT NULL GROUP BY k) AS x FULL JOIN (SELECT k, count(*) AS n FROM b WHERE k IS NOT NULL GROUP BY k) AS y
         ON x.k = y.k AND x.n >= y.n EMIT ON CHANGE",
    ),
    ("never_met", "SELECT id, k, v, attrs FROM ua WHERE NOT EXISTS (SELECT 1 FROM ub WHERE ua.k = ub.k AND ua.v = ub.v) EMIT ON CHANGE"),
    ("once_met", "SELECT id, attrs FROM ua WHERE EXISTS (SELECT 1 FROM ub WHERE ua.k = ub.k AND ua.v = ub.v)"),
    ("of_last", "SELECT v, count(*) AS n, max(id) AS id FROM DEDUPLICATE(a, KEY (k), KEEP LAST) GROUP BY v EMIT ON CHANGE"),
    ("hop_now", "SELECT window_start, window_end, k, count(*) AS n FROM HOP(a, at, INTERVAL '3 seconds', INTERVAL '9 seconds') GROUP BY window_start, window_end, k EMIT ON CHANGE"),
    ("united", "SELECT window_start, window_end, k, count(*) AS n, sum(d) AS d FROM TUMBLE(both, at, INTERVAL '7 seconds') GROUP BY window_start, window_end, k"),
    ("forgiving", "SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(a, at, INTERVAL '7 seconds') GROUP BY window_start, window_end, k ALLOWED LATENESS INTERVAL '15 seconds' ON LATE UPDATE"),
    ("early", "SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(a, at, INTERVAL '7 seconds') GROUP BY window_start, window_end, k HAVING count(*) < 3 EMIT ON CLOSE EARLY EVERY INTERVAL '1 second'"),
    ("after_join", "SELECT window_start, count(*) AS n FROM TUMBLE(meetings, at, INTERVAL '5 seconds') GROUP BY window_start, window_end"),
];

/// Input without late rows, or with some.
fn input(random: &mut SmallRng, late: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut id = 0;
    for source in ["a", "b"] {
        for partition in 0..random.random_range(1..=3) {
            let rows = random.random_range(5..40);
            steps.push((source, partition.to_string(), partition_of(random, rows, late, &mut id)));
        }
    }
    // Cut into stretches that come in turn, as partitions do.
    let mut parts = Vec::new();
    while !steps.is_empty() {
        let at = random.random_range(0..steps.len());
        let (source, partition, records) = &mut steps[at];
        let some = random.random_range(1..=records.len().min(12));
        parts.push(Step::Rows { source: (*source).to_owned(), partition: partition.clone(), records: records.drain(..some).collect() });
        steps.retain(|(_, _, records)| !records.is_empty());
    }
    parts
}

fn partition_of(random: &mut SmallRng, rows: usize, late: bool, id: &mut i64) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    let mut seconds: i64 = random.random_range(0..10);
    for _ in 0..rows {
        if !records.is_empty() && random.random_bool(0.1) {
            records.extend(records.last().cloned());
            continue;
        }
        *id += 1;
        seconds += random.random_range(0..4);
        let behind = match late && random.random_bool(0.15) {
            true => random.random_range(11..40),
            false => random.random_range(0..10),
        };
        // No two rows have the same time: its microseconds are the number of the row.
        let at = 600 + seconds - behind;
        let at = format!("2024-01-01 {:02}:{:02}:{:02}.{:06}", at / 3600, at / 60 % 60, at % 60, *id);
        let key = ["\"x\"", "\"y\"", "\"z\"", "\"\"", "null"].choose(random).copied().unwrap_or("null");
        let value = if random.random_bool(0.1) { "null".to_owned() } else { random.random_range(-2..4).to_string() };
        let decimal = if random.random_bool(0.1) { "null".to_owned() } else { format!("{}.{:03}", random.random_range(0..9), random.random_range(0..1000)) };
        let tags = ["null", "[]", "[null]", "[\"p\"]", "[\"p\", \"q\"]"].choose(random).copied().unwrap_or("null");
        let attrs = ["null", "{}", "{\"m\": 1}", "{\"m\": null, \"n\": 2}", "{\"n\": 2, \"m\": 1}"].choose(random).copied().unwrap_or("null");
        records.push(format!(r#"{{"id": {id}, "k": {key}, "v": {value}, "d": {decimal}, "tags": {tags}, "attrs": {attrs}, "at": "{at}"}}"#, id = *id));
    }
    records
}

fn case(steps: Vec<Step>, queries: &[(&str, &str)]) -> Case {
    let tables: String = queries.iter().map(|(name, query)| format!("CREATE TABLE q_{name} AS {query};\n")).collect();
    let clock = Some("so that early results are there".to_owned());
    Case { name: "random".to_owned(), differs: None, none: None, steps_alone: None, no_batch: None, clock, sql: format!("{SOURCES}{tables}"), steps }
}

/// Every table of a case in the end, after a run now and then.
fn tables(case: &Case, queries: &[(&str, &str)], mut run_now: impl FnMut() -> Option<Cut>, last: Cut) -> Result<BTreeMap<String, Rows>, String> {
    let mut world = World::new(case)?;
    for step in &case.steps {
        if let Step::Rows { source, partition, records } = step {
            world.append(source, partition, records);
            if let Some(cut) = run_now() {
                world.run(cut, false)?;
            }
        }
    }
    world.run(last, true)?;
    world.balances()?;
    queries.iter().map(|(name, _)| Ok((format!("q_{name}"), world.table(&format!("q_{name}"))?))).collect()
}

fn cut(random: &mut SmallRng) -> Cut {
    let rows_per_tick = [1, 3, 10, 100][random.random_range(0..4)];
    // Every spill waits for the disk: large ticks, and few of them.
    let spilled = rows_per_tick > 3 && random.random_bool(0.5) && rows_per_tick > 10;
    Cut { slice: random.random_range(1..12), rows_per_tick, parallelism: [1, 2, 5][random.random_range(0..3)], spilled }
}

/// What is wrong with a seed.
fn judge(seed: u64, queries: &[(&str, &str)]) -> Vec<String> {
    let late = seed % 2 == 1;
    let mut random = SmallRng::seed_from_u64(seed);
    let case = case(input(&mut random, late), queries);
    let whole = Cut { slice: 1_000, rows_per_tick: 100_000, parallelism: 1, spilled: false };
    let straight = match tables(&case, queries, || None, whole) {
        Ok(straight) => straight,
        Err(error) => return vec![format!("seed {seed}: straight: {error}")],
    };
    let mut wrong = Vec::new();
    let mut compare = |how: &str, table: &str, found: Result<&Rows, &String>| {
        let expected = Expect { table: table.to_owned(), new: false, rows: straight[table].clone() };
        if let Err(error) = found.map_err(String::clone).and_then(|found| expected.check(found)) {
            wrong.push(format!("seed {seed}: {how}: {error}"));
        }
    };
    for _ in 0..2 {
        let last = cut(&mut random);
        let often = random.random_range(0.05..0.6);
        match tables(&case, queries, || random.random_bool(often).then(|| cut(&mut random)), last) {
            Ok(found) => found.iter().for_each(|(table, rows)| compare(&format!("in runs, the last {last:?}"), table, Ok(rows))),
            Err(error) => compare("in runs", "q_tumble", Err(&error)),
        }
    }
    if !late {
        for (name, _) in queries {
            let table = format!("q_{name}");
            compare("as batch (expected is straight)", &table, as_batch(&case, &table).as_ref());
        }
    }
    wrong
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn made_up_input_gives_one_table_however_it_is_cut() {
    let seeds = match number("WATERSHED_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WATERSHED_SEEDS").unwrap_or(20)).collect(),
    };
    let word = std::env::var("WATERSHED_CASE").unwrap_or_default();
    let queries: Vec<(&str, &str)> = QUERIES.iter().filter(|(name, _)| *name == "tumble" || name.contains(&word)).copied().collect();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves = seeds.chunks(seeds.len().div_ceil(2)).map(|seeds| scope.spawn(|| seeds.iter().flat_map(|seed| judge(*seed, &queries)).collect::<Vec<_>>()));
        halves.collect::<Vec<_>>().into_iter().flat_map(|half| half.join().expect("a seed panicked")).collect()
    });
    assert!(wrong.is_empty(), "{} differ:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
