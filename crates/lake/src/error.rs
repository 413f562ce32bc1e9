//! The errors of the lake, one constructor per code.
//!
//! **Owns** the codes `LAKE0001…` with their words and hints. **Does not own** the decision whether a write is definite:
//! the place that wrote adds it.

use std::error::Error as StdError;

use watershed_types::{Error, Kind};

type Cause = Box<dyn StdError + Send + Sync>;

/// LAKE0001: the root or a table's location cannot be used.
pub(crate) fn location(location: &str, cause: impl Into<Cause>) -> Error {
    Error::invalid("LAKE0001", format!("lake location \"{location}\" cannot be used"))
        .hint("Use a local path, a file:// URL, or an object-store URL such as s3://bucket/lake with its storage options.")
        .caused_by(cause)
}

/// LAKE0002: a column's type has no place in a Delta table.
pub(crate) fn unsupported_type(column: &str, data_type: &arrow::datatypes::DataType) -> Error {
    Error::invalid("LAKE0002", format!("column \"{column}\" has the type {data_type}, which a lake table cannot hold"))
        .hint(format!("Cast it in the query, for example CAST({column} AS VARCHAR)."))
}

/// LAKE0003: the query no longer fits the table.
pub(crate) fn incompatible(table: &str, what: impl std::fmt::Display, hint: impl Into<String>) -> Error {
    Error::invalid("LAKE0003", format!("table \"{table}\" exists and does not fit the query: {what}")).hint(hint)
}

/// LAKE0004: the log could not be read.
pub(crate) fn log_unreadable(table: &str, cause: impl Into<Cause>) -> Error {
    Error::unavailable("LAKE0004", format!("the log of table \"{table}\" cannot be read"))
        .hint("Check that the storage is reachable and _delta_log is readable; the run goes on from the last committed epoch.")
        .caused_by(cause)
}

/// LAKE0005: a data file could not be written.
pub(crate) fn write_failed(table: &str, path: &str, cause: impl Into<Cause>) -> Error {
    Error::unavailable("LAKE0005", format!("table \"{table}\": file \"{path}\" cannot be written"))
        .hint("Check free space and permissions of the lake; rows of an unfinished epoch are read again.")
        .caused_by(cause)
        .definite()
}

/// LAKE0006: a batch does not have the columns or values the table was opened for.
pub(crate) fn bad_batch(table: &str, what: impl std::fmt::Display) -> Error {
    Error::rejected("LAKE0006", format!("table \"{table}\": {what}")).hint("Correct or quarantine such rows in the query before they reach the table.").definite()
}

/// LAKE0007: a log entry could not be written.
pub(crate) fn commit_failed(table: &str, cause: impl Into<Cause>) -> Error {
    Error::unavailable("LAKE0007", format!("table \"{table}\": the log entry cannot be written"))
        .hint("Check free space, permissions and reachability of the lake; the commit is looked for before it is repeated.")
        .caused_by(cause)
}

/// LAKE0008: other writers kept winning.
pub(crate) fn contended(table: &str, tries: usize) -> Error {
    Error::conflict("LAKE0008", format!("table \"{table}\": other writers won {tries} times in a row")).hint("Stop other heavy writers of this table, then run again.").definite()
}

/// LAKE0009: what an epoch staged is gone or damaged.
pub(crate) fn staged_lost(table: &str, path: &str, what: impl std::fmt::Display) -> Error {
    Error::corrupt("LAKE0009", format!("table \"{table}\": staged file \"{path}\" {what}"))
        .hint("Bring the file back, or restore the checkpoint from before this epoch so that it is read again.")
        .definite()
}

/// LAKE0010: the staged payload is not ours.
pub(crate) fn bad_payload(table: &str, cause: impl Into<Cause>) -> Error {
    Error::new(Kind::Corrupt, "LAKE0010", format!("table \"{table}\": the staged payload of an epoch cannot be read"))
        .hint("Run the version of Watershed that staged it, or restore the checkpoint.")
        .caused_by(cause)
        .definite()
}

/// LAKE0011: a writer with needs we do not serve has changed the table.
pub(crate) fn unsupported_protocol(table: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid("LAKE0011", format!("table \"{table}\" needs {what}, which this writer does not keep"))
        .hint("Write to a table of another name, or drop that feature from the table.")
}

/// LAKE0012: a file of the table cannot be read.
pub(crate) fn file_unreadable(table: &str, path: &str, cause: impl Into<Cause>) -> Error {
    Error::corrupt("LAKE0012", format!("table \"{table}\": file \"{path}\" cannot be read"))
        .hint("Run watershed verify to see the extent; restore the file from a backup.")
        .caused_by(cause)
}

/// LAKE0013: housekeeping would have changed the rows; it was given up.
pub(crate) fn rows_differ(table: &str, expected: u64, found: u64) -> Error {
    Error::corrupt("LAKE0013", format!("table \"{table}\": compaction read {found} rows where the log says {expected}; nothing was changed"))
        .hint("Run watershed verify --deep on the table.")
        .definite()
}

/// LAKE0014: an option's text is not understood.
pub(crate) fn bad_option(what: impl std::fmt::Display, hint: impl Into<String>) -> Error {
    Error::invalid("LAKE0014", what.to_string()).hint(hint)
}
