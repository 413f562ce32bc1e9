//! The commit: one epoch, from sealed writers to the commit record, on a thread beside the ticks.
//!
//! **Owns** the order of durable steps. **Does not own** what is in an epoch.
//!
//! ```text
//! writers sealed ─▶ state files ─▶ offsets/e (created once) ─▶ sinks commit side by side ─▶ commits/e ─▶ prune
//! ```
//!
//! Failure: before `offsets/e` nothing has happened; after it the epoch will be finished, by this run or by the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use watershed_ports::{Clock, Sink, Staged};
use watershed_protocol::{CommitRecord, FORMAT, LedgerRow, Manifest, OperatorState, SinkReceipt, SourceProgress, StateFile, TickRecord};
use watershed_types::{Certainty, Epoch, Error, Generation, Kind, Result};

use super::figures;
use super::observe::{Accepted, SinkWork};
use super::outbox::parts;
use super::outside::{Landed, Outside};
use super::patience::Patience;
use super::side_by_side::{Finished, Part, SideBySide};
use super::spool::Spool;
use super::trace::{EpochTrace, Step, tell};
use crate::checkpoint::{Checkpoint, KeepStaged, StateOf, write_state};
use crate::failpoint::reach;

/// An operator's snapshot.
pub struct Snapshot {
    /// The operator.
    pub operator: String,
    /// What its state depends on.
    pub fingerprint: String,
    /// Event time up to which results were emitted.
    pub emitted_to: Option<i64>,
    /// Files of it that are written already, of a state that does not fit in memory.
    pub files: Vec<StateFile>,
    /// The rows that are not written yet.
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
    /// When its records were accepted.
    pub accepted: Accepted,
    /// When its first record came, and when it was sealed, microseconds since 1970.
    pub span: (i64, i64),
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
    /// When its records were accepted.
    pub accepted: Accepted,
    /// When its first record came, and when it was sealed, microseconds since 1970.
    pub span: (i64, i64),
    /// Records read in it.
    pub records: u64,
    /// What each sink did.
    pub work: BTreeMap<String, SinkWork>,
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
    /// How much of what was staged stays after its commit.
    pub keep: KeepStaged,
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
                let result = committer.traced(job);
                let failed = result.is_err();
                if done.send(result).is_err() || failed {
                    return;
                }
            }
            // The orderly end: what waits for a target that is there is delivered first.
            for spool in committer.sinks.values().filter_map(Destination::spool) {
                spool.drain(&committer.patience);
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
    /// Commits, and tells whoever draws epochs how that went.
    fn traced(&mut self, job: CommitJob) -> Result<Committed> {
        let records = job.ticks.iter().map(|tick| tick.records).sum();
        let mut trace = EpochTrace { pipeline: self.checkpoint.metadata.pipeline.clone(), epoch: job.epoch.0, generation: self.generation.0, records, ..EpochTrace::default() };
        let now = self.clock.now_micros();
        trace.steps.push(Step { name: "open", started_at: job.ticks.first().map_or(now, |tick| tick.at), ended_at: now, rows: Some(records), ..Step::default() });
        let result = self.commit(job, &mut trace.steps);
        trace.error = result.as_ref().err().map(|error| format!("{}: {}", error.code(), error.message()));
        tell(trace);
        result
    }

    fn commit(&mut self, job: CommitJob, steps: &mut Vec<Step>) -> Result<Committed> {
        let started = Instant::now();
        let mut from = self.clock.now_micros();
        let mut step = |name, clock: &dyn Clock, steps: &mut Vec<Step>| {
            let until = clock.now_micros();
            steps.push(Step { name, started_at: from, ended_at: until, ..Step::default() });
            from = until;
        };
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
        step("seal", self.clock.as_ref(), steps);
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
        step("prepare", self.clock.as_ref(), steps);
        reach("after_prepare");
        let before = steps.len();
        let sinks = finish(&self.checkpoint, &self.sinks, &manifest, self.generation, self.clock.as_ref(), &self.patience, false, (&mut *steps, job.oldest_accepted))?;
        if let Err(error) = self.checkpoint.prune(&manifest, self.keep, owed(&self.sinks)) {
            tracing::warn!(error = %error.report(), "old checkpoint files could not be removed");
        }
        reach("after_prune");
        let work = work(&steps[before..], &sinks);
        let records = manifest.ticks.iter().map(|tick| tick.records).sum();
        Ok(Committed { epoch: job.epoch, sinks, took: started.elapsed(), oldest_accepted: job.oldest_accepted, accepted: job.accepted, span: job.span, records, work })
    }

    fn extend_chain(&mut self, epoch: Epoch, snapshot: &Snapshot) -> Result<()> {
        let of = StateOf { epoch, generation: self.generation, operator: &snapshot.operator, part: snapshot.files.len(), base: snapshot.base };
        let last = retry(|| write_state(&self.checkpoint, of, &snapshot.batches, snapshot.expires_at))?;
        let chain = self.chains.entry(snapshot.operator.clone()).or_default();
        chain.fingerprint.clone_from(&snapshot.fingerprint);
        chain.emitted_to = snapshot.emitted_to;
        if snapshot.base {
            chain.files.clear();
        }
        chain.files.retain(|file| file.expires_at.is_none_or(|at| at > snapshot.expired_before));
        chain.files.extend(snapshot.files.iter().map(|file| StateFile { expires_at: snapshot.expires_at, ..file.clone() }));
        chain.files.extend(last);
        Ok(())
    }
}

/// What each sink did, from the steps of its commit and what it took.
fn work(steps: &[Step], receipts: &BTreeMap<String, SinkReceipt>) -> BTreeMap<String, SinkWork> {
    let of_step = |step: &Step| {
        let name = step.sink.clone()?;
        let SinkReceipt { rows, bytes, already_there, refused, spooled } = receipts.get(&name)?.clone();
        let seconds = (step.ended_at - step.started_at) as f64 / 1e6;
        Some((name, SinkWork { rows, bytes, refused, seconds, already_there, spooled, done_at: step.ended_at }))
    };
    steps.iter().filter_map(of_step).collect()
}

/// Where an epoch's rows go.
pub enum Destination {
    /// A sink that stages for itself: the lake.
    Sink(Arc<dyn Sink>),
    /// An outside target behind the outbox, and its spool, if it may be left behind.
    Outside(Arc<Outside>, Option<Spool>),
}

/// All of them, by name.
pub type Destinations = BTreeMap<String, Destination>;

/// The first epoch that some sink still has to be given.
pub fn owed(sinks: &Destinations) -> Option<Epoch> {
    sinks.values().filter_map(Destination::spool).filter_map(Spool::owed).min()
}

impl Destination {
    /// What its writers and its housekeeping need.
    pub fn sink(&self) -> Arc<dyn Sink> {
        match self {
            Self::Sink(sink) => Arc::clone(sink),
            Self::Outside(outside, _) => Arc::clone(&outside.outbox) as Arc<dyn Sink>,
        }
    }

    /// Its spool, if it has one.
    pub fn spool(&self) -> Option<&Spool> {
        match self {
            Self::Outside(_, spool) => spool.as_ref(),
            Self::Sink(_) => None,
        }
    }
}

/// Hands an epoch to a target that is waited for.
pub fn deliver(outside: &Outside, epoch: Epoch, generation: Generation, parts: &[Staged], clock: &dyn Clock, patience: &Patience) -> Result<Landed> {
    let (outcome, refused) = patience.attempt(outside.outbox.name(), || outside.outbox.deliver(epoch, generation, parts))?;
    outside.settle(epoch, generation, parts, clock, outcome, &refused)
}

/// Commits every sink of a prepared epoch and records that it is complete. Used after a start too: then `recovering`.
pub fn finish(
    checkpoint: &Checkpoint,
    sinks: &Destinations,
    manifest: &Manifest,
    generation: Generation,
    clock: &dyn Clock,
    patience: &Patience,
    recovering: bool,
    (steps, oldest_accepted): (&mut Vec<Step>, Option<i64>),
) -> Result<BTreeMap<String, SinkReceipt>> {
    let epoch = manifest.epoch;
    let mut given = Vec::with_capacity(manifest.staged.len());
    for (name, payloads) in &manifest.staged {
        let sink = sinks.get(name).ok_or_else(|| {
            Error::invalid("RUN0009", format!("epoch {epoch} has rows for sink \"{name}\", which the project does not have any more"))
                .hint("Bring the sink back for one start, so that the epoch can be finished; then remove it.")
        })?;
        given.push(Part { name, sink, staged: parts(epoch, name, payloads)? });
    }
    let (finished, outcome) = SideBySide { epoch, generation, clock, patience: patience.clone(), recovering }.commit(given);
    let mut receipts = BTreeMap::new();
    let mut ledger = manifest.ledger.clone();
    let mut in_lake = None;
    for Finished { name, sink, step, receipt, row } in finished {
        match (sink, receipt.spooled, oldest_accepted) {
            (Destination::Sink(_), ..) => in_lake = in_lake.max(Some(step.ended_at)),
            (Destination::Outside(..), false, Some(oldest)) => figures::latency(format!("sink:{name}"), oldest, step.ended_at),
            // What is spooled arrives some other time.
            (Destination::Outside(..), ..) => {}
        }
        receipts.insert(name.to_owned(), receipt);
        ledger.extend(row);
        steps.push(step);
    }
    outcome?;
    reach("after_sinks");
    if let (Some(oldest), Some(at)) = (oldest_accepted, in_lake) {
        figures::latency("lake", oldest, at);
    }
    let started_at = clock.now_micros();
    // What was delivered since it was asked has its record, and is passed over at the next start.
    let behind = sinks.iter().filter_map(|(name, sink)| Some((name.clone(), sink.spool()?.owed()?))).collect();
    let record = CommitRecord { format: FORMAT, epoch, generation, committed_at: clock.now_micros(), sinks: receipts.clone(), ledger, behind };
    retry(|| checkpoint.complete(&record))?;
    steps.push(Step { name: "record", started_at, ended_at: clock.now_micros(), ..Step::default() });
    reach("after_complete");
    Ok(receipts)
}

/// Tries again, with growing pauses, what failed because the other side was not there. Every call here is idempotent:
/// files are created once, sinks know the epochs they hold; so an indefinite failure may be repeated too.
pub(super) fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
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
