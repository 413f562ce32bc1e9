//! What a writer must know of a table's log, and nothing more.
//!
//! **Owns** the version, the epoch our application committed last, the columns and the protocol as of that version.
//! **Does not own** the list of files: appending never needs it, so memory and commit time do not grow with the table.
//!
//! I1: a head describes one version exactly. It moves forward only by reading the entries in between, or by
//! loading the log again.
//! I2: who creates the entry after the head's version has seen everything before it; no listing is needed to be sure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use delta_kernel::Snapshot;
use deltalake_core::kernel::{Action, Metadata, Protocol, StructType};
use deltalake_core::logstore::get_actions;
use watershed_types::Result;

use crate::error;
use crate::storage::Place;

/// After this long without a look, entries after the head may have been cleaned away: load the log again.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// A table as of one version.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub version: u64,
    /// The version of our `txn`.
    pub txn: Option<i64>,
    pub metadata: Metadata,
    pub schema: Arc<StructType>,
    seen_at: Instant,
}

impl Head {
    /// The table's newest version; `None` if there is no table.
    pub(crate) async fn load(table: &str, place: &Place, app_id: &str) -> Result<Option<Self>> {
        if place.local.as_ref().is_some_and(|root| !root.join("_delta_log").exists()) {
            return Ok(None);
        }
        let engine = place.log.engine(None);
        let (url, app_id) = (place.url.clone(), app_id.to_owned());
        let loaded = tokio::task::spawn_blocking(move || -> Result<_, delta_kernel::Error> {
            let snapshot = Snapshot::builder_for(url).build(engine.as_ref())?;
            let txn = snapshot.get_app_id_version(&app_id, engine.as_ref())?;
            let configuration = snapshot.table_configuration();
            Ok((snapshot.version(), txn, configuration.metadata().clone(), configuration.protocol().clone(), snapshot.schema()))
        })
        .await
        .map_err(|cause| error::log_unreadable(table, cause))?;
        match loaded {
            Ok((version, txn, metadata, protocol, schema)) => {
                check_protocol(table, &protocol, &metadata)?;
                Ok(Some(Self { version, txn, metadata, schema, seen_at: Instant::now() }))
            }
            Err(missing) if missing.to_string().contains("No files in log segment") => Ok(None),
            Err(delta_kernel::Error::FileNotFound(_)) => Ok(None),
            Err(cause) => Err(error::log_unreadable(table, cause)),
        }
    }

    /// True if entries after this version may have been cleaned away since it was seen.
    pub(crate) fn is_stale(&self) -> bool {
        self.seen_at.elapsed() > STALE_AFTER
    }

    /// Moves to the newest version.
    pub(crate) async fn catch_up(&mut self, table: &str, place: &Place, app_id: &str) -> Result<()> {
        if self.is_stale() {
            if let Some(fresh) = Self::load(table, place, app_id).await? {
                *self = fresh;
            }
            return Ok(());
        }
        while self.step(table, place, app_id).await? {}
        Ok(())
    }

    /// Reads the next entry, if there is one.
    pub(crate) async fn step(&mut self, table: &str, place: &Place, app_id: &str) -> Result<bool> {
        let next = self.version + 1;
        let entry = place.log.read_commit_entry(next).await.map_err(|cause| error::log_unreadable(table, cause))?;
        self.seen_at = Instant::now();
        let Some(entry) = entry else { return Ok(false) };
        for action in actions(table, next, &entry)? {
            match action {
                Action::Txn(txn) if txn.app_id == app_id => self.txn = Some(txn.version),
                Action::Metadata(metadata) => self.set_metadata(table, metadata)?,
                Action::Protocol(protocol) => check_protocol(table, &protocol, &self.metadata)?,
                _ => {}
            }
        }
        self.version = next;
        Ok(true)
    }

    pub(crate) fn set_metadata(&mut self, table: &str, metadata: Metadata) -> Result<()> {
        self.schema = Arc::new(metadata.parse_schema().map_err(|cause| error::log_unreadable(table, cause))?);
        self.metadata = metadata;
        Ok(())
    }

    /// Our own entry became the next version.
    pub(crate) fn advanced(&mut self, txn: Option<i64>) {
        self.version += 1;
        self.txn = txn.or(self.txn);
        self.seen_at = Instant::now();
    }

    pub(crate) fn partition_columns(&self) -> &[String] {
        self.metadata.partition_columns()
    }
}

/// The actions of one entry.
pub(crate) fn actions(table: &str, version: u64, entry: &Bytes) -> Result<Vec<Action>> {
    get_actions(version, entry).map_err(|cause| error::log_unreadable(table, cause))
}

/// Refuses tables whose writers must do more than append files.
fn check_protocol(table: &str, protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    const KEPT: [&str; 6] = ["appendOnly", "invariants", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors"];
    let configuration: &HashMap<String, String> = metadata.configuration();
    if protocol.min_writer_version() >= 7 {
        for feature in protocol.writer_features().unwrap_or_default() {
            let name = feature.to_string();
            if !KEPT.contains(&name.as_str()) {
                return Err(error::unsupported_protocol(table, format!("the table feature {name}")));
            }
        }
    } else if protocol.min_writer_version() > 2 {
        return Err(error::unsupported_protocol(table, format!("writer version {}", protocol.min_writer_version())));
    }
    if configuration.contains_key("delta.setTransactionRetentionDuration") {
        return Err(error::unsupported_protocol(table, "delta.setTransactionRetentionDuration, under which repeated epochs cannot be told from new ones"));
    }
    Ok(())
}
