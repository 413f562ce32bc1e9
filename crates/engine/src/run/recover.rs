//! Start: fence, read progress, finish what was prepared, load state, go to the positions, run.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use watershed_ports::{Clock, RefusedRow, Sink, Source, Target};
use watershed_protocol::{DeliveryRecord, FORMAT, Found, Manifest, OperatorState, StateFile, Verdict, decide};
use watershed_types::{Epoch, Error, Generation, PartitionPosition, Positions, Result};

use super::alignment::Alignment;
use super::budget::Budget;
use super::commit::{CommitThread, Committer, Destination, Destinations, deliver, finish, owed};
use super::driver::{Driver, DriverParts, Outcome, SourceRun};
use super::fate::{Fate, fates, unfit};
use super::flow::Flow;
use super::intake::{self, IntakeOptions, Prepare};
use super::lane::Lane;
use super::live::Live;
use super::live_lane::LiveLane;
use super::maintenance::Maintenance;
use super::observe::Observed;
use super::outbox::{Outbox, parts};
use super::outside::Outside;
use super::patience::Patience;
use super::quarantine;
use super::replay::REPLAY_SOURCE;
use super::spool::{Spool, SpoolOptions};
use super::status::{SharedStatus, Status};
use super::table::{Segment, TableRun};
use super::watermark::Watermarks;
use crate::checkpoint::{Checkpoint, KeepStaged, Store, read_state};
use crate::operator::{Effect, Fingerprint, Scratch, StateFiles, Step, convert};
use crate::plan::{Input, Plan, SinkPlan, SourcePlan, StaticLoader, TablePlan};

/// How long a start, or a run that ends by itself, waits for an outside target.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How a pipeline runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pipeline's name.
    pub pipeline: String,
    /// The project's own folder, `.watershed`.
    pub work: PathBuf,
    /// The transaction cadence.
    pub epoch_interval: Duration,
    /// Raw bytes after which an epoch ends early.
    pub epoch_bytes: u64,
    /// Records a tick takes at most.
    pub max_rows_per_tick: u64,
    /// Raw bytes a tick takes at most.
    pub max_bytes_per_tick: usize,
    /// About how large a chunk is.
    pub chunk_bytes: usize,
    /// Threads for decoding, and shards of state.
    pub parallelism: usize,
    /// Key groups of a new checkpoint.
    pub key_groups: u32,
    /// State may take this much, bytes.
    pub memory: u64,
    /// … and that of one operator this much.
    pub operator_memory: Option<u64>,
    /// Rows that a join may make of one row; 0 without a limit.
    pub max_fan_out: u64,
    /// Take what there is and stop.
    pub once: bool,
    /// With `once`: close every window.
    pub finalize: bool,
    /// Start changed operators empty instead of refusing.
    pub rebuild: bool,
    /// How often sinks are asked to keep house.
    pub maintenance_interval: Duration,
    /// How much of what was staged for outside targets stays after its commit.
    pub keep_staged: KeepStaged,
    /// Process id and host, for people.
    pub owner: String,
    /// When the process started.
    pub started: Instant,
}

/// A target outside the lake.
pub enum SinkTarget {
    /// Takes part in the epoch and stages for itself.
    Transactional(Arc<dyn Sink>),
    /// Takes part in the epoch; the engine keeps its rows until it has taken them.
    Outside(Arc<dyn Target>),
    /// Gets rows after each tick.
    Live(Box<dyn LiveSink>),
}

/// A target that gets rows after each tick, keyed so that a repeat changes nothing, at least once, or for show.
///
/// All calls come from one thread of its own, in the order of the stream. After a crash the rows since the last epoch come again.
pub trait LiveSink: Send {
    /// Connects and, where the target can, shuts out an older generation. Called once, before the first row.
    fn claim(&mut self, generation: Generation) -> Result<()> {
        let _ = generation;
        Ok(())
    }
    /// Takes rows. Returns those the other side does not take, whatever is tried: they go to the quarantine.
    fn write(&mut self, batch: &RecordBatch) -> Result<Vec<RefusedRow>>;
    /// The end of a tick: whatever is gathered leaves now. Does not wait for the other side.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }
    /// Waits until everything written so far has surely arrived. Called before an epoch is prepared: what it covers is not
    /// sent again.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// An epoch is complete everywhere.
    fn committed(&mut self, epoch: Epoch) -> Result<()> {
        let _ = epoch;
        Ok(())
    }
}

/// Live sinks with their names, by the table they follow.
type LiveSinks = HashMap<usize, Vec<(String, Box<dyn LiveSink>)>>;

/// Makes what the plan names. The one place of the engine that meets adapters.
pub trait Adapters: Send + Sync {
    /// A source's reader.
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>>;
    /// A table's place in the lake.
    fn table(&self, plan: &TablePlan, app_id: &str) -> Result<Arc<dyn Sink>>;
    /// A system table in the lake.
    fn system_table(&self, name: &str, schema: SchemaRef, app_id: &str) -> Result<Arc<dyn Sink>>;
    /// A sink.
    fn sink(&self, plan: &SinkPlan, table: &TablePlan, app_id: &str) -> Result<SinkTarget>;
}

/// A running pipeline.
pub struct Handle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome>>>,
    /// What it says of itself.
    pub status: SharedStatus,
    /// Its live outputs.
    pub live: Arc<Live>,
    /// What it measures.
    pub observed: Arc<Observed>,
}

impl Handle {
    /// Asks it to close the epoch and stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
    /// What [`Handle::stop`] sets, for signal handlers.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
    /// True once it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
    /// Waits until it has ended.
    pub fn join(mut self) -> Result<Outcome> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => Err(Error::internal("RUN0014", "the pipeline's thread panicked").hint("Nothing of the running epoch was committed; start again. Please report the panic above.")),
        }
    }
}

fn thread_error(error: std::io::Error) -> Error {
    Error::unavailable("RUN0015", "a thread cannot be started").caused_by(error)
}

/// The name under which a source's positions are kept among the operators.
pub fn positions_operator(source: &str) -> String {
    format!("source:{source}")
}

/// Connects to the tables that are asked by key: what does not fit is told before anything is changed.
fn check_tables(plan: &Plan) -> Result<()> {
    let patience = Patience::new(Arc::default(), Some(START_PATIENCE), Arc::default());
    let mut checked: Vec<&str> = Vec::new();
    for step in plan.tables.iter().flat_map(|table| &table.steps) {
        if let Step::Enrich(spec) = step
            && !checked.contains(&spec.table.name())
        {
            spec.table.check(&patience)?;
            checked.push(spec.table.name());
        }
    }
    Ok(())
}

/// Refuses operators that do not fit their state, before a table is made for them. What cannot be read is told by who needs it.
fn check_state(plan: &Plan, checkpoint: &Checkpoint) -> Result<()> {
    let newest = checkpoint.history()?.last_prepared();
    let Ok(manifest) = checkpoint.manifest(newest) else { return Ok(()) };
    let fates = fates(plan, &manifest.state);
    for (id, fingerprint) in plan.tables.iter().flat_map(|table| &table.steps).filter_map(Step::stateful) {
        if let Some(Fate::Rebuild { changes, .. }) = fates.get(id) {
            return Err(unfit(id, fingerprint, changes));
        }
    }
    Ok(())
}

/// Starts a pipeline.
pub fn start(mut plan: Plan, config: Config, store: Store, adapters: &dyn Adapters, loader: Arc<dyn StaticLoader>, clock: Arc<dyn Clock>) -> Result<Handle> {
    check_tables(&plan)?;
    let checkpoint = Checkpoint::open_or_create(store, &config.pipeline, config.key_groups, clock.now_micros())?;
    if !config.rebuild {
        check_state(&plan, &checkpoint)?;
    }
    let generation = checkpoint.claim(&config.owner, clock.now_micros())?;
    let app = |sink: &str| format!("watershed/{}/{sink}", checkpoint.metadata.id);

    let status: SharedStatus = Arc::default();
    let mut sinks = Destinations::new();
    let mut table_sinks: Vec<Vec<String>> = Vec::new();
    let mut live_sinks: LiveSinks = HashMap::new();
    for table in &plan.tables {
        if table.stored {
            sinks.insert(table.name.clone(), Destination::Sink(adapters.table(table, &app(&table.name))?));
        }
        table_sinks.push(if table.stored { vec![table.name.clone()] } else { vec![] });
    }
    for sink in &plan.sinks {
        let table = &plan.tables[sink.table];
        let destination = match adapters.sink(sink, table, &app(&sink.name))? {
            SinkTarget::Transactional(target) => Destination::Sink(target),
            SinkTarget::Outside(target) => {
                let refused = adapters.system_table("quarantine", quarantine::schema(), &app(&format!("{}.refused", sink.name)))?;
                let outbox = Arc::new(Outbox::new(target, checkpoint.clone(), generation, table.delivered_schema()));
                let outside = Arc::new(Outside { outbox, quarantine: refused, table: table.name.clone() });
                let spool = SpoolOptions::take(&mut sink.options.clone())?
                    .map(|options| Spool::start(Arc::clone(&outside), options, checkpoint.clone(), generation, Arc::clone(&clock), Arc::clone(&status)))
                    .transpose()
                    .map_err(thread_error)?;
                Destination::Outside(outside, spool)
            }
            SinkTarget::Live(mut target) => {
                Patience::new(Arc::default(), Some(START_PATIENCE), Arc::default()).attempt(&sink.name, || target.claim(generation))?;
                live_sinks.entry(sink.table).or_default().push((sink.name.clone(), target));
                continue;
            }
        };
        sinks.insert(sink.name.clone(), destination);
        table_sinks[sink.table].push(sink.name.clone());
    }
    let held = adapters.system_table("quarantine", quarantine::schema(), &app("system.quarantine"))?;
    sinks.insert("system.quarantine".to_owned(), Destination::Sink(held));

    let stop = Arc::new(AtomicBool::new(false));
    // A start that cannot reach a target fails after a while; a run that loses one waits, unless it is to end by itself.
    let start_patience = Patience::new(Arc::clone(&stop), Some(START_PATIENCE), Arc::clone(&status));
    let last = recover(&checkpoint, generation, &sinks, clock.as_ref(), &start_patience, config.keep_staged)?;
    let patience = Patience::new(Arc::clone(&stop), config.once.then_some(START_PATIENCE), Arc::clone(&status));
    {
        let mut status = status.write();
        let (spools, notices) = (std::mem::take(&mut status.spools), std::mem::take(&mut status.notices));
        let epoch = last.as_ref().map_or(0, |m| m.epoch.0);
        *status = Status { pipeline: config.pipeline.clone(), state: "starting".to_owned(), generation: generation.0, epoch, spools, notices, ..Status::default() };
    }

    let lookups = plan.tables.iter().flat_map(|t| &t.steps).filter_map(|step| if let Step::Lookup(lookup) = step { Some(Arc::clone(lookup)) } else { None }).collect();
    let mut chains: BTreeMap<String, OperatorState> = last.as_ref().map(|m| m.state.clone()).unwrap_or_default();
    let tables = build_tables(&mut plan, &config, &checkpoint, &mut chains, last.as_ref())?;

    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.parallelism)
        .thread_name(|i| format!("worker-{i}"))
        .build()
        .map(Arc::new)
        .map_err(|e| Error::unavailable("RUN0015", "the thread pool cannot be started").caused_by(e))?;
    let intake_stop = Arc::new(AtomicBool::new(false));
    let (events, incoming) = crossbeam_channel::bounded(8 + 2 * config.parallelism);
    let mut sources = Vec::new();
    for index in 0..plan.sources.len() {
        let mut reader = adapters.source(&plan.sources[index])?;
        let source = &mut plan.sources[index];
        let positions = load_positions(&checkpoint, &chains, &source.name)?;
        reader.seek(&positions)?;
        let mut watermarks = source.watermark.map(|(_, delay)| Watermarks::new(delay, source.idle_timeout));
        if let (Some(watermarks), Some(manifest)) = (&mut watermarks, &last)
            && let Some(progress) = manifest.sources.get(&source.name)
        {
            watermarks.restore(&progress.watermarks, progress.combined, progress.lateness.clone());
        }
        if let Some(watermarks) = &mut watermarks {
            watermarks.expect(reader.partitions());
        }
        let prepare = Arc::new(Prepare::new(index, source)?);
        let (committed, behind) = crossbeam_channel::unbounded();
        let (alignment, held) = match source.drift.clone() {
            None => (None, None),
            Some(drift) => {
                let (tell, held) = crossbeam_channel::unbounded();
                (Some(Alignment::new(drift, tell)), Some(held))
            }
        };
        let options = IntakeOptions { chunk_bytes: config.chunk_bytes, once: config.once, held };
        let thread = intake::start(reader, Arc::clone(&prepare), options, Arc::clone(&pool), events.clone(), Arc::clone(&intake_stop), behind).map_err(thread_error)?;
        sources.push(SourceRun {
            name: source.name.clone(),
            prepare,
            watermarks,
            positions,
            moved: Positions::new(),
            committed: Some(committed),
            thread: Some(thread),
            done: false,
            positions_snapshots: 0,
            max_rows_per_tick: source.options.peek("max_rows_per_tick").and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(u64::MAX),
            lost: 0,
            flow: Flow::default(),
            alignment,
        });
    }
    drop(events);

    let mut lanes: BTreeMap<String, Vec<Lane>> = BTreeMap::new();
    for (name, sink) in &sinks {
        // What leaves the house keeps the order of the stream: the last row of a key wins there.
        let changing = plan.tables.iter().any(|table| table.key.is_some() && &table.name == name);
        let ordered = changing || name == "system.quarantine" || matches!(sink, Destination::Outside(..));
        let count = if ordered { 1 } else { config.parallelism.clamp(1, 4) };
        let started = (0..count).map(|_| Lane::start(sink.sink(), 4)).collect::<std::io::Result<Vec<_>>>().map_err(thread_error)?;
        lanes.insert(name.clone(), started);
    }
    let refreshes = plan
        .statics
        .iter()
        .filter_map(|table| {
            let every = table.definition.options.peek("refresh").and_then(watershed_types::parse_duration)?;
            Some((Arc::clone(table), every))
        })
        .collect();
    let maintenance = Maintenance {
        sinks: sinks.values().map(Destination::sink).collect(),
        interval: config.maintenance_interval,
        statics: refreshes,
        lookups,
        loader,
        status: Arc::clone(&status),
    };
    let maintenance = maintenance.start(Arc::clone(&intake_stop)).map_err(thread_error)?;
    let replays = load_positions(&checkpoint, &chains, REPLAY_SOURCE)?;
    let committer = Committer { checkpoint: checkpoint.clone(), generation, sinks, clock: Arc::clone(&clock), patience: patience.clone(), keep: config.keep_staged, chains };
    let commits = CommitThread::start(committer).map_err(thread_error)?;
    let live = Arc::new(Live::default());
    let observed = Arc::new(Observed::default());
    let mut live_lanes: BTreeMap<usize, Vec<LiveLane>> = BTreeMap::new();
    for (table, targets) in live_sinks {
        let start = |(sink, target)| LiveLane::start(sink, target, &patience, Arc::clone(&clock), Arc::clone(&observed));
        live_lanes.insert(table, targets.into_iter().map(start).collect::<std::io::Result<_>>().map_err(thread_error)?);
    }
    let driver = Driver::new(DriverParts {
        config,
        plan,
        tables,
        sources,
        table_sinks,
        patience: patience.clone(),
        live_lanes,
        lanes,
        commits,
        incoming,
        pool,
        clock,
        status: Arc::clone(&status),
        live: Arc::clone(&live),
        observed: Arc::clone(&observed),
        stop: Arc::clone(&stop),
        intake_stop,
        maintenance: Some(maintenance),
        replays,
        checkpoint,
        generation,
        epoch: last.as_ref().map_or(Epoch::ZERO, |m| m.epoch),
        watermark: last.as_ref().and_then(|m| m.watermark),
    });
    let thread = std::thread::Builder::new().name("tick".to_owned()).spawn(move || driver.run()).map_err(thread_error)?;
    Ok(Handle { stop, thread: Some(thread), status, live, observed })
}

/// Follows the verdict; returns the newest complete manifest, if any.
fn recover(checkpoint: &Checkpoint, generation: Generation, sinks: &Destinations, clock: &dyn Clock, patience: &Patience, keep: KeepStaged) -> Result<Option<Manifest>> {
    let history = checkpoint.history()?;
    let mut shown = BTreeMap::new();
    for (name, sink) in sinks {
        let shows = match sink {
            Destination::Sink(sink) => Some(sink.claim(generation)?),
            Destination::Outside(outside, None) => Some(patience.attempt(name, || outside.outbox.claim(generation))?),
            Destination::Outside(_, Some(spool)) => spool.claim()?,
        };
        shown.extend(shows.map(|shows| (name.clone(), shows)));
    }
    let waiting = checkpoint.owed()?;
    let found = Found {
        mine: generation,
        newest: checkpoint.newest_generation()?,
        prepared: history.last_prepared(),
        committed: history.last_committed(),
        sinks: shown,
        owed: waiting.iter().filter_map(|(sink, epochs)| Some((sink.clone(), *epochs.first()?))).collect(),
    };
    let verdict = decide(&found);
    if let Verdict::Resume { behind, .. } | Verdict::Redrive { behind, .. } = &verdict {
        for (sink, from) in behind {
            let epochs = waiting.get(sink).into_iter().flatten().copied().filter(|epoch| epoch >= from).collect();
            give_what_is_owed(checkpoint, sink, sinks.get(sink), epochs, generation, clock, patience)?;
        }
    }
    match verdict {
        Verdict::Resume { last, .. } if last == Epoch::ZERO => Ok(None),
        Verdict::Resume { last, .. } => checkpoint.manifest(last).map(Some),
        Verdict::Redrive { epoch, .. } => {
            let manifest = checkpoint.manifest(epoch)?;
            tracing::info!(%epoch, "finishing an epoch that was prepared before the last stop");
            finish(checkpoint, sinks, &manifest, generation, clock, patience, true, (&mut vec![], None))?;
            if let Err(error) = checkpoint.prune(&manifest, keep, owed(sinks)) {
                tracing::warn!(error = %error.report(), "old checkpoint files could not be removed");
            }
            Ok(Some(manifest))
        }
        Verdict::Fenced { by } => {
            Err(Error::fenced("RUN0016", format!("another run of this project has just started (generation {by})")).hint("Let that one run, or stop it first."))
        }
        Verdict::Gap { prepared, committed } => Err(Error::corrupt(
            "RUN0017",
            format!("the checkpoint has a gap: the newest manifest is epoch {prepared}, the newest commit record epoch {committed}; files in between are missing"),
        )
        .hint("`watershed checkpoint diagnose` names the ways out. To start again from the sources move checkpoint and lake aside together, or rows come twice.")),
        Verdict::SinkAhead { sink, shows, prepared } => Err(sink_ahead(&sink, shows, prepared)),
    }
}

pub(super) fn sink_ahead(sink: &str, shows: Epoch, prepared: Epoch) -> Error {
    Error::corrupt("RUN0018", format!("sink \"{sink}\" shows epoch {shows}, and the checkpoint knows only {prepared}: the checkpoint is older than the sink"))
        .hint("A checkpoint was restored that is older than the tables. Restore the matching one, or move both aside.")
}

/// Takes up what an earlier run left behind: the sink's spool gets it; a sink that is to be waited for now is given it at once.
fn give_what_is_owed(
    checkpoint: &Checkpoint,
    name: &str,
    sink: Option<&Destination>,
    epochs: Vec<Epoch>,
    generation: Generation,
    clock: &dyn Clock,
    patience: &Patience,
) -> Result<()> {
    let Some(Destination::Outside(outside, spool)) = sink else {
        tracing::warn!(sink = name, epochs = epochs.len(), "the project has no such sink any more; the epochs that waited for it are given up");
        return Ok(());
    };
    let staged = |epoch: Epoch| parts(epoch, name, checkpoint.manifest(epoch)?.staged.get(name).map_or(&[][..], Vec::as_slice));
    tracing::info!(sink = name, epochs = epochs.len(), "epochs wait for the target since an earlier run");
    if let Some(spool) = spool {
        spool.owe(epochs.into_iter().map(|epoch| Ok((epoch, staged(epoch)?))).collect::<Result<_>>()?);
        return Ok(());
    }
    for epoch in epochs {
        let landed = deliver(outside, epoch, generation, &staged(epoch)?, clock, patience)?;
        let delivered_at = clock.now_micros();
        checkpoint.record_delivery(&DeliveryRecord {
            format: FORMAT,
            epoch,
            sink: name.to_owned(),
            generation,
            delivered_at,
            receipt: landed.receipt,
            ledger: vec![landed.row],
        })?;
    }
    Ok(())
}

/// Says which operators' state event time does not bound.
fn warn_of_growth(plan: &Plan) {
    for step in plan.tables.iter().flat_map(|table| &table.steps) {
        if let Step::Operator(spec) = step
            && let Some(growth) = spec.grows()
        {
            tracing::warn!(operator = spec.id(), "state {growth}");
        }
    }
}

fn build_tables(plan: &mut Plan, config: &Config, checkpoint: &Checkpoint, chains: &mut BTreeMap<String, OperatorState>, last: Option<&Manifest>) -> Result<Vec<TableRun>> {
    let mut tables = Vec::new();
    let budget = Budget { memory: config.memory, operator: config.operator_memory };
    let scratch = Scratch::new(config.work.join("spill"), budget.cache());
    let fates = fates(plan, chains);
    warn_of_growth(plan);
    for index in 0..plan.tables.len() {
        let inputs = &plan.tables[index].inputs;
        let schema = match inputs.first() {
            Some(Input::Table(table)) => Arc::clone(&plan.tables[*table].schema),
            Some(Input::Source(source)) => Arc::clone(&plan.sources[*source].schema),
            None => return Err(Error::internal("PLAN0099", format!("table \"{}\" reads nothing", plan.tables[index].name))),
        };
        let watermark = restored_watermark(plan, index, last);
        let mut table = TableRun::new(&mut plan.tables[index], schema, checkpoint.metadata.key_groups, config.parallelism)?;
        budget.attach(&mut table.segments, &scratch);
        table.fan_outs().for_each(|fan_out| fan_out.limit(config.max_fan_out));
        for segment in &mut table.segments {
            restore(segment, &fates, config.rebuild, checkpoint, chains, watermark)?;
        }
        tables.push(table);
    }
    let known: std::collections::HashSet<String> = tables
        .iter()
        .flat_map(TableRun::operators)
        .map(|operator| operator.id().to_owned())
        .chain(plan.sources.iter().map(|s| positions_operator(&s.name)))
        .chain([positions_operator(REPLAY_SOURCE)])
        .collect();
    for gone in chains.keys().filter(|id| !known.contains(*id)) {
        tracing::warn!(operator = gone, "the project has no such operator any more; its state is dropped with the next epoch");
    }
    chains.retain(|id, _| known.contains(id));
    Ok(tables)
}

fn restore(
    segment: &mut Segment,
    fates: &BTreeMap<String, Fate>,
    rebuild: bool,
    checkpoint: &Checkpoint,
    chains: &mut BTreeMap<String, OperatorState>,
    watermark: i64,
) -> Result<()> {
    let Segment::Operator(operator) = segment else { return Ok(()) };
    let id = operator.id().to_owned();
    let (from, changes) = match fates.get(&id) {
        None | Some(Fate::New) => return Ok(()),
        Some(Fate::Rebuild { from, .. }) if rebuild => {
            tracing::warn!(operator = id, "the operator has changed and starts empty");
            chains.remove(from);
            return Ok(());
        }
        Some(Fate::Rebuild { changes, .. }) => return Err(unfit(&id, operator.fingerprint(), changes)),
        Some(Fate::Reused { from, changes }) => (from, changes),
    };
    let Some(chain) = chains.remove(from) else { return Ok(()) };
    let broken = |e: datafusion::common::DataFusionError| {
        Error::corrupt("RUN0020", format!("the state of operator \"{id}\" cannot be loaded: {e}")).hint("Run once with --rebuild to start this operator without its state.")
    };
    let changed = changes.iter().any(|change| change.effect == Effect::Fits);
    let conversion = Fingerprint::parse(&chain.fingerprint).filter(|_| changed).map(|was| (was, operator.fingerprint().clone()));
    let emitted_to = match &conversion {
        Some((was, is)) => convert(was, is, (vec![], chain.emitted_to)).map_err(broken)?.1,
        None => chain.emitted_to,
    };
    for change in changes {
        tracing::warn!(operator = id, "the operator has changed and keeps its state: {}{}", change.words, change.note.iter().map(|note| format!(" ({note})")).collect::<String>());
    }
    let files = ChainFiles { checkpoint, files: &chain.files, conversion, failed: RefCell::new(None) };
    let restored = operator.restore(&files, emitted_to, watermark);
    files.failed.take().map_or(Ok(()), Err)?;
    restored.map_err(broken)?;
    chains.insert(id, chain);
    Ok(())
}

/// A chain's files, one in memory at a time.
struct ChainFiles<'a> {
    checkpoint: &'a Checkpoint,
    files: &'a [StateFile],
    /// What they were written by and what reads them, if that is not the same.
    conversion: Option<(Fingerprint, Fingerprint)>,
    /// Why one could not be read.
    failed: RefCell<Option<Error>>,
}

impl StateFiles for ChainFiles<'_> {
    fn each(&self, take: &mut dyn FnMut(&[RecordBatch]) -> datafusion::common::Result<()>) -> datafusion::common::Result<()> {
        for file in self.files {
            let batches = match (read_state(self.checkpoint, file), &self.conversion) {
                (Ok(batches), None) => batches,
                (Ok(batches), Some((was, is))) => convert(was, is, (vec![batches], None))?.0.pop().unwrap_or_default(),
                (Err(error), _) => {
                    let stopped = datafusion::common::DataFusionError::Execution(error.to_string());
                    *self.failed.borrow_mut() = Some(error);
                    return Err(stopped);
                }
            };
            take(&batches)?;
        }
        Ok(())
    }
}

/// What the operators of a table held at the last complete epoch: for each its name and its rows. Changes nothing.
///
/// `name` is a table, or one of its operators as `watershed plan` names them. An operator whose state does not fit the plan
/// any more is left out.
pub fn state_of(mut plan: Plan, checkpoint: &Checkpoint, name: &str) -> Result<Vec<(String, Vec<RecordBatch>)>> {
    let last = match checkpoint.history()?.last_committed() {
        Epoch::ZERO => None,
        epoch => Some(checkpoint.manifest(epoch)?),
    };
    let mut chains: BTreeMap<String, OperatorState> = last.as_ref().map(|m| m.state.clone()).unwrap_or_default();
    let fates = fates(&plan, &chains);
    let table = name.split(['/', '#']).next().unwrap_or(name).to_owned();
    let mut found = Vec::new();
    for index in 0..plan.tables.len() {
        let its = plan.tables[index].name == table || plan.tables[index].name.split('#').next() == Some(&table);
        if !its {
            continue;
        }
        let input = match plan.tables[index].inputs.first() {
            Some(Input::Table(input)) => Arc::clone(&plan.tables[*input].schema),
            Some(Input::Source(source)) => Arc::clone(&plan.sources[*source].schema),
            None => continue,
        };
        let watermark = restored_watermark(&plan, index, last.as_ref());
        let mut run = TableRun::new(&mut plan.tables[index], input, checkpoint.metadata.key_groups, 1)?;
        for segment in &mut run.segments {
            restore(segment, &fates, true, checkpoint, &mut chains, watermark)?;
            let Segment::Operator(operator) = segment else { continue };
            let id = operator.id().to_owned();
            if name == table || name == id {
                let rows = operator.contents().map_err(|e| Error::internal("RUN0020", format!("the state of operator \"{id}\" cannot be shown: {e}")))?;
                found.push((id, rows));
            }
        }
    }
    Ok(found)
}

/// Where a table's watermark stood at the last epoch.
fn restored_watermark(plan: &Plan, table: usize, last: Option<&Manifest>) -> i64 {
    let of = |input: &Input| match *input {
        Input::Source(source) => last.and_then(|m| m.sources.get(&plan.sources[source].name)).and_then(|s| s.combined).unwrap_or(i64::MIN),
        Input::Table(input) => restored_watermark(plan, input, last).saturating_sub(plan.tables[input].hold),
    };
    plan.tables[table].inputs.iter().map(of).min().unwrap_or(i64::MIN)
}

fn load_positions(checkpoint: &Checkpoint, chains: &BTreeMap<String, OperatorState>, source: &str) -> Result<Positions> {
    let mut positions = Positions::new();
    let Some(chain) = chains.get(&positions_operator(source)) else { return Ok(positions) };
    let unfit = || Error::corrupt("RUN0021", format!("the positions of source \"{source}\" cannot be read")).hint("Restore the checkpoint from a backup.");
    for file in &chain.files {
        for batch in read_state(checkpoint, file)? {
            let names = batch.column_by_name("stretch").and_then(|c| c.as_string_opt::<i32>()).ok_or_else(unfit)?;
            let offsets = batch.column_by_name("offset").and_then(|c| c.as_primitive_opt::<UInt64Type>()).ok_or_else(unfit)?;
            let records = batch.column_by_name("record").and_then(|c| c.as_primitive_opt::<UInt64Type>()).ok_or_else(unfit)?;
            for row in 0..names.len() {
                positions.insert(names.value(row).to_owned(), PartitionPosition { offset: offsets.value(row), record: records.value(row) });
            }
        }
    }
    Ok(positions)
}
