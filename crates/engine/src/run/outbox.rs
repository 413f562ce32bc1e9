//! The outbox: an epoch's rows wait in the checkpoint store until an outside target has taken them.
//!
//! **Owns** staging for targets that cannot stage by themselves: rows as Arrow files beside the checkpoint, read back at the
//! commit, in this process or in the next one. **Does not own** the target's transaction.
//!
//! I1: the target is handed the same rows in the same order, however often the commit is tried.
//! I2: a file is removed only after its epoch's commit record is there, and the target has taken it; then it is kept for
//! some epochs more, for `watershed verify --repair`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use serde::{Deserialize, Serialize};
use watershed_ports::{CommitOutcome, Delivered, EpochRows, RefusedRow, Sink, SinkWriter, Staged, Target};
use watershed_protocol::{Paths, StateFile, checksum};
use watershed_types::{Epoch, Error, Generation, Result};

use crate::checkpoint::{Checkpoint, read_state};

/// A file is closed and a new one begun at about this size, so that a commit holds one of them in memory.
const FILE_BYTES: usize = 32 << 20;

/// A target with its place in the checkpoint store.
pub struct Outbox {
    target: Arc<dyn Target>,
    checkpoint: Checkpoint,
    generation: Generation,
    schema: SchemaRef,
}

/// What a writer leaves in the manifest.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payload {
    files: Vec<StateFile>,
}

/// A row the target refused, and the row itself as JSON.
pub struct Rejected {
    /// Which, and the target's words.
    pub row: RefusedRow,
    /// The row.
    pub json: String,
}

impl Outbox {
    /// Puts a target behind the store. `generation` is the run's own.
    pub fn new(target: Arc<dyn Target>, checkpoint: Checkpoint, generation: Generation, schema: SchemaRef) -> Self {
        Self { target, checkpoint, generation, schema }
    }

    /// Hands an epoch's rows to the target.
    pub fn deliver(&self, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<(CommitOutcome, Vec<Rejected>)> {
        let files = files(epoch, self.target.name(), staged)?;
        let mut rows = Reader { checkpoint: &self.checkpoint, files: files.clone().into_iter(), batches: Vec::new().into_iter() };
        let Delivered { already_there, refused } = self.target.deliver(epoch, generation, &mut rows)?;
        let outcome = if already_there { CommitOutcome::AlreadyThere } else { CommitOutcome::Committed };
        Ok((outcome, self.rejected(&files, refused)?))
    }

    /// Looks the refused rows up in the staged files.
    fn rejected(&self, files: &[StateFile], mut refused: Vec<RefusedRow>) -> Result<Vec<Rejected>> {
        refused.sort_by_key(|row| row.row);
        let mut found = Vec::with_capacity(refused.len());
        let mut refused = refused.into_iter().peekable();
        let mut first = 0;
        for file in files {
            if refused.peek().is_none() {
                break;
            }
            for batch in read_state(&self.checkpoint, file)? {
                let end = first + batch.num_rows() as u64;
                while let Some(row) = refused.next_if(|row| row.row < end) {
                    let json = crate::json::row_as_json(&batch, (row.row - first) as usize);
                    found.push(Rejected { row, json });
                }
                first = end;
            }
        }
        Ok(found)
    }
}

fn files(epoch: Epoch, sink: &str, staged: &[Staged]) -> Result<Vec<StateFile>> {
    let mut files = Vec::new();
    for part in staged {
        let payload: Payload = serde_json::from_value(part.payload.clone())
            .map_err(|e| Error::corrupt("RUN0010", format!("epoch {epoch}: what sink \"{sink}\" put aside cannot be read")).caused_by(e))?;
        files.extend(payload.files);
    }
    Ok(files)
}

/// The files in which an epoch's rows for a sink wait, or have waited. `None` if the epoch had none for it.
pub fn staged_files(checkpoint: &Checkpoint, epoch: Epoch, sink: &str) -> Result<Option<Vec<StateFile>>> {
    let gone = || {
        Error::invalid("RUN0030", format!("epoch {epoch} of sink \"{sink}\" is older than what is kept"))
            .hint("Restore the target from a backup, or read the rows again into a fresh project. [engine] keep_staged_epochs says how many epochs are kept.")
            .definite()
    };
    if epoch < checkpoint.kept_from()? || !checkpoint.history()?.prepared.contains(&epoch.0) {
        return Err(gone());
    }
    let manifest = checkpoint.manifest(epoch)?;
    manifest.staged.get(sink).map(|payloads| files(epoch, sink, &parts(epoch, sink, payloads)?)).transpose()
}

/// An epoch's rows for a sink, as they were staged; checked as they are read.
pub fn staged_rows<'a>(checkpoint: &'a Checkpoint, epoch: Epoch, sink: &str) -> Result<EpochRows<'a>> {
    let files = staged_files(checkpoint, epoch, sink)?.unwrap_or_default();
    Ok(Box::new(Reader { checkpoint, files: files.into_iter(), batches: Vec::new().into_iter() }))
}

/// What a manifest says that a sink's writers put aside.
pub fn parts(epoch: Epoch, sink: &str, payloads: &[serde_json::Value]) -> Result<Vec<Staged>> {
    let part = |payload: &serde_json::Value| {
        serde_json::from_value(payload.clone()).map_err(|e| Error::corrupt("RUN0010", format!("epoch {epoch}: what sink \"{sink}\" put aside cannot be read")).caused_by(e))
    };
    payloads.iter().map(part).collect()
}

/// The epoch's rows, a file in memory at a time.
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    files: std::vec::IntoIter<StateFile>,
    batches: std::vec::IntoIter<RecordBatch>,
}

impl Iterator for Reader<'_> {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.batches.next() {
                return Some(Ok(batch));
            }
            match read_state(self.checkpoint, &self.files.next()?) {
                Ok(batches) => self.batches = batches.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Sink for Outbox {
    fn name(&self) -> &str {
        self.target.name()
    }
    fn writer(&self, epoch: Epoch) -> Result<Box<dyn SinkWriter>> {
        let writer = OutboxWriter {
            checkpoint: self.checkpoint.clone(),
            epoch,
            generation: self.generation,
            sink: self.target.name().to_owned(),
            schema: Arc::clone(&self.schema),
            open: None,
            open_rows: 0,
            files: vec![],
        };
        Ok(Box::new(writer))
    }
    fn last_epoch(&self) -> Result<Epoch> {
        self.target.last_epoch()
    }
    fn claim(&self, generation: Generation) -> Result<Epoch> {
        self.target.claim(generation)
    }
    fn commit(&self, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        self.deliver(epoch, generation, staged).map(|(outcome, _)| outcome)
    }
    fn maintain(&self) -> Result<()> {
        self.target.maintain()
    }
    fn advice(&self) -> Option<String> {
        self.target.advice()
    }
}

struct OutboxWriter {
    checkpoint: Checkpoint,
    epoch: Epoch,
    generation: Generation,
    sink: String,
    schema: SchemaRef,
    open: Option<FileWriter<Vec<u8>>>,
    open_rows: u64,
    files: Vec<StateFile>,
}

impl OutboxWriter {
    fn fail(&self, error: arrow::error::ArrowError) -> Error {
        Error::internal("RUN0026", format!("rows for sink \"{}\" cannot be put aside", self.sink)).caused_by(error)
    }

    /// Makes the open file durable.
    fn close(&mut self) -> Result<()> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let bytes = writer.into_inner().map_err(|e| self.fail(e))?;
        let path = Paths::staged(self.epoch, self.generation, &self.sink, self.files.len());
        self.checkpoint.store.put(&path, &bytes)?;
        let rows = std::mem::take(&mut self.open_rows);
        self.files.push(StateFile { path, bytes: bytes.len() as u64, checksum: checksum(&bytes), rows, base: false, expires_at: None });
        Ok(())
    }
}

impl SinkWriter for OutboxWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            None => {
                let writer = FileWriter::try_new(Vec::new(), &self.schema).map_err(|e| self.fail(e))?;
                self.open.insert(writer)
            }
        };
        // Views keep the buffers they were cut from alive; a file must not carry those along.
        let batch = compact(batch);
        let written = writer.write(&batch);
        let full = writer.get_ref().len() >= FILE_BYTES;
        written.map_err(|e| self.fail(e))?;
        self.open_rows += batch.num_rows() as u64;
        if full { self.close() } else { Ok(()) }
    }

    fn seal(mut self: Box<Self>) -> Result<Staged> {
        self.close()?;
        let rows = self.files.iter().map(|file| file.rows).sum();
        let bytes = self.files.iter().map(|file| file.bytes).sum();
        let payload = serde_json::to_value(Payload { files: self.files }).map_err(|e| Error::internal("RUN0026", "staged files cannot be recorded").caused_by(e))?;
        Ok(Staged { rows, bytes, payload })
    }
}

/// Copies view columns into buffers of their own.
fn compact(batch: &RecordBatch) -> RecordBatch {
    use arrow::array::{Array, ArrayRef, AsArray};
    use arrow::datatypes::DataType;
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
            _ => Arc::clone(column),
        })
        .collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap_or_else(|_| batch.clone())
}
