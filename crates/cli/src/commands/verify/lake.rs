//! The lake: what tables and the quarantine hold, against the receipts and the ledger.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use tokio::runtime::Runtime;
use watershed_engine::operator::Step;
use watershed_engine::plan::Plan;
use watershed_types::{Error, Result};

use super::audit::Audit;
use super::finding::Finding;
use crate::adapters::{open_lake, storage_options};
use crate::output::{count, thousands};
use crate::project::Project;
use crate::system::existing_tables;

const QUARANTINE: &str = "system.quarantine";
const LOST: &str = "Look for the missing files in a backup of the lake; rows can also be read again from their source into a fresh project.";

/// What the lake holds.
#[derive(Default)]
pub struct Counts {
    /// Rows and files by sink; several zones of one name count as one.
    tables: BTreeMap<String, (u64, u64)>,
    /// What is wrong with files.
    broken: Vec<Finding>,
    /// Quarantined rows by epoch and table.
    quarantine: Option<BTreeMap<(u64, String), u64>>,
}

/// The sink that a lake table is.
fn sink_name(folder: &str, name: &str) -> String {
    if folder == "system" { format!("system.{name}") } else { name.to_owned() }
}

/// Counts rows and looks at files.
pub fn look(project: &Project, runtime: &Runtime, deep: bool) -> Result<Counts> {
    let mut counts = Counts::default();
    let existing = existing_tables(project, runtime.handle())?;
    if existing.is_empty() {
        return Ok(counts);
    }
    let lake = open_lake(project, runtime.handle())?;
    for place in existing {
        let name = sink_name(&place.folder, &place.name);
        let looked = || -> Result<Option<_>> {
            let Some(table) = lake.open_existing(&place.folder, &place.name)? else { return Ok(None) };
            let wrong = table.verify(deep)?;
            // Files that cannot be read have their own finding; the log's figures stand for them.
            let rows = table.count_rows(deep && wrong.is_empty())?;
            Ok(Some((rows, wrong)))
        };
        match looked() {
            Ok(None) => {}
            Ok(Some((rows, wrong))) => {
                counts.broken.extend(wrong.into_iter().map(|message| Finding::failed_with("lake", message, LOST)));
                let sum = counts.tables.entry(name.clone()).or_default();
                *sum = (sum.0 + rows.rows, sum.1 + rows.files);
                if name == QUARANTINE {
                    match runtime.block_on(quarantined(&place.location)) {
                        Ok(rows) => counts.quarantine = Some(rows),
                        Err(error) => counts.broken.push(Finding::failed_with("quarantine", format!("system.quarantine cannot be read: {}", chain(&error)), LOST)),
                    }
                }
            }
            Err(error) => counts.broken.push(Finding::failed_with("lake", format!("table \"{name}\": {}", chain(&error)), error.next_step().unwrap_or(LOST))),
        }
    }
    Ok(counts)
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{}: {}", error.message(), cause.to_string().lines().next().unwrap_or_default()),
        None => error.message().to_owned(),
    }
}

async fn quarantined(location: &str) -> Result<BTreeMap<(u64, String), u64>> {
    let fail = |e: datafusion::common::DataFusionError| Error::unavailable("CLI0068", "the quarantine cannot be read").caused_by(e);
    let context = SessionContext::new();
    context.register_table("quarantine", watershed_lake::table_provider(location, &storage_options()).await?).map_err(fail)?;
    let frame = context.sql("SELECT epoch, arrow_cast(table_name, 'Utf8') AS t, count(*) AS n FROM quarantine GROUP BY 1, 2").await.map_err(fail)?;
    let mut counts = BTreeMap::new();
    for batch in frame.collect().await.map_err(fail)? {
        let (epochs, tables, rows) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            counts.insert((epochs.value(row) as u64, tables.value(row).to_owned()), rows.value(row) as u64);
        }
    }
    Ok(counts)
}

fn received(audit: &Audit) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (sink, receipt) in audit.records.values().flat_map(|r| &r.sinks) {
        *sums.entry(sink.clone()).or_default() += receipt.rows;
        // Rows that an outside target refused were put beside the others.
        if receipt.refused > 0 {
            *sums.entry(QUARANTINE.to_owned()).or_default() += receipt.refused;
        }
    }
    sums
}

/// Compares counts with the checkpoint as it was before and after the counting.
pub fn compare(before: &Audit, after: &Audit, counts: &Counts, plan: Option<&Plan>) -> Vec<Finding> {
    let mut findings = counts.broken.clone();
    if before.failed() || after.failed() {
        findings.push(Finding::note("lake", "rows were not compared, since the checkpoint is damaged"));
        return findings;
    }
    let (least, mut most) = (received(before), received(after));
    // An epoch that is being committed may be in some tables already.
    for (sink, staged) in after.pending().into_iter().flat_map(|m| &m.staged) {
        *most.entry(sink.clone()).or_default() += staged.iter().filter_map(|part| part["rows"].as_u64()).sum::<u64>();
    }
    // A sink that is behind may have taken an epoch, and refused rows of it, without a record yet.
    let waiting: u64 = after.records.values().flat_map(|r| r.sinks.values()).filter(|receipt| receipt.spooled).map(|receipt| receipt.rows).sum();
    if waiting > 0 {
        *most.entry(QUARANTINE.to_owned()).or_default() += waiting;
    }
    let mut good = (0, 0, 0);
    for (sink, most) in &most {
        let least = least.get(sink).copied().unwrap_or(0);
        let Some((rows, files)) = counts.tables.get(sink) else {
            let known = plan.is_none_or(|p| p.tables.iter().any(|t| t.name == *sink)) || sink == QUARANTINE;
            if least > 0 && known {
                findings.push(Finding::failed_with("lake", format!("table \"{sink}\" took {} rows, and is not in the lake", thousands(least)), LOST));
            }
            continue;
        };
        // Rows that take each other's place do not add up.
        let changing = plan.is_some_and(|p| p.tables.iter().any(|t| t.name == *sink && t.key.is_some()));
        if changing || (least..=*most).contains(rows) {
            good = (good.0 + 1, good.1 + rows, good.2 + files);
        } else {
            let word = if *rows < least { "lost" } else { "added" };
            let expected = if least == *most { thousands(least) } else { format!("{} to {}", thousands(least), thousands(*most)) };
            let difference = if *rows < least { least - rows } else { rows - most };
            findings.push(Finding::failed_with(
                "lake",
                format!("table \"{sink}\" holds {} rows, and its epochs put {expected} there: {} {word}", thousands(*rows), count(difference, "row")),
                if *rows < least { LOST } else { "Something else than this project writes to the table: look at its _delta_log." },
            ));
        }
    }
    for name in counts.tables.keys().filter(|name| !most.contains_key(*name) && counts.tables[*name].0 > 0) {
        findings.push(Finding::failed_with(
            "lake",
            format!("table \"{name}\" holds {} rows, and no epoch of this checkpoint put any there", thousands(counts.tables[name].0)),
            "The checkpoint is not the one that wrote the lake. Restore the matching one, or move the lake aside too.",
        ));
    }
    findings.extend(receipts(before, plan));
    findings.extend(quarantine(before, counts, plan));
    if good.0 > 0 && findings.iter().all(|f| !f.failed()) {
        findings.push(Finding::good("lake", format!("{}, {} in {}, as the epochs say", count(good.0, "table"), count(good.1, "row"), count(good.2, "file"))));
    }
    findings
}

/// What the ledger says was delivered is what the table's writers took.
fn receipts(audit: &Audit, plan: Option<&Plan>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in plan.into_iter().flat_map(|p| &p.tables).filter(|t| t.stored && !t.aggregated) {
        let multiplies = table.steps.iter().any(|s| matches!(s, Step::Lookup(_) | Step::Assign(_)));
        for (epoch, record) in &audit.records {
            let delivered: u64 = record.ledger.iter().filter(|r| r.table_name == table.name).map(|r| r.account.delivered).sum();
            let took = record.sinks.get(&table.name).map_or(0, |receipt| receipt.rows);
            // Of rows that come and go those that meet nothing, or each other, leave nothing to take.
            let changing = table.key.is_some();
            if took < delivered && !changing || (took > delivered && !multiplies) {
                findings.push(Finding::failed_with(
                    "lake",
                    format!("epoch {epoch}: the ledger says {} were delivered to table \"{}\", and its writers took {}", count(delivered, "row"), table.name, thousands(took)),
                    "Please report it with the epoch's files in offsets/ and commits/; unless the table's query was changed since, which is all right.",
                ));
            }
        }
    }
    findings
}

/// Every late or quarantined row of the ledger waits in the quarantine.
fn quarantine(audit: &Audit, counts: &Counts, plan: Option<&Plan>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected: BTreeMap<(u64, String), u64> = BTreeMap::new();
    for row in audit.records.values().flat_map(|r| &r.ledger) {
        let kept_late = if plan.is_some_and(|p| p.tables.iter().any(|t| t.name == row.table_name && t.drops_late)) { 0 } else { row.account.late };
        *expected.entry((row.epoch, row.table_name.clone())).or_default() += kept_late + row.account.quarantined;
    }
    let nothing = BTreeMap::new();
    let found = match &counts.quarantine {
        Some(found) => found,
        // Unreadable: that has its own finding.
        None if counts.tables.contains_key(QUARANTINE) => return findings,
        None => &nothing,
    };
    let mut rows = 0;
    for ((epoch, table), expected) in &expected {
        let there = found.get(&(*epoch, table.clone())).copied().unwrap_or(0);
        rows += there;
        if there != *expected {
            findings.push(Finding::failed_with(
                "quarantine",
                format!("epoch {epoch}, table \"{table}\": the ledger refused {}, and system.quarantine holds {}", count(*expected, "row"), thousands(there)),
                LOST,
            ));
        }
    }
    for ((epoch, table), there) in found.iter().filter(|(key, _)| !expected.contains_key(*key) && key.0 <= audit.last_committed()) {
        findings.push(Finding::failed_with("quarantine", format!("epoch {epoch}, table \"{table}\": system.quarantine holds {}, and the ledger none", count(*there, "row")), LOST));
    }
    if findings.is_empty() && !expected.is_empty() {
        findings.push(Finding::good("quarantine", format!("{}, as the ledger says", count(rows, "row"))));
    }
    findings
}
