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
    /// Makes sure that no older generation can commit any more, where the target itself can, and then says the last epoch
    /// it shows. Called once, when a run starts.
    fn claim(&self, generation: Generation) -> Result<Epoch> {
        let _ = generation;
        self.last_epoch()
    }
    /// Makes an epoch's rows visible, once. Errors say whether they are definite or indefinite.
    fn commit(&self, epoch: Epoch, generation: Generation, staged: &[Staged]) -> Result<CommitOutcome>;
    /// Housekeeping that never blocks or conflicts with writers (compaction, cleaning). Called between commits on
    /// a thread of its own.
    fn maintain(&self) -> Result<()> {
        Ok(())
    }
    /// What the last [`Sink::maintain`] found that a person should know, in a sentence.
    fn advice(&self) -> Option<String> {
        None
    }
}

/// Puts one epoch's rows aside.
pub trait SinkWriter: Send {
    /// Adds rows, in the order of the stream.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Makes everything written durable and says where it is.
    fn seal(self: Box<Self>) -> Result<Staged>;
}

/// An outside target that takes a whole epoch at once, in a transaction of its own.
///
/// The engine keeps the epoch's rows in the checkpoint store until they are delivered, so a target stages nothing: after a crash
/// it is handed the same rows again. All calls come from one thread at a time.
///
/// Guarantees asked for: `deliver` shows all rows of an epoch or none, and records the epoch in the same transaction;
/// for an epoch the target already holds it writes nothing and says so with the refusals recorded then.
/// Every error says whether the write surely failed or may have landed ([`watershed_types::Error::definite`] and its
/// kin); the engine calls again after either, so a target that lost the answer to its commit looks first.
pub trait Target: Send + Sync {
    /// The name in ledgers, metrics and errors: the sink's.
    fn name(&self) -> &str;
    /// Connects, makes or checks what it writes to, makes sure that no older generation can commit any more, and then says the
    /// last epoch the target shows ([`Epoch::ZERO`] if none).
    fn claim(&self, generation: Generation) -> Result<Epoch>;
    /// The last epoch the target shows. Changes nothing.
    fn last_epoch(&self) -> Result<Epoch>;
    /// Delivers an epoch's rows, in the order of the stream.
    fn deliver(&self, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered>;
    /// The epochs the target knows of this writer, for `watershed verify`. Changes nothing.
    fn history(&self) -> Result<History> {
        let last = self.last_epoch()?;
        let epochs = self.recount(last)?.map(|recount| (last.0, recount.rows)).into_iter().collect();
        Ok(History { epochs, complete: false, ..History::default() })
    }
    /// What the target can say about one epoch. `None` if it does not know the epoch (any more).
    fn recount(&self, epoch: Epoch) -> Result<Option<Recount>> {
        let _ = epoch;
        Ok(None)
    }
    /// Housekeeping between commits (`VACUUM`, `ANALYZE`), on a thread of its own.
    fn maintain(&self) -> Result<()> {
        Ok(())
    }
    /// What the last [`Target::maintain`] found that a person should know, in a sentence.
    fn advice(&self) -> Option<String> {
        None
    }
    /// Whether [`Target::redrive`] may be called while a run is at work.
    fn redrives_beside_a_run(&self) -> bool {
        false
    }
    /// Gives back epochs the target has lost, for `watershed verify --repair`: all of `lost` (rising) or none. An epoch that
    /// is there is left alone. Never takes the target from the run that owns it, and waits for a delivery under way.
    /// Where a later row of a key wins, the epochs after the first lost one are gone through again in the same
    /// transaction, so that no older value comes to stand over a newer one.
    fn redrive(&self, lost: &[Epoch], kept: &dyn KeptEpochs) -> Result<Redriven> {
        let _ = (lost, kept);
        Err(watershed_types::Error::invalid("RUN0030", format!("sink \"{}\" cannot be given an epoch again", self.name()))
            .hint("Restore the target from a backup, or read the rows again into a fresh project.")
            .definite())
    }
}

/// The rows of one epoch, in the order of the stream.
pub type EpochRows<'a> = Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>;

/// Epochs whose rows are still there, of one target.
pub trait KeptEpochs {
    /// An epoch's rows. An error if they are not kept any more, or are damaged.
    fn rows(&self, epoch: Epoch) -> Result<EpochRows<'_>>;
    /// The rows of it that the target refused when it took the epoch: they stay out. An error if that is not known.
    fn refused(&self, epoch: Epoch) -> Result<Vec<RefusedRow>>;
}

/// What a target was given again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Rows taken by each epoch that was lost.
    pub epochs: std::collections::BTreeMap<u64, u64>,
    /// Epochs that were there, and were gone through again for the sake of their keys.
    pub again: Vec<u64>,
}

/// What a target made of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// True if the target held the epoch before the call.
    pub already_there: bool,
    /// Rows the target does not take, whatever is tried: they go to the quarantine with its words.
    pub refused: Vec<RefusedRow>,
}

/// A row that a target refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its ordinal among the epoch's rows, from 0.
    pub row: u64,
    /// The target's words.
    pub detail: String,
}

/// What a target says it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Rows it took, by epoch; without those it refused.
    pub epochs: std::collections::BTreeMap<u64, u64>,
    /// True if it knows every epoch it ever took, not only the newest.
    pub complete: bool,
    /// Rows it holds now, where rows are only ever added.
    pub rows_now: Option<u64>,
    /// Older epochs that it knows only as a sum.
    pub folded: Folded,
}

/// Epochs that a target remembers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// The last of them; zero if there are none.
    pub up_to: u64,
    /// How many.
    pub epochs: u64,
    /// Their rows.
    pub rows: u64,
}

/// What a target says it took in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recount {
    /// Rows it took, before rows of one key were folded into the last of them.
    pub rows: u64,
}
