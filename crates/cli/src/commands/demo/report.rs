//! What the demo prints at its end: accounts that add up, refused rows by reason, tables, latency, what to do next.
//!
//! **Owns** the words and the layout, at most 100 columns. **Does not own** the figures: the accounts are the run's own,
//! and the rows are read back from the lake.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use serde_json::json;
use tokio::runtime::Runtime;
use watershed_engine::run::{Outcome, Status};
use watershed_protocol::Account;
use watershed_simulator::Made;
use watershed_types::{Error, Result};

use super::latency::Measured;
use super::traffic::Sent;
use crate::commands::init::quoted;
use crate::progress::{clock, grouped, size};
use crate::project::Project;

/// Everything the report is made of.
pub struct Figures<'a> {
    pub project: &'a Project,
    pub sent: &'a Sent,
    pub outcome: &'a Outcome,
    /// As it was at the end.
    pub status: &'a Status,
    pub latency: Measured,
    /// From the first request until everything was read.
    pub seconds: f64,
    /// Records a second that were asked for.
    pub rate: u64,
}

/// A table shown with some of its rows.
struct Shown {
    folder: &'static str,
    name: &'static str,
    sql: &'static str,
}

const SHOWN: [Shown; 3] = [
    Shown {
        folder: "silver",
        name: "clean_transactions",
        sql: "SELECT substr(transaction_id, 1, 8) AS transaction, customer_id AS customer, amount, currency, category, status, \
              amount_category AS size, to_char(\"timestamp\", '%H:%M:%S') AS time FROM clean_transactions ORDER BY \"timestamp\" DESC LIMIT 4",
    },
    Shown {
        folder: "gold",
        name: "per_minute",
        sql: "SELECT to_char(window_start, '%Y-%m-%d %H:%M') AS minute, status, transactions, total, round(average, 2) AS average \
              FROM per_minute ORDER BY window_start DESC, transactions DESC LIMIT 4",
    },
    Shown {
        folder: "gold",
        name: "family_trend",
        sql: "SELECT to_char(window_start, '%H:%M') || ' to ' || to_char(window_end, '%H:%M') AS five_minutes, family, transactions, total, largest \
              FROM family_trend ORDER BY window_start DESC, family LIMIT 4",
    },
];

/// The widest cell.
const WIDEST: usize = 66;

const REFUSED: &str = "SELECT reason, detail, count(*) AS rows FROM (SELECT reason, CASE WHEN reason = 'late' THEN 'behind the watermark' \
     WHEN reason = 'corrupt' THEN 'not JSON' ELSE detail END AS detail FROM quarantine) AS q GROUP BY reason, detail ORDER BY rows DESC, reason LIMIT 8";

/// Prints it; the number is the exit code.
pub fn print(figures: &Figures<'_>, runtime: &Runtime, text: bool) -> Result<u8> {
    let read: u64 = figures.outcome.accounts.iter().filter(|((table, source), _)| table == "clean_transactions" && source == "transactions").map(|(_, a)| a.read).sum();
    let complete = figures.sent.records == read;
    let balanced = figures.outcome.accounts.values().all(Account::balances);
    let good = complete && balanced;
    let lake = runtime.block_on(read_lake(figures.project))?;
    if !text {
        println!("{}", as_json(figures, read, good, &lake));
        return Ok(u8::from(!good));
    }
    heading("sent and read");
    traffic(figures, read, complete);
    heading("the ledger: every record has one fate");
    ledger(figures.outcome, balanced);
    heading("refused, with raw bytes, in system.quarantine");
    print_rows(&lake.refused);
    heading("planted by the simulator, found by the pipeline");
    planted(figures);
    for (shown, (count, rows)) in SHOWN.iter().zip(&lake.tables) {
        heading(&format!("{} ({}) · {} rows", shown.name, shown.folder, grouped(*count)));
        print_rows(rows);
    }
    windows(figures.status);
    heading("latency and size");
    speed(figures);
    next(&figures.project.root);
    Ok(u8::from(!good))
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn mark(good: bool) -> &'static str {
    if good { "✓" } else { "✗ DIFFERS" }
}

fn traffic(figures: &Figures<'_>, read: u64, complete: bool) {
    let sent = figures.sent;
    let achieved = sent.records as f64 / sent.took.as_secs_f64().max(1e-3);
    println!("  {} sent = {} read  {}", grouped(sent.records), grouped(read), mark(complete));
    println!("  {} in {} requests over {:.1} s: {} records/s", size(sent.bytes), grouped(sent.requests), sent.took.as_secs_f64(), grouped(achieved.round() as u64));
    println!("  everything was processed {:.2} s after the first request", figures.seconds);
    if sent.told_to_wait > 0 {
        println!("  {} requests were told to wait (429) because the pipeline was behind, and were sent again", grouped(sent.told_to_wait));
    }
    if achieved < figures.rate as f64 * 0.97 {
        println!("  {} records/s were asked for: this machine, which also makes the traffic, has reached its limit", grouped(figures.rate));
    }
}

fn ledger(outcome: &Outcome, balanced: bool) {
    let mut grid = Grid::new(["table", "from", "read", "delivered", "filtered", "duplicate", "late", "quarantined"], |index| index > 1);
    for ((name, source), a) in &outcome.accounts {
        grid.add([name.clone(), source.clone(), grouped(a.read), grouped(a.delivered), grouped(a.filtered), grouped(a.duplicate), grouped(a.late), grouped(a.quarantined)]);
    }
    grid.print();
    for ((name, source), a) in &outcome.accounts {
        if name == "clean_transactions" && source == "transactions" {
            let parts = [a.delivered, a.filtered, a.duplicate, a.late, a.quarantined].map(grouped).join(" + ");
            println!("  {} = {parts}  {}", grouped(a.read), mark(balanced));
        }
    }
}

fn planted(figures: &Figures<'_>) {
    let made = |kind: Made| figures.sent.made.get(&kind).copied().unwrap_or(0);
    let refused = |reason: &str| figures.status.quarantine.get(reason).copied().unwrap_or(0);
    let mut clean = Account::default();
    for ((table, _), account) in &figures.outcome.accounts {
        if table == "clean_transactions" {
            clean.add(account);
        }
    }
    let mut grid = Grid::new(["what", "planted", "found"], |index| index > 0);
    let rows = [
        ("repeats of a record", made(Made::Duplicate), clean.duplicate),
        ("broken JSON", made(Made::Corrupt), refused("corrupt")),
        ("wrong type, missing field", made(Made::WrongType), refused("schema")),
        ("amount or currency against a rule", made(Made::Invalid), refused("violation")),
        ("more than ten minutes behind", made(Made::Late), clean.late),
    ];
    for (what, planted, found) in rows {
        grid.add([what.to_owned(), grouped(planted), grouped(found)]);
    }
    grid.print();
}

fn windows(status: &Status) {
    let Some(watermark) = status.watermark else { return };
    println!("\n  The watermark stands at {} UTC, ten minutes behind the newest record.", clock(watermark));
    println!("  Windows that end later are still open; their rows come once it has passed them.");
}

fn speed(figures: &Figures<'_>) {
    let ms = |d: std::time::Duration| format!("{:.1}", d.as_secs_f64() * 1e3);
    let mut grid = Grid::new(["from the start of a request", "p50 ms", "p99 ms", "max ms", "measured"], |index| index > 0);
    for (what, m) in [("to its answer: on disk", figures.sent.acknowledged), ("to the row in the live output", figures.latency)] {
        grid.add([what.to_owned(), ms(m.p50), ms(m.p99), ms(m.max), grouped(m.samples as u64)]);
    }
    grid.print();
    let work = figures.project.work();
    let [lake, checkpoints, log] = ["lake", "checkpoints", "log"].map(|folder| size(bytes_in(&work.join(folder))));
    println!("  on disk: lake {lake}, checkpoints {checkpoints}, ingest log {log} (from {} of JSON)", size(figures.sent.bytes));
    println!("  epochs committed: {}, the last one in {:.0} ms", figures.outcome.epochs, figures.status.commit_seconds * 1e3);
}

fn next(root: &Path) {
    let program = std::env::args().next().unwrap_or_else(|| "watershed".to_owned());
    let program = quoted(Path::new(&program));
    let root = quoted(root);
    println!("\nThe project is kept in {root}. Next:");
    println!("  {program} query -p {root} \"SELECT category, sum(amount) FROM clean_transactions GROUP BY 1\"");
    println!("  {program} query -p {root} \"SELECT * FROM per_minute ORDER BY 1, 3\"");
    println!("  {program} quarantine -p {root} list");
    println!("  {program} verify -p {root}");
    println!("  {program} up -p {root}");
}

/// What was read back from the lake.
struct Lake {
    tables: Vec<(u64, Vec<RecordBatch>)>,
    refused: Vec<RecordBatch>,
}

async fn read_lake(project: &Project) -> Result<Lake> {
    let context = SessionContext::new();
    let fail = |e: datafusion::common::DataFusionError| Error::internal("CLI0046", "the demo's tables cannot be read back").caused_by(e);
    let storage = crate::adapters::storage_options();
    let places = SHOWN.iter().map(|s| (s.folder, s.name)).chain([("system", "quarantine")]);
    let no_options = HashMap::new();
    for (folder, name) in places {
        let location = format!("{}/{folder}/{name}", project.lake());
        let options = if location.contains("://") { &storage } else { &no_options };
        let provider = watershed_lake::table_provider(&location, options).await?;
        context.register_table(name, provider).map_err(fail)?;
    }
    let mut tables = Vec::new();
    for shown in &SHOWN {
        let count = context.table(shown.name).await.map_err(fail)?.count().await.map_err(fail)?;
        let rows = context.sql(shown.sql).await.map_err(fail)?.collect().await.map_err(fail)?;
        tables.push((count as u64, rows));
    }
    let refused = context.sql(REFUSED).await.map_err(fail)?.collect().await.map_err(fail)?;
    Ok(Lake { tables, refused })
}

/// A table in plain text: columns two blanks apart, a line under the header, long cells cut.
struct Grid {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Grid {
    /// `right` are the columns with figures.
    fn new<S: Into<String>>(header: impl IntoIterator<Item = S>, right: impl Fn(usize) -> bool) -> Grid {
        let header: Vec<String> = header.into_iter().map(Into::into).collect();
        let right = (0..header.len()).map(right).collect();
        Grid { rows: vec![header], right }
    }

    fn add<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).map(cut).collect());
    }

    fn print(&self) {
        if self.rows.len() == 1 {
            println!("  none yet");
            return;
        }
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> =
                row.iter().zip(widths.iter().zip(&self.right)).map(|(cell, (width, right))| if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }).collect();
            println!("  {}", cells.join("  ").trim_end());
            if index == 0 {
                println!("  {}", widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("  "));
            }
        }
    }
}

fn cut(cell: String) -> String {
    if cell.chars().count() <= WIDEST { cell } else { cell.chars().take(WIDEST - 1).chain(['…']).collect() }
}

fn print_rows(batches: &[RecordBatch]) {
    let Some(first) = batches.first() else {
        println!("  none yet");
        return;
    };
    let schema = first.schema();
    let mut grid = Grid::new(schema.fields().iter().map(|f| f.name().clone()), |index| schema.field(index).data_type().is_numeric());
    let options = FormatOptions::default();
    for batch in batches {
        for row in 0..batch.num_rows() {
            grid.add(batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).map(|f| f.value(row).to_string()).unwrap_or_default()));
        }
    }
    grid.print();
}

fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn as_json(figures: &Figures<'_>, read: u64, good: bool, lake: &Lake) -> serde_json::Value {
    let measured = |m: Measured| json!({ "p50_ms": m.p50.as_secs_f64() * 1e3, "p99_ms": m.p99.as_secs_f64() * 1e3, "max_ms": m.max.as_secs_f64() * 1e3, "samples": m.samples });
    let ledger: Vec<_> =
        figures.outcome.accounts.iter().map(|((table, source), account)| json!({ "table": table, "source": source, "account": account, "balances": account.balances() })).collect();
    let tables: serde_json::Map<String, serde_json::Value> = SHOWN.iter().zip(&lake.tables).map(|(shown, (count, _))| (shown.name.to_owned(), (*count).into())).collect();
    json!({
        "project": figures.project.root,
        "sent": figures.sent.records,
        "read": read,
        "complete": good,
        "bytes": figures.sent.bytes,
        "requests": figures.sent.requests,
        "told_to_wait": figures.sent.told_to_wait,
        "send_seconds": figures.sent.took.as_secs_f64(),
        "seconds": figures.seconds,
        "ledger": ledger,
        "quarantine": figures.status.quarantine,
        "tables": tables,
        "acknowledged": measured(figures.sent.acknowledged),
        "visible": measured(figures.latency),
        "epochs": figures.outcome.epochs,
        "lake_bytes": bytes_in(&figures.project.work().join("lake")),
    })
}
