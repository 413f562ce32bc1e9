//! Files on a disk of this machine.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use watershed_types::Result;

use crate::listing::{Entry, Listing, io_error};
use crate::pattern::{NamePattern, is_skipped, split_at_wildcard};

/// Deeper folders are taken for a loop of links.
const MAX_DEPTH: usize = 64;

/// A path on a disk.
#[derive(Debug)]
pub(crate) struct LocalStorage {
    path: PathBuf,
    root: PathBuf,
    pattern: Option<NamePattern>,
}

impl LocalStorage {
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        let text = path.to_string_lossy().into_owned();
        // A name that exists as it is written is no pattern: `data/[2024].json`.
        let (root, pattern) = match split_at_wildcard(&text) {
            (folder, Some(rest)) if !path.exists() => (PathBuf::from(folder), Some(NamePattern::parse(rest)?)),
            _ => (path.clone(), None),
        };
        Ok(Self { path, root, pattern })
    }

    pub(crate) fn list(&mut self) -> Result<Listing> {
        let mut listing = Listing::default();
        if self.pattern.is_none() {
            match fs::metadata(&self.path) {
                Ok(found) if found.is_dir() => self.root = self.path.clone(),
                Ok(found) => {
                    self.root = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
                    let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    listing.entries.push(Entry { name, size: found.len() });
                    return Ok(listing);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    listing.notices.push(format!("\"{}\" does not exist (yet); waiting for it", self.path.display()));
                    return Ok(listing);
                }
                Err(error) => return Err(io_error("read", &self.path.display().to_string(), error)),
            }
        }
        let depth = self.pattern.as_ref().map_or(MAX_DEPTH, |p| p.max_depth().min(MAX_DEPTH));
        if !self.root.as_os_str().is_empty() && !self.root.exists() {
            listing.notices.push(format!("the folder \"{}\" does not exist (yet); waiting for it", self.root.display()));
            return Ok(listing);
        }
        self.walk(&self.root, "", depth, &mut listing)?;
        if listing.entries.is_empty() {
            listing.notices.push(format!("no file matches \"{}\" (yet); waiting for one", self.path.display()));
        }
        Ok(listing)
    }

    fn walk(&self, folder: &Path, prefix: &str, depth: usize, listing: &mut Listing) -> Result<()> {
        let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = match fs::read_dir(shown) {
            Ok(entries) => entries,
            // Removed between the listing of its parent and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("list the folder", &shown.display().to_string(), error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list the folder", &shown.display().to_string(), error))?;
            let Ok(file_name) = entry.file_name().into_string() else {
                listing.notices.push(format!("\"{}\" is skipped: its name is not UTF-8", entry.path().display()));
                continue;
            };
            let name = if prefix.is_empty() { file_name } else { format!("{prefix}/{file_name}") };
            if is_skipped(&name) {
                continue;
            }
            // Follows links; a dangling one is no file.
            let Ok(found) = fs::metadata(entry.path()) else { continue };
            if found.is_dir() {
                if depth > 0 {
                    self.walk(&entry.path(), &name, depth - 1, listing)?;
                }
            } else if found.is_file() && self.pattern.as_ref().is_none_or(|p| p.matches(&name)) {
                listing.entries.push(Entry { name, size: found.len() });
            }
        }
        Ok(())
    }

    fn full_path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file's size now, `None` if it is gone.
    pub(crate) fn size(&self, name: &str) -> Result<Option<u64>> {
        match fs::metadata(self.full_path(name)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("look at the file", name, error)),
        }
    }

    /// Opens at a raw byte; `None` if it is gone.
    pub(crate) fn open(&self, name: &str, offset: u64) -> Result<Option<File>> {
        let mut file = match File::open(self.full_path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open the file", name, error)),
        };
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(|error| io_error("read the file", name, error))?;
        }
        Ok(Some(file))
    }
}

/// Appends up to `limit` bytes.
pub(crate) fn read_block(file: &mut File, limit: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    into.reserve(limit);
    file.take(limit as u64).read_to_end(into)
}
