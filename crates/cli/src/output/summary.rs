//! What a run did.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use watershed_engine::run::Outcome;
use watershed_protocol::Account;

use super::{Cell, Sheet, count, print, print_json, thousands};

/// Adds the columns of an account to a row.
pub fn account_cells(account: &Account) -> [Cell; 6] {
    [account.read, account.delivered, account.filtered, account.duplicate, account.late, account.quarantined].map(Cell::number)
}

/// The accounts of tables and inputs.
pub fn accounts(accounts: &BTreeMap<(String, String), Account>) -> Sheet {
    let mut sheet = Sheet::new(&["table", "from", "read>", "delivered>", "filtered>", "duplicate>", "late>", "quarantined>"]);
    for ((table, source), account) in accounts {
        let mut row = vec![Cell::text(table), Cell::text(source)];
        row.extend(account_cells(account));
        sheet.push(row);
    }
    sheet
}

/// Prints what a run did on stdout.
pub fn outcome(outcome: &Outcome, took: Duration, json: bool) {
    let seconds = took.as_secs_f64().max(1e-9);
    let rate = outcome.records as f64 / seconds;
    let printed = if json {
        let accounts: Vec<_> = outcome
            .accounts
            .iter()
            .map(|((table, source), account)| {
                let mut line = json!({ "table_name": table, "source": source });
                if let (Some(line), Ok(serde_json::Value::Object(figures))) = (line.as_object_mut(), serde_json::to_value(account)) {
                    line.extend(figures);
                }
                line
            })
            .collect();
        print_json(&json!({
            "epoch": outcome.epoch.0, "epochs": outcome.epochs, "records": outcome.records, "seconds": seconds,
            "records_per_second": rate, "accounts": accounts, "sinks": outcome.sinks,
        }))
    } else {
        let mut text = if outcome.epochs == 0 {
            format!("no new input · last epoch {}\n", outcome.epoch)
        } else {
            format!(
                "{} in {seconds:.2}s ({}/s) · {} committed, the last is {}\n",
                count(outcome.records, "record"),
                thousands(rate as u64),
                count(outcome.epochs, "epoch"),
                outcome.epoch
            )
        };
        if !outcome.accounts.is_empty() {
            text.push('\n');
            text.push_str(&accounts(&outcome.accounts).table(""));
        }
        let unbalanced: Vec<_> = outcome.accounts.iter().filter(|(_, a)| !a.balances()).map(|((t, _), _)| t.as_str()).collect();
        if !unbalanced.is_empty() {
            text.push_str(&format!("\nthe accounts of {} do not balance; run `watershed verify`\n", unbalanced.join(", ")));
        }
        print(&text)
    };
    if let Err(error) = printed {
        eprintln!("error: {}", error.report());
    }
}
