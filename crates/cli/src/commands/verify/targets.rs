//! Outside targets: what each says it holds, epoch by epoch, against the receipts.

use tokio::runtime::Runtime;
use watershed_engine::plan::Plan;
use watershed_ports::Target;
use watershed_types::Result;

use super::audit::Audit;
use super::finding::Finding;
use crate::adapters::ProjectAdapters;
use crate::output::{count, thousands};
use crate::project::Project;

const CHECK: &str = "sinks";

/// Asks every outside target of the plan. One that cannot be reached is a note: nothing is known to be wrong.
pub fn check(project: &Project, runtime: &Runtime, plan: &Plan, before: &Audit, after: &Audit) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(id) = &after.id else { return Ok(findings) };
    let adapters = ProjectAdapters::new(project, runtime.handle())?;
    for sink in &plan.sinks {
        let app_id = format!("watershed/{id}/{}", sink.name);
        let Some(target) = adapters.target(sink, &plan.tables[sink.table], &app_id)? else { continue };
        // On a thread of its own: targets block on the runtime.
        let history = std::thread::scope(|scope| scope.spawn(|| target.history()).join());
        match history {
            Ok(Ok(history)) => findings.extend(compare(target.as_ref(), &history, before, after)),
            Ok(Err(error)) => findings.push(Finding::note(CHECK, format!("sink \"{}\" was not checked: {error}", sink.name))),
            Err(_) => findings.push(Finding::note(CHECK, format!("sink \"{}\" was not checked: its client panicked", sink.name))),
        }
    }
    Ok(findings)
}

fn compare(target: &dyn Target, history: &watershed_ports::History, before: &Audit, after: &Audit) -> Vec<Finding> {
    let name = target.name();
    let mut findings = Vec::new();
    let newest_there = history.epochs.keys().next_back().copied().unwrap_or(0);
    let (_, prepared) = after.newest();
    let (mut checked, mut rows) = (0, 0);
    for (epoch, record) in &before.records {
        let Some(receipt) = record.sinks.get(name) else { continue };
        let expected = receipt.rows - receipt.refused;
        match history.epochs.get(epoch) {
            Some(there) if *there == expected => (checked, rows) = (checked + 1, rows + there),
            Some(there) => findings.push(Finding::failed_with(
                CHECK,
                format!("epoch {epoch}: sink \"{name}\" says it took {}, and the commit record says {}", count(*there, "row"), thousands(expected)),
                "Somebody changed the target's record of epochs, or the checkpoint is not the one that wrote it.",
            )),
            None if history.complete || *epoch > newest_there => findings.push(Finding::failed_with(
                CHECK,
                format!("epoch {epoch}: the commit record says sink \"{name}\" took {}, and the target does not know the epoch: they are lost there", count(expected, "row")),
                "Restore the target from a backup that is not older than the checkpoint, or read the rows again into a fresh project.",
            )),
            None => {}
        }
    }
    for epoch in history.epochs.keys().filter(|epoch| **epoch > prepared) {
        findings.push(Finding::failed_with(
            CHECK,
            format!("sink \"{name}\" holds epoch {epoch}, and the checkpoint knows only {prepared}"),
            "The checkpoint is older than the target. Restore the matching one.",
        ));
    }
    let put: u64 = history.epochs.values().sum();
    if let Some(now) = history.rows_now.filter(|now| history.complete && *now < put) {
        let next = "Somebody deleted rows there. Restore the target from a backup, or read the rows again into a fresh project.";
        findings.push(Finding::failed_with(
            CHECK,
            format!("sink \"{name}\" holds {} rows, and its epochs put {} there: {} lost", thousands(now), thousands(put), thousands(put - now)),
            next,
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, format!("\"{name}\" confirms {} with {}", count(checked, "epoch"), count(rows, "row"))));
    }
    findings
}
