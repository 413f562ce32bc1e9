//! From the staging table into the target: the last row of each key wins.
//!
//! **Owns** the statements of an upsert. **Does not own** their order in a transaction.
//!
//! The staging table belongs to the connection and is emptied by every commit: a table made anew for each epoch would
//! leave dead lines in the catalogue.

use tokio_postgres::{Client, Statement};

use crate::columns::{Columns, key_names, qualified, quote};
use crate::options::PostgresOptions;

/// The staging table.
pub(crate) const STAGE: &str = "pg_temp.watershed_stage";
/// The last row of each key, made only to find rows the server refuses.
const WINNERS: &str = "pg_temp.watershed_winners";
const ORDINAL: &str = "watershed_ordinal";
const DELETE: &str = "watershed_delete";

pub(crate) struct Merge {
    /// Deletes the keys whose last row says so.
    pub delete: Statement,
    /// Inserts or replaces the others.
    pub upsert: Statement,
    /// The texts of the same for a range of ordinals of the winners; prepared where needed, as their table is not there before.
    pub delete_range: String,
    pub upsert_range: String,
    /// Makes the winners and lists their ordinals.
    pub make_winners: String,
    pub list_winners: String,
    /// Takes one row off the stage.
    pub forget: Statement,
}

impl Merge {
    /// Makes the staging table and prepares the statements.
    pub async fn prepare(client: &Client, options: &PostgresOptions, columns: &Columns) -> Result<Self, tokio_postgres::Error> {
        let (table, names, keys) = (qualified(options), columns.names(), key_names(options));
        // The target's own types, so that a value it does not take fails in the COPY, which says the row.
        let stage =
            format!("CREATE TEMP TABLE IF NOT EXISTS watershed_stage ON COMMIT DELETE ROWS AS SELECT {names}, 0::bigint AS {ORDINAL}, false AS {DELETE} FROM {table} WITH NO DATA");
        client.batch_execute(&stage).await?;
        let last = format!("SELECT DISTINCT ON ({keys}) * FROM {STAGE} ORDER BY {keys}, {ORDINAL} DESC");
        let updates: Vec<String> = columns.list.iter().filter(|column| !column.key).map(|column| format!("{0} = excluded.{0}", quote(&column.name))).collect();
        let action = if updates.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", updates.join(", ")) };
        let upsert = |from: &str, and: &str| format!("INSERT INTO {table} ({names}) SELECT {names} FROM {from} w WHERE NOT {DELETE}{and} ON CONFLICT ({keys}) DO {action}");
        let same = options.key.iter().map(|key| format!("t.{0} = w.{0}", quote(key))).collect::<Vec<_>>().join(" AND ");
        let delete = |from: &str, and: &str| format!("DELETE FROM {table} t USING {from} w WHERE w.{DELETE} AND {same}{and}");
        let range = format!(" AND w.{ORDINAL} BETWEEN $1 AND $2");
        let texts = (delete(&format!("({last})"), ""), upsert(&format!("({last})"), ""), format!("DELETE FROM {STAGE} WHERE {ORDINAL} = $1"));
        let (delete_all, upsert_all, forget) = futures::try_join!(client.prepare(&texts.0), client.prepare(&texts.1), client.prepare(&texts.2))?;
        Ok(Self {
            delete: delete_all,
            upsert: upsert_all,
            delete_range: delete(WINNERS, &range),
            upsert_range: upsert(WINNERS, &range),
            make_winners: format!(
                "DROP TABLE IF EXISTS {WINNERS}; CREATE TEMP TABLE watershed_winners ON COMMIT DROP AS {last}; CREATE INDEX ON {WINNERS} ({ORDINAL}); ANALYZE {WINNERS}"
            ),
            list_winners: format!("SELECT {ORDINAL} FROM {WINNERS} ORDER BY 1"),
            forget,
        })
    }
}
