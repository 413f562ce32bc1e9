//! Backup and restore: whole folders, in an order that never leaves a checkpoint that looks whole and is not.
//!
//! I1: a manifest is copied before the commit record of its epoch is looked for, and the state it names after it; what
//! a running pipeline adds meanwhile is not part of the copy.
//! I2: `metadata.json` is written last: a copy without it is refused as a checkpoint.

use std::fs;
use std::path::Path;

use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_protocol::Paths;
use watershed_types::{Epoch, Error, Result};

use crate::commands::verify::audit;
use crate::output::{count, print, size};
use crate::project::Project;

/// How often a copy that a running pipeline has overtaken is begun again.
const TRIES: usize = 5;

/// Copies a checkpoint to an empty folder.
pub fn backup(store: &Store, to: &Path) -> Result<()> {
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::conflict("CLI0072", format!("\"{}\" is not empty", to.display())).hint("Name a folder that is empty or not there yet."));
    }
    let target = Store::Local(to.to_path_buf());
    for attempt in 1..=TRIES {
        let (files, bytes, epoch) = copy(store, &target)?;
        let copied = audit::checkpoint(&target);
        if !copied.failed() {
            return print(&format!("copied {} ({}) up to epoch {epoch} to \"{}\"\n", count(files, "file"), size(bytes), to.display()));
        }
        let source = audit::checkpoint(store);
        let wrong = copied.findings.iter().filter(|f| f.failed()).map(|f| f.message().to_owned()).collect::<Vec<_>>().join("; ");
        clear(to)?;
        if source.failed() || attempt == TRIES {
            return Err(Error::corrupt("CLI0073", format!("the checkpoint was not backed up, since its copy would not be whole: {wrong}"))
                .hint("Run `watershed checkpoint verify`; stop the pipeline if it commits faster than the copy."));
        }
    }
    Ok(())
}

fn clear(folder: &Path) -> Result<()> {
    let fail = |e: std::io::Error| Error::unavailable("CLI0074", format!("cannot clear \"{}\"", folder.display())).caused_by(e);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(fail)?;
    }
    Ok(())
}

/// Copies files; returns how many, their bytes and the newest epoch.
fn copy(from: &Store, to: &Store) -> Result<(u64, u64, Epoch)> {
    let (mut files, mut bytes) = (0, 0);
    let mut one = |path: &str| -> Result<()> {
        if let Some(content) = from.get(path)? {
            to.put(path, &content)?;
            files += 1;
            bytes += content.len() as u64;
        }
        Ok(())
    };
    let prepared: Vec<String> = from.list(Paths::OFFSETS)?;
    let newest = prepared.iter().filter_map(|n| Paths::number(n)).max().unwrap_or(0);
    let within = |name: &String| Paths::number(name).is_none_or(|number| number <= newest);
    for folder in [Paths::STATE, Paths::OFFSETS, Paths::STAGED, Paths::LEDGER, Paths::COMMITS, Paths::DELIVERIES] {
        for name in from.list(folder)?.iter().filter(|n| within(n)) {
            one(&format!("{folder}/{name}"))?;
        }
    }
    for name in from.list(Paths::GENERATIONS)? {
        one(&format!("{}/{name}", Paths::GENERATIONS))?;
    }
    one(Paths::METADATA)?;
    Ok((files, bytes, Epoch(newest)))
}

/// Brings a backup back; the present checkpoint is moved aside.
pub fn restore(project: &Project, store: &Store, from: &Path) -> Result<()> {
    let Store::Local(place) = store else {
        return Err(Error::invalid("CLI0075", "a checkpoint in an object store is not restored by this command")
            .hint("Copy the backup's files to the store with its own tools, metadata.json last."));
    };
    let source = Store::Local(from.to_path_buf());
    let backup = audit::checkpoint(&source);
    if backup.absent {
        return Err(Error::invalid("CLI0076", format!("there is no checkpoint at \"{}\"", from.display())).hint("Name a folder that `watershed checkpoint backup` wrote."));
    }
    if let Some(wrong) = backup.findings.iter().find(|f| f.failed()) {
        return Err(
            Error::corrupt("CLI0076", format!("the backup at \"{}\" is damaged, and nothing was changed: {}", from.display(), wrong.message())).hint("Take another backup.")
        );
    }
    let _lock = project.lock()?;
    let same = |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if same(from, place) {
        return Err(Error::invalid("CLI0076", "the backup is the checkpoint itself").hint("Name another folder."));
    }
    if let (Ok(Some(present)), Ok(Some(coming))) = (Checkpoint::open(store.clone()), Checkpoint::open(source.clone()))
        && present.metadata.id != coming.metadata.id
    {
        eprintln!("note: the backup is of another history ({}) than the present checkpoint ({})", coming.metadata.id, present.metadata.id);
    }
    let fail = |e: std::io::Error| Error::unavailable("CLI0074", format!("cannot move \"{}\" aside", place.display())).caused_by(e).definite();
    let mut text = String::new();
    if place.exists() {
        let aside = (1..).map(|n| place.with_file_name(format!("{}.before-restore-{n}", place.file_name().unwrap_or_default().to_string_lossy()))).find(|p| !p.exists());
        let Some(aside) = aside else { return Err(Error::internal("CLI0074", "no free name")) };
        fs::rename(place, &aside).map_err(fail)?;
        text.push_str(&format!("moved the present checkpoint to \"{}\"\n", aside.display()));
    }
    let (files, bytes, epoch) = copy(&source, store)?;
    text.push_str(&format!("restored {} ({}) up to epoch {epoch} to \"{}\"\n", count(files, "file"), size(bytes), place.display()));
    print(&text)?;
    eprintln!("note: tables must not be newer than the checkpoint; `watershed verify` compares them");
    Ok(())
}
