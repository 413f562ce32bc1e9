//! `watershed verify --repair`: outside targets are given back what they have lost, and lake tables the end of their log.
//!
//! **Owns** finding the rows, those refused then, and the order. **Does not own** the target's transaction, or its claim: a
//! target that can take an epoch beside a run at work does; for another one the project must stand still.
//!
//! A lake table stages its own files, and nothing else has their rows: a file that is gone is gone. What can be mended is a
//! log that lost its newest entries while the files are there: their epochs are committed again, from their manifests.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use tokio::runtime::Runtime;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_engine::plan::Plan;
use watershed_engine::run::{Adapters as _, quarantine_schema, staged_files, staged_rows};
use watershed_ports::{EpochRows, KeptEpochs, Redriven, RefusedRow, Staged, Target};
use watershed_types::{Epoch, Error, Result};

use super::finding::Finding;
use super::targets::{CHECK, Lost};
use crate::adapters::{ProjectAdapters, storage_options};
use crate::output::count;
use crate::project::Project;
use crate::system::{existing_tables, is_running};

const LAKE: &str = "lake";

/// Gives back what can be given back; a line for each sink.
pub fn repair(project: &Project, runtime: &Runtime, plan: &Plan, store: &Store, lost: Vec<Lost>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(checkpoint) = Checkpoint::open(store.clone())? else { return Ok(findings) };
    let adapters = ProjectAdapters::new(project, runtime.handle())?;
    for Lost { sink, epochs } in lost {
        let Some(definition) = plan.sinks.iter().find(|definition| definition.name == sink) else { continue };
        let app_id = format!("watershed/{}/{sink}", checkpoint.metadata.id);
        let Some(target) = adapters.target(definition, &plan.tables[definition.table], &app_id)? else { continue };
        let kept: Vec<Epoch> = epochs.keys().copied().map(Epoch).filter(|epoch| staged_files(&checkpoint, *epoch, &sink).is_ok()).collect();
        if kept.is_empty() {
            continue;
        }
        findings.push(match give_back(project, runtime, &checkpoint, target.as_ref(), &kept, &epochs) {
            Ok(redriven) => Finding::repaired(CHECK, describe(&sink, &redriven)),
            Err(error) => {
                let next = error.next_step().unwrap_or("Nothing was changed there; run it again when the reason is gone.").to_owned();
                Finding::failed_with(CHECK, format!("sink \"{sink}\" was not given back what it lost: {error}"), next)
            }
        });
    }
    Ok(findings)
}

/// Commits again what the logs of lake tables have lost at their end.
pub fn repair_lake(project: &Project, runtime: &Runtime, plan: &Plan, store: &Store) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(checkpoint) = Checkpoint::open(store.clone())? else { return Ok(findings) };
    if is_running(project) {
        findings.push(Finding::note(LAKE, "lake tables are not mended while the pipeline runs: it knows their logs by heart"));
        return Ok(findings);
    }
    let _still = project.lock()?;
    let records = checkpoint.records()?;
    let generation = checkpoint.newest_generation()?;
    let adapters = ProjectAdapters::new(project, runtime.handle())?;
    let app_id = |name: &str| format!("watershed/{}/{name}", checkpoint.metadata.id);
    let tables = plan.tables.iter().filter(|table| table.stored).map(|table| (table.name.as_str(), adapters.table(table, &app_id(&table.name))));
    let quarantine = ("system.quarantine", adapters.system_table("quarantine", quarantine_schema(), &app_id("system.quarantine")));
    for (name, sink) in tables.chain([quarantine]) {
        let again = || -> Result<Vec<u64>> {
            let sink = sink?;
            let shows = sink.last_epoch()?;
            let lost: Vec<Epoch> = records.iter().filter(|r| r.epoch > shows && r.sinks.get(name).is_some_and(|receipt| receipt.rows > 0)).map(|r| r.epoch).collect();
            for epoch in &lost {
                let manifest = checkpoint.manifest(*epoch)?;
                let staged = manifest.staged.get(name).into_iter().flatten().map(|part| serde_json::from_value(part.clone())).collect::<std::result::Result<Vec<Staged>, _>>();
                let staged = staged.map_err(|e| Error::corrupt("RUN0010", format!("epoch {epoch}: what sink \"{name}\" put aside cannot be read")).caused_by(e))?;
                sink.commit(*epoch, generation, &staged)?;
            }
            Ok(lost.into_iter().map(|epoch| epoch.0).collect())
        };
        match again() {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => findings.push(Finding::repaired(LAKE, format!("the log of table \"{name}\" had lost its end: epochs {} are committed again", list(lost.iter())))),
            Err(error) => findings.push(Finding::failed_with(
                LAKE,
                format!("the log of table \"{name}\" cannot be mended: {error}"),
                error.next_step().unwrap_or("Restore the table from a backup of the lake.").to_owned(),
            )),
        }
    }
    Ok(findings)
}

fn describe(sink: &str, redriven: &Redriven) -> String {
    let mut text = match redriven.epochs.len() {
        0 => format!("sink \"{sink}\" had its epochs already when it was asked"),
        1 => format!("sink \"{sink}\" was given back epoch {}", list(redriven.epochs.keys())),
        _ => format!("sink \"{sink}\" was given back epochs {}", list(redriven.epochs.keys())),
    };
    text.push_str(&format!(" ({})", count(redriven.epochs.values().sum(), "row")));
    if !redriven.again.is_empty() {
        text.push_str(&format!("; {} after it went over the table again, so that each key has its newest value", count(redriven.again.len() as u64, "epoch")));
    }
    text
}

fn list<'a>(epochs: impl Iterator<Item = &'a u64>) -> String {
    epochs.map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn give_back(project: &Project, runtime: &Runtime, checkpoint: &Checkpoint, target: &dyn Target, lost: &[Epoch], refused: &BTreeMap<u64, u64>) -> Result<Redriven> {
    // Held for as long as it takes, so that no run starts meanwhile.
    let _still = if target.redrives_beside_a_run() {
        None
    } else if is_running(project) {
        return Err(Error::conflict("CLI0093", format!("sink \"{}\" can be given back epochs only while the pipeline stands still", target.name()))
            .hint("Stop the pipeline (SIGTERM closes its epoch), repair, and start it again.")
            .definite());
    } else {
        Some(project.lock()?)
    };
    let mut known = BTreeMap::new();
    for epoch in lost {
        let wanted = refused.get(&epoch.0).copied().unwrap_or(0);
        if wanted == 0 {
            known.insert(epoch.0, vec![]);
            continue;
        }
        let rows = refused_rows(project, runtime, *epoch, target.name())?;
        if rows.len() as u64 != wanted {
            return Err(Error::invalid(
                "CLI0094",
                format!("epoch {epoch}: sink \"{}\" refused {}, and the quarantine knows of {}", target.name(), count(wanted, "row"), rows.len()),
            )
            .hint("Without knowing which rows were refused then, they might come twice. Restore system.quarantine, then repair again.")
            .definite());
        }
        known.insert(epoch.0, rows);
    }
    let kept = Kept { checkpoint, sink: target.name(), refused: known };
    // On a thread of its own: targets block on the runtime.
    let redriven = std::thread::scope(|scope| scope.spawn(|| target.redrive(lost, &kept)).join());
    redriven.unwrap_or_else(|_| Err(Error::internal("CLI0095", format!("the client of sink \"{}\" panicked", target.name()))))
}

/// What the outbox keeps of one sink.
struct Kept<'a> {
    checkpoint: &'a Checkpoint,
    sink: &'a str,
    refused: BTreeMap<u64, Vec<RefusedRow>>,
}

impl KeptEpochs for Kept<'_> {
    fn rows(&self, epoch: Epoch) -> Result<EpochRows<'_>> {
        staged_rows(self.checkpoint, epoch, self.sink)
    }
    fn refused(&self, epoch: Epoch) -> Result<Vec<RefusedRow>> {
        Ok(self.refused.get(&epoch.0).cloned().unwrap_or_default())
    }
}

/// The rows of an epoch that a sink refused, as the quarantine keeps them.
fn refused_rows(project: &Project, runtime: &Runtime, epoch: Epoch, sink: &str) -> Result<Vec<RefusedRow>> {
    let fail = |e: datafusion::common::DataFusionError| Error::unavailable("CLI0068", "the quarantine cannot be read").caused_by(e);
    let Some(place) = existing_tables(project, runtime.handle())?.into_iter().find(|t| t.folder == "system" && t.name == "quarantine") else { return Ok(vec![]) };
    let batches = runtime.block_on(async {
        let context = SessionContext::new();
        context.register_table("quarantine", watershed_lake::table_provider(&place.location, &storage_options()).await?).map_err(fail)?;
        let name = sink.replace('\'', "''");
        let sql = format!(
            "SELECT arrow_cast(position, 'Utf8'), arrow_cast(detail, 'Utf8') FROM quarantine WHERE epoch = {epoch} AND arrow_cast(table_name, 'Utf8') = '{name}' AND \
             arrow_cast(reason, 'Utf8') = 'sink'"
        );
        context.sql(&sql).await.map_err(fail)?.collect().await.map_err(fail)
    })?;
    let mut rows = Vec::new();
    for batch in &batches {
        let (positions, details) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        rows.extend((0..batch.num_rows()).filter_map(|row| Some(RefusedRow { row: positions.value(row).parse().ok()?, detail: details.value(row).to_owned() })));
    }
    Ok(rows)
}
