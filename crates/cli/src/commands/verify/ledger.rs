//! The ledger: every row balances, and what one table delivers the next one reads.

use std::collections::{BTreeMap, BTreeSet};

use watershed_engine::plan::Plan;

use super::audit::Audit;
use super::finding::Finding;
use crate::output::{count, thousands};

const CHECK: &str = "ledger";

/// Checks the accounts of every complete epoch.
pub fn check(audit: &Audit, plan: Option<&Plan>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rows: Vec<_> = audit.records.values().flat_map(|r| &r.ledger).collect();
    for row in rows.iter().filter(|r| !r.account.balances()) {
        let a = row.account;
        findings.push(Finding::failed_with(
            CHECK,
            format!(
                "epoch {}, table \"{}\" from {}: {} read, but {} delivered + {} filtered + {} duplicate + {} late + {} quarantined = {}",
                row.epoch,
                row.table_name,
                row.source,
                a.read,
                a.delivered,
                a.filtered,
                a.duplicate,
                a.late,
                a.quarantined,
                a.accounted()
            ),
            "This is a bug of Watershed or a changed file. Please report it with the epoch's files in offsets/ and commits/.",
        ));
    }
    findings.extend(chain(audit, plan));
    if findings.is_empty() && !rows.is_empty() {
        let tables: BTreeSet<&str> = rows.iter().map(|r| r.table_name.as_str()).collect();
        let read: u64 = rows.iter().map(|r| r.account.read).sum();
        findings.push(Finding::good(
            CHECK,
            format!("{}, {}, {} rows accounted for, all balance", count(audit.records.len() as u64, "epoch"), count(tables.len() as u64, "table"), thousands(read)),
        ));
    }
    findings
}

/// A table that reads another one reads exactly what that one delivered in the epoch.
fn chain(audit: &Audit, plan: Option<&Plan>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(plan) = plan else { return findings };
    let aggregated: BTreeMap<&str, bool> = plan.tables.iter().map(|t| (t.name.as_str(), t.aggregated)).collect();
    let mut begun: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (epoch, record) in &audit.records {
        let mut read: BTreeMap<(&str, &str), u64> = begun.iter().map(|pair| (*pair, 0)).collect();
        for row in record.ledger.iter().filter(|r| aggregated.contains_key(r.source.as_str())) {
            *read.entry((&row.table_name, &row.source)).or_default() += row.account.read;
        }
        for ((table, input), read) in read {
            begun.insert((table, input));
            // Results are not in the input's accounts: they have one of their own, or what its writers took stands for them.
            let results = format!("{input} (results)");
            let told = record.ledger.iter().find(|r| r.table_name == input && r.source == results);
            let gave: u64 = if aggregated[input] {
                told.map(|row| row.account.delivered).or_else(|| record.sinks.get(input).map(|receipt| receipt.rows)).unwrap_or(0)
            } else {
                record.ledger.iter().filter(|r| r.table_name == input).map(|r| r.account.delivered).sum()
            };
            if read != gave && aggregated.contains_key(table) {
                findings.push(Finding::failed_with(
                    CHECK,
                    format!("epoch {epoch}: table \"{input}\" delivered {} rows, and table \"{table}\", which reads it, read {}", thousands(gave), thousands(read)),
                    "Rows were lost or repeated between the two. Please report it with the epoch's files in offsets/ and commits/.",
                ));
            }
        }
    }
    findings
}
