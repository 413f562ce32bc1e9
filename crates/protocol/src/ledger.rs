//! The accounts: every row read has exactly one fate.

use serde::{Deserialize, Serialize};

/// The fates of the rows one table read from one input in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Rows that arrived.
    pub read: u64,
    /// Rows that reached the table, or were absorbed into a window or a join.
    pub delivered: u64,
    /// Rows the query or a `DROP` rule left out.
    pub filtered: u64,
    /// Repeats of a key.
    pub duplicate: u64,
    /// Rows behind their partition's watermark.
    pub late: u64,
    /// Rows put into quarantine for another reason than lateness.
    pub quarantined: u64,
    /// Records of the input that were gone before they could be read (retention, a topic made anew). Not among `read`: a gap.
    #[serde(default)]
    pub lost: u64,
}

impl Account {
    /// What all fates add up to.
    pub fn accounted(&self) -> u64 {
        self.delivered + self.filtered + self.duplicate + self.late + self.quarantined
    }
    /// `read = delivered + filtered + duplicate + late + quarantined`.
    pub fn balances(&self) -> bool {
        self.read == self.accounted()
    }
    /// Adds another account's figures.
    pub fn add(&mut self, other: &Account) {
        self.read += other.read;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.quarantined += other.quarantined;
        self.lost += other.lost;
    }
}

/// One line of `system.ledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The epoch.
    pub epoch: u64,
    /// The table.
    pub table_name: String,
    /// What it read: a source, another table, or `replay:<source>`.
    pub source: String,
    /// The figures.
    #[serde(flatten)]
    pub account: Account,
}
