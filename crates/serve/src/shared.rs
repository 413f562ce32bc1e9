//! What every route looks at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use watershed_engine::checkpoint::Checkpoint;
use watershed_engine::run::Live;
use watershed_protocol::CommitRecord;

use crate::access::{AlertBook, ProjectAccess};
use crate::auth::Door;
use crate::hub::Hub;
use crate::observe::{Constants, GraphView, Resolution, Series, SourceOfFigures, view};
use crate::problem::{Answer, Problem, code};
use crate::rate::Rate;

/// The newest epoch and every commit record up to it.
type Records = Option<(u64, Arc<Vec<CommitRecord>>)>;

pub struct Shared {
    pub figures: SourceOfFigures,
    pub live: Arc<Live>,
    pub project: Arc<dyn ProjectAccess>,
    pub alerts: Arc<dyn AlertBook>,
    pub door: Door,
    pub rate: Rate,
    /// True if only this machine reaches us.
    pub loopback: bool,
    pub address: SocketAddr,
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
    pub constants: Constants,
    /// Sources that take records over HTTP.
    pub doors: Vec<String>,
    pub series: [RwLock<Series>; 2],
    /// The newest point.
    pub newest: RwLock<BTreeMap<String, Option<f64>>>,
    pub hub: Arc<Hub>,
    pub queries: Semaphore,
    pub query_memory: usize,
    pub query_threads: tokio::runtime::Handle,
    pub auditing: Semaphore,
    pub records: Mutex<Records>,
    pub document: Bytes,
}

impl Shared {
    pub fn series(&self, resolution: Resolution) -> &RwLock<Series> {
        match resolution {
            Resolution::Second => &self.series[0],
            Resolution::TenSeconds => &self.series[1],
        }
    }

    /// The graph as of now.
    pub fn graph(&self) -> GraphView {
        let status = self.figures.status.read().clone();
        let newest = self.newest.read();
        view(&status, &self.figures.topology, &self.constants, now(), &|name| newest.get(name).copied().flatten())
    }

    /// True if the project has that table.
    pub fn table(&self, name: &str) -> Answer<&crate::topology::TableInfo> {
        let tables = &self.figures.topology.tables;
        tables.iter().find(|table| table.name == name).ok_or_else(|| self.no_table(name))
    }

    /// What to say of a table that is none.
    pub fn no_table(&self, name: &str) -> Problem {
        let names: Vec<&str> = self.figures.topology.tables.iter().map(|table| table.name.as_str()).collect();
        let hint = match watershed_types::near_miss(name, names.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Tables: {}.", names.join(", ")),
        };
        Problem::new(axum::http::StatusCode::NOT_FOUND, code::NO_TABLE, format!("there is no table \"{name}\"")).hint(hint)
    }

    /// Every commit record, oldest first; read again only when there is a newer epoch. Blocks.
    pub fn records(&self) -> watershed_types::Result<Arc<Vec<CommitRecord>>> {
        let epoch = self.figures.status.read().epoch;
        if let Some((known, records)) = &*self.records.lock()
            && *known == epoch
        {
            return Ok(Arc::clone(records));
        }
        let checkpoint: Option<Checkpoint> = self.project.checkpoint()?;
        let records = Arc::new(checkpoint.map(|checkpoint| checkpoint.records()).transpose()?.unwrap_or_default());
        *self.records.lock() = Some((epoch, Arc::clone(&records)));
        Ok(records)
    }
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// Runs what blocks where it may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> watershed_types::Result<T> + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        tracing::error!(%error, "a task of the API has ended");
        Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, code::TASK, "the request could not be finished")
    })?
    .map_err(Problem::from)
}
