//! The target table: made, checked, grown.
//!
//! **Owns** what the catalogue says of it. **Does not own** the decision whether a column fits: that is [`crate::columns`].

use watershed_types::Result;

use crate::backend::Backend;
use crate::columns::{Columns, Found, quote, table_ddl};
use crate::error::{Place, bad_ledger, changed, no_table};
use crate::ledger::literal;
use crate::options::RedshiftOptions;
use crate::plan::grow;

/// The table's columns as they are; empty if there is no table.
pub(crate) async fn find(backend: &Backend, place: &Place, options: &RedshiftOptions) -> Result<Vec<Found>> {
    let rows = backend
        .query(&format!(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'yes' ELSE 'no' END, CASE WHEN a.atthasdef THEN 'yes' ELSE 'no' END
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {} AND c.relname = {} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            literal(&options.schema),
            literal(&options.table)
        ))
        .await?;
    let text = |cell: Option<&Option<String>>| cell.cloned().flatten().ok_or_else(|| bad_ledger(place, "the catalogue has no name for a column"));
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push(Found { name: text(row.first())?, shown: text(row.get(1))?, not_null: text(row.get(2))? == "yes", filled: text(row.get(3))? == "yes" });
    }
    Ok(found)
}

/// Makes, checks and grows the table.
pub(crate) async fn prepare(backend: &Backend, place: &Place, options: &RedshiftOptions, columns: &Columns) -> Result<()> {
    let mut found = find(backend, place, options).await?;
    if found.is_empty() {
        if !options.create_table {
            return Err(no_table(place));
        }
        // Asked first: `CREATE SCHEMA IF NOT EXISTS` wants rights even where it does nothing.
        let schema = backend.query(&format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(&options.schema))).await?;
        if schema.is_empty() {
            backend.alone(&format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&options.schema))).await?;
        }
        backend.alone(&table_ddl(options, columns)).await?;
        found = find(backend, place, options).await?;
    }
    let (_, missing) = columns.fit(place, options, &found)?;
    for statement in grow(options, &missing) {
        backend.alone(&statement).await?;
        tracing::info!(sink = place.sink, table = place.table, statement, "column added");
    }
    Ok(())
}

/// The columns as they fit the table now. Errors if it does not fit any more.
pub(crate) async fn fitted(backend: &Backend, place: &Place, options: &RedshiftOptions, columns: &Columns) -> Result<Columns> {
    let found = find(backend, place, options).await?;
    if found.is_empty() {
        return Err(no_table(place));
    }
    let (fitted, missing) = columns.fit(place, options, &found)?;
    match missing.first() {
        Some(column) => Err(changed(place, &format!("column \"{}\" is gone", column.name))),
        None => Ok(fitted),
    }
}
