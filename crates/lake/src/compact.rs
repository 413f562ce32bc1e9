//! Making few large files of many small ones.
//!
//! **Owns** choosing and rewriting files. **Does not own** removing the old ones: readers may still hold them.
//!
//! I1: the rows stay exactly the same, in the order of their epochs: the entry says `dataChange = false`.
//! I2: an append never conflicts with it. A compaction whose files somebody else removed, or whose table changed its
//! columns, is dropped, files and all, and tried again another time.
//! I3: memory is bounded by one small file and one row group.
//!
//! Failure: new files without an entry are garbage for `vacuum`; the entry is one conditional put, as for epochs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Remove, Snapshot};
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use uuid::Uuid;
use watershed_types::{Certainty, Result};

use crate::commit::{add, bytes};
use crate::partition::Values;
use crate::schema::convert;
use crate::storage::{Place, Put};
use crate::table::LakeTable;
use crate::writer::{FileEntry, OpenFile, settle};
use crate::{error, head};

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Small files that were replaced.
    pub files_before: u64,
    /// The files that replaced them.
    pub files_after: u64,
    /// Rows in them.
    pub rows: u64,
    /// Times it was given up because the table changed meanwhile.
    pub given_up: u64,
}

struct Small {
    path: String,
    size: u64,
    rows: Option<u64>,
    remove: Remove,
    epoch: String,
}

impl LakeTable {
    /// Compacts the partitions that have enough small files.
    pub fn compact(&self) -> Result<Compacted> {
        let (version, schema, partitions) = self.shared.runtime.block_on(self.small_files())?;
        let mut done = Compacted::default();
        let mut version = version;
        for (values, mut files) in partitions {
            if files.len() < self.lake.options.compact_min_files.max(2) {
                continue;
            }
            files.sort_by(|one, other| (&one.epoch, &one.path).cmp(&(&other.epoch, &other.path)));
            let mut bin: Vec<Small> = Vec::new();
            let mut bin_bytes = 0;
            let mut bins = Vec::new();
            for file in files {
                if bin_bytes + file.size > self.shared.target_file_bytes && !bin.is_empty() {
                    bins.push(std::mem::take(&mut bin));
                    bin_bytes = 0;
                }
                bin_bytes += file.size;
                bin.push(file);
            }
            bins.push(bin);
            for bin in bins.into_iter().filter(|bin| bin.len() > 1) {
                match self.compact_bin(&mut version, &schema, &values, &bin)? {
                    Some(rows) => {
                        done.files_before += bin.len() as u64;
                        done.files_after += 1;
                        done.rows += rows;
                    }
                    None => {
                        done.given_up += 1;
                        return Ok(done);
                    }
                }
            }
        }
        Ok(done)
    }

    /// Files below a quarter of the target, by partition.
    async fn small_files(&self) -> Result<(u64, SchemaRef, BTreeMap<Values, Vec<Small>>)> {
        let failed = |cause: deltalake_core::DeltaTableError| error::log_unreadable(&self.shared.name, cause);
        let log = &self.shared.place.log;
        let snapshot = Snapshot::try_new(log.as_ref(), None).await.map_err(failed)?;
        let logical: Schema = snapshot.schema().as_ref().try_into_arrow().map_err(|cause| error::log_unreadable(&self.shared.name, cause))?;
        let columns = crate::schema::Columns::new(&self.shared.name, Arc::new(logical), &self.shared.columns.partitioned_by)?;
        let mut partitions: BTreeMap<Values, Vec<Small>> = BTreeMap::new();
        let mut views = snapshot.file_views(log.as_ref(), None);
        while let Some(view) = views.try_next().await.map_err(failed)? {
            let size = u64::try_from(view.size()).unwrap_or(u64::MAX);
            if size >= self.shared.target_file_bytes / 4 || view.deletion_vector_descriptor().is_some() {
                continue;
            }
            let values = view.partition_values_map();
            let key = self.shared.columns.partitioned_by.iter().map(|name| values.get(name).cloned().flatten()).collect();
            let path = view.path().into_owned();
            let name = path.rsplit('/').next().unwrap_or(&path);
            let epoch = name.split('-').nth(1).unwrap_or("").to_owned();
            let rows = view.num_records().map(|rows| rows as u64);
            partitions.entry(key).or_default().push(Small { size, rows, remove: view.remove_action(false), epoch, path });
        }
        drop(views);
        Ok((snapshot.version(), columns.data, partitions))
    }

    /// One new file for these; `None` if somebody else got in the way.
    fn compact_bin(&self, version: &mut u64, schema: &SchemaRef, values: &Values, bin: &[Small]) -> Result<Option<u64>> {
        // The name keeps the range's first epoch, so that later compactions keep the order (I1).
        let name = format!("compact-{}-{}.parquet", bin.first().map_or("", |file| file.epoch.as_str()), Uuid::new_v4());
        let mut open: Option<OpenFile> = None;
        let written = self.rewrite(&mut open, &name, schema, values, bin);
        let path = open.as_ref().map(|file| file.path.clone());
        let outcome = written.and_then(|()| {
            let Some(file) = open.take() else { return Ok(None) };
            let (entry, syncs) = file.finish(&self.shared)?;
            let expected: u64 = bin.iter().filter_map(|file| file.rows).sum();
            if bin.iter().all(|file| file.rows.is_some()) && expected != entry.rows {
                return Err(error::rows_differ(&self.shared.name, expected, entry.rows));
            }
            settle(&self.shared, syncs, std::slice::from_ref(&entry))?;
            let rows = entry.rows;
            let replaced = self.shared.runtime.block_on(self.replace(version, entry, bin))?;
            Ok(replaced.then_some(rows))
        });
        if let (Ok(None) | Err(_), Some(path)) = (&outcome, path) {
            let indefinite = matches!(&outcome, Err(failed) if failed.certainty() == Some(Certainty::Indefinite));
            if !indefinite {
                let _ = self.shared.runtime.block_on(self.shared.place.remove(&path));
            }
        }
        outcome
    }

    fn rewrite(&self, open: &mut Option<OpenFile>, name: &str, schema: &SchemaRef, values: &Values, bin: &[Small]) -> Result<()> {
        for file in bin {
            let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| error::file_unreadable(&self.shared.name, &file.path, cause);
            let content = self.shared.runtime.block_on(read(&self.shared.place, &file.path)).map_err(unreadable)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(content).and_then(|builder| builder.with_batch_size(8192).build()).map_err(|cause| unreadable(cause.into()))?;
            for batch in reader {
                let batch = batch.and_then(|batch| fit(schema, &batch)).map_err(|cause| unreadable(cause.into()))?;
                let target = match open {
                    Some(target) => target,
                    None => open.insert(OpenFile::create(&self.shared, name, values.clone(), &batch)?),
                };
                target.write(&self.shared, &batch)?;
            }
        }
        Ok(())
    }

    /// Puts the new file in the place of the old ones, in the log.
    async fn replace(&self, version: &mut u64, new: FileEntry, bin: &[Small]) -> Result<bool> {
        let table = &self.shared.name;
        let gone: HashSet<&str> = bin.iter().map(|file| file.path.as_str()).collect();
        let epochs = match (bin.first(), bin.last()) {
            (Some(first), Some(last)) => format!("{}-{}", first.epoch, last.epoch),
            _ => String::new(),
        };
        let mut actions: Vec<Action> = bin.iter().map(|file| Action::Remove(file.remove.clone())).collect();
        let new_path = new.path.clone();
        actions.push(Action::Add(add(new, epochs, false)));
        let operation = DeltaOperation::Optimize { predicate: None, target_size: self.shared.target_file_bytes as i64 };
        let info = HashMap::from([("isBlindAppend".to_owned(), json!(false))]);
        let entry = bytes(table, CommitData::new(actions, operation, info, Vec::new()))?;
        loop {
            let next = *version + 1;
            match self.shared.place.put_entry(next, entry.clone()).await {
                Ok(Put::Done) => {
                    *version = next;
                    return Ok(true);
                }
                Ok(Put::Exists) => {}
                Err((Certainty::Definite, cause)) => return Err(error::commit_failed(table, cause).definite()),
                Err((Certainty::Indefinite, cause)) => return Err(error::commit_failed(table, cause).indefinite()),
            }
            let unreadable = |cause: deltalake_core::DeltaTableError| error::log_unreadable(table, cause).definite();
            let Some(other) = self.shared.place.log.read_commit_entry(next).await.map_err(unreadable)? else { return Ok(false) };
            for action in head::actions(table, next, &other)? {
                let conflict = match action {
                    Action::Remove(removed) => gone.contains(removed.path.as_str()),
                    Action::Metadata(_) | Action::Protocol(_) => true,
                    Action::Add(added) => added.path == new_path,
                    _ => false,
                };
                if conflict {
                    return Ok(false); // I2
                }
            }
            *version = next;
        }
    }
}

pub(crate) async fn read(place: &Place, path: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    match &place.local {
        Some(root) => Ok(Bytes::from(fs::read(root.join(path))?)),
        None => Ok(place.store().get(&Place::object_path(path)).await?.bytes().await?),
    }
}

/// A batch of an old file with the columns of today: those it lacks are NULL.
pub(crate) fn fit(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => convert(column, field.data_type(), true),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}
