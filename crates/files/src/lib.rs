//! `connector = 'files'`: lines of files in a folder, a glob or a bucket, plain or compressed, finished or growing.
//!
//! **Owns** finding files, reading and decompressing them, and cutting their bytes at record borders.
//! **Does not own** decoding: what a line means is the engine's business.
//!
//! ```text
//! Pattern ─▶ Storage (local | object store) ─▶ Codec (plain | gzip | zstd) ─▶ Scanner ─▶ RawChunk
//!   which files     blocks of raw bytes            decoded stream          whole records
//! ```
//!
//! I1: a chunk holds whole records only, and a file's chunks in order are its bytes in order, none left out.
//! I2: a position is a byte of the *decoded* stream where a record starts; seeking there yields the same records.
//! I3: reading is linear: no byte is scanned for a line end more than once before its record is whole.
//! I4: a file that became shorter than what was read of it is an error, never a silent gap.
//!
//! Failure: an error leaves positions where they were; the next poll opens the file again and goes on.

mod codec;
mod gzip;
mod listing;
mod local;
mod options;
mod pattern;
mod remote;
mod scan;
mod source;
mod storage;
mod tracked;

pub use options::{CsvFraming, FilesOptions, Unterminated};
pub use source::FilesSource;
