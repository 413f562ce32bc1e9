//! The two ways to Redshift behind one face.

use std::time::Duration;

use tokio::runtime::Handle;
use watershed_types::Result;

use crate::data_api::DataApi;
use crate::error::{Fault, Place};
use crate::options::{RedshiftOptions, Via};
use crate::plan::Plan;
use crate::staging::Staging;
use crate::wire::Wire;

/// A row of an answer, as text; `None` is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// A way to run statements.
pub(crate) enum Backend {
    Wire(Wire),
    DataApi(DataApi),
}

impl Backend {
    /// Connects, or makes ready to.
    pub async fn open(options: &RedshiftOptions, place: &Place, pipeline: &str, staging: &Staging, runtime: &Handle) -> Result<Self> {
        match &options.via {
            Via::Wire { url } => Wire::connect(options, url, place, pipeline, runtime).await.map(Self::Wire),
            Via::DataApi(api) => DataApi::new(options, api, place, staging.credentials()).map(Self::DataApi),
        }
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_open(),
            Self::DataApi(_) => true,
        }
    }

    /// The rows of one statement. Changes nothing.
    pub async fn query(&self, sql: &str) -> Result<Vec<Row>> {
        match self {
            Self::Wire(wire) => wire.query(sql).await,
            Self::DataApi(api) => api.query(sql).await,
        }
    }

    /// One statement that is its own transaction, or takes none.
    pub async fn alone(&self, sql: &str) -> Result<()> {
        match self {
            Self::Wire(wire) => wire.alone(sql).await,
            Self::DataApi(api) => api.alone(sql).await,
        }
    }

    /// All statements in one transaction, or none of them. `durable` is false where it leaves nothing behind, so that a lost
    /// answer leaves no doubt.
    pub async fn transaction(&self, plan: &Plan, durable: bool) -> Result<(), Fault> {
        match self {
            Self::Wire(wire) => wire.transaction(plan, durable).await,
            Self::DataApi(api) => api.transaction(plan, durable).await,
        }
    }
}

/// Pauses that grow from a tenth of a second to two.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    (0..).map(|turn: u32| Duration::from_millis(100 << turn.min(5)).min(Duration::from_secs(2)))
}
