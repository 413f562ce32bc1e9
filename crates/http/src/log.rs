//! The log of one source: its folder, its partitions, their appenders.
//!
//! **Owns** opening, the lock on the folder, dealing requests to partitions, backpressure, closing. **Does not own** HTTP.
//!
//! I1: one process appends at a time: the file `lock` is locked as long as the log is open.
//! I2: a partition whose folder exists is read, even if `partitions` says fewer by now; only new records keep to the option.
//!
//! Failure and recovery: see `recover` (opening) and `appender` (writing). Dropping the log closes it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;
use watershed_ports::{Clock, SystemClock};
use watershed_types::{Error, Kind, Result};

use crate::appender::{Appender, Queue};
use crate::body::{self, BodyKind, Records};
use crate::disk::{Disk, LocalDisk};
use crate::options::HttpOptions;
use crate::partition::{Mark, Partition, Signal};
use crate::reader::{self, LogSource};
use crate::recover::recover;
use crate::trouble;

/// Memory of the tail caches of one log.
const CACHE_BYTES: u64 = 64 << 20;

/// Where the records of a request are now, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// How many were accepted.
    pub records: u64,
    /// The partition of the first part.
    pub partition: u32,
    /// Their first offset there.
    pub first_offset: u64,
    /// Their last offset there; means nothing when no record was accepted.
    pub last_offset: u64,
    /// Every partition that took some: one, unless a key deals them out; none for an empty body.
    pub parts: Vec<AppendedPart>,
}

/// One partition's share of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedPart {
    /// The partition.
    pub partition: u32,
    /// How many records it took.
    pub records: u64,
    /// The first one's offset.
    pub first_offset: u64,
    /// The last one's offset.
    pub last_offset: u64,
}

/// One partition, for inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The partition.
    pub partition: u32,
    /// The first offset that is still there.
    pub first_offset: u64,
    /// The offset of the next record.
    pub end_offset: u64,
    /// Files.
    pub segments: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that the slowest reader has not read.
    pub unread_bytes: u64,
}

/// An append-only log on local disk.
pub struct Log {
    name: Arc<str>,
    options: HttpOptions,
    dir: PathBuf,
    partitions: Vec<Arc<Partition>>,
    /// One for each partition that takes new records; none when opened read-only.
    queues: Vec<Arc<Queue>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    signal: Arc<Signal>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    next_reader: AtomicU64,
    closed: AtomicBool,
    /// Held, never read.
    _lock: Option<File>,
}

impl Log {
    /// Opens, or makes, the log in `dir`, the source's own folder (`…/.watershed/log/<source>`); `name` is for errors.
    /// Cuts a torn tail; refuses a damaged log and one that another process has open.
    pub fn open(dir: &Path, name: &str, options: HttpOptions) -> Result<Arc<Log>> {
        Self::open_on(dir, name, options, Arc::new(LocalDisk), Arc::new(SystemClock))
    }

    /// Opens a log to look at it, beside the process that writes it. Shows what was there at this moment.
    pub fn open_read_only(dir: &Path, name: &str) -> Result<Arc<Log>> {
        if !dir.is_dir() {
            return Err(Error::invalid(trouble::UNREADABLE, format!("log \"{name}\" has no folder \"{}\"", dir.display()))
                .hint("It is made when the source first runs."));
        }
        let shape = Shape { name, dir, count: 0, repair: false, cache: 0 };
        let log = shape.assemble(HttpOptions::default(), Arc::new(LocalDisk), Arc::new(SystemClock), None)?;
        log.closed.store(true, Ordering::SeqCst);
        Ok(Arc::new(log))
    }

    pub(crate) fn open_on(
        dir: &Path,
        name: &str,
        options: HttpOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Log>> {
        fs::create_dir_all(dir).map_err(|error| trouble::unreadable(name, dir, "make folder", error))?;
        let lock = lock(name, dir)?;
        let count = options.partitions.max(1);
        for partition in 0..count {
            let path = dir.join(partition.to_string());
            fs::create_dir_all(&path).map_err(|error| trouble::unreadable(name, &path, "make folder", error))?;
        }
        for folder in std::iter::once(dir).chain(dir.parent()) {
            disk.sync_dir(folder).map_err(|error| trouble::unreadable(name, folder, "sync folder", error))?;
        }
        let shape = Shape { name, dir, count, repair: true, cache: CACHE_BYTES };
        let log = shape.assemble(options, disk, clock, Some(lock))?;
        Ok(Arc::new(log))
    }

    /// Accepts a body: returns after its records are on disk. Nothing is taken if it is refused.
    pub async fn append(&self, body: Bytes, content: BodyKind) -> Result<Appended> {
        self.check_open()?;
        self.check_len(body.len() as u64)?;
        self.check_backlog()?;
        let records = body::split(body, content, self.options.max_record)?;
        if records.count == 0 {
            return Ok(Appended { records: 0, partition: 0, first_offset: 0, last_offset: 0, parts: Vec::new() });
        }
        let takers = self.queues.len() as u32;
        let piles = match &self.options.key {
            Some(key) if takers > 1 => body::deal(&records, key, takers),
            _ => vec![((self.next.fetch_add(1, Ordering::Relaxed) % u64::from(takers)) as u32, records)],
        };
        self.land(piles).await
    }

    async fn land(&self, piles: Vec<(u32, Records)>) -> Result<Appended> {
        let mut waiting = Vec::with_capacity(piles.len());
        for (partition, records) in piles {
            waiting.push((partition, self.queues[partition as usize].send(records).await));
        }
        let mut parts = Vec::with_capacity(waiting.len());
        let mut failure: Option<Error> = None;
        for (partition, receiver) in waiting {
            let outcome = match receiver {
                None => Err(trouble::closed(&self.name)),
                Some(receiver) => receiver.await.unwrap_or_else(|_| Err(trouble::vanished(&self.name))),
            };
            match outcome {
                Ok(landed) => parts.push(AppendedPart {
                    partition,
                    records: u64::from(landed.records),
                    first_offset: landed.first_offset,
                    last_offset: landed.first_offset + u64::from(landed.records) - 1,
                }),
                Err(error) => failure = Some(failure.unwrap_or(error)),
            }
        }
        match (failure, parts.first().copied()) {
            (None, Some(first)) => Ok(Appended {
                records: parts.iter().map(|part| part.records).sum(),
                partition: first.partition,
                first_offset: first.first_offset,
                last_offset: first.last_offset,
                parts,
            }),
            (Some(error), None) => Err(error),
            (Some(error), Some(_)) => Err(self.partly(&parts, error)),
            (None, None) => Err(Error::internal(trouble::PARTLY, "a request without records reached the appenders")),
        }
    }

    fn partly(&self, parts: &[AppendedPart], error: Error) -> Error {
        let landed: Vec<String> = parts.iter().map(|part| part.partition.to_string()).collect();
        let message = format!(
            "log \"{}\" took a part of the records: partitions {} have theirs, another failed: {error}",
            self.name,
            landed.join(", ")
        );
        Error::new(Kind::Unavailable, trouble::PARTLY, message)
            .hint("Sending all of them again repeats those that landed; deduplicate by a key.")
            .caused_by(error)
            .indefinite()
    }

    /// A source that reads all partitions. Several may read one log; the slowest holds retention back.
    pub fn reader(self: &Arc<Self>) -> LogSource {
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        LogSource::new(Arc::clone(self), id, Arc::clone(&self.signal))
    }

    /// Takes no more records, writes those that wait, seals the last segments. Readers go on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.queues.iter().for_each(|queue| queue.close());
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!(log = %self.name, "an appender thread panicked");
            }
        }
    }

    /// The name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Its options.
    pub fn options(&self) -> &HttpOptions {
        &self.options
    }
    /// Bytes that the slowest reader of each partition has not read.
    pub fn backlog(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lock().unread()).sum()
    }
    /// Every partition as it is now.
    pub fn partitions(&self) -> Vec<PartitionInfo> {
        let info = |partition: &Arc<Partition>| {
            let state = partition.lock();
            PartitionInfo {
                partition: partition.number,
                first_offset: state.first(),
                end_offset: state.end(),
                segments: state.segments.len(),
                bytes: state.bytes(),
                unread_bytes: state.unread(),
            }
        };
        self.partitions.iter().map(info).collect()
    }

    pub(crate) fn shared(&self) -> &[Arc<Partition>] {
        &self.partitions
    }
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }
    pub(crate) fn now(&self) -> i64 {
        self.clock.now_micros()
    }
    pub(crate) fn writable(&self) -> bool {
        self._lock.is_some()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(trouble::closed(&self.name)),
            false => Ok(()),
        }
    }

    pub(crate) fn check_len(&self, len: u64) -> Result<()> {
        if len <= self.options.max_body {
            return Ok(());
        }
        let most = self.options.max_body;
        Err(Error::invalid(trouble::BODY_TOO_LARGE, format!("the body has more than max_body = {most} bytes"))
            .hint("Send the records in several requests, or raise max_body.")
            .definite())
    }

    pub(crate) fn check_backlog(&self) -> Result<()> {
        let (backlog, most) = (self.backlog(), self.options.max_backlog);
        if backlog <= most {
            return Ok(());
        }
        let message = format!("log \"{}\" has {backlog} unread bytes, more than max_backlog = {most}", self.name);
        Err(Error::unavailable(trouble::BACKLOG, message)
            .hint("Send the records again later; if this lasts, the pipeline does not keep up or does not run.")
            .definite())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock(name: &str, dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let options = fs::OpenOptions::new().create(true).append(true).open(&path);
    let file = options.map_err(|error| trouble::unreadable(name, &path, "open", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::conflict(
            trouble::LOCKED,
            format!("log \"{name}\" is open in another process: \"{}\" is locked", path.display()),
        )
        .hint("Stop the other run of this project first; two processes must not append to one log.")),
        Err(TryLockError::Error(error)) => Err(trouble::unreadable(name, &path, "lock", error)),
    }
}

/// What opening needs to know.
struct Shape<'a> {
    name: &'a str,
    dir: &'a Path,
    /// Partitions that take new records.
    count: u32,
    repair: bool,
    cache: u64,
}

impl Shape<'_> {
    fn assemble(
        &self,
        options: HttpOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        lock: Option<File>,
    ) -> Result<Log> {
        let signal = Arc::new(Signal::default());
        let name: Arc<str> = self.name.into();
        let mut log = Log {
            name: Arc::clone(&name),
            options,
            dir: self.dir.to_owned(),
            partitions: Vec::new(),
            queues: Vec::new(),
            threads: Mutex::new(Vec::new()),
            signal: Arc::clone(&signal),
            disk,
            clock,
            next: AtomicU64::new(0),
            next_reader: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            _lock: lock,
        };
        let mut sealed = Vec::new();
        // Partitions are numbered without gaps, so the first folder that is missing ends them.
        for number in 0.. {
            let dir = self.dir.join(number.to_string());
            if !dir.is_dir() {
                break;
            }
            let recovered = recover(self.name, &dir, self.repair)?;
            let partition = Partition::new(&name, number, &dir, &recovered, self.cache / u64::from(self.count.max(1)), &signal);
            let total = reader::total_of(&partition, recovered.committed.max(partition.lock().first()))?;
            let mark = Mark { consumed_total: total, committed: recovered.committed, committed_total: total };
            partition.lock().committed = mark;
            log.partitions.push(Arc::new(partition));
            sealed.push(recovered.sealed);
        }
        for (partition, sealed) in log.partitions.iter().zip(sealed).take(self.count as usize) {
            let queue = Arc::new(Queue::new());
            log.queues.push(Arc::clone(&queue));
            let appender = Appender {
                partition: Arc::clone(partition),
                queue,
                disk: Arc::clone(&log.disk),
                clock: Arc::clone(&log.clock),
                segment_bytes: log.options.segment_bytes,
                fsync: log.options.fsync,
                file: None,
                sealed,
                suspect: false,
                rolling: false,
            };
            let builder = thread::Builder::new().name(format!("log-{name}-{}", partition.number));
            let thread = builder.spawn(move || appender.run()).map_err(|error| {
                Error::unavailable(trouble::UNREADABLE, format!("log \"{name}\" cannot start its appender: {error}"))
            })?;
            log.threads.lock().push(thread);
        }
        Ok(log)
    }
}
