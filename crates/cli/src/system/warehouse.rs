//! `warehouse`: the tables that Postgres sinks write, read where they are.
//!
//! **Owns** their names: each sink's own, and its table's where only one sink writes one of that name. **Does not own** reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result as DataFusionResult;
use tokio::runtime::Handle;
use watershed_postgres::PostgresOptions;
use watershed_postgres::read::PostgresReader;
use watershed_sql::Definitions;

use super::outside;
use crate::project::Project;

/// The schema. Nothing is connected to before a query names a table.
#[derive(Debug)]
pub struct WarehouseSchema {
    readers: BTreeMap<String, Arc<PostgresReader>>,
}

/// What each name stands for. A sink's name goes before the name of a table; a table's name that two sinks share stands for none.
fn names<T: Clone>(sinks: &[(String, String, T)]) -> BTreeMap<String, T> {
    let mut names = BTreeMap::new();
    for (_, table, value) in sinks {
        if sinks.iter().filter(|(_, other, _)| other == table).count() == 1 {
            names.insert(table.clone(), value.clone());
        }
    }
    names.extend(sinks.iter().map(|(sink, _, value)| (sink.clone(), value.clone())));
    names
}

impl WarehouseSchema {
    /// The schema of a project; empty if its SQL is wrong, or has no Postgres sink.
    pub fn new(project: &Project, definitions: Option<&Definitions>, runtime: &Handle) -> WarehouseSchema {
        let mut sinks = Vec::new();
        for sink in definitions.iter().flat_map(|definitions| &definitions.sinks) {
            let mut options = sink.options.clone();
            if options.take("connector").as_deref() != Some("postgres") {
                continue;
            }
            // A sink whose options are wrong cannot have written anything; `watershed plan` says what is wrong.
            let Ok(taken) = PostgresOptions::take(&mut options, &sink.name) else { continue };
            let reader = PostgresReader::new(taken, &project.name(), runtime.clone());
            let table = reader.table_name().rsplit_once('.').map_or(reader.table_name(), |(_, table)| table).to_owned();
            sinks.push((sink.name.clone(), table, reader));
        }
        WarehouseSchema { readers: names(&sinks) }
    }

    /// The names, for errors.
    pub fn names(&self) -> Vec<String> {
        self.readers.keys().cloned().collect()
    }
}

#[async_trait]
impl SchemaProvider for WarehouseSchema {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(reader) = self.readers.get(name) else { return Ok(None) };
        let table = reader.open().await.map_err(outside)?;
        Ok(Some(Arc::new(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.readers.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_table_that_two_sinks_write_has_no_name_of_its_own() {
        let sink = |name: &str, table: &str, value: u8| (name.to_owned(), table.to_owned(), value);
        let found = names(&[sink("one", "orders", 1), sink("two", "orders", 2), sink("three", "one", 3), sink("four", "bills", 4)]);
        let found: Vec<(&str, u8)> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(found, [("bills", 4), ("four", 4), ("one", 1), ("three", 3), ("two", 2)]);
    }
}
