//! Housekeeping between epochs: fresh statistics, and an eye on dead rows.
//!
//! **Owns** `ANALYZE`, `VACUUM` and the sentence that asks a person for it. **Does not own** when it is called.
//!
//! An upsert leaves a dead row for each row it replaces. Autovacuum clears them by its own rules, which for a large table
//! that is upserted every few seconds may be too late: the table and its indexes grow, and every merge gets slower.

use tokio::runtime::Handle;
use tokio_postgres::Client;
use watershed_types::Result;

use crate::columns::qualified;
use crate::error::Place;
use crate::ledger::get;
use crate::options::{PostgresOptions, Vacuum};
use crate::session::connect;

/// Dead rows are worth a word from this number on, if they are also more than a quarter of all.
const DEAD_ROWS: i64 = 10_000;

/// Does what is due; returns what a person should know.
pub(crate) async fn keep_house(options: &PostgresOptions, place: &Place, pipeline: &str, runtime: &Handle, analyze: bool) -> Result<Option<String>> {
    if !analyze && options.vacuum == Vacuum::Off {
        return Ok(None);
    }
    let client = connect(options, place, pipeline, runtime).await?;
    let table = qualified(options);
    if analyze {
        client.batch_execute(&format!("ANALYZE {table}")).await.map_err(|cause| place.error(cause))?;
    }
    if options.vacuum == Vacuum::Off {
        return Ok(None);
    }
    let Some((dead, all)) = dead_rows(&client, place, &table).await? else { return Ok(None) };
    if options.vacuum == Vacuum::Advise {
        return Ok(Some(format!(
            "{} % of the rows of table \"{}\" are dead ({dead} of {all}): run VACUUM {table}, let autovacuum come more often (ALTER TABLE {table} SET \
             (autovacuum_vacuum_scale_factor = 0.02)), or set vacuum = 'auto'",
            100 * dead / all,
            place.table
        )));
    }
    // It waits for no writer and no writer waits for it; a large table takes as long as it takes.
    client.batch_execute("SET statement_timeout = 0").await.map_err(|cause| place.error(cause))?;
    client.batch_execute(&format!("VACUUM (ANALYZE) {table}")).await.map_err(|cause| place.error(cause))?;
    tracing::info!(sink = place.sink, table = place.table, dead, "vacuumed");
    // The server skips a table of somebody else's with a warning, and keeps rows that an old transaction may still see.
    Ok(dead_rows(&client, place, &table).await?.map(|(dead, all)| {
        format!(
            "{} % of the rows of table \"{}\" are dead ({dead} of {all}) although it was vacuumed: the user of the url must own the table, and no old transaction may be open \
             (look at pg_stat_activity)",
            100 * dead / all,
            place.table
        )
    }))
}

/// Dead rows and all rows, if they are worth a word.
async fn dead_rows(client: &Client, place: &Place, table: &str) -> Result<Option<(i64, i64)>> {
    const STATISTICS: &str = "SELECT n_dead_tup, n_live_tup + n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass($1)";
    let row = client.query_opt(STATISTICS, &[&table]).await.map_err(|cause| place.error(cause))?;
    let Some(row) = row else { return Ok(None) };
    let (dead, all): (i64, i64) = (get(place, &row, 0)?, get(place, &row, 1)?);
    Ok((dead >= DEAD_ROWS && dead * 4 > all).then_some((dead, all)))
}
