//! The spool: epochs that wait for a target that is away, while everything else goes on.
//!
//! **Owns** one sink's queue of epochs, the thread that delivers them, the target's claim, and the bound. **Does not own**
//! the rows, which are in the outbox, or the commit record, which says that they wait.
//!
//! ```text
//! commit thread ─ epoch e ─▶ queue ─▶ sink's thread ─▶ target
//!       │  waits a while for the first, for none behind it      │
//!       ▼                                                       ▼
//! commits/e: taken, or "spooled"                    deliveries/e-sink, if it was spooled
//! ```
//!
//! I1: all deliveries to the target come from one thread, in the order of epochs.
//! I2: an epoch leaves the queue once its commit record can say that it was taken, or its delivery record says so.
//! I3: nothing is delivered before the target is claimed and was found not to be ahead of the checkpoint.
//!
//! Failure: what is in the queue is in the checkpoint too; the next run fills it from there. Errors but the target's absence
//! end the thread and fail the next commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use watershed_ports::{Clock, Sink as _, Staged};
use watershed_protocol::{DeliveryRecord, FORMAT};
use watershed_types::{Certainty, Epoch, Error, Generation, Kind, Options, Result};

use super::commit::retry;
use super::outside::{Landed, Outside, waiting};
use super::patience::{FIRST_PAUSE, LONGEST_PAUSE, Patience, jittered};
use super::recover::sink_ahead;
use super::status::{SharedStatus, SpoolStatus};
use crate::checkpoint::Checkpoint;

/// How long an orderly end waits for deliveries that make progress.
const DRAIN: Duration = Duration::from_secs(30);
/// How long the end of a run waits for a delivery under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a sink says about its target being away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolOptions {
    /// An epoch is not waited for longer than this.
    pub after: Duration,
    /// Once this much waits, everything waits.
    pub max_bytes: u64,
}

impl SpoolOptions {
    /// Takes `on_unavailable`, `spool_after` and `spool_max_bytes`; `None` if the sink is to be waited for.
    pub fn take(options: &mut Options) -> Result<Option<Self>> {
        let wanted = options.parse("on_unavailable", "'wait' or 'spool'", |text| match text.trim().to_ascii_lowercase().as_str() {
            "wait" => Some(false),
            "spool" => Some(true),
            _ => None,
        })?;
        let (after, max_bytes) = (options.duration("spool_after")?, options.bytes("spool_max_bytes")?);
        if wanted == Some(true) {
            return Ok(Some(Self { after: after.unwrap_or(Duration::from_secs(5)), max_bytes: max_bytes.unwrap_or(10 << 30).max(1) }));
        }
        if after.is_some() || max_bytes.is_some() {
            return Err(Error::invalid("RUN0031", format!("{}: spool_after and spool_max_bytes are for on_unavailable = 'spool'", options.owner()))
                .hint("Add on_unavailable = 'spool', or leave them out."));
        }
        Ok(None)
    }
}

/// What the commit learns of an epoch.
pub enum Taken {
    /// The target has it.
    Landed(Landed),
    /// It waits.
    Spooled,
}

/// A sink's spool.
pub struct Spool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    outside: Arc<Outside>,
    options: SpoolOptions,
    checkpoint: Checkpoint,
    generation: Generation,
    clock: Arc<dyn Clock>,
    status: SharedStatus,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    claimed: bool,
    /// The target's last words, while it is away.
    away: Option<String>,
    /// The answer to an epoch that the commit waits for.
    landed: Option<(Epoch, Landed)>,
    failed: Option<Error>,
    stopping: bool,
    ended: bool,
}

#[derive(Clone)]
struct Entry {
    epoch: Epoch,
    parts: Vec<Staged>,
    rows: u64,
    bytes: u64,
    /// Its commit record says, or will say, that it waits.
    owed: bool,
}

impl Entry {
    fn new(epoch: Epoch, parts: Vec<Staged>, owed: bool) -> Self {
        let receipt = waiting(&parts);
        Self { epoch, parts, rows: receipt.rows, bytes: receipt.bytes, owed }
    }
}

impl State {
    fn owed_bytes(&self) -> u64 {
        self.queue.iter().filter(|entry| entry.owed).map(|entry| entry.bytes).sum()
    }
}

impl Spool {
    /// Starts the thread; it claims the target before the first delivery.
    pub fn start(
        outside: Arc<Outside>,
        options: SpoolOptions,
        checkpoint: Checkpoint,
        generation: Generation,
        clock: Arc<dyn Clock>,
        status: SharedStatus,
    ) -> std::io::Result<Self> {
        let name = format!("spool-{}", outside.outbox.name());
        let shared = Arc::new(Shared { outside, options, checkpoint, generation, clock, status, state: Mutex::default(), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Claims the target for the start of a run. `None` if it is away: then it is claimed when it is back.
    pub fn claim(&self) -> Result<Option<Epoch>> {
        match self.shared.outside.outbox.claim(self.shared.generation) {
            Ok(shows) => {
                self.shared.state.lock().claimed = true;
                Ok(Some(shows))
            }
            Err(error) if error.kind() == Kind::Unavailable => {
                tracing::warn!(sink = self.shared.name(), error = %error.report(), "the target is away; its epochs are kept for it");
                self.shared.state.lock().away = Some(error.message().to_owned());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Fills the queue after a start.
    pub fn owe(&self, epochs: Vec<(Epoch, Vec<Staged>)>) {
        let mut state = self.shared.state.lock();
        state.queue.extend(epochs.into_iter().map(|(epoch, parts)| Entry::new(epoch, parts, true)));
        self.shared.publish(&state);
        self.shared.changed.notify_all();
    }

    /// The first epoch the target still has to be given, of those whose commit record says so.
    pub fn owed(&self) -> Option<Epoch> {
        self.shared.state.lock().queue.iter().find(|entry| entry.owed).map(|entry| entry.epoch)
    }

    /// Takes an epoch of the commit: waits for its delivery if nothing is before it, but not long. While the spool is
    /// full, waits for room; `recovering` does not, as the epoch's rows are in the store already.
    pub fn take(&self, epoch: Epoch, parts: &[Staged], patience: &Patience, recovering: bool) -> Result<Taken> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let started = Instant::now();
        while !recovering && state.owed_bytes() >= shared.options.max_bytes && state.failed.is_none() && !state.ended {
            if patience.is_over(started.elapsed()) {
                return Err(shared.full(&state));
            }
            patience.tell(shared.name(), Some(shared.full(&state).message()));
            shared.changed.wait_for(&mut state, Duration::from_millis(100));
        }
        patience.tell(shared.name(), None);
        let alone = state.queue.is_empty() && state.away.is_none();
        if state.failed.is_none() && !state.ended {
            state.queue.push_back(Entry::new(epoch, parts.to_vec(), !alone));
            shared.publish(&state);
            shared.changed.notify_all();
        }
        let deadline = Instant::now() + shared.options.after;
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if state.ended {
                return Err(Error::internal("RUN0032", format!("the spool of sink \"{}\" has ended", shared.name())));
            }
            match state.landed.take() {
                Some((landed, answer)) if landed == epoch => return Ok(Taken::Landed(answer)),
                _ if !alone => return Ok(Taken::Spooled),
                _ => {}
            }
            if state.away.is_some() || Instant::now() >= deadline {
                state.queue.iter_mut().filter(|entry| entry.epoch == epoch).for_each(|entry| entry.owed = true);
                shared.publish(&state);
                return Ok(Taken::Spooled);
            }
            shared.changed.wait_until(&mut state, deadline);
        }
    }

    /// At the orderly end of a run: waits as long as epochs are being delivered, unless the target is away.
    pub fn drain(&self, patience: &Patience) {
        let mut state = self.shared.state.lock();
        let (started, mut progress, mut left) = (Instant::now(), Instant::now(), state.queue.len());
        while !state.queue.is_empty() && state.away.is_none() && state.failed.is_none() && !state.ended {
            if state.queue.len() < left {
                (left, progress) = (state.queue.len(), Instant::now());
            }
            if progress.elapsed() >= DRAIN || patience.is_stopped_for(started.elapsed()) {
                return;
            }
            self.shared.changed.wait_for(&mut state, Duration::from_millis(100));
        }
        if let Some(error) = &state.failed {
            tracing::error!(sink = self.shared.name(), error = %error.report(), "epochs that wait were not delivered");
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + FAREWELL;
        while !state.ended {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                // It hangs in the target. Whatever it still does is fenced, or done by the next run in the same way.
                return;
            }
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn name(&self) -> &str {
        self.outside.outbox.name()
    }

    fn full(&self, state: &State) -> Error {
        let away = state.away.as_deref().unwrap_or("it does not keep up");
        Error::unavailable("RUN0033", format!("the spool of sink \"{}\" is full ({} MiB wait): {away}", self.name(), state.owed_bytes() >> 20))
            .hint("Bring the target back, or raise spool_max_bytes; nothing is lost meanwhile.")
            .definite()
    }

    fn run(&self) {
        let ended = self.deliver_all();
        let mut state = self.state.lock();
        if let Err(error) = ended {
            let words = format!("sink \"{}\" takes no more epochs: {}", self.name(), error.message());
            tracing::error!(sink = self.name(), error = %error.report(), "the spool has stopped");
            self.status.write().notices.push(words);
            state.failed = Some(error);
        }
        state.ended = state.failed.is_none();
        self.changed.notify_all();
        // The commit takes the error away, or the end of the run comes.
        while state.failed.is_some() && !state.stopping {
            self.changed.wait(&mut state);
        }
        state.ended = true;
        self.changed.notify_all();
    }

    fn deliver_all(&self) -> Result<()> {
        loop {
            let entry = {
                let mut state = self.state.lock();
                loop {
                    if state.stopping {
                        return Ok(());
                    }
                    match state.queue.front() {
                        Some(entry) => break entry.clone(),
                        None => self.changed.wait(&mut state),
                    }
                }
            };
            let Some(landed) = self.persist(&entry)? else { return Ok(()) };
            let mut state = self.state.lock();
            if state.queue.front().is_some_and(|entry| entry.owed) {
                drop(state);
                self.record(&entry, landed)?; // I2
                state = self.state.lock();
            } else {
                state.landed = Some((entry.epoch, landed));
            }
            state.queue.pop_front();
            self.publish(&state);
            self.changed.notify_all();
        }
    }

    /// Tries until the target has the epoch; `None` if the run ends first.
    fn persist(&self, entry: &Entry) -> Result<Option<Landed>> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(entry) {
                Err(error) if error.kind() == Kind::Unavailable => error,
                other => {
                    let mut state = self.state.lock();
                    if state.away.take().is_some() {
                        tracing::info!(sink = self.name(), waiting = state.queue.len(), "the target is back");
                        self.publish(&state);
                    }
                    return other.map(Some);
                }
            };
            let certainty = if error.certainty() == Some(Certainty::Indefinite) { "may have happened" } else { "did not happen" };
            tracing::warn!(sink = self.name(), error = %error.report(), certainty, "trying again");
            let mut state = self.state.lock();
            // A moment's trouble leaves nobody behind.
            if pause > FIRST_PAUSE || state.queue.front().is_some_and(|entry| entry.owed) {
                state.away = Some(error.message().to_owned());
            }
            self.publish(&state);
            self.changed.notify_all();
            let until = Instant::now() + jittered(pause);
            while !state.stopping && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.stopping {
                return Ok(None);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&self, entry: &Entry) -> Result<Landed> {
        let outbox = &self.outside.outbox;
        if !self.state.lock().claimed {
            let shows = outbox.claim(self.generation)?;
            let prepared = self.checkpoint.history()?.last_prepared();
            if shows > prepared {
                return Err(sink_ahead(self.name(), shows, prepared)); // I3
            }
            self.state.lock().claimed = true;
        }
        let (outcome, refused) = outbox.deliver(entry.epoch, self.generation, &entry.parts)?;
        self.outside.settle(entry.epoch, self.generation, &entry.parts, self.clock.as_ref(), outcome, &refused)
    }

    fn record(&self, entry: &Entry, landed: Landed) -> Result<()> {
        let record = DeliveryRecord {
            format: FORMAT,
            epoch: entry.epoch,
            sink: self.name().to_owned(),
            generation: self.generation,
            delivered_at: self.clock.now_micros(),
            receipt: landed.receipt,
            ledger: vec![landed.row],
        };
        retry(|| self.checkpoint.record_delivery(&record))
    }

    /// Says how much waits.
    fn publish(&self, state: &State) {
        let owed: Vec<&Entry> = state.queue.iter().filter(|entry| entry.owed).collect();
        let spooled = SpoolStatus {
            epochs: owed.len() as u64,
            rows: owed.iter().map(|entry| entry.rows).sum(),
            bytes: owed.iter().map(|entry| entry.bytes).sum(),
            first_epoch: owed.first().map(|entry| entry.epoch.0),
            away: state.away.clone(),
        };
        let gauge = |name: &'static str, value: u64| metrics::gauge!(name, "sink" => self.name().to_owned()).set(value as f64);
        gauge("watershed_sink_spooled_epochs", spooled.epochs);
        gauge("watershed_sink_spooled_rows", spooled.rows);
        gauge("watershed_sink_spooled_bytes", spooled.bytes);
        gauge("watershed_sink_unavailable", u64::from(spooled.away.is_some()));
        self.status.write().spools.insert(self.name().to_owned(), spooled);
    }
}
