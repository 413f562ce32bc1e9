//! Tables of a Postgres as DataFusion tables: what can be asked there is asked there.
//!
//! **Owns** the connections for reading, how Postgres' types look in Arrow, and which filters both sides surely mean alike.
//! **Does not own** writing, or which tables a query may name.
//!
//! I1: a scan is one statement, and so sees whole epochs only.
//! I2: a filter is pushed as exact only if Postgres keeps the very rows DataFusion would; as inexact only if it keeps no fewer.
//! I3: connections for reading cannot write: their transactions are read-only.
//!
//! Failure: a lost connection fails the query that used it with `PG0030`; the next query opens another.

mod column;
mod decode;
mod filter;
mod lookup;
mod provider;
mod stream;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use watershed_types::{Error, Kind, Result};

use crate::columns::qualified;
use crate::error::Place;
use crate::options::PostgresOptions;
use crate::session::connect;

pub use column::ReadColumn;
pub use decode::Decoder;
pub use lookup::PostgresLookup;
pub use provider::{PostgresExec, PostgresTable};

/// Connections kept for the next query.
const IDLE: usize = 4;
/// What every connection for reading is told.
const SETTINGS: &str = "SET default_transaction_read_only = on; SET standard_conforming_strings = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'";

/// Reads the table a sink writes.
pub struct PostgresReader {
    options: PostgresOptions,
    place: Place,
    pipeline: String,
    runtime: Handle,
    idle: Mutex<Vec<Client>>,
}

impl std::fmt::Debug for PostgresReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresReader({} at {})", self.place.table, self.place.server)
    }
}

/// A failed read. Nothing was written, so there is nothing to be certain of.
fn unreadable(place: &Place, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("PG0030", format!("table \"{}\" at \"{}\" cannot be read", place.table, place.server))
        .hint("Check that the server runs and takes connections; then ask again.")
        .caused_by(cause)
}

impl PostgresReader {
    /// A reader; no network. Its connections are driven by `runtime`.
    pub fn new(options: PostgresOptions, pipeline: &str, runtime: Handle) -> Arc<Self> {
        let place = Place::from(&options);
        Arc::new(Self { options, place, pipeline: pipeline.to_owned(), runtime, idle: Mutex::default() })
    }

    /// The sink's options.
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// `schema.table`, as errors name it.
    pub fn table_name(&self) -> &str {
        &self.place.table
    }

    /// `"schema"."table"`, as statements name it.
    pub fn quoted_table(&self) -> String {
        qualified(&self.options)
    }

    /// A connection nobody uses, or a new one. Errors: `PG0030`, `PG0004`.
    pub async fn client(&self) -> Result<Client> {
        loop {
            let kept = self.idle.lock().pop();
            match kept {
                Some(client) if client.is_closed() => {}
                Some(client) => return Ok(client),
                None => break,
            }
        }
        let client = connect(&self.options, &self.place, &self.pipeline, &self.runtime).await.map_err(|error| match error.kind() {
            Kind::Unavailable => unreadable(&self.place, error),
            _ => error,
        })?;
        client.batch_execute(SETTINGS).await.map_err(|cause| self.failed(cause))?;
        Ok(client)
    }

    /// Gives a connection back whose answers have all been read.
    pub fn give_back(&self, client: Client) {
        let mut idle = self.idle.lock();
        if !client.is_closed() && idle.len() < IDLE {
            idle.push(client);
        }
    }

    /// A failed statement, in words for a reader.
    pub fn failed(&self, cause: tokio_postgres::Error) -> Error {
        match cause.code().map(tokio_postgres::error::SqlState::code) {
            Some("42501") => Error::denied("PG0004", format!("not allowed to read table \"{}\" at \"{}\"", self.place.table, self.place.server))
                .hint(format!("Grant the user of the url SELECT on {}.", self.place.table)),
            _ => match cause.as_db_error() {
                Some(db) => unreadable(&self.place, db.message().to_owned()),
                None => unreadable(&self.place, cause),
            },
        }
    }

    /// The table's columns as they are now. Errors: `PG0030`, `PG0031` without a table.
    pub async fn columns(&self) -> Result<Vec<ReadColumn>> {
        let client = self.client().await?;
        let columns = column::find(&client, self).await?;
        self.give_back(client);
        if columns.is_empty() {
            return Err(Error::invalid("PG0031", format!("there is no table \"{}\" at \"{}\" yet", self.place.table, self.place.server))
                .hint("The sink makes it when the pipeline first runs: `watershed run --once` or `watershed up`."));
        }
        Ok(columns)
    }

    /// The table as it is now, for a query.
    pub async fn open(self: &Arc<Self>) -> Result<PostgresTable> {
        Ok(PostgresTable::new(Arc::clone(self), self.columns().await?))
    }
}
