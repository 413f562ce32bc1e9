//! The outside of a case: logs to read that grow from run to run, and tables that are shown when an epoch commits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use watershed_engine::checkpoint::{Checkpoint, KeepStaged, Store};
use watershed_engine::plan::{DELETED, Plan, Rounds, SinkPlan, SourceHistory, SourcePlan, StaticLoader, TablePlan, batch, bind};
use watershed_engine::run::{Adapters, Config, SinkTarget, start};
use watershed_ports::{Clock, CommitOutcome, Delivered, Lag, ManualClock, Polled, RawChunk, Sink, SinkWriter, Source, Staged, Target};
use watershed_protocol::Account;
use watershed_sql::{SqlFile, StaticDef, parse_project};
use watershed_types::{Epoch, Error, Generation, Positions, Result};

use crate::case::{Case, Rows, Step};

/// The time that every tick sees: long after the rows of any case.
const NOW: i64 = 1_767_225_600_000_000;

/// How a run is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Records in a chunk.
    pub slice: usize,
    pub rows_per_tick: u64,
    pub parallelism: usize,
    /// True if all state that can goes to disk after every tick.
    pub spilled: bool,
}

/// By source and partition.
type Logs = BTreeMap<(String, String), Vec<String>>;

#[derive(Default)]
struct Outside {
    logs: Mutex<Logs>,
    places: Mutex<BTreeMap<String, Place>>,
    staged: Mutex<Vec<Vec<RecordBatch>>>,
}

/// A table, or a target, as it is seen.
#[derive(Default)]
struct Place {
    epoch: Epoch,
    rows: Vec<RecordBatch>,
}

impl Outside {
    fn show(&self, name: &str, epoch: Epoch, rows: Vec<RecordBatch>) -> CommitOutcome {
        let mut places = self.places.lock();
        let place = places.entry(name.to_owned()).or_default();
        if place.epoch >= epoch {
            return CommitOutcome::AlreadyThere;
        }
        place.epoch = epoch;
        place.rows.extend(rows);
        CommitOutcome::Committed
    }

    fn epoch(&self, name: &str) -> Epoch {
        self.places.lock().get(name).map_or(Epoch::ZERO, |place| place.epoch)
    }
}

/// A case at work.
pub struct World<'c> {
    case: &'c Case,
    outside: Arc<Outside>,
    /// The checkpoint, in memory: it outlives the runs.
    store: Store,
    folder: PathBuf,
    /// Of tables and of sinks: the columns, and of those whose rows change the columns that name a row.
    shapes: BTreeMap<String, (SchemaRef, Option<Vec<usize>>)>,
    /// How many rows of a table were looked at as new.
    seen: BTreeMap<String, usize>,
}

/// What calls of a checkpoint's store run on.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime"));
static FOLDERS: AtomicUsize = AtomicUsize::new(0);

impl<'c> World<'c> {
    pub fn new(case: &'c Case) -> std::result::Result<Self, String> {
        let name = format!("cases-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let outside = Arc::new(Outside::default());
        // All partitions are known from the start, as a broker would say.
        for step in &case.steps {
            if let Step::Rows { source, partition, .. } = step {
                outside.logs.lock().entry((source.clone(), partition.clone())).or_default();
            }
        }
        let plan = plan(case).map_err(|error| error.report())?;
        let mut shapes: BTreeMap<_, _> = plan.tables.iter().map(|table| (table.name.clone(), (Arc::clone(&table.schema), table.key.clone()))).collect();
        for sink in &plan.sinks {
            let table = &plan.tables[sink.table];
            shapes.insert(sink.name.clone(), (Arc::clone(&table.schema), table.key.clone()));
        }
        let store = Store::Remote { store: Arc::new(InMemory::new()), prefix: "checkpoint".into(), runtime: RUNTIME.handle().clone() };
        Ok(Self { case, outside, shapes, store, folder: [env!("CARGO_TARGET_TMPDIR"), &name].iter().collect(), seen: BTreeMap::new() })
    }

    pub fn append(&self, source: &str, partition: &str, records: &[String]) {
        let mut logs = self.outside.logs.lock();
        logs.entry((source.to_owned(), partition.to_owned())).or_default().extend_from_slice(records);
    }

    /// Takes all input there is, from where the run before stopped.
    pub fn run(&mut self, cut: Cut, finalize: bool) -> std::result::Result<(), String> {
        let config = Config {
            pipeline: "case".to_owned(),
            work: self.folder.clone(),
            epoch_interval: Duration::from_secs(3600),
            epoch_bytes: 1 << 30,
            max_rows_per_tick: cut.rows_per_tick,
            max_bytes_per_tick: 1 << 20,
            chunk_bytes: 1 << 16,
            parallelism: cut.parallelism,
            key_groups: 16,
            memory: 1 << 30,
            operator_memory: cut.spilled.then_some(0),
            max_fan_out: 0,
            once: true,
            finalize,
            rebuild: false,
            maintenance_interval: Duration::from_secs(3600),
            keep_staged: KeepStaged::default(),
            owner: "test".to_owned(),
            started: Instant::now(),
        };
        let clock: Arc<dyn Clock> = match self.case.clock {
            None => Arc::new(ManualClock::at(NOW)),
            Some(_) => Arc::new(Passing(AtomicI64::new(NOW))),
        };
        let adapters = OutsideAdapters { outside: Arc::clone(&self.outside), slice: cut.slice };
        let run = plan(self.case).and_then(|plan| start(plan, config, self.store.clone(), &adapters, Arc::new(NoStatics), clock)?.join());
        run.map(drop).map_err(|error| error.report())
    }

    /// What a table holds.
    pub fn table(&self, name: &str) -> std::result::Result<Rows, String> {
        let places = self.outside.places.lock();
        let batches = places.get(name).map_or(&[][..], |place| &place.rows);
        match self.shapes.get(name).ok_or_else(|| format!("there is no table \"{name}\""))? {
            (schema, Some(key)) => Ok(changed(schema, batches, key)),
            (schema, None) => Ok(as_text(schema, batches)),
        }
    }

    /// The rows that came since the last time.
    pub fn take_new(&mut self, name: &str) -> std::result::Result<Rows, String> {
        let mut rows = self.table(name)?;
        let seen = self.seen.insert(name.to_owned(), rows.rows.len()).unwrap_or(0);
        rows.rows.drain(..seen.min(rows.rows.len()));
        Ok(rows)
    }

    /// A table's accounts over all epochs, with those of the parts of its query.
    pub fn account(&self, name: &str) -> std::result::Result<Account, String> {
        let mut sum = Account::default();
        for (table, account) in self.ledger()? {
            // Parts of its query have accounts of their own.
            if table == name || table.split_once('#').is_some_and(|(whole, _)| whole == name) {
                sum.read += account.read;
                sum.delivered += account.delivered;
                sum.filtered += account.filtered;
                sum.duplicate += account.duplicate;
                sum.late += account.late;
                sum.quarantined += account.quarantined;
            }
        }
        Ok(sum)
    }

    fn ledger(&self) -> std::result::Result<Vec<(String, Account)>, String> {
        let checkpoint = Checkpoint::open(self.store.clone()).map_err(|error| error.report())?.ok_or("there is no checkpoint")?;
        Ok(checkpoint.ledger().map_err(|error| error.report())?.into_iter().map(|row| (row.table_name, row.account)).collect())
    }

    /// Rows in the quarantine, of all tables.
    pub fn kept(&self) -> u64 {
        self.outside.places.lock().get("system.quarantine").map_or(0, |place| place.rows.iter().map(|batch| batch.num_rows() as u64).sum())
    }

    /// Every row read is accounted for.
    pub fn balances(&self) -> std::result::Result<(), String> {
        match self.ledger()?.into_iter().find(|(_, account)| !account.balances()) {
            Some((table, account)) => Err(format!("the ledger of {table} does not balance: {account:?}")),
            None => Ok(()),
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Rows as text.
fn as_text(schema: &SchemaRef, batches: &[RecordBatch]) -> Rows {
    let options = FormatOptions::new().with_null("NULL").with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f")).with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("can be shown")).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()));
    }
    Rows { names: schema.fields().iter().map(|field| field.name().clone()).collect(), rows }
}

/// A table whose rows change: what is left once a row has replaced the one before it of its key, or has deleted it.
fn changed(schema: &SchemaRef, batches: &[RecordBatch], key: &[usize]) -> Rows {
    let mut held: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for batch in batches {
        let deleted = batch.column_by_name(DELETED).expect("says what is gone").as_boolean().clone();
        for (row, gone) in as_text(schema, std::slice::from_ref(batch)).rows.into_iter().zip(deleted.iter()) {
            let named = key.iter().map(|column| row[*column].clone()).collect();
            match gone {
                Some(true) => drop(held.remove(&named)),
                _ => drop(held.insert(named, row[..schema.fields().len()].to_vec())),
            }
        }
    }
    Rows { names: as_text(schema, &[]).names, rows: held.into_values().collect() }
}

/// A clock on which a second passes whenever it is looked at.
struct Passing(AtomicI64);

impl Clock for Passing {
    fn now_micros(&self) -> i64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

struct LogSource {
    outside: Arc<Outside>,
    name: String,
    next: BTreeMap<String, usize>,
    turn: usize,
    slice: usize,
}

impl LogSource {
    fn new(outside: &Arc<Outside>, name: &str, slice: usize) -> Self {
        Self { outside: Arc::clone(outside), name: name.to_owned(), next: BTreeMap::new(), turn: 0, slice }
    }
}

impl Source for LogSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        self.next = positions.iter().map(|(partition, position)| (partition.clone(), position.offset as usize)).collect();
        Ok(())
    }
    fn poll(&mut self, _max_bytes: usize, _wait: Duration) -> Result<Polled> {
        let partitions = self.partitions();
        let logs = self.outside.logs.lock();
        for _ in 0..partitions.len() {
            let partition = &partitions[self.turn % partitions.len()];
            self.turn += 1;
            let of = &logs[&(self.name.clone(), partition.clone())];
            let from = self.next.get(partition).copied().unwrap_or(0);
            let to = of.len().min(from + self.slice);
            if from == to {
                continue;
            }
            let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
            for record in &of[from..to] {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(record.as_bytes());
                ranges.push((start, bytes.len() as u32));
            }
            self.next.insert(partition.clone(), to);
            return Ok(Polled::Chunk(RawChunk::of_log(partition.as_str().into(), from as u64, to as u64, NOW, ranges.into(), bytes.into())));
        }
        Ok(Polled::CaughtUp)
    }
    fn partitions(&self) -> Vec<String> {
        self.outside.logs.lock().keys().filter(|(source, _)| *source == self.name).map(|(_, partition)| partition.clone()).collect()
    }
    // Nothing here bounds how far partitions drift apart.
    fn hold(&mut self, _partitions: &BTreeSet<String>) -> Result<()> {
        Ok(())
    }
    fn unread(&mut self) -> BTreeSet<String> {
        BTreeSet::new()
    }
    fn lag(&mut self) -> Lag {
        Lag::default()
    }
}

struct Shelf {
    outside: Arc<Outside>,
    name: String,
}

struct ShelfWriter {
    outside: Arc<Outside>,
    rows: Vec<RecordBatch>,
}

impl Sink for Shelf {
    fn name(&self) -> &str {
        &self.name
    }
    fn writer(&self, _epoch: Epoch) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(ShelfWriter { outside: Arc::clone(&self.outside), rows: vec![] }))
    }
    fn last_epoch(&self) -> Result<Epoch> {
        Ok(self.outside.epoch(&self.name))
    }
    fn commit(&self, epoch: Epoch, _generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        let parts = self.outside.staged.lock();
        let rows = staged.iter().filter_map(|part| parts.get(part.payload.as_u64()? as usize)).flatten().cloned().collect();
        drop(parts);
        Ok(self.outside.show(&self.name, epoch, rows))
    }
}

impl SinkWriter for ShelfWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.push(batch.clone());
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<Staged> {
        let mut staged = self.outside.staged.lock();
        let rows = self.rows.iter().map(|batch| batch.num_rows() as u64).sum();
        staged.push(self.rows);
        Ok(Staged { rows, bytes: 0, payload: (staged.len() - 1).into() })
    }
}

/// A target that takes every row.
struct Taker {
    outside: Arc<Outside>,
    name: String,
}

impl Target for Taker {
    fn name(&self) -> &str {
        &self.name
    }
    fn claim(&self, _generation: Generation) -> Result<Epoch> {
        Ok(self.outside.epoch(&self.name))
    }
    fn last_epoch(&self) -> Result<Epoch> {
        Ok(self.outside.epoch(&self.name))
    }
    fn deliver(&self, epoch: Epoch, _generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let outcome = self.outside.show(&self.name, epoch, rows);
        Ok(Delivered { already_there: outcome == CommitOutcome::AlreadyThere, refused: vec![] })
    }
}

struct OutsideAdapters {
    outside: Arc<Outside>,
    slice: usize,
}

impl OutsideAdapters {
    fn shelf(&self, name: &str) -> Arc<dyn Sink> {
        Arc::new(Shelf { outside: Arc::clone(&self.outside), name: name.to_owned() })
    }
}

impl Adapters for OutsideAdapters {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>> {
        Ok(Box::new(LogSource::new(&self.outside, &plan.name, self.slice)))
    }
    fn table(&self, plan: &TablePlan, _app_id: &str) -> Result<Arc<dyn Sink>> {
        Ok(self.shelf(&plan.name))
    }
    fn system_table(&self, name: &str, _schema: SchemaRef, app_id: &str) -> Result<Arc<dyn Sink>> {
        let refused = if app_id.ends_with(".refused") { ".refused" } else { "" };
        Ok(self.shelf(&format!("system.{name}{refused}")))
    }
    fn sink(&self, plan: &SinkPlan, _table: &TablePlan, _app_id: &str) -> Result<SinkTarget> {
        Ok(SinkTarget::Outside(Arc::new(Taker { outside: Arc::clone(&self.outside), name: plan.name.clone() })))
    }
}

struct NoStatics;

impl StaticLoader for NoStatics {
    fn load(&self, definition: &StaticDef) -> Result<RecordBatch> {
        Err(Error::internal("TEST0001", format!("no static table \"{}\" here", definition.name)))
    }
}

fn plan(case: &Case) -> Result<Plan> {
    let files = [SqlFile { name: format!("{}.case", case.name), text: case.sql.clone() }];
    bind(&parse_project(&files, &|_| None)?, &NoStatics)
}

/// What a table holds if the whole input is history.
pub fn as_batch(case: &Case, table: &str) -> std::result::Result<Rows, String> {
    let world = World::new(case)?;
    for step in &case.steps {
        if let Step::Rows { source, partition, records } = step {
            world.append(source, partition, records);
        }
    }
    collect(case, table, &world.outside).map_err(|error| error.report())
}

fn collect(case: &Case, table: &str, outside: &Arc<Outside>) -> Result<Rows> {
    let mut plan = plan(case)?;
    plan.time.set(NOW);
    let mut history: HashMap<String, Arc<dyn TableProvider>> = HashMap::new();
    for name in plan.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>() {
        let mut source = SourceHistory::new(&mut plan, &name)?;
        source.read(&mut LogSource::new(outside, &name, 13), 1 << 16)?;
        history.insert(name, source.table()?);
    }
    let lowered = batch(&plan, table, &history, Rounds::UntilDone)?;
    let rows = RUNTIME.block_on(lowered.collect(&plan.context))?;
    let schema = plan.tables.iter().find(|one| one.name == table).map(|one| Arc::clone(&one.schema));
    Ok(as_text(&schema.ok_or_else(|| Error::internal("TEST0002", format!("no table \"{table}\"")))?, &rows))
}
