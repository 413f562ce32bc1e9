//! The tick thread: takes bounded slices of input through the plan, and seals epochs.
//!
//! **Owns** the order of everything: ticks, watermarks, accounts, when an epoch ends. **Does not own** the commit.
//!
//! I1: a row is in the epoch in which its tick ran, with its effect on state, its position and its account.
//! I2: at most one epoch is being committed while the next one runs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use watershed_ports::Clock;
use watershed_protocol::{Account, LedgerRow, SinkReceipt, SourceProgress, TickRecord};
use watershed_types::{Epoch, Error, Generation, PartitionPosition, Positions, Reason, Result};

use super::alignment::{self, Alignment};
use super::budget::Budget;
use super::commit::{CommitJob, CommitThread, Committed, Snapshot};
use super::consolidate::consolidate;
use super::figures;
use super::flow::Flow;
use super::intake::{Event, Intake, Prepare};
use super::lane::Lane;
use super::live::Live;
use super::live_lane::{Flushing, LiveLane, Taken, settled};
use super::observe::{Accepted, EpochReport, Observed, STAGE_LAKE, STAGE_PROCESSED, note_accepted};
use super::patience::Patience;
use super::pieces::Pieces;
use super::quarantine;
use super::recover::{Config, positions_operator};
use super::replay::{self, REPLAY_SOURCE};
use super::status::{Meter, OperatorStatus, SharedStatus, SourceStatus};
use super::table::{Segment, TableRun};
use super::watermark::Watermarks;
use crate::checkpoint::{Checkpoint, StateOf};
use crate::failpoint::reach;
use crate::operator::{Refusal, StreamBatch, Until};
use crate::plan::{Input, Plan};

/// Ticks recorded one by one in a manifest; the last entry stands for all that follow.
const TICKS_RECORDED: usize = 256;
/// State rows since the last base, as a share of the whole, from which a new base is written; and how many files at most.
const DELTAS_BEFORE_BASE: usize = 16;
const DELTAS_AT_MOST: usize = 128;

/// A source on the tick thread.
pub struct SourceRun {
    pub(super) name: String,
    pub(super) prepare: Arc<Prepare>,
    pub(super) watermarks: Option<Watermarks>,
    pub(super) positions: Positions,
    pub(super) moved: Positions,
    pub(super) committed: Option<Sender<Positions>>,
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) done: bool,
    pub(super) positions_snapshots: usize,
    /// Records this source may bring into one tick; the tick's own limit holds as well.
    pub(super) max_rows_per_tick: u64,
    pub(super) lost: u64,
    pub(super) flow: Flow,
    pub(super) alignment: Option<Alignment>,
}

/// What [`Driver::new`] takes.
pub struct DriverParts {
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) tables: Vec<TableRun>,
    pub(super) sources: Vec<SourceRun>,
    pub(super) table_sinks: Vec<Vec<String>>,
    pub(super) patience: Patience,
    /// By the table they follow.
    pub(super) live_lanes: BTreeMap<usize, Vec<LiveLane>>,
    pub(super) lanes: BTreeMap<String, Vec<Lane>>,
    pub(super) commits: CommitThread,
    pub(super) incoming: Receiver<Event>,
    pub(super) pool: Arc<rayon::ThreadPool>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: SharedStatus,
    pub(super) live: Arc<Live>,
    pub(super) observed: Arc<Observed>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) intake_stop: Arc<AtomicBool>,
    pub(super) maintenance: Option<JoinHandle<()>>,
    pub(super) replays: Positions,
    pub(super) epoch: Epoch,
    pub(super) watermark: Option<i64>,
    pub(super) checkpoint: Checkpoint,
    pub(super) generation: Generation,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The last committed epoch.
    pub epoch: Epoch,
    /// Epochs committed by this run.
    pub epochs: u64,
    /// Records read by this run.
    pub records: u64,
    /// The accounts of this run, by table and input.
    pub accounts: BTreeMap<(String, String), Account>,
    /// Rows each sink took.
    pub sinks: BTreeMap<String, u64>,
}

/// How much of an operator was snapshotted since its last base.
#[derive(Default, Clone, Copy)]
struct Growth {
    files: usize,
    rows: u64,
    based: bool,
}

/// The tick thread's state.
pub struct Driver {
    parts: DriverParts,
    /// The epoch that is being filled.
    open: OpenEpoch,
    growth: HashMap<String, Growth>,
    in_commit: VecDeque<(Epoch, Vec<Positions>)>,
    outcome: Outcome,
    meter: Meter,
    replay_looked: Instant,
    replays_moved: Positions,
    emitted_watermark: Option<i64>,
    records: u64,
    bytes: u64,
    ticks: u64,
}

/// What a table reads of one input in one tick.
struct TableInput {
    label: String,
    batches: Vec<StreamBatch>,
    refused: Vec<Refusal>,
}

/// What a tick is to take.
#[derive(Default)]
struct Gathered {
    intakes: Vec<Intake>,
    records: u64,
    bytes: usize,
    of_source: Vec<u64>,
}

#[derive(Default)]
struct OpenEpoch {
    number: Epoch,
    since: Option<Instant>,
    bytes: u64,
    ticks: Vec<TickRecord>,
    accounts: BTreeMap<(usize, String), Account>,
    results: BTreeMap<(usize, String), Account>,
    /// By live sink and the table it follows.
    live: BTreeMap<(String, String), Account>,
    oldest_accepted: Option<i64>,
    accepted: Accepted,
}

impl Driver {
    pub(super) fn new(parts: DriverParts) -> Self {
        let number = parts.epoch.next();
        let outcome = Outcome { epoch: parts.epoch, ..Outcome::default() };
        Self {
            emitted_watermark: parts.watermark,
            parts,
            open: OpenEpoch { number, ..OpenEpoch::default() },
            growth: HashMap::new(),
            in_commit: VecDeque::new(),
            outcome,
            meter: Meter::default(),
            replay_looked: Instant::now() - Duration::from_secs(60),
            replays_moved: Positions::new(),
            records: 0,
            bytes: 0,
            ticks: 0,
        }
    }

    /// Runs until told to stop, until the input ends, or until something fails.
    pub fn run(mut self) -> Result<Outcome> {
        {
            let mut status = self.parts.status.write();
            status.state = "running".to_owned();
            status.open_epoch = self.open.number.0;
            for sink in &self.parts.plan.sinks {
                status.sinks.entry(sink.name.clone()).or_default().live = !self.parts.lanes.contains_key(&sink.name);
            }
        }
        metrics::gauge!("watershed_epoch_committed").set(self.parts.epoch.0 as f64);
        metrics::gauge!("watershed_state_budget_bytes").set(self.parts.config.memory as f64);
        self.parts.plan.tables.iter().filter(|table| table.stored).for_each(|table| figures::expect_nulls(&table.name, &table.schema));
        let ran = self.turn_until_done();
        let result = match ran {
            Ok(()) => self.close(),
            Err(error) => Err(error),
        };
        self.shut_down();
        let mut status = self.parts.status.write();
        match &result {
            Ok(()) => status.state = "stopped".to_owned(),
            Err(error) => {
                status.state = "failed".to_owned();
                status.error = Some(error.report());
            }
        }
        drop(status);
        result.map(|()| self.outcome)
    }

    fn turn_until_done(&mut self) -> Result<()> {
        loop {
            let stopping = self.parts.stop.load(Ordering::SeqCst);
            let intakes = self.collect()?;
            let replays = self.take_replays()?;
            if !intakes.is_empty() || !replays.is_empty() || self.watermark_moved() {
                self.tick(intakes, replays, false)?;
            }
            self.hear_commits(false)?;
            let interval_over = self.open.since.is_some_and(|since| since.elapsed() >= self.parts.config.epoch_interval);
            // What changed in an epoch is in memory until its snapshot: where there is none left, the epoch ends.
            if interval_over || self.open.bytes >= self.parts.config.epoch_bytes || (self.open.since.is_some() && self.budget().wants_snapshot(&self.parts.tables)) {
                self.seal()?;
            }
            if stopping || self.parts.sources.iter().all(SourceRun::is_finished) {
                return Ok(());
            }
        }
    }

    /// Waits a little for the first chunk, then takes what is there, up to a tick's limits.
    fn collect(&mut self) -> Result<Vec<Intake>> {
        let mut gathered = Gathered { of_source: vec![0; self.parts.sources.len()], ..Gathered::default() };
        self.align();
        // A deadline, not a wait per event: an idle source reports itself about as often as that wait.
        let mut deadline = Instant::now() + self.time_to_wait();
        while gathered.records < self.parts.config.max_rows_per_tick && gathered.bytes < self.parts.config.max_bytes_per_tick {
            if let Some(intake) = alignment::release(&mut self.parts.sources) {
                deadline = Instant::now();
                if self.gather(intake, &mut gathered) {
                    break;
                }
                continue;
            }
            let event = match self.parts.incoming.recv_deadline(deadline) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    for source in &mut self.parts.sources {
                        source.done = true;
                    }
                    break;
                }
            };
            match event {
                Event::Chunk { ready } => {
                    let intake = ready.recv().map_err(|_| Error::internal("RUN0022", "a decoding task has ended without an answer"))??;
                    let source = &mut self.parts.sources[intake.origin.source];
                    source.done = false;
                    let Some(intake) = alignment::admit(source, intake) else { continue };
                    deadline = Instant::now();
                    if self.gather(intake, &mut gathered) {
                        break;
                    }
                }
                Event::Unread(index, partitions) => {
                    if let Some(watermarks) = &mut self.parts.sources[index].watermarks {
                        watermarks.unread(partitions);
                    }
                    self.align();
                }
                Event::CaughtUp(index) => {
                    let source = &mut self.parts.sources[index];
                    if let Some(watermarks) = &mut source.watermarks {
                        watermarks.caught_up();
                    }
                    source.done = self.parts.config.once;
                    self.status_of(index, |status| status.caught_up = true);
                    if self.parts.sources.iter().all(SourceRun::is_finished) {
                        break;
                    }
                    self.align();
                }
                Event::End(index) => {
                    self.parts.sources[index].done = true;
                    self.status_of(index, |status| status.caught_up = true);
                    if self.parts.sources.iter().all(SourceRun::is_finished) {
                        break;
                    }
                    self.align();
                }
                Event::News(index, lag, notices) => {
                    self.hear_lag(index, lag);
                    if !notices.is_empty() {
                        let name = self.parts.sources[index].name.clone();
                        let mut status = self.parts.status.write();
                        for notice in notices {
                            tracing::warn!(source = name, "{notice}");
                            let text = format!("source \"{name}\": {notice}");
                            if !status.notices.contains(&text) {
                                status.notices.push(text);
                            }
                        }
                        let surplus = status.notices.len().saturating_sub(20);
                        status.notices.drain(..surplus);
                    }
                }
                Event::Failed(index, error) => {
                    let name = &self.parts.sources[index].name;
                    let hint = error.next_step().map(str::to_owned);
                    let failed = Error::new(error.kind(), error.code(), format!("source \"{name}\": {}", error.message())).caused_by(error);
                    return Err(match hint {
                        Some(hint) => failed.hint(hint),
                        None => failed,
                    });
                }
            }
        }
        Ok(gathered.intakes)
    }

    /// Settles anew which partitions are left alone.
    fn align(&mut self) {
        for index in alignment::settle(&mut self.parts.sources, self.parts.config.once) {
            let held = self.parts.sources[index].held();
            self.status_of(index, |status| status.held = held);
        }
    }

    /// Takes a chunk into the tick, which moves its partition's watermark; true if its source brings no more into this one.
    fn gather(&mut self, mut intake: Intake, gathered: &mut Gathered) -> bool {
        let index = intake.origin.source;
        let source = &mut self.parts.sources[index];
        judge(source, &mut intake);
        gathered.records += intake.origin.records.len() as u64;
        gathered.bytes += intake.origin.chunk.bytes.len();
        gathered.of_source[index] += intake.origin.records.len() as u64;
        let full = gathered.of_source[index] >= source.max_rows_per_tick;
        gathered.intakes.push(intake);
        self.align();
        full
    }

    fn time_to_wait(&self) -> Duration {
        let most = Duration::from_millis(50);
        match self.open.since {
            Some(since) => self.parts.config.epoch_interval.saturating_sub(since.elapsed()).min(most),
            None => most,
        }
    }

    fn status_of(&self, index: usize, change: impl FnOnce(&mut SourceStatus)) {
        let mut status = self.parts.status.write();
        change(status.sources.entry(self.parts.sources[index].name.clone()).or_default());
    }

    /// Takes what a source says of its lag.
    fn hear_lag(&mut self, index: usize, lag: watershed_ports::Lag) {
        let source = &mut self.parts.sources[index];
        source.flow.hear(Instant::now(), &lag);
        let flow = source.flow.report();
        flow.publish(&source.name);
        if let Some(records) = lag.records {
            metrics::gauge!("watershed_source_lag_records", "source" => source.name.clone()).set(records as f64);
        }
        let skew = flow.skew_notice(&source.name);
        let earlier = format!("source \"{}\": SKEWED", source.name);
        {
            let mut status = self.parts.status.write();
            status.notices.retain(|old| !old.starts_with(&earlier));
            status.notices.extend(skew);
        }
        self.status_of(index, |status| {
            (status.lag_records, status.lag_bytes) = (lag.records, lag.bytes);
            status.flow = flow;
        });
    }

    fn note_lost(&mut self, passed_over: &[Account]) {
        for (source, account) in self.parts.sources.iter().zip(passed_over).filter(|(_, account)| account.lost > 0) {
            metrics::counter!("watershed_source_lost_records_total", "source" => source.name.clone()).increment(account.lost);
            let notice = format!("source \"{}\": {} records were gone before they could be read; the ledger shows them as lost", source.name, account.lost);
            tracing::error!(source = source.name, lost = account.lost, "records were gone before they could be read");
            self.parts.status.write().notices.push(notice);
        }
    }

    fn combined_watermark(&mut self) -> Option<i64> {
        let mut least: Option<i64> = None;
        for source in &mut self.parts.sources {
            if let Some(watermark) = source.watermarks.as_mut().and_then(Watermarks::combined) {
                least = Some(least.map_or(watermark, |l| l.min(watermark)));
            }
        }
        least
    }

    fn watermark_moved(&mut self) -> bool {
        let now = self.combined_watermark();
        now > self.emitted_watermark
    }

    /// Requests that were not taken yet, as chunks for the tables that refused their rows.
    fn take_replays(&mut self) -> Result<Vec<(usize, String, Intake)>> {
        if self.replay_looked.elapsed() < Duration::from_millis(500) {
            return Ok(vec![]);
        }
        self.replay_looked = Instant::now();
        let work: PathBuf = self.parts.config.work.clone();
        let mut intakes = Vec::new();
        for name in replay::names(&work)? {
            if self.parts.replays.contains_key(&name) {
                continue;
            }
            let request = replay::read(&work, &name)?;
            let mut groups: BTreeMap<(usize, usize, bool), Vec<&replay::ReplayRow>> = BTreeMap::new();
            let mut refused: BTreeMap<usize, Vec<&replay::ReplayRow>> = BTreeMap::new();
            for row in &request.rows {
                if let Some(sink) =
                    self.parts.plan.sinks.iter().position(|s| row.reason == Reason::Sink.as_str() && s.name == row.row.table_name && self.parts.lanes.contains_key(&s.name))
                {
                    refused.entry(sink).or_default().push(row);
                    continue;
                }
                let table = self.parts.plan.tables.iter().position(|t| t.name == row.row.table_name);
                let source = table.map(|t| self.parts.plan.root_source(t));
                match (table, source) {
                    (Some(table), Some(source)) => {
                        let bypass = row.reason == Reason::Violation.as_str() || row.reason == Reason::Sink.as_str();
                        groups.entry((table, source, bypass)).or_default().push(row);
                    }
                    _ => tracing::warn!(table = row.row.table_name, "a row to be replayed belongs to a table that is gone; it stays in the quarantine"),
                }
            }
            let mut first = 0;
            for ((table, source, bypass), rows) in groups {
                let chunk = replay::chunk(&name, first, &rows, self.parts.clock.now_micros())?;
                first += rows.len() as u64;
                let mut intake = self.parts.sources[source].prepare.decode(chunk)?;
                intake.origin.target = Some(table);
                intake.origin.bypass_dedup = bypass;
                let label = format!("replay:{}", self.parts.sources[source].name);
                intakes.push((table, label, intake));
            }
            for (sink, rows) in refused {
                let sink = &self.parts.plan.sinks[sink];
                let batch = replay::rows_of_sink(&name, &rows, &self.parts.plan.tables[sink.table].schema)?;
                self.open.since.get_or_insert_with(Instant::now);
                self.write_to(&sink.name, batch)?;
            }
            let position = PartitionPosition { offset: request.rows.len() as u64, record: request.rows.len() as u64 };
            self.parts.replays.insert(name.clone(), position);
            self.replays_moved.insert(name, position);
        }
        Ok(intakes)
    }

    /// Takes chunks through the plan.
    fn tick(&mut self, intakes: Vec<Intake>, replays: Vec<(usize, String, Intake)>, last: bool) -> Result<()> {
        let started = Instant::now();
        let now = self.parts.clock.now_micros();
        self.parts.plan.time.set(now);
        self.open.since.get_or_insert(started);
        let mut records = 0;
        let mut oldest: Option<i64> = None;
        let mut accepted = Accepted::new();
        let mut of_source: Vec<Vec<StreamBatch>> = self.parts.sources.iter().map(|_| vec![]).collect();
        let mut refused_of_source: Vec<Vec<Refusal>> = self.parts.sources.iter().map(|_| vec![]).collect();
        // What a source's options leave out counts as read and filtered; what was gone before it could be read is a gap.
        let mut passed_over: Vec<Account> = vec![Account::default(); self.parts.sources.len()];
        for intake in intakes {
            let index = intake.origin.source;
            records += intake.origin.records.len() as u64;
            self.bytes += intake.origin.chunk.bytes.len() as u64;
            self.open.bytes += intake.origin.chunk.bytes.len() as u64;
            let accepted_at = intake.origin.chunk.ingested_at;
            oldest = Some(oldest.map_or(accepted_at, |o: i64| o.min(accepted_at)));
            figures::accepted(&intake.origin.event_time, accepted_at);
            note_accepted(&mut accepted, accepted_at, intake.origin.records.len() as u64);
            self.parts.observed.accepted(accepted_at, &intake.origin.event_time);
            let chunk = &intake.origin.chunk;
            passed_over[index].add(&Account { read: chunk.skipped, filtered: chunk.skipped, lost: chunk.lost, ..Account::default() });
            let source = &mut self.parts.sources[index];
            source.lost += chunk.lost;
            let position = PartitionPosition { offset: intake.origin.chunk.end_offset, record: intake.end_record };
            let stretch = intake.origin.chunk.stretch.to_string();
            source.positions.insert(stretch.clone(), position);
            source.moved.insert(stretch, position);
            let (batch, refused) = arrive(intake);
            of_source[index].push(batch);
            refused_of_source[index].extend(refused);
        }
        for (index, batches) in of_source.iter().enumerate() {
            let count: usize = batches.iter().filter_map(|b| b.origin.as_ref()).map(|o| o.records.len()).sum();
            if count > 0 {
                let name = self.parts.sources[index].name.clone();
                metrics::counter!("watershed_source_records_total", "source" => name).increment(count as u64);
                self.status_of(index, |status| {
                    status.records += count as u64;
                    status.caught_up = false;
                });
            }
        }
        let mut replayed: HashMap<usize, Vec<(String, StreamBatch, Vec<Refusal>)>> = HashMap::new();
        for (table, label, intake) in replays {
            records += intake.origin.records.len() as u64;
            let origin = Arc::new(intake.origin);
            let refused = intake.refused.into_iter().map(|r| refusal(&origin, r)).collect();
            replayed.entry(table).or_default().push((label, StreamBatch { origin: Some(origin), ..StreamBatch::results(intake.batch) }, refused));
        }
        let combined = self.combined_watermark();
        self.emitted_watermark = combined.max(self.emitted_watermark);
        let mut outputs: Vec<Vec<StreamBatch>> = Vec::with_capacity(self.parts.tables.len());
        for index in 0..self.parts.tables.len() {
            let until = Until { watermark: self.table_watermark(index), closing: last, now };
            let mut inputs = Vec::new();
            for input in self.parts.plan.tables[index].inputs.clone() {
                let label = self.parts.plan.input_name(input).to_owned();
                let (batches, refused) = match input {
                    Input::Source(source) => {
                        self.open.accounts.entry((index, label.clone())).or_default().add(&passed_over[source]);
                        (of_source[source].clone(), refused_of_source[source].clone())
                    }
                    Input::Table(table) => (outputs[table].clone(), vec![]),
                };
                inputs.push(TableInput { label, batches, refused });
            }
            let mut delivered = self.run_table(index, inputs, until, now)?;
            for (label, batch, refused) in replayed.remove(&index).unwrap_or_default() {
                let mut batches = vec![batch];
                for ancestor in self.ancestors(index) {
                    batches = self.parts.tables[ancestor].pass_through(batches, now, &self.parts.patience)?;
                }
                delivered.extend(self.run_table(index, vec![TableInput { label, batches, refused }], until, now)?);
            }
            self.deliver(index, &delivered)?;
            outputs.push(delivered);
        }
        let budget = self.budget();
        budget.keep(&mut self.parts.tables)?;
        for lane in self.parts.live_lanes.values().flatten() {
            lane.tick(oldest, &accepted)?;
        }
        self.hear_live()?;
        self.parts.observed.reached(STAGE_PROCESSED, self.parts.clock.now_micros(), &accepted);
        for (at, rows) in accepted {
            *self.open.accepted.entry(at).or_default() += rows;
        }
        self.note_lost(&passed_over);
        self.note_tick(now, records, oldest, started);
        reach("tick");
        Ok(())
    }

    /// The tables between a table and its source, the nearest to the source first. Replayed rows belong to tables that read
    /// one input: what joins streams has no rows of a source to give back.
    fn ancestors(&self, mut index: usize) -> Vec<usize> {
        let mut path = Vec::new();
        while let [Input::Table(input)] = self.parts.plan.tables[index].inputs[..] {
            path.push(input);
            index = input;
        }
        path.reverse();
        path
    }

    /// Up to where a table's inputs are complete: the least of theirs.
    fn table_watermark(&mut self, table: usize) -> i64 {
        let mut least: Option<i64> = None;
        for input in self.parts.plan.tables[table].inputs.clone() {
            let watermark = match input {
                Input::Source(source) => self.parts.sources[source].watermarks.as_mut().and_then(Watermarks::combined).unwrap_or(i64::MIN),
                Input::Table(input) => self.table_watermark(input).saturating_sub(self.parts.plan.tables[input].hold),
            };
            least = Some(least.map_or(watermark, |l| l.min(watermark)));
        }
        least.unwrap_or(i64::MIN)
    }

    fn run_table(&mut self, index: usize, inputs: Vec<TableInput>, until: Until, now: i64) -> Result<Vec<StreamBatch>> {
        let pool = Arc::clone(&self.parts.pool);
        let (table, patience) = (&mut self.parts.tables[index], &self.parts.patience);
        let (batches, others): (Vec<_>, Vec<_>) = inputs.into_iter().map(|input| (input.batches, (input.label, input.refused))).unzip();
        let outcome = pool.install(|| table.run(batches, until, patience))?;
        for (mut fates, (label, refused)) in outcome.inputs.into_iter().zip(others) {
            fates.account.read += refused.len() as u64;
            fates.account.quarantined += refused.len() as u64;
            fates.refused.extend(refused);
            self.open.accounts.entry((index, label.clone())).or_default().add(&fates.account);
            self.quarantine(index, &label, &fates.refused, now)?;
        }
        let label = format!("{} (results)", self.parts.tables[index].name);
        self.quarantine(index, &label, &outcome.refused, now)?;
        if let Some(results) = &outcome.results {
            self.open.results.entry((index, label)).or_default().add(results);
        }
        Ok(outcome.delivered)
    }

    fn quarantine(&mut self, index: usize, label: &str, refused: &[Refusal], now: i64) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let name = &self.parts.tables[index].name;
        let batch = quarantine::batch(self.open.number, name, label, now, refused)?;
        let mut status = self.parts.status.write();
        for refusal in refused {
            *status.quarantine.entry(refusal.reason.as_str().to_owned()).or_default() += 1;
            metrics::counter!("watershed_quarantine_rows_total", "table" => name.clone(), "reason" => refusal.reason.as_str()).increment(1);
        }
        drop(status);
        self.write_to("system.quarantine", batch)
    }

    fn deliver(&mut self, index: usize, delivered: &[StreamBatch]) -> Result<()> {
        let name = self.parts.tables[index].name.clone();
        let wanted = self.parts.live.wanted(&name);
        let mut rows = 0;
        let plan = &self.parts.plan.tables[index];
        let batches: Vec<RecordBatch> = match &plan.key {
            None => delivered.iter().map(|output| output.batch.clone()).collect(),
            // A part's changes go to other parts alone.
            Some(_) if self.parts.table_sinks[index].is_empty() && !wanted && !self.parts.live_lanes.contains_key(&index) => vec![],
            Some(key) => {
                let failed = |e: datafusion::common::DataFusionError| Error::internal("RUN0004", format!("table \"{name}\" failed: {}", e.strip_backtrace()));
                consolidate(delivered, key, &plan.delivered_schema()).map_err(failed)?.into_iter().collect()
            }
        };
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            rows += batch.num_rows() as u64;
            figures::nulls(&name, batch);
            if wanted {
                self.parts.live.publish(&name, batch);
            }
            for lane in self.parts.live_lanes.get(&index).into_iter().flatten() {
                lane.write(batch.clone())?;
            }
            for sink in self.parts.table_sinks[index].clone() {
                self.write_to(&sink, batch.clone())?;
            }
        }
        if rows > 0 {
            metrics::counter!("watershed_table_rows_total", "table" => name.clone()).increment(rows);
            self.parts.status.write().tables.entry(name).or_default().written += rows;
        }
        Ok(())
    }

    /// Takes note of what live sinks have done with rows of the open epoch. Those they refuse wait in the quarantine.
    fn hear_live(&mut self) -> Result<()> {
        for (index, lane) in self.parts.live_lanes.iter().flat_map(|(index, lanes)| lanes.iter().map(move |lane| (*index, lane))) {
            let Taken { account, rejected } = lane.take();
            if account.read == 0 {
                continue;
            }
            let table = &self.parts.tables[index].name;
            self.open.live.entry((lane.sink.clone(), table.clone())).or_default().add(&account);
            {
                let mut status = self.parts.status.write();
                let shown = status.sinks.entry(lane.sink.clone()).or_default();
                shown.rows += account.delivered;
                shown.refused += account.quarantined;
            }
            if !rejected.is_empty() {
                let rows = quarantine::refused_by_sink(self.open.number, &lane.sink, table, self.parts.clock.now_micros(), &rejected)?;
                self.write_to("system.quarantine", rows)?;
            }
        }
        Ok(())
    }

    /// Waits until live sinks have everything written so far, and takes note of it.
    fn settle_live(&mut self, flushes: Vec<(String, Flushing)>) -> Result<()> {
        flushes.iter().try_for_each(|(sink, answer)| settled(sink, answer))?;
        self.hear_live()
    }

    /// Asks all live sinks, so that they hurry side by side.
    fn flush_live(&self) -> Vec<(String, Flushing)> {
        self.parts.live_lanes.values().flatten().map(|lane| (lane.sink.clone(), lane.flush())).collect()
    }

    /// Hands rows to the first lane of a sink that has room, else to the first one, waiting.
    fn write_to(&self, sink: &str, batch: RecordBatch) -> Result<()> {
        let lanes = &self.parts.lanes[sink];
        let lane = lanes.iter().find(|lane| lane.has_room()).unwrap_or(&lanes[0]);
        if lane.failed() {
            return match lane.seal().recv() {
                Ok(Err(error)) => Err(error),
                _ => Err(Error::internal("RUN0003", format!("the writer of sink \"{sink}\" has failed"))),
            };
        }
        let (started, full) = (Instant::now(), !lane.has_room());
        lane.write(self.open.number, batch);
        if full {
            figures::waited(sink, started);
        }
        Ok(())
    }

    fn note_tick(&mut self, now: i64, records: u64, oldest: Option<i64>, started: Instant) {
        self.records += records;
        self.ticks += 1;
        self.outcome.records += records;
        self.open.oldest_accepted = match (self.open.oldest_accepted, oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let recorded = self.open.ticks.len();
        match self.open.ticks.last_mut() {
            Some(last) if recorded >= TICKS_RECORDED => last.records += records,
            _ => self.open.ticks.push(TickRecord { at: now, records }),
        }
        let took = started.elapsed().as_secs_f64();
        metrics::histogram!("watershed_tick_duration_seconds").record(took);
        if started.elapsed() > self.parts.config.epoch_interval {
            metrics::counter!("watershed_slow_ticks_total").increment(1);
            let interval = self.parts.config.epoch_interval.as_secs_f64();
            let notice = format!("a tick took longer than the epoch interval ({took:.1} s of {interval:.1} s): max_rows_per_tick is too large, or a sink is slow");
            let mut status = self.parts.status.write();
            status.notices.retain(|old| !old.starts_with("a tick took longer"));
            status.notices.push(notice);
        }
        if let Some(oldest) = oldest {
            figures::latency("processed", oldest, self.parts.clock.now_micros());
        }
        let rate = self.meter.rate(self.records);
        let mut status = self.parts.status.write();
        status.ticks = self.ticks;
        status.tick_seconds = took;
        status.records = self.records;
        status.bytes = self.bytes;
        status.rate = rate;
        status.watermark = self.emitted_watermark;
        for (index, table) in self.parts.tables.iter().enumerate() {
            let mut open = Account::default();
            self.open.accounts.range((index, String::new())..(index + 1, String::new())).for_each(|(_, account)| open.add(account));
            match status.tables.get_mut(&table.name) {
                Some(shown) => shown.open = open,
                None => status.tables.entry(table.name.clone()).or_default().open = open,
            }
        }
        if records > 0 && status.first_row_seconds.is_none() {
            status.first_row_seconds = Some(self.parts.config.started.elapsed().as_secs_f64());
        }
        drop(status);
        metrics::gauge!("watershed_processing_rate").set(rate);
        if self.ticks % 64 == 1 {
            self.publish_details();
        }
    }

    /// The parts of the status that cost something to compute.
    fn publish_details(&mut self) {
        let now = self.parts.clock.now_micros();
        let mut status = self.parts.status.write();
        status.stages = super::stages::seconds();
        for source in &mut self.parts.sources {
            if let Some(watermarks) = &mut source.watermarks {
                let entry = status.sources.entry(source.name.clone()).or_default();
                entry.watermark = watermarks.combined();
                (entry.held_by, entry.idle) = watermarks.holder();
                entry.partitions = watermarks.by_partition();
                entry.lateness = watermarks.lateness().clone();
                entry.delay = watermarks.delay();
                if let Some(watermark) = entry.watermark {
                    metrics::gauge!("watershed_watermark_lag_seconds", "source" => source.name.clone()).set((now - watermark) as f64 / 1e6);
                }
            }
        }
        for table in &self.parts.tables {
            let entry = status.tables.entry(table.name.clone()).or_default();
            entry.violations = table.broken().map(|(rule, count)| (rule.name.clone(), count)).collect();
            for operator in table.operators() {
                let id = operator.id().to_owned();
                let shown = OperatorStatus { rows: operator.rows(), bytes: operator.bytes(), spilled: operator.spilled(), evictions: operator.evictions() };
                metrics::gauge!("watershed_state_rows", "operator" => id.clone()).set(shown.rows as f64);
                metrics::gauge!("watershed_state_bytes", "operator" => id.clone()).set(shown.bytes as f64);
                metrics::gauge!("watershed_state_spilled_bytes", "operator" => id.clone()).set(shown.spilled as f64);
                status.operators.insert(id, shown);
            }
            for fan_out in table.fan_outs() {
                metrics::gauge!("watershed_join_fan_out", "operator" => fan_out.operator().to_owned()).set(fan_out.largest() as f64);
                if let Some(notice) = fan_out.notice() {
                    let earlier = format!("join \"{}\" has made ", fan_out.operator());
                    status.notices.retain(|old| !old.starts_with(&earlier));
                    status.notices.push(notice);
                }
            }
        }
    }

    /// Ends the open epoch and hands it to the commit thread.
    fn seal(&mut self) -> Result<()> {
        let flushes = self.flush_live();
        let started = Instant::now();
        self.hear_commits(true)?;
        figures::waited("commit", started);
        reach("before_seal");
        // What the epoch covers is not sent again: live sinks have it before it is prepared.
        self.settle_live(flushes)?;
        self.publish_details();
        let snapshots = self.snapshots()?;
        self.budget().check(&self.parts.tables)?;
        let mut sources = BTreeMap::new();
        for source in &mut self.parts.sources {
            let watermarks = source.watermarks.as_ref().map(Watermarks::by_partition).unwrap_or_default();
            let combined = source.watermarks.as_mut().and_then(Watermarks::combined);
            let (held_by, idle) = source.watermarks.as_ref().map(Watermarks::holder).unwrap_or_default();
            let lateness = source.watermarks.as_ref().map(|w| w.lateness().clone()).unwrap_or_default();
            let held = source.held();
            let (moved, lost) = (std::mem::take(&mut source.moved), std::mem::take(&mut source.lost));
            sources.insert(source.name.clone(), SourceProgress { moved, watermarks, combined, lost, held_by, idle, held, lateness });
        }
        if let Some(since) = self.open.since {
            metrics::histogram!("watershed_epoch_duration_seconds").record(since.elapsed().as_secs_f64());
        }
        let next = OpenEpoch { number: self.open.number.next(), ..OpenEpoch::default() };
        let open = std::mem::replace(&mut self.open, next);
        let sealed_at = self.parts.clock.now_micros();
        let mut ledger = Vec::new();
        for ((table, source), account) in open.accounts.iter().chain(&open.results) {
            if account.read == 0 && account.lost == 0 {
                continue;
            }
            let table_name = self.parts.tables[*table].name.clone();
            figures::ledger(&table_name, source, account);
            self.parts.status.write().tables.entry(table_name.clone()).or_default().account.add(account);
            self.outcome.accounts.entry((table_name.clone(), source.clone())).or_default().add(account);
            ledger.push(LedgerRow { epoch: open.number.0, table_name, source: source.clone(), account: *account });
        }
        ledger.extend(open.live.into_iter().map(|((sink, table), account)| LedgerRow { epoch: open.number.0, table_name: sink, source: table, account }));
        let seals = self.parts.lanes.iter().map(|(sink, lanes)| (sink.clone(), lanes.iter().map(Lane::seal).collect())).collect();
        self.parts.commits.submit(CommitJob {
            epoch: open.number,
            watermark: self.emitted_watermark,
            sources,
            seals,
            snapshots,
            ledger,
            oldest_accepted: open.oldest_accepted,
            span: (open.ticks.first().map_or(sealed_at, |tick| tick.at), sealed_at),
            ticks: open.ticks,
            accepted: open.accepted,
        })?;
        let mut status = self.parts.status.write();
        status.open_epoch = self.open.number.0;
        status.tables.values_mut().for_each(|table| table.open = Account::default());
        drop(status);
        self.in_commit.push_back((open.number, self.parts.sources.iter().map(|s| s.positions.clone()).collect()));
        metrics::gauge!("watershed_epoch_open").set(open.number.0 as f64);
        metrics::gauge!("watershed_epoch_sealed").set(open.number.0 as f64);
        Ok(())
    }

    fn budget(&self) -> Budget {
        Budget { memory: self.parts.config.memory, operator: self.parts.config.operator_memory }
    }

    fn snapshots(&mut self) -> Result<Vec<Snapshot>> {
        let failed = |id: &str, e: datafusion::common::DataFusionError| Error::internal("RUN0024", format!("operator \"{id}\" cannot be snapshotted: {e}"));
        let mut snapshots = Vec::new();
        let watermarks: Vec<i64> = (0..self.parts.tables.len()).map(|table| self.table_watermark(table)).collect();
        for (table, expired_before) in self.parts.tables.iter_mut().zip(watermarks) {
            for segment in &mut table.segments {
                let Segment::Operator(operator) = segment else { continue };
                let (id, fingerprint, rows) = (operator.id().to_owned(), operator.fingerprint().text(), operator.rows());
                let growth = self.growth.entry(id.clone()).or_default();
                let base = !growth.based || growth.files >= DELTAS_AT_MOST || (growth.files >= DELTAS_BEFORE_BASE && growth.rows >= rows);
                let of = StateOf { epoch: self.open.number, generation: self.parts.generation, operator: &id, part: 0, base };
                let mut pieces = Pieces::new(&self.parts.checkpoint, of, operator.spilled() > 0);
                let taken = operator.snapshot(base, &mut |batch| pieces.take(batch));
                pieces.failure()?;
                let expires_at = taken.map_err(|e| failed(&id, e))?;
                let (files, batches, written) = (pieces.files, pieces.batches, pieces.rows);
                *growth = if base { Growth { files: 0, rows: 0, based: true } } else { Growth { files: growth.files + 1, rows: growth.rows + written, based: true } };
                snapshots.push(Snapshot { operator: id, fingerprint, emitted_to: operator.emitted_to(), files, batches, base, expires_at, expired_before });
            }
        }
        for source in &mut self.parts.sources {
            let base = source.positions_snapshots % DELTAS_AT_MOST == 0;
            source.positions_snapshots += 1;
            let rows = if base { &source.positions } else { &source.moved };
            snapshots.extend(positions_snapshot(&source.name, rows, base)?);
        }
        let moved = std::mem::take(&mut self.replays_moved);
        snapshots.extend(positions_snapshot(REPLAY_SOURCE, &moved, false)?);
        Ok(snapshots)
    }

    /// Takes the commit thread's answers; with `wait`, until nothing is being committed.
    fn hear_commits(&mut self, wait: bool) -> Result<()> {
        loop {
            let answer = if wait && !self.in_commit.is_empty() {
                self.parts.commits.results.recv().map_err(|_| Error::internal("RUN0007", "the commit thread has ended"))?
            } else {
                match self.parts.commits.results.try_recv() {
                    Ok(answer) => answer,
                    Err(_) => return Ok(()),
                }
            };
            let committed = answer?;
            let Some((epoch, positions)) = self.in_commit.pop_front() else { continue };
            debug_assert_eq!(epoch, committed.epoch, "epochs are committed in order");
            for (source, positions) in self.parts.sources.iter().zip(positions) {
                if let Some(listener) = &source.committed {
                    let _ = listener.send(positions);
                }
            }
            for lane in self.parts.live_lanes.values().flatten() {
                lane.committed(committed.epoch)?;
            }
            self.outcome.epoch = committed.epoch;
            self.outcome.epochs += 1;
            for (sink, SinkReceipt { rows, .. }) in &committed.sinks {
                *self.outcome.sinks.entry(sink.clone()).or_default() += rows;
            }
            let now = self.parts.clock.now_micros();
            let mut status = self.parts.status.write();
            status.epoch = committed.epoch.0;
            status.committed_at = Some(now);
            status.commit_seconds = committed.took.as_secs_f64();
            for sink in &self.parts.plan.sinks {
                let shown = status.sinks.entry(sink.name.clone()).or_default();
                if committed.work.get(&sink.name).is_some_and(|work| work.spooled) {
                    continue;
                }
                let Some(work) = committed.work.get(&sink.name) else {
                    // A live one, or one without rows in this epoch: it holds all there is for it.
                    (shown.epoch, shown.committed_at) = (committed.epoch.0, Some(now));
                    continue;
                };
                shown.rows += work.rows - work.refused;
                shown.refused += work.refused;
                (shown.epoch, shown.committed_at, shown.commit_seconds) = (committed.epoch.0, Some(work.done_at), work.seconds);
            }
            drop(status);
            metrics::counter!("watershed_epochs_total").increment(1);
            metrics::gauge!("watershed_epoch_committed").set(committed.epoch.0 as f64);
            metrics::histogram!("watershed_commit_duration_seconds").record(committed.took.as_secs_f64());
            if let Some(oldest) = committed.oldest_accepted {
                figures::latency("committed", oldest, now);
            }
            self.observe(&committed, now);
            tracing::debug!(epoch = committed.epoch.0, seconds = committed.took.as_secs_f64(), "epoch committed");
        }
    }

    fn observe(&self, committed: &Committed, now: i64) {
        let lake = committed.work.iter().filter(|(name, _)| self.parts.tables.iter().any(|table| table.name == **name)).map(|(_, work)| work.done_at).max();
        if let Some(at) = lake {
            self.parts.observed.reached(STAGE_LAKE, at, &committed.accepted);
        }
        for sink in &self.parts.plan.sinks {
            if let Some(work) = committed.work.get(&sink.name).filter(|work| !work.spooled) {
                self.parts.observed.reached(&format!("sink:{}", sink.name), work.done_at, &committed.accepted);
            }
        }
        self.parts.observed.committed(EpochReport {
            epoch: committed.epoch.0,
            opened_at: committed.span.0,
            sealed_at: committed.span.1,
            committed_at: now,
            commit_seconds: committed.took.as_secs_f64(),
            records: committed.records,
            sinks: committed.work.clone(),
        });
    }

    /// The orderly end: the last windows if asked, the last epoch, its commit.
    fn close(&mut self) -> Result<()> {
        self.parts.status.write().state = "stopping".to_owned();
        if self.parts.config.finalize {
            self.tick(vec![], vec![], true)?;
        }
        if self.open.since.is_some() {
            self.seal()?;
        }
        self.hear_commits(true)?;
        // They know of the last epoch, too.
        let flushes = self.flush_live();
        self.settle_live(flushes)?;
        self.publish_details();
        Ok(())
    }

    fn shut_down(&mut self) {
        self.parts.intake_stop.store(true, Ordering::SeqCst);
        // Source threads may be waiting to hand over a chunk: nobody listens any more.
        self.parts.incoming = crossbeam_channel::never();
        for source in &mut self.parts.sources {
            source.committed = None;
            if let Some(thread) = source.thread.take() {
                let _ = thread.join();
            }
        }
        if let Some(thread) = self.parts.maintenance.take() {
            let _ = thread.join();
        }
        self.parts.lanes.clear();
        self.parts.live_lanes.clear();
        self.parts.live.close();
    }
}

impl SourceRun {
    /// The partitions that are left alone.
    fn held(&self) -> Vec<String> {
        self.alignment.as_ref().map(Alignment::held).unwrap_or_default()
    }

    /// True once nothing more of it is to be taken.
    fn is_finished(&self) -> bool {
        self.done && !self.alignment.as_ref().is_some_and(Alignment::keeps)
    }
}

/// Judges a chunk's rows against its partition's watermark, which runs with them.
fn judge(source: &mut SourceRun, intake: &mut Intake) {
    if let Some(watermarks) = &mut source.watermarks {
        let origin = &mut intake.origin;
        (origin.late, origin.edge) = watermarks.advance(&origin.chunk.partition, &origin.event_time);
    }
}

/// Makes a batch of a chunk.
fn arrive(intake: Intake) -> (StreamBatch, Vec<Refusal>) {
    let origin = Arc::new(intake.origin);
    let refused = intake.refused.into_iter().map(|r| refusal(&origin, r)).collect();
    (StreamBatch { origin: Some(origin), ..StreamBatch::results(intake.batch) }, refused)
}

fn refusal(origin: &Arc<crate::operator::Origin>, refused: watershed_codec::Refused) -> Refusal {
    Refusal { origin: Some(Arc::clone(origin)), record: refused.record, row: None, reason: refused.reason, detail: refused.detail, raw: None }
}

fn positions_snapshot(source: &str, positions: &Positions, base: bool) -> Result<Option<Snapshot>> {
    if positions.is_empty() {
        return Ok(None);
    }
    let schema = Schema::new(vec![Field::new("stretch", DataType::Utf8, false), Field::new("offset", DataType::UInt64, false), Field::new("record", DataType::UInt64, false)]);
    let names = StringArray::from_iter_values(positions.keys());
    let offsets = UInt64Array::from_iter_values(positions.values().map(|p| p.offset));
    let records = UInt64Array::from_iter_values(positions.values().map(|p| p.record));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names), Arc::new(offsets), Arc::new(records)])
        .map_err(|e| Error::internal("RUN0025", "positions cannot be recorded").caused_by(e))?;
    Ok(Some(Snapshot {
        operator: positions_operator(source),
        fingerprint: "positions".to_owned(),
        emitted_to: None,
        files: vec![],
        batches: vec![batch],
        base,
        expires_at: None,
        expired_before: i64::MIN,
    }))
}
