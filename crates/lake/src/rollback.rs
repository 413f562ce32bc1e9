//! Taking a table back to an epoch, for a checkpoint that cannot go on from a later one.
//!
//! **Owns** the log entry that does it. **Does not own** the decision.
//!
//! I1: nothing is deleted: the files of later epochs stay where they are until `vacuum`, and so do the versions that
//! name them.
//! I2: the entry carries `txn(app_id, e)` of what the table then holds, so the next commit of `e + 1` is a new one.
//! I3: it is one conditional put: a table is taken back whole or not at all, and twice changes nothing.

use std::collections::{BTreeMap, HashMap};

use chrono::Utc;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, Remove, Snapshot, Transaction};
use deltalake_core::logstore::get_actions;
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use serde_json::json;
use watershed_types::{Epoch, Result};

use crate::commit::bytes;
use crate::error;
use crate::storage::{Place, Put, directory_url};

/// What a table holds of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The newest epoch with rows; `None` if that writer never wrote it.
    pub epoch: Option<Epoch>,
    /// The newest version.
    pub version: u64,
}

/// What was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolledBack {
    /// Rows the table lost.
    pub rows: u64,
    /// Files its newest version does not name any more.
    pub files: u64,
}

/// The newest epoch a writer put into a table.
pub async fn written(location: &str, storage: &HashMap<String, String>, app_id: &str) -> Result<Written> {
    let table = load(location, storage, None).await?;
    Ok(Written { epoch: epoch_of(&table, location, app_id).await?, version: table.version().unwrap_or(0) })
}

/// Takes a table back to what it held after an epoch of one writer.
pub async fn roll_back(location: &str, storage: &HashMap<String, String>, app_id: &str, epoch: Epoch) -> Result<RolledBack> {
    let mut table = load(location, storage, None).await?;
    let newest = table.version().unwrap_or(0);
    let mut at = newest;
    while at > 0 && epoch_of(&table, location, app_id).await?.is_some_and(|written| written > epoch) {
        at -= 1;
        table.load_version(at).await.map_err(|cause| error::log_unreadable(location, cause))?;
    }
    if at == newest {
        return Ok(RolledBack::default());
    }
    let held = epoch_of(&table, location, app_id).await?.unwrap_or(Epoch::ZERO);
    let place = Place::open(directory_url(location)?, storage)?;
    let (now, then) = (files(&place, location, newest).await?, files(&place, location, at).await?);
    let mut done = RolledBack::default();
    let mut actions = Vec::new();
    for (path, file) in &now {
        if !then.contains_key(path) {
            actions.push(Action::Remove(file.remove.clone()));
            done.files += 1;
            done.rows += file.rows;
        }
    }
    for (path, file) in then {
        if now.contains_key(&path) {
            continue;
        }
        // Compaction replaced it since; cleaning may have taken it.
        match place.size_of(&path).await {
            Ok(Some(_)) => actions.push(Action::Add(Add { data_change: true, ..file.add })),
            Ok(None) => return Err(error::staged_lost(location, &path, "is gone")),
            Err(cause) => return Err(error::log_unreadable(location, cause).definite()),
        }
        done.rows = done.rows.saturating_sub(file.rows);
    }
    let txn = Transaction::new_with_last_update(app_id, i64::try_from(held.0).unwrap_or(i64::MAX), Some(Utc::now().timestamp_millis()));
    let info = HashMap::from([("watershed.rolled_back_to".to_owned(), json!(epoch.0))]);
    let entry = bytes(location, CommitData::new(actions, DeltaOperation::Restore { version: Some(at), datetime: None }, info, vec![txn]))?;
    match place.put_entry(newest + 1, entry).await {
        Ok(Put::Done) => Ok(done),
        Ok(Put::Exists) => Err(error::contended(location, 1)),
        Err((_, cause)) => Err(error::commit_failed(location, cause).indefinite()),
    }
}

async fn load(location: &str, storage: &HashMap<String, String>, version: Option<u64>) -> Result<DeltaTable> {
    let unreadable = |cause: DeltaTableError| error::log_unreadable(location, cause);
    let mut table = DeltaTable::new(Place::open(directory_url(location)?, storage)?.log);
    match version {
        Some(version) => table.load_version(version).await.map_err(unreadable)?,
        None => table.load().await.map_err(unreadable)?,
    }
    Ok(table)
}

async fn epoch_of(table: &DeltaTable, location: &str, app_id: &str) -> Result<Option<Epoch>> {
    let unreadable = |cause: DeltaTableError| error::log_unreadable(location, cause);
    let log = table.log_store();
    let written = table.snapshot().map_err(unreadable)?.transaction_version(log.as_ref(), app_id).await.map_err(unreadable)?;
    Ok(written.and_then(|epoch| u64::try_from(epoch).ok()).map(Epoch))
}

struct File {
    add: Add,
    remove: Remove,
    rows: u64,
}

/// The files of one version.
#[allow(deprecated, reason = "an entry of the log needs the action itself, and few files differ between two versions")]
async fn files(place: &Place, location: &str, version: u64) -> Result<BTreeMap<String, File>> {
    let unreadable = |cause: DeltaTableError| error::log_unreadable(location, cause);
    let snapshot = Snapshot::try_new(place.log.as_ref(), Some(version)).await.map_err(unreadable)?;
    let views = snapshot.file_views(place.log.as_ref(), None);
    let found = views.map_ok(|view| {
        let file = File { add: view.add_action(), remove: view.remove_action(true), rows: view.num_records().unwrap_or(0) as u64 };
        (view.path().into_owned(), file)
    });
    found.try_collect().await.map_err(unreadable)
}

/// How many entries of a log are searched for who wrote it.
const SEARCHED: u64 = 500;

/// The application ids in the newest entries of a table's log.
pub async fn writers(location: &str, storage: &HashMap<String, String>) -> Result<Vec<String>> {
    let place = Place::open(directory_url(location)?, storage)?;
    let newest = load(location, storage, None).await?.version().unwrap_or(0);
    let mut found = std::collections::BTreeSet::new();
    for version in (newest.saturating_sub(SEARCHED)..=newest).rev() {
        let entry = place.log.read_commit_entry(version).await.map_err(|cause| error::log_unreadable(location, cause))?;
        // Older entries may have been cleaned away.
        let Some(entry) = entry else { break };
        let actions = get_actions(version, &entry).map_err(|cause| error::log_unreadable(location, cause))?;
        found.extend(actions.into_iter().filter_map(|action| if let Action::Txn(txn) = action { Some(txn.app_id) } else { None }));
    }
    Ok(found.into_iter().collect())
}
