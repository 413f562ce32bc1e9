//! Local disk for state that does not fit in memory.
//!
//! **Owns** a folder with a log-structured merge tree for each area. **Does not own** what is in them. Nothing here outlives
//! the run: what is durable is in the checkpoint, and the folder is emptied when it is first needed.
//!
//! Areas are filled in bulk, in the order of their keys, and asked by key; filters answer for keys that are not there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DataFusionError, Result};
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Slice};
use parking_lot::Mutex;

/// The folder, and the database in it once something had to go there.
pub struct Scratch {
    folder: PathBuf,
    cache: u64,
    database: Mutex<Option<Database>>,
    areas: AtomicU64,
}

impl Scratch {
    /// A folder that is ours alone and need not be there yet; `cache` is the memory for what is read of it, bytes.
    pub fn new(folder: PathBuf, cache: u64) -> Arc<Self> {
        Arc::new(Self { folder, cache, database: Mutex::new(None), areas: AtomicU64::new(0) })
    }

    fn database(&self) -> Result<Database> {
        let mut open = self.database.lock();
        if let Some(database) = open.as_ref() {
            return Ok(database.clone());
        }
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).map_err(|e| self.failed("is left from an earlier run and cannot be removed", e))?;
        }
        let database = Database::builder(&self.folder)
            .temporary(true)
            .cache_size(self.cache)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(|e| self.failed("cannot be opened", e))?;
        *open = Some(database.clone());
        Ok(database)
    }

    fn failed(&self, what: &str, cause: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::Execution(format!(
            "state does not fit [engine] memory, and the folder it goes to, \"{}\", {what}: {cause}. Free space there, or raise the memory; nothing of this epoch was committed",
            self.folder.display()
        ))
    }
}

/// A sorted map on disk. Given up with all that is in it when it is dropped.
pub struct Area {
    scratch: Arc<Scratch>,
    keyspace: Keyspace,
}

impl Area {
    /// An empty one.
    pub fn new(scratch: &Arc<Scratch>) -> Result<Self> {
        let name = format!("area-{}", scratch.areas.fetch_add(1, Ordering::Relaxed));
        let keyspace = scratch.database()?.keyspace(&name, options).map_err(|e| scratch.failed("takes no further area", e))?;
        Ok(Self { scratch: Arc::clone(scratch), keyspace })
    }

    /// Puts values, and takes out keys that have none. Keys rise, and are not empty.
    pub fn load(&self, sorted: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let failed = |e: fjall::Error| self.scratch.failed("cannot be written", e);
        let mut sorted = sorted.into_iter().peekable();
        if sorted.peek().is_none() {
            return Ok(());
        }
        let mut ingestion = self.keyspace.start_ingestion().map_err(failed)?;
        for (key, value) in sorted {
            match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            }
            .map_err(failed)?;
        }
        ingestion.finish().map_err(failed)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        self.keyspace.get(key).map_err(|e| self.scratch.failed("cannot be read", e))
    }

    /// Keys below `end`, or all, and their values, in the order of the keys.
    pub fn each(&self, end: Option<&[u8]>, mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let found = match end {
            Some(end) => self.keyspace.range(..end.to_vec()),
            None => self.keyspace.iter(),
        };
        for pair in found {
            let (key, value) = pair.into_inner().map_err(|e| self.scratch.failed("cannot be read", e))?;
            take(&key, &value)?;
        }
        Ok(())
    }
}

/// Most questions are for keys that are not there, and filters of ten bits a key answer them. Filters and indices are in pieces that
/// come and go with the cache: what was loaded in bulk would otherwise be read whole for each question, several megabytes of it.
/// Questions come in the order of key groups, which is the order of the pieces.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))))
        .filter_block_pinning_policy(PinningPolicy::all(false))
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
}

impl Drop for Area {
    fn drop(&mut self) {
        if let Some(database) = self.scratch.database.lock().as_ref()
            && let Err(error) = database.delete_keyspace(self.keyspace.clone())
        {
            tracing::warn!(%error, folder = %self.scratch.folder.display(), "what state left on disk is not removed before the end of the run");
        }
    }
}
