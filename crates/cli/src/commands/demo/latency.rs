//! How long a record takes from the client's request to a row in the live output.
//!
//! One record a batch is remembered by its id when its request starts; a reader of live rows looks for it. So what is
//! measured includes the request, the log's sync to disk, and the tick.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parking_lot::Mutex;
use watershed_engine::run::Live;
use watershed_types::{Error, Result};

/// Batches that may wait for the reader.
const BACKLOG: usize = 16_384;

/// Records that were sent and have not been seen.
#[derive(Default)]
pub struct Book {
    waiting: Mutex<HashMap<String, Instant>>,
    count: AtomicUsize,
    seen: Mutex<Vec<Duration>>,
}

impl Book {
    /// Remembers when a record's request starts; again if it is repeated.
    pub fn sending(&self, id: &str) {
        let mut waiting = self.waiting.lock();
        waiting.insert(id.to_owned(), Instant::now());
        self.count.store(waiting.len(), Ordering::Release);
    }

    fn look(&self, batch: &RecordBatch) {
        let arrived = Instant::now();
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let Some(column) = batch.column_by_name("transaction_id") else { return };
        let mut waiting = self.waiting.lock();
        let mut found = |id: &str| {
            if let Some(since) = waiting.remove(id) {
                self.seen.lock().push(arrived.duration_since(since));
            }
        };
        match column.data_type() {
            DataType::Utf8View => column.as_string_view().iter().flatten().for_each(&mut found),
            DataType::Utf8 => column.as_string::<i32>().iter().flatten().for_each(&mut found),
            _ => {}
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}

/// A reader of live rows at work.
pub struct Latency {
    book: Arc<Book>,
    thread: std::thread::JoinHandle<()>,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Records seen.
    pub samples: usize,
    /// Half of them took at most so long.
    pub p50: Duration,
    /// All but one in a hundred.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Latency {
    /// Follows a table until the pipeline stops.
    pub fn follow(live: &Live, table: &str) -> Result<Latency> {
        let mut rows = live.subscribe(table, BACKLOG);
        let book = Arc::new(Book::default());
        let looked = Arc::clone(&book);
        let thread = std::thread::Builder::new()
            .name("latency".to_owned())
            .spawn(move || {
                while let Some(batch) = rows.blocking_recv() {
                    looked.look(&batch);
                }
            })
            .map_err(|e| Error::unavailable("CLI0043", "a thread cannot be started").caused_by(e))?;
        Ok(Latency { book, thread })
    }

    /// Where senders say what they send.
    pub fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book)
    }

    /// The figures, after the pipeline has stopped.
    pub fn measured(self) -> Measured {
        let _ = self.thread.join();
        summary(&mut self.book.seen.lock())
    }
}

/// Percentiles of durations.
pub fn summary(all: &mut [Duration]) -> Measured {
    all.sort_unstable();
    let at = |share: f64| all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1))).copied().unwrap_or_default();
    Measured { samples: all.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
}
