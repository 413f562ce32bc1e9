//! Sending refused rows round again.
//!
//! A request is written first; it is durable, and whoever runs the project next takes it, once. Without a running pipeline,
//! this command runs one epoch itself, as `watershed run --once` does: new input is read too.

use std::time::Instant;

use serde_json::json;
use tokio::runtime::Runtime;
use watershed_engine::run::{ReplayRequest, ReplayRow, submit_replay};
use watershed_types::{Error, Kind, Result};

use super::rows::Row;
use crate::arguments::Format;
use crate::output::{Cell, Sheet, count, outcome, print, print_json};
use crate::project::Project;
use crate::session::{RunOptions, begin, close_on_signals, plan};
use crate::system;

/// Refused rows, by whether they can go round.
#[derive(Default)]
pub struct Sorted {
    /// They can.
    pub sent: Vec<Row>,
    /// They did before.
    pub before: u64,
    /// They are results of windows.
    pub results: u64,
    /// Whoever refused them is gone.
    pub gone: u64,
}

/// Sorts rows by whether they can go round.
pub fn sort(rows: Vec<Row>, is_table: impl Fn(&str) -> bool, is_sink: impl Fn(&str) -> bool) -> Sorted {
    let mut sorted = Sorted::default();
    for row in rows {
        if row.replayed {
            sorted.before += 1;
        } else if row.reason == "sink" && is_sink(&row.table) {
            sorted.sent.push(row);
        } else if row.partition.is_empty() {
            sorted.results += 1;
        } else if !is_table(&row.table) {
            sorted.gone += 1;
        } else {
            sorted.sent.push(row);
        }
    }
    sorted
}

/// Writes the request; durable when it returns. The name is its file's.
pub fn submit(project: &Project, rows: &[Row]) -> Result<String> {
    let rows = rows.iter().map(|row| ReplayRow { row: row.named(), reason: row.reason.clone() }).collect();
    submit_replay(&project.work(), &ReplayRequest { requested_at: chrono::Utc::now().timestamp_micros(), rows })
}

/// Replays rows that were not replayed before.
pub fn run(project: &Project, runtime: &Runtime, rows: Vec<Row>, dry_run: bool, format: Format, started: Instant) -> Result<()> {
    // Planned first: a request that nobody can run is not written.
    let plan = plan(project, runtime)?;
    let Sorted { sent, before, results, gone } = sort(rows, |name| plan.tables.iter().any(|t| t.name == name), |name| plan.sinks.iter().any(|s| s.name == name));
    for (number, why) in [
        (before, "replayed before; a row goes round once"),
        (results, "results of windows, which have no record of their own: correct the rows they were made from"),
        (gone, "refused by tables or sinks that the project does not have any more"),
    ] {
        if number > 0 {
            eprintln!("left out: {} {why}", count(number, "row"));
        }
    }
    let late = sent.iter().filter(|row| row.reason == "late").count() as u64;
    if late > 0 {
        eprintln!("note: {} came late; a row whose window is closed by now is refused as late again", count(late, "row"));
    }
    if sent.is_empty() {
        return if format == Format::Table { print("nothing to replay\n") } else { print_json(&json!({ "rows": 0 })) };
    }
    if dry_run {
        return preview(&sent, format);
    }
    let name = submit(project, &sent)?;
    let rows = count(sent.len() as u64, "row");
    if system::is_running(project) {
        return handed_over(&name, &rows, sent.len(), format);
    }
    eprintln!("the pipeline is not running: one epoch is run now, and new input is read with it");
    let session = match begin(project, runtime, RunOptions { once: true, finalize: false, rebuild: false }, started) {
        Ok(session) => session,
        // Started by somebody else meanwhile.
        Err(error) if error.kind() == Kind::Conflict => return handed_over(&name, &rows, sent.len(), format),
        Err(error) => return Err(error),
    };
    close_on_signals(runtime, session.handle.stop_flag());
    let done = session.handle.join()?;
    let taken = match system::open_checkpoint(project, runtime.handle())? {
        Some(checkpoint) => system::taken_requests(&checkpoint)?.contains(&name),
        None => false,
    };
    if !taken {
        return Err(Error::internal("CLI0082", format!("replay request {name} was written, and the run did not take it")).hint("The next run takes it."));
    }
    if format == Format::Table {
        print(&format!("replayed {rows} (request {name})\n\n"))?;
    }
    outcome(&done, started.elapsed(), format == Format::Json);
    Ok(())
}

fn handed_over(name: &str, rows: &str, number: usize, format: Format) -> Result<()> {
    if format == Format::Table {
        print(&format!("request {name} with {rows} is written; the running pipeline takes it within a second\n"))
    } else {
        print_json(&json!({ "request": name, "rows": number, "taken": false }))
    }
}

fn preview(rows: &[Row], format: Format) -> Result<()> {
    let mut sheet = Sheet::new(&["epoch>", "table_name", "partition", "position", "reason", "raw"]);
    for row in rows {
        sheet.push(vec![Cell::number(row.epoch), Cell::text(&row.table), Cell::text(&row.partition), Cell::text(&row.position), Cell::text(&row.reason), Cell::bytes(&row.raw)]);
    }
    sheet.print(format)?;
    if format == Format::Table {
        print(&format!("({} would be replayed)\n", count(rows.len() as u64, "row")))?;
    }
    Ok(())
}
