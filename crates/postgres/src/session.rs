//! One connection, ready to write.
//!
//! **Owns** the connection, its settings, its prepared statements and, when upserting, its staging table. **Does not own**
//! any transaction.
//!
//! A session is made for the columns the table has at that moment ([`Session::shape`]); it is dropped after every error
//! that is not a row's fault, which rolls back whatever it had open.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::{Client, Statement};
use watershed_types::Result;

use crate::columns::{Columns, qualified};
use crate::error::{Place, changed, no_table, silent, unreachable};
use crate::ledger::{Ledger, get};
use crate::merge::{Merge, STAGE};
use crate::options::{Mode, PostgresOptions};
use crate::table;

/// Our columns, and those that would refuse every row of ours.
const SHAPE: &str = "
SELECT coalesce(string_agg(attname || ' ' || atttypid || ' ' || atttypmod || ' ' || attnotnull, ',' ORDER BY attnum), '')
FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
AND (attname = ANY($2) OR (attnotnull AND NOT atthasdef AND attidentity = ''))";

pub(crate) struct Session {
    pub client: Client,
    pub columns: Columns,
    pub ledger: Ledger,
    pub merge: Option<Merge>,
    pub copy: Statement,
    pub begin: String,
    pub shape: Statement,
    pub shape_seen: String,
    /// Whether rows of different parts could collide.
    pub unique: bool,
    pub table: String,
    pub names: Vec<String>,
}

/// Opens a connection.
pub(crate) async fn connect(options: &PostgresOptions, place: &Place, pipeline: &str, runtime: &Handle) -> Result<Client> {
    let address = options.address()?;
    let mut config = address.config;
    config
        .application_name(format!("watershed {pipeline}/{}", options.sink))
        .connect_timeout(options.connect_timeout)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(60));
    // The whole of it is limited: a server that takes the connection and never speaks counts as absent.
    let connecting = tokio::time::timeout(options.connect_timeout.max(Duration::from_millis(100)) * 2, config.connect(address.tls));
    let (client, connection) = match connecting.await {
        Ok(connected) => connected.map_err(|cause| unreachable(place, &cause))?,
        Err(_) => return Err(silent(place)),
    };
    let sink = options.sink.clone();
    runtime.spawn(async move {
        if let Err(cause) = connection.await {
            tracing::debug!(sink, %cause, "connection ended");
        }
    });
    let settings = format!(
        "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = '5min'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; \
         SET tcp_keepalives_count = 3; SET tcp_user_timeout = 60000; SET work_mem = '64MB'; SET temp_buffers = '64MB'; SET client_min_messages = warning",
        options.statement_timeout.as_millis().min(i32::MAX as u128)
    );
    client.batch_execute(&settings).await.map_err(|cause| place.error(cause))?;
    Ok(client)
}

impl Session {
    /// Connects and prepares. The table is there and fits, or somebody changed it since the claim.
    pub async fn open(options: &PostgresOptions, place: &Place, pipeline: &str, columns: &Columns, runtime: &Handle) -> Result<Self> {
        let client = connect(options, place, pipeline, runtime).await?;
        let table = qualified(options);
        let names: Vec<String> = columns.list.iter().map(|column| column.name.clone()).collect();
        let failed = |cause| place.error(cause);
        let (shape, ledger) = futures::try_join!(client.prepare(SHAPE), Ledger::prepare(&client)).map_err(failed)?;
        // The shape comes first: whatever changes after it is noticed by the next transaction.
        let shape_seen = client.query_one(&shape, &[&table, &names]).await.map_err(failed)?;
        let shape_seen: String = get(place, &shape_seen, 0)?;
        let found = table::find(&client, place, options).await?;
        if found.is_empty() {
            return Err(no_table(place));
        }
        let (columns, missing) = columns.fit(place, options, &found)?;
        if let Some(column) = missing.first() {
            return Err(changed(place, &format!("column \"{}\" is gone", column.name)));
        }
        let unique = !table::unique(&client, place, options).await?.is_empty();
        let (merge, copy) = match options.mode {
            Mode::Append => (None, format!("COPY {table} ({}) FROM STDIN BINARY", columns.names())),
            Mode::Upsert => {
                let merge = Merge::prepare(&client, options, &columns).await.map_err(failed)?;
                (Some(merge), format!("COPY {STAGE} FROM STDIN BINARY"))
            }
        };
        let copy = client.prepare(&copy).await.map_err(failed)?;
        // I3: ALTER TABLE waits for us, or we for it.
        let begin = format!("BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE");
        Ok(Self { client, columns, ledger, merge, copy, begin, shape, shape_seen, unique, table, names })
    }
}
