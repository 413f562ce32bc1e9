//! An outside that outlives runs: a log to read, sinks and targets to write to, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use watershed_engine::checkpoint::{KeepStaged, Store};
use watershed_engine::json::row_as_json;
use watershed_engine::plan::{Plan, SinkPlan, SourcePlan, StaticLoader, TablePlan, bind};
use watershed_engine::run::{Adapters, Config, Handle, SinkTarget, start};
use watershed_ports::{Clock, CommitOutcome, Delivered, Lag, Polled, RawChunk, RefusedRow, Sink, SinkWriter, Source, Staged, Target};
use watershed_sql::{SqlFile, StaticDef, parse_project};
use watershed_types::{Epoch, Error, Generation, Positions, Result};

/// What a commit does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing has happened.
    Definite,
    /// It has happened, and the answer is lost.
    Landed,
    /// It has not happened, and nobody knows.
    Vanished,
}

/// A table on the outside.
#[derive(Default)]
pub struct Place {
    /// Rows as JSON, in the order they became visible.
    pub rows: Vec<String>,
    /// The last epoch shown.
    pub epoch: Epoch,
    /// The newest generation that claimed it.
    pub generation: Generation,
    /// What the next commits do.
    pub faults: VecDeque<Fault>,
    /// Faults that came to pass.
    pub fired: Vec<Fault>,
    /// What was refused in each epoch, as a real target keeps it.
    refused: BTreeMap<u64, Vec<RefusedRow>>,
}

/// Everything outside the engine.
#[derive(Default)]
pub struct World {
    /// Records that can be read now, by source and partition; those of a source that is not here are in `log`.
    pub logs: Mutex<BTreeMap<(String, String), Vec<String>>>,
    /// Records that can be read now.
    pub log: Mutex<Vec<String>>,
    places: Mutex<BTreeMap<String, Arc<Mutex<Place>>>>,
    staged: Mutex<BTreeMap<String, Vec<String>>>,
    /// While set, commits of the sink `clean` wait.
    pub hold: AtomicBool,
    /// Set once a commit waits.
    pub holding: AtomicBool,
    /// While set, the target `late` is away.
    pub away: AtomicBool,
    /// How often it was asked for and was away.
    pub missed: AtomicUsize,
    /// How often a source was told to leave partitions alone.
    pub held_often: AtomicUsize,
}

impl World {
    /// The tables and sinks that were opened.
    pub fn opened(&self) -> Vec<String> {
        self.places.lock().keys().cloned().collect()
    }

    pub fn place(&self, name: &str) -> Arc<Mutex<Place>> {
        Arc::clone(self.places.lock().entry(name.to_owned()).or_default())
    }

    /// Applies the next fault, if there is one, around a write.
    fn commit(place: &mut Place, epoch: Epoch, write: impl FnOnce(&mut Place)) -> Result<CommitOutcome> {
        if place.epoch >= epoch {
            return Ok(CommitOutcome::AlreadyThere);
        }
        let fault = place.faults.pop_front();
        place.fired.extend(fault);
        match fault {
            Some(Fault::Definite) => return Err(Error::unavailable("TEST0001", "the other side is not there").definite()),
            Some(Fault::Vanished) => return Err(Error::unavailable("TEST0002", "the connection was cut").indefinite()),
            _ => {}
        }
        write(place);
        place.epoch = epoch;
        if fault == Some(Fault::Landed) {
            return Err(Error::unavailable("TEST0003", "the answer was lost").indefinite());
        }
        Ok(CommitOutcome::Committed)
    }
}

struct LogSource {
    world: Arc<World>,
    name: String,
    next: BTreeMap<String, usize>,
    held: BTreeSet<String>,
    turn: usize,
    slice: usize,
}

impl LogSource {
    fn look<T>(&self, partition: &str, at: impl FnOnce(&[String]) -> T) -> T {
        match self.world.logs.lock().get(&(self.name.clone(), partition.to_owned())) {
            Some(log) => at(log),
            None => at(&self.world.log.lock()),
        }
    }
}

impl Source for LogSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        self.next = positions.iter().map(|(partition, position)| (partition.clone(), position.offset as usize)).collect();
        Ok(())
    }
    fn poll(&mut self, _max_bytes: usize, wait: Duration) -> Result<Polled> {
        let partitions = self.partitions();
        for _ in 0..partitions.len() {
            self.turn = (self.turn + 1) % partitions.len();
            let partition = &partitions[self.turn];
            let next = self.next.get(partition).copied().unwrap_or(0);
            let records = self.look(partition, |log| log[next..log.len().min(next + self.slice)].to_vec());
            let end = next + records.len();
            if next == end || self.held.contains(partition) {
                continue;
            }
            let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
            for record in &records {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(record.as_bytes());
                ranges.push((start, bytes.len() as u32));
            }
            self.next.insert(partition.clone(), end);
            return Ok(Polled::Chunk(RawChunk::of_log(partition.as_str().into(), next as u64, end as u64, 0, ranges.into(), bytes.into())));
        }
        std::thread::sleep(wait.min(Duration::from_millis(2)));
        let unread = self.unread();
        Ok(if self.held.is_disjoint(&unread) { Polled::CaughtUp } else { Polled::Held })
    }
    fn partitions(&self) -> Vec<String> {
        let named: Vec<String> = self.world.logs.lock().keys().filter(|(source, _)| *source == self.name).map(|(_, partition)| partition.clone()).collect();
        if named.is_empty() { vec!["0".to_owned()] } else { named }
    }
    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        self.world.held_often.fetch_add(usize::from(!partitions.is_empty()), Ordering::SeqCst);
        self.held.clone_from(partitions);
        Ok(())
    }
    fn unread(&mut self) -> BTreeSet<String> {
        self.partitions().into_iter().filter(|partition| self.look(partition, <[String]>::len) > self.next.get(partition).copied().unwrap_or(0)).collect()
    }
    fn lag(&mut self) -> Lag {
        Lag::default()
    }
}

struct LakeSink {
    world: Arc<World>,
    name: String,
}

struct LakeWriter {
    world: Arc<World>,
    rows: Vec<String>,
}

impl Sink for LakeSink {
    fn name(&self) -> &str {
        &self.name
    }
    fn writer(&self, _epoch: Epoch) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(LakeWriter { world: Arc::clone(&self.world), rows: vec![] }))
    }
    fn last_epoch(&self) -> Result<Epoch> {
        Ok(self.world.place(&self.name).lock().epoch)
    }
    fn commit(&self, epoch: Epoch, _generation: Generation, staged: &[Staged]) -> Result<CommitOutcome> {
        while self.name == "clean" && self.world.hold.load(Ordering::SeqCst) {
            self.world.holding.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        let rows = staged.iter().filter_map(|part| self.world.staged.lock().get(part.payload.as_str()?).cloned()).flatten();
        World::commit(&mut self.world.place(&self.name).lock(), epoch, |place| place.rows.extend(rows))
    }
}

impl SinkWriter for LakeWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.extend((0..batch.num_rows()).map(|row| row_as_json(batch, row)));
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<Staged> {
        let mut staged = self.world.staged.lock();
        let token = staged.len().to_string();
        let rows = self.rows.len() as u64;
        staged.insert(token.clone(), self.rows);
        Ok(Staged { rows, bytes: 0, payload: token.into() })
    }
}

struct Outside {
    world: Arc<World>,
    name: String,
}

impl Outside {
    fn reach(&self) -> Result<()> {
        if self.name != "late" || !self.world.away.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.world.missed.fetch_add(1, Ordering::SeqCst);
        Err(Error::unavailable("TEST0006", "the target is away").definite())
    }
}

impl Target for Outside {
    fn name(&self) -> &str {
        &self.name
    }
    fn claim(&self, generation: Generation) -> Result<Epoch> {
        self.reach()?;
        let place = self.world.place(&self.name);
        let mut place = place.lock();
        place.generation = place.generation.max(generation);
        Ok(place.epoch)
    }
    fn last_epoch(&self) -> Result<Epoch> {
        Ok(self.world.place(&self.name).lock().epoch)
    }
    fn deliver(&self, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        self.reach()?;
        let place = self.world.place(&self.name);
        let mut place = place.lock();
        if place.generation > generation {
            return Err(Error::fenced("TEST0004", "a newer run owns the target"));
        }
        let (mut taken, mut refused, mut ordinal) = (vec![], vec![], 0);
        for batch in rows {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let text = row_as_json(&batch, row);
                // A row it does not like.
                match text.contains("\"refuse\"") {
                    true => refused.push(RefusedRow { row: ordinal, detail: "value too long".to_owned() }),
                    false => taken.push(text),
                }
                ordinal += 1;
            }
        }
        let outcome = World::commit(&mut place, epoch, |place| {
            place.rows.extend(taken);
            place.refused.insert(epoch.0, refused);
        })?;
        Ok(Delivered { already_there: outcome == CommitOutcome::AlreadyThere, refused: place.refused.get(&epoch.0).cloned().unwrap_or_default() })
    }
}

struct WorldAdapters {
    world: Arc<World>,
    slice: usize,
}

impl WorldAdapters {
    fn sink(&self, name: &str) -> Arc<dyn Sink> {
        Arc::new(LakeSink { world: Arc::clone(&self.world), name: name.to_owned() })
    }
}

impl Adapters for WorldAdapters {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>> {
        let (world, name) = (Arc::clone(&self.world), plan.name.clone());
        Ok(Box::new(LogSource { world, name, next: BTreeMap::new(), held: BTreeSet::new(), turn: 0, slice: self.slice }))
    }
    fn table(&self, plan: &TablePlan, _app_id: &str) -> Result<Arc<dyn Sink>> {
        Ok(self.sink(&plan.name))
    }
    fn system_table(&self, name: &str, _schema: SchemaRef, app_id: &str) -> Result<Arc<dyn Sink>> {
        let refused = app_id.ends_with(".refused");
        Ok(self.sink(&if refused { format!("{name}.refused") } else { name.to_owned() }))
    }
    fn sink(&self, plan: &SinkPlan, _table: &TablePlan, _app_id: &str) -> Result<SinkTarget> {
        Ok(SinkTarget::Outside(Arc::new(Outside { world: Arc::clone(&self.world), name: plan.name.clone() })))
    }
}

/// Rows of the static table `hot`.
pub const HOT: i64 = 20_000;

struct Statics;
impl StaticLoader for Statics {
    fn load(&self, definition: &StaticDef) -> Result<RecordBatch> {
        if definition.name != "hot" {
            return Err(Error::internal("TEST0005", format!("no static table \"{}\" here", definition.name)));
        }
        let columns: [(&str, ArrayRef); 2] = [("k", Arc::new(Int64Array::from_value(1, HOT as usize))), ("n", Arc::new((0..HOT).collect::<Int64Array>()))];
        RecordBatch::try_from_iter(columns).map_err(|e| Error::internal("TEST0005", e.to_string()))
    }
}

/// A project's plan.
pub fn plan(sql: &str) -> Plan {
    let files = [SqlFile { name: "p.sql".to_owned(), text: sql.to_owned() }];
    let definitions = parse_project(&files, &|_| None).unwrap_or_else(|e| panic!("{}", e.report()));
    bind(&definitions, &Statics).unwrap_or_else(|e| panic!("{}", e.report()))
}

/// How one run is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub slice: usize,
    pub rows_per_tick: u64,
    pub epoch_bytes: u64,
    pub fan_out: u64,
    pub once: bool,
}

/// Starts the project on the world.
pub fn run(world: &Arc<World>, sql: &str, folder: &Path, cut: Cut, clock: Arc<dyn Clock>) -> Result<Handle> {
    run_with(world, sql, folder, cut, clock, |_| {})
}

/// As [`run`], with other settings.
pub fn run_with(world: &Arc<World>, sql: &str, folder: &Path, cut: Cut, clock: Arc<dyn Clock>, set: impl FnOnce(&mut Config)) -> Result<Handle> {
    let mut config = Config {
        pipeline: "p".to_owned(),
        work: folder.to_owned(),
        epoch_interval: Duration::from_millis(5),
        epoch_bytes: cut.epoch_bytes,
        max_rows_per_tick: cut.rows_per_tick,
        max_bytes_per_tick: 1 << 20,
        chunk_bytes: 1 << 16,
        parallelism: 2,
        key_groups: 16,
        memory: 1 << 30,
        operator_memory: None,
        max_fan_out: cut.fan_out,
        once: cut.once,
        finalize: false,
        rebuild: false,
        maintenance_interval: Duration::from_secs(3600),
        keep_staged: KeepStaged { epochs: 0, ..KeepStaged::default() },
        owner: "test".to_owned(),
        started: Instant::now(),
    };
    set(&mut config);
    let adapters = WorldAdapters { world: Arc::clone(world), slice: cut.slice };
    start(plan(sql), config, Store::Local(folder.join("checkpoint")), &adapters, Arc::new(Statics), clock)
}
