//! Making an epoch visible, once.
//!
//! **Owns** the log entries this crate writes and their order. **Does not own** the data files.
//!
//! I1: an entry with rows of epoch `e` carries `txn(app_id, e)`, and is created only as the successor of a version where
//! our `txn` is below `e`. The creation is conditional, so of two racing writers of one epoch one wins, and the other
//! reads the winner's entry and finds the epoch there.
//! I2: the files of an entry were durable before it.
//! I3: an epoch without files makes no entry.
//!
//! ```text
//! head (version v, txn t) ── t ≥ e? already there ── put v+1 if absent ─┬─ done: head = v+1
//!                                 ▲                                     └─ exists: read v+1 into head ─┐
//!                                 └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Failure: after an error of the put, the entry is looked for; if ours is there the commit succeeded. A local put that
//! failed before its link is definite, everything else indefinite.
//!
//! delta-rs' own `CommitBuilder` is not used: it keeps the list of all files and replays it for every commit.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::Utc;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, Metadata, MetadataExt, Protocol, StructField, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, OutputMode, SaveMode};
use serde_json::json;
use watershed_ports::{CommitOutcome, Staged};
use watershed_types::{Certainty, Epoch, Error, Generation, Result};

use crate::error;
use crate::head::Head;
use crate::schema::Columns;
use crate::storage::{Place, Put};
use crate::writer::{FileEntry, Payload};

/// Lost races in a row before giving up.
const MOST_TRIES: usize = 100;
/// Files staged longer ago than this are looked for before the log names them.
const TRUSTED_MILLIS: i64 = 10 * 60 * 1000;

/// What a commit needs to know of its table.
pub(crate) struct Target<'a> {
    pub table: &'a str,
    pub place: &'a Place,
    pub app_id: &'a str,
    pub columns: &'a Columns,
    /// For a table whose rows change: the columns that name a row.
    pub key: Option<&'a [String]>,
}

/// The table property that says whether rows change, and what names them. Tables of earlier versions have none.
const ROWS: &str = "watershed.rows";

/// What [`ROWS`] says.
fn rows(key: Option<&[String]>) -> String {
    match key {
        None => "final".to_owned(),
        Some(key) => format!("change, by ({})", key.join(", ")),
    }
}

/// Refuses rows that change for a table whose rows are final, and the other way round, and another key.
pub(crate) fn check_rows(table: &str, metadata: &Metadata, key: Option<&[String]>) -> Result<()> {
    let told = serde_json::to_value(metadata).map_err(|cause| error::log_unreadable(table, cause))?;
    let Some(was) = told["configuration"][ROWS].as_str() else { return Ok(()) };
    let is = rows(key);
    match was == is {
        true => Ok(()),
        false => Err(error::incompatible(
            table,
            format!("its rows {}, and the query's {}", said(was), said(&is)),
            "Rows that are there by the one would never be taken back by the other: give the table a new name.",
        )),
    }
}

fn said(rows: &str) -> String {
    if rows == "final" { "are final".to_owned() } else { rows.to_owned() }
}

impl Target<'_> {
    /// Commits an epoch's staged files.
    pub(crate) async fn commit(&self, head: &mut Head, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        let wanted = i64::try_from(epoch.0).map_err(|cause| error::bad_payload(self.table, cause))?;
        let mut files: Vec<FileEntry> = Vec::new();
        for part in staged {
            let payload: Payload = serde_json::from_value(part.payload.clone()).map_err(|cause| error::bad_payload(self.table, cause))?;
            files.extend(payload.files);
        }
        if head.txn >= Some(wanted) {
            return Ok(CommitOutcome::AlreadyThere);
        }
        if files.is_empty() {
            return Ok(CommitOutcome::Committed); // I3
        }
        self.check_files(&files).await?;
        let entry = self.entry(wanted, generation, files)?;
        for _ in 0..MOST_TRIES {
            if head.txn >= Some(wanted) {
                return Ok(CommitOutcome::AlreadyThere);
            }
            match self.place.put_entry(head.version + 1, entry.clone()).await {
                Ok(Put::Done) => {
                    head.advanced(Some(wanted));
                    return Ok(CommitOutcome::Committed);
                }
                Ok(Put::Exists) => self.follow(head).await.map_err(Error::definite)?,
                Err((certainty, cause)) => {
                    let failed = error::commit_failed(self.table, cause);
                    // Whatever it was: if our entry is in the log now, the epoch is committed.
                    match head.catch_up(self.table, self.place, self.app_id).await {
                        Ok(()) if head.txn >= Some(wanted) => return Ok(CommitOutcome::Committed),
                        Ok(()) if certainty == Certainty::Definite => return Err(failed.definite()),
                        _ => return Err(failed.indefinite()),
                    }
                }
            }
        }
        Err(error::contended(self.table, MOST_TRIES))
    }

    /// Reads what another writer committed, and checks that our files still fit.
    async fn follow(&self, head: &mut Head) -> Result<()> {
        if !head.step(self.table, self.place, self.app_id).await? {
            // The entry exists and cannot be read: it was cleaned away, the head is far behind.
            match Head::load(self.table, self.place, self.app_id).await? {
                Some(fresh) => *head = fresh,
                None => return Err(error::log_unreadable(self.table, "the log is gone")),
            }
        }
        let missing = self.columns.missing_in(self.table, &head.schema, head.partition_columns())?;
        match missing.first() {
            None => Ok(()),
            Some(field) => {
                Err(error::incompatible(self.table, format!("another writer removed its column \"{}\"", field.name()), "Restart the pipeline; it adds the column again."))
            }
        }
    }

    /// I2, for a commit that comes long after its seal: housekeeping or a person may have removed files.
    async fn check_files(&self, files: &[FileEntry]) -> Result<()> {
        let trusted_from = Utc::now().timestamp_millis() - TRUSTED_MILLIS;
        for file in files {
            if self.place.local.is_none() && file.modified >= trusted_from {
                continue;
            }
            match self.place.size_of(&file.path).await {
                Ok(Some(size)) if size == file.size => {}
                Ok(Some(size)) => {
                    return Err(error::staged_lost(self.table, &file.path, format!("has {size} bytes instead of {}", file.size)));
                }
                Ok(None) => return Err(error::staged_lost(self.table, &file.path, "is gone")),
                Err(cause) => return Err(error::log_unreadable(self.table, cause).definite()),
            }
        }
        Ok(())
    }

    fn entry(&self, epoch: i64, generation: Generation, files: Vec<FileEntry>) -> Result<Bytes> {
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let info = HashMap::from([
            ("isBlindAppend".to_owned(), json!(true)),
            ("watershed.generation".to_owned(), json!(generation.0)),
            ("operationMetrics".to_owned(), json!({ "numAddedFiles": files.len().to_string(), "numOutputRows": rows.to_string() })),
        ]);
        let adds = files.into_iter().map(|file| Action::Add(add(file, epoch.to_string(), true))).collect();
        let operation = DeltaOperation::StreamingUpdate { output_mode: OutputMode::Append, query_id: self.app_id.to_owned(), epoch_id: epoch };
        let txn = Transaction::new_with_last_update(self.app_id, epoch, Some(Utc::now().timestamp_millis()));
        bytes(self.table, CommitData::new(adds, operation, info, vec![txn]))
    }

    /// The head of the table, which is created or grown if need be.
    pub(crate) async fn prepare(&self, retention: std::time::Duration) -> Result<Head> {
        for _ in 0..MOST_TRIES {
            let Some(mut head) = Head::load(self.table, self.place, self.app_id).await? else {
                let put = self.place.put_entry(0, self.creation(retention)?).await;
                if let Err((_, cause)) = put {
                    return Err(error::commit_failed(self.table, cause));
                }
                continue;
            };
            check_rows(self.table, &head.metadata, self.key)?;
            let missing = self.columns.missing_in(self.table, &head.schema, head.partition_columns())?;
            if missing.is_empty() {
                return Ok(head);
            }
            let (entry, metadata) = self.growth(&head, missing)?;
            match self.place.put_entry(head.version + 1, entry).await {
                Ok(Put::Done) => {
                    head.advanced(None);
                    head.set_metadata(self.table, metadata)?;
                    return Ok(head);
                }
                Ok(Put::Exists) => {}
                Err((_, cause)) => return Err(error::commit_failed(self.table, cause)),
            }
        }
        Err(error::contended(self.table, MOST_TRIES))
    }

    fn creation(&self, retention: std::time::Duration) -> Result<Bytes> {
        let failed = |cause: deltalake_core::DeltaTableError| error::commit_failed(self.table, cause);
        let hours = retention.as_secs().div_ceil(3600).max(1);
        let configuration = [
            ("delta.checkpointInterval", "100".to_owned()),
            ("delta.deletedFileRetentionDuration", format!("interval {hours} hours")),
            ("delta.logRetentionDuration", format!("interval {} hours", hours.max(24))),
            ("delta.enableExpiredLogCleanup", "true".to_owned()),
            (ROWS, rows(self.key)),
        ];
        let metadata = new_metadata(&self.columns.delta, &self.columns.partitioned_by, configuration)
            .and_then(|metadata| metadata.with_name(self.table.to_owned()))
            .map_err(|cause| failed(cause.into()))?;
        let protocol: Protocol = serde_json::from_value(json!({ "minReaderVersion": 1, "minWriterVersion": 2 })).map_err(|cause| error::commit_failed(self.table, cause))?;
        let operation = DeltaOperation::Create { mode: SaveMode::ErrorIfExists, location: self.place.url.clone(), protocol: protocol.clone(), metadata: metadata.clone() };
        bytes(self.table, CommitData::new(vec![Action::Protocol(protocol), Action::Metadata(metadata)], operation, HashMap::new(), Vec::new()))
    }

    fn growth(&self, head: &Head, missing: Vec<StructField>) -> Result<(Bytes, Metadata)> {
        let failed = |cause: String| error::commit_failed(self.table, cause);
        let fields = head.schema.fields().cloned().chain(missing.iter().cloned());
        let grown = StructType::try_new(fields).map_err(|cause| failed(cause.to_string()))?;
        let metadata = head.metadata.clone().with_schema(&grown).map_err(|cause| failed(cause.to_string()))?;
        let operation = DeltaOperation::AddColumn { fields: missing };
        let data = CommitData::new(vec![Action::Metadata(metadata.clone())], operation, HashMap::new(), Vec::new());
        Ok((bytes(self.table, data)?, metadata))
    }
}

/// A file as the log names it.
pub(crate) fn add(file: FileEntry, epoch: String, data_change: bool) -> Add {
    Add {
        path: file.path,
        partition_values: file.partition_values,
        size: file.size as i64,
        modification_time: file.modified,
        data_change,
        stats: Some(file.stats),
        tags: Some(HashMap::from([("watershed.epoch".to_owned(), Some(epoch))])),
        ..Add::default()
    }
}

pub(crate) fn bytes(table: &str, data: CommitData) -> Result<Bytes> {
    data.get_bytes().map_err(|cause| error::commit_failed(table, cause).definite())
}
