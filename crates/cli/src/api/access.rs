//! A project as the API sees it. Everything here blocks; it is called from threads that may.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use serde_json::Value;
use tokio::runtime::Handle;
use watershed_engine::checkpoint::Checkpoint;
use watershed_engine::run::pending_requests;
use watershed_serve::{AuditFinding, LeftOut, ProjectAccess, QuarantineFilter, ReplayWanted, Replayed, RowKey, Topology, mask};
use watershed_types::{Error, Result};

use crate::commands::quarantine::replay::{Sorted, sort, submit};
use crate::commands::quarantine::rows::{Row, find};
use crate::commands::query::trouble;
use crate::commands::{explain, verify};
use crate::project::Project;
use crate::session::runtime;
use crate::{system, telemetry};

/// Threads one query has: the pipeline needs the others.
const PARALLELISM: usize = 2;
/// From more epochs than this, the whole quarantine is read once instead of each epoch's part.
const EPOCHS: usize = 16;

/// A project behind the API.
pub struct Access {
    project: Project,
    runtime: Handle,
    topology: Arc<Topology>,
    limits: Arc<RuntimeEnv>,
}

impl Access {
    /// Queries take [serve] query_memory together, and nothing of the disk.
    pub fn new(project: &Project, runtime: Handle, topology: Arc<Topology>) -> Result<Access> {
        let memory = usize::try_from(project.settings.serve.query_memory).unwrap_or(usize::MAX);
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let limits = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|e| Error::internal("CLI0060", "the query session cannot be set up").caused_by(e))?;
        Ok(Access { project: Project { root: project.root.clone(), settings: project.settings.clone() }, runtime, topology, limits })
    }

    fn rows(&self, wanted: &ReplayWanted) -> Result<Vec<Row>> {
        let runtime = runtime()?;
        let named = |filter: &crate::arguments::QuarantineFilter| find(&self.project, &runtime, filter);
        match wanted {
            ReplayWanted::Filter(filter) => Ok(named(&by_columns(filter))?.into_iter().filter(|row| says(row, filter)).collect()),
            ReplayWanted::Rows(keys) => {
                let epochs: BTreeSet<u64> = keys.iter().map(|key| key.epoch).collect();
                let mut rows = Vec::new();
                if epochs.len() > EPOCHS {
                    rows = named(&crate::arguments::QuarantineFilter::default())?;
                } else {
                    for epoch in epochs {
                        rows.extend(named(&crate::arguments::QuarantineFilter { epoch: Some(epoch), ..Default::default() })?);
                    }
                }
                let keys: std::collections::HashSet<&RowKey> = keys.iter().collect();
                Ok(rows.into_iter().filter(|row| keys.contains(&key(row))).collect())
            }
        }
    }
}

fn key(row: &Row) -> RowKey {
    RowKey { epoch: row.epoch, table: row.table.clone(), source: row.source.clone(), partition: row.partition.clone(), position: row.position.clone() }
}

fn by_columns(filter: &QuarantineFilter) -> crate::arguments::QuarantineFilter {
    crate::arguments::QuarantineFilter { table: filter.table.clone(), reason: filter.reason.clone(), epoch: filter.epoch, position: None }
}

/// What the command's own filter does not know.
fn says(row: &Row, filter: &QuarantineFilter) -> bool {
    let of_source = filter.source.as_ref().is_none_or(|source| *source == row.source);
    let words = filter
        .text
        .as_ref()
        .is_none_or(|text| text.is_empty() || row.detail.to_lowercase().contains(&text.to_lowercase()) || row.raw.windows(text.len()).any(|window| window == text.as_bytes()));
    of_source && words
}

impl ProjectAccess for Access {
    fn session(&self) -> Result<SessionContext> {
        system::context_within(&self.project, &self.runtime, Arc::clone(&self.limits), PARALLELISM)
    }

    fn explain_query(&self, error: &DataFusionError, sql: &str) -> Error {
        match system::names(&self.project, &self.runtime) {
            Ok(names) => trouble::explain(error, sql, &names),
            Err(error) => error,
        }
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        system::open_checkpoint(&self.project, &self.runtime)
    }

    fn replayed(&self) -> Result<Vec<(RowKey, String)>> {
        let taken = self.checkpoint()?.as_ref().map(system::taken_requests).transpose()?.unwrap_or_default();
        let requests = pending_requests(&self.project.work())?.into_iter().filter(|(name, _)| taken.contains(name));
        let rows = requests.flat_map(|(_, request)| request.rows);
        let named = |row: watershed_protocol::Replayed| RowKey { epoch: row.epoch, table: row.table_name, source: row.source, partition: row.partition, position: row.position };
        Ok(rows.map(|row| (named(row.row), row.reason)).collect())
    }

    fn replay(&self, wanted: &ReplayWanted, dry_run: bool) -> Result<Replayed> {
        let tables = |name: &str| self.topology.tables.iter().any(|table| table.name == name);
        let sinks = |name: &str| self.topology.sinks.iter().any(|sink| sink.name == name);
        let Sorted { sent, before, results, gone } = sort(self.rows(wanted)?, tables, sinks);
        let request = if sent.is_empty() || dry_run { None } else { Some(submit(&self.project, &sent)?) };
        Ok(Replayed { request, rows: sent.len() as u64, left_out: LeftOut { replayed: before, results, gone }, dry_run })
    }

    fn verify(&self) -> Result<Vec<AuditFinding>> {
        let findings = verify::findings(&self.project, &runtime()?)?;
        let view = |finding: verify::Finding| AuditFinding {
            check: finding.check().to_owned(),
            level: finding.word().to_lowercase(),
            text: finding.message().to_owned(),
            hint: finding.next().map(str::to_owned),
        };
        Ok(findings.into_iter().map(view).collect())
    }

    fn settings(&self) -> Result<Value> {
        let place = self.project.root.join("watershed.toml");
        let text = std::fs::read_to_string(&place).map_err(|e| Error::unavailable("CLI0001", "watershed.toml cannot be read").caused_by(e))?;
        let written: Value = toml::from_str(&text).map_err(|_| Error::unavailable("CLI0002", "watershed.toml has become wrong").hint("`watershed plan` says where."))?;
        Ok(masked("", written))
    }

    fn error_page(&self, code: &str) -> Option<String> {
        explain::page(code).map(str::to_owned)
    }

    fn metrics(&self) -> String {
        telemetry::render_metrics()
    }
}

fn masked(key: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), masked(&key, value))).collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| masked(key, item)).collect()),
        Value::String(_) if key == "hash" => Value::String("***".to_owned()),
        Value::String(text) => Value::String(mask(key, &text)),
        other => other,
    }
}
