//! Files in an object store, read by ranges ahead of the reader.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use url::Url;
use watershed_types::{Error, Result};

use crate::listing::{Entry, Listing, store_error};
use crate::pattern::{NamePattern, is_skipped, split_at_wildcard};

/// One ranged GET.
const RANGE: u64 = 4 << 20;
/// GETs under way at once; with the channel this bounds a reader's memory.
const AHEAD: usize = 4;

/// A prefix of a bucket.
pub(crate) struct RemoteStorage {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: StorePath,
    pattern: Option<NamePattern>,
    /// The prefix names one object, whose name is its last part.
    single: bool,
    runtime: Handle,
}

impl RemoteStorage {
    pub(crate) fn new(url: &str, settings: &[(String, String)], runtime: Handle) -> Result<Self> {
        let (base, rest) = split_at_wildcard(url);
        let invalid = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::invalid("FILE0005", format!("cannot use the URL \"{url}\""))
                .hint("Supported: s3://bucket/…, http(s)://…, file:///…; wildcards only after the bucket.")
                .caused_by(error)
        };
        let parsed = Url::parse(base).map_err(|error| invalid(error.into()))?;
        let (store, prefix) = object_store::parse_url_opts(&parsed, settings.iter().map(|(k, v)| (k, v.clone()))).map_err(|e| invalid(e.into()))?;
        Self::with_store(url, store.into(), prefix, rest, runtime)
    }

    pub(crate) fn with_store(url: &str, store: Arc<dyn ObjectStore>, prefix: StorePath, rest: Option<&str>, runtime: Handle) -> Result<Self> {
        let pattern = rest.filter(|rest| !rest.is_empty()).map(NamePattern::parse).transpose()?;
        Ok(Self { url: url.to_owned(), store, prefix, pattern, single: false, runtime })
    }

    pub(crate) fn list(&mut self) -> Result<Listing> {
        let mut listing = Listing::default();
        if self.pattern.is_none() && !self.url.ends_with('/') {
            match self.runtime.block_on(self.store.head(&self.prefix)) {
                Ok(found) => {
                    self.single = true;
                    let name = self.prefix.filename().unwrap_or_default().to_owned();
                    listing.entries.push(Entry { name, size: found.size });
                    return Ok(listing);
                }
                Err(object_store::Error::NotFound { .. }) => self.single = false,
                // A folder of a local disk is no object; listing tells.
                Err(_) if self.url.starts_with("file:") => self.single = false,
                Err(error) => return Err(store_error("look at", &self.url, error)),
            }
        }
        let found: Vec<_> = match self.runtime.block_on(self.store.list(Some(&self.prefix)).try_collect()) {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(store_error("list", &self.url, error)),
        };
        for object in found {
            let Some(parts) = object.location.prefix_match(&self.prefix) else { continue };
            let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            let meant = !name.is_empty() && !is_skipped(&name) && self.pattern.as_ref().is_none_or(|p| p.matches(&name));
            if meant {
                listing.entries.push(Entry { name, size: object.size });
            }
        }
        if listing.entries.is_empty() {
            listing.notices.push(format!("no file matches \"{}\" (yet); waiting for one", self.url));
        }
        Ok(listing)
    }

    fn location(&self, name: &str) -> StorePath {
        if self.single {
            return self.prefix.clone();
        }
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// The object's size now, `None` if it is gone.
    pub(crate) fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(&self.location(name))) {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("look at", name, error)),
        }
    }

    /// Starts fetching `[offset, end)` in the background.
    pub(crate) fn open(&self, name: &str, offset: u64, end: u64) -> RemoteReader {
        let (send, receive) = mpsc::channel(1);
        let store = Arc::clone(&self.store);
        let location = self.location(name);
        self.runtime.spawn(async move {
            let starts = (offset..end).step_by(RANGE as usize);
            let mut blocks = futures::stream::iter(starts)
                .map(|start| {
                    let range = start..(start + RANGE).min(end);
                    let (store, location) = (&store, &location);
                    async move { store.get_range(location, range).await }
                })
                .buffered(AHEAD);
            while let Some(block) = blocks.next().await {
                let failed = block.is_err();
                // A reader that was dropped has closed the channel; nothing is left to do then.
                if send.send(block).await.is_err() || failed {
                    break;
                }
            }
        });
        RemoteReader { name: name.to_owned(), receive, block: Bytes::new(), runtime: self.runtime.clone() }
    }
}

/// The receiving end of a background fetch.
pub(crate) struct RemoteReader {
    name: String,
    receive: mpsc::Receiver<object_store::Result<Bytes>>,
    block: Bytes,
    runtime: Handle,
}

impl RemoteReader {
    /// Appends up to `limit` bytes; 0 at the end of the range or if the object is gone.
    pub(crate) fn read_block(&mut self, limit: usize, into: &mut Vec<u8>) -> Result<usize> {
        if self.block.is_empty() {
            match self.runtime.block_on(self.receive.recv()) {
                None | Some(Err(object_store::Error::NotFound { .. })) => return Ok(0),
                Some(Ok(block)) => self.block = block,
                Some(Err(error)) => return Err(store_error("read", &self.name, error)),
            }
        }
        let taken = self.block.split_to(limit.min(self.block.len()));
        into.extend_from_slice(&taken);
        Ok(taken.len())
    }
}
