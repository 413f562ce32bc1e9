//! Epochs as rows, and one epoch's manifest in full.

use watershed_engine::checkpoint::Checkpoint;
use watershed_engine::time::timestamp;
use watershed_protocol::Manifest;
use watershed_types::{Epoch, Error, Result};

use crate::arguments::Format;
use crate::output::{Cell, Sheet, account_cells, count, print, print_json, size, thousands};

/// One row an epoch.
pub fn list(checkpoint: &Checkpoint, format: Format) -> Result<()> {
    let mut sheet = Sheet::new(&["epoch>", "generation>", "committed_at", "rows", "state_bytes>"]);
    let records = checkpoint.records()?;
    let history = checkpoint.history()?;
    for record in &records {
        let rows: Vec<String> = record.sinks.iter().map(|(sink, receipt)| format!("{sink} {}", thousands(receipt.rows))).collect();
        let manifest = if history.prepared.contains(&record.epoch.0) { checkpoint.manifest(record.epoch).ok() } else { None };
        let state = manifest.map_or(Cell::Null, |m| Cell::number(state_bytes(&m)));
        sheet.push(vec![Cell::number(record.epoch), Cell::number(record.generation), Cell::time(Some(record.committed_at)), Cell::text(rows.join(", ")), state]);
    }
    sheet.print(format)?;
    if format == Format::Table {
        let pending = if history.last_prepared() > history.last_committed() { format!("; epoch {} is prepared and not complete", history.last_prepared()) } else { String::new() };
        print(&format!("({}{pending})\n", count(records.len() as u64, "epoch")))?;
    }
    Ok(())
}

fn state_bytes(manifest: &Manifest) -> u64 {
    manifest.state.values().flat_map(|s| &s.files).map(|f| f.bytes).sum()
}

/// One manifest.
pub fn show(checkpoint: &Checkpoint, epoch: Option<u64>, format: Format) -> Result<()> {
    let history = checkpoint.history()?;
    let epoch = match (epoch, history.prepared.last()) {
        (Some(epoch), _) if history.prepared.contains(&epoch) => epoch,
        (None, Some(last)) => *last,
        (asked, last) => {
            let asked = asked.map_or_else(|| "any epoch".to_owned(), |e| format!("epoch {e}"));
            let first = history.prepared.first().copied().unwrap_or(0);
            let hint = if history.prepared.is_empty() {
                "No epoch has been prepared yet.".to_owned()
            } else {
                format!("Manifests are kept for epochs {first} to {}.", last.copied().unwrap_or(0))
            };
            return Err(Error::invalid("CLI0071", format!("there is no manifest of {asked}")).hint(hint));
        }
    };
    let manifest = checkpoint.manifest(Epoch(epoch))?;
    if format == Format::Json {
        return print_json(&serde_json::to_value(&manifest).map_err(|e| Error::internal("CLI0060", "the manifest cannot be shown").caused_by(e))?);
    }
    print(&describe(&manifest, history.last_committed()))
}

fn describe(manifest: &Manifest, committed: Epoch) -> String {
    let state = if manifest.epoch <= committed { "complete" } else { "prepared, not complete" };
    let records = manifest.ticks.iter().map(|t| t.records).sum();
    let mut text = format!("epoch {} of {} · {state} · prepared {} by generation {}\n", manifest.epoch, manifest.pipeline, timestamp(manifest.prepared_at), manifest.generation);
    text.push_str(&format!("{} in {}", count(records, "record"), count(manifest.ticks.len() as u64, "tick")));
    if let (Some(first), Some(last)) = (manifest.ticks.first(), manifest.ticks.last()) {
        text.push_str(&format!(", from {} to {}", timestamp(first.at), timestamp(last.at)));
    }
    text.push_str(&format!("\nwatermark {}\n", manifest.watermark.map_or_else(|| "none".to_owned(), timestamp)));
    let mut moved = Sheet::new(&["source", "read in", "next record>", "next byte or offset>"]);
    let mut watermarks = Sheet::new(&["source", "partition", "watermark"]);
    for (source, progress) in &manifest.sources {
        for (stretch, position) in &progress.moved {
            moved.push(vec![Cell::text(source), Cell::text(stretch), Cell::number(position.record), Cell::number(position.offset)]);
        }
        for (partition, at) in &progress.watermarks {
            watermarks.push(vec![Cell::text(source), Cell::text(partition), Cell::text(timestamp(*at))]);
        }
    }
    let mut staged = Sheet::new(&["sink", "part>", "rows>", "bytes>"]);
    for (sink, parts) in &manifest.staged {
        for (index, part) in parts.iter().enumerate() {
            staged.push(vec![Cell::text(sink), Cell::number(index + 1), Cell::number(part["rows"].as_u64().unwrap_or(0)), Cell::text(size(part["bytes"].as_u64().unwrap_or(0)))]);
        }
    }
    let mut files = Sheet::new(&["state of", "file", "rows>", "bytes>", "kind", "expires"]);
    for (operator, state) in &manifest.state {
        for file in &state.files {
            let kind = if file.base { "whole" } else { "changes" };
            files.push(vec![Cell::text(operator), Cell::text(&file.path), Cell::number(file.rows), Cell::text(size(file.bytes)), Cell::text(kind), Cell::time(file.expires_at)]);
        }
    }
    let mut ledger = Sheet::new(&["table", "from", "read>", "delivered>", "filtered>", "duplicate>", "late>", "quarantined>"]);
    for row in &manifest.ledger {
        let mut cells = vec![Cell::text(&row.table_name), Cell::text(&row.source)];
        cells.extend(account_cells(&row.account));
        ledger.push(cells);
    }
    for (title, sheet) in [("positions that moved", moved), ("watermarks", watermarks), ("ledger", ledger), ("put aside for sinks", staged), ("state files", files)] {
        if !sheet.is_empty() {
            text.push_str(&format!("\n{title}\n{}", sheet.table("  ")));
        }
    }
    text
}
