//! The checkpoint: what is durable of a pipeline besides its sinks.
//!
//! **Owns** reading and writing the files `watershed-protocol` describes. **Does not own** when.
//!
//! Failure: every write is whole or absent; a damaged file is refused by name, never skipped.

mod kept;
mod state;
mod store;

use std::collections::BTreeMap;

use watershed_protocol::{Claim, CommitRecord, DeliveryRecord, FORMAT, LedgerRow, Manifest, Metadata, Paths, StateFile, checksum, open, seal};
use watershed_types::{Epoch, Error, Generation, Result};

pub use kept::KeepStaged;
pub use state::{StateOf, encode_state, read_state, write_state};
pub use store::Store;

/// How many epochs of manifests and commit records are kept as single files.
const KEEP: u64 = 128;
/// From how many commit records on the older ones are folded into one ledger file.
const FOLD: u64 = 256;

/// An open checkpoint.
#[derive(Clone)]
pub struct Checkpoint {
    /// Its files.
    pub store: Store,
    /// What never changes.
    pub metadata: Metadata,
}

/// The history as found.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Epochs with a manifest.
    pub prepared: Vec<u64>,
    /// Epochs with a commit record.
    pub committed: Vec<u64>,
    /// The last epoch in a folded ledger file.
    pub folded_to: u64,
}

impl History {
    /// The newest manifest.
    pub fn last_prepared(&self) -> Epoch {
        Epoch(self.prepared.last().copied().unwrap_or(0))
    }
    /// The newest commit record.
    pub fn last_committed(&self) -> Epoch {
        Epoch(self.committed.last().copied().unwrap_or(self.folded_to))
    }
}

impl Checkpoint {
    /// Opens a checkpoint that is there; `None` if there is none.
    pub fn open(store: Store) -> Result<Option<Checkpoint>> {
        let Some(bytes) = store.get(Paths::METADATA)? else {
            if !store.list(Paths::OFFSETS)?.is_empty() {
                return Err(Error::corrupt("CKPT0006", format!("checkpoint file \"{}\" is missing, and epochs are there", store.describe(Paths::METADATA)))
                    .hint("`watershed checkpoint diagnose` shows the ways out; many lose nothing."));
            }
            return Ok(None);
        };
        let metadata: Metadata = open(&store.describe(Paths::METADATA), &bytes)?;
        if metadata.format > FORMAT {
            return Err(Error::invalid("CKPT0007", format!("the checkpoint has format {}, and this version reads up to {FORMAT}", metadata.format))
                .hint("Use the version that wrote it, or a newer one."));
        }
        Ok(Some(Checkpoint { store, metadata }))
    }

    /// Opens it, or makes a new one.
    pub fn open_or_create(store: Store, pipeline: &str, key_groups: u32, now: i64) -> Result<Checkpoint> {
        if let Some(checkpoint) = Self::open(store.clone())? {
            return Ok(checkpoint);
        }
        let metadata = Metadata { format: FORMAT, id: uuid::Uuid::new_v4().to_string(), pipeline: pipeline.to_owned(), key_groups, created_at: now };
        store.create(Paths::METADATA, &seal(&metadata)?)?;
        Self::open(store)?.ok_or_else(|| Error::internal("CKPT0001", "the checkpoint vanished while it was made"))
    }

    /// The newest generation anybody claimed.
    pub fn newest_generation(&self) -> Result<Generation> {
        let names = self.store.list(Paths::GENERATIONS)?;
        Ok(Generation(names.iter().filter_map(|n| Paths::number(n)).max().unwrap_or(0)))
    }

    /// Claims the next generation: older owners are fenced from here on.
    pub fn claim(&self, owner: &str, now: i64) -> Result<Generation> {
        loop {
            let newest = self.newest_generation()?;
            let mine = Generation(newest.0 + 1);
            let claim = Claim { generation: mine, owner: owner.to_owned(), claimed_at: now };
            if self.store.create(&Paths::generation(mine), &seal(&claim)?)? {
                for old in self.store.list(Paths::GENERATIONS)? {
                    if Paths::number(&old).is_some_and(|number| number + KEEP < mine.0) {
                        self.store.delete(&format!("{}/{old}", Paths::GENERATIONS))?;
                    }
                }
                return Ok(mine);
            }
        }
    }

    /// Which epochs are there.
    pub fn history(&self) -> Result<History> {
        let numbers = |folder: &str| -> Result<Vec<u64>> { Ok(self.store.list(folder)?.iter().filter_map(|n| Paths::number(n)).collect()) };
        let folded_to = self.ledger_files()?.iter().map(|(_, _, last)| *last).max().unwrap_or(0);
        Ok(History { prepared: numbers(Paths::OFFSETS)?, committed: numbers(Paths::COMMITS)?, folded_to })
    }

    /// The manifest of an epoch.
    pub fn manifest(&self, epoch: Epoch) -> Result<Manifest> {
        let path = Paths::offsets(epoch);
        let bytes = self.store.get(&path)?.ok_or_else(|| self.missing(&path))?;
        open(&self.store.describe(&path), &bytes)
    }

    /// The commit record of an epoch.
    pub fn commit_record(&self, epoch: Epoch) -> Result<CommitRecord> {
        let path = Paths::commit(epoch);
        let bytes = self.store.get(&path)?.ok_or_else(|| self.missing(&path))?;
        open(&self.store.describe(&path), &bytes)
    }

    fn missing(&self, path: &str) -> Error {
        Error::corrupt("CKPT0006", format!("checkpoint file \"{}\" is missing", self.store.describe(path)))
            .hint("`watershed checkpoint diagnose` shows the ways out; many lose nothing.")
    }

    /// Prepares an epoch. `Fenced` or `Conflict` if somebody else did.
    pub fn prepare(&self, manifest: &Manifest) -> Result<()> {
        let newest = self.newest_generation()?;
        if newest > manifest.generation {
            return Err(fenced(manifest.generation, newest));
        }
        if self.store.create(&Paths::offsets(manifest.epoch), &seal(manifest)?)? {
            return Ok(());
        }
        let newest = self.newest_generation()?;
        Err(if newest > manifest.generation {
            fenced(manifest.generation, newest)
        } else {
            Error::conflict("CKPT0009", format!("epoch {} was prepared by somebody else", manifest.epoch)).hint("Start again: recovery finishes that epoch first.").definite()
        })
    }

    /// Records that an epoch is complete everywhere. Doing it twice is fine.
    pub fn complete(&self, record: &CommitRecord) -> Result<()> {
        self.store.create(&Paths::commit(record.epoch), &seal(record)?).map(|_| ())
    }

    /// Records that a sink took an epoch after its commit record was written. Doing it twice is fine.
    pub fn record_delivery(&self, record: &DeliveryRecord) -> Result<()> {
        self.store.create(&Paths::delivery(record.epoch, &record.sink), &seal(record)?).map(|_| ())
    }

    /// Every delivery recorded after its commit record, but those that were folded.
    pub fn deliveries(&self) -> Result<Vec<DeliveryRecord>> {
        let mut records = Vec::new();
        for name in self.store.list(Paths::DELIVERIES)? {
            let path = format!("{}/{name}", Paths::DELIVERIES);
            // One that was folded since the listing is no loss.
            if let Some(bytes) = self.store.get(&path)? {
                records.push(open(&self.store.describe(&path), &bytes)?);
            }
        }
        Ok(records)
    }

    /// For each sink that was left behind, the epochs it still has to be given, rising.
    pub fn owed(&self) -> Result<BTreeMap<String, Vec<Epoch>>> {
        let mut owed = BTreeMap::new();
        let committed = self.history()?.committed;
        let Some(newest) = committed.last() else { return Ok(owed) };
        let behind = self.commit_record(Epoch(*newest))?.behind;
        let Some(first) = behind.values().min() else { return Ok(owed) };
        let delivered: std::collections::HashSet<String> = self.store.list(Paths::DELIVERIES)?.into_iter().map(|name| format!("{}/{name}", Paths::DELIVERIES)).collect();
        for epoch in committed.into_iter().map(Epoch).filter(|epoch| epoch >= first) {
            let record = self.commit_record(epoch)?;
            for (sink, from) in behind.iter().filter(|(_, from)| **from <= epoch) {
                if record.sinks.get(sink).is_some_and(|receipt| receipt.spooled) && !delivered.contains(&Paths::delivery(epoch, sink)) {
                    debug_assert!(epoch >= *from);
                    owed.entry(sink.clone()).or_insert_with(Vec::new).push(epoch);
                }
            }
        }
        Ok(owed)
    }

    /// Removes what neither recovery nor repair needs: old manifests, state files nobody refers to, staged rows beyond what
    /// is kept; folds old commit records. `current` is the newest complete manifest, `owed` the first epoch that some
    /// sink still has to be given. The state of the epoch before stays, so that there is a way back if a file of the
    /// newest is damaged.
    pub fn prune(&self, current: &Manifest, keep: KeepStaged, owed: Option<Epoch>) -> Result<()> {
        let last = current.epoch.0;
        let needed_from = owed.map_or(u64::MAX, |epoch| epoch.0);
        let history = self.history()?;
        for epoch in history.prepared.iter().filter(|e| **e + KEEP.max(keep.epochs) < last && **e < needed_from) {
            self.store.delete(&Paths::offsets(Epoch(*epoch)))?;
        }
        let before = match history.prepared.binary_search(&last.wrapping_sub(1)) {
            Ok(_) => Some(self.manifest(Epoch(last - 1))?),
            Err(_) => None,
        };
        let kept = before.iter().chain([current]);
        let needed: std::collections::HashSet<&str> = kept.flat_map(|m| m.state.values()).flat_map(|s| &s.files).map(|f| f.path.as_str()).collect();
        for name in self.store.list(Paths::STATE)? {
            let path = format!("{}/{name}", Paths::STATE);
            if Paths::number(&name).is_some_and(|epoch| epoch <= last) && !needed.contains(path.as_str()) {
                self.store.delete(&path)?;
            }
        }
        self.clear_staged(Epoch(last), keep, owed)?;
        if history.committed.len() as u64 >= FOLD + KEEP && history.committed[FOLD as usize - 1] < needed_from {
            self.fold(&history.committed[..FOLD as usize])?;
        }
        Ok(())
    }

    fn fold(&self, epochs: &[u64]) -> Result<()> {
        let mut records = epochs.iter().map(|e| self.commit_record(Epoch(*e))).collect::<Result<Vec<_>>>()?;
        let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else { return Ok(()) };
        for delivery in self.deliveries()?.iter().filter(|delivery| delivery.epoch.0 <= *last) {
            if let Some(record) = records.iter_mut().find(|record| record.epoch == delivery.epoch) {
                record.hear(delivery);
            }
        }
        self.store.create(&Paths::ledger(Epoch(*first), Epoch(*last)), &seal(&records)?)?;
        for epoch in epochs {
            self.store.delete(&Paths::commit(Epoch(*epoch)))?;
        }
        // SUBTLE: last, as a commit record that is still there waits for them.
        for name in self.store.list(Paths::DELIVERIES)?.iter().filter(|name| Paths::number(name).is_some_and(|epoch| epoch <= *last)) {
            self.store.delete(&format!("{}/{name}", Paths::DELIVERIES))?;
        }
        Ok(())
    }

    fn ledger_files(&self) -> Result<Vec<(String, u64, u64)>> {
        let mut files = Vec::new();
        for name in self.store.list(Paths::LEDGER)? {
            let Some((first, last)) = name.trim_end_matches(".json").split_once('-') else { continue };
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                files.push((format!("{}/{name}", Paths::LEDGER), first, last));
            }
        }
        Ok(files)
    }

    /// Every commit record there is, oldest first.
    pub fn records(&self) -> Result<Vec<CommitRecord>> {
        let mut by_epoch: BTreeMap<u64, CommitRecord> = BTreeMap::new();
        for (path, _, _) in self.ledger_files()? {
            let bytes = self.store.get(&path)?.ok_or_else(|| self.missing(&path))?;
            let records: Vec<CommitRecord> = open(&self.store.describe(&path), &bytes)?;
            by_epoch.extend(records.into_iter().map(|r| (r.epoch.0, r)));
        }
        for epoch in self.history()?.committed {
            by_epoch.insert(epoch, self.commit_record(Epoch(epoch))?);
        }
        for delivery in self.deliveries()? {
            if let Some(record) = by_epoch.get_mut(&delivery.epoch.0) {
                record.hear(&delivery);
            }
        }
        Ok(by_epoch.into_values().collect())
    }

    /// Every line of the ledger.
    pub fn ledger(&self) -> Result<Vec<LedgerRow>> {
        Ok(self.records()?.into_iter().flat_map(|r| r.ledger).collect())
    }

    /// Checks a state file against its record; returns its bytes.
    pub fn state_bytes(&self, file: &StateFile) -> Result<Vec<u8>> {
        let place = self.store.describe(&file.path);
        let bytes = self.store.get(&file.path)?.ok_or_else(|| self.missing(&file.path))?;
        let damaged = |what: String| {
            Error::corrupt("CKPT0008", format!("checkpoint file \"{place}\" is damaged: {what}"))
                .hint("`watershed checkpoint diagnose` lists every damaged file, and shows the ways out; many lose nothing.")
        };
        if bytes.len() as u64 != file.bytes {
            return Err(damaged(format!("it has {} bytes, recorded are {}", bytes.len(), file.bytes)));
        }
        let found = checksum(&bytes);
        if found != file.checksum {
            return Err(damaged(format!("its checksum is {found}, recorded is {}", file.checksum)));
        }
        Ok(bytes)
    }
}

fn fenced(mine: Generation, newest: Generation) -> Error {
    Error::fenced("CKPT0010", format!("generation {mine} of this pipeline was fenced by generation {newest}"))
        .hint("Another run of this project has taken over; this one has stopped without writing.")
        .definite()
}
