//! A checkpoint file by file, as far as it can be read.
//!
//! **Owns** reading. **Does not own** what to think of it. It never fails over a damaged file: that is what it is for.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use watershed_engine::checkpoint::Store;
use watershed_protocol::{Claim, CommitRecord, Manifest, Metadata, Paths, StateFile, checksum, open};
use watershed_types::Result;

/// A file that is there.
pub enum Piece<T> {
    /// Whole.
    Good(T),
    /// Not readable, and why.
    Bad(String),
}

impl<T> Piece<T> {
    /// Its content.
    pub fn good(&self) -> Option<&T> {
        match self {
            Piece::Good(content) => Some(content),
            Piece::Bad(_) => None,
        }
    }
    /// What is wrong with it.
    pub fn bad(&self) -> Option<&str> {
        match self {
            Piece::Good(_) => None,
            Piece::Bad(why) => Some(why),
        }
    }
}

/// One folded ledger file.
pub struct Folded {
    pub path: String,
    pub last: u64,
    pub records: Piece<Vec<CommitRecord>>,
}

/// Everything.
pub struct Look {
    pub store: Store,
    pub metadata: Option<Piece<Metadata>>,
    pub claims: BTreeMap<u64, Piece<Claim>>,
    pub manifests: BTreeMap<u64, Piece<Manifest>>,
    pub records: BTreeMap<u64, Piece<CommitRecord>>,
    pub folded: Vec<Folded>,
    /// Names below `state/` and `staged/`.
    pub state: Vec<String>,
    pub staged: Vec<String>,
    /// Files that are none of ours.
    pub foreign: Vec<String>,
}

impl Look {
    /// Reads a checkpoint.
    pub fn at(store: &Store) -> Result<Look> {
        let mut look = Look {
            store: store.clone(),
            metadata: store.read(Paths::METADATA)?.map(|bytes| piece(store, Paths::METADATA, bytes)),
            claims: BTreeMap::new(),
            manifests: BTreeMap::new(),
            records: BTreeMap::new(),
            folded: vec![],
            state: store.list(Paths::STATE)?,
            staged: store.list(Paths::STAGED)?,
            foreign: vec![],
        };
        look.claims = numbered(store, Paths::GENERATIONS, |claim: &Claim| claim.generation.0, &mut look.foreign)?;
        look.manifests = numbered(store, Paths::OFFSETS, |manifest: &Manifest| manifest.epoch.0, &mut look.foreign)?;
        look.records = numbered(store, Paths::COMMITS, |record: &CommitRecord| record.epoch.0, &mut look.foreign)?;
        for name in store.list(Paths::LEDGER)? {
            let path = format!("{}/{name}", Paths::LEDGER);
            let Some(last) = name.trim_end_matches(".json").split_once('-').and_then(|(_, last)| last.parse().ok()) else {
                look.foreign.push(path);
                continue;
            };
            if let Some(bytes) = store.read(&path)? {
                look.folded.push(Folded { records: piece(store, &path, bytes), path, last });
            }
        }
        Ok(look)
    }

    /// True before the first run.
    pub fn empty(&self) -> bool {
        self.metadata.is_none() && self.manifests.is_empty() && self.records.is_empty() && self.folded.is_empty() && self.claims.is_empty()
    }

    /// The last epoch whose record is folded away.
    pub fn folded_to(&self) -> u64 {
        self.folded.iter().map(|f| f.last).max().unwrap_or(0)
    }

    /// The newest manifest that is there, readable or not.
    pub fn prepared(&self) -> u64 {
        self.manifests.keys().next_back().copied().unwrap_or(0)
    }

    /// The newest epoch that was complete: it has a record, or a successor.
    pub fn committed(&self) -> u64 {
        let recorded = self.records.keys().next_back().copied().unwrap_or(0).max(self.folded_to());
        recorded.max(self.prepared().saturating_sub(1))
    }

    /// A manifest that can be read.
    pub fn manifest(&self, epoch: u64) -> Option<&Manifest> {
        self.manifests.get(&epoch).and_then(Piece::good)
    }

    /// What is wrong with a file that a manifest names by its checksum; `None` if nothing is.
    pub fn wrong_with(&self, file: &StateFile) -> Result<Option<String>> {
        Ok(match self.store.read(&file.path)?.transpose() {
            Err(why) => Some(why),
            Ok(None) => Some("it is missing".to_owned()),
            Ok(Some(bytes)) if bytes.len() as u64 != file.bytes => Some(format!("it has {} bytes, recorded are {}", bytes.len(), file.bytes)),
            Ok(Some(bytes)) if checksum(&bytes) != file.checksum => Some(format!("its checksum is {}, recorded is {}", checksum(&bytes), file.checksum)),
            Ok(Some(_)) => None,
        })
    }

    /// True if a run could go on from an epoch.
    pub fn whole(&self, epoch: u64) -> Result<bool> {
        let Some(manifest) = self.manifest(epoch) else { return Ok(false) };
        for file in manifest.state.values().flat_map(|state| &state.files) {
            if self.wrong_with(file)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn piece<T: DeserializeOwned>(store: &Store, path: &str, bytes: std::result::Result<Vec<u8>, String>) -> Piece<T> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(why) => return Piece::Bad(why),
    };
    match open(&store.describe(path), &bytes) {
        Ok(content) => Piece::Good(content),
        Err(error) => {
            let message = error.message();
            Piece::Bad(message.split_once("is damaged: ").map_or(message, |(_, why)| why).to_owned())
        }
    }
}

fn numbered<T: DeserializeOwned>(store: &Store, folder: &str, inside: impl Fn(&T) -> u64, foreign: &mut Vec<String>) -> Result<BTreeMap<u64, Piece<T>>> {
    let mut pieces = BTreeMap::new();
    for name in store.list(folder)? {
        let path = format!("{folder}/{name}");
        let Some(number) = Paths::number(&name) else {
            foreign.push(path);
            continue;
        };
        let Some(bytes) = store.read(&path)? else { continue };
        let found = match piece(store, &path, bytes) {
            Piece::Good(content) if inside(&content) != number => Piece::Bad(format!("it says it is number {}", inside(&content))),
            other => other,
        };
        pieces.insert(number, found);
    }
    Ok(pieces)
}
