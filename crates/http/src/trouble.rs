//! The errors of this crate, by code, in one place.
//!
//! **Owns** codes, messages and hints. **Does not own** HTTP statuses: see `api`.

use std::io;
use std::path::Path;

use watershed_types::{Error, Kind};

use crate::frame::FrameFault;

pub(crate) const BAD_ARRAY: &str = "HTTP0001";
pub(crate) const BODY_TOO_LARGE: &str = "HTTP0002";
pub(crate) const RECORD_TOO_LARGE: &str = "HTTP0003";
pub(crate) const BACKLOG: &str = "HTTP0004";
pub(crate) const DISK_FULL: &str = "HTTP0005";
pub(crate) const DISK_ERROR: &str = "HTTP0006";
pub(crate) const CLOSED: &str = "HTTP0007";
pub(crate) const UNKNOWN_SOURCE: &str = "HTTP0008";
pub(crate) const BAD_ENCODING: &str = "HTTP0009";
pub(crate) const UNSUPPORTED_ENCODING: &str = "HTTP0011";
pub(crate) const BAD_METHOD: &str = "HTTP0012";
pub(crate) const BAD_BODY: &str = "HTTP0013";
pub(crate) const PARTLY: &str = "HTTP0014";
pub(crate) const DAMAGED: &str = "HTTP0020";
pub(crate) const GAP: &str = "HTTP0021";
pub(crate) const LOCKED: &str = "HTTP0022";
pub(crate) const REMOVED: &str = "HTTP0023";
pub(crate) const PAST_END: &str = "HTTP0024";
pub(crate) const UNREADABLE: &str = "HTTP0025";

/// A frame that should be there is not what it should be.
pub(crate) fn damaged(log: &str, path: &Path, byte: u64, fault: FrameFault) -> Error {
    Error::corrupt(DAMAGED, format!("log \"{log}\" is damaged: file \"{}\", byte {byte}: {fault}", path.display()))
        .hint("Restore the file from a backup. Records before that byte are whole; nothing was skipped or deleted.")
}

/// Segments do not follow each other.
pub(crate) fn gap(log: &str, path: &Path, end: u64, next: u64) -> Error {
    Error::corrupt(GAP, format!("log \"{log}\" lacks the offsets {end} to {}: file \"{}\" ends at {end}, the next one starts at {next}", next.saturating_sub(1), path.display()))
        .hint(format!("Restore the missing segment {end:020}.log into the same folder."))
}

/// An operation on a file of the log failed while opening or reading it.
pub(crate) fn unreadable(log: &str, path: &Path, doing: &str, error: io::Error) -> Error {
    Error::unavailable(UNREADABLE, format!("log \"{log}\" cannot {doing} \"{}\": {error}", path.display()))
        .hint("Check that the disk is there and that this user may read and write the folder.")
        .caused_by(error)
}

/// A group of records could not be written. `rolled_back` says whether they are surely gone.
pub(crate) fn write_failed(log: &str, dir: &Path, error: &io::Error, rolled_back: bool) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let (code, hint) = match full {
        true => (DISK_FULL, "Free some space, then send the records again."),
        false => (DISK_ERROR, "Check the disk, then send the records again."),
    };
    let failed = Error::unavailable(code, format!("log \"{log}\" cannot write to folder \"{}\": {error}", dir.display())).hint(hint);
    match rolled_back {
        true => failed.definite(),
        false => failed.indefinite(),
    }
}

/// The log takes no more records.
pub(crate) fn closed(log: &str) -> Error {
    Error::unavailable(CLOSED, format!("log \"{log}\" is closed")).hint("Send the records again after the restart.").definite()
}

/// The appender went away with the request in its hands.
pub(crate) fn vanished(log: &str) -> Error {
    Error::new(Kind::Unavailable, CLOSED, format!("log \"{log}\" was closed before it answered")).hint("Read the log's end before sending the records again.").indefinite()
}
