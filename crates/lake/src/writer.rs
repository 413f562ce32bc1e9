//! One epoch's rows on their way into Parquet files.
//!
//! **Owns** the files being written: one per partition and writer, rolled by size. **Does not own** when they become
//! visible; that is the commit.
//!
//! I1: rows of one partition lie in the order they came, file after file.
//! I2: at most [`MOST_OPEN`] files are open and about [`MOST_BUFFERED`] bytes wait in them; beyond, the file that waited
//! longest is finished, or the fullest one writes its row group.
//! I3: what [`SinkWriter::seal`] names is durable, files and folders.
//!
//! ```text
//! batch ─ arrange (types) ─ split (partitions) ─▶ open file per partition ─▶ finished ─ fsync beside the work ─▶ seal
//! ```
//!
//! Failure: a file that failed stays as garbage that no log entry names; `vacuum` removes it. The epoch is written anew.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::take_record_batch;
use arrow::datatypes::Schema;
use chrono::Utc;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;
use watershed_ports::{SinkWriter, Staged};
use watershed_types::{Epoch, Result};

use crate::partition::{self, Split, Values};
use crate::properties::{Compression, Tuning};
use crate::schema::Columns;
use crate::storage::{Output, Place, sync_folders};
use crate::{error, stats};

/// Files a writer keeps open.
pub(crate) const MOST_OPEN: usize = 64;
/// Bytes that may wait in open files before the fullest writes its row group.
const MOST_BUFFERED: usize = 384 << 20;
/// Look at the buffered bytes after this many rows.
const LOOK_EVERY: usize = 1 << 17;

/// What the writers and the table share.
pub(crate) struct Shared {
    pub name: String,
    pub place: Place,
    pub columns: Columns,
    pub compression: Compression,
    pub target_file_bytes: u64,
    pub tuning: Tuning,
    pub runtime: Handle,
}

/// A finished file, as the manifest keeps it until the commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub path: String,
    pub size: u64,
    #[serde(rename = "partitionValues")]
    pub partition_values: HashMap<String, Option<String>>,
    pub stats: String,
    pub rows: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
}

/// The payload of [`Staged`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub files: Vec<FileEntry>,
}

/// A Parquet file being written.
pub(crate) struct OpenFile {
    writer: ArrowWriter<Output>,
    schema: Arc<Schema>,
    pub path: String,
    values: Values,
    rows: u64,
    used: u64,
    synced_groups: usize,
    early: Vec<JoinHandle<io::Result<()>>>,
}

impl OpenFile {
    pub(crate) fn create(shared: &Shared, name: &str, values: Values, first: &RecordBatch) -> Result<Self> {
        let folder = partition::folder(&shared.columns.partitioned_by, &values);
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let failed = |cause: ParquetError| error::write_failed(&shared.name, &path, cause);
        let output = Output::create(&shared.place, &shared.runtime, &path).map_err(|cause| error::write_failed(&shared.name, &path, cause))?;
        let options = ArrowWriterOptions::new().with_properties(shared.tuning.properties(first, shared.compression)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(output, first.schema(), options).map_err(failed)?;
        Ok(Self { writer, schema: first.schema(), path, values, rows: 0, used: 0, synced_groups: 0, early: Vec::new() })
    }

    pub(crate) fn write(&mut self, shared: &Shared, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|cause| error::write_failed(&shared.name, &self.path, cause))?;
        self.rows += batch.num_rows() as u64;
        let groups = self.writer.flushed_row_groups().len();
        if groups > self.synced_groups {
            self.synced_groups = groups;
            self.early.extend(self.writer.inner().sync_early(&shared.runtime));
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the file; what is handed back besides its entry makes it durable.
    pub(crate) fn finish(mut self, shared: &Shared) -> Result<(FileEntry, Vec<JoinHandle<io::Result<()>>>)> {
        let failed = |cause: ParquetError| error::write_failed(&shared.name, &self.path, cause);
        let meta: ParquetMetaData = self.writer.finish().map_err(failed)?;
        let size = self.writer.bytes_written() as u64;
        let file = self.writer.inner_mut().finish().map_err(|cause| error::write_failed(&shared.name, &self.path, cause))?;
        shared.tuning.learn(&meta);
        // SUBTLE: an early sync that failed may be the only one to hear of it, so they are all waited for.
        let mut syncs = std::mem::take(&mut self.early);
        syncs.extend(file.map(|file| shared.runtime.spawn_blocking(move || file.sync_all())));
        let entry = FileEntry {
            size,
            partition_values: shared.columns.partitioned_by.iter().cloned().zip(self.values).collect(),
            stats: stats::of_file(&self.schema, &meta),
            rows: self.rows,
            modified: Utc::now().timestamp_millis(),
            path: self.path,
        };
        Ok((entry, syncs))
    }
}

/// Writes one epoch's rows of one table, from one thread.
pub(crate) struct TableWriter {
    shared: Arc<Shared>,
    epoch: Epoch,
    open: HashMap<Values, OpenFile>,
    finished: Vec<FileEntry>,
    syncs: Vec<JoinHandle<io::Result<()>>>,
    turn: u64,
    rows_since_look: usize,
}

impl TableWriter {
    pub(crate) fn new(shared: Arc<Shared>, epoch: Epoch) -> Self {
        Self { shared, epoch, open: HashMap::new(), finished: Vec::new(), syncs: Vec::new(), turn: 0, rows_since_look: 0 }
    }

    fn put(&mut self, values: Values, batch: &RecordBatch) -> Result<()> {
        self.turn += 1;
        if !self.open.contains_key(&values) {
            if self.open.len() >= MOST_OPEN {
                let oldest = self.open.iter().min_by_key(|(_, file)| file.used).map(|(values, _)| values.clone());
                if let Some(oldest) = oldest {
                    self.close(&oldest)?;
                }
            }
            let name = format!("part-{:012}-{}.parquet", self.epoch.0, Uuid::new_v4());
            let file = OpenFile::create(&self.shared, &name, values.clone(), batch)?;
            self.open.insert(values.clone(), file);
        }
        let Some(file) = self.open.get_mut(&values) else { return Ok(()) };
        file.used = self.turn;
        file.write(&self.shared, batch)?;
        if file.bytes() >= self.shared.target_file_bytes {
            self.close(&values)?;
        }
        Ok(())
    }

    fn close(&mut self, values: &Values) -> Result<()> {
        if let Some(file) = self.open.remove(values) {
            let (entry, syncs) = file.finish(&self.shared)?;
            self.finished.push(entry);
            self.syncs.extend(syncs);
        }
        Ok(())
    }

    /// I2: lets the fullest file write its row group while too much waits.
    fn relieve(&mut self) -> Result<()> {
        let mut sizes: Vec<(usize, &mut OpenFile)> = self.open.values_mut().map(|file| (file.writer.memory_size(), file)).collect();
        let mut total: usize = sizes.iter().map(|(size, _)| size).sum();
        sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (size, file) in sizes {
            if total <= MOST_BUFFERED {
                break;
            }
            file.writer.flush().map_err(|cause| error::write_failed(&self.shared.name, &file.path, cause))?;
            total = total.saturating_sub(size);
        }
        Ok(())
    }
}

impl SinkWriter for TableWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let shared = self.shared.clone();
        let (data, keys) = shared.columns.arrange(&shared.name, batch)?;
        if keys.is_empty() {
            self.put(Values::new(), &data)?;
        } else {
            let values_at = |row: usize| -> Values { keys.iter().map(|key| partition::spell(key, row)).collect() };
            match partition::split(&keys).map_err(|cause| error::bad_batch(&shared.name, cause))? {
                Split::Slices(ranges) => {
                    for range in ranges {
                        self.put(values_at(range.start), &data.slice(range.start, range.len()))?;
                    }
                }
                Split::Groups(groups) => {
                    for rows in groups {
                        let part = take_record_batch(&data, &rows).map_err(|cause| error::bad_batch(&shared.name, cause))?;
                        self.put(values_at(rows.value(0) as usize), &part)?;
                    }
                }
            }
        }
        self.rows_since_look += batch.num_rows();
        if self.rows_since_look >= LOOK_EVERY {
            self.rows_since_look = 0;
            self.relieve()?;
        }
        Ok(())
    }

    fn seal(mut self: Box<Self>) -> Result<Staged> {
        let open: Vec<Values> = self.open.keys().cloned().collect();
        for values in open {
            self.close(&values)?;
        }
        settle(&self.shared, std::mem::take(&mut self.syncs), &self.finished)?;
        let mut files = std::mem::take(&mut self.finished);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let payload = Payload { files };
        Ok(Staged {
            rows: payload.files.iter().map(|file| file.rows).sum(),
            bytes: payload.files.iter().map(|file| file.size).sum(),
            payload: serde_json::to_value(&payload).map_err(|cause| error::bad_payload(&self.shared.name, cause))?,
        })
    }
}

/// Waits until finished files are durable, and their names too.
pub(crate) fn settle(shared: &Shared, syncs: Vec<JoinHandle<io::Result<()>>>, files: &[FileEntry]) -> Result<()> {
    let failed = |cause: io::Error| error::write_failed(&shared.name, shared.place.url.as_str(), cause);
    shared
        .runtime
        .block_on(async {
            for sync in syncs {
                sync.await.map_err(io::Error::other)??;
            }
            Ok(())
        })
        .map_err(failed)?;
    if let (Some(root), false) = (&shared.place.local, files.is_empty()) {
        sync_folders(root, files.iter().map(|file| &file.path)).map_err(failed)?;
    }
    Ok(())
}
