//! Window aggregation on DataFusion's own vectorised accumulators.
//!
//! **Owns** the open windows: one set of groups and accumulators per window and shard. **Does not own** the watermark.
//!
//! A set per window makes closing one a matter of dropping its set; DataFusion's accumulators can hand out all groups
//! or the first n, and nothing in between.
//!
//! I1: rows reach a group in arrival order, whatever the parallelism: each shard sees its rows in order.
//! I2: a window is emitted once the combined watermark reaches its end; a row for an emitted window is late.
//! I3: a snapshot holds whole windows: the newest file that has a window is right about it.
//! I4: results come in the order of their windows' ends and starts, then of their keys, ascending and NULL first: what reads
//!     them in order finds the same whatever the parallelism, the ticks and the restarts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use rayon::prelude::*;
use watershed_types::Reason;

use super::batch::{Refusal, StreamBatch, Tally, late_detail};
use super::store::StateFiles;
use super::{Fingerprint, Operator, Out, Until};
use crate::run::{Stage, timed};

/// One expression of GROUP BY.
#[derive(Debug, Clone)]
pub enum GroupColumn {
    /// The window's start.
    WindowStart(Arc<dyn PhysicalExpr>),
    /// The window's end.
    WindowEnd(Arc<dyn PhysicalExpr>),
    /// The window's end less a millisecond.
    WindowTime(Arc<dyn PhysicalExpr>),
    /// Anything else.
    Key(Arc<dyn PhysicalExpr>),
}

impl GroupColumn {
    /// The expression.
    pub fn expression(&self) -> &Arc<dyn PhysicalExpr> {
        match self {
            GroupColumn::WindowStart(e) | GroupColumn::WindowEnd(e) | GroupColumn::WindowTime(e) | GroupColumn::Key(e) => e,
        }
    }
}

/// Which input column says which window a row belongs to.
#[derive(Debug, Clone, Copy)]
pub enum WindowBounds {
    /// The column at `index` is the window's start.
    FromStart {
        /// The column.
        index: usize,
        /// The window's length, microseconds.
        size: i64,
    },
    /// The column at `index` is the window's end.
    FromEnd {
        /// The column.
        index: usize,
        /// The window's length, microseconds.
        size: i64,
    },
    /// These columns are its start and its end.
    Columns {
        /// The start's column.
        start: usize,
        /// The end's column.
        end: usize,
    },
}

/// What to aggregate.
#[derive(Clone)]
pub struct AggregateSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// How to know a row's window.
    pub bounds: WindowBounds,
    /// GROUP BY, in output order.
    pub groups: Vec<GroupColumn>,
    /// The aggregates, after the groups.
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Their FILTER clauses.
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// Output columns.
    pub schema: SchemaRef,
}

/// A window: its end, then its start, so that windows sort by when they close.
type WindowKey = (i64, i64);

struct WindowSet {
    groups: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    count: usize,
    dirty: bool,
}

/// The running operator.
pub struct WindowAggregate {
    /// What it does.
    pub spec: AggregateSpec,
    key_schema: SchemaRef,
    snapshot_schema: SchemaRef,
    shards: Vec<BTreeMap<WindowKey, WindowSet>>,
    emitted_to: i64,
    evicted: u64,
}

struct Prepared {
    starts: Vec<i64>,
    ends: Vec<i64>,
    keys: Vec<ArrayRef>,
    arguments: Vec<Vec<ArrayRef>>,
    filters: Vec<Option<BooleanArray>>,
    shard: Vec<u32>,
    /// Rows of emitted windows and rows behind the watermark take no part.
    dead: Vec<bool>,
}

fn damaged() -> DataFusionError {
    DataFusionError::Internal("a window snapshot has other columns than this operator writes".to_owned())
}

impl WindowAggregate {
    /// An operator without open windows.
    pub fn new(spec: AggregateSpec, input: &Schema, parallelism: usize) -> Result<Self> {
        let mut key_fields = Vec::new();
        for (index, group) in spec.groups.iter().enumerate() {
            if let GroupColumn::Key(expression) = group {
                key_fields.push(Field::new(format!("key_{index}"), expression.data_type(input)?, true));
            }
        }
        let mut fields = vec![Field::new("window_start", DataType::Int64, false), Field::new("window_end", DataType::Int64, false)];
        fields.extend(key_fields.iter().cloned());
        for (index, function) in spec.functions.iter().enumerate() {
            for (part, field) in function.state_fields()?.iter().enumerate() {
                fields.push(field.as_ref().clone().with_name(format!("state_{index}_{part}")).with_nullable(true));
            }
        }
        let count = if key_fields.is_empty() { 1 } else { parallelism.max(1) };
        Ok(Self {
            spec,
            key_schema: Arc::new(Schema::new(key_fields)),
            snapshot_schema: Arc::new(Schema::new(fields)),
            shards: (0..count).map(|_| BTreeMap::new()).collect(),
            emitted_to: i64::MIN,
            evicted: 0,
        })
    }

    fn new_set(&self) -> Result<WindowSet> {
        new_set(&self.spec, &self.key_schema)
    }

    /// Absorbs the batches of one tick, in order.
    pub fn process(&mut self, batches: &[StreamBatch], tally: &mut Tally) -> Result<()> {
        let (count, emitted_to) = (self.shards.len(), self.emitted_to);
        let (spec, key_schema) = (&self.spec, &self.key_schema);
        let prepared: Vec<Prepared> = batches.par_iter().map(|batch| timed(Stage::Window, || prepare(spec, batch, count, emitted_to))).collect::<Result<_>>()?;
        for (batch, prepared) in batches.iter().zip(&prepared) {
            count_fates(batch, prepared, emitted_to, tally);
        }
        self.shards
            .par_iter_mut()
            .enumerate()
            .map(|(index, shard)| {
                timed(Stage::Window, || {
                    for prepared in &prepared {
                        absorb(spec, key_schema, shard, prepared, index as u32)?;
                    }
                    Ok(())
                })
            })
            .collect::<Result<()>>()
    }

    /// Closes every window that ends at or before `watermark` and returns its rows, one batch a window, in order (I4).
    pub fn emit(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        if watermark <= self.emitted_to {
            return Ok(vec![]);
        }
        // At the end of the input every open window closes, and no other: what comes in a later run belongs to later ones.
        self.emitted_to = match watermark {
            i64::MAX => self.shards.iter().flat_map(|shard| shard.keys().next_back()).map(|key| key.0).fold(self.emitted_to, i64::max),
            watermark => watermark,
        };
        let spec = &self.spec;
        let mut closed = Vec::new();
        for shard in &mut self.shards {
            while let Some(entry) = shard.first_entry() {
                if entry.key().0 > watermark {
                    break;
                }
                closed.push(entry.remove_entry());
            }
        }
        closed.sort_by_key(|(key, _)| *key);
        self.evicted += closed.iter().map(|(_, set)| set.count as u64).sum::<u64>();
        let results = closed.into_par_iter().map(|(key, set)| timed(Stage::Window, || Ok((key, evaluate(spec, key, set)?)))).collect::<Result<Vec<_>>>()?;
        let windows: Vec<_> = results.chunk_by(|a, b| a.0 == b.0).collect();
        windows.into_par_iter().map(|shards| timed(Stage::Window, || by_key(spec, shards))).collect()
    }

    fn sets(&self) -> impl Iterator<Item = &WindowSet> {
        self.shards.iter().flat_map(|s| s.values())
    }
}

impl Operator for WindowAggregate {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        let batches: Vec<StreamBatch> = inputs.into_iter().flatten().collect();
        self.process(&batches, &mut tallies[0])?;
        Ok(self.emit(until.mark())?.into_iter().map(StreamBatch::results).collect())
    }
    /// Event time up to which windows were emitted.
    fn emitted_to(&self) -> Option<i64> {
        (self.emitted_to != i64::MIN).then_some(self.emitted_to)
    }
    /// Groups held.
    fn rows(&self) -> u64 {
        self.sets().map(|s| s.count as u64).sum()
    }
    /// Bytes held, as the accumulators estimate.
    fn bytes(&self) -> u64 {
        self.sets().map(|s| s.groups.as_ref().map_or(0, |g| g.size()) + s.accumulators.iter().map(|a| a.size()).sum::<usize>()).sum::<usize>() as u64
    }
    /// Groups emitted since the start.
    fn evictions(&self) -> u64 {
        self.evicted
    }

    /// The windows that changed since the last snapshot, or all of them; and the event time after which none is needed.
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        let (spec, key_schema, schema) = (&self.spec, &self.key_schema, &self.snapshot_schema);
        let mut expires = None;
        // I3: a window that changed in one shard is written from all of them.
        let changed: HashSet<WindowKey> = self.shards.iter().flatten().filter(|(_, set)| full || set.dirty).map(|(key, _)| *key).collect();
        for shard in &mut self.shards {
            for (key, set) in shard.iter_mut() {
                if changed.contains(key) {
                    out(dump(spec, key_schema, schema, *key, set)?)?;
                    set.dirty = false;
                    expires = expires.max(Some(key.0));
                }
            }
        }
        Ok(expires)
    }

    /// What open windows would yield now.
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        self.emit(i64::MAX)
    }

    /// Takes the files of a snapshot, oldest first, and how far windows were emitted.
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        let mut newest: HashMap<WindowKey, (usize, Vec<RecordBatch>)> = HashMap::new();
        let mut number = 0;
        files.each(&mut |file| {
            number += 1;
            for batch in file.iter().filter(|b| b.num_rows() > 0) {
                let value = |name| Ok::<_, DataFusionError>(batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(damaged)?.value(0));
                let key = (value("window_end")?, value("window_start")?);
                let entry = newest.entry(key).or_insert_with(|| (number, vec![]));
                if entry.0 != number {
                    *entry = (number, vec![]);
                }
                entry.1.push(batch.clone());
            }
            Ok(())
        })?;
        let count = self.shards.len();
        for (key, (_, batches)) in newest {
            if key.0 <= self.emitted_to {
                continue;
            }
            for batch in batches {
                if batch.num_columns() != self.snapshot_schema.fields().len() {
                    return Err(damaged());
                }
                let keys: Vec<ArrayRef> = batch.columns()[2..2 + self.key_schema.fields().len()].to_vec();
                let shard_of_row = shards(&keys, batch.num_rows(), count)?;
                for index in 0..count {
                    let rows: Vec<u32> = (0..batch.num_rows() as u32).filter(|r| shard_of_row[*r as usize] == index as u32).collect();
                    if rows.is_empty() {
                        continue;
                    }
                    let rows = UInt32Array::from(rows);
                    let columns = batch.columns().iter().map(|c| take(c, &rows, None)).collect::<Result<Vec<_>, _>>()?;
                    if !self.shards[index].contains_key(&key) {
                        let set = self.new_set()?;
                        self.shards[index].insert(key, set);
                    }
                    if let Some(set) = self.shards[index].get_mut(&key) {
                        merge(&self.spec, &self.key_schema, set, &columns)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn new_set(spec: &AggregateSpec, key_schema: &SchemaRef) -> Result<WindowSet> {
    let groups = if key_schema.fields().is_empty() { None } else { Some(new_group_values(Arc::clone(key_schema), &GroupOrdering::None)?) };
    let accumulators = spec.functions.iter().map(new_accumulator).collect::<Result<_>>()?;
    Ok(WindowSet { groups, accumulators, count: 0, dirty: true })
}

pub(super) fn new_accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

fn shards(keys: &[ArrayRef], rows: usize, count: usize) -> Result<Vec<u32>> {
    if count == 1 || keys.is_empty() {
        return Ok(vec![0; rows]);
    }
    let mut hashes = vec![0u64; rows];
    create_hashes(keys, &datafusion::common::hash_utils::RandomState::with_seed(7), &mut hashes)?;
    Ok(hashes.into_iter().map(|hash| ((u128::from(hash) * count as u128) >> 64) as u32).collect())
}

fn micros(column: &ArrayRef) -> Vec<i64> {
    column.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

fn prepare(spec: &AggregateSpec, batch: &StreamBatch, count: usize, emitted_to: i64) -> Result<Prepared> {
    let rows = batch.batch.num_rows();
    let evaluate = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&batch.batch)?.into_array(rows);
    let mut keys = Vec::new();
    for group in &spec.groups {
        if let GroupColumn::Key(expression) = group {
            keys.push(evaluate(expression)?);
        }
    }
    let mut arguments = Vec::new();
    for function in &spec.functions {
        let mut values = function.expressions().iter().map(evaluate).collect::<Result<Vec<_>>>()?;
        for order in function.order_bys() {
            values.push(evaluate(&order.expr)?);
        }
        arguments.push(values);
    }
    let filters = spec.filters.iter().map(|filter| filter.as_ref().map(|f| Ok(evaluate(f)?.as_boolean().clone())).transpose()).collect::<Result<Vec<_>>>()?;
    let (starts, ends): (Vec<i64>, Vec<i64>) = match spec.bounds {
        WindowBounds::FromStart { index, size } => micros(batch.batch.column(index)).into_iter().map(|start| (start, start + size)).unzip(),
        WindowBounds::FromEnd { index, size } => micros(batch.batch.column(index)).into_iter().map(|end| (end - size, end)).unzip(),
        WindowBounds::Columns { start, end } => (micros(batch.batch.column(start)), micros(batch.batch.column(end))),
    };
    let origin_late = batch.origin.as_ref().filter(|o| !o.late.is_empty());
    let dead = (0..rows).map(|i| ends[i] <= emitted_to || origin_late.is_some_and(|o| o.late.contains_key(&batch.row(i)))).collect();
    Ok(Prepared { starts, shard: shards(&keys, rows, count)?, ends, keys, arguments, filters, dead })
}

/// A source row is absorbed if any of its windows is open, and late if none is.
fn count_fates(batch: &StreamBatch, prepared: &Prepared, emitted_to: i64, tally: &mut Tally) {
    if !prepared.dead.contains(&true) {
        tally.absorbed += batch.distinct_rows();
        return;
    }
    let alive: HashSet<u32> = (0..prepared.dead.len()).filter(|i| !prepared.dead[*i]).map(|i| batch.row(i)).collect();
    tally.absorbed += alive.len() as u64;
    let mut seen = HashSet::new();
    for index in (0..prepared.dead.len()).filter(|i| prepared.dead[*i]) {
        let row = batch.row(index);
        if alive.contains(&row) || !seen.insert(row) {
            continue;
        }
        let detail = match &batch.origin {
            Some(origin) => {
                let time = origin.event_time.get(row as usize).copied().unwrap_or(prepared.starts[index]);
                match origin.late.get(&row) {
                    Some(watermark) => late_detail(time, *watermark, &origin.chunk.partition),
                    None => format!("its window ending {} was emitted already", crate::time::timestamp(prepared.ends[index])),
                }
            }
            None => format!("its window was emitted already, up to {}", crate::time::timestamp(emitted_to)),
        };
        tally.late.push(Refusal::of(batch, index, Reason::Late, detail));
    }
}

fn absorb(spec: &AggregateSpec, key_schema: &SchemaRef, shard: &mut BTreeMap<WindowKey, WindowSet>, prepared: &Prepared, index: u32) -> Result<()> {
    let rows = prepared.ends.len();
    let all_mine = !prepared.dead.contains(&true) && prepared.shard.iter().all(|s| *s == index);
    let one_window = rows > 0 && prepared.ends.iter().all(|e| *e == prepared.ends[0]) && prepared.starts.iter().all(|s| *s == prepared.starts[0]);
    if all_mine && one_window {
        let set = set_of(spec, key_schema, shard, (prepared.ends[0], prepared.starts[0]))?;
        return update(set, &prepared.keys, &prepared.arguments, &prepared.filters, rows);
    }
    let mut by_window: BTreeMap<WindowKey, Vec<u32>> = BTreeMap::new();
    for row in 0..rows {
        if prepared.shard[row] == index && !prepared.dead[row] {
            by_window.entry((prepared.ends[row], prepared.starts[row])).or_default().push(row as u32);
        }
    }
    for (key, rows) in by_window {
        let count = rows.len();
        let rows = UInt32Array::from(rows);
        let pick = |columns: &[ArrayRef]| columns.iter().map(|c| take(c, &rows, None)).collect::<Result<Vec<_>, _>>();
        let keys = pick(&prepared.keys)?;
        let arguments = prepared.arguments.iter().map(|a| pick(a)).collect::<Result<Vec<_>, _>>()?;
        let mut filters = Vec::new();
        for filter in &prepared.filters {
            filters.push(match filter {
                Some(filter) => Some(take(filter, &rows, None)?.as_boolean().clone()),
                None => None,
            });
        }
        let set = set_of(spec, key_schema, shard, key)?;
        update(set, &keys, &arguments, &filters, count)?;
    }
    Ok(())
}

fn set_of<'a>(spec: &AggregateSpec, key_schema: &SchemaRef, shard: &'a mut BTreeMap<WindowKey, WindowSet>, key: WindowKey) -> Result<&'a mut WindowSet> {
    use std::collections::btree_map::Entry;
    Ok(match shard.entry(key) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(new_set(spec, key_schema)?),
    })
}

fn intern(set: &mut WindowSet, keys: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
    let mut indices = Vec::with_capacity(rows);
    match &mut set.groups {
        Some(groups) => {
            groups.intern(keys, &mut indices)?;
            set.count = groups.len();
        }
        None => {
            indices.resize(rows, 0);
            set.count = 1;
        }
    }
    Ok(indices)
}

fn update(set: &mut WindowSet, keys: &[ArrayRef], arguments: &[Vec<ArrayRef>], filters: &[Option<BooleanArray>], rows: usize) -> Result<()> {
    let indices = intern(set, keys, rows)?;
    set.dirty = true;
    for ((accumulator, arguments), filter) in set.accumulators.iter_mut().zip(arguments).zip(filters) {
        accumulator.update_batch(arguments, &indices, filter.as_ref(), set.count)?;
    }
    Ok(())
}

/// Adds a snapshot's rows: `columns` are window start and end, keys, states.
fn merge(spec: &AggregateSpec, key_schema: &SchemaRef, set: &mut WindowSet, columns: &[ArrayRef]) -> Result<()> {
    let keys = key_schema.fields().len();
    let rows = columns[0].len();
    let indices = intern(set, &columns[2..2 + keys], rows)?;
    let mut at = 2 + keys;
    for (accumulator, function) in set.accumulators.iter_mut().zip(&spec.functions) {
        let parts = function.state_fields()?.len();
        accumulator.merge_batch(&columns[at..at + parts], &indices, set.count)?;
        at += parts;
    }
    set.dirty = false;
    Ok(())
}

/// Reads a window's state. `state` and `emit` consume, so the set is built again from what they gave.
fn dump(spec: &AggregateSpec, key_schema: &SchemaRef, schema: &SchemaRef, key: WindowKey, set: &mut WindowSet) -> Result<RecordBatch> {
    let rows = set.count;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![key.1; rows])), Arc::new(Int64Array::from(vec![key.0; rows]))];
    if let Some(groups) = &mut set.groups {
        columns.extend(groups.emit(EmitTo::All)?);
    }
    for accumulator in &mut set.accumulators {
        columns.extend(accumulator.state(EmitTo::All)?);
    }
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = cast(column, field.data_type())?;
        }
    }
    let mut rebuilt = new_set(spec, key_schema)?;
    merge(spec, key_schema, &mut rebuilt, &columns)?;
    *set = rebuilt;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// One window's results from all shards, ordered by their keys (I4).
fn by_key(spec: &AggregateSpec, shards: &[(WindowKey, RecordBatch)]) -> Result<RecordBatch> {
    let all = match shards {
        [(_, one)] => one.clone(),
        many => concat_batches(&spec.schema, many.iter().map(|(_, batch)| batch))?,
    };
    let keys = spec.groups.iter().zip(all.columns()).filter(|(group, _)| matches!(group, GroupColumn::Key(_)));
    let keys: Vec<ArrayRef> = keys.map(|(_, column)| Arc::clone(column)).collect();
    if keys.is_empty() || all.num_rows() < 2 {
        return Ok(all);
    }
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let encoded = RowConverter::new(fields)?.convert_columns(&keys)?;
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize)));
    Ok(take_record_batch(&all, &UInt32Array::from(order))?)
}

fn evaluate(spec: &AggregateSpec, key: WindowKey, mut set: WindowSet) -> Result<RecordBatch> {
    let mut keys = match &mut set.groups {
        Some(groups) => groups.emit(EmitTo::All)?,
        None => vec![],
    }
    .into_iter();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (index, group) in spec.groups.iter().enumerate() {
        let constant = |value: i64| -> Result<ArrayRef> {
            let array: ArrayRef = Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(vec![value; set.count]));
            Ok(cast(&array, spec.schema.field(index).data_type())?)
        };
        columns.push(match group {
            GroupColumn::WindowStart(_) => constant(key.1)?,
            GroupColumn::WindowEnd(_) => constant(key.0)?,
            GroupColumn::WindowTime(_) => constant(key.0 - 1_000)?,
            GroupColumn::Key(_) => keys.next().ok_or_else(damaged)?,
        });
    }
    for accumulator in &mut set.accumulators {
        columns.push(accumulator.evaluate(EmitTo::All)?);
    }
    for (column, field) in columns.iter_mut().zip(spec.schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = cast(column, field.data_type())?;
        }
    }
    Ok(RecordBatch::try_new(Arc::clone(&spec.schema), columns)?)
}
