//! Tables for queries.
//!
//! **Owns** finding a table by location. **Does not own** reading: that is delta-rs' scan.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake_core::DeltaTable;
use watershed_types::{Epoch, Result};

use crate::error;
use crate::storage::{Place, directory_url};

/// A Delta table at a path or URL, as of now, for DataFusion. Call it again to see later commits.
///
/// Timestamps come back as UTC, text and bytes in whatever flavour the scan prefers.
pub async fn table_provider(location: &str, storage: &HashMap<String, String>) -> Result<Arc<dyn TableProvider>> {
    let place = Place::open(directory_url(location)?, storage)?;
    let table = DeltaTable::new(place.log);
    table.table_provider().await.map_err(|cause| error::log_unreadable(location, cause))
}

/// The same, as of an epoch of one writer: the newest version that holds none of its later epochs. So tables of one
/// pipeline can be read side by side while it commits. A table it never wrote is taken as it is.
pub async fn table_provider_as_of(location: &str, storage: &HashMap<String, String>, app_id: &str, epoch: Epoch) -> Result<Arc<dyn TableProvider>> {
    let unreadable = |cause| error::log_unreadable(location, cause);
    let place = Place::open(directory_url(location)?, storage)?;
    let mut table = DeltaTable::new(place.log);
    table.load().await.map_err(unreadable)?;
    loop {
        let log = table.log_store();
        let snapshot = table.snapshot().map_err(unreadable)?;
        let written = snapshot.transaction_version(log.as_ref(), app_id).await.map_err(unreadable)?;
        let version = snapshot.version();
        // Epochs become visible one after another, so this is a step or two while one is being committed.
        if version == 0 || written.and_then(|e| u64::try_from(e).ok()).is_none_or(|written| written <= epoch.0) {
            return table.table_provider().await.map_err(|cause| error::log_unreadable(location, cause));
        }
        table.load_version(version - 1).await.map_err(unreadable)?;
    }
}
