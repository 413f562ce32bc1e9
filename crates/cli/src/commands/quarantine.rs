//! `watershed quarantine`: rows that were refused, and sending them round again.
//!
//! I1: a row is replayed once: what an earlier request holds is left out of later ones. A row that is refused again is a new
//! row of the quarantine, and can be replayed again.

pub mod replay;
pub mod rows;

use std::collections::BTreeMap;
use std::time::Instant;

use watershed_types::Result;

use crate::arguments::{Format, QuarantineAction, QuarantineArguments};
use crate::output::{Cell, Sheet, count, print};
use crate::project::Project;
use crate::session::runtime;

use rows::{Row, find};

/// Runs the command.
pub fn run(arguments: QuarantineArguments, started: Instant) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    match arguments.action {
        QuarantineAction::List { filter } => list(&find(&project, &runtime, &filter)?, arguments.format)?,
        QuarantineAction::Show { filter, limit } => show(&find(&project, &runtime, &filter)?, limit, arguments.format)?,
        QuarantineAction::Replay { filter, dry_run } => {
            let rows = find(&project, &runtime, &filter)?;
            replay::run(&project, &runtime, rows, dry_run, arguments.format, started)?;
        }
    }
    Ok(0)
}

fn list(rows: &[Row], format: Format) -> Result<()> {
    let mut groups: BTreeMap<(&str, &str), (u64, u64, u64, u64)> = BTreeMap::new();
    for row in rows {
        let group = groups.entry((&row.table, &row.reason)).or_insert((0, u64::MAX, 0, 0));
        group.0 += 1;
        group.1 = group.1.min(row.epoch);
        group.2 = group.2.max(row.epoch);
        group.3 += u64::from(row.replayed);
    }
    let mut sheet = Sheet::new(&["table_name", "reason", "rows>", "first_epoch>", "last_epoch>", "replayed>"]);
    for ((table, reason), (count, first, last, replayed)) in groups {
        sheet.push(vec![Cell::text(table), Cell::text(reason), Cell::number(count), Cell::number(first), Cell::number(last), Cell::number(replayed)]);
    }
    if format == Format::Table && rows.is_empty() {
        return print("no such rows in the quarantine\n");
    }
    sheet.print(format)?;
    if format == Format::Table {
        print(&format!("({})\n", count(rows.len() as u64, "row")))?;
    }
    Ok(())
}

fn show(rows: &[Row], limit: usize, format: Format) -> Result<()> {
    let mut sheet = Sheet::new(&["epoch>", "table_name", "source", "partition", "position", "reason", "replayed", "detail", "raw"]);
    for row in rows.iter().take(limit) {
        sheet.push(vec![
            Cell::number(row.epoch),
            Cell::text(&row.table),
            Cell::text(&row.source),
            Cell::text(&row.partition),
            Cell::text(&row.position),
            Cell::text(&row.reason),
            Cell::Flag(row.replayed),
            Cell::text(&row.detail),
            Cell::bytes(&row.raw),
        ]);
    }
    if format != Format::Table {
        return sheet.print(format);
    }
    // Raw bytes are long: a block a row reads better than a wide table.
    let mut text = String::new();
    for row in rows.iter().take(limit) {
        let replayed = if row.replayed { " · replayed" } else { "" };
        let place = if row.partition.is_empty() { "a result of the table".to_owned() } else { format!("{} position {}", row.partition, row.position) };
        text.push_str(&format!("epoch {} · {} from {} · {place} · {}{replayed}\n", row.epoch, row.table, row.source, row.reason));
        text.push_str(&format!("  why  {}\n  raw  {}\n\n", Cell::text(&row.detail).shown(), Cell::bytes(&row.raw).shown()));
    }
    let more = if rows.len() > limit { format!("; {} more, see --limit", rows.len() - limit) } else { String::new() };
    text.push_str(&format!("({}{more})\n", count(rows.len().min(limit) as u64, "row")));
    print(&text)
}
