//! Files of a checkpoint: a folder on local disk, or a prefix in an object store.
//!
//! I1: a file is there whole or not at all. I2: of two that create one path, one wins.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;
use watershed_types::{Error, Result};

/// Where checkpoint files are kept.
#[derive(Clone)]
pub enum Store {
    /// A folder.
    Local(PathBuf),
    /// A prefix in an object store.
    Remote {
        /// The store.
        store: Arc<dyn ObjectStore>,
        /// The prefix.
        prefix: ObjectPath,
        /// What its calls run on.
        runtime: Handle,
    },
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "Free some space; the pipeline goes on from its last epoch.",
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => "Make the folder writable for this user, or set [storage] checkpoints to another place.",
        _ => "Look at the disk; the pipeline goes on from its last epoch.",
    };
    Error::unavailable("CKPT0003", format!("cannot {what} \"{}\"", path.display())).hint(hint).definite().caused_by(error)
}

fn remote_error(what: &str, path: &str, error: object_store::Error) -> Error {
    Error::unavailable("CKPT0004", format!("cannot {what} \"{path}\" in the checkpoint store")).hint("Check the store and its credentials.").indefinite().caused_by(error)
}

impl Store {
    /// Opens a folder or an object-store URL. A relative path is taken from `base`.
    pub fn open(location: &str, base: &Path, runtime: &Handle) -> Result<Store> {
        if let Ok(url) = url::Url::parse(location)
            && location.contains("://")
            && url.scheme() != "file"
        {
            let options = std::env::vars().filter(|(key, _)| key.starts_with("AWS_")).map(|(key, value)| (key.to_ascii_lowercase(), value));
            let (store, prefix) =
                object_store::parse_url_opts(&url, options).map_err(|e| Error::invalid("CKPT0005", format!("\"{location}\" is not a usable checkpoint location")).caused_by(e))?;
            return Ok(Store::Remote { store: Arc::from(store), prefix, runtime: runtime.clone() });
        }
        Ok(Store::Local(base.join(location.strip_prefix("file://").unwrap_or(location))))
    }

    /// True for a folder on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Store::Local(_))
    }

    /// Where it is, for people.
    pub fn describe(&self, path: &str) -> String {
        match self {
            Store::Local(root) => root.join(path).display().to_string(),
            Store::Remote { prefix, .. } => format!("{prefix}/{path}"),
        }
    }

    /// A folder in it, as a place of its own.
    pub fn below(&self, folder: &str) -> Store {
        match self {
            Store::Local(root) => Store::Local(root.join(folder)),
            Store::Remote { store, prefix, runtime } => Store::Remote { store: Arc::clone(store), prefix: join(prefix, folder), runtime: runtime.clone() },
        }
    }

    /// A place next to it, named after it.
    pub fn beside(&self, suffix: &str) -> Store {
        match self {
            Store::Local(root) => Store::Local(root.with_file_name(format!("{}.{suffix}", root.file_name().unwrap_or_default().to_string_lossy()))),
            Store::Remote { store, prefix, runtime } => {
                Store::Remote { store: Arc::clone(store), prefix: ObjectPath::from(format!("{prefix}.{suffix}")), runtime: runtime.clone() }
            }
        }
    }

    /// A file's bytes, `None` if there is none.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Store::Local(root) => match fs::read(root.join(path)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io_error("read", &root.join(path), error)),
            },
            Store::Remote { store, prefix, runtime } => wait(runtime, async {
                match store.get(&join(prefix, path)).await {
                    Ok(found) => Ok(Some(found.bytes().await.map_err(|e| remote_error("read", path, e))?.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(remote_error("read", path, error)),
                }
            }),
        }
    }

    /// Reads a file for those who look at what is broken: the inner error is of this one file, and says why it cannot be read.
    /// Errors: that of a store that does not answer, or lets nobody in; then nothing can be said of its files.
    pub fn read(&self, path: &str) -> Result<Option<std::result::Result<Vec<u8>, String>>> {
        let Store::Local(root) = self else { return Ok(self.get(path)?.map(Ok)) };
        match fs::read(root.join(path)) {
            Ok(bytes) => Ok(Some(Ok(bytes))),
            Err(error) => match error.kind() {
                ErrorKind::NotFound if root.join(path).is_symlink() => Ok(Some(Err("it is a link to a file that is not there".to_owned()))),
                ErrorKind::NotFound => Ok(None),
                ErrorKind::PermissionDenied => Err(io_error("read", &root.join(path), error)),
                _ => Ok(Some(Err(format!("it cannot be read: {error}")))),
            },
        }
    }

    /// Writes a file unless it is there; true if it was written. Durable when it returns.
    pub fn create(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        match self {
            Store::Local(root) => {
                let target = root.join(path);
                let temporary = write_temporary(&target, bytes)?;
                let linked = fs::hard_link(&temporary, &target);
                let _ = fs::remove_file(&temporary);
                match linked {
                    Ok(()) => {
                        sync_folder(&target)?;
                        Ok(true)
                    }
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                    Err(error) => Err(io_error("write", &target, error)),
                }
            }
            Store::Remote { store, prefix, runtime } => wait(runtime, async {
                let options = PutOptions::from(PutMode::Create);
                match store.put_opts(&join(prefix, path), bytes.to_vec().into(), options).await {
                    Ok(_) => Ok(true),
                    Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
                    Err(error) => Err(remote_error("write", path, error)),
                }
            }),
        }
    }

    /// Writes a file, whether it is there or not. Durable when it returns.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Store::Local(root) => {
                let target = root.join(path);
                let temporary = write_temporary(&target, bytes)?;
                fs::rename(&temporary, &target).map_err(|e| io_error("write", &target, e))?;
                sync_folder(&target)
            }
            Store::Remote { store, prefix, runtime } => {
                wait(runtime, async { store.put(&join(prefix, path), bytes.to_vec().into()).await.map(|_| ()).map_err(|e| remote_error("write", path, e)) })
            }
        }
    }

    /// File names in a folder, sorted. A folder that is not there is empty.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Store::Local(root) => {
                let folder = root.join(folder);
                let entries = match fs::read_dir(&folder) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
                    Err(error) => return Err(io_error("list", &folder, error)),
                };
                for entry in entries {
                    let entry = entry.map_err(|e| io_error("list", &folder, e))?;
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if !name.starts_with('.') {
                        names.push(name);
                    }
                }
            }
            Store::Remote { store, prefix, runtime } => {
                let at = join(prefix, folder);
                let found: Vec<_> = wait(runtime, store.list(Some(&at)).try_collect()).map_err(|e| remote_error("list", folder, e))?;
                names.extend(found.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)));
            }
        }
        names.sort();
        Ok(names)
    }

    /// File names in a folder with their sizes, sorted. A folder that is not there is empty.
    pub fn list_sizes(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        match self {
            Store::Local(root) => {
                let mut sizes = Vec::new();
                for name in self.list(folder)? {
                    let path = root.join(folder).join(&name);
                    match fs::metadata(&path) {
                        Ok(found) => sizes.push((name, found.len())),
                        // Removed since it was listed.
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(io_error("read", &path, error)),
                    }
                }
                Ok(sizes)
            }
            Store::Remote { store, prefix, runtime } => {
                let at = join(prefix, folder);
                let found: Vec<_> = wait(runtime, store.list(Some(&at)).try_collect()).map_err(|e| remote_error("list", folder, e))?;
                let mut sizes: Vec<_> = found.iter().filter_map(|meta| Some((meta.location.filename()?.to_owned(), meta.size))).collect();
                sizes.sort();
                Ok(sizes)
            }
        }
    }

    /// Removes a file; one that is not there is fine.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self {
            Store::Local(root) => match fs::remove_file(root.join(path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &root.join(path), error)),
                _ => Ok(()),
            },
            Store::Remote { store, prefix, runtime } => wait(runtime, async {
                match store.delete(&join(prefix, path)).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(remote_error("remove", path, error)),
                }
            }),
        }
    }
}

/// Waits for a call of the store. The caller may be on the same runtime itself: a target reads an epoch's rows while it sends them.
fn wait<T: Send>(runtime: &Handle, call: impl Future<Output = T> + Send) -> T {
    if Handle::try_current().is_err() {
        return runtime.block_on(call);
    }
    std::thread::scope(|scope| match scope.spawn(|| runtime.block_on(call)).join() {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn join(prefix: &ObjectPath, path: &str) -> ObjectPath {
    ObjectPath::from(format!("{prefix}/{path}"))
}

fn write_temporary(target: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| io_error("create", folder, e))?;
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".tmp-{}-{number}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(io_error("write", target, error));
    }
    Ok(temporary)
}

fn sync_folder(target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error("sync", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_store_can_be_read_from_its_own_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let store = Store::Remote { store: Arc::new(object_store::memory::InMemory::new()), prefix: ObjectPath::from("p"), runtime: runtime.handle().clone() };
        store.put("staged/1.arrow", b"rows").expect("put");
        // As a target does that reads rows while it sends them.
        let read = runtime.block_on(async { store.get("staged/1.arrow") });
        assert_eq!(read.expect("read").as_deref(), Some(&b"rows"[..]));
        assert_eq!(store.list_sizes("staged").expect("listed"), [("1.arrow".to_owned(), 4)]);
    }
}
