//! The epoch commit as pure decisions, and the shape of everything durable.
//!
//! **Owns** the paths, the files' formats and checksums, the ledger's arithmetic and the recovery verdict.
//! **Does not own** I/O: the engine reads and writes what is described here.
//!
//! ```text
//! committed(e-1) ─▶ ticks … ─▶ prepare(e): offsets/e.json, created once ─▶ each sink commits e ─▶ commits/e.json
//! ```
//!
//! * I1: epochs have no gaps: `offsets/e+1` is written only after `commits/e`.
//! * I2: `offsets/e` is created, never overwritten: of two owners that both prepare `e`, one wins.
//! * I3: everything a commit needs is in the manifest; recovery never runs a tick again to finish an epoch.
//! * I4: every file carries a checksum, in itself (JSON) or in the manifest that refers to it (state).

mod envelope;
mod lateness;
mod ledger;
mod manifest;
mod paths;
mod recovery;

pub use envelope::{checksum, damaged, open, seal};
pub use lateness::Lateness;
pub use ledger::{Account, LedgerRow};
pub use manifest::{Claim, CommitRecord, DeliveryRecord, FORMAT, Kept, Manifest, Metadata, OperatorState, Replayed, SinkReceipt, SourceProgress, StateFile, TickRecord};
pub use paths::Paths;
pub use recovery::{Found, Verdict, decide};
