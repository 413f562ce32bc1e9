//! A table whose rows change: each epoch puts rows in the place of those of the same key, and takes rows out.
//!
//! **Owns** an epoch's changes until they are merged, and the merge. **Does not own** the order of commits (`table`) nor how
//! files are written (`writer`).
//!
//! The files that may hold a changed key are read, and those that do are written again without its rows; what appears goes
//! beside what stayed. So readers see plain Delta, with no deletion vectors and nothing to merge, and an epoch costs the
//! files that its keys touch. Files say the least and the greatest of each column: keys that grow with time touch few.
//!
//! I1: an epoch's changes are durable before its manifest, and are kept until the log holds the epoch.
//! I2: the merge is made on the version whose successor it becomes; if somebody else makes that, it is made again.
//! I3: of several changes of a key the last holds.
//!
//! Failure: merged files without an entry are garbage for `vacuum`; so are changes of an epoch that never got a manifest.

use std::collections::HashMap;
use std::fs;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use chrono::Utc;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Remove, Snapshot, Transaction};
use deltalake_core::protocol::{DeltaOperation, OutputMode};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use watershed_ports::{CommitOutcome, SinkWriter, Staged};
use watershed_types::{Certainty, Epoch, Generation, Result};

use crate::commit::{add, bytes};
use crate::compact::{fit, read};
use crate::error;
use crate::head::Head;
use crate::properties::Tuning;
use crate::schema::{Columns, convert};
use crate::storage::{Place, Put, sync_folders};
use crate::table::LakeTable;
use crate::writer::{FileEntry, Payload, Shared, TableWriter};

/// Where an epoch's changes wait, in the table's folder. Readers pass over names that start like this.
const FOLDER: &str = "_changes";
/// Lost races in a row before giving up.
const MOST_TRIES: usize = 100;

/// The payload of [`Staged`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Changes {
    changes: String,
    size: u64,
}

/// Puts one epoch's changes aside.
pub(crate) struct ChangeWriter {
    shared: Arc<Shared>,
    epoch: Epoch,
    writer: Option<StreamWriter<Vec<u8>>>,
    rows: u64,
}

impl ChangeWriter {
    pub(crate) fn new(shared: Arc<Shared>, epoch: Epoch) -> Self {
        Self { shared, epoch, writer: None, rows: 0 }
    }
}

impl SinkWriter for ChangeWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let table = &self.shared.name;
        let failed = |cause: arrow::error::ArrowError| error::bad_batch(table, cause);
        let last = batch.num_columns().checked_sub(1).ok_or_else(|| error::bad_batch(table, "a change without columns"))?;
        let plain = batch.project(&(0..last).collect::<Vec<_>>()).map_err(failed)?;
        let (data, _) = self.shared.columns.arrange(table, &plain)?;
        let mut fields: Vec<Field> = data.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new("_deleted", DataType::Boolean, false));
        let columns = data.columns().iter().cloned().chain([Arc::clone(batch.column(last))]).collect();
        let change = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(StreamWriter::try_new(Vec::new(), &change.schema()).map_err(failed)?),
        };
        self.rows += change.num_rows() as u64;
        writer.write(&change).map_err(failed)
    }

    fn seal(self: Box<Self>) -> Result<Staged> {
        let Self { shared, epoch, writer, rows } = *self;
        let bytes = writer.map_or_else(|| Ok(Vec::new()), |writer| writer.into_inner()).map_err(|cause| error::bad_batch(&shared.name, cause))?;
        let path = format!("{FOLDER}/{:012}-{}.arrow", epoch.0, Uuid::new_v4());
        let size = bytes.len() as u64;
        shared.runtime.block_on(put(&shared.place, &path, bytes)).map_err(|cause| error::write_failed(&shared.name, &path, cause))?;
        let payload = serde_json::to_value(Changes { changes: path, size }).map_err(|cause| error::bad_payload(&shared.name, cause))?;
        Ok(Staged { rows, bytes: size, payload })
    }
}

async fn put(place: &Place, path: &str, bytes: Vec<u8>) -> std::io::Result<()> {
    match &place.local {
        Some(root) => {
            let file = root.join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, bytes)?;
            fs::File::open(&file)?.sync_all()?;
            sync_folders(root, std::iter::once(&path.to_owned()))
        }
        None => place.store().put(&Place::object_path(path), bytes.into()).await.map(|_| ()).map_err(std::io::Error::other),
    }
}

/// A file of the table that may hold a changed key.
struct Candidate {
    path: String,
    remove: Remove,
}

/// What an epoch says of each key.
struct Merge {
    /// Rows that appear.
    rows: RecordBatch,
    /// Every key that is spoken of.
    keys: std::collections::HashSet<Box<[u8]>>,
    converter: RowConverter,
    columns: Vec<usize>,
    /// The least and the greatest of the first key column, where files say theirs in a form that can be compared.
    range: Option<(String, Bound, Bound)>,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Whole(i128),
    Text(String),
}

impl LakeTable {
    /// Merges an epoch's changes into the table.
    pub(crate) fn commit_changes(&self, head: &mut Head, key: &[String], epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        let table = &self.shared.name;
        let wanted = i64::try_from(epoch.0).map_err(|cause| error::bad_payload(table, cause))?;
        let mut parts = Vec::new();
        for part in staged {
            parts.push(serde_json::from_value::<Changes>(part.payload.clone()).map_err(|cause| error::bad_payload(table, cause))?);
        }
        let runtime = self.shared.runtime.clone();
        let mut outcome = CommitOutcome::AlreadyThere;
        if head.txn < Some(wanted) {
            let mut batches = Vec::new();
            for part in parts.iter().filter(|part| part.size > 0) {
                let content =
                    runtime.block_on(read(&self.shared.place, &part.changes)).map_err(|cause| error::staged_lost(table, &part.changes, format!("cannot be read: {cause}")))?;
                if content.len() as u64 != part.size {
                    return Err(error::staged_lost(table, &part.changes, format!("has {} bytes instead of {}", content.len(), part.size)));
                }
                batches.extend(changes(content).map_err(|cause| error::staged_lost(table, &part.changes, cause))?);
            }
            outcome = self.merge(head, key, wanted, generation, &batches)?;
        }
        for part in &parts {
            // Left behind it is garbage, which housekeeping removes.
            if let Err(cause) = runtime.block_on(self.shared.place.remove(&part.changes)) {
                tracing::debug!(table, path = part.changes, %cause, "merged changes were not removed");
            }
        }
        Ok(outcome)
    }

    fn merge(&self, head: &mut Head, key: &[String], epoch: i64, generation: Generation, batches: &[RecordBatch]) -> Result<CommitOutcome> {
        let table = &self.shared.name;
        let bad = |cause: arrow::error::ArrowError| error::bad_batch(table, cause);
        let Some(first) = batches.first() else { return Ok(CommitOutcome::Committed) };
        let all = concat_batches(&first.schema(), batches).map_err(bad)?;
        let merge = fold(&all, key).map_err(bad)?;
        for _ in 0..MOST_TRIES {
            let candidates = self.shared.runtime.block_on(self.candidates(head.version, &merge))?;
            let whole = self.whole(head)?;
            let mut writer = Box::new(TableWriter::new(whole.clone(), Epoch(epoch as u64)));
            let mut removed = Vec::new();
            for candidate in candidates {
                if self.keep_others(&candidate, &merge, &whole.columns.data, &mut writer)? {
                    removed.push(candidate.remove);
                }
            }
            if merge.rows.num_rows() > 0 {
                writer.write(&fit(&whole.columns.data, &merge.rows).map_err(bad)?)?;
            }
            let sealed: Payload = serde_json::from_value(writer.seal()?.payload).map_err(|cause| error::bad_payload(table, cause))?;
            let entry = self.entry(epoch, generation, &removed, sealed.files.clone())?;
            match self.shared.runtime.block_on(self.shared.place.put_entry(head.version + 1, entry)) {
                Ok(Put::Done) => {
                    head.advanced(Some(epoch));
                    return Ok(CommitOutcome::Committed);
                }
                Ok(Put::Exists) => {
                    // I2: what was merged belongs to a version that is not the newest.
                    self.discard(&sealed.files);
                    let followed = self.shared.runtime.block_on(head.catch_up(table, &self.shared.place, &self.app_id));
                    followed.map_err(watershed_types::Error::definite)?;
                    if head.txn >= Some(epoch) {
                        return Ok(CommitOutcome::AlreadyThere);
                    }
                }
                Err((certainty, cause)) => {
                    let failed = error::commit_failed(table, cause);
                    return match self.shared.runtime.block_on(head.catch_up(table, &self.shared.place, &self.app_id)) {
                        Ok(()) if head.txn >= Some(epoch) => Ok(CommitOutcome::Committed),
                        Ok(()) if certainty == Certainty::Definite => {
                            self.discard(&sealed.files);
                            Err(failed.definite())
                        }
                        _ => Err(failed.indefinite()),
                    };
                }
            }
        }
        Err(error::contended(table, MOST_TRIES))
    }

    /// What is written in an epoch: all columns that the table has, also those that the query does not make any more, for rows that
    /// are written again keep them.
    fn whole(&self, head: &Head) -> Result<Arc<Shared>> {
        let shared = &self.shared;
        let theirs = head.schema.fields().any(|field| shared.columns.delta.field(field.name()).is_none());
        if !theirs {
            return Ok(self.shared.clone());
        }
        let all: Schema = head.schema.as_ref().try_into_arrow().map_err(|cause| error::log_unreadable(&shared.name, cause))?;
        Ok(Arc::new(Shared {
            name: shared.name.clone(),
            place: shared.place.clone(),
            columns: Columns::new(&shared.name, Arc::new(all), &[])?,
            compression: shared.compression,
            target_file_bytes: shared.target_file_bytes,
            tuning: Tuning::default(),
            runtime: shared.runtime.clone(),
        }))
    }

    fn discard(&self, files: &[FileEntry]) {
        for file in files {
            let _ = self.shared.runtime.block_on(self.shared.place.remove(&file.path));
        }
    }

    /// Files of that version that may hold one of the keys.
    async fn candidates(&self, version: u64, merge: &Merge) -> Result<Vec<Candidate>> {
        let failed = |cause: deltalake_core::DeltaTableError| error::log_unreadable(&self.shared.name, cause).definite();
        let log = &self.shared.place.log;
        let snapshot = Snapshot::try_new(log.as_ref(), Some(version)).await.map_err(failed)?;
        let mut found = Vec::new();
        let mut views = snapshot.file_views(log.as_ref(), None);
        while let Some(view) = views.try_next().await.map_err(failed)? {
            let stats: Option<Value> = view.stats().and_then(|stats| serde_json::from_str(&stats).ok());
            if stats.as_ref().is_none_or(|stats| may_hold(stats, merge)) {
                found.push(Candidate { path: view.path().into_owned(), remove: view.remove_action(true) });
            }
        }
        Ok(found)
    }

    /// Writes a file's rows of other keys again, if it has rows of these. True if it had.
    fn keep_others(&self, file: &Candidate, merge: &Merge, columns: &SchemaRef, writer: &mut TableWriter) -> Result<bool> {
        let table = &self.shared.name;
        let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| error::file_unreadable(table, &file.path, cause).definite();
        let content = self.shared.runtime.block_on(read(&self.shared.place, &file.path)).map_err(unreadable)?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(content).and_then(|builder| builder.with_batch_size(8192).build()).map_err(|cause| unreadable(cause.into()))?;
        let (mut kept, mut hit) = (Vec::new(), false);
        for batch in reader {
            let batch = batch.and_then(|batch| fit(columns, &batch)).map_err(|cause| unreadable(cause.into()))?;
            let changes = merge.rows.schema();
            let named = merge.columns.iter().map(|column| changes.field(*column)).filter_map(|field| Some((batch.column_by_name(field.name())?, field.data_type())));
            let keys = named.map(|(column, wanted)| convert(column, wanted, true)).collect::<Result<Vec<ArrayRef>, _>>().map_err(|cause| unreadable(cause.into()))?;
            if keys.is_empty() {
                // One row for all: what is there is that row.
                hit |= batch.num_rows() > 0;
                continue;
            }
            let rows = merge.converter.convert_columns(&keys).map_err(|cause| unreadable(cause.into()))?;
            let stays: BooleanArray = (0..batch.num_rows()).map(|row| Some(!merge.keys.contains(rows.row(row).data()))).collect();
            hit |= stays.true_count() < stays.len();
            kept.push(filter_record_batch(&batch, &stays).map_err(|cause| unreadable(cause.into()))?);
        }
        if hit {
            kept.iter().filter(|batch| batch.num_rows() > 0).try_for_each(|batch| writer.write(batch))?;
        }
        Ok(hit)
    }

    fn entry(&self, epoch: i64, generation: Generation, removed: &[Remove], files: Vec<FileEntry>) -> Result<Bytes> {
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let metrics = json!({ "numAddedFiles": files.len().to_string(), "numRemovedFiles": removed.len().to_string(), "numOutputRows": rows.to_string() });
        let info = HashMap::from([("isBlindAppend".to_owned(), json!(false)), ("watershed.generation".to_owned(), json!(generation.0)), ("operationMetrics".to_owned(), metrics)]);
        let mut actions: Vec<Action> = removed.iter().cloned().map(Action::Remove).collect();
        actions.extend(files.into_iter().map(|file| Action::Add(add(file, epoch.to_string(), true))));
        let operation = DeltaOperation::StreamingUpdate { output_mode: OutputMode::Update, query_id: self.app_id.clone(), epoch_id: epoch };
        let txn = Transaction::new_with_last_update(&self.app_id, epoch, Some(Utc::now().timestamp_millis()));
        bytes(&self.shared.name, CommitData::new(actions, operation, info, vec![txn]))
    }
}

fn changes(content: Bytes) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    StreamReader::try_new(Cursor::new(content), None)?.collect()
}

/// The last word on each key (I3).
fn fold(all: &RecordBatch, key: &[String]) -> Result<Merge, arrow::error::ArrowError> {
    let last = all.num_columns() - 1;
    let columns = key.iter().map(|name| all.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(all.column(*column))).collect();
    let converter = RowConverter::new(keys.iter().map(|key| SortField::new(key.data_type().clone())).collect())?;
    let mut newest: HashMap<Box<[u8]>, u32> = HashMap::new();
    if keys.is_empty() {
        newest.insert(Box::default(), all.num_rows() as u32 - 1);
    } else {
        let rows = converter.convert_columns(&keys)?;
        for row in 0..all.num_rows() {
            newest.insert(rows.row(row).data().into(), row as u32);
        }
    }
    let gone = all.column(last).as_boolean();
    let mut appear: Vec<u32> = newest.values().copied().filter(|row| !gone.value(*row as usize)).collect();
    appear.sort_unstable();
    let plain: SchemaRef = Arc::new(all.schema().project(&(0..last).collect::<Vec<_>>())?);
    let rows = take_record_batch(&all.project(&(0..last).collect::<Vec<_>>())?, &UInt32Array::from(appear))?;
    let rows = RecordBatch::try_new(plain, rows.columns().to_vec())?;
    let range = columns.first().and_then(|column| range_of(all, *column));
    Ok(Merge { rows, keys: newest.into_keys().collect(), converter, columns, range })
}

/// The least and the greatest of a column without NULLs, as files spell theirs.
fn range_of(all: &RecordBatch, column: usize) -> Option<(String, Bound, Bound)> {
    let values = all.column(column);
    if values.null_count() > 0 {
        return None;
    }
    let spelled: Vec<Bound> = match values.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let values = arrow::compute::cast(values, &DataType::Int64).ok()?;
            values.as_primitive::<arrow::datatypes::Int64Type>().values().iter().map(|v| Bound::Whole(i128::from(*v))).collect()
        }
        DataType::Timestamp(_, _) => {
            let values = values.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>()?;
            let spell = |v: &i64| chrono::DateTime::from_timestamp_micros(*v).map(|time| Bound::Text(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()));
            values.values().iter().map(spell).collect::<Option<_>>()?
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values = arrow::compute::cast(values, &DataType::Utf8).ok()?;
            values.as_string::<i32>().iter().flatten().map(|v| Bound::Text(v.to_owned())).collect()
        }
        _ => return None,
    };
    let mut least: Option<&Bound> = None;
    let mut greatest: Option<&Bound> = None;
    for bound in &spelled {
        least = Some(least.map_or(bound, |l| if bound < l { bound } else { l }));
        greatest = Some(greatest.map_or(bound, |g| if bound > g { bound } else { g }));
    }
    Some((all.schema().field(column).name().clone(), least?.clone(), greatest?.clone()))
}

/// False only if no key of the range can be in a file that says this of itself.
fn may_hold(stats: &Value, merge: &Merge) -> bool {
    let Some((column, least, greatest)) = &merge.range else { return true };
    let bound = |part: &str| match &stats[part][column] {
        Value::Number(number) => number.as_i64().map(|v| Bound::Whole(i128::from(v))),
        Value::String(text) => Some(Bound::Text(text.clone())),
        _ => None,
    };
    let (Some(file_least), Some(file_greatest)) = (bound("minValues"), bound("maxValues")) else { return true };
    let same_form = std::mem::discriminant(&file_least) == std::mem::discriminant(least) && std::mem::discriminant(&file_greatest) == std::mem::discriminant(least);
    !same_form || !(greatest < &file_least || &file_greatest < least)
}
