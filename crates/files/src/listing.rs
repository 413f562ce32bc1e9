//! What a look at a folder or bucket found, and how trouble on the way is named.

use std::io;

use watershed_types::{Error, Kind};

/// One file that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the listing root, `/` between folders. The stretch of its positions.
    pub(crate) name: String,
    /// Raw bytes.
    pub(crate) size: u64,
}

/// Everything there is now.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    /// Conditions a person should know of.
    pub(crate) notices: Vec<String>,
}

/// An I/O error while doing something to a named file or folder.
pub(crate) fn io_error(doing: &str, name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::denied("FILE0003", format!("not allowed to {doing} \"{name}\"")).hint("Give the user that runs this process the right to read it.")
        }
        _ => Error::unavailable("FILE0004", format!("cannot {doing} \"{name}\"")).hint("Check that the disk or mount is healthy; reading goes on from the same place."),
    }
    .caused_by(error)
}

/// An object store's error while doing something to a named object.
pub(crate) fn store_error(doing: &str, name: &str, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    let (kind, code, hint) = match &error {
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
            (Kind::Denied, "FILE0003", "Check the keys in the source's options (aws_access_key_id, …) and their rights.")
        }
        Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => (Kind::Invalid, "FILE0005", "Check the URL in option \"path\"."),
        _ => (Kind::Unavailable, "FILE0004", "Check the endpoint and the network; reading goes on from the same place."),
    };
    Error::new(kind, code, format!("cannot {doing} \"{name}\"")).hint(hint).caused_by(error)
}
