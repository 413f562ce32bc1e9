//! A relational node per key: whenever a key's rows change, the node is run over them again, and what it yields now takes
//! the place of what it yielded before.
//!
//! For what has no cheaper way of keeping up with changes: the greatest n of each key, the last row of each key, windows of
//! rows (`OVER`) and aggregates over rows that are taken back.
//!
//! **Owns** the rows of each key. **Does not own** what the node means: DataFusion does.
//!
//! I1: results appear and vanish as sets of rows per key, so that what reads the changelog can count.
//! I2: where the node keeps the first n rows of a key and no row is ever taken back, the others are not kept.
//! I3: rows of a key that settles are given up when the watermark is at its time; what was yielded of them stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use hashbrown::HashMap;

use super::batch::{DELETE, INSERT, StreamBatch, Tally};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{Relation, conform, relaxed};
use super::scratch::Scratch;
use super::store::{FOR_EVER, RowCodec, StateFiles, Store, contents, snapshot_all};
use super::{Fingerprint, Growth, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// What to run for each key.
pub struct KeyedSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// What it does, in words.
    pub words: String,
    /// The node over its one input, whose last column is the rows' number.
    pub relation: Relation,
    /// Key expressions on the input's columns; none for one key that all rows have.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Their types.
    pub key_types: Vec<arrow::datatypes::DataType>,
    /// For [`KeyedSpec::prune`]: which column of the relation's output is the number of the row it came from.
    pub number: usize,
    /// True if rows that the node leaves out are never needed again (I2).
    pub prune: bool,
    /// If a key's rows change no more once the watermark is at a time that is in the key (I3).
    pub settles: Option<Settles>,
    /// Which columns of the relation's output to yield, in order.
    pub output: Vec<usize>,
    /// The columns yielded.
    pub schema: SchemaRef,
}

/// When a key's rows change no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settles {
    /// Which of the key's columns has the time.
    pub at: usize,
    /// How long before it rows come at least, microseconds.
    pub after: i64,
}

impl OperatorSpec for KeyedSpec {
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
        let span = match (self.prune, self.settles) {
            (true, _) => KeptFor::EachKey(1),
            (false, Some(settles)) => KeptFor::AtLeast(settles.after),
            (false, None) => KeptFor::ForEver,
        };
        let row = self.relation.slots().first().map_or(0, |slot| slot.columns().fields().iter().map(|f| width([f.data_type()])).sum());
        vec![Keeps { span, bytes: entry(width(&self.key_types), row) }]
    }
    fn describe(&self) -> String {
        let kept = match (self.prune, self.settles) {
            (true, _) => "only rows that are shown are kept",
            (false, Some(_)) => "rows are kept until their session is over",
            (false, None) => "every row is kept for ever",
        };
        format!("{}, shown with every change; {kept}", self.words)
    }
    fn grows(&self) -> Option<Growth> {
        let bound = "results per window (TUMBLE, HOP, …) that leave when it closes; a KEEP LAST is not bounded by WITHIN, a KEEP FIRST is";
        if self.settles.is_some() {
            return None;
        }
        match (self.prune, self.keys.is_empty()) {
            // The first rows of all: their number does not grow.
            (true, true) => None,
            (true, false) => Some(Growth { with: "its keys", bound }),
            (false, _) => Some(Growth { with: "every row", bound }),
        }
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn passes(&self) -> usize {
        // Of an aggregate no column is its input's.
        self.number
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let slot = &self.relation.slots()[0];
        let columns = slot.columns().fields().len() - 1;
        let rows = RowCodec::new(slot.columns().fields().iter().take(columns).map(|f| f.data_type().clone()).collect())?;
        let keys = (!self.keys.is_empty()).then(|| RowCodec::new(self.key_types.clone())).transpose()?;
        let schema = relaxed(&self.schema);
        Ok(Box::new(Keyed { results: RowCodec::of(&schema)?, schema, keys, rows, spec: *self, store: Store::new(0), emitted_to: i64::MIN, evicted: 0 }))
    }
}

/// The running operator.
struct Keyed {
    spec: KeyedSpec,
    schema: SchemaRef,
    keys: Option<RowCodec>,
    rows: RowCodec,
    results: RowCodec,
    store: Store,
    /// Up to where keys have settled.
    emitted_to: i64,
    evicted: u64,
}

type KeyRows = Vec<(u64, Arc<[u8]>)>;

impl Keyed {
    /// Puts a batch into the store; remembers what each key it touches had before.
    fn take(&mut self, batch: &StreamBatch, before: &mut BTreeMap<Box<[u8]>, KeyRows>) -> Result<()> {
        let count = batch.batch.num_rows();
        if count == 0 {
            return Ok(());
        }
        let columns = self.spec.keys.iter().map(|e| e.evaluate(&batch.batch)?.into_array(count)).collect::<Result<Vec<_>>>()?;
        let keys = self.keys.as_ref().map(|codec| codec.encode(&columns)).transpose()?;
        let settled_at = self.spec.settles.and_then(|settles| columns.get(settles.at)?.as_primitive_opt::<TimestampMicrosecondType>());
        let rows = self.rows.encode(batch.batch.columns())?;
        for row in 0..count {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            if !before.contains_key(key) {
                self.store.fetch(key)?;
                before.insert(key.into(), held(&self.store, key));
            }
            match batch.change(row) {
                DELETE => {
                    self.store.take(key, rows.row(row).data());
                }
                _ => {
                    let time = settled_at.filter(|times| times.is_valid(row)).map_or(FOR_EVER, |times| times.value(row));
                    self.store.put(key, time, 0, rows.row(row).data());
                }
            }
        }
        Ok(())
    }

    /// I3.
    fn settle(&mut self, until: Until) -> Result<()> {
        if self.spec.settles.is_none() {
            return Ok(());
        }
        let expired = self.store.expire(until.mark())?;
        self.evicted += expired.len() as u64;
        let latest = expired.iter().map(|(_, entry)| entry.time).max().unwrap_or(i64::MIN);
        self.emitted_to = self.emitted_to.max(if until.closing { latest } else { until.mark() });
        Ok(())
    }

    fn evaluate(&self, rows: &KeyRows) -> Result<Vec<RecordBatch>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let mut columns: Vec<ArrayRef> = self.rows.decode(rows.iter().map(|(_, row)| row.as_ref()))?;
        columns.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(id, _)| *id))));
        self.spec.relation.evaluate(vec![columns])
    }

    fn yielded(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let mut chosen = Vec::new();
        for batch in batches {
            let columns = self.spec.output.iter().map(|column| Arc::clone(batch.column(*column))).collect();
            chosen.push(conform(&self.schema, columns, batch.num_rows())?);
        }
        Ok(concat_batches(&self.schema, &chosen)?)
    }

    /// What is new takes the place of what was (I1).
    fn difference(&self, before: &RecordBatch, now: &RecordBatch) -> Result<Option<StreamBatch>> {
        let (old, new) = (self.results.encode(before.columns())?, self.results.encode(now.columns())?);
        let mut counts: HashMap<&[u8], i64> = HashMap::new();
        for row in 0..new.num_rows() {
            *counts.entry(new.row(row).data()).or_default() += 1;
        }
        let (mut order, mut changes) = (Vec::new(), Vec::new());
        for row in 0..old.num_rows() {
            match counts.get_mut(old.row(row).data()) {
                Some(count) if *count > 0 => *count -= 1,
                _ => {
                    order.push((now.num_rows() + row) as u32);
                    changes.push(DELETE);
                }
            }
        }
        for row in 0..new.num_rows() {
            if let Some(count) = counts.get_mut(new.row(row).data()).filter(|count| **count > 0) {
                *count -= 1;
                order.push(row as u32);
                changes.push(INSERT);
            }
        }
        if order.is_empty() {
            return Ok(None);
        }
        let both = concat_batches(&self.schema, [now, before])?;
        Ok(Some(StreamBatch::changelog(take_record_batch(&both, &UInt32Array::from(order))?, changes)))
    }

    /// I2.
    fn prune(&mut self, keys: Vec<Box<[u8]>>, shown: &[RecordBatch]) -> Result<()> {
        let mut numbers = std::collections::HashSet::new();
        for batch in shown {
            let column = batch.column(self.spec.number).as_primitive_opt::<UInt64Type>();
            numbers.extend(column.ok_or_else(|| DataFusionError::Internal("a row's number is no number".to_owned()))?.values().iter().copied());
        }
        for key in keys {
            let had = self.store.rows();
            self.store.retain(&key, |entry| numbers.contains(&entry.id));
            self.evicted += had - self.store.rows();
        }
        Ok(())
    }
}

fn held(store: &Store, key: &[u8]) -> KeyRows {
    store.get(key).iter().map(|entry| (entry.id, Arc::clone(&entry.row))).collect()
}

impl Operator for Keyed {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        timed(Stage::Window, || {
            let mut before = BTreeMap::new();
            for batch in inputs.iter().flatten() {
                tallies[0].absorbed += batch.distinct_rows();
                self.take(batch, &mut before)?;
            }
            if before.is_empty() {
                self.settle(until)?;
                return Ok(vec![]);
            }
            let keys: Vec<Box<[u8]>> = before.keys().cloned().collect();
            let mut old: KeyRows = before.into_values().flatten().collect();
            let mut new: KeyRows = keys.iter().flat_map(|key| held(&self.store, key)).collect();
            old.sort_by_key(|(id, _)| *id);
            new.sort_by_key(|(id, _)| *id);
            let (was, is) = (self.evaluate(&old)?, self.evaluate(&new)?);
            let changed = self.difference(&self.yielded(&was)?, &self.yielded(&is)?)?;
            if self.spec.prune {
                self.prune(keys, &is)?;
            }
            self.settle(until)?;
            Ok(changed.into_iter().collect())
        })
    }
    fn emitted_to(&self) -> Option<i64> {
        (self.emitted_to != i64::MIN).then_some(self.emitted_to)
    }
    fn rows(&self) -> u64 {
        self.store.rows()
    }
    fn bytes(&self) -> u64 {
        self.store.bytes()
    }
    fn evictions(&self) -> u64 {
        self.evicted
    }
    fn spilled(&self) -> u64 {
        self.store.spilled()
    }
    fn attach(&mut self, scratch: &Arc<Scratch>, limit: u64) {
        self.store.attach(scratch, limit);
    }
    fn shrink(&mut self, to: u64) -> Result<()> {
        self.store.shrink(to)
    }
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        snapshot_all([&mut self.store], full, out)
    }
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        contents(&self.store, &self.rows, self.spec.relation.slots()[0].columns()).map(|batch| batch.into_iter().collect())
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.store.restore(files, self.emitted_to)
    }
}
