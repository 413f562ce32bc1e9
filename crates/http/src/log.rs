//! A log: partitions, their appenders, the door's rules.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use tokio::sync::oneshot;
use watershed_types::{Error, Result};

use crate::appender::{Appender, Request};
use crate::body::{BodyKind, Records, by_key, split};
use crate::disk::{Disk, LocalDisk};
use crate::options::HttpOptions;
use crate::partition::Partition;
use crate::reader::LogSource;
use crate::recover::recover;
use crate::trouble;

/// Requests that may wait for one appender.
const QUEUE: usize = 1_024;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Records taken.
    pub records: u64,
    /// The partition of the first record.
    pub partition: u32,
    /// The first record's offset in it.
    pub first_offset: u64,
    /// The last record's offset in it; with a `key`, in the last partition used.
    pub last_offset: u64,
}

/// A durable log of one source.
pub struct Log {
    name: String,
    options: HttpOptions,
    partitions: Vec<Arc<Partition>>,
    queues: Vec<SyncSender<Request>>,
    next: AtomicU32,
    /// Bytes of requests that wait for their answer.
    in_flight: AtomicU64,
    _lock: Option<File>,
}

impl Log {
    /// Opens a log for one process: its folder is made, its tail recovered, its appenders started.
    pub fn open(folder: &Path, name: &str, options: HttpOptions) -> Result<Arc<Log>> {
        Self::open_on(folder, name, options, Arc::new(LocalDisk))
    }

    pub(crate) fn open_on(folder: &Path, name: &str, options: HttpOptions, disk: Arc<dyn Disk>) -> Result<Arc<Log>> {
        let fail = |e| trouble::unreadable(name, folder, "open", e);
        fs::create_dir_all(folder).map_err(fail)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(trouble::LOCKED, format!("log \"{name}\" in \"{}\" is open in another process", folder.display()))
                    .hint("Stop that process first: a log has one writer."));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let mut log = Self::assemble(folder, name, options, false)?;
        log._lock = Some(lock);
        for partition in &log.partitions {
            fs::create_dir_all(&partition.folder).map_err(fail)?;
            let (sender, receiver) = sync_channel(QUEUE);
            let appender = Appender { partition: Arc::clone(partition), disk: Arc::clone(&disk), segment_bytes: log.options.segment_bytes, fsync: log.options.fsync };
            std::thread::Builder::new().name(format!("log-{name}-{}", partition.index)).spawn(move || appender.run(&receiver)).map_err(fail)?;
            log.queues.push(sender);
        }
        Ok(Arc::new(log))
    }

    /// Opens a log to look at it: nothing is written, appending is refused.
    pub fn open_read_only(folder: &Path, name: &str, options: HttpOptions) -> Result<Arc<Log>> {
        Self::assemble(folder, name, options, true).map(Arc::new)
    }

    fn assemble(folder: &Path, name: &str, options: HttpOptions, read_only: bool) -> Result<Log> {
        // Folders of partitions beyond the configured number stay readable.
        let mut count = options.partitions;
        while folder.join(count.to_string()).is_dir() {
            count += 1;
        }
        let mut partitions = Vec::new();
        for index in 0..count {
            let folder = folder.join(index.to_string());
            partitions.push(Arc::new(Partition::new(name, index, &folder, recover(name, &folder, read_only)?)));
        }
        Ok(Log { name: name.to_owned(), options, partitions, queues: vec![], next: AtomicU32::new(0), in_flight: AtomicU64::new(0), _lock: None })
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its options.
    pub fn options(&self) -> &HttpOptions {
        &self.options
    }
    pub(crate) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }
    /// A reader of all partitions. There should be one.
    pub fn reader(self: &Arc<Self>) -> LogSource {
        LogSource::new(Arc::clone(self))
    }

    /// Takes the records of a body; returns once they are on disk.
    ///
    /// Errors: `Invalid` (framing, sizes), `Unavailable` (backpressure, disk); each says whether the records may be there.
    pub async fn append(&self, body: Bytes, kind: BodyKind) -> Result<Appended> {
        let size = body.len() as u64;
        if size > self.options.max_body {
            return Err(Error::invalid(trouble::BODY_TOO_LARGE, format!("the body has {size} bytes, and at most {} are taken", self.options.max_body))
                .hint("Send smaller bodies, or raise max_body in the source's WITH clause.")
                .definite());
        }
        let records = split(body, kind, self.options.max_record)?;
        if records.count == 0 {
            return Ok(Appended { records: 0, partition: 0, first_offset: 0, last_offset: 0 });
        }
        let unread: u64 = self.partitions.iter().map(|p| p.state.lock().unread).sum();
        let waiting = unread + self.in_flight.load(Ordering::Relaxed);
        if waiting > 0 && waiting + size > self.options.max_backlog {
            return Err(backlog(&self.name, waiting));
        }
        let _in_flight = InFlight::new(&self.in_flight, size);
        let writable = self.options.partitions;
        let parts = match &self.options.key {
            Some(key) if writable > 1 => by_key(&records, key, writable),
            _ => vec![(self.next.fetch_add(1, Ordering::Relaxed) % writable, records.clone())],
        };
        let (mut first, mut last) = (None, 0);
        for (index, (partition, part)) in parts.into_iter().enumerate() {
            let count = u64::from(part.count);
            let base = self.append_to(partition, part).await.map_err(|error| if index == 0 { error } else { partly(&self.name, error) })?;
            first.get_or_insert((partition, base));
            last = base + count - 1;
        }
        let (partition, first_offset) = first.unwrap_or_default();
        Ok(Appended { records: u64::from(records.count), partition, first_offset, last_offset: last })
    }

    async fn append_to(&self, partition: u32, records: Records) -> Result<u64> {
        let queue = self.queues.get(partition as usize).ok_or_else(|| trouble::closed(&self.name))?;
        let (answer, answered) = oneshot::channel();
        match queue.try_send(Request { records, answer }) {
            Ok(()) => answered.await.map_err(|_| trouble::vanished(&self.name))?,
            Err(TrySendError::Full(_)) => Err(backlog(&self.name, 0)),
            Err(TrySendError::Disconnected(_)) => Err(trouble::closed(&self.name)),
        }
    }
}

/// Counts a request's bytes while it waits, also if its caller goes away.
struct InFlight<'a>(&'a AtomicU64, u64);

impl<'a> InFlight<'a> {
    fn new(counter: &'a AtomicU64, size: u64) -> Self {
        counter.fetch_add(size, Ordering::Relaxed);
        Self(counter, size)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

fn backlog(log: &str, unread: u64) -> Error {
    Error::unavailable(trouble::BACKLOG, format!("log \"{log}\" has {} MiB that the pipeline has not read yet", unread >> 20))
        .hint("Wait as long as Retry-After says, then send the records again.")
        .definite()
}

fn partly(log: &str, error: Error) -> Error {
    Error::unavailable(trouble::PARTLY, format!("log \"{log}\" took the records of some partitions and failed on another"))
        .hint("Send all records again, and let the pipeline deduplicate them.")
        .indefinite()
        .caused_by(error)
}
