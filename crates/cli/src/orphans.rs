//! Tables of the lake whose checkpoint is gone.
//!
//! A new checkpoint has a new id, and so recognises nothing that an earlier one wrote: all input would be taken again, into tables
//! that have it. A start therefore looks once, before it makes a checkpoint.
//!
//! **Owns** finding them. **Does not own** the ways out, which are `checkpoint diagnose`'s.

use std::collections::BTreeSet;

use tokio::runtime::Handle;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_types::{Error, Result};

use crate::adapters::storage_options;
use crate::project::Project;
use crate::system;

/// A table that a checkpoint wrote, and which.
pub struct Orphan {
    /// The table.
    pub table: String,
    /// The ids of checkpoints in its log.
    pub ids: BTreeSet<String>,
}

/// The id in `watershed/ID/TABLE`.
pub fn id_of(app_id: &str) -> Option<&str> {
    app_id.strip_prefix("watershed/")?.split_once('/').map(|(id, _)| id)
}

/// Those of the named tables that some checkpoint wrote. Not to be called from a worker thread of `runtime`.
pub fn written(project: &Project, runtime: &Handle, named: &BTreeSet<&str>) -> Result<Vec<Orphan>> {
    let mut found = Vec::new();
    for table in system::existing_tables(project, runtime)? {
        if table.folder != "system" && named.contains(table.name.as_str()) {
            found.extend(orphan(table, runtime)?);
        }
    }
    found.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(found)
}

/// For commands that find no checkpoint: the error to tell, if one is lost; `None` if the project has not run. Not to be called
/// from a worker thread of `runtime`.
pub fn lost(project: &Project, runtime: &Handle, store: &Store) -> Result<Option<Error>> {
    let mut found = Vec::new();
    for table in system::existing_tables(project, runtime)?.into_iter().filter(|table| table.folder != "system") {
        found.extend(orphan(table, runtime)?);
    }
    found.sort_by(|a, b| a.table.cmp(&b.table));
    Ok((!found.is_empty()).then(|| no_checkpoint(store, &found, "")))
}

fn no_checkpoint(store: &Store, found: &[Orphan], besides: &str) -> Error {
    let tables = names(found);
    Error::invalid("CLI0131", format!("there is no checkpoint at \"{}\", and the lake has tables that one wrote: {tables}{besides}", store.describe("")))
        .hint("`watershed checkpoint diagnose` shows the ways out: a backup, or fresh tables beside these.")
        .definite()
}

fn orphan(table: watershed_lake::ExistingTable, runtime: &Handle) -> Result<Option<Orphan>> {
    let writers = runtime.block_on(watershed_lake::writers(&table.location, &storage_options()))?;
    let ids: BTreeSet<String> = writers.iter().filter_map(|app| id_of(app)).map(str::to_owned).collect();
    Ok((!ids.is_empty()).then_some(Orphan { table: table.name, ids }))
}

/// Their names, for a sentence.
pub fn names(orphans: &[Orphan]) -> String {
    orphans.iter().map(|orphan| format!("\"{}\"", orphan.table)).collect::<Vec<_>>().join(", ")
}

/// Refuses to begin a checkpoint where tables hold what another one wrote. Errors: `CLI0131`, and what looking meets.
pub fn refuse(project: &Project, runtime: &Handle, store: &Store, named: &BTreeSet<&str>) -> Result<()> {
    if Checkpoint::open(store.clone())?.is_some() {
        return Ok(());
    }
    let found = written(project, runtime, named)?;
    if found.is_empty() {
        return Ok(());
    }
    Err(no_checkpoint(store, &found, "; starting would take all input again, into tables that have it"))
}
