//! The checkpoint: every file's checksum, the sequence, the state files the newest epoch needs.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_engine::run::staged_files;
use watershed_protocol::{Claim, CommitRecord, DeliveryRecord, Manifest, Paths, damaged, open};
use watershed_types::{Error, Result};

use super::finding::Finding;
use crate::output::{count, size};

const CHECK: &str = "checkpoint";
const RESTORE: &str = "`watershed checkpoint diagnose` shows the ways out; many lose nothing.";

/// What a checkpoint holds, as far as it can be read.
#[derive(Default)]
pub struct Audit {
    /// True before the first run.
    pub absent: bool,
    /// The checkpoint's id, by which targets know it.
    pub id: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Commit records by epoch.
    pub records: BTreeMap<u64, CommitRecord>,
    /// Manifests by epoch.
    pub manifests: BTreeMap<u64, Manifest>,
}

impl Audit {
    /// The newest complete epoch and the newest prepared one.
    pub fn newest(&self) -> (u64, u64) {
        (self.last_committed(), self.manifests.keys().next_back().copied().unwrap_or(0))
    }
    /// The newest complete epoch.
    pub fn last_committed(&self) -> u64 {
        self.records.keys().next_back().copied().unwrap_or(0)
    }
    /// The epoch that is prepared and not complete.
    pub fn pending(&self) -> Option<&Manifest> {
        self.manifests.values().next_back().filter(|m| m.epoch.0 > self.last_committed())
    }
    /// True if there is a discrepancy.
    pub fn failed(&self) -> bool {
        self.findings.iter().any(Finding::failed)
    }

    fn fail(&mut self, error: &Error) {
        self.findings.push(Finding::failed_with(CHECK, error.message(), error.next_step().unwrap_or(RESTORE)));
    }
}

/// Checks a checkpoint. Never fails itself: what cannot be read is a finding.
pub fn checkpoint(store: &Store) -> Audit {
    let mut audit = Audit::default();
    if let Err(error) = read(store, &mut audit) {
        audit.fail(&error);
    }
    audit
}

fn read(store: &Store, audit: &mut Audit) -> Result<()> {
    let checkpoint = match Checkpoint::open(store.clone()) {
        Ok(Some(checkpoint)) => {
            audit.id = Some(checkpoint.metadata.id.clone());
            Some(checkpoint)
        }
        Ok(None) => {
            audit.absent = true;
            audit.findings.push(Finding::note(CHECK, format!("nothing at \"{}\" yet: the project has not run", store.describe(""))));
            return Ok(());
        }
        Err(error) => {
            audit.fail(&error);
            None
        }
    };
    let mut files = 1;
    let mut folded: Vec<(u64, u64)> = Vec::new();
    for name in store.list(Paths::LEDGER)? {
        let Some(records) = one::<Vec<CommitRecord>>(store, Paths::LEDGER, &name, audit)? else { continue };
        files += 1;
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            folded.push((first.epoch.0, last.epoch.0));
        }
        audit.records.extend(records.into_iter().map(|r| (r.epoch.0, r)));
    }
    files += all(store, Paths::COMMITS, audit, |audit, record: CommitRecord| {
        let epoch = record.epoch.0;
        audit.records.insert(epoch, record);
        epoch
    })?;
    // After the commit records, which may wait for them.
    files += all(store, Paths::DELIVERIES, audit, |audit, delivery: DeliveryRecord| {
        if let Some(record) = audit.records.get_mut(&delivery.epoch.0) {
            record.hear(&delivery);
        }
        delivery.epoch.0
    })?;
    files += all(store, Paths::OFFSETS, audit, |audit, manifest: Manifest| {
        let epoch = manifest.epoch.0;
        audit.manifests.insert(epoch, manifest);
        epoch
    })?;
    files += all(store, Paths::GENERATIONS, audit, |_, claim: Claim| claim.generation.0)?;
    sequence(audit);
    let (state_files, state_bytes) = match &checkpoint {
        Some(checkpoint) => {
            spooled(checkpoint, audit)?;
            state(checkpoint, audit)?
        }
        None => (0, 0),
    };
    if !audit.failed() {
        let epochs = match audit.last_committed() {
            0 => "no epoch yet".to_owned(),
            last => format!("epochs 1 to {last} without a gap"),
        };
        audit.findings.push(Finding::good(CHECK, format!("{}, {epochs}; {} of state ({})", count(files, "file"), count(state_files, "file"), size(state_bytes))));
    }
    if let Some(pending) = audit.pending() {
        let note = format!("epoch {} is prepared and not complete: it is being committed, or the next start will finish it", pending.epoch);
        audit.findings.push(Finding::note(CHECK, note));
    }
    Ok(())
}

/// Reads every file of a folder; counts them.
fn all<T: DeserializeOwned>(store: &Store, folder: &str, audit: &mut Audit, mut take: impl FnMut(&mut Audit, T) -> u64) -> Result<u64> {
    let mut files = 0;
    for name in store.list(folder)? {
        let Some(value) = one::<T>(store, folder, &name, audit)? else { continue };
        files += 1;
        let inside = take(audit, value);
        if Paths::number(&name) != Some(inside) {
            let place = store.describe(&format!("{folder}/{name}"));
            audit.findings.push(Finding::failed_with(
                CHECK,
                format!("file \"{place}\" says it is number {inside}"),
                "Somebody copied or renamed it. Restore the checkpoint from a backup.",
            ));
        }
    }
    Ok(files)
}

/// Reads one file; `None` if it is damaged, foreign, or was removed meanwhile by the running pipeline.
fn one<T: DeserializeOwned>(store: &Store, folder: &str, name: &str, audit: &mut Audit) -> Result<Option<T>> {
    let path = format!("{folder}/{name}");
    if Paths::number(name).is_none() {
        audit.findings.push(Finding::note(CHECK, format!("file \"{}\" is none of ours and is not read", store.describe(&path))));
        return Ok(None);
    }
    let bytes = match store.read(&path)? {
        None => return Ok(None),
        Some(Ok(bytes)) => bytes,
        Some(Err(why)) => {
            audit.fail(&damaged(&store.describe(&path), &why));
            return Ok(None);
        }
    };
    match open(&store.describe(&path), &bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            audit.fail(&error);
            Ok(None)
        }
    }
}

fn sequence(audit: &mut Audit) {
    let mut wrong = Vec::new();
    // A damaged file has its own finding; here only what is not there at all counts, so one line a stretch.
    for (what, folder, epochs, first) in [
        ("commit record", Paths::COMMITS, audit.records.keys().copied().collect::<Vec<_>>(), 1),
        ("manifest", Paths::OFFSETS, audit.manifests.keys().copied().collect(), audit.manifests.keys().next().copied().unwrap_or(0)),
    ] {
        let mut expected = first;
        for epoch in epochs {
            if epoch > expected {
                let stretch = if epoch - 1 == expected { format!("epoch {expected}") } else { format!("epochs {expected} to {}", epoch - 1) };
                wrong.push(format!("the {what} of {stretch} is missing or damaged in {folder}/"));
            }
            expected = epoch + 1;
        }
    }
    let (committed, prepared) = audit.newest();
    if prepared < committed {
        wrong.push(format!("the manifest of epoch {committed} is missing or damaged in offsets/: the next start cannot go on from it"));
    } else if prepared > committed + 1 {
        wrong.push(format!("the newest manifest is epoch {prepared}, and the newest commit record epoch {committed}"));
    }
    audit.findings.extend(wrong.into_iter().map(|message| Finding::failed_with(CHECK, message, RESTORE)));
    // The commit record adds the accounts of outside targets.
    let differing: Vec<u64> = audit.records.values().filter(|r| audit.manifests.get(&r.epoch.0).is_some_and(|m| !r.ledger.starts_with(&m.ledger))).map(|r| r.epoch.0).collect();
    for epoch in differing {
        audit.findings.push(Finding::failed_with(CHECK, format!("the manifest and the commit record of epoch {epoch} have different accounts"), RESTORE));
    }
}

/// Checks the rows that wait for sinks that are behind: they are nowhere else.
fn spooled(checkpoint: &Checkpoint, audit: &mut Audit) -> Result<()> {
    let waiting = audit.records.values().flat_map(|r| r.sinks.iter().filter(|(_, receipt)| receipt.spooled).map(|(sink, _)| (r.epoch, sink.clone()))).collect::<Vec<_>>();
    for (epoch, sink) in waiting {
        let whole = || -> Result<()> { staged_files(checkpoint, epoch, &sink)?.iter().flatten().try_for_each(|file| checkpoint.state_bytes(file).map(|_| ())) };
        let Err(error) = whole() else { continue };
        // It may have been delivered while we were reading.
        let owed = checkpoint.owed()?;
        if owed.get(&sink).is_some_and(|epochs| epochs.contains(&epoch)) {
            audit.findings.push(Finding::failed_with(CHECK, format!("{} (rows of epoch {epoch} that wait for sink \"{sink}\")", error.message()), RESTORE));
        }
    }
    Ok(())
}

/// Checks the state files of the newest epoch: those a start would load. What only an older one needed may be gone.
fn state(checkpoint: &Checkpoint, audit: &mut Audit) -> Result<(u64, u64)> {
    let newest = audit.manifests.range(audit.last_committed().max(1)..).next_back().map(|(_, m)| m);
    let mut needed = BTreeMap::new();
    if let Some(manifest) = newest {
        needed
            .extend(manifest.state.iter().flat_map(|(operator, state)| state.files.iter().map(move |file| (file.path.clone(), (operator.clone(), file.clone(), manifest.epoch)))));
    }
    let (mut files, mut bytes, mut failures) = (0, 0, Vec::new());
    for (operator, file, epoch) in needed.values() {
        match checkpoint.state_bytes(file) {
            Ok(_) => {
                files += 1;
                bytes += file.bytes;
            }
            // A newer epoch may have replaced it while we were reading.
            Err(_) if checkpoint.history()?.last_prepared().0 > audit.newest().1 => {}
            Err(error) => {
                failures.push(Finding::failed_with(CHECK, format!("{} (state of operator \"{operator}\", epoch {epoch})", error.message()), error.next_step().unwrap_or(RESTORE)))
            }
        }
    }
    audit.findings.extend(failures);
    Ok((files, bytes))
}
