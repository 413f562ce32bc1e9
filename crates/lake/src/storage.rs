//! Where a table lives, and how bytes get there durably.
//!
//! **Owns** locations (path or URL), the object store behind them, files being written, the conditional put of a log entry.
//! **Does not own** what is in the files or in the log.
//!
//! I1: when [`Output::finish`] and the syncs it hands back are done, the file survives a power cut.
//! I2: [`Place::put_entry`] creates a log entry or says that it exists; it never replaces one, and never leaves half a one.
//!
//! Failure: a local put that fails before the link surely did not happen; any other failure may have.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore};
use object_store::buffered::BufWriter;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStoreExt, ObjectStoreScheme};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;
use watershed_types::{Certainty, Result};

use crate::error;

/// Memory roots are shared by the whole process, so that a table can be found again by its URL.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Default::default);

/// A table's location.
#[derive(Clone)]
pub(crate) struct Place {
    /// Always ends with a slash.
    pub url: Url,
    /// The folder, where the location is one of this machine.
    pub local: Option<PathBuf>,
    pub log: LogStoreRef,
}

/// What became of a conditional put.
pub(crate) enum Put {
    Done,
    Exists,
}

/// A location as a URL that ends with a slash.
pub(crate) fn directory_url(location: &str) -> Result<Url> {
    if location.contains("://") {
        let mut url = Url::parse(location).map_err(|cause| error::location(location, cause))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        return Ok(url);
    }
    let path = std::path::absolute(location).map_err(|cause| error::location(location, cause))?;
    Url::from_directory_path(&path).map_err(|()| error::location(location, "it is not an absolute path"))
}

/// The store that holds `url`, rooted at its bucket or file system, and the path of `url` in it.
pub(crate) fn root_store(url: &Url, storage: &HashMap<String, String>) -> Result<(ObjectStoreRef, Path)> {
    let failed = |cause: object_store::Error| error::location(url.as_str(), cause);
    if url.scheme() == "memory" {
        let path = Path::from_url_path(url.path()).map_err(|cause| error::location(url.as_str(), cause))?;
        let key = url.host_str().unwrap_or_default().to_owned();
        let mut stores = MEMORY.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        return Ok((stores.entry(key).or_default().clone(), path));
    }
    ObjectStoreScheme::parse(url).map_err(|cause| error::location(url.as_str(), cause))?;
    let (store, path) = object_store::parse_url_opts(url, storage).map_err(failed)?;
    Ok((Arc::from(store), path))
}

impl Place {
    pub(crate) fn open(url: Url, storage: &HashMap<String, String>) -> Result<Self> {
        let (root, path) = root_store(&url, storage)?;
        let prefixed: ObjectStoreRef = Arc::new(PrefixStore::new(root.clone(), path));
        let local = match url.scheme() {
            "file" => Some(url.to_file_path().map_err(|()| error::location(url.as_str(), "it is not a path of this machine"))?),
            _ => None,
        };
        let log = default_logstore(prefixed, root, &url, &StorageConfig::default());
        Ok(Self { url, local, log })
    }

    /// The store rooted at the table.
    pub(crate) fn store(&self) -> ObjectStoreRef {
        self.log.object_store(None)
    }

    /// A file's path in the store.
    pub(crate) fn object_path(relative: &str) -> Path {
        Path::parse(relative).unwrap_or_else(|_| Path::from(relative))
    }

    /// A file's size, `None` if it is not there.
    pub(crate) async fn size_of(&self, relative: &str) -> io::Result<Option<u64>> {
        if let Some(root) = &self.local {
            return match fs::metadata(root.join(relative)) {
                Ok(meta) => Ok(Some(meta.len())),
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(other) => Err(other),
            };
        }
        match self.store().head(&Self::object_path(relative)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(io::Error::other(other)),
        }
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) async fn remove(&self, relative: &str) -> io::Result<()> {
        if let Some(root) = &self.local {
            return match fs::remove_file(root.join(relative)) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        match self.store().delete(&Self::object_path(relative)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(other) => Err(io::Error::other(other)),
        }
    }

    /// Creates the log entry of `version` unless there is one (I2). An error comes with how sure it is.
    pub(crate) async fn put_entry(&self, version: u64, entry: Bytes) -> Result<Put, (Certainty, io::Error)> {
        if let Some(root) = &self.local {
            return put_local(root, version, &entry);
        }
        match self.log.write_commit_entry(version, CommitOrBytes::LogBytes(entry), Uuid::new_v4()).await {
            Ok(()) => Ok(Put::Done),
            Err(TransactionError::VersionAlreadyExists(_)) => Ok(Put::Exists),
            Err(other) => Err((Certainty::Indefinite, io::Error::other(other))),
        }
    }
}

fn put_local(root: &FsPath, version: u64, entry: &[u8]) -> Result<Put, (Certainty, io::Error)> {
    let folder = root.join("_delta_log");
    let target = folder.join(format!("{version:020}.json"));
    if target.exists() {
        return Ok(Put::Exists);
    }
    let draft = folder.join(format!("_commit_{}.json.tmp", Uuid::new_v4()));
    let write = || -> io::Result<()> {
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            sync_folders(root, [String::from("_delta_log/x")].iter())?;
        }
        let mut file = File::create(&draft)?;
        file.write_all(entry)?;
        file.sync_data()
    };
    if let Err(failed) = write() {
        let _ = fs::remove_file(&draft);
        return Err((Certainty::Definite, failed));
    }
    // SUBTLE: a rename would replace another writer's entry; a link fails if the name is taken.
    let linked = fs::hard_link(&draft, &target);
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => sync_folder(&folder).map(|()| Put::Done).map_err(|failed| (Certainty::Indefinite, failed)),
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
        Err(failed) => Err((Certainty::Definite, failed)),
    }
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the names of these files durable: every folder from the file up to the one that holds `root`.
pub(crate) fn sync_folders<'a>(root: &FsPath, files: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        let mut at = FsPath::new(file).parent();
        while let Some(folder) = at {
            if !folders.insert(root.join(folder)) {
                break;
            }
            at = folder.parent();
        }
    }
    folders.insert(root.to_owned());
    for above in root.ancestors().skip(1).take(2) {
        folders.insert(above.to_owned());
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

/// A data file being written.
pub(crate) enum Output {
    Local { file: File },
    Remote { upload: Box<BufWriter>, pending: Vec<u8>, runtime: Handle },
    Ended,
}

const UPLOAD_CHUNK: usize = 1 << 20;

impl Output {
    pub(crate) fn create(place: &Place, runtime: &Handle, relative: &str) -> io::Result<Self> {
        let Some(root) = &place.local else {
            let upload = BufWriter::with_capacity(place.store(), Place::object_path(relative), 8 << 20);
            return Ok(Self::Remote { upload: Box::new(upload), pending: Vec::new(), runtime: runtime.clone() });
        };
        let path = root.join(relative);
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                create()?
            }
            other => other?,
        };
        Ok(Self::Local { file })
    }

    /// Starts making durable what was written so far.
    pub(crate) fn sync_early(&self, runtime: &Handle) -> Option<JoinHandle<io::Result<()>>> {
        let Self::Local { file } = self else { return None };
        let file = file.try_clone().ok()?;
        Some(runtime.spawn_blocking(move || file.sync_data()))
    }

    /// Ends the file. A local file still has to be synced: the caller does it beside its next work.
    pub(crate) fn finish(&mut self) -> io::Result<Option<File>> {
        match std::mem::replace(self, Self::Ended) {
            Self::Ended => Ok(None),
            Self::Local { file } => Ok(Some(file)),
            Self::Remote { mut upload, pending, runtime } => runtime.block_on(async move {
                if !pending.is_empty() {
                    upload.put(Bytes::from(pending)).await.map_err(io::Error::other)?;
                }
                upload.shutdown().await?;
                Ok(None)
            }),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local { file } => file.write(bytes),
            Self::Remote { upload, pending, runtime } => {
                pending.extend_from_slice(bytes);
                if pending.len() >= UPLOAD_CHUNK {
                    let chunk = Bytes::from(std::mem::take(pending));
                    runtime.block_on(upload.put(chunk)).map_err(io::Error::other)?;
                }
                Ok(bytes.len())
            }
            Self::Ended => Err(io::Error::other("the file has ended")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
