//! An operator's snapshot on its way into files.

use arrow::array::RecordBatch;
use watershed_protocol::StateFile;
use watershed_types::{Error, Result};

use super::commit::retry;
use crate::checkpoint::{Checkpoint, StateOf, write_state};

/// A file is written when about so much of a state that does not fit in memory was gathered.
const FILE: usize = 64 << 20;

/// Gathers batches; of a state that is partly on disk it writes a file from time to time, so that the snapshot need not fit either.
pub struct Pieces<'a> {
    checkpoint: &'a Checkpoint,
    of: StateOf<'a>,
    piecewise: bool,
    /// Files that were written.
    pub files: Vec<StateFile>,
    /// What is not in a file yet.
    pub batches: Vec<RecordBatch>,
    bytes: usize,
    /// Rows, all in all.
    pub rows: u64,
    /// Why a file could not be written.
    failed: Option<Error>,
}

impl<'a> Pieces<'a> {
    /// Nothing yet; `piecewise` if files are to be written on the way.
    pub fn new(checkpoint: &'a Checkpoint, of: StateOf<'a>, piecewise: bool) -> Self {
        Self { checkpoint, of, piecewise, files: vec![], batches: vec![], bytes: 0, rows: 0, failed: None }
    }

    /// Takes a batch.
    pub fn take(&mut self, batch: RecordBatch) -> datafusion::common::Result<()> {
        self.rows += batch.num_rows() as u64;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        if !self.piecewise || self.bytes < FILE {
            return Ok(());
        }
        let of = StateOf { part: self.files.len(), ..self.of };
        match retry(|| write_state(self.checkpoint, of, &self.batches, None)) {
            Ok(file) => {
                self.files.extend(file);
                self.batches.clear();
                self.bytes = 0;
                Ok(())
            }
            Err(error) => {
                let stopped = datafusion::common::DataFusionError::Execution(error.to_string());
                self.failed = Some(error);
                Err(stopped)
            }
        }
    }

    /// Why a file could not be written, if that is why the snapshot failed.
    pub fn failure(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}
