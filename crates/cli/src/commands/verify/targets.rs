//! Outside targets: what each says it holds, epoch by epoch, against the receipts.

use std::collections::BTreeMap;

use tokio::runtime::Runtime;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_engine::plan::Plan;
use watershed_engine::run::staged_files;
use watershed_ports::{History, Target};
use watershed_types::{Epoch, Kind, Result};

use super::audit::Audit;
use super::finding::Finding;
use crate::adapters::ProjectAdapters;
use crate::output::{count, thousands};
use crate::project::Project;

pub const CHECK: &str = "sinks";
const RESTORE: &str = "Restore the target from a backup that is not older than the checkpoint, or read the rows again into a fresh project.";

/// Epochs that a target has lost.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The sink.
    pub sink: String,
    /// Its epochs, and how many of their rows were refused then.
    pub epochs: BTreeMap<u64, u64>,
}

/// Asks every outside target of the plan. One that cannot be reached is a note: nothing is known to be wrong.
pub fn check(project: &Project, runtime: &Runtime, plan: &Plan, store: &Store, before: &Audit, after: &Audit) -> Result<(Vec<Finding>, Vec<Lost>)> {
    let (mut findings, mut lost) = (Vec::new(), Vec::new());
    let (Some(id), Some(checkpoint)) = (&after.id, Checkpoint::open(store.clone())?) else { return Ok((findings, lost)) };
    let adapters = ProjectAdapters::new(project, runtime.handle())?;
    for sink in &plan.sinks {
        let app_id = format!("watershed/{id}/{}", sink.name);
        let Some(target) = adapters.target(sink, &plan.tables[sink.table], &app_id)? else { continue };
        // On a thread of its own: targets block on the runtime.
        let history = std::thread::scope(|scope| scope.spawn(|| target.history()).join());
        match history {
            Ok(Ok(history)) => {
                let (found, missing) = compare(target.as_ref(), &history, &checkpoint, before, after);
                findings.extend(found);
                lost.extend((!missing.is_empty()).then(|| Lost { sink: sink.name.clone(), epochs: missing }));
            }
            Ok(Err(error)) if error.kind() == Kind::Corrupt => {
                findings.push(Finding::failed_with(CHECK, error.message(), error.next_step().unwrap_or_default()));
            }
            Ok(Err(error)) => {
                findings.extend(behind(&sink.name, after));
                findings.push(Finding::note(CHECK, format!("sink \"{}\" was not checked: {error}", sink.name)));
            }
            Err(_) => findings.push(Finding::note(CHECK, format!("sink \"{}\" was not checked: its client panicked", sink.name))),
        }
    }
    Ok((findings, lost))
}

/// What a sink is behind by on purpose.
fn behind(sink: &str, audit: &Audit) -> Option<Finding> {
    let waiting: Vec<(u64, u64)> =
        audit.records.iter().filter_map(|(epoch, r)| r.sinks.get(sink).filter(|receipt| receipt.spooled).map(|receipt| (*epoch, receipt.rows))).collect();
    let (first, _) = waiting.first()?;
    let rows = waiting.iter().map(|(_, rows)| rows).sum();
    let epochs = count(waiting.len() as u64, "epoch");
    Some(Finding::note(CHECK, format!("sink \"{sink}\" is behind by {epochs} (spooled), from epoch {first} on: {} wait for its target", count(rows, "row"))))
}

fn compare(target: &dyn Target, history: &History, checkpoint: &Checkpoint, before: &Audit, after: &Audit) -> (Vec<Finding>, BTreeMap<u64, u64>) {
    let name = target.name();
    let (mut findings, mut lost) = (Vec::new(), BTreeMap::new());
    let newest_there = history.epochs.keys().next_back().copied().unwrap_or(history.folded.up_to);
    // Once more, after the target was asked: a running pipeline goes on.
    let now_prepared = checkpoint.history().map_or(0, |history| history.last_prepared().0);
    let prepared = after.newest().1.max(now_prepared);
    let (mut checked, mut rows, mut folded) = (0, 0, (0, 0));
    for (epoch, record) in &before.records {
        let Some(receipt) = record.sinks.get(name).filter(|receipt| !receipt.spooled) else { continue };
        let expected = receipt.rows - receipt.refused;
        match history.epochs.get(epoch) {
            Some(there) if *there == expected => (checked, rows) = (checked + 1, rows + there),
            Some(there) => {
                let (more, word) = (*there > expected, if *there > expected { "repeated" } else { "lost" });
                findings.push(Finding::failed_with(
                    CHECK,
                    format!(
                        "epoch {epoch}: the commit record says sink \"{name}\" took {}, and the target says {}: {} {word} there",
                        count(expected, "row"),
                        thousands(*there),
                        thousands(there.abs_diff(expected))
                    ),
                    if more {
                        "Somebody changed the target's record of epochs, or the checkpoint is not the one that wrote it."
                    } else {
                        "Somebody changed the target's record of epochs. To have the epoch given back whole, delete its line and its rows there, then run `watershed verify --repair`."
                    },
                ));
            }
            None if *epoch <= history.folded.up_to => folded = (folded.0 + 1, folded.1 + expected),
            None if history.complete || *epoch > newest_there => {
                lost.insert(*epoch, receipt.refused);
                let words =
                    format!("epoch {epoch}: the commit record says sink \"{name}\" took {}, and the target does not know the epoch: they are lost there", count(expected, "row"));
                let next = match staged_files(checkpoint, Epoch(*epoch), name) {
                    Ok(_) => "Run `watershed verify --repair`: the epoch's rows are kept, and can be given back.".to_owned(),
                    Err(error) => format!("It cannot be given back: {}. {RESTORE}", error.message()),
                };
                findings.push(Finding::failed_with(CHECK, words, next));
            }
            None => {}
        }
    }
    let sums = history.folded;
    if sums.up_to > 0 && folded != (sums.epochs, sums.rows) {
        findings.push(Finding::failed_with(
            CHECK,
            format!(
                "epochs up to {}, which the target of sink \"{name}\" knows only as a sum: the commit records say {} with {}, and the target says {} with {}",
                sums.up_to,
                count(folded.0, "epoch"),
                count(folded.1, "row"),
                thousands(sums.epochs),
                thousands(sums.rows)
            ),
            RESTORE,
        ));
    } else {
        (checked, rows) = (checked + folded.0, rows + folded.1);
    }
    for epoch in history.epochs.keys().filter(|epoch| **epoch > prepared) {
        findings.push(Finding::failed_with(
            CHECK,
            format!("sink \"{name}\" holds epoch {epoch}, and the checkpoint knows only {prepared}"),
            "The checkpoint is older than the target. Restore the matching one.",
        ));
    }
    let put: u64 = history.epochs.values().sum::<u64>() + sums.rows;
    let missing: u64 = lost.keys().filter_map(|epoch| before.records.get(epoch)?.sinks.get(name)).map(|receipt| receipt.rows - receipt.refused).sum();
    if let Some(now) = history.rows_now.filter(|now| missing > 0 && *now >= put + missing) {
        // Given back, they would be there twice.
        findings.retain(|finding| !finding.says_lost());
        findings.push(Finding::failed_with(
            CHECK,
            format!(
                "the target of sink \"{name}\" does not know {} of the commit records, with {}, and its table holds {} more than it accounts for: the rows seem to be there, and only their lines in watershed.epochs are gone",
                count(lost.len() as u64, "epoch"),
                count(missing, "row"),
                thousands(now - put)
            ),
            "Restore watershed.epochs from a backup. If the rows are somebody else's, delete those first; then `watershed verify --repair` gives the epochs back.",
        ));
        return (findings, BTreeMap::new());
    }
    if let Some(now) = history.rows_now.filter(|_| history.complete) {
        if now < put {
            let next = "Somebody deleted rows there, and kept the lines of their epochs in watershed.epochs, so that nobody can say which are gone. Restore the target from a backup, or \
                        delete an epoch's rows and its line, and run `watershed verify --repair`.";
            let words = format!("sink \"{name}\" holds {} rows, and its epochs put {} there: {} lost", thousands(now), thousands(put), thousands(put - now));
            findings.push(Finding::failed_with(CHECK, words, next));
        } else if now > put && lost.is_empty() {
            let words =
                format!("sink \"{name}\": its table holds {}, and its epochs put {} there: somebody else added {}", count(now, "row"), thousands(put), thousands(now - put));
            findings.push(Finding::note(CHECK, words));
        }
    }
    if findings.iter().all(|finding| !finding.failed()) {
        findings.push(Finding::good(CHECK, format!("\"{name}\" confirms {} with {}", count(checked, "epoch"), count(rows, "row"))));
    }
    findings.extend(behind(name, before));
    (findings, lost)
}
