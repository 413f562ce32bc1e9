//! Backups of the checkpoint on a schedule: taken beside a running pipeline, checked, kept for a while, cleaned away.
//!
//! ```text
//! to/
//!     backups/20261121T020000Z.json      what a finished backup holds: epoch, files, checksums
//!     unfinished/20261121T020000Z.json   one that was begun; the next attempt goes on with it
//!     20261121T020000Z/…                 its files: a checkpoint like any other
//! ```
//!
//! **Owns** when and where. **Does not own** how a checkpoint is copied consistently, which is `checkpoint backup`'s.
//!
//! I1: a backup counts once its record is written, and that is after its copy was audited.
//! I2: the newest good backup is never cleaned away, however old it is.
//! I3: the pipeline does not wait: the schedule has a thread of its own, and its failures are warnings and a metric.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_protocol::{Paths, checksum, open, seal};
use watershed_types::{Error, Result};

use crate::commands::checkpoint::copy;
use crate::commands::verify::audit;
use crate::project::{BackupSettings, Project};
use crate::system::open_store;

const RECORDS: &str = "backups";
const UNFINISHED: &str = "unfinished";
/// How soon one that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the metric is set.
const LOOK: Duration = Duration::from_secs(5);

/// A finished backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its name: the folder below `to`.
    pub name: String,
    /// Whose it is.
    pub pipeline: String,
    /// The checkpoint's id.
    pub id: String,
    /// The newest complete epoch in it.
    pub epoch: u64,
    /// When it was begun and finished, microseconds since 1970.
    pub begun_at: i64,
    pub finished_at: i64,
    /// Its files, and what each must be.
    pub files: BTreeMap<String, BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    pub bytes: u64,
    pub checksum: String,
}

/// Where a project's backups go.
pub fn place(project: &Project, settings: &BackupSettings, runtime: &Handle) -> Result<Store> {
    Store::open(&settings.to, &project.root, runtime)
}

/// Finished backups, oldest first. One whose record is damaged is none.
pub fn finished(to: &Store) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for name in to.list(RECORDS)? {
        let path = format!("{RECORDS}/{name}");
        let Some(bytes) = to.get(&path)? else { continue };
        match open::<Record>(&to.describe(&path), &bytes) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(error = %error.report(), "a backup's record cannot be read"),
        }
    }
    Ok(records)
}

/// The newest backup of a project with a schedule.
pub fn newest(project: &Project, runtime: &Handle) -> Result<Option<Store>> {
    let Some(settings) = &project.settings.checkpoints.backup else { return Ok(None) };
    let to = place(project, settings, runtime)?;
    Ok(finished(&to)?.pop().map(|record| to.below(&record.name)))
}

/// Takes one, going on with one that was begun, and checks it.
pub fn take(from: &Store, to: &Store) -> Result<Record> {
    let begun_at = now();
    let begun = to.list(UNFINISHED)?.pop();
    let name = match &begun {
        Some(marker) => marker.trim_end_matches(".json").to_owned(),
        None => chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string(),
    };
    let marker = format!("{UNFINISHED}/{name}.json");
    to.put(&marker, b"{}\n")?;
    let target = to.below(&name);
    let copied = copy::copy_checked(from, &target);
    if let Err(error) = copied {
        // What was copied of an older state may not fit any more: the next attempt begins anew.
        if begun.is_some() {
            copy::wipe(&target)?;
        }
        return Err(error);
    }
    let mut files = BTreeMap::new();
    for path in copy::paths(&target)? {
        let Some(bytes) = target.get(&path)? else { continue };
        files.insert(path, BackupFile { bytes: bytes.len() as u64, checksum: checksum(&bytes) });
    }
    let gone = || {
        Error::corrupt("CKPT0013", format!("the backup at \"{}\" has vanished while it was taken", target.describe("")))
            .hint("Look who cleans that place; the next attempt begins anew.")
    };
    let checkpoint = Checkpoint::open(target.clone())?.ok_or_else(gone)?;
    let epoch = checkpoint.history()?.last_committed().0;
    let record = Record { name: name.clone(), pipeline: checkpoint.metadata.pipeline, id: checkpoint.metadata.id, epoch, begun_at, finished_at: now(), files };
    to.put(&format!("{RECORDS}/{name}.json"), &seal(&record)?)?;
    to.delete(&marker)?;
    Ok(record)
}

/// Checks a finished backup file by file.
pub fn check(to: &Store, record: &Record) -> Result<()> {
    let folder = to.below(&record.name);
    for (path, wanted) in &record.files {
        let found = folder.get(path)?.map(|bytes| BackupFile { bytes: bytes.len() as u64, checksum: checksum(&bytes) });
        if found.as_ref() != Some(wanted) {
            let what = if found.is_some() { "is not what was written" } else { "is missing" };
            return Err(Error::corrupt("CKPT0014", format!("file \"{}\" of the backup {what}", folder.describe(path)))
                .hint("Use another backup; `watershed checkpoint backup` takes a new one."));
        }
    }
    if let Some(wrong) = audit::checkpoint(&folder).findings.iter().find(|f| f.failed()) {
        return Err(Error::corrupt("CKPT0014", format!("the backup at \"{}\" is damaged: {}", folder.describe(""), wrong.message())).hint("Use another backup."));
    }
    Ok(())
}

/// Removes backups older than `keep`, but for the newest. Returns their names.
pub fn clean(to: &Store, keep: Duration) -> Result<Vec<String>> {
    let mut records = finished(to)?;
    records.pop();
    let oldest = now() - i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let mut removed = vec![];
    for record in records.into_iter().filter(|r| r.finished_at < oldest) {
        // The record first: half a backup must not look like one.
        to.delete(&format!("{RECORDS}/{}.json", record.name))?;
        copy::wipe(&to.below(&record.name))?;
        removed.push(record.name);
    }
    Ok(removed)
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// The schedule at work; it ends when it is dropped, after the backup it is taking.
pub struct Schedule {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Schedule {
    /// Starts it if the project has one.
    pub fn start(project: &Project, runtime: &Handle) -> Result<Option<Schedule>> {
        let Some(settings) = project.settings.checkpoints.backup.clone() else { return Ok(None) };
        let (from, to) = (open_store(project, runtime)?, place(project, &settings, runtime)?);
        let same = match (&from, &to) {
            (Store::Local(from), Store::Local(to)) => from == to,
            _ => project.settings.storage.checkpoints.trim_end_matches('/') == settings.to.trim_end_matches('/'),
        };
        if same {
            return Err(Error::invalid("CKPT0015", "backups would go where the checkpoint is").hint("Set [checkpoints.backup] to to another place, best on another disk or store."));
        }
        let (stop, stopped) = channel();
        let work = move || run(&from, &to, &settings, &|wait| matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)));
        let thread = std::thread::Builder::new().name("backup".to_owned()).spawn(work);
        let thread = thread.map_err(|e| Error::unavailable("CKPT0016", "the thread that takes backups cannot be started").caused_by(e))?;
        Ok(Some(Schedule { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes backups as they fall due; `wait` is false once it is to end.
fn run(from: &Store, to: &Store, settings: &BackupSettings, wait: &dyn Fn(Duration) -> bool) {
    let age = metrics::gauge!("watershed_backup_age_seconds");
    let epoch = metrics::gauge!("watershed_backup_epoch");
    let mut last: Option<Arc<Record>> = match finished(to) {
        Ok(mut records) => records.pop().map(Arc::new),
        Err(error) => {
            tracing::warn!(error = %error.report(), "backups cannot be looked for");
            None
        }
    };
    let mut not_before = Instant::now();
    loop {
        let since = last.as_ref().map(|r| Duration::from_micros(u64::try_from(now() - r.finished_at).unwrap_or(0)));
        age.set(since.map_or(f64::INFINITY, |s| s.as_secs_f64()));
        epoch.set(last.as_ref().map_or(0.0, |r| r.epoch as f64));
        let something = from.list(Paths::COMMITS).is_ok_and(|names| !names.is_empty());
        if something && since.is_none_or(|s| s >= settings.every) && Instant::now() >= not_before {
            match take(from, to).and_then(|record| clean(to, settings.keep).map(|removed| (record, removed))) {
                Ok((record, removed)) => {
                    tracing::info!(name = record.name, epoch = record.epoch, files = record.files.len(), removed = removed.len(), "a backup of the checkpoint was taken");
                    last = Some(Arc::new(record));
                }
                Err(error) => {
                    metrics::counter!("watershed_backup_failures_total").increment(1);
                    tracing::warn!(error = %error.report(), "a backup of the checkpoint could not be taken; it is tried again");
                    not_before = Instant::now() + AGAIN.min(settings.every);
                }
            }
        }
        if !wait(LOOK.min(settings.every)) {
            return;
        }
    }
}
