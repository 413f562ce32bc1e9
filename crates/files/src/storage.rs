//! One face for disk and bucket: list, look, open, read.

use std::fs::File;

use tokio::runtime::Handle;
use watershed_types::Result;

use crate::listing::{Listing, io_error};
use crate::local::{self, LocalStorage};
use crate::options::Location;
use crate::remote::{RemoteReader, RemoteStorage};

/// Where a source's files are.
pub(crate) enum Storage {
    Local(LocalStorage),
    Remote(RemoteStorage),
}

impl Storage {
    pub(crate) fn open_location(location: &Location, runtime: Handle) -> Result<Self> {
        Ok(match location {
            Location::Local(path) => Storage::Local(LocalStorage::new(path.clone())?),
            Location::Url { url, settings } => Storage::Remote(RemoteStorage::new(url, settings, runtime)?),
        })
    }

    /// All files there are now, in name order.
    pub(crate) fn list(&mut self) -> Result<Listing> {
        let mut listing = match self {
            Storage::Local(local) => local.list()?,
            Storage::Remote(remote) => remote.list()?,
        };
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// A look at one file is cheap enough to be done every few milliseconds.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Storage::Local(_))
    }

    /// Raw bytes now, `None` if the file is gone.
    pub(crate) fn size(&self, name: &str) -> Result<Option<u64>> {
        match self {
            Storage::Local(local) => local.size(name),
            Storage::Remote(remote) => remote.size(name),
        }
    }

    /// A reader of raw bytes `[offset, end)`; `None` if the file is gone.
    pub(crate) fn open(&self, name: &str, offset: u64, end: u64) -> Result<Option<BlockReader>> {
        Ok(match self {
            Storage::Local(local) => local.open(name, offset)?.map(|file| BlockReader::Local { file, name: name.to_owned() }),
            Storage::Remote(remote) => Some(BlockReader::Remote(remote.open(name, offset, end))),
        })
    }
}

/// Raw bytes in order.
pub(crate) enum BlockReader {
    Local { file: File, name: String },
    Remote(RemoteReader),
}

impl BlockReader {
    /// Appends up to `limit` bytes; 0 if there are no more at the moment.
    pub(crate) fn read_block(&mut self, limit: usize, into: &mut Vec<u8>) -> Result<usize> {
        match self {
            BlockReader::Local { file, name } => local::read_block(file, limit, into).map_err(|error| io_error("read the file", name, error)),
            BlockReader::Remote(remote) => remote.read_block(limit, into),
        }
    }
}
