//! A project as a database to read: lake tables by their names, and the schemas `system` and `warehouse`.
//!
//! **Owns** which names a query sees and how they are found. **Does not own** running queries or printing rows.
//!
//! Tables are opened when a query first names them, each time at their newest version. Nothing is created.

mod state;
mod tables;
mod warehouse;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::Handle;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_lake::{ExistingTable, table_provider_as_of};
use watershed_types::{Epoch, Error, Result};

use crate::adapters::{open_lake, storage_options};
use crate::project::Project;

use warehouse::WarehouseSchema;

pub use tables::{SHARES, SYSTEM_TABLES, newest_manifest, taken_requests};

/// Where a project's checkpoint is, whether there is one or not.
pub fn open_store(project: &Project, runtime: &Handle) -> Result<Store> {
    Store::open(&project.settings.storage.checkpoints, &project.root, runtime)
}

/// True if a process holds the project. Creates nothing.
pub fn is_running(project: &Project) -> bool {
    let Ok(file) = File::open(project.work().join("run.lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The checkpoint of a project, `None` before its first run. Creates nothing.
pub fn open_checkpoint(project: &Project, runtime: &Handle) -> Result<Option<Checkpoint>> {
    Checkpoint::open(open_store(project, runtime)?)
}

/// The lake tables there are. Creates nothing. Not to be called from a worker thread of `runtime`.
pub fn existing_tables(project: &Project, runtime: &Handle) -> Result<Vec<ExistingTable>> {
    let place = project.lake();
    if !place.contains("://") && !Path::new(&place).exists() {
        return Ok(vec![]);
    }
    open_lake(project, runtime)?.existing_tables()
}

/// The names of a project that are defined, and those that have data.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Lake tables, and where they are.
    pub tables: BTreeMap<String, String>,
    /// Tables of the project without anything in the lake.
    pub empty: Vec<String>,
    /// Sources, static tables, views and sinks: names that cannot be queried, and what they are.
    pub others: BTreeMap<String, &'static str>,
    /// The names in schema `warehouse`.
    pub warehouse: Vec<String>,
}

/// Looks up a project's names. A project whose SQL is wrong can still be queried.
pub fn names(project: &Project, runtime: &Handle) -> Result<Names> {
    let mut names = Names::default();
    let definitions = project.definitions().ok();
    let zone = |name: &str| Some(definitions.as_ref()?.table(name)?.options.peek("zone").unwrap_or("silver").to_ascii_lowercase());
    for table in existing_tables(project, runtime)? {
        // A table that moved to another zone leaves the old one behind: the project says which is meant.
        if table.folder != "system" && (!names.tables.contains_key(&table.name) || zone(&table.name).as_ref() == Some(&table.folder)) {
            names.tables.insert(table.name, table.location);
        }
    }
    let Some(definitions) = &definitions else { return Ok(names) };
    names.empty = definitions.tables.iter().map(|t| t.name.clone()).filter(|name| !names.tables.contains_key(name)).collect();
    names.warehouse = WarehouseSchema::new(project, Some(definitions), runtime).names();
    names.others.extend(definitions.sources.iter().map(|d| (d.name.clone(), "source")));
    names.others.extend(definitions.views.iter().map(|d| (d.name.clone(), "view")));
    names.others.extend(definitions.sinks.iter().map(|d| (d.name.clone(), "sink")));
    names.others.extend(definitions.statics.iter().map(|d| (d.name.clone(), "static table")));
    Ok(names)
}

fn unusable(cause: DataFusionError) -> Error {
    Error::internal("CLI0060", "the query session cannot be set up").caused_by(cause)
}

/// How queries over a project are parsed and planned.
pub fn session_config(project: &Project) -> Result<SessionConfig> {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(project.parallelism());
    for (key, value) in [("datafusion.sql_parser.dialect", "PostgreSQL"), ("datafusion.sql_parser.collect_spans", "true")] {
        config.options_mut().set(key, value).map_err(unusable)?;
    }
    Ok(config)
}

/// Table functions over a project, for its session. Not to be called from a worker thread of `runtime`.
pub fn register_functions(context: &SessionContext, project: &Project, runtime: &Handle) -> Result<()> {
    // In SQL it is system.state(…), and DataFusion looks table functions up by the first part of their name.
    context.register_udtf("system", Arc::new(state::StateFunction::new(project, open_checkpoint(project, runtime)?, runtime.clone())));
    Ok(())
}

/// A session over a project. Not to be called from a worker thread of `runtime`.
pub fn context(project: &Project, runtime: &Handle) -> Result<SessionContext> {
    context_within(project, runtime, Arc::default(), project.parallelism())
}

/// A session over a project whose queries take what `limits` allows. Not to be called from a worker thread of `runtime`.
pub fn context_within(project: &Project, runtime: &Handle, limits: Arc<RuntimeEnv>, parallelism: usize) -> Result<SessionContext> {
    let context = SessionContext::new_with_config_rt(session_config(project)?.with_target_partitions(parallelism), limits);
    let catalog = context.catalog("datafusion").ok_or_else(|| Error::internal("CLI0060", "the query session has no catalog"))?;
    register_functions(&context, project, runtime)?;
    for (name, schema) in schemas(project, runtime)? {
        catalog.register_schema(&name, schema).map_err(unusable)?;
    }
    Ok(context)
}

/// The schemas of a project as of its newest complete epoch: tables read through them are of that epoch, whatever is
/// committed meanwhile. Not to be called from a worker thread of `runtime`.
pub fn schemas(project: &Project, runtime: &Handle) -> Result<Vec<(String, Arc<dyn SchemaProvider>)>> {
    // The epoch before the tables: one that appears in between is newer than what is read of it.
    let checkpoint = open_checkpoint(project, runtime)?;
    let history = checkpoint.as_ref().map(Checkpoint::history).transpose()?;
    let pin = checkpoint.as_ref().zip(history).map(|(checkpoint, history)| Pin { id: checkpoint.metadata.id.clone(), epoch: history.last_committed() });
    let names = names(project, runtime)?;
    let quarantine = existing_tables(project, runtime)?.into_iter().find(|t| t.folder == "system" && t.name == "quarantine").map(|t| t.location);
    let system = SystemSchema { checkpoint, quarantine, work: project.work(), pin: pin.clone() };
    let warehouse = WarehouseSchema::new(project, project.definitions().ok().as_ref(), runtime);
    Ok(vec![("public".to_owned(), Arc::new(LakeSchema { names, pin })), ("system".to_owned(), Arc::new(system)), ("warehouse".to_owned(), Arc::new(warehouse))])
}

/// The epoch that is read, of the pipeline with this checkpoint.
#[derive(Debug, Clone)]
struct Pin {
    id: String,
    epoch: Epoch,
}

/// A table as of the pinned epoch; as it is if the project has no checkpoint.
async fn open_table(location: &str, sink: &str, pin: Option<&Pin>) -> DataFusionResult<Arc<dyn TableProvider>> {
    let (id, epoch) = pin.map_or(("", Epoch::ZERO), |pin| (&pin.id, pin.epoch));
    table_provider_as_of(location, &storage_options(), &format!("watershed/{id}/{sink}"), epoch).await.map_err(outside)
}

fn outside(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// `public`: the lake.
#[derive(Debug)]
struct LakeSchema {
    names: Names,
    pin: Option<Pin>,
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.names.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if let Some(location) = self.names.tables.get(name) {
            return open_table(location, name, self.pin.as_ref()).await.map(Some);
        }
        if self.names.empty.iter().any(|empty| empty == name) {
            let error = Error::invalid("CLI0061", format!("table \"{name}\" has no data yet")).hint("Run `watershed run --once`, or start the pipeline with `watershed up`.");
            return Err(outside(error));
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.tables.contains_key(name)
    }
}

/// `system`: what the checkpoint and the quarantine know.
struct SystemSchema {
    checkpoint: Option<Checkpoint>,
    quarantine: Option<String>,
    work: PathBuf,
    pin: Option<Pin>,
}

impl std::fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        SYSTEM_TABLES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if !self.table_exist(name) {
            return Ok(None);
        }
        if name == "quarantine"
            && let Some(location) = &self.quarantine
        {
            return open_table(location, "system.quarantine", self.pin.as_ref()).await.map(Some);
        }
        let (name, checkpoint, work) = (name.to_owned(), self.checkpoint.clone(), self.work.clone());
        let until = self.pin.as_ref().map_or(Epoch::ZERO, |pin| pin.epoch);
        // Reading the checkpoint blocks.
        let read = tokio::task::spawn_blocking(move || tables::read(&name, checkpoint.as_ref(), &work, until));
        let batch = read.await.map_err(|e| DataFusionError::External(Box::new(e)))?.map_err(outside)?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        SYSTEM_TABLES.contains(&name)
    }
}
