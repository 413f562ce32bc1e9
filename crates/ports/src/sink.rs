//! Where results go, exactly once.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use watershed_types::{Epoch, Generation, Result};

/// What a writer put aside for one epoch: enough for [`Sink::commit`] in this process or in the next one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Staged {
    /// Rows put aside.
    pub rows: u64,
    /// Bytes put aside.
    pub bytes: u64,
    /// What the sink needs to publish them; opaque to the engine, kept in the epoch's manifest.
    pub payload: serde_json::Value,
}

/// What a commit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The epoch's rows are visible now.
    Committed,
    /// They were visible before; nothing was written.
    AlreadyThere,
}

/// A transactional target of one table.
///
/// Protocol: `writer` → `write`… → `seal` (all durable, nothing visible) → the engine records the [`Staged`] in the
/// epoch's manifest → `commit`. After a crash the engine calls `commit` again with the same `Staged`.
/// `commit` is idempotent by (pipeline, sink, epoch). Staged rows whose epoch never reached a manifest stay invisible and are
/// removed by the sink's own housekeeping.
pub trait Sink: Send + Sync {
    /// The name in ledgers, metrics and errors.
    fn name(&self) -> &str;
    /// A writer for one epoch. Writers of one epoch may be used from several threads, one each.
    fn writer(&self, epoch: Epoch) -> Result<Box<dyn SinkWriter>>;
    /// The last epoch this sink shows, [`Epoch::ZERO`] if none.
    fn last_epoch(&self) -> Result<Epoch>;
    /// Makes an epoch's rows visible, once. Errors say whether they are definite or indefinite.
    fn commit(&self, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome>;
    /// Housekeeping that never blocks or conflicts with writers (compaction, cleaning). Called between commits on
    /// a thread of its own.
    fn maintain(&self) -> Result<()> {
        Ok(())
    }
}

/// Puts one epoch's rows aside.
pub trait SinkWriter: Send {
    /// Adds rows, in the order of the stream.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Makes everything written durable and says where it is.
    fn seal(self: Box<Self>) -> Result<Staged>;
}
