//! The schema `watershed` of the target database.
//!
//! **Owns** its tables, the statements that read them, and how names and text stand in SQL.
//!
//! `app_id` is part of each key: a pipeline whose checkpoint was thrown away begins again at epoch 1, as somebody else. Primary keys
//! are information to Redshift, not a rule. Every sink has a lock of its own, an empty table, so that sinks do not wait for
//! each other: Redshift locks tables, not rows.

use std::collections::BTreeMap;

use watershed_ports::RefusedRow;
use watershed_types::{Epoch, Kind, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Backend, Row, pauses};
use crate::error::{Place, bad_ledger};

/// The tables every sink shares: names, and the statements that make them.
const TABLES: [(&str, &str); 3] = [
    (
        "epochs",
        "CREATE TABLE IF NOT EXISTS watershed.epochs (
  app_id VARCHAR(512) NOT NULL, pipeline VARCHAR(256) NOT NULL, sink VARCHAR(256) NOT NULL, epoch BIGINT NOT NULL,
  generation BIGINT NOT NULL, \"rows\" BIGINT NOT NULL, refused BIGINT NOT NULL, committed_at TIMESTAMP NOT NULL,
  PRIMARY KEY (app_id, sink, epoch)
) DISTSTYLE ALL SORTKEY (app_id, sink, epoch)",
    ),
    (
        "owners",
        "CREATE TABLE IF NOT EXISTS watershed.owners (
  app_id VARCHAR(512) NOT NULL, pipeline VARCHAR(256) NOT NULL, sink VARCHAR(256) NOT NULL,
  generation BIGINT NOT NULL, claimed_at TIMESTAMP NOT NULL,
  PRIMARY KEY (app_id, sink)
) DISTSTYLE ALL",
    ),
    (
        "refused",
        "CREATE TABLE IF NOT EXISTS watershed.refused (
  app_id VARCHAR(512), sink VARCHAR(256), epoch BIGINT, ordinal BIGINT, detail VARCHAR(4096)
) DISTSTYLE EVEN SORTKEY (app_id, sink, epoch)",
    ),
];

/// The longest words kept of one refusal, in bytes.
pub(crate) const DETAIL_BYTES: usize = 4_096;

/// How often the tables are tried to be made while others make them too.
const FIRST_RUNS: usize = 6;

/// Who writes.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub app_id: String,
    pub pipeline: String,
    pub sink: String,
}

impl Writer {
    /// Stands for the writer where names are short.
    pub fn hash(&self) -> String {
        format!("{:016x}", xxh3_64(format!("{}\n{}", self.app_id, self.sink).as_bytes()))
    }
    /// The table whose lock is this sink's turn.
    pub fn lock_table(&self) -> String {
        format!("watershed.lock_{}", self.hash())
    }
    fn mine(&self) -> String {
        format!("app_id = {} AND sink = {}", literal(&self.app_id), literal(&self.sink))
    }
}

/// An epoch that is there.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub rows: u64,
    pub refused: Vec<RefusedRow>,
}

/// Text as SQL has it. A backslash means something to Redshift and nothing to others, so it is named by its number.
pub(crate) fn literal(text: &str) -> String {
    let pieces: Vec<String> = text.split('\\').map(|piece| format!("'{}'", piece.replace('\'', "''"))).collect();
    if pieces.len() == 1 { pieces.concat() } else { format!("({})", pieces.join(" || CHR(92) || ")) }
}

/// The statements that make what is missing; empty once all is there.
pub(crate) fn making(writer: &Writer, there: &[String]) -> Vec<String> {
    let mut statements = Vec::new();
    let lock = writer.lock_table();
    for (name, statement) in TABLES {
        if !there.iter().any(|table| table == name) {
            statements.push(statement.to_owned());
        }
    }
    if !there.iter().any(|table| lock.ends_with(table.as_str())) {
        statements.push(format!("CREATE TABLE IF NOT EXISTS {lock} (nothing SMALLINT)"));
    }
    if there.is_empty() {
        statements.insert(0, "CREATE SCHEMA IF NOT EXISTS watershed".to_owned());
    }
    statements
}

/// The tables of schema `watershed` that this writer needs and that are there.
async fn tables(backend: &Backend, writer: &Writer) -> Result<Vec<String>> {
    let rows = backend
        .query(&format!(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'watershed' AND c.relname IN ('epochs', 'owners', 'refused', 'lock_{}')",
            writer.hash()
        ))
        .await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Makes the tables if they are not there. Asks first: `CREATE … IF NOT EXISTS` wants rights even where it does nothing.
pub(crate) async fn make(backend: &Backend, writer: &Writer) -> Result<()> {
    let mut pauses = pauses().take(FIRST_RUNS);
    loop {
        match make_missing(backend, writer).await {
            Ok(()) => return Ok(()),
            // Several first runs at once: one of them meets the others' half-made tables, which are whole in a moment.
            Err(error) if error.kind() == Kind::Unavailable => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

async fn make_missing(backend: &Backend, writer: &Writer) -> Result<()> {
    for statement in making(writer, &tables(backend, writer).await?) {
        backend.alone(&statement).await?;
    }
    Ok(())
}

/// Whether the tables are there.
pub(crate) async fn there(backend: &Backend, writer: &Writer) -> Result<bool> {
    Ok(making(writer, &tables(backend, writer).await?).is_empty())
}

/// The generation that owns the sink.
pub(crate) async fn owner(backend: &Backend, place: &Place, writer: &Writer) -> Result<Option<i64>> {
    let rows = backend.query(&format!("SELECT max(generation) FROM watershed.owners WHERE {}", writer.mine())).await?;
    rows.first().and_then(|row| row.first()?.as_deref()).map(|text| number(place, text)).transpose()
}

/// The last epoch that is there.
pub(crate) async fn last_epoch(backend: &Backend, place: &Place, writer: &Writer) -> Result<Epoch> {
    let rows = backend.query(&format!("SELECT max(epoch) FROM watershed.epochs WHERE {}", writer.mine())).await?;
    match rows.first().and_then(|row| row.first()?.as_deref()) {
        Some(text) => Ok(Epoch(number::<u64>(place, text)?)),
        None => Ok(Epoch::ZERO),
    }
}

/// Every epoch that is there, and its rows.
pub(crate) async fn history(backend: &Backend, place: &Place, writer: &Writer) -> Result<BTreeMap<u64, u64>> {
    let rows = backend.query(&format!("SELECT epoch, \"rows\" FROM watershed.epochs WHERE {}", writer.mine())).await?;
    let mut epochs = BTreeMap::new();
    for row in &rows {
        let epoch = cell(place, row, 0)?;
        if epochs.insert(epoch, cell(place, row, 1)?).is_some() {
            return Err(bad_ledger(place, format!("epoch {epoch} is there twice")));
        }
    }
    Ok(epochs)
}

/// One epoch, if it is there, with what was refused of it.
pub(crate) async fn look(backend: &Backend, place: &Place, writer: &Writer, epoch: Epoch) -> Result<Option<Landed>> {
    let mine = writer.mine();
    let rows = backend.query(&format!("SELECT \"rows\", refused FROM watershed.epochs WHERE {mine} AND epoch = {}", epoch.0)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    if rows.len() > 1 {
        return Err(bad_ledger(place, format!("epoch {epoch} is there twice")));
    }
    let mut landed = Landed { rows: cell(place, row, 0)?, refused: Vec::new() };
    let count: u64 = cell(place, row, 1)?;
    if count > 0 {
        let rows = backend.query(&format!("SELECT ordinal, detail FROM watershed.refused WHERE {mine} AND epoch = {} ORDER BY ordinal", epoch.0)).await?;
        for row in &rows {
            let detail = row.get(1).cloned().flatten().unwrap_or_default();
            landed.refused.push(RefusedRow { row: cell(place, row, 0)?, detail });
        }
        if landed.refused.len() as u64 != count {
            return Err(bad_ledger(place, format!("epoch {epoch} has {count} refused rows, and {} are listed", landed.refused.len())));
        }
    }
    Ok(Some(landed))
}

fn cell<T: std::str::FromStr>(place: &Place, row: &Row, index: usize) -> Result<T> {
    let text = row.get(index).and_then(Option::as_deref).ok_or_else(|| bad_ledger(place, "a value is missing"))?;
    number(place, text)
}

/// A number as either way of asking writes it.
pub(crate) fn number<T: std::str::FromStr>(place: &Place, text: &str) -> Result<T> {
    text.trim().parse().map_err(|_| bad_ledger(place, format!("\"{text}\" is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_in_sql_whatever_it_holds() {
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(literal("a\\'b"), "('a' || CHR(92) || '''b')");
    }
}
