//! One epoch on its way to an outside target.
//!
//! **Owns** the order: the target, then the quarantine for what it refused, then the account. **Does not own** when, or how
//! often it is tried: that is the commit's, or the spool's.

use std::sync::Arc;

use watershed_ports::{Clock, CommitOutcome, Sink, Staged};
use watershed_protocol::{Account, LedgerRow, SinkReceipt};
use watershed_types::{Epoch, Generation, Result};

use super::commit::retry;
use super::outbox::{Outbox, Rejected};
use super::quarantine;

/// An outside target, and where rows it refuses are kept.
pub struct Outside {
    /// The target behind the store.
    pub outbox: Arc<Outbox>,
    /// The quarantine, under a name of the sink's own.
    pub quarantine: Arc<dyn Sink>,
    /// The table it follows.
    pub table: String,
}

/// What became of it.
pub struct Landed {
    /// For the commit record, or the delivery record.
    pub receipt: SinkReceipt,
    /// Its account.
    pub row: LedgerRow,
}

impl Outside {
    /// Puts refused rows away, and makes out receipt and account.
    pub fn settle(&self, epoch: Epoch, generation: Generation, parts: &[Staged], clock: &dyn Clock, outcome: CommitOutcome, refused: &[Rejected]) -> Result<Landed> {
        if !refused.is_empty() {
            let rows = quarantine::refused_by_sink(epoch, self.outbox.name(), &self.table, clock.now_micros(), refused)?;
            // Asked again after a crash, the target refuses the same rows, and the quarantine knows the epoch.
            retry(|| {
                let mut writer = self.quarantine.writer(epoch)?;
                writer.write(&rows)?;
                let staged = writer.seal()?;
                self.quarantine.commit(epoch, generation, &[staged])
            })?;
        }
        let quarantined = refused.len() as u64;
        let mut receipt = waiting(parts);
        (receipt.spooled, receipt.refused, receipt.already_there) = (false, quarantined, outcome == CommitOutcome::AlreadyThere);
        let account = Account { read: receipt.rows, delivered: receipt.rows - quarantined, quarantined, ..Account::default() };
        let row = LedgerRow { epoch: epoch.0, table_name: self.outbox.name().to_owned(), source: self.table.clone(), account };
        Ok(Landed { receipt, row })
    }
}

/// The receipt of rows that wait.
pub fn waiting(parts: &[Staged]) -> SinkReceipt {
    SinkReceipt { rows: parts.iter().map(|part| part.rows).sum(), bytes: parts.iter().map(|part| part.bytes).sum(), spooled: true, ..SinkReceipt::default() }
}
