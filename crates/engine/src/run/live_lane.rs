//! Lanes of live sinks: a thread per sink, so that ticks go on while the other side answers.
//!
//! **Owns** the order of a live sink's calls, trying again, and the account of its rows. **Does not own** the quarantine of
//! what it refuses, or when an epoch ends.
//!
//! I1: the sink is called in the order of the calls here; after a failure it is not called any more.
//! I2: a flush is answered when all that was written before it has surely arrived, or with the reason why it has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use watershed_ports::Clock;
use watershed_protocol::Account;
use watershed_types::{Epoch, Error, Result};

use super::figures;
use super::observe::{Accepted, Observed};
use super::outbox::Rejected;
use super::patience::Patience;
use super::recover::LiveSink;

/// What may wait for a sink before the ticks do: about the chunks of a tick.
const BACKLOG: usize = 32;

/// Where the answer to [`LiveLane::flush`] arrives.
pub type Flushing = Receiver<Result<()>>;

enum Message {
    Write(RecordBatch),
    Tick(Option<i64>, Accepted),
    Flush(Sender<Result<()>>),
    Committed(Epoch),
}

/// What became of rows since it was last asked.
#[derive(Default)]
pub struct Taken {
    /// Their account.
    pub account: Account,
    /// Those the other side refused.
    pub rejected: Vec<Rejected>,
}

/// The thread of a live sink.
pub struct LiveLane {
    /// The sink's name.
    pub sink: String,
    sender: Sender<Message>,
    taken: Arc<Mutex<Taken>>,
    failed: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LiveLane {
    /// Starts the thread.
    pub fn start(sink: String, target: Box<dyn LiveSink>, patience: &Patience, clock: Arc<dyn Clock>, observed: Arc<Observed>) -> std::io::Result<LiveLane> {
        let (sender, receiver) = bounded(BACKLOG);
        let (taken, failed, given_up) = (Arc::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let worker = Worker {
            stage: format!("sink:{sink}"),
            sink: sink.clone(),
            target,
            patience: patience.unless(Arc::clone(&given_up)),
            clock,
            observed,
            taken: Arc::clone(&taken),
            failed: Arc::clone(&failed),
            given_up: Arc::clone(&given_up),
        };
        let thread = std::thread::Builder::new().name(format!("live-{sink}")).spawn(move || worker.run(&receiver))?;
        Ok(LiveLane { sink, sender, taken, failed, given_up, thread: Some(thread) })
    }

    /// Hands over rows, and waits while too many wait already: that is the backpressure. Errors: why an earlier call failed.
    pub fn write(&self, batch: RecordBatch) -> Result<()> {
        let (started, full) = (Instant::now(), self.sender.is_full());
        self.send(Message::Write(batch))?;
        if full {
            figures::waited(&self.sink, started);
        }
        Ok(())
    }

    /// The end of a tick, and when its records were accepted. Errors as [`LiveLane::write`].
    pub fn tick(&self, oldest: Option<i64>, accepted: &Accepted) -> Result<()> {
        self.send(Message::Tick(oldest, accepted.clone()))
    }

    /// Asks for everything written so far to arrive.
    pub fn flush(&self) -> Flushing {
        let (answer, receiver) = bounded(1);
        if self.sender.send(Message::Flush(answer.clone())).is_err() {
            let _ = answer.send(Err(ended(&self.sink)));
        }
        receiver
    }

    /// Says that an epoch is complete everywhere. Errors as [`LiveLane::write`].
    pub fn committed(&self, epoch: Epoch) -> Result<()> {
        self.send(Message::Committed(epoch))
    }

    /// What became of rows since the last call; of all of them after a flush was answered.
    pub fn take(&self) -> Taken {
        std::mem::take(&mut *self.taken.lock())
    }

    fn send(&self, message: Message) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            settled(&self.sink, &self.flush())?;
        }
        self.sender.send(message).map_err(|_| ended(&self.sink))
    }
}

/// Waits for the answer to a flush.
pub fn settled(sink: &str, answer: &Flushing) -> Result<()> {
    answer.recv().unwrap_or_else(|_| Err(ended(sink)))
}

impl Drop for LiveLane {
    /// What was not flushed comes again with the next run.
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
        let (closed, _) = bounded(0);
        self.sender = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended(sink: &str) -> Error {
    Error::internal("RUN0003", format!("the thread of sink \"{sink}\" has ended"))
}

struct Worker {
    sink: String,
    /// Its name among latencies.
    stage: String,
    target: Box<dyn LiveSink>,
    patience: Patience,
    clock: Arc<dyn Clock>,
    observed: Arc<Observed>,
    taken: Arc<Mutex<Taken>>,
    failed: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut error = None;
        for message in messages {
            if self.given_up.load(Ordering::SeqCst) {
                return;
            }
            let failed = self.failed.load(Ordering::Relaxed);
            let done = match message {
                Message::Flush(answer) => {
                    let done = match error.take() {
                        Some(error) => Err(error),
                        None if failed => Err(ended(&self.sink)),
                        None => self.flush(),
                    };
                    self.note(done.is_err());
                    let _ = answer.send(done);
                    continue;
                }
                _ if failed => continue, // I1
                Message::Write(batch) => self.write(&batch),
                Message::Tick(oldest, accepted) => self.tick(oldest, &accepted),
                Message::Committed(epoch) => self.patience.attempt(&self.sink, || self.target.committed(epoch)),
            };
            if let Err(cause) = done {
                error = Some(cause);
                self.note(true);
            }
        }
    }

    fn note(&self, failed: bool) {
        self.failed.fetch_or(failed, Ordering::Relaxed);
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let refused = self.patience.attempt(&self.sink, || self.target.write(batch))?;
        let (read, quarantined) = (batch.num_rows() as u64, refused.len() as u64);
        let account = Account { read, delivered: read - quarantined, quarantined, ..Account::default() };
        let rejected = refused.into_iter().map(|row| Rejected { json: crate::json::row_as_json(batch, row.row as usize), row });
        let mut taken = self.taken.lock();
        taken.account.add(&account);
        taken.rejected.extend(rejected);
        Ok(())
    }

    fn tick(&mut self, oldest: Option<i64>, accepted: &Accepted) -> Result<()> {
        self.patience.attempt(&self.sink, || self.target.tick())?;
        let now = self.clock.now_micros();
        if let Some(oldest) = oldest {
            figures::latency(self.stage.clone(), oldest, now);
        }
        self.observed.reached(&self.stage, now, accepted);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.patience.attempt(&self.sink, || self.target.flush())
    }
}
