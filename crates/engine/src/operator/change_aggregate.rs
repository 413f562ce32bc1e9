//! Aggregates that show their results as they change, and windows that take late rows for a while.
//!
//! **Owns** the state of each group's accumulators, as rows. **Does not own** the accumulators: they are DataFusion's.
//!
//! A tick's rows are aggregated by themselves first; then the states of the groups they touch are fetched, merged and put
//! back. So a tick costs what it touches, and a snapshot what was touched since the last one.
//!
//! I1: a result is taken back before it is replaced, so that what reads the changelog can count.
//! I2: a group of a window is given up once the watermark is `lateness` past the window's end.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat, concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use watershed_types::Reason;

use super::aggregate::{WindowBounds, new_accumulator};
use super::batch::{DELETE, INSERT, Refusal, StreamBatch, Tally};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{conform, relaxed};
use super::scratch::Scratch;
use super::store::{FOR_EVER, RowCodec, StateFiles, Store, shrink_all, snapshot_all};
use super::windowed::why_late;
use super::{Accumulates, Fingerprint, Growth, Operator, OperatorSpec, Out, Until, state_width};
use crate::run::{Stage, timed};

/// When results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// With every tick that changes them.
    OnChange,
    /// When their window closes, and after that with every late row.
    AfterClose,
    /// Every so often before their window closes, microseconds; then as `AfterClose`.
    Early(i64),
}

/// What to aggregate.
pub struct ChangeAggregateSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// GROUP BY, in output order.
    pub groups: Vec<Arc<dyn PhysicalExpr>>,
    /// The aggregates, after the groups.
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Their FILTER clauses.
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// How to know a row's window, if the groups are of windows.
    pub window: Option<WindowBounds>,
    /// For how long after its end a window takes rows, microseconds.
    pub lateness: i64,
    /// When results are shown.
    pub show: Show,
    /// The input's columns.
    pub input: SchemaRef,
    /// Output columns.
    pub schema: SchemaRef,
}

impl OperatorSpec for ChangeAggregateSpec {
    fn id(&self) -> &str {
        &self.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
    fn fingerprint_mut(&mut self) -> &mut Fingerprint {
        &mut self.fingerprint
    }
    fn keeps(&self) -> Vec<Keeps> {
        let span = if self.window.is_some() { KeptFor::Window(self.lateness) } else { KeptFor::ForEver };
        let keys = self.schema.fields().iter().take(self.groups.len()).map(|f| width([f.data_type()])).sum();
        let copies = if matches!(self.show, Show::Early(_)) { 2 } else { 1 };
        vec![Keeps { span, bytes: copies * entry(keys, state_width(&self.functions)) }]
    }
    fn describe(&self) -> String {
        let functions: Vec<String> = self.functions.iter().map(|f| f.name().replace("count(Int64(1))", "count(*)")).collect();
        let groups: Vec<&str> = self.schema.fields().iter().take(self.groups.len()).map(|f| f.name().as_str()).collect();
        let shown = match self.show {
            Show::OnChange => "shown with every change".to_owned(),
            Show::AfterClose => format!("emitted when a window closes, and again for rows up to {} late", crate::time::interval(self.lateness)),
            Show::Early(every) => format!("shown every {} and when a window closes", crate::time::interval(every)),
        };
        let kept = if self.window.is_some() { "until the window is over" } else { "for ever" };
        match functions.is_empty() {
            true => format!("keep each {} once, remembered {kept}", groups.join(", ")),
            false if groups.is_empty() => format!("aggregate {}, {shown}", functions.join(", ")),
            false => format!("aggregate {} by {}, {shown}; a group is kept {kept}", functions.join(", "), groups.join(", ")),
        }
    }
    fn grows(&self) -> Option<Growth> {
        let bound = "groups of a window (window_start or window_end of TUMBLE, HOP, … in GROUP BY), which is given up once it is over";
        (self.window.is_none() && !self.groups.is_empty()).then_some(Growth { with: "its groups", bound })
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn accumulates(&self) -> Option<Accumulates<'_>> {
        Some(Accumulates { groups: self.groups.iter().collect(), functions: &self.functions, filters: &self.filters })
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let keys = self.groups.iter().map(|group| group.data_type(&self.input)).collect::<Result<Vec<_>>>()?;
        let mut states = Vec::new();
        for function in &self.functions {
            states.extend(function.state_fields()?.iter().map(|field| field.data_type().clone()));
        }
        let schema = relaxed(&self.schema);
        Ok(Box::new(ChangeAggregate {
            key_schema: Arc::new(Schema::new(keys.iter().enumerate().map(|(i, t)| arrow::datatypes::Field::new(format!("key_{i}"), t.clone(), true)).collect::<Vec<_>>())),
            keys: (!keys.is_empty()).then(|| RowCodec::new(keys)).transpose()?,
            states: (!states.is_empty()).then(|| RowCodec::new(states)).transpose()?,
            results: RowCodec::of(&schema)?,
            schema,
            spec: *self,
            store: Store::new(0),
            shown: Store::new(1),
            pending: BTreeMap::new(),
            shown_at: None,
            emitted_to: i64::MIN,
            evicted: 0,
        }))
    }
}

/// A group was shown, and what was shown is what its state says.
const SHOWN: u32 = 1;

/// The running operator.
struct ChangeAggregate {
    spec: ChangeAggregateSpec,
    schema: SchemaRef,
    key_schema: SchemaRef,
    keys: Option<RowCodec>,
    states: Option<RowCodec>,
    results: RowCodec,
    store: Store,
    /// For early results what a group's state was when it was shown last: what is taken back when it is shown again (I1).
    shown: Store,
    /// Groups with news that were not shown yet, by the end of their windows.
    pending: BTreeMap<i64, HashSet<Box<[u8]>>>,
    shown_at: Option<i64>,
    emitted_to: i64,
    evicted: u64,
}

/// The groups that one tick touches.
#[derive(Default)]
struct Touched {
    keys: Vec<Box<[u8]>>,
    ends: Vec<i64>,
    states: Vec<ArrayRef>,
}

impl ChangeAggregate {
    fn ends(&self, batch: &RecordBatch) -> Result<Option<Vec<i64>>> {
        let micros = |index: usize| {
            let column = batch.column(index).as_primitive_opt::<TimestampMicrosecondType>();
            column.map(|column| column.values().to_vec()).ok_or_else(|| DataFusionError::Internal("a window column is no timestamp".to_owned()))
        };
        Ok(match self.spec.window {
            None => None,
            Some(WindowBounds::FromStart { index, size }) => Some(micros(index)?.into_iter().map(|start| start + size).collect()),
            Some(WindowBounds::FromEnd { index, .. } | WindowBounds::Columns { end: index, .. }) => Some(micros(index)?),
        })
    }

    /// True for rows that no open window takes.
    fn late(&self, batch: &StreamBatch, ends: &Option<Vec<i64>>, tally: &mut Tally) -> Option<BooleanArray> {
        let count = batch.batch.num_rows();
        let Some(ends) = ends else {
            tally.absorbed += batch.distinct_rows();
            return None;
        };
        let mut keep = vec![true; count];
        let (mut alive, mut told) = (HashSet::new(), HashSet::new());
        for row in 0..count {
            let horizon = ends[row].saturating_add(self.spec.lateness);
            let behind = batch.origin.as_ref().and_then(|origin| origin.late.get(&batch.row(row)).copied());
            let late = horizon <= self.emitted_to || behind.is_some_and(|watermark| self.spec.lateness == 0 || horizon <= watermark);
            keep[row] = !late;
            if !late {
                alive.insert(batch.row(row));
            }
        }
        tally.absorbed += alive.len() as u64;
        for row in (0..count).filter(|row| !keep[*row]) {
            if !alive.contains(&batch.row(row)) && told.insert(batch.row(row)) {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, ends[row])));
            }
        }
        (alive.len() < count && keep.contains(&false)).then(|| BooleanArray::from(keep))
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.spec.functions.iter().map(new_accumulator).collect()
    }

    /// Aggregates the rows of one tick by themselves.
    fn absorb(&mut self, batches: &[StreamBatch], tally: &mut Tally) -> Result<Touched> {
        let mut groups = match self.keys {
            Some(_) => Some(new_group_values(Arc::clone(&self.key_schema), &GroupOrdering::None)?),
            None => None,
        };
        let mut accumulators = self.accumulators()?;
        let mut ends_of_groups: Vec<i64> = Vec::new();
        let mut count = 0;
        for batch in batches.iter().filter(|batch| batch.batch.num_rows() > 0) {
            let mut ends = self.ends(&batch.batch)?;
            let keep = self.late(batch, &ends, tally);
            let rows = match &keep {
                None => batch.batch.clone(),
                Some(mask) => arrow::compute::filter_record_batch(&batch.batch, mask)?,
            };
            if let (Some(mask), Some(all)) = (&keep, &mut ends) {
                let mut at = 0;
                all.retain(|_| {
                    at += 1;
                    mask.value(at - 1)
                });
            }
            let length = rows.num_rows();
            if length == 0 {
                continue;
            }
            let evaluate = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&rows)?.into_array(length);
            let mut indices = Vec::with_capacity(length);
            match &mut groups {
                Some(groups) => {
                    let keys = self.spec.groups.iter().map(evaluate).collect::<Result<Vec<_>>>()?;
                    groups.intern(&keys, &mut indices)?;
                    count = groups.len();
                }
                None => {
                    indices.resize(length, 0);
                    count = 1;
                }
            }
            ends_of_groups.resize(count, FOR_EVER);
            if let Some(ends) = ends {
                for (group, end) in indices.iter().zip(ends) {
                    ends_of_groups[*group] = end;
                }
            }
            for ((accumulator, function), condition) in accumulators.iter_mut().zip(&self.spec.functions).zip(&self.spec.filters) {
                let mut arguments = function.expressions().iter().map(evaluate).collect::<Result<Vec<_>>>()?;
                for order in function.order_bys() {
                    arguments.push(evaluate(&order.expr)?);
                }
                let condition = condition.as_ref().map(|e| Ok::<_, DataFusionError>(evaluate(e)?.as_boolean().clone())).transpose()?;
                accumulator.update_batch(&arguments, &indices, condition.as_ref(), count)?;
            }
        }
        if count == 0 {
            return Ok(Touched::default());
        }
        let keys = match (&mut groups, &self.keys) {
            (Some(groups), Some(codec)) => codec.encode(&groups.emit(EmitTo::All)?)?.iter().map(|row| row.as_ref().into()).collect(),
            _ => vec![Box::default()],
        };
        let mut states = Vec::new();
        for accumulator in &mut accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(Touched { keys, ends: ends_of_groups, states })
    }

    /// Merges states: those of `earlier` belong to the groups `of`, `later` to all of them in order. Both may be absent.
    fn merge(&self, groups: usize, earlier: Option<(&[ArrayRef], &[usize])>, later: Option<&[ArrayRef]>) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        let mut accumulators = self.accumulators()?;
        // SUBTLE: in one call. Accumulators take it that a batch without a NULL has a row of every group there is by then: a group that has
        // only NULL would become one of 0, or of the least number there is, after earlier states of other groups.
        let of: Vec<usize> = earlier.map_or(&[][..], |(_, of)| of).iter().copied().chain(later.into_iter().flat_map(|_| 0..groups)).collect();
        let mut at = 0;
        for (accumulator, function) in accumulators.iter_mut().zip(&self.spec.functions) {
            let parts = function.state_fields()?.len();
            let states = (at..at + parts)
                .map(|part| match (earlier, later) {
                    (Some((earlier, _)), Some(later)) => {
                        let earlier = cast(&earlier[part], later[part].data_type())?;
                        Ok(concat(&[earlier.as_ref(), later[part].as_ref()])?)
                    }
                    (Some((states, _)), None) | (None, Some(states)) => Ok(Arc::clone(&states[part])),
                    (None, None) => Err(DataFusionError::Internal("states of nothing were merged".to_owned())),
                })
                .collect::<Result<Vec<ArrayRef>>>()?;
            accumulator.merge_batch(&states, &of, groups)?;
            at += parts;
        }
        Ok(accumulators)
    }

    fn state_columns(&self, rows: &[Arc<[u8]>]) -> Result<Vec<ArrayRef>> {
        match &self.states {
            Some(codec) => codec.decode(rows.iter().map(AsRef::as_ref)),
            None => Ok(vec![]),
        }
    }

    /// The results of groups with these states, one row a group.
    fn results(&self, keys: &[Box<[u8]>], states: &[Arc<[u8]>]) -> Result<RecordBatch> {
        let mut columns = match &self.keys {
            Some(codec) => codec.decode(keys.iter().map(AsRef::as_ref))?,
            None => vec![],
        };
        let states = self.state_columns(states)?;
        for mut accumulator in self.merge(keys.len(), None, Some(&states))? {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        conform(&self.schema, columns, keys.len())
    }

    /// Merges what a tick touched into the store. For each group its state before, if it had one that was shown.
    fn update(&mut self, touched: &Touched) -> Result<Vec<Option<Arc<[u8]>>>> {
        let groups = touched.keys.len();
        if groups == 0 {
            return Ok(vec![]);
        }
        touched.keys.iter().try_for_each(|key| self.store.fetch(key))?;
        let before: Vec<Option<(Arc<[u8]>, u32)>> = touched.keys.iter().map(|key| self.store.get(key).first().map(|e| (Arc::clone(&e.row), e.count))).collect();
        let merged: Vec<Arc<[u8]>> = match &self.states {
            None => vec![Arc::from([]); groups],
            Some(codec) => {
                let (of, rows): (Vec<usize>, Vec<Arc<[u8]>>) = before.iter().enumerate().filter_map(|(i, b)| Some((i, Arc::clone(&b.as_ref()?.0)))).unzip();
                let earlier = self.state_columns(&rows)?;
                let mut states = Vec::new();
                let earlier = (!of.is_empty()).then_some((earlier.as_slice(), of.as_slice()));
                for mut accumulator in self.merge(groups, earlier, Some(&touched.states))? {
                    states.extend(accumulator.state(EmitTo::All)?);
                }
                codec.encode(&states)?.iter().map(|row| row.as_ref().into()).collect()
            }
        };
        for (((key, end), row), before) in touched.keys.iter().zip(&touched.ends).zip(merged).zip(&before) {
            let time = if *end == FOR_EVER { FOR_EVER } else { end.saturating_add(self.spec.lateness).min(FOR_EVER - 1) };
            // News of early results wait to be shown, also over a restart.
            let count = if matches!(self.spec.show, Show::Early(_)) { 0 } else { before.as_ref().map_or(0, |(_, count)| *count) };
            self.store.set(key, time, count, row);
        }
        Ok(before.into_iter().map(|b| b.filter(|(_, count)| *count == SHOWN).map(|(row, _)| row)).collect())
    }

    /// What groups show now in place of what they showed before (I1).
    fn show(&mut self, keys: &[Box<[u8]>], before: &[Option<Arc<[u8]>>]) -> Result<Vec<StreamBatch>> {
        if keys.is_empty() {
            return Ok(vec![]);
        }
        keys.iter().try_for_each(|key| self.store.fetch(key))?;
        let now: Vec<Arc<[u8]>> = keys.iter().map(|key| self.store.get(key).first().map_or_else(|| Arc::from([]), |e| Arc::clone(&e.row))).collect();
        let appear = self.results(keys, &now)?;
        let early = matches!(self.spec.show, Show::Early(_));
        for key in keys {
            let Some((id, time, row)) = self.store.get(key).first().filter(|e| e.count != SHOWN).map(|e| (e.id, e.time, Arc::clone(&e.row))) else { continue };
            self.store.recount(key, id, |_| SHOWN);
            if early {
                self.shown.fetch(key)?;
                self.shown.set(key, time, 0, row);
            }
        }
        let (of, shown): (Vec<usize>, Vec<Arc<[u8]>>) = before.iter().enumerate().filter_map(|(i, row)| Some((i, Arc::clone(row.as_ref()?)))).unzip();
        if of.is_empty() {
            return Ok(vec![StreamBatch::changelog(appear, vec![INSERT; keys.len()])]);
        }
        let old_keys: Vec<Box<[u8]>> = of.iter().map(|i| keys[*i].clone()).collect();
        let vanish = self.results(&old_keys, &shown)?;
        let (new_rows, old_rows) = (self.results.encode(appear.columns())?, self.results.encode(vanish.columns())?);
        let (mut order, mut changes) = (Vec::new(), Vec::new());
        let mut old = of.iter().enumerate().peekable();
        for key in 0..keys.len() {
            if let Some((at, _)) = old.next_if(|(_, group)| **group == key) {
                if old_rows.row(at) == new_rows.row(key) {
                    continue;
                }
                order.push((keys.len() + at) as u32);
                changes.push(DELETE);
            }
            order.push(key as u32);
            changes.push(INSERT);
        }
        let both = concat_batches(&self.schema, [&appear, &vanish])?;
        Ok(vec![StreamBatch::changelog(take_record_batch(&both, &UInt32Array::from(order))?, changes)])
    }

    fn wait(&mut self, end: i64, key: Box<[u8]>) {
        self.pending.entry(end).or_default().insert(key);
    }

    /// Groups that wait and whose window has closed by `mark`; with `all` also those of open windows.
    fn due(&mut self, mark: i64, all: bool) -> Vec<Box<[u8]>> {
        let mut due = Vec::new();
        while let Some(first) = self.pending.first_entry() {
            if *first.key() > mark && !all {
                break;
            }
            let mut keys: Vec<Box<[u8]>> = first.remove().into_iter().collect();
            keys.sort_unstable();
            due.extend(keys);
        }
        due
    }
}

impl Operator for ChangeAggregate {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        let batches: Vec<StreamBatch> = inputs.into_iter().flatten().collect();
        timed(Stage::Window, || {
            let touched = self.absorb(&batches, &mut tallies[0])?;
            let before = self.update(&touched)?;
            let mark = until.mark();
            let mut out = match self.spec.show {
                Show::OnChange => self.show(&touched.keys, &before)?,
                Show::AfterClose | Show::Early(_) => {
                    let (mut keys, mut shown) = (Vec::new(), Vec::new());
                    for ((key, end), before) in touched.keys.into_iter().zip(touched.ends).zip(before) {
                        // Early results have their time, however often what they say changes in between.
                        if before.is_some() && self.spec.show == Show::AfterClose {
                            keys.push(key);
                            shown.push(before);
                        } else {
                            self.wait(end, key);
                        }
                    }
                    self.show(&keys, &shown)?
                }
            };
            let early = match (self.spec.show, self.shown_at) {
                (Show::Early(every), Some(at)) => until.now.saturating_sub(at) >= every,
                (Show::Early(_), None) => {
                    self.shown_at = Some(until.now);
                    false
                }
                _ => false,
            };
            if early {
                self.shown_at = Some(until.now);
            }
            let due = self.due(mark, early);
            due.iter().try_for_each(|key| self.shown.fetch(key))?;
            let before: Vec<Option<Arc<[u8]>>> = due.iter().map(|key| self.shown.get(key).first().map(|e| Arc::clone(&e.row))).collect();
            out.extend(self.show(&due, &before)?);
            if self.spec.window.is_some() && mark > self.emitted_to {
                // I2.
                let expired = self.store.expire(mark.min(FOR_EVER - 1))?;
                self.shown.expire(mark.min(FOR_EVER - 1))?;
                self.evicted += expired.len() as u64;
                let latest = expired.iter().map(|(_, entry)| entry.time).fold(self.emitted_to, i64::max);
                self.emitted_to = if until.closing { latest } else { mark };
            }
            Ok(out)
        })
    }
    fn emitted_to(&self) -> Option<i64> {
        (self.emitted_to != i64::MIN).then_some(self.emitted_to)
    }
    fn rows(&self) -> u64 {
        self.store.rows()
    }
    fn bytes(&self) -> u64 {
        self.store.bytes() + self.shown.bytes()
    }
    fn evictions(&self) -> u64 {
        self.evicted
    }
    fn spilled(&self) -> u64 {
        self.store.spilled() + self.shown.spilled()
    }
    fn attach(&mut self, scratch: &Arc<Scratch>, limit: u64) {
        self.store.attach(scratch, limit / 2);
        self.shown.attach(scratch, limit / 2);
    }
    fn shrink(&mut self, to: u64) -> Result<()> {
        shrink_all([&mut self.store, &mut self.shown], to)
    }
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        snapshot_all([&mut self.store, &mut self.shown], full, out)
    }
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        let mut held: Vec<(Box<[u8]>, Arc<[u8]>)> = Vec::new();
        self.store.each(|key, rows| {
            held.extend(rows.iter().map(|e| (key.into(), Arc::clone(&e.row))));
            Ok(())
        })?;
        held.sort();
        let (keys, states): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        if keys.is_empty() { Ok(vec![]) } else { Ok(vec![self.results(&keys, &states)?]) }
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.store.restore(files, self.emitted_to)?;
        self.shown.restore(files, self.emitted_to)?;
        if self.spec.show != Show::OnChange {
            let lateness = self.spec.lateness;
            let mut waiting: Vec<(i64, Box<[u8]>)> = Vec::new();
            self.store.each(|key, rows| {
                waiting.extend(rows.iter().filter(|e| e.count != SHOWN).map(|e| (e.time - lateness, key.into())));
                Ok(())
            })?;
            for (end, key) in waiting {
                self.wait(end, key);
            }
        }
        Ok(())
    }
}
