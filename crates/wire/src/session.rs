//! What statements are planned against.
//!
//! **Owns** the session every connection shares (functions, rules, `pg_catalog`), and the ones made of it for a
//! statement or a transaction: the same, over the tables of one epoch.
//!
//! SUBTLE: `pg_catalog` is one for all. Clients look up a table's oid in one statement, or on one connection, and use
//! it in another.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::pgwire::error::PgWireResult;
use watershed_types::{Error, Result};

use crate::catalog;
use crate::connection::Connections;
use crate::database::{CATALOG, Database};
use crate::error::worded;
use crate::options::Options;
use crate::settings::Settings;

/// The tables of one epoch.
#[derive(Clone)]
pub(crate) struct Snapshot {
    catalog: Arc<MemoryCatalogProvider>,
}

/// What every connection works with.
pub(crate) struct Shared {
    pub database: Arc<dyn Database>,
    pub options: Options,
    pub parser: PostgresCompatibilityParser,
    pub connections: Arc<Connections>,
    base: SessionContext,
}

fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("WIRE0002", "the session of the Postgres port cannot be set up").caused_by(cause)
}

impl Shared {
    /// Sets up what is shared.
    pub fn new(database: Arc<dyn Database>, options: Options) -> Result<Shared> {
        let base = database.session()?;
        setup_pg_catalog(&base, CATALOG, EmptyContextProvider).map_err(|e: Box<DataFusionError>| unusable(e))?;
        catalog::register(&base);
        Ok(Shared { database, options, parser: PostgresCompatibilityParser::new(), connections: Arc::default(), base })
    }

    /// The tables of the newest complete epoch.
    pub async fn snapshot(&self) -> PgWireResult<Snapshot> {
        let schemas = self.database.schemas().await.map_err(|e| worded(&e))?;
        let failed = |e: DataFusionError| worded(&unusable(e));
        let shown = self.base.catalog(CATALOG).ok_or_else(|| worded(&unusable("there is no catalog")))?;
        let catalog = Arc::new(MemoryCatalogProvider::new());
        for (name, schema) in schemas {
            shown.register_schema(&name, Arc::clone(&schema)).map_err(failed)?;
            catalog.register_schema(&name, schema).map_err(failed)?;
        }
        if let Some(about) = shown.schema("pg_catalog") {
            catalog.register_schema("pg_catalog", about).map_err(failed)?;
        }
        Ok(Snapshot { catalog })
    }

    /// A session over them, as a client has set it.
    pub fn context(&self, snapshot: &Snapshot, settings: &Settings) -> SessionContext {
        let state = self.base.state();
        let names = snapshot.catalog.schema_names();
        let schema = settings.search_path().find(|name| names.contains(name)).unwrap_or_else(|| "public".to_owned());
        let mut config = state.config().clone().with_default_catalog_and_schema(CATALOG, schema).with_information_schema(true).with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some(settings.time_zone());
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&snapshot.catalog) as Arc<dyn CatalogProvider>);
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).with_catalog_list(Arc::new(catalogs)).build();
        let context = SessionContext::new_with_state(state);
        catalog::register_settings(&context, settings);
        context
    }
}
