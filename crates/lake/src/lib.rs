//! Delta tables by zone, each epoch in them exactly once.
//!
//! **Owns** tables under one root: their files, their logs, their housekeeping. **Does not own** when an epoch commits,
//! nor what queries run; the engine calls, from threads of its own, and everything here blocks.
//!
//! I1: an epoch's rows are in the table once or not at all, whatever crashes, repeats or races ([`LakeTable`] keeps the
//! epoch in the log's `txn`).
//! I2: nothing is visible before its commit, and everything a commit names was durable before it.
//! I3: the cost of writing and committing does not grow with the table.
//! I4: housekeeping rearranges and cleans; it never changes rows, never blocks a commit, and never removes a file that an
//! epoch not yet committed may still name.
//!
//! ```text
//! <root>/<folder>/<name>/                       folder: bronze, silver, gold, system
//!     _delta_log/00000000000000000012.json      commitInfo · add … · txn(app id, epoch)
//!     year=2026/month=11/part-000000000012-<uuid>.parquet
//! ```
//!
//! Failure and recovery: rows staged for an epoch that never commits are files no log entry names; `vacuum` removes them.
//! A commit whose fate is unknown is looked up in the log before anything is repeated.
//!
//! The runtime handed in must be a multi-threaded one, and calls must not come from its worker threads.

mod commit;
mod compact;
mod error;
mod head;
mod lake;
mod partition;
mod properties;
mod provider;
mod rollback;
mod schema;
mod stats;
mod storage;
mod table;
mod upsert;
mod vacuum;
mod verify;
mod writer;

pub use compact::Compacted;
pub use lake::{ExistingTable, Lake, LakeOptions, TableSpec};
pub use properties::Compression;
pub use provider::{table_provider, table_provider_as_of};
pub use rollback::{RolledBack, Written, roll_back, writers, written};
pub use table::LakeTable;
pub use vacuum::Vacuumed;
pub use verify::RowCounts;
