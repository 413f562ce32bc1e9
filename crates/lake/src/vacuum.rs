//! Removing files nothing needs any more.
//!
//! **Owns** deciding that a file is garbage. **Does not own** making garbage.
//!
//! I1: a file is removed only if no version within the retention names it, it was not written within the retention (an
//! hour at least), and it does not belong to an epoch after the last committed one.
//!
//! Failure: stopping anywhere leaves garbage for the next time.

use std::collections::HashSet;
use std::time::Duration;

use chrono::Utc;
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::ObjectStore;
use watershed_ports::Sink;
use watershed_types::{Epoch, Result};

use crate::error;
use crate::table::LakeTable;

/// What a cleaning removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

const YOUNG: Duration = Duration::from_secs(3600);

impl LakeTable {
    /// Removes files that left the table, or never got into it, longer ago than the retention.
    pub fn vacuum(&self) -> Result<Vacuumed> {
        self.vacuum_older_than(self.lake.options.retention.max(YOUNG))
    }

    /// As [`LakeTable::vacuum`], with another retention. With less than an hour, make sure that nobody reads an older
    /// version, compacts, or writes under another application id at the moment.
    pub fn vacuum_older_than(&self, retention: Duration) -> Result<Vacuumed> {
        let last = self.last_epoch()?;
        self.shared.runtime.block_on(self.remove_garbage(last, retention))
    }

    async fn remove_garbage(&self, last: Epoch, retention: Duration) -> Result<Vacuumed> {
        let place = &self.shared.place;
        let log_failed = |cause: deltalake_core::DeltaTableError| error::log_unreadable(&self.shared.name, cause);
        let store_failed = |cause: object_store::Error| error::log_unreadable(&self.shared.name, cause);
        let cutoff = Utc::now().timestamp_millis() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);

        // SUBTLE: first the listing, then the log: a file that is committed in between is in the log by then.
        let mut candidates: Vec<(String, u64)> = Vec::new();
        let store = place.store();
        let mut listing = store.list(None);
        while let Some(object) = listing.try_next().await.map_err(store_failed)? {
            let path = object.location.to_string();
            let hidden = path.split('/').any(|part| part.starts_with('_') && !part.contains('=')) || path.starts_with('.');
            let old = object.last_modified.timestamp_millis() < cutoff;
            let in_flight = epoch_of(&path).is_some_and(|epoch| epoch > last);
            let changes = path.starts_with("_changes/") && path.ends_with(".arrow");
            if old && !in_flight && (changes || !hidden && path.ends_with(".parquet")) {
                candidates.push((path, object.size));
            }
        }
        if candidates.is_empty() {
            return Ok(Vacuumed::default());
        }
        let mut needed: HashSet<String> = self.named_files().await?.into_iter().map(|file| file.path).collect();
        let state = DeltaTableState::try_new(place.log.as_ref(), None).await.map_err(log_failed)?;
        let mut tombstones = state.all_tombstones(place.log.as_ref());
        while let Some(tombstone) = tombstones.try_next().await.map_err(log_failed)? {
            if tombstone.deletion_timestamp().is_none_or(|at| at >= cutoff) {
                needed.insert(tombstone.path().into_owned());
            }
        }
        let mut removed = Vacuumed::default();
        for (path, size) in candidates {
            // The store spells '%' in a name as %25; the log's path is spelt as the file is.
            if needed.contains(&path) {
                continue;
            }
            place.remove(&path).await.map_err(|cause| error::write_failed(&self.shared.name, &path, cause))?;
            removed.files += 1;
            removed.bytes += size;
        }
        Ok(removed)
    }
}

/// The epoch in a staged file's name.
fn epoch_of(path: &str) -> Option<Epoch> {
    let name = path.rsplit('/').next()?;
    let name = if path.starts_with("_changes/") { name } else { name.strip_prefix("part-")? };
    name.get(..12)?.parse().ok().map(Epoch)
}
