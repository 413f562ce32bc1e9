//! The schema `watershed` of the target database.
//!
//! **Owns** its tables and every statement on them.
//!
//! `watershed.epochs` keeps a line for each of the last [`PostgresOptions::keep_epochs`](crate::PostgresOptions) epochs. Now and
//! then, in the transaction of an epoch, older lines are deleted and added to the sink's one line in `watershed.totals`, so
//! that sums over all epochs still hold.
//!
//! `app_id` is part of each key: a pipeline whose checkpoint was thrown away begins again at epoch 1, as somebody else.

use tokio_postgres::{Client, Row, Statement};
use watershed_ports::{Folded, RefusedRow};
use watershed_types::{Epoch, Generation, Result};

use crate::error::{Place, bad_ledger, fenced};

const MAKE: &str = "
CREATE SCHEMA IF NOT EXISTS watershed;
CREATE TABLE IF NOT EXISTS watershed.epochs (
  app_id text NOT NULL, pipeline text NOT NULL, sink text NOT NULL, epoch bigint NOT NULL, part integer NOT NULL DEFAULT 0, parts integer NOT NULL DEFAULT 1,
  generation bigint NOT NULL, rows bigint NOT NULL, refused jsonb NOT NULL, committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (app_id, sink, epoch, part));
CREATE TABLE IF NOT EXISTS watershed.owners (
  app_id text NOT NULL, pipeline text NOT NULL, sink text NOT NULL, generation bigint NOT NULL, claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (app_id, sink));
ALTER TABLE watershed.owners ADD COLUMN IF NOT EXISTS claim text;
CREATE TABLE IF NOT EXISTS watershed.totals (
  app_id text NOT NULL, pipeline text NOT NULL, sink text NOT NULL, up_to bigint NOT NULL, epochs bigint NOT NULL, rows bigint NOT NULL,
  PRIMARY KEY (app_id, sink));
COMMENT ON SCHEMA watershed IS 'Watershed: which epochs of which pipelines this database holds. Do not edit.';
";
const CLAIM: &str = "
INSERT INTO watershed.owners AS o (app_id, pipeline, sink, generation, claim) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (app_id, sink) DO UPDATE SET generation = greatest(o.generation, excluded.generation), pipeline = excluded.pipeline, claimed_at = clock_timestamp(),
  claim = CASE WHEN excluded.generation >= o.generation THEN excluded.claim ELSE o.claim END
RETURNING generation";
const LAST: &str = "
SELECT epoch FROM watershed.epochs WHERE app_id = $1 AND sink = $2 GROUP BY epoch HAVING count(*) >= max(parts) ORDER BY epoch DESC LIMIT 1";
const LOOK: &str = "SELECT part, parts, rows, refused::text FROM watershed.epochs WHERE app_id = $1 AND sink = $2 AND epoch = $3";
const RECORD: &str = "
INSERT INTO watershed.epochs (app_id, pipeline, sink, epoch, part, parts, generation, rows, refused) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb)";
/// Lines up to an epoch become part of the running total.
const FOLD: &str = "
WITH old AS (DELETE FROM watershed.epochs WHERE app_id = $1 AND sink = $2 AND epoch <= $4 RETURNING epoch, rows),
     sums AS (SELECT count(DISTINCT epoch) AS epochs, coalesce(sum(rows), 0)::bigint AS rows FROM old)
INSERT INTO watershed.totals AS t (app_id, sink, pipeline, up_to, epochs, rows) SELECT $1, $2, $3, $4, epochs, rows FROM sums WHERE epochs > 0
ON CONFLICT (app_id, sink) DO UPDATE SET up_to = excluded.up_to, epochs = t.epochs + excluded.epochs, rows = t.rows + excluded.rows";
const TOTALS: &str = "SELECT up_to, epochs, rows FROM watershed.totals WHERE app_id = $1 AND sink = $2";
/// A transaction that is alone waits here for a lost one of its own.
const FENCE: &str = "SELECT generation, claim FROM watershed.owners WHERE app_id = $1 AND sink = $2 FOR NO KEY UPDATE";
/// Parts of one epoch stand side by side; only a claim waits for them, and they for it.
const FENCE_SHARED: &str = "SELECT generation, claim FROM watershed.owners WHERE app_id = $1 AND sink = $2 FOR SHARE";

/// Who writes.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub app_id: String,
    pub pipeline: String,
    pub sink: String,
}

/// The prepared statements of one connection.
pub(crate) struct Ledger {
    pub fence: Statement,
    pub fence_shared: Statement,
    pub look: Statement,
    pub record: Statement,
    pub fold: Statement,
}

/// One part of an epoch that is there.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub part: i32,
    pub parts: i32,
    pub rows: u64,
    pub refused: Vec<RefusedRow>,
}

impl Ledger {
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let (fence, fence_shared, look, record, fold) =
            futures::try_join!(client.prepare(FENCE), client.prepare(FENCE_SHARED), client.prepare(LOOK), client.prepare(RECORD), client.prepare(FOLD))?;
        Ok(Self { fence, fence_shared, look, record, fold })
    }
}

/// Makes the tables if they are not there. Asks first: `CREATE … IF NOT EXISTS` wants rights even where it does nothing.
pub(crate) async fn make(client: &Client, place: &Place) -> Result<()> {
    if there(client, place).await? && is_current(client, place).await? {
        return Ok(());
    }
    match client.batch_execute(MAKE).await {
        Ok(()) => Ok(()),
        // Two first runs at once: one of them meets the other's half-made tables.
        Err(_) if there(client, place).await? && is_current(client, place).await? => Ok(()),
        Err(cause) => Err(place.error(cause)),
    }
}

/// Whether the tables are there.
pub(crate) async fn there(client: &Client, place: &Place) -> Result<bool> {
    let row =
        client.query_one("SELECT to_regclass('watershed.epochs') IS NOT NULL AND to_regclass('watershed.owners') IS NOT NULL", &[]).await.map_err(|cause| place.error(cause))?;
    get(place, &row, 0)
}

/// Whether the tables have everything: a database written by an older version has not until the next claim.
async fn is_current(client: &Client, place: &Place) -> Result<bool> {
    const CURRENT: &str = "SELECT to_regclass('watershed.totals') IS NOT NULL AND EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = to_regclass('watershed.owners') AND attname = 'claim' AND NOT attisdropped)";
    let row = client.query_one(CURRENT, &[]).await.map_err(|cause| place.error(cause))?;
    get(place, &row, 0)
}

/// Takes the sink for a generation. Waits for transactions of older ones, which come before it or not at all.
pub(crate) async fn claim(client: &Client, place: &Place, writer: &Writer, generation: Generation, claim: &str) -> Result<()> {
    let ours = generation.0 as i64;
    let row = client.query_one(CLAIM, &[&writer.app_id, &writer.pipeline, &writer.sink, &ours, &claim]).await.map_err(|cause| place.error(cause))?;
    let owner: i64 = get(place, &row, 0)?;
    if owner > ours { Err(fenced(place, generation, owner)) } else { Ok(()) }
}

/// The last epoch that is there with all its parts.
pub(crate) async fn last_epoch(client: &Client, place: &Place, writer: &Writer) -> Result<Epoch> {
    let row = client.query_opt(LAST, &[&writer.app_id, &writer.sink]).await.map_err(|cause| place.error(cause))?;
    match row {
        Some(row) => Ok(Epoch(get::<i64>(place, &row, 0)? as u64)),
        None => Ok(Epoch::ZERO),
    }
}

/// What was added up of epochs that have no line of their own any more.
pub(crate) async fn totals(client: &Client, place: &Place, writer: &Writer) -> Result<Folded> {
    if !is_current(client, place).await? {
        return Ok(Folded::default());
    }
    let row = client.query_opt(TOTALS, &[&writer.app_id, &writer.sink]).await.map_err(|cause| place.error(cause))?;
    let Some(row) = row else { return Ok(Folded::default()) };
    let number = |index| get::<i64>(place, &row, index).map(|number| number as u64);
    Ok(Folded { up_to: number(0)?, epochs: number(1)?, rows: number(2)? })
}

/// Every epoch that is there with all its parts, and its rows.
pub(crate) async fn history(client: &Client, place: &Place, writer: &Writer) -> Result<std::collections::BTreeMap<u64, u64>> {
    const ALL: &str = "SELECT epoch, sum(rows)::bigint FROM watershed.epochs WHERE app_id = $1 AND sink = $2 GROUP BY epoch HAVING count(*) >= max(parts)";
    let rows = client.query(ALL, &[&writer.app_id, &writer.sink]).await.map_err(|cause| place.error(cause))?;
    rows.iter().map(|row| Ok((get::<i64>(place, row, 0)? as u64, get::<i64>(place, row, 1)? as u64))).collect()
}

/// The parts of one epoch that are there.
pub(crate) async fn look(client: &Client, place: &Place, writer: &Writer, epoch: Epoch) -> Result<Vec<Landed>> {
    let rows = client.query(LOOK, &[&writer.app_id, &writer.sink, &(epoch.0 as i64)]).await.map_err(|cause| place.error(cause))?;
    landed(place, &rows)
}

pub(crate) fn landed(place: &Place, rows: &[Row]) -> Result<Vec<Landed>> {
    let mut landed: Vec<Landed> = Vec::with_capacity(rows.len());
    for row in rows {
        let refused: String = get(place, row, 3)?;
        landed.push(Landed {
            part: get(place, row, 0)?,
            parts: get(place, row, 1)?,
            rows: get::<i64>(place, row, 2)? as u64,
            refused: serde_json::from_str(&refused).map_err(|cause| bad_ledger(place, cause))?,
        });
    }
    if let Some(first) = landed.first()
        && landed.iter().any(|part| part.parts != first.parts || part.part < 0 || part.part >= part.parts || part.parts > 1024)
    {
        return Err(bad_ledger(place, "parts of one epoch do not belong together"));
    }
    Ok(landed)
}

/// Whether all parts of an epoch are there.
pub(crate) fn whole(landed: &[Landed]) -> bool {
    landed.first().is_some_and(|first| landed.len() as i64 >= i64::from(first.parts))
}

pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(place: &Place, row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|cause| bad_ledger(place, cause))
}
