//! Rows that are old enough to be in the lake alone.
//!
//! **Owns** the removal of rows by their time, and `watershed.floors`, which says from which time on a table is whole.
//! **Does not own** when it is done: that is the engine's maintenance.
//!
//! I1: the floor of a table rises in the same transaction that removes rows below it, so nobody sees rows gone above a floor.

use tokio_postgres::Client;
use watershed_types::Result;

use crate::columns::quote;
use crate::error::Place;
use crate::ledger::{Writer, get};
use crate::options::Retention;

const MAKE: &str = "
CREATE TABLE IF NOT EXISTS watershed.floors (
  app_id text NOT NULL, pipeline text NOT NULL, sink text NOT NULL, floor timestamptz NOT NULL, raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (app_id, sink))";
/// The time column's type, and whether an index begins with it.
const COLUMN: &str = "
SELECT format_type(a.atttypid, NULL), EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum)
FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attname = $2";
const RAISE: &str = "
INSERT INTO watershed.floors AS f (app_id, pipeline, sink, floor) VALUES ($1, $2, $3, $4::text::timestamptz)
ON CONFLICT (app_id, sink) DO UPDATE SET floor = greatest(f.floor, excluded.floor), raised_at = clock_timestamp()";

/// Removes rows further behind the newest time than they are kept.
pub(crate) async fn keep(client: &Client, place: &Place, writer: &Writer, table: &str, kept: &Retention) -> Result<()> {
    let failed = |cause| place.error(cause);
    let time = quote(&kept.time);
    // A timestamp without a zone is UTC, as everywhere in a pipeline.
    client.batch_execute("SET TimeZone = 'UTC'").await.map_err(failed)?;
    let row = client.query_one(COLUMN, &[&table, &kept.time]).await.map_err(failed)?;
    let (data_type, indexed): (String, bool) = (get(place, &row, 0)?, get(place, &row, 1)?);
    if !indexed {
        // Both ends are found at once by it, and so are ranges that are read.
        let index = quote(&format!("watershed_{}_times", writer.sink));
        client.batch_execute(&format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({time})")).await.map_err(failed)?;
    }
    let keep = format!("interval '{} microseconds'", kept.keep.as_micros());
    let row = client.query_one(&format!("SELECT (max({time}) - {keep})::text, min({time}) < max({time}) - {keep} FROM {table}"), &[]).await.map_err(failed)?;
    let (Some(floor), Some(true)) = (get::<Option<String>>(place, &row, 0)?, get::<Option<bool>>(place, &row, 1)?) else { return Ok(()) };
    client.batch_execute(MAKE).await.map_err(failed)?;
    client.batch_execute("BEGIN").await.map_err(failed)?;
    client.execute(RAISE, &[&writer.app_id, &writer.pipeline, &writer.sink, &floor]).await.map_err(failed)?;
    let removed = client.execute(&format!("DELETE FROM {table} WHERE {time} < $1::text::{data_type}"), &[&floor]).await.map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(failed)?;
    tracing::debug!(sink = place.sink, removed, floor, "old rows removed");
    Ok(())
}
