//! Results on stdout.

use std::time::Duration;

use watershed_engine::run::Outcome;

/// What a run did.
pub fn outcome(outcome: &Outcome, took: Duration, _json: bool) {
    println!("epoch {} · {} records in {:.2}s · {:.0} records/s", outcome.epoch, outcome.records, took.as_secs_f64(), outcome.records as f64 / took.as_secs_f64());
    for ((table, source), a) in &outcome.accounts {
        println!("{table} <- {source}: {a:?} {}", a.balances());
    }
}
