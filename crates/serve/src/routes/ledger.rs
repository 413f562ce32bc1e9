//! The ledger: what became of every record, by epoch and table.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use watershed_protocol::Account;

use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::{Shared, blocking};

/// Which lines are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// Of this table or target.
    table: Option<String>,
    /// From this source or table.
    source: Option<String>,
    /// From this epoch on.
    from_epoch: Option<u64>,
    /// Up to this epoch.
    to_epoch: Option<u64>,
    /// So many lines.
    #[param(maximum = 1000)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// A page of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerView {
    /// The newest epoch first.
    pub rows: Vec<LedgerLine>,
    /// The next page's cursor, if there is one.
    pub next: Option<String>,
    /// Over all lines that are meant, not only this page.
    pub totals: Figures,
    /// How many lines that are.
    pub total_rows: usize,
}

/// A line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerLine {
    /// The epoch.
    pub epoch: u64,
    /// The table or target.
    pub table: String,
    /// Where its rows came from.
    pub source: String,
    /// The account.
    #[serde(flatten)]
    pub figures: Figures,
    /// True if it adds up.
    pub balances: bool,
}

/// An account.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Figures {
    /// Records read.
    pub read: u64,
    /// Delivered.
    pub delivered: u64,
    /// Filtered by the query.
    pub filtered: u64,
    /// Repeats.
    pub duplicate: u64,
    /// Too late.
    pub late: u64,
    /// In the quarantine.
    pub quarantined: u64,
    /// Gone before they could be read.
    pub lost: u64,
}

impl From<&Account> for Figures {
    fn from(account: &Account) -> Self {
        let Account { read, delivered, filtered, duplicate, late, quarantined, lost } = *account;
        Figures { read, delivered, filtered, duplicate, late, quarantined, lost }
    }
}

/// What became of every record.
#[utoipa::path(
    get,
    path = "/v1/ledger",
    tag = "accounts",
    params(LedgerQuery),
    responses((status = 200, description = "A page", body = LedgerView), (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn ledger(State(shared): State<Arc<Shared>>, Query(query): Query<LedgerQuery>) -> Answer<Json<LedgerView>> {
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let reader = Arc::clone(&shared);
    let records = blocking(move || reader.records()).await?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let meant = |row: &&watershed_protocol::LedgerRow| {
        query.table.as_ref().is_none_or(|table| *table == row.table_name)
            && query.source.as_ref().is_none_or(|source| *source == row.source)
            && query.from_epoch.is_none_or(|from| row.epoch >= from)
            && query.to_epoch.is_none_or(|to| row.epoch <= to)
    };
    let mut totals = Account::default();
    let (mut rows, mut total_rows, mut next) = (Vec::new(), 0, None);
    for record in records.iter().rev() {
        for (index, row) in record.ledger.iter().enumerate().filter(|(_, row)| meant(row)) {
            totals.add(&row.account);
            total_rows += 1;
            let place = (row.epoch, index);
            // Newest epoch first, lines of an epoch in their order.
            let before_page = after.is_some_and(|(epoch, line)| place.0 > epoch || (place.0 == epoch && place.1 <= line));
            if before_page {
                continue;
            }
            if rows.len() < limit {
                rows.push((
                    place,
                    LedgerLine { epoch: row.epoch, table: row.table_name.clone(), source: row.source.clone(), figures: (&row.account).into(), balances: row.account.balances() },
                ));
            } else if next.is_none() {
                next = rows.last().map(|((epoch, line), _)| format!("{epoch}.{line}"));
            }
        }
    }
    Ok(Json(LedgerView { rows: rows.into_iter().map(|(_, line)| line).collect(), next, totals: (&totals).into(), total_rows }))
}

fn parse_cursor(text: &str) -> Answer<(u64, usize)> {
    let parsed = text.split_once('.').and_then(|(epoch, line)| Some((epoch.parse().ok()?, line.parse().ok()?)));
    parsed.ok_or_else(|| Problem::bad(code::PARAMETER, "\"cursor\" is not one of this list").hint("Use \"next\" of the page before, as it is."))
}
