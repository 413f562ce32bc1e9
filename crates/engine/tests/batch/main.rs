//! One plan, two lowerings: every pipeline is run as a stream, cut in many ways, and as a batch, and both must match its
//! golden. Then again on random input from many seeds, where the two must match each other.
//!
//! `WATERSHED_BLESS=1` writes the goldens anew, from the batch. `WATERSHED_SEEDS=200` runs more seeds.

mod asked;
mod cases;
mod findings;
mod input;
mod pipelines;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

use datafusion::prelude::{SessionConfig, SessionContext};
use pipelines::{PIPELINES, Pipeline};
use watershed_engine::plan::Rounds;
use world::{Cut, Tables, as_batch, as_stream, batch_in};

/// Enough for nearly every chain of repeats that [`input`] makes.
const ROUNDS: Rounds = Rounds::AtMost(12);

#[track_caller]
fn same(found: &Tables, expected: &Tables, what: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}: tables");
    for (table, rows) in expected {
        let mut rest: BTreeMap<&String, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *rest.entry(row).or_default() -= 1);
        found[table].iter().for_each(|row| *rest.entry(row).or_default() += 1);
        rest.retain(|_, count| *count != 0);
        let shown: Vec<_> = rest.iter().take(12).collect();
        assert!(rest.is_empty(), "{what}: table {table} has {} rows, {} expected; too many (+) or missing (-): {shown:#?}", found[table].len(), rows.len());
    }
}

fn golden(name: &str, found: &Tables) -> Tables {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/batch/goldens/{name}.txt"));
    if std::env::var_os("WATERSHED_BLESS").is_some() {
        let text: String = found.iter().map(|(table, rows)| format!("# {table}\n{}\n", rows.join("\n"))).collect();
        std::fs::write(&file, text).expect("the golden is written");
    }
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing: run with WATERSHED_BLESS=1 and read what it writes", file.display()));
    let mut tables = Tables::new();
    let mut table = String::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(name) => {
                table = name.to_owned();
                tables.entry(table.clone()).or_default();
            }
            None if line.is_empty() => {}
            None => tables.entry(table.clone()).or_default().push(line.to_owned()),
        }
    }
    tables
}

fn prove(pipeline: &Pipeline) {
    let name = pipeline.name;
    let records = (pipeline.input)(1);
    let batch = as_batch(pipeline, &records, Rounds::UntilDone).unwrap_or_else(|e| panic!("{name} as batch: {}", e.report()));
    let expected = golden(name, &batch);
    assert!(expected.values().all(|rows| rows.len() > 1), "{name}: a golden that says something of every table");
    same(&batch, &expected, &format!("{name} as batch"));
    let unrolled = as_batch(pipeline, &records, ROUNDS).unwrap_or_else(|e| panic!("{name} as batch: {}", e.report()));
    same(&unrolled, &expected, &format!("{name} as batch in rounds"));
    for parallelism in [1, 3] {
        for cut in [Cut { slice: 1_000, rows_per_tick: 100_000, parallelism }, Cut { slice: 3, rows_per_tick: 5, parallelism }, Cut { slice: 7, rows_per_tick: 40, parallelism }] {
            let stream = as_stream(pipeline, &records, cut).unwrap_or_else(|e| panic!("{name} as stream: {}", e.report()));
            same(&stream, &expected, &format!("{name} as stream, {cut:?}"));
        }
    }
    let seeds = std::env::var("WATERSHED_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for seed in 2..2 + seeds {
        let records = (pipeline.input)(seed);
        let batch = as_batch(pipeline, &records, Rounds::UntilDone).unwrap_or_else(|e| panic!("{name}, seed {seed}: {}", e.report()));
        match as_batch(pipeline, &records, ROUNDS) {
            Ok(unrolled) => same(&unrolled, &batch, &format!("{name}, seed {seed}, in rounds")),
            // A longer chain of repeats than most: refused, which is right.
            Err(error) => assert_eq!(error.code(), "PLAN0021", "{name}, seed {seed}: {}", error.report()),
        }
        let cut = Cut { slice: 1 + seed as usize % 11, rows_per_tick: 1 + seed * 13 % 60, parallelism: if seed % 2 == 0 { 1 } else { 3 } };
        let stream = as_stream(pipeline, &records, cut).unwrap_or_else(|e| panic!("{name}, seed {seed}: {}", e.report()));
        same(&stream, &batch, &format!("{name}, seed {seed}, stream {cut:?} against batch"));
    }
}

macro_rules! proofs {
    ($($test:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            let name = stringify!($test);
            prove(PIPELINES.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no pipeline {name}")));
        })+
        #[test]
        fn every_pipeline_is_proved() {
            assert_eq!(PIPELINES.iter().map(|p| p.name).collect::<Vec<_>>(), vec![$(stringify!($test)),+]);
        }
    };
}

proofs!(rules, dedup, dedup_within, dedup_long, tumble, hop, hop_rows, window_over_dedup, tables_in_a_row, windows_of_windows, lookup, distinct, arrival_order, views);

#[test]
fn a_rule_that_is_on_violation_fail_stops_both() {
    let pipeline = Pipeline {
        name: "fail",
        sql: "CREATE TABLE a (CONSTRAINT never EXPECT (seq < 3) ON VIOLATION FAIL) AS SELECT * FROM s;
              CREATE TABLE b AS SELECT seq FROM a WHERE seq < 3;",
        statics: &[],
        input: |_| vec![],
    };
    let records = |ids: std::ops::Range<u64>| vec![ids.map(|id| format!(r#"{{"id":"k","seq":{id},"at":"2026-01-01T00:00:00Z"}}"#)).collect::<Vec<_>>()];
    let cut = Cut { slice: 2, rows_per_tick: 2, parallelism: 1 };
    assert_eq!(as_stream(&pipeline, &records(0..4), cut).expect_err("breaks the rule").code(), "RUN0006");
    let error = as_batch(&pipeline, &records(0..4), Rounds::UntilDone).expect_err("breaks the rule");
    assert_eq!((error.code(), error.message()), ("PLAN0020", "table \"a\": a row of the history broke rule never: seq < 3, which is ON VIOLATION FAIL"));
    let kept = as_batch(&pipeline, &records(0..3), Rounds::UntilDone).expect("keeps the rule");
    same(&as_stream(&pipeline, &records(0..3), cut).expect("keeps the rule"), &kept, "a rule that is kept");
}

#[test]
fn long_intervals_are_compared_as_coarsely_as_the_stream_does() {
    let pipeline =
        Pipeline { name: "coarse", sql: "CREATE TABLE d AS SELECT id, seq FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '2 hours') AS t;", statics: &[], input: |_| vec![] };
    let record = |id: &str, seq: u64, at: &str| format!(r#"{{"id":"{id}","seq":{seq},"at":"2026-01-01T{at}Z"}}"#);
    let records = vec![vec![record("odd", 0, "00:00:00.000001"), record("even", 1, "00:00:00.000002"), record("odd", 2, "02:00:00.000000"), record("even", 3, "02:00:00.000001")]];
    let batch = as_batch(&pipeline, &records, Rounds::UntilDone).unwrap_or_else(|e| panic!("{}", e.report()));
    assert_eq!(batch["d"], ["id Utf8View | seq Int64", "even | 1", "odd | 0", "odd | 2"], "two microseconds are one unit here");
    same(&as_stream(&pipeline, &records, Cut { slice: 1, rows_per_tick: 1, parallelism: 1 }).unwrap_or_else(|e| panic!("{}", e.report())), &batch, "stream");
}

#[test]
fn too_few_rounds_are_an_error_and_never_a_wrong_answer() {
    let pipeline = PIPELINES.iter().find(|p| p.name == "dedup_within").expect("is there");
    let error = as_batch(pipeline, &(pipeline.input)(1), Rounds::AtMost(1)).expect_err("needs more");
    assert_eq!(error.code(), "PLAN0021", "{}", error.report());
}

#[test]
fn any_datafusion_can_run_a_batch_plan() {
    for pipeline in PIPELINES {
        for (partitions, rows) in [(1, 8_192), (4, 5)] {
            let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(rows);
            for rounds in [Rounds::UntilDone, ROUNDS] {
                let what = format!("{}, {partitions} partitions, batches of {rows}, {rounds:?}", pipeline.name);
                let elsewhere = SessionContext::new_with_config(config.clone());
                let tables = batch_in(pipeline, &(pipeline.input)(1), rounds, Some(&elsewhere)).unwrap_or_else(|e| panic!("{what}: {}", e.report()));
                let expected = golden(pipeline.name, &tables);
                same(&tables, &expected, &what);
            }
        }
    }
}

#[test]
fn nothing_of_ours_is_left_in_a_batch_plan() {
    for pipeline in PIPELINES {
        world::is_relational(pipeline);
    }
}
