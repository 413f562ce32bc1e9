//! State files: Arrow IPC, readable by any Arrow library.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use watershed_protocol::{Paths, StateFile, checksum};
use watershed_types::{Epoch, Error, Generation, Result};

use super::Checkpoint;

/// Where a snapshot, or a part of it, belongs.
#[derive(Debug, Clone, Copy)]
pub struct StateOf<'a> {
    /// The epoch it is of.
    pub epoch: Epoch,
    /// Who writes it.
    pub generation: Generation,
    /// The operator.
    pub operator: &'a str,
    /// How many files of the same snapshot came before.
    pub part: usize,
    /// True if it is the whole state, or a part of that.
    pub base: bool,
}

/// Writes an operator's snapshot; `None` if there is nothing in it.
pub fn write_state(checkpoint: &Checkpoint, of: StateOf<'_>, batches: &[RecordBatch], expires_at: Option<i64>) -> Result<Option<StateFile>> {
    if batches.is_empty() {
        return Ok(None);
    }
    let bytes = encode_state(of.operator, batches)?;
    let path = Paths::state_part(of.epoch, of.generation, of.operator, of.part);
    checkpoint.store.put(&path, &bytes)?;
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
    Ok(Some(StateFile { path, bytes: bytes.len() as u64, checksum: checksum(&bytes), rows, base: of.base, expires_at }))
}

/// A snapshot's bytes: the same for the same batches.
pub fn encode_state(operator: &str, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let fail = |e: arrow::error::ArrowError| Error::internal("CKPT0011", format!("state of \"{operator}\" cannot be written")).caused_by(e);
    let Some(first) = batches.first() else { return Ok(vec![]) };
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, &first.schema()).map_err(fail)?;
    for batch in batches {
        writer.write(batch).map_err(fail)?;
    }
    writer.finish().map_err(fail)?;
    drop(writer);
    Ok(bytes)
}

/// Reads a snapshot back, its checksum checked.
pub fn read_state(checkpoint: &Checkpoint, file: &StateFile) -> Result<Vec<RecordBatch>> {
    let bytes = checkpoint.state_bytes(file)?;
    let damaged = |e: arrow::error::ArrowError| Error::corrupt("CKPT0012", format!("checkpoint file \"{}\" is not a state file", file.path)).caused_by(e);
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(damaged)?;
    reader.collect::<std::result::Result<Vec<_>, _>>().map_err(damaged)
}
