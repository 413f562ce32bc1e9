//! A relational node per window: rows wait for the end of their window, then the node runs over them.
//!
//! Joins of windows, the greatest n of a window, the first or last row of each key in one: whatever relates rows of one
//! window, and of no other.
//!
//! **Owns** the rows of open windows. **Does not own** what the node means: DataFusion does.
//!
//! I1: a window is run once, when the watermark of all inputs has reached its end; a row for it after that is late.
//! I2: rows are handed over in the order of their arrival, so that what depends on order within ties is the same after a
//!     restart.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use watershed_types::Reason;

use super::batch::{Refusal, StreamBatch, Tally, late_detail};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{Relation, conform, relaxed};
use super::scratch::Scratch;
use super::store::{RowCodec, StateFiles, Store, contents, shrink_all, snapshot_all};
use super::{Fingerprint, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// Where a row's window ends: `after` microseconds after the time in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowEnd {
    /// The column.
    pub column: usize,
    /// How long after it, microseconds.
    pub after: i64,
}

/// What to run when a window closes.
pub struct WindowedSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// What it does, in words.
    pub words: String,
    /// The node over its inputs.
    pub relation: Relation,
    /// True if the relation's slots have the rows' numbers as their last column.
    pub numbered: bool,
    /// For each input when a row's window ends.
    pub ends: Vec<WindowEnd>,
    /// Which columns of the relation's output to yield, in order.
    pub output: Vec<usize>,
    /// The columns yielded.
    pub schema: SchemaRef,
}

impl OperatorSpec for WindowedSpec {
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
        let of = |slot: &super::relation::Slot| Keeps { span: KeptFor::Window(0), bytes: entry(8, width(slot.columns().fields().iter().map(|f| f.data_type()))) };
        self.relation.slots().iter().map(of).collect()
    }
    fn describe(&self) -> String {
        format!("{}, when a window closes", self.words)
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn passes(&self) -> usize {
        if self.numbered { self.relation.slots().first().map_or(0, |slot| slot.columns().fields().len() - 1) } else { 0 }
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let mut codecs = Vec::new();
        for slot in self.relation.slots() {
            let columns = slot.columns().fields().len() - usize::from(self.numbered);
            codecs.push(RowCodec::new(slot.columns().fields().iter().take(columns).map(|f| f.data_type().clone()).collect())?);
        }
        let stores = (0..codecs.len()).map(|tag| Store::new(tag as u8)).collect();
        Ok(Box::new(Windowed { spec: *self, codecs, stores, emitted_to: i64::MIN, evicted: 0 }))
    }
}

/// The running operator.
struct Windowed {
    spec: WindowedSpec,
    codecs: Vec<RowCodec>,
    stores: Vec<Store>,
    emitted_to: i64,
    evicted: u64,
}

impl Windowed {
    fn take(&mut self, input: usize, batch: &StreamBatch, tally: &mut Tally) -> Result<()> {
        let WindowEnd { column, after } = self.spec.ends[input];
        let ends = batch.batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
        let ends = ends.ok_or_else(|| DataFusionError::Internal("the end of a window is no timestamp".to_owned()))?;
        let rows = self.codecs[input].encode(batch.batch.columns())?;
        let mut alive: HashSet<u32> = HashSet::new();
        let mut late: Vec<usize> = Vec::new();
        for row in 0..batch.batch.num_rows() {
            let end = ends.value(row).saturating_add(after);
            if end <= self.emitted_to || batch.is_late(row) {
                late.push(row);
                continue;
            }
            alive.insert(batch.row(row));
            self.stores[input].put(&end.to_be_bytes(), end, 0, rows.row(row).as_ref());
        }
        tally.absorbed += alive.len() as u64;
        let mut told = HashSet::new();
        for row in late {
            let source = batch.row(row);
            if !alive.contains(&source) && told.insert(source) {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, ends.value(row).saturating_add(after))));
            }
        }
        Ok(())
    }

    fn close(&mut self, mark: i64) -> Result<Vec<StreamBatch>> {
        if mark <= self.emitted_to {
            return Ok(vec![]);
        }
        let mut latest = self.emitted_to;
        let mut inputs = Vec::new();
        for (store, codec) in self.stores.iter_mut().zip(&self.codecs) {
            let mut closed = store.expire(mark)?;
            // I2.
            closed.sort_by_key(|(_, entry)| entry.id);
            latest = closed.iter().map(|(_, entry)| entry.time).fold(latest, i64::max);
            self.evicted += closed.len() as u64;
            let mut columns: Vec<ArrayRef> = codec.decode(closed.iter().map(|(_, entry)| entry.row.as_ref()))?;
            if self.spec.numbered {
                columns.push(Arc::new(UInt64Array::from_iter_values(closed.iter().map(|(_, entry)| entry.id))));
            }
            inputs.push(columns);
        }
        // At the end of the input every open window closes, and no other: what comes in a later run belongs to later ones.
        self.emitted_to = if mark == i64::MAX { latest } else { mark };
        if inputs.iter().all(|columns| columns.first().is_none_or(|column| column.is_empty())) {
            return Ok(vec![]);
        }
        let schema = relaxed(&self.spec.schema);
        let mut results = Vec::new();
        for batch in timed(Stage::Window, || self.spec.relation.evaluate(inputs))? {
            if batch.num_rows() > 0 {
                let columns = self.spec.output.iter().map(|column| Arc::clone(batch.column(*column))).collect();
                results.push(StreamBatch::results(conform(&schema, columns, batch.num_rows())?));
            }
        }
        Ok(results)
    }
}

/// Why a row is late, in words.
pub(super) fn why_late(batch: &StreamBatch, row: usize, end: i64) -> String {
    let source = batch.row(row);
    match batch.origin.as_ref().and_then(|origin| Some((origin, *origin.late.get(&source)?))) {
        Some((origin, watermark)) => {
            let time = origin.event_time.get(source as usize).copied().unwrap_or(end);
            late_detail(time, watermark, &origin.chunk.partition)
        }
        None => format!("its window ending {} was emitted already", crate::time::timestamp(end)),
    }
}

impl Operator for Windowed {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        for (input, (batches, tally)) in inputs.iter().zip(tallies).enumerate() {
            for batch in batches {
                self.take(input, batch, tally)?;
            }
        }
        self.close(until.mark())
    }
    fn emitted_to(&self) -> Option<i64> {
        (self.emitted_to != i64::MIN).then_some(self.emitted_to)
    }
    fn rows(&self) -> u64 {
        self.stores.iter().map(Store::rows).sum()
    }
    fn bytes(&self) -> u64 {
        self.stores.iter().map(Store::bytes).sum()
    }
    fn evictions(&self) -> u64 {
        self.evicted
    }
    fn spilled(&self) -> u64 {
        self.stores.iter().map(Store::spilled).sum()
    }
    fn attach(&mut self, scratch: &Arc<Scratch>, limit: u64) {
        let count = self.stores.len() as u64;
        self.stores.iter_mut().for_each(|store| store.attach(scratch, limit / count));
    }
    fn shrink(&mut self, to: u64) -> Result<()> {
        shrink_all(&mut self.stores, to)
    }
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        snapshot_all(&mut self.stores, full, out)
    }
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        let mut sides = Vec::new();
        for ((store, codec), slot) in self.stores.iter().zip(&self.codecs).zip(self.spec.relation.slots()) {
            sides.extend(contents(store, codec, slot.columns())?);
        }
        Ok(sides)
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.stores.iter_mut().try_for_each(|store| store.restore(files, self.emitted_to))
    }
}
