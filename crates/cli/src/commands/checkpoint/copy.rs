//! Backup and restore: whole folders, in an order that never leaves a checkpoint that looks whole and is not.
//!
//! I1: the newest manifest is looked for before anything is copied, and nothing newer than it is copied; what
//! a running pipeline adds meanwhile is not part of the copy. Each copy is audited.
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
const TRIES: u32 = 5;

/// Copies a checkpoint to a place where nothing is yet.
pub fn backup(store: &Store, to: &Store) -> Result<()> {
    let taken = match to {
        Store::Local(folder) => fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()),
        Store::Remote { .. } => !paths(to)?.is_empty(),
    };
    if taken {
        let what = to.describe("");
        return Err(Error::conflict("CLI0072", format!("\"{}\" is not empty", what.trim_end_matches('/'))).hint("Name a folder that is empty or not there yet."));
    }
    let (files, bytes, epoch) = copy_checked(store, to)?;
    print(&format!("copied {} ({}) up to epoch {epoch} to \"{}\"\n", count(files, "file"), size(bytes), to.describe("").trim_end_matches('/')))
}

/// Copies a checkpoint and audits the copy; begins again if a running pipeline has overtaken it.
pub fn copy_checked(store: &Store, to: &Store) -> Result<(u64, u64, Epoch)> {
    for attempt in 1.. {
        let done = copy(store, to)?;
        let copied = audit::checkpoint(to);
        if !copied.failed() {
            return Ok(done);
        }
        let source = audit::checkpoint(store);
        let wrong = copied.findings.iter().filter(|f| f.failed()).map(|f| f.message().to_owned()).collect::<Vec<_>>().join("; ");
        wipe(to)?;
        if source.failed() || attempt == TRIES {
            return Err(Error::corrupt("CLI0073", format!("the checkpoint was not backed up, since its copy would not be whole: {wrong}"))
                .hint("Run `watershed checkpoint diagnose`; stop the pipeline if it commits faster than the copy."));
        }
    }
    Err(Error::internal("CLI0110", "the copy ended without a result"))
}

/// The files of a checkpoint that a copy has.
pub fn paths(store: &Store) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for folder in [Paths::GENERATIONS, Paths::OFFSETS, Paths::COMMITS, Paths::LEDGER, Paths::STATE, Paths::STAGED, Paths::DELIVERIES] {
        all.extend(store.list(folder)?.into_iter().map(|name| format!("{folder}/{name}")));
    }
    if store.get(Paths::METADATA)?.is_some() {
        all.push(Paths::METADATA.to_owned());
    }
    Ok(all)
}

/// Removes a copy: what makes it a checkpoint first.
pub fn wipe(store: &Store) -> Result<()> {
    store.delete(Paths::METADATA)?;
    for path in paths(store)? {
        store.delete(&path)?;
    }
    Ok(())
}

/// Copies files that are not there yet; returns how many, their bytes and the newest epoch.
pub fn copy(from: &Store, to: &Store) -> Result<(u64, u64, Epoch)> {
    let (mut files, mut bytes) = (0, 0);
    let there: std::collections::HashSet<String> = paths(to)?.into_iter().collect();
    let mut one = |path: &str| -> Result<()> {
        // A file of a checkpoint never changes, and is whole or absent.
        if !there.contains(path)
            && let Some(content) = from.get(path)?
        {
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
pub fn restore(project: &Project, store: &Store, source: &Store) -> Result<()> {
    let Store::Local(place) = store else {
        return Err(Error::invalid("CLI0075", "a checkpoint in an object store is not restored by this command")
            .hint("Copy the backup's files to the store with its own tools, metadata.json last."));
    };
    let from = source.describe("");
    let from = from.trim_end_matches('/');
    let backup = audit::checkpoint(source);
    if backup.absent {
        return Err(Error::invalid("CLI0076", format!("there is no checkpoint at \"{from}\"")).hint("Name a folder that `watershed checkpoint backup` wrote."));
    }
    if let Some(wrong) = backup.findings.iter().find(|f| f.failed()) {
        return Err(Error::corrupt("CLI0076", format!("the backup at \"{}\" is damaged, and nothing was changed: {}", from, wrong.message())).hint("Take another backup."));
    }
    let _lock = project.lock()?;
    let same = |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if matches!(source, Store::Local(from) if same(from, place)) {
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
    let (files, bytes, epoch) = copy(source, store)?;
    text.push_str(&format!("restored {} ({}) up to epoch {epoch} to \"{}\"\n", count(files, "file"), size(bytes), place.display()));
    print(&text)?;
    eprintln!("note: tables must not be newer than the checkpoint; `watershed verify` compares them");
    Ok(())
}
