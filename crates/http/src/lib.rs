//! `connector = 'http'`: an embedded durable log, fed by `POST /v1/ingest/{source}`, and the source that reads it.
//!
//! **Owns** the log's folder (segments, checksums, recovery, retention), the door (framing, limits, backpressure)
//! and the reader. **Does not own** the listener, the meaning of a record (a bad one is the pipeline's business), or
//! the positions of an epoch.
//!
//! I1: a request is acknowledged only after its bytes are on disk (write + fdatasync), and then completely.
//! I2: offsets of a partition have no gaps and no repeats; records of one request lie next to each other.
//! I3: a reader sees only what was acknowledged or is about to be: bytes behind a successful sync.
//! I4: damage is an error that names file and byte. Only a torn tail, which holds unacknowledged records, is cut.
//! I5: a segment that some reader has not committed is never deleted.
//!
//! ```text
//!  POST ─ body ─▶ queue ─▶ appender (one thread a partition) ─▶ write + sync ─▶ publish ─▶ answers
//!         split   bounded  group commit                         segment file     │
//!                                                                                └─▶ tail cache, wake ─▶ LogSource
//! ```
//!
//! Failure and recovery: a disk error rolls the segment back to its last good length and fails the whole group; the
//! next group tries again. After a crash [`Log::open`] scans the last segment and cuts a torn tail.

mod api;
mod appender;
mod body;
mod cache;
mod disk;
mod frame;
mod log;
mod options;
mod partition;
mod reader;
mod recover;
mod retention;
mod segment;
#[cfg(test)]
mod tests;
mod trouble;

pub use api::router;
pub use body::BodyKind;
pub use log::{Appended, AppendedPart, Log, PartitionInfo};
pub use options::HttpOptions;
pub use reader::LogSource;
