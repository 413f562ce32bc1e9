//! The commit: one epoch, from sealed writers to the commit record, on a thread beside the ticks.
//!
//! **Owns** the order of durable steps. **Does not own** what is in an epoch.
//!
//! ```text
//! writers sealed ─▶ state files ─▶ offsets/e (created once) ─▶ each sink commits ─▶ commits/e ─▶ prune
//! ```
//!
//! Failure: before `offsets/e` nothing has happened; after it the epoch will be finished, by this run or by the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use watershed_ports::{Clock, CommitOutcome, Sink, Staged};
use watershed_protocol::{Account, CommitRecord, FORMAT, LedgerRow, Manifest, OperatorState, SinkReceipt, SourceProgress, TickRecord};
use watershed_types::{Certainty, Epoch, Error, Generation, Kind, Result};

use super::outbox::Outbox;
use super::patience::Patience;
use super::quarantine;
use crate::checkpoint::{Checkpoint, write_state};
use crate::failpoint::reach;

/// An operator's snapshot, still in memory.
pub struct Snapshot {
    /// The operator.
    pub operator: String,
    /// What its state depends on.
    pub fingerprint: String,
    /// Event time up to which results were emitted.
    pub emitted_to: Option<i64>,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// True if it is the whole state.
    pub base: bool,
    /// Event time after which it is not needed.
    pub expires_at: Option<i64>,
    /// Event time before which earlier files of this operator are not needed any more.
    pub expired_before: i64,
}

/// Where a writer's answer to [`super::lane::Lane::seal`] arrives.
pub type Sealing = Receiver<Result<Option<Staged>>>;

/// An epoch on its way to being committed.
pub struct CommitJob {
    /// The epoch.
    pub epoch: Epoch,
    /// The combined watermark.
    pub watermark: Option<i64>,
    /// Sources' progress.
    pub sources: BTreeMap<String, SourceProgress>,
    /// Ticks.
    pub ticks: Vec<TickRecord>,
    /// Writers' answers, by sink.
    pub seals: Vec<(String, Vec<Sealing>)>,
    /// State.
    pub snapshots: Vec<Snapshot>,
    /// Accounts.
    pub ledger: Vec<LedgerRow>,
    /// When the oldest record of it was accepted, microseconds since 1970.
    pub oldest_accepted: Option<i64>,
}

/// What became of it.
pub struct Committed {
    /// The epoch.
    pub epoch: Epoch,
    /// What each sink took.
    pub sinks: BTreeMap<String, SinkReceipt>,
    /// How long it took.
    pub took: Duration,
    /// When the oldest record of it was accepted, microseconds since 1970.
    pub oldest_accepted: Option<i64>,
}

/// What commits need.
pub struct Committer {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Who we are.
    pub generation: Generation,
    /// Every transactional sink, by name.
    pub sinks: Destinations,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// How long outside targets are waited for.
    pub patience: Patience,
    /// The state files in force.
    pub chains: BTreeMap<String, OperatorState>,
}

/// The commit thread.
pub struct CommitThread {
    jobs: Option<Sender<CommitJob>>,
    /// Results, in order.
    pub results: Receiver<Result<Committed>>,
    thread: Option<JoinHandle<()>>,
}

impl CommitThread {
    /// Starts it. It stops at the first failure.
    pub fn start(mut committer: Committer) -> std::io::Result<CommitThread> {
        let (jobs, queue) = bounded::<CommitJob>(1);
        let (done, results) = bounded(16);
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || {
            for job in queue {
                let result = committer.commit(job);
                let failed = result.is_err();
                if done.send(result).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(CommitThread { jobs: Some(jobs), results, thread: Some(thread) })
    }

    /// Hands over an epoch.
    pub fn submit(&self, job: CommitJob) -> Result<()> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job).is_ok());
        if sent == Some(true) { Ok(()) } else { Err(Error::internal("RUN0007", "the commit thread has ended")) }
    }
}

impl Drop for CommitThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Committer {
    fn commit(&mut self, job: CommitJob) -> Result<Committed> {
        let started = Instant::now();
        let mut staged: BTreeMap<String, Vec<Staged>> = BTreeMap::new();
        for (sink, answers) in job.seals {
            let mut parts = Vec::new();
            for answer in answers {
                let part = answer.recv().map_err(|_| Error::internal("RUN0003", format!("the writer of sink \"{sink}\" has ended")))??;
                parts.extend(part);
            }
            if !parts.is_empty() {
                staged.insert(sink, parts);
            }
        }
        reach("after_seal");
        for snapshot in &job.snapshots {
            self.extend_chain(job.epoch, snapshot)?;
        }
        reach("after_state");
        let mut payloads = BTreeMap::new();
        for (sink, parts) in &staged {
            let values = parts.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>();
            payloads.insert(sink.clone(), values.map_err(|e| Error::internal("RUN0008", "what a sink put aside cannot be recorded").caused_by(e))?);
        }
        let manifest = Manifest {
            format: FORMAT,
            pipeline: self.checkpoint.metadata.pipeline.clone(),
            epoch: job.epoch,
            generation: self.generation,
            prepared_at: self.clock.now_micros(),
            watermark: job.watermark,
            sources: job.sources,
            ticks: job.ticks,
            staged: payloads,
            state: self.chains.clone(),
            ledger: job.ledger,
        };
        retry(|| self.checkpoint.prepare(&manifest))?;
        reach("after_prepare");
        let sinks = finish(&self.checkpoint, &self.sinks, &manifest, self.generation, self.clock.as_ref(), &self.patience)?;
        if let Err(error) = self.checkpoint.prune(&manifest) {
            tracing::warn!(error = %error.report(), "old checkpoint files could not be removed");
        }
        reach("after_prune");
        Ok(Committed { epoch: job.epoch, sinks, took: started.elapsed(), oldest_accepted: job.oldest_accepted })
    }

    fn extend_chain(&mut self, epoch: Epoch, snapshot: &Snapshot) -> Result<()> {
        let file = retry(|| write_state(&self.checkpoint, epoch, self.generation, &snapshot.operator, &snapshot.batches, snapshot.base, snapshot.expires_at))?;
        let chain = self.chains.entry(snapshot.operator.clone()).or_default();
        chain.fingerprint.clone_from(&snapshot.fingerprint);
        chain.emitted_to = snapshot.emitted_to;
        if snapshot.base {
            chain.files.clear();
        }
        chain.files.retain(|file| file.expires_at.is_none_or(|at| at > snapshot.expired_before));
        chain.files.extend(file);
        Ok(())
    }
}

/// Where an epoch's rows go.
pub enum Destination {
    /// A sink that stages for itself: the lake.
    Sink(Arc<dyn Sink>),
    /// An outside target behind the outbox. The second is where rows it refuses are kept; the third is the table it follows.
    Outside(Arc<Outbox>, Arc<dyn Sink>, String),
}

/// All of them, by name.
pub type Destinations = BTreeMap<String, Destination>;

impl Destination {
    /// What its writers and its housekeeping need.
    pub fn sink(&self) -> Arc<dyn Sink> {
        match self {
            Self::Sink(sink) => Arc::clone(sink),
            Self::Outside(outbox, _, _) => Arc::clone(outbox) as Arc<dyn Sink>,
        }
    }

    fn commit(&self, epoch: Epoch, generation: Generation, parts: &[Staged], clock: &dyn Clock, patience: &Patience, ledger: &mut Vec<LedgerRow>) -> Result<CommitOutcome> {
        let (outbox, quarantine, table) = match self {
            Self::Sink(sink) => return retry(|| sink.commit(epoch, generation, parts)),
            Self::Outside(outbox, quarantine, table) => (outbox, quarantine, table),
        };
        let (outcome, refused) = patience.attempt(outbox.name(), || outbox.deliver(epoch, generation, parts))?;
        if !refused.is_empty() {
            let rows = quarantine::refused_by_sink(epoch, outbox.name(), table, clock.now_micros(), &refused)?;
            // Asked again after a crash, the target refuses the same rows, and the quarantine knows the epoch.
            retry(|| {
                let mut writer = quarantine.writer(epoch)?;
                writer.write(&rows)?;
                let staged = writer.seal()?;
                quarantine.commit(epoch, generation, &[staged])
            })?;
        }
        let read = parts.iter().map(|part| part.rows).sum();
        let quarantined = refused.len() as u64;
        let account = Account { read, delivered: read - quarantined, quarantined, ..Account::default() };
        ledger.push(LedgerRow { epoch: epoch.0, table_name: outbox.name().to_owned(), source: table.clone(), account });
        Ok(outcome)
    }
}

/// Commits every sink of a prepared epoch and records that it is complete. Used after a start too.
pub fn finish(
    checkpoint: &Checkpoint,
    sinks: &Destinations,
    manifest: &Manifest,
    generation: Generation,
    clock: &dyn Clock,
    patience: &Patience,
) -> Result<BTreeMap<String, SinkReceipt>> {
    let mut receipts = BTreeMap::new();
    let mut ledger = manifest.ledger.clone();
    for (index, (name, payloads)) in manifest.staged.iter().enumerate() {
        let sink = sinks.get(name).ok_or_else(|| {
            Error::invalid("RUN0009", format!("epoch {} has rows for sink \"{name}\", which the project does not have any more", manifest.epoch))
                .hint("Bring the sink back for one start, so that the epoch can be finished; then remove it.")
        })?;
        let mut parts = Vec::new();
        for payload in payloads {
            let part: Staged = serde_json::from_value(payload.clone())
                .map_err(|e| Error::corrupt("RUN0010", format!("epoch {}: what sink \"{name}\" put aside cannot be read", manifest.epoch)).caused_by(e))?;
            parts.push(part);
        }
        let before = ledger.len();
        let outcome = sink.commit(manifest.epoch, generation, &parts, clock, patience, &mut ledger)?;
        let refused = ledger[before..].iter().map(|row| row.account.quarantined).sum();
        receipts.insert(
            name.clone(),
            SinkReceipt { rows: parts.iter().map(|p| p.rows).sum(), bytes: parts.iter().map(|p| p.bytes).sum(), already_there: outcome == CommitOutcome::AlreadyThere, refused },
        );
        if index == 0 {
            reach("after_first_sink");
        }
    }
    reach("after_sinks");
    let record = CommitRecord { format: FORMAT, epoch: manifest.epoch, generation, committed_at: clock.now_micros(), sinks: receipts.clone(), ledger };
    retry(|| checkpoint.complete(&record))?;
    reach("after_complete");
    Ok(receipts)
}

/// Tries again, with growing pauses, what failed because the other side was not there. Every call here is idempotent:
/// files are created once, sinks know the epochs they hold; so an indefinite failure may be repeated too.
fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut pause = Duration::from_millis(50);
    loop {
        match attempt() {
            Err(error) if error.kind() == Kind::Unavailable && pause < Duration::from_secs(2) => {
                let certainty = if error.certainty() == Some(Certainty::Indefinite) { "may have happened" } else { "did not happen" };
                tracing::warn!(error = %error.report(), certainty, "trying again");
                std::thread::sleep(pause);
                pause *= 2;
            }
            other => return other,
        }
    }
}
