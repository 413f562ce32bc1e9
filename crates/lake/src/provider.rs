//! Tables for queries.
//!
//! **Owns** finding a table by location. **Does not own** reading: that is delta-rs' scan.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake_core::DeltaTable;
use watershed_types::Result;

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
