//! The target table: made, checked, grown.
//!
//! **Owns** what the catalog says of it. **Does not own** the decision whether a column fits: that is [`crate::columns`].

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use watershed_types::Result;

use crate::columns::{Columns, Found, key_names, qualified, quote};
use crate::error::{Place, mismatch, no_table};
use crate::ledger::get;
use crate::options::{Mode, PostgresOptions};

const COLUMNS: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), coalesce(b.typname, t.typname)::text, coalesce(b.typtype, t.typtype) = 'e',
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       a.attnotnull, a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
/// The unique indexes that `ON CONFLICT` can name, as sorted column names, and whether there is any unique or exclusion index.
const UNIQUE: &str = "
SELECT i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts ORDER BY 1)
FROM pg_index i WHERE i.indrelid = to_regclass($1) AND (i.indisunique OR i.indisexclusion)";

/// The table's columns as they are; empty if there is no table.
pub(crate) async fn find(client: &Client, place: &Place, options: &PostgresOptions) -> Result<Vec<Found>> {
    let rows = client.query(COLUMNS, &[&qualified(options)]).await.map_err(|cause| place.error(cause))?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let base: String = get(place, row, 2)?;
        let modifier: i32 = get(place, row, 4)?;
        // As `numeric_typmod` packs them: precision above, scale in the low eleven bits with its sign.
        let numeric = (base == "numeric" && modifier >= 4).then(|| (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024));
        found.push(Found {
            name: get(place, row, 0)?,
            shown: get(place, row, 1)?,
            base,
            is_enum: get(place, row, 3)?,
            numeric,
            not_null: get(place, row, 5)?,
            filled: get(place, row, 6)?,
        });
    }
    Ok(found)
}

/// Makes, checks and grows the table.
pub(crate) async fn prepare(client: &Client, place: &Place, options: &PostgresOptions, columns: &Columns, ddl: &str) -> Result<()> {
    let mut found = find(client, place, options).await?;
    if found.is_empty() {
        if !options.create_table {
            return Err(no_table(place));
        }
        make(client, place, options, ddl).await?;
        found = find(client, place, options).await?;
    }
    let (_, missing) = columns.fit(place, options, &found)?;
    if !missing.is_empty() {
        let adds: Vec<String> = missing.iter().map(|column| format!("ADD COLUMN IF NOT EXISTS {} {}", quote(&column.name), column.made_as)).collect();
        client.batch_execute(&format!("ALTER TABLE {} {}", qualified(options), adds.join(", "))).await.map_err(|cause| place.error(cause))?;
        tracing::info!(sink = place.sink, table = place.table, columns = missing.len(), "columns added");
    }
    if options.mode == Mode::Upsert {
        let mut key = options.key.clone();
        key.sort_unstable();
        if !unique(client, place, options).await?.contains(&Some(key)) {
            let alter = format!("ALTER TABLE {} ADD UNIQUE ({});", qualified(options), key_names(options));
            return Err(mismatch(place, format!("nothing makes its key ({}) unique", options.key.join(", ")), alter));
        }
    }
    Ok(())
}

async fn make(client: &Client, place: &Place, options: &PostgresOptions, ddl: &str) -> Result<()> {
    // Asked first: `CREATE SCHEMA IF NOT EXISTS` wants rights even where it does nothing.
    let schema = client.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&options.schema]).await.map_err(|cause| place.error(cause))?;
    if schema.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&options.schema))).await.map_err(|cause| place.error(cause))?;
    }
    match client.batch_execute(ddl).await {
        // Another run made it at the same moment; it is checked like any other.
        Err(cause) if matches!(cause.code(), Some(code) if *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::DUPLICATE_TABLE) => Ok(()),
        other => other.map_err(|cause| place.error(cause)),
    }
}

/// Every unique or exclusion index: its sorted columns, or `None` where `ON CONFLICT` cannot name it.
pub(crate) async fn unique(client: &Client, place: &Place, options: &PostgresOptions) -> Result<Vec<Option<Vec<String>>>> {
    let rows = client.query(UNIQUE, &[&qualified(options)]).await.map_err(|cause| place.error(cause))?;
    rows.iter().map(|row| Ok(if get(place, row, 0)? { Some(get(place, row, 1)?) } else { None })).collect()
}
