//! The state of a running pipeline, for people.

use watershed_engine::run::{SourceStatus, Status};
use watershed_engine::time::{interval, timestamp};
use watershed_protocol::Lateness;
use watershed_types::Result;

use crate::output::{Cell, Sheet, account_cells, ago, count, print, size, thousands};
use crate::system::SHARES;

/// Prints it.
pub fn show(status: &Status, address: &str) -> Result<()> {
    let mut text = format!("{} is {} (generation {}), API at http://{address}\n", status.pipeline, status.state, status.generation);
    if let Some(error) = &status.error {
        text.push_str(&format!("it failed: {error}\n"));
    }
    let committed = status.committed_at.map_or_else(|| "not yet".to_owned(), |at| format!("committed {} in {:.0} ms", ago(at), status.commit_seconds * 1e3));
    text.push_str(&format!("epoch       {} · {committed}\n", status.epoch));
    text.push_str(&format!("throughput  {}/s · {} · {} since the start\n", thousands(status.rate as u64), count(status.records, "record"), size(status.bytes)));
    text.push_str(&format!("ticks       {} · the last took {:.1} ms\n", thousands(status.ticks), status.tick_seconds * 1e3));
    text.push_str(&format!("watermark   {}\n", watermark(status.watermark)));
    for (name, source) in status.sources.iter().filter(|(_, s)| s.flow.lag > 0) {
        text.push_str(&format!("catching up {name}: {}\n", catching_up(source)));
    }
    let mut sources = Sheet::new(&["source", "records>", "lag", "watermark", "held back by", "idle", "not read, ahead"]);
    for (name, source) in &status.sources {
        let held = source.held_by.clone().map_or(Cell::Null, Cell::Text);
        sources.push(vec![
            Cell::text(name),
            Cell::text(thousands(source.records)),
            Cell::text(lag(source)),
            Cell::text(watermark(source.watermark)),
            held,
            Cell::text(source.idle.join(", ")),
            Cell::text(source.held.join(", ")),
        ]);
    }
    let mut lateness = Sheet::new(&["event time of", "delay>", "in order>", "99 % within>", "99.9 %>", "99.99 %>", "advice"]);
    for (name, source) in status.sources.iter().filter(|(_, s)| s.lateness.rows() > 0) {
        lateness.push(lateness_row(name, &source.lateness, source.delay));
    }
    let mut partitions = Sheet::new(&["partition of", "partition", "lag>", "in/s>", "out/s>", "hot key", "skew"]);
    for (name, source) in &status.sources {
        for (partition, flow) in &source.flow.partitions {
            let hot = flow.hot_key.as_ref().map_or(String::new(), |(key, share)| format!("{key} ({:.0} %)", share * 100.0));
            partitions.push(vec![
                Cell::text(name),
                Cell::text(partition),
                Cell::text(thousands(flow.lag)),
                Cell::text(thousands(flow.input_rate as u64)),
                Cell::text(thousands(flow.read_rate as u64)),
                Cell::text(hot),
                Cell::text(if flow.skewed { "SKEWED" } else { "" }),
            ]);
        }
    }
    let mut tables = Sheet::new(&["table", "read>", "delivered>", "filtered>", "duplicate>", "late>", "quarantined>", "written>", "rules broken"]);
    for (name, table) in &status.tables {
        let broken: Vec<String> = table.violations.iter().filter(|(_, n)| **n > 0).map(|(rule, n)| format!("{rule} {}", thousands(*n))).collect();
        let mut row = vec![Cell::text(name)];
        row.extend(account_cells(&table.account));
        row.extend([Cell::number(table.written), Cell::text(broken.join(", "))]);
        tables.push(row);
    }
    let mut operators = Sheet::new(&["state of", "rows>", "bytes>", "on disk>", "evicted>"]);
    for (name, operator) in &status.operators {
        let on_disk = if operator.spilled > 0 { Cell::text(size(operator.spilled)) } else { Cell::Null };
        operators.push(vec![Cell::text(name), Cell::text(thousands(operator.rows)), Cell::text(size(operator.bytes)), on_disk, Cell::text(thousands(operator.evictions))]);
    }
    let mut spools = Sheet::new(&["waits for", "epochs>", "rows>", "bytes>", "from epoch>", "target"]);
    for (name, spool) in status.spools.iter().filter(|(_, spool)| spool.epochs > 0 || spool.away.is_some()) {
        let from = spool.first_epoch.map_or(Cell::Null, Cell::number);
        let target = spool.away.as_ref().map_or_else(|| "there, catching up".to_owned(), |words| format!("away: {words}"));
        spools.push(vec![Cell::text(name), Cell::text(thousands(spool.epochs)), Cell::text(thousands(spool.rows)), Cell::text(size(spool.bytes)), from, Cell::text(target)]);
    }
    for sheet in [sources, lateness, partitions, tables, operators, spools].iter().filter(|s| !s.is_empty()) {
        text.push_str(&format!("\n{}", sheet.table("")));
    }
    if !status.quarantine.is_empty() {
        let reasons: Vec<String> = status.quarantine.iter().map(|(reason, n)| format!("{} {reason}", thousands(*n))).collect();
        text.push_str(&format!("\nquarantine since the start: {}\n", reasons.join(" · ")));
    }
    for notice in &status.notices {
        text.push_str(&format!("\nnotice: {notice}\n"));
    }
    print(&text)
}

/// How late a source's rows are, and what that says of its delay.
pub fn lateness_row(name: &str, lateness: &Lateness, delay: i64) -> Vec<Cell> {
    let rows = lateness.rows();
    let in_order = lateness.buckets().filter(|(micros, _)| *micros == 0).map(|(_, n)| n).sum::<u64>();
    let needed: Vec<i64> = SHARES.iter().map(|share| lateness.delay_for(*share).unwrap_or(0)).collect();
    let advice = match (needed.first(), needed.last()) {
        (Some(first), _) if delay < *first => format!("more than 1 % come later than the delay: {} would take 99.9 %", interval(needed[1])),
        (_, Some(last)) if delay > 4 * last.max(&1_000_000) => format!("results wait longer than they need: {} would take 99.99 %", interval(*last)),
        _ => String::new(),
    };
    let mut cells = vec![Cell::text(name), Cell::text(interval(delay)), Cell::text(format!("{:.2} %", 100.0 * in_order as f64 / rows.max(1) as f64))];
    cells.extend(needed.into_iter().map(|micros| Cell::text(interval(micros))));
    cells.push(Cell::text(advice));
    cells
}

/// A watermark and how far it is behind the clock.
pub fn watermark(at: Option<i64>) -> String {
    match at {
        None => "none yet".to_owned(),
        Some(at) => {
            let behind = chrono::Utc::now().timestamp_micros() - at;
            let distance = if behind >= 0 { format!("{} behind now", interval(behind)) } else { format!("{} ahead of now", interval(behind)) };
            format!("{} ({distance})", timestamp(at))
        }
    }
}

/// How a source's lag is going to end.
fn catching_up(source: &SourceStatus) -> String {
    let flow = &source.flow;
    let rates = format!("{}/s come in, {}/s are read, {} wait", thousands(flow.input_rate as u64), thousands(flow.read_rate as u64), count(flow.lag, "record"));
    match flow.catch_up_seconds {
        Some(seconds) if seconds < 1.0 => format!("{rates}: less than a second behind"),
        Some(seconds) => format!("{rates}: done in {}", interval((seconds * 1e6) as i64)),
        None if flow.falling_behind => format!("{rates}: FALLING BEHIND, more comes in than is read"),
        None => format!("{rates}: the lag does not shrink"),
    }
}

fn lag(source: &SourceStatus) -> String {
    match (source.lag_records, source.lag_bytes) {
        (Some(0), _) | (None, Some(0)) => "caught up".to_owned(),
        (None, None) if source.caught_up => "caught up".to_owned(),
        (Some(records), _) => count(records, "record"),
        (None, Some(bytes)) => size(bytes),
        (None, None) => "unknown".to_owned(),
    }
}
