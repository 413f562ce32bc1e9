//! Worked cases of other systems, restated: what goes in, what must come out, and where our rule is another one.
//!
//! Every case is run in steps, each a run of its own that is restored from the checkpoint of the one before; again with
//! a run for every row (of many rows, every third or so); straight, with all input at once; all of it at several parallelisms and cuts; and over history, as a
//! batch. All must give what the case says. See `SOURCE.md` for where cases come from and how they are written.
//!
//! `own` has cases of ours, for what no other system has; `random` makes input up.
//!
//! `WATERSHED_CASE=tumble` runs the cases whose name holds the word. `WATERSHED_BLESS=1` writes the table of cases anew.

mod case;
mod random;
mod table;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::{Case, Step};
use parking_lot::Mutex;
use world::{Cut, World};

const WHOLE: Cut = Cut { slice: 1_000, rows_per_tick: 100_000, parallelism: 1, spilled: false };
const TINY: Cut = Cut { slice: 1, rows_per_tick: 1, parallelism: 1, spilled: false };
/// Cases that are run at the same time.
const WORKERS: usize = 8;
/// Cases, and batches of cases, that this version refuses or answers wrongly, each with the reason. It shrinks.
const UNAVAILABLE: &str = include_str!("unavailable.txt");

/// Where the cases are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The reasons of [`UNAVAILABLE`], by case.
pub fn unavailable() -> BTreeMap<&'static str, &'static str> {
    let lines = UNAVAILABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("\"{line}\" is no \"case: reason\""))).collect()
}

/// What [`UNAVAILABLE`] calls the batch of a case.
pub fn batch_of(case: &Case) -> String {
    format!("batch of {}", case.name)
}

/// Runs a case in steps, each cut into runs of so many rows. With `change`, parallelism changes from run to run.
fn in_steps(case: &Case, cut: Cut, rows_a_run: usize, change: bool) -> Result<(), String> {
    let mut world = World::new(case)?;
    let mut runs = 0;
    let mut run = |world: &mut World, finalize: bool| {
        runs += 1;
        let parallelism = if change { [1, 3, 7][runs % 3] } else { cut.parallelism };
        world.run(Cut { parallelism, ..cut }, finalize)
    };
    for step in &case.steps {
        match step {
            Step::Rows { source, partition, records } => {
                for some in records.chunks(rows_a_run) {
                    world.append(source, partition, some);
                    run(&mut world, false)?;
                }
            }
            Step::End => run(&mut world, true)?,
            Step::Expect(expect) => {
                let found = match expect.new {
                    true => world.take_new(&expect.table)?,
                    false => world.table(&expect.table)?,
                };
                expect.check(&found)?;
            }
            Step::Ledger { table, account } => account.check(&world.account(table)?, world.kept())?,
        }
    }
    world.balances()
}

/// Runs a case with all input at once, and checks what it holds in the end.
fn straight(case: &Case, cut: Cut) -> Result<(), String> {
    let mut world = World::new(case)?;
    for step in &case.steps {
        if let Step::Rows { source, partition, records } = step {
            world.append(source, partition, records);
        }
    }
    world.run(cut, case.ends())?;
    for expect in case.at_the_end() {
        expect.check(&world.table(&expect.table)?)?;
    }
    for step in case.steps.iter().skip(case.last_input()) {
        if let Step::Ledger { table, account } = step {
            account.check(&world.account(table)?, world.kept())?;
        }
    }
    world.balances()
}

fn prove(case: &Case) -> Result<(), String> {
    let named = |what: String| move |error: String| format!("{what}: {error}");
    for parallelism in [1, 3, 7] {
        for cut in [Cut { parallelism, ..WHOLE }, Cut { parallelism, ..TINY }] {
            in_steps(case, cut, usize::MAX, false).map_err(named(format!("in steps, {cut:?}")))?;
            if case.steps_alone.is_none() {
                straight(case, cut).map_err(named(format!("straight, {cut:?}")))?;
            }
        }
    }
    // Of many rows not every single one is a run.
    let rows = 1 + case.records() / 40;
    // Every spill waits for the disk: a few of them, in a few runs.
    let spilled = Cut { rows_per_tick: 1 + case.records() as u64 / 6, spilled: true, ..TINY };
    for (rows_a_run, cut) in [(rows, WHOLE), (rows * 3, TINY), (1 + case.records() / 2, spilled)] {
        in_steps(case, cut, rows_a_run, true).map_err(named(format!("restored after every {rows_a_run} rows, {cut:?}")))?;
    }
    Ok(())
}

/// Over history. The end of the input closes every window there: a case whose input does not end says why it has none.
fn prove_as_batch(case: &Case) -> Result<(), String> {
    for expect in case.at_the_end() {
        world::as_batch(case, &expect.table).and_then(|found| expect.check(&found)).map_err(|error| format!("as batch: {error}"))?;
    }
    Ok(())
}

/// The same, where a panic is a failure too.
fn outcome(case: &Case, prove: fn(&Case) -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| prove(case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// One way to prove a case, and what [`UNAVAILABLE`] calls it.
type Run = (String, fn(&Case) -> Result<(), String>);

/// What is wrong with a run of a case; `None` if nothing is.
fn judge(case: &Case, (run, prove): &Run, unavailable: &BTreeMap<&str, &str>) -> Option<String> {
    match (outcome(case, *prove), unavailable.get(run.as_str())) {
        (Ok(()), None) => None,
        (Ok(()), Some(_)) => Some(format!("{run} passes: take it off unavailable.txt")),
        (Err(error), None) => Some(format!("{run}: {error}")),
        (Err(error), Some(reason)) => {
            eprintln!("{run}: not available ({reason}): {}", error.lines().next().unwrap_or_default());
            None
        }
    }
}

/// The runs of a case: none if it has no counterpart, and no batch if it cannot run.
fn runs(case: &Case, unavailable: &BTreeMap<&str, &str>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    if case.none.is_none() {
        runs.push((case.name.clone(), prove));
    }
    if case.none.is_none() && case.no_batch.is_none() && !unavailable.contains_key(case.name.as_str()) {
        runs.push((batch_of(case), prove_as_batch));
    }
    for name in [case.name.clone(), batch_of(case)] {
        assert!(!unavailable.contains_key(name.as_str()) || runs.iter().any(|(run, _)| *run == name), "unavailable.txt lists \"{name}\", which is not run");
    }
    runs
}

fn prove_all(family: &str) {
    let unavailable = unavailable();
    let word = std::env::var("WATERSHED_CASE").unwrap_or_default();
    let cases = case::read_all(family);
    let runs: Vec<(&Case, Run)> = cases.iter().filter(|case| case.name.contains(&word)).flat_map(|case| runs(case, &unavailable).into_iter().map(move |run| (case, run))).collect();
    // A run waits more than it computes.
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((case, run)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    wrong.lock().extend(judge(case, run, &unavailable));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner();
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n\n{}", wrong.len(), runs.len(), wrong.join("\n\n"));
}

#[test]
fn windows_as_flink_documents_them() {
    prove_all("flink");
}

#[test]
fn watermarks_sessions_and_repeats_as_spark_tests_them() {
    prove_all("spark");
}

#[test]
fn joins_and_ranks_as_risingwave_tests_them() {
    prove_all("risingwave");
}

#[test]
fn what_our_own_clauses_promise() {
    prove_all("own");
}

#[test]
fn nexmark_over_fixed_input() {
    prove_all("nexmark");
}

#[test]
fn the_list_of_what_is_not_available_names_cases() {
    let names: BTreeSet<String> = table::FAMILIES.iter().flat_map(|(family, _)| case::read_all(family)).flat_map(|case| [batch_of(&case), case.name]).collect();
    for name in unavailable().keys() {
        assert!(names.contains(*name), "unavailable.txt names \"{name}\", which is no case");
    }
}

#[test]
fn the_table_of_cases_is_true() {
    table::check();
}
