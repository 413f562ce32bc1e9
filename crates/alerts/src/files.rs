//! Small files of the alerts' folder: written whole or not at all, each with a checksum.
//!
//! ```text
//! crc32c=1a2b3c4d
//! {"format":1,…}
//! ```
//!
//! I1: a file is on disk under its name, whole, when [`write`] returns; a crash before that leaves the old one.
//! I2: damage is an error that names the file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use watershed_types::{Error, Result};

/// The end of names of files that are not whole yet.
const FRESH: &str = "new";

fn unwritable(path: &Path, cause: std::io::Error) -> Error {
    Error::unavailable("ALR0006", format!("cannot write \"{}\"", path.display()))
        .hint("Make the project's folder writable for this user, and see that its disk has room.")
        .caused_by(cause)
}

/// Makes a folder, with those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| unwritable(path, e))
}

/// Writes a file, durably.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    put(path, value, true)
}

/// Writes a file that may be lost in a crash.
pub fn write_lightly<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    put(path, value, false)
}

fn put<T: Serialize>(path: &Path, value: &T, durably: bool) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::internal("ALR0006", format!("what belongs into \"{}\" cannot be written as JSON", path.display())).caused_by(e))?;
    let fresh = path.with_extension(format!("{}.{FRESH}", std::process::id()));
    let steps = || {
        let mut file = File::create(&fresh)?;
        writeln!(file, "crc32c={:08x}\n{text}", crc32c::crc32c(text.as_bytes()))?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&fresh, path)?;
        if durably { sync_folder_of(path) } else { Ok(()) }
    };
    steps().map_err(|e| unwritable(path, e))
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Reads a file, `None` if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let damaged = |what: &str| {
        Error::corrupt("ALR0007", format!("\"{}\" is damaged: {what}", path.display()))
            .hint("Was it edited by hand, or is the disk failing? Move it away; nothing else depends on it.")
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged("it is not text")),
        Err(error) => return Err(Error::unavailable("ALR0006", format!("cannot read \"{}\"", path.display())).caused_by(error)),
    };
    let (sum, body) = text.split_once('\n').ok_or_else(|| damaged("it has no checksum"))?;
    let body = body.strip_suffix('\n').ok_or_else(|| damaged("its end is missing"))?;
    let wanted = sum.strip_prefix("crc32c=").and_then(|hex| u32::from_str_radix(hex, 16).ok()).ok_or_else(|| damaged("it has no checksum"))?;
    if crc32c::crc32c(body.as_bytes()) != wanted {
        return Err(damaged("its checksum does not fit"));
    }
    serde_json::from_str(body).map(Some).map_err(|e| damaged("it is not what it should be").caused_by(e))
}

/// Removes a file, durably; one that is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map_err(|e| unwritable(path, e)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable(path, error)),
    }
}

/// The `.json` files of a folder by name; none if there is no folder.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::unavailable("ALR0006", format!("cannot read \"{}\"", folder.display())).caused_by(error)),
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    found.sort();
    Ok(found)
}
