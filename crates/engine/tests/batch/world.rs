//! The two ways to run a pipeline: the engine itself between a log and sinks in memory, and the batch lowering.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use watershed_engine::checkpoint::{KeepStaged, Store};
use watershed_engine::plan::{Plan, Rounds, SinkPlan, SourceHistory, SourcePlan, StaticLoader, TablePlan, batch, bind};
use watershed_engine::run::{Adapters, Config, SinkTarget, start};
use watershed_ports::{CommitOutcome, Lag, LookupTable, ManualClock, Polled, RawChunk, Sink, SinkWriter, Source, Staged};
use watershed_sql::{SqlFile, StaticDef, parse_project};
use watershed_types::{Epoch, Error, Generation, Positions, Result};

use crate::asked::Asked;
use crate::input::{MIDNIGHT, Records};
use crate::pipelines::{Pipeline, SOURCE};

/// Each table's rows as text, sorted.
pub type Tables = BTreeMap<String, Vec<String>>;

/// The time that every tick, and the batch, sees.
pub const NOW: i64 = MIDNIGHT + 1_200_000_000;

/// How a stream is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Records in a chunk.
    pub slice: usize,
    pub rows_per_tick: u64,
    pub parallelism: usize,
}

/// A log in memory: the partitions take turns.
struct Log {
    records: Records,
    next: Vec<usize>,
    turn: usize,
    slice: usize,
}

impl Log {
    fn new(records: &Records, slice: usize) -> Log {
        Log { records: records.clone(), next: vec![0; records.len()], turn: 0, slice }
    }
}

impl Source for Log {
    fn seek(&mut self, _positions: &Positions) -> Result<()> {
        Ok(())
    }
    fn poll(&mut self, _max_bytes: usize, _wait: Duration) -> Result<Polled> {
        for _ in 0..self.records.len() {
            let partition = self.turn;
            self.turn = (self.turn + 1) % self.records.len();
            let (from, of) = (self.next[partition], &self.records[partition]);
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
            self.next[partition] = to;
            return Ok(Polled::Chunk(RawChunk::of_log(partition.to_string().into(), from as u64, to as u64, MIDNIGHT, ranges.into(), bytes.into())));
        }
        Ok(Polled::CaughtUp)
    }
    fn partitions(&self) -> Vec<String> {
        (0..self.records.len()).map(|partition| partition.to_string()).collect()
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

type Shown = Arc<Mutex<BTreeMap<String, Vec<RecordBatch>>>>;

/// A table in memory. What is staged is shown at once: no run here fails after it.
struct Shelf {
    name: String,
    shown: Shown,
}

struct ShelfWriter {
    name: String,
    shown: Shown,
    rows: u64,
}

impl Sink for Shelf {
    fn name(&self) -> &str {
        &self.name
    }
    fn writer(&self, _epoch: Epoch) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(ShelfWriter { name: self.name.clone(), shown: Arc::clone(&self.shown), rows: 0 }))
    }
    fn last_epoch(&self) -> Result<Epoch> {
        Ok(Epoch::ZERO)
    }
    fn commit(&self, _epoch: Epoch, _generation: Generation, _staged: &[Staged]) -> Result<CommitOutcome> {
        Ok(CommitOutcome::Committed)
    }
}

impl SinkWriter for ShelfWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.shown.lock().entry(self.name.clone()).or_default().push(batch.clone());
        Ok(())
    }
    fn seal(self: Box<Self>) -> Result<Staged> {
        Ok(Staged { rows: self.rows, bytes: 0, payload: serde_json::Value::Null })
    }
}

struct Memory {
    records: Records,
    slice: usize,
    shown: Shown,
}

impl Memory {
    fn shelf(&self, name: &str) -> Arc<dyn Sink> {
        Arc::new(Shelf { name: name.to_owned(), shown: Arc::clone(&self.shown) })
    }
}

impl Adapters for Memory {
    fn source(&self, _plan: &SourcePlan) -> Result<Box<dyn Source>> {
        Ok(Box::new(Log::new(&self.records, self.slice)))
    }
    fn table(&self, plan: &TablePlan, _app_id: &str) -> Result<Arc<dyn Sink>> {
        Ok(self.shelf(&plan.name))
    }
    fn system_table(&self, name: &str, _schema: SchemaRef, _app_id: &str) -> Result<Arc<dyn Sink>> {
        Ok(self.shelf(&format!("system.{name}")))
    }
    fn sink(&self, plan: &SinkPlan, _table: &TablePlan, _app_id: &str) -> Result<SinkTarget> {
        Err(Error::internal("TEST0001", format!("no sink \"{}\" here", plan.name)))
    }
}

struct Statics(&'static [(&'static str, &'static str)]);

impl StaticLoader for Statics {
    fn load(&self, definition: &StaticDef) -> Result<RecordBatch> {
        let (_, sql) = self.0.iter().find(|(name, _)| *name == definition.name).ok_or_else(|| Error::internal("TEST0002", "no such static table"))?;
        let rows = runtime().block_on(async { SessionContext::new().sql(sql).await?.collect().await }).map_err(|e| Error::internal("TEST0003", e.to_string()))?;
        concat_batches(&rows[0].schema(), &rows).map_err(|e| Error::internal("TEST0003", e.to_string()))
    }
    fn asked(&self, definition: &StaticDef) -> Result<Option<Arc<dyn LookupTable>>> {
        if definition.options.peek("connector") != Some("asked") {
            return Ok(None);
        }
        Ok(Some(Arc::new(Asked::new(definition, &self.load(definition)?))))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A pipeline's plan.
pub fn plan(pipeline: &Pipeline) -> Plan {
    try_plan(pipeline).unwrap_or_else(|e| panic!("{}", e.report()))
}

/// A pipeline's plan, or why there is none.
pub fn try_plan(pipeline: &Pipeline) -> Result<Plan> {
    let source = if pipeline.sql.starts_with("CREATE SOURCE") { "" } else { SOURCE };
    let files = [SqlFile { name: format!("{}.sql", pipeline.name), text: format!("{source}{}", pipeline.sql) }];
    let definitions = parse_project(&files, &|_| None).unwrap_or_else(|e| panic!("{}", e.report()));
    bind(&definitions, &Statics(pipeline.statics))
}

/// Rows as text under a line of names and types.
fn as_text(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL").with_types_info(false);
    let names: Vec<String> = schema.fields().iter().map(|f| format!("{} {}", f.name(), short(f.data_type()))).collect();
    let mut rows = Vec::new();
    for batch in batches {
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
        assert_eq!(types(&batch.schema()), types(schema));
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("can be shown")).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ")));
    }
    rows.sort();
    rows.insert(0, names.join(" | "));
    rows
}

fn short(data_type: &DataType) -> String {
    data_type.to_string().replace("Timestamp(µs)", "Timestamp")
}

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// Runs it as the stream it is, to the end, every window closed. Every table is in the result.
pub fn as_stream(pipeline: &Pipeline, records: &Records, cut: Cut) -> Result<Tables> {
    Ok(streamed(pipeline, records, cut)?.0)
}

/// The same, and why rows are in the quarantine, sorted.
pub fn streamed(pipeline: &Pipeline, records: &Records, cut: Cut) -> Result<(Tables, Vec<String>)> {
    let folder: PathBuf = [env!("CARGO_TARGET_TMPDIR"), &format!("batch-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed))].iter().collect();
    let config = Config {
        pipeline: pipeline.name.to_owned(),
        work: folder.clone(),
        epoch_interval: Duration::from_secs(3600),
        epoch_bytes: 1 << 30,
        max_rows_per_tick: cut.rows_per_tick,
        max_bytes_per_tick: 1 << 20,
        chunk_bytes: 1 << 16,
        parallelism: cut.parallelism,
        key_groups: 16,
        memory: 1 << 30,
        operator_memory: None,
        max_fan_out: 0,
        once: true,
        finalize: true,
        rebuild: false,
        maintenance_interval: Duration::from_secs(3600),
        keep_staged: KeepStaged::default(),
        owner: "test".to_owned(),
        started: Instant::now(),
    };
    let plan = plan(pipeline);
    let schemas: Vec<(String, SchemaRef)> = plan.tables.iter().map(|t| (t.name.clone(), Arc::clone(&t.schema))).collect();
    let shown = Shown::default();
    let adapters = Memory { records: records.clone(), slice: cut.slice, shown: Arc::clone(&shown) };
    let ran = start(plan, config, Store::Local(folder.join("checkpoint")), &adapters, Arc::new(Statics(pipeline.statics)), Arc::new(ManualClock::at(NOW)))
        .and_then(|handle| handle.join());
    let _ = std::fs::remove_dir_all(&folder);
    ran?;
    let shown = shown.lock();
    let mut details = Vec::new();
    for batch in shown.get("system.quarantine").into_iter().flatten() {
        let column = batch.column_by_name("detail").expect("has one").as_string_opt::<i32>();
        details.extend(column.expect("is text").iter().map(|text| text.unwrap_or_default().to_owned()));
    }
    details.sort();
    let tables = schemas.iter().map(|(name, schema)| (name.clone(), as_text(schema, shown.get(name).map_or(&[], Vec::as_slice)))).collect();
    Ok((tables, details))
}

/// The plan of a pipeline, and its sources' history. The clock stands at [`NOW`].
fn over_history(pipeline: &Pipeline, records: &Records) -> Result<(Plan, HashMap<String, Arc<dyn TableProvider>>)> {
    let mut plan = plan(pipeline);
    plan.time.set(NOW);
    let mut history: HashMap<String, Arc<dyn TableProvider>> = HashMap::new();
    for name in plan.sources.iter().map(|s| s.name.clone()).collect::<Vec<_>>() {
        let mut source = SourceHistory::new(&mut plan, &name)?;
        source.read(&mut Log::new(records, 13), 1 << 16)?;
        history.insert(name, source.table()?);
    }
    Ok((plan, history))
}

/// Runs it over the same records as history.
pub fn as_batch(pipeline: &Pipeline, records: &Records, rounds: Rounds) -> Result<Tables> {
    batch_in(pipeline, records, rounds, None)
}

/// The same, in the session it was planned in or in another one.
pub fn batch_in(pipeline: &Pipeline, records: &Records, rounds: Rounds, elsewhere: Option<&SessionContext>) -> Result<Tables> {
    let (plan, history) = over_history(pipeline, records)?;
    let mut tables = Tables::new();
    for table in &plan.tables {
        let lowered = batch(&plan, &table.name, &history, rounds)?;
        let rows = runtime().block_on(lowered.collect(elsewhere.unwrap_or(&plan.context)))?;
        tables.insert(table.name.clone(), as_text(&table.schema, &rows));
    }
    Ok(tables)
}

/// Checks that a plan has nodes of DataFusion's alone.
pub fn is_relational(pipeline: &Pipeline) {
    let (plan, history) = over_history(pipeline, &(pipeline.input)(1)).unwrap_or_else(|e| panic!("{}", e.report()));
    for table in &plan.tables {
        for rounds in [Rounds::UntilDone, Rounds::AtMost(2)] {
            let lowered = batch(&plan, &table.name, &history, rounds).unwrap_or_else(|e| panic!("{}", e.report()));
            for plan in std::iter::once(&lowered.rows).chain(lowered.guards.iter().map(|g| &g.offending)) {
                plan.apply(|node| {
                    let recursive = rounds != Rounds::UntilDone && matches!(node, LogicalPlan::RecursiveQuery(_));
                    assert!(!recursive && !matches!(node, LogicalPlan::Extension(_)), "{}, {}: {}", pipeline.name, table.name, node.display());
                    let text = node.display().to_string();
                    assert!(!text.contains("now()") && !text.contains("current_date"), "{}, {}: {text}", pipeline.name, table.name);
                    Ok(TreeNodeRecursion::Continue)
                })
                .expect("walks");
            }
        }
    }
}
