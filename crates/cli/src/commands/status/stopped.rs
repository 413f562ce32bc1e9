//! The state of a pipeline as its checkpoint tells it.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::json;
use tokio::runtime::Runtime;
use watershed_engine::time::timestamp;
use watershed_protocol::Account;
use watershed_types::Result;

use super::running::watermark;
use crate::arguments::Format;
use crate::commands::query::answer;
use crate::orphans;
use crate::output::{Cell, Sheet, account_cells, ago, count, print, print_json, size, thousands};
use crate::project::Project;
use crate::system;

/// Prints it.
pub fn show(project: &Project, runtime: &Runtime, held: bool, format: Format) -> Result<()> {
    let state = if held { "busy" } else { "stopped" };
    let Some(checkpoint) = system::open_checkpoint(project, runtime.handle())? else {
        if let Some(lost) = orphans::lost(project, runtime.handle(), &system::open_store(project, runtime.handle())?)? {
            return Err(lost);
        }
        return if format == Format::Table {
            print(&format!("{} has not run yet; start it with `watershed up`\n", project.name()))
        } else {
            print_json(&json!({ "pipeline": project.name(), "state": "new", "epoch": 0 }))
        };
    };
    let records = checkpoint.records()?;
    let manifest = system::newest_manifest(&checkpoint)?;
    let mut accounts: BTreeMap<(String, String), Account> = BTreeMap::new();
    for row in records.iter().flat_map(|r| &r.ledger) {
        accounts.entry((row.table_name.clone(), row.source.clone())).or_default().add(&row.account);
    }
    let last = records.last();
    let mut spools: BTreeMap<&str, (u64, u64, u64, u64)> = BTreeMap::new();
    for (sink, receipt, epoch) in records.iter().flat_map(|r| r.sinks.iter().map(move |(sink, receipt)| (sink, receipt, r.epoch.0))).filter(|(_, receipt, _)| receipt.spooled) {
        let waits = spools.entry(sink).or_insert((0, 0, 0, epoch));
        (waits.0, waits.1, waits.2) = (waits.0 + 1, waits.1 + receipt.rows, waits.2 + receipt.bytes);
    }
    let quarantine = if records.is_empty() { vec![] } else { reasons(project, runtime)? };
    if format != Format::Table {
        let accounts: Vec<_> = accounts.iter().map(|((table, source), account)| json!({ "table_name": table, "source": source, "account": account })).collect();
        let operators: BTreeMap<_, _> = manifest
            .iter()
            .flat_map(|m| &m.state)
            .map(|(id, s)| (id, json!({ "rows": s.files.iter().map(|f| f.rows).sum::<u64>(), "bytes": s.files.iter().map(|f| f.bytes).sum::<u64>(), "files": s.files.len() })))
            .collect();
        return print_json(&json!({
            "pipeline": checkpoint.metadata.pipeline, "state": state, "epoch": last.map_or(0, |r| r.epoch.0), "generation": last.map(|r| r.generation.0),
            "committed_at": last.map(|r| r.committed_at), "watermark": manifest.as_ref().and_then(|m| m.watermark),
            "sources": manifest.as_ref().map(|m| &m.sources), "accounts": accounts, "operators": operators,
            "spools": spools.iter().map(|(sink, (epochs, rows, bytes, first))| ((*sink).to_owned(), json!({ "epochs": epochs, "rows": rows, "bytes": bytes, "first_epoch": first }))).collect::<BTreeMap<_, _>>(),
            "quarantine": quarantine.iter().cloned().collect::<BTreeMap<_, _>>(),
        }));
    }
    let mut text = format!("{} is {state}\n", checkpoint.metadata.pipeline);
    match last {
        None => text.push_str("epoch       none committed yet\n"),
        Some(record) => text.push_str(&format!(
            "epoch       {} · committed {} ({}) by generation {}\n",
            record.epoch,
            timestamp(record.committed_at),
            ago(record.committed_at),
            record.generation
        )),
    }
    let prepared = checkpoint.history()?.last_prepared();
    if last.is_some_and(|r| prepared > r.epoch) || (last.is_none() && prepared.0 > 0) {
        text.push_str(&format!("            epoch {prepared} is prepared; the next start finishes it\n"));
    }
    if let Some(manifest) = &manifest {
        text.push_str(&format!("watermark   {}\n", watermark(manifest.watermark)));
        let mut sources = Sheet::new(&["source", "partition", "watermark"]);
        for (source, progress) in &manifest.sources {
            for (partition, at) in &progress.watermarks {
                sources.push(vec![Cell::text(source), Cell::text(partition), Cell::text(timestamp(*at))]);
            }
        }
        let mut tables = Sheet::new(&["table", "from", "read>", "delivered>", "filtered>", "duplicate>", "late>", "quarantined>"]);
        for ((table, source), account) in &accounts {
            let mut row = vec![Cell::text(table), Cell::text(source)];
            row.extend(account_cells(account));
            tables.push(row);
        }
        let mut operators = Sheet::new(&["state of", "rows>", "bytes>", "files>"]);
        for (operator, state) in &manifest.state {
            let rows = state.files.iter().map(|f| f.rows).sum();
            operators.push(vec![Cell::text(operator), Cell::text(thousands(rows)), Cell::text(size(state.files.iter().map(|f| f.bytes).sum())), Cell::number(state.files.len())]);
        }
        for sheet in [sources, tables, operators].iter().filter(|s| !s.is_empty()) {
            text.push_str(&format!("\n{}", sheet.table("")));
        }
    }
    for (sink, (epochs, rows, bytes, first)) in &spools {
        let waits = format!("{} ({}, {}) from epoch {first} on", count(*epochs, "epoch"), count(*rows, "row"), size(*bytes));
        text.push_str(&format!("\nsink \"{sink}\" is behind: {waits} wait for its target; the next run delivers them\n"));
    }
    if !quarantine.is_empty() {
        let reasons: Vec<String> = quarantine.iter().map(|(reason, n)| format!("{} {reason}", thousands(*n))).collect();
        text.push_str(&format!("\nquarantine: {} · see `watershed quarantine list`\n", reasons.join(" · ")));
    }
    text.push_str(&format!("\n{} so far\n", count(records.len() as u64, "epoch")));
    print(&text)
}

/// Quarantined rows by reason.
fn reasons(project: &Project, runtime: &Runtime) -> Result<Vec<(String, u64)>> {
    let context = system::context(project, runtime.handle())?;
    let sql = "SELECT arrow_cast(reason, 'Utf8'), count(*) FROM system.quarantine GROUP BY 1 ORDER BY 1";
    let Ok((_, batches)) = runtime.block_on(answer(&context, sql)) else { return Ok(vec![]) };
    let mut found = Vec::new();
    for batch in batches {
        let (reasons, rows) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        found.extend((0..batch.num_rows()).map(|row| (reasons.value(row).to_owned(), rows.value(row) as u64)));
    }
    Ok(found)
}
