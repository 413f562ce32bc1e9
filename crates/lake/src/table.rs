//! One table as a sink.
//!
//! **Owns** the table's head, and so the order of its commits in this process. **Does not own** how entries are made
//! (`commit`) or files are written (`writer`).
//!
//! I1: commits of one table in this process come one after another; housekeeping goes beside them.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use chrono::Utc;
use delta_kernel::Snapshot;
use deltalake_core::checkpoints::cleanup_expired_logs_for;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use watershed_ports::{CommitOutcome, Sink, SinkWriter, Staged};
use watershed_types::{Epoch, Generation, Result};

use crate::commit::Target;
use crate::error;
use crate::head::Head;
use crate::lake::Lake;
use crate::storage::Place;
use crate::upsert::ChangeWriter;
use crate::writer::{Shared, TableWriter};

/// A checkpoint of the log after so many versions.
const CHECKPOINT_EVERY: u64 = 100;
/// Between two cleanings by [`Sink::maintain`].
const VACUUM_EVERY: Duration = Duration::from_secs(6 * 3600);

/// A Delta table that takes each epoch once.
///
/// An epoch that has no rows for the table leaves no trace in it: [`Sink::commit`] without files says `Committed` and
/// writes nothing, so [`Sink::last_epoch`] is the last epoch *with rows*.
pub struct LakeTable {
    pub(crate) lake: Arc<Lake>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) app_id: String,
    /// For a table whose rows change.
    key: Option<Vec<String>>,
    head: Mutex<Head>,
    vacuumed_at: Mutex<Option<Instant>>,
}

impl LakeTable {
    pub(crate) fn new(lake: Arc<Lake>, shared: Arc<Shared>, app_id: String, key: Option<Vec<String>>, head: Head) -> Self {
        Self { lake, shared, app_id, key, head: Mutex::new(head), vacuumed_at: Mutex::new(None) }
    }

    /// The table's columns as readers see them, those the query no longer has included.
    pub fn schema(&self) -> Result<SchemaRef> {
        let schema = self.head().schema.clone();
        let arrow: arrow::datatypes::Schema = schema.as_ref().try_into_arrow().map_err(|cause| error::log_unreadable(&self.shared.name, cause))?;
        Ok(Arc::new(arrow))
    }

    /// The table's URL, for [`crate::table_provider`].
    pub fn location(&self) -> &str {
        self.shared.place.url.as_str()
    }

    /// The newest version of the log that was seen.
    pub fn version(&self) -> u64 {
        self.head().version
    }

    pub(crate) fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self) -> Target<'_> {
        Target { table: &self.shared.name, place: &self.shared.place, app_id: &self.app_id, columns: &self.shared.columns, key: self.key.as_deref() }
    }

    /// Writes a checkpoint of the log beside the next commits, now and then.
    fn checkpoint_if_due(&self, version: u64) {
        if !version.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        let (name, place, runtime) = (self.shared.name.clone(), self.shared.place.clone(), self.shared.runtime.clone());
        let keep_log = self.lake.options.retention.max(Duration::from_secs(24 * 3600));
        runtime.spawn(async move {
            // A table does without its checkpoint: readers then read more entries.
            if let Err(cause) = checkpoint(&place, version, keep_log).await {
                tracing::warn!(table = name, version, %cause, "no checkpoint of the log");
            }
        });
    }
}

async fn checkpoint(place: &Place, version: u64, keep_log: Duration) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (engine, url) = (place.log.engine(None), place.url.clone());
    tokio::task::spawn_blocking(move || {
        let snapshot = Snapshot::builder_for(url).at_version(version).build(engine.as_ref())?;
        snapshot.checkpoint(engine.as_ref(), None).map(|_| ())
    })
    .await??;
    if let Some(root) = &place.local {
        let folder = root.join("_delta_log");
        File::open(folder.join(format!("{version:020}.checkpoint.parquet")))?.sync_all()?;
        File::open(folder)?.sync_all()?;
    }
    let cutoff = Utc::now().timestamp_millis() - i64::try_from(keep_log.as_millis())?;
    cleanup_expired_logs_for(version, place.log.as_ref(), cutoff, None).await?;
    Ok(())
}

impl Sink for LakeTable {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn writer(&self, epoch: Epoch) -> Result<Box<dyn SinkWriter>> {
        Ok(match self.key {
            None => Box::new(TableWriter::new(self.shared.clone(), epoch)),
            Some(_) => Box::new(ChangeWriter::new(self.shared.clone(), epoch)),
        })
    }

    /// The last epoch with rows.
    fn last_epoch(&self) -> Result<Epoch> {
        let mut head = self.head();
        self.shared.runtime.block_on(head.catch_up(&self.shared.name, &self.shared.place, &self.app_id))?;
        Ok(Epoch(head.txn.and_then(|txn| u64::try_from(txn).ok()).unwrap_or(0)))
    }

    fn commit(&self, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        let mut head = self.head();
        let target = self.target();
        self.shared.runtime.block_on(async {
            if head.is_stale() {
                head.catch_up(target.table, target.place, target.app_id).await.map_err(watershed_types::Error::definite)?;
            }
            Ok::<_, watershed_types::Error>(())
        })?;
        let outcome = match &self.key {
            None => self.shared.runtime.block_on(target.commit(&mut head, epoch, generation, staged))?,
            Some(key) => self.commit_changes(&mut head, key, epoch, generation, staged)?,
        };
        let version = head.version;
        drop(head);
        if outcome == CommitOutcome::Committed && staged.iter().any(|part| part.rows > 0) {
            self.checkpoint_if_due(version);
        }
        Ok(outcome)
    }

    fn maintain(&self) -> Result<()> {
        self.compact()?;
        let due = {
            let mut at = self.vacuumed_at.lock().unwrap_or_else(PoisonError::into_inner);
            let due = at.is_none_or(|at| at.elapsed() >= VACUUM_EVERY);
            if due {
                *at = Some(Instant::now());
            }
            due
        };
        if due {
            self.vacuum()?;
        }
        Ok(())
    }
}
