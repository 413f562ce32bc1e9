//! The durable files: `metadata`, `generations/`, `offsets/`, `commits/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watershed_types::{Epoch, Generation, Positions};

use crate::LedgerRow;
use crate::lateness::Lateness;

/// The format of everything in a checkpoint folder. A newer one is refused, an older one is read for ever.
pub const FORMAT: u32 = 1;

/// `metadata.json`: what never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// [`FORMAT`] when the folder was made.
    pub format: u32,
    /// A random id: tells one project's history from another's.
    pub id: String,
    /// The project's name: the pipeline in sinks' transaction ids.
    pub pipeline: String,
    /// Into how many groups keys are hashed. Fixed for good.
    pub key_groups: u32,
    /// Microseconds since 1970.
    pub created_at: i64,
}

/// `generations/N.json`: who owns the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The generation claimed.
    pub generation: Generation,
    /// Process id and host, for people.
    pub owner: String,
    /// Microseconds since 1970.
    pub claimed_at: i64,
}

/// `offsets/e.json`: everything that is needed to finish epoch `e`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The project's name.
    pub pipeline: String,
    /// This epoch.
    pub epoch: Epoch,
    /// Who prepared it.
    pub generation: Generation,
    /// Microseconds since 1970.
    pub prepared_at: i64,
    /// The combined watermark, microseconds since 1970.
    pub watermark: Option<i64>,
    /// How far each source got, and what moved in this epoch.
    pub sources: BTreeMap<String, SourceProgress>,
    /// The ticks: what time each saw, and its rows.
    pub ticks: Vec<TickRecord>,
    /// What each sink put aside, opaque to us.
    pub staged: BTreeMap<String, Vec<serde_json::Value>>,
    /// The files that hold each operator's state as of this epoch, oldest first.
    pub state: BTreeMap<String, OperatorState>,
    /// The accounts of this epoch.
    pub ledger: Vec<LedgerRow>,
}

/// One source in a manifest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Positions that moved in this epoch. The whole set is in the state file of `source:<name>`.
    pub moved: Positions,
    /// Each partition's watermark, microseconds since 1970.
    pub watermarks: BTreeMap<String, i64>,
    /// The watermark of all its partitions together, microseconds since 1970.
    pub combined: Option<i64>,
    /// Records that were gone before they could be read, and that `on_data_loss = 'continue'` let pass.
    #[serde(default)]
    pub lost: u64,
    /// The partition that holds the combined watermark back.
    #[serde(default)]
    pub held_by: Option<String>,
    /// Partitions that do not hold it, for they are idle.
    #[serde(default)]
    pub idle: Vec<String>,
    /// Partitions that were not read, for they had run ahead of others.
    #[serde(default)]
    pub held: Vec<String>,
    /// How late its rows were, since the pipeline was made.
    #[serde(default)]
    pub lateness: Lateness,
}

/// One tick.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TickRecord {
    /// What `now()` said, microseconds since 1970.
    pub at: i64,
    /// Records it took.
    pub records: u64,
}

/// One operator's state as a chain of files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorState {
    /// A fingerprint of what the operator is: its state is reused only by an operator that says the same.
    pub fingerprint: String,
    /// Event time up to which results were emitted, microseconds since 1970.
    pub emitted_to: Option<i64>,
    /// A base and the changes after it.
    pub files: Vec<StateFile>,
}

/// One file of state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFile {
    /// Relative to the checkpoint folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its checksum, see [`crate::checksum`].
    pub checksum: String,
    /// Rows in it.
    pub rows: u64,
    /// True if it holds the whole state, so that what came before is not needed.
    pub base: bool,
    /// Once event time has passed this, nothing in it is needed.
    pub expires_at: Option<i64>,
}

/// `commits/e.json`: epoch `e` is complete everywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommitRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// Who completed it.
    pub generation: Generation,
    /// Microseconds since 1970.
    pub committed_at: i64,
    /// What each sink took.
    pub sinks: BTreeMap<String, SinkReceipt>,
    /// The accounts.
    pub ledger: Vec<LedgerRow>,
    /// Sinks that were behind when this was written, and the first epoch each still had to be given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behind: BTreeMap<String, Epoch>,
}

impl CommitRecord {
    /// Takes in what a sink took later. True if this record was waiting for it.
    pub fn hear(&mut self, delivery: &DeliveryRecord) -> bool {
        let Some(receipt) = self.sinks.get_mut(&delivery.sink).filter(|receipt| receipt.spooled && delivery.epoch == self.epoch) else { return false };
        *receipt = delivery.receipt.clone();
        self.ledger.extend(delivery.ledger.iter().cloned());
        true
    }
}

/// `deliveries/e-sink.json`: a sink took epoch `e` after its commit record was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// The sink.
    pub sink: String,
    /// Who delivered it.
    pub generation: Generation,
    /// Microseconds since 1970.
    pub delivered_at: i64,
    /// What it took.
    pub receipt: SinkReceipt,
    /// Its account.
    pub ledger: Vec<LedgerRow>,
}

/// `staged/kept.json`: rows of epochs before this one were cleared away, in order, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// [`FORMAT`].
    pub format: u32,
    /// The first epoch whose rows are kept.
    pub from: Epoch,
}

/// What one sink took in one epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkReceipt {
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
    /// True if recovery found them there already.
    pub already_there: bool,
    /// Rows the target refused; they are in the quarantine.
    #[serde(default)]
    pub refused: u64,
    /// True while the rows wait for a target that was away: rows and bytes say what waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spooled: bool,
}

/// A quarantined row that was sent round again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// The epoch that quarantined it.
    pub epoch: u64,
    /// The table that refused it.
    pub table_name: String,
    /// The source it came from.
    pub source: String,
    /// Its partition.
    pub partition: String,
    /// Its position.
    pub position: String,
    /// Its bytes, hexadecimal.
    pub raw: String,
}
