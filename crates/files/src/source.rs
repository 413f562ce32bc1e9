//! All files of a source as one ordered stream.
//!
//! **Owns** which file is read next, finding new files, noticing growth, and waiting. **Does not own** reading a file.
//!
//! Files are read in passes: each pass goes through them in name order, reads each to the end it had when the pass came to
//! it, and goes on with the next. So a file that never stops growing starves none, and a file that turns up
//! before the current one is read in the next pass. A first pass over files at rest is plain name order.
//!
//! Growth is noticed by looking at sizes: every 5 ms after activity, backing off to 100 ms, of files that grew lately
//! (of all, if they are few); of the others, and of objects in a store, when the folder is listed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use watershed_ports::{Lag, Polled, RawChunk, Source};
use watershed_types::{PartitionPosition, Positions, Result};

use crate::options::{CsvFraming, FilesOptions};
use crate::storage::Storage;
use crate::tracked::{Context, TrackedFile};

/// The quickest and the slowest look at files that may grow.
const QUICK: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_millis(100);
/// With no more files than this, all are looked at quickly; otherwise those that grew within `HOT`.
const FEW: usize = 64;
const HOT: Duration = Duration::from_secs(60);
/// How long an unfinished end may be normal: a writer between two writes.
const PATIENCE: Duration = Duration::from_secs(3);
/// Notices remembered so that each is given once.
const REMEMBERED: usize = 10_000;

/// `connector = 'files'`.
pub struct FilesSource {
    options: FilesOptions,
    csv: Option<CsvFraming>,
    storage: Storage,
    partition: Arc<str>,
    files: BTreeMap<Arc<str>, TrackedFile>,
    /// The pass goes on behind this name.
    after: Option<Arc<str>>,
    current: Option<Arc<str>>,
    draining: bool,
    /// Nothing is read until others have come up.
    held: bool,
    /// A listing is due because the last one is older than what was read since.
    stale: bool,
    next_listing: Instant,
    next_look: Instant,
    active_at: Instant,
    notices: Vec<String>,
    given: HashSet<String>,
}

impl std::fmt::Debug for FilesSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilesSource").field("options", &self.options).field("files", &self.files.len()).finish()
    }
}

impl FilesSource {
    /// A source over the files that `options` name; `csv` says how CSV records lie in them, `None` means one
    /// record a line. `runtime` carries object-store requests; the source itself blocks and must not be polled on it.
    pub fn new(options: FilesOptions, csv: Option<CsvFraming>, runtime: Handle) -> Result<FilesSource> {
        let storage = Storage::open_location(&options.location, runtime)?;
        Ok(Self::over(storage, options, csv))
    }

    pub(crate) fn over(storage: Storage, options: FilesOptions, csv: Option<CsvFraming>) -> FilesSource {
        let now = Instant::now();
        FilesSource {
            options,
            csv,
            storage,
            partition: Arc::from("0"),
            files: BTreeMap::new(),
            after: None,
            current: None,
            draining: false,
            held: false,
            stale: true,
            next_listing: now,
            next_look: now,
            active_at: now,
            notices: Vec::new(),
            given: HashSet::new(),
        }
    }

    /// Brings the known files up to what is there now.
    fn list(&mut self) -> Result<()> {
        let started = Instant::now();
        let listing = self.storage.list()?;
        self.stale = false;
        self.notices.extend(listing.notices);
        let found: HashSet<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
        for (name, file) in &mut self.files {
            if !found.contains(&**name) {
                file.gone(&mut self.notices);
            }
        }
        for entry in &listing.entries {
            if !self.files.contains_key(entry.name.as_str()) {
                let name: Arc<str> = Arc::from(entry.name.as_str());
                tracing::debug!(file = %name, size = entry.size, "found");
                let file = TrackedFile::new(Arc::clone(&name), PartitionPosition::default(), self.csv);
                self.files.insert(name, file);
            }
            if let Some(file) = self.files.get_mut(entry.name.as_str()) {
                file.seen(entry.size)?;
            }
        }
        // Huge folders are not listed all the time: at most a twentieth of it.
        let pause = self.options.discover_interval.max(started.elapsed() * 20);
        self.next_listing = Instant::now() + pause;
        Ok(())
    }

    /// Looks at the sizes of files that may be growing.
    fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        self.next_look = now + self.look_interval();
        let few = self.files.len() <= FEW;
        for file in self.files.values_mut() {
            if file.waiting_since.is_some_and(|since| now.duration_since(since) >= PATIENCE) {
                file.judge_end();
            }
            let hot = few || file.grown_at.is_some_and(|at| now.duration_since(at) < HOT);
            if hot && file.present && self.storage.is_local() {
                match self.storage.size(&file.name)? {
                    Some(size) => file.seen(size)?,
                    None => file.gone(&mut self.notices),
                }
            }
        }
        Ok(())
    }

    fn look_interval(&self) -> Duration {
        (self.active_at.elapsed() / 400).clamp(QUICK, SLOW)
    }

    /// The next file of the pass with something to read; starts a new pass at the end of one.
    fn pick(&mut self) -> Option<Arc<str>> {
        let pending = |(name, file): (&Arc<str>, &TrackedFile)| file.pending().then(|| Arc::clone(name));
        let behind = match &self.after {
            Some(after) => {
                let range = (Bound::Excluded(Arc::clone(after)), Bound::Unbounded);
                self.files.range::<Arc<str>, _>(range).find_map(pending)
            }
            None => None,
        };
        behind.or_else(|| self.files.iter().find_map(pending))
    }

    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<RawChunk>> {
        loop {
            let Some(name) = self.current.take().or_else(|| self.pick()) else { return Ok(None) };
            let Some(file) = self.files.get_mut(&name) else { continue };
            self.current = Some(Arc::clone(&name));
            let mut context = Context {
                storage: &self.storage,
                csv: self.csv,
                max_line_bytes: self.options.max_line_bytes,
                unterminated: self.options.unterminated,
                draining: self.draining,
                partition: &self.partition,
                notices: &mut self.notices,
            };
            if let Some(chunk) = file.next(&mut context, max_bytes)? {
                self.stale = true;
                self.active_at = Instant::now();
                return Ok(Some(chunk));
            }
            self.after = self.current.take();
        }
    }
}

impl Source for FilesSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        self.files = positions
            .iter()
            .map(|(name, position)| {
                let name: Arc<str> = Arc::from(name.as_str());
                (Arc::clone(&name), TrackedFile::new(name, *position, self.csv))
            })
            .collect();
        (self.after, self.current) = (None, None);
        self.list()?;
        let missing: Vec<&str> = self.files.values().filter(|file| !file.present).map(|file| &*file.name).collect();
        if let Some(first) = missing.first() {
            self.notices
                .push(format!("{} file(s) read by earlier runs are no longer there, \"{first}\" among them; whatever they held beyond what was read is not read", missing.len()));
        }
        self.stale = true;
        Ok(())
    }

    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled> {
        if self.held {
            return Ok(Polled::Held);
        }
        let max_bytes = max_bytes.max(1);
        let deadline = Instant::now() + wait;
        loop {
            if Instant::now() >= self.next_listing {
                self.list()?;
            }
            if let Some(chunk) = self.next_chunk(max_bytes)? {
                return Ok(Polled::Chunk(chunk));
            }
            let now = Instant::now();
            // At the end of everything: is there really no more?
            if self.stale {
                self.list()?;
                continue;
            }
            if now >= self.next_look {
                self.look()?;
                if self.pick().is_some() {
                    continue;
                }
            }
            if now >= deadline {
                // One that is about to stop must not miss a file that came since the last listing.
                if self.draining {
                    self.list()?;
                    if self.pick().is_some() {
                        continue;
                    }
                }
                return Ok(Polled::CaughtUp);
            }
            let until = deadline.min(self.next_look).min(self.next_listing);
            std::thread::sleep(until.saturating_duration_since(now).max(Duration::from_micros(200)));
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        for file in self.files.values_mut() {
            file.judge_end();
        }
    }

    fn partitions(&self) -> Vec<String> {
        vec![self.partition.to_string()]
    }

    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        self.held = partitions.contains(&*self.partition);
        Ok(())
    }

    fn unread(&mut self) -> BTreeSet<String> {
        let some = self.current.is_some() || self.stale || self.pick().is_some();
        some.then(|| self.partition.to_string()).into_iter().collect()
    }

    fn lag(&mut self) -> Lag {
        Lag { records: None, bytes: Some(self.files.values().filter(|file| file.present).map(TrackedFile::unread).sum()), partitions: vec![] }
    }

    fn notices(&mut self) -> Vec<String> {
        let fresh: Vec<String> = std::mem::take(&mut self.notices).into_iter().filter(|notice| !self.given.contains(notice)).collect();
        if self.given.len() > REMEMBERED {
            self.given.clear();
        }
        let mut once = Vec::new();
        for notice in fresh {
            if self.given.insert(notice.clone()) {
                tracing::warn!(source = %self.options.owner, "{notice}");
                once.push(notice);
            }
        }
        once
    }
}

#[cfg(test)]
mod tests;
