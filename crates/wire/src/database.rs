//! What is served.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::SchemaProvider;
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use watershed_types::{Error, Result};

/// A project as a database. Called from the wire's own threads.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// A session without tables: dialect, limits. Asked for once; its catalog is called [`CATALOG`].
    fn session(&self) -> Result<SessionContext>;

    /// The schemas by name as of the newest complete epoch: whatever is read through one answer is of that epoch, however
    /// late it is read.
    async fn schemas(&self) -> Result<Vec<(String, Arc<dyn SchemaProvider>)>>;

    /// An error of a query in the project's words.
    async fn explain(&self, error: DataFusionError, sql: &str) -> Error;
}

/// The name of the one database there is.
pub const CATALOG: &str = "watershed";
