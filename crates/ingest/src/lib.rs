//! `connector = 'http'`: an embedded durable log, fed by `POST /v1/ingest/{source}`, and the source that reads it.
//!
//! **Owns** the log's folder (segments, checksums, recovery, retention), the door (framing, limits, backpressure)
//! and the reader. **Does not own** the listener, the meaning of a record (a bad one is the pipeline's business), or
//! the positions of an epoch.
//!
//! I1: a request is acknowledged only after its bytes are on disk (write + fdatasync), and then completely.
//! I2: offsets of a partition have no gaps and no repeats; records of one request lie next to each other.
//! I3: a reader sees only bytes behind a successful sync.
//! I4: damage is an error that names file and byte. Only a torn tail, which holds unacknowledged records, is cut.
//! I5: a segment that the reader has not committed is never deleted, nor is the newest one.
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
mod disk;
mod frame;
mod log;
mod options;
mod partition;
mod reader;
mod recover;
#[cfg(test)]
mod tests;
mod trouble;

pub use api::router;
pub use body::BodyKind;
pub use log::{Appended, Log};
pub use options::HttpOptions;
pub use reader::LogSource;
