//! Windows of rows (`OVER`) ordered by event time: a row comes out with its results once its frame is complete.
//!
//! **Owns** the rows of each partition that later frames still need. **Does not own** what the functions mean: DataFusion
//! does.
//!
//! I1: a row is settled when the watermark is past its event time: no row can come before it or beside it any more. It comes
//!     out when the rows that its frame needs behind it are settled too.
//! I2: rows that came out are kept as long as a frame may reach back to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use watershed_types::Reason;

use super::batch::{Refusal, StreamBatch, Tally};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{Relation, conform, relaxed};
use super::scratch::Scratch;
use super::store::{RowCodec, StateFiles, Store, contents, snapshot_all};
use super::windowed::why_late;
use super::{Fingerprint, Growth, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// How far back frames reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// This many rows.
    Rows(u64),
    /// This much event time, microseconds.
    Time(i64),
    /// To the first row.
    All,
}

/// How far ahead frames reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// This many rows.
    Rows(u64),
    /// This much event time, microseconds.
    Time(i64),
}

/// What to compute.
pub struct OverSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// What it does, in words.
    pub words: String,
    /// The node over its one input, whose last column is the rows' number.
    pub relation: Relation,
    /// PARTITION BY, on the input's columns.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Their types.
    pub key_types: Vec<arrow::datatypes::DataType>,
    /// The event-time column of ORDER BY.
    pub time: usize,
    /// How far back frames reach.
    pub history: History,
    /// How far ahead frames reach.
    pub ahead: Vec<Ahead>,
    /// Which column of the relation's output is the number of the row it came from.
    pub number: usize,
    /// Which columns of the relation's output to yield, in order.
    pub output: Vec<usize>,
    /// The columns yielded.
    pub schema: SchemaRef,
}

impl OperatorSpec for OverSpec {
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
        let span = match self.history {
            History::Rows(rows) => KeptFor::EachKey(rows.max(1)),
            History::Time(micros) => KeptFor::Time(micros),
            History::All => KeptFor::ForEver,
        };
        vec![Keeps {
            span,
            bytes: entry(width(&self.key_types), self.relation.slots().first().map_or(0, |slot| slot.columns().fields().iter().map(|f| width([f.data_type()])).sum())),
        }]
    }
    fn describe(&self) -> String {
        let kept = match self.history {
            History::Rows(rows) => format!("the last {rows} rows of each partition are kept"),
            History::Time(micros) => format!("rows are kept for {}", crate::time::interval(micros)),
            History::All => "every row is kept for ever".to_owned(),
        };
        format!("{}, emitted when its frame is complete; {kept}", self.words)
    }
    fn grows(&self) -> Option<Growth> {
        match self.history {
            History::All => Some(Growth {
                with: "every row",
                bound: "a frame that reaches back so many rows or so much time (RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW), or PARTITION BY window_start, window_end",
            }),
            History::Rows(1..) if !self.keys.is_empty() => {
                Some(Growth { with: "the keys of PARTITION BY", bound: "a frame that reaches back so much time (RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)" })
            }
            _ => None,
        }
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn passes(&self) -> usize {
        self.number
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let slot = &self.relation.slots()[0];
        let columns = slot.columns().fields().len() - 1;
        let rows = RowCodec::new(slot.columns().fields().iter().take(columns).map(|f| f.data_type().clone()).collect())?;
        let keys = (!self.keys.is_empty()).then(|| RowCodec::new(self.key_types.clone())).transpose()?;
        Ok(Box::new(Over { schema: relaxed(&self.schema), keys, rows, spec: *self, store: Store::untimed(0), waiting: BTreeMap::new(), emitted_to: i64::MIN, evicted: 0 }))
    }
}

/// A row that came out and is history now.
const OUT: u32 = 1;

/// The running operator.
struct Over {
    spec: OverSpec,
    schema: SchemaRef,
    keys: Option<RowCodec>,
    rows: RowCodec,
    /// A row's time in the store is its event time.
    store: Store,
    /// Partitions with rows that have not come out, by event time.
    waiting: BTreeMap<i64, HashSet<Box<[u8]>>>,
    emitted_to: i64,
    evicted: u64,
}

impl Over {
    fn take(&mut self, batch: &StreamBatch, tally: &mut Tally) -> Result<()> {
        let count = batch.batch.num_rows();
        if count == 0 {
            return Ok(());
        }
        let times = batch.batch.column(self.spec.time).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| DataFusionError::Internal("event time is no timestamp".to_owned()))?;
        let keys = match &self.keys {
            Some(codec) => Some(codec.encode(&self.spec.keys.iter().map(|e| e.evaluate(&batch.batch)?.into_array(count)).collect::<Result<Vec<_>>>()?)?),
            None => None,
        };
        let rows = self.rows.encode(batch.batch.columns())?;
        let mut absorbed = None;
        for row in 0..count {
            let time = times.value(row);
            if batch.is_late(row) || time <= self.emitted_to {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, time)));
                continue;
            }
            if absorbed.replace(batch.row(row)) != Some(batch.row(row)) {
                tally.absorbed += 1;
            }
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            self.store.put(key, time, 0, rows.row(row).data());
            self.waiting.entry(time).or_default().insert(key.into());
        }
        Ok(())
    }

    /// Lets out what is complete by `mark`.
    fn settle(&mut self, until: Until) -> Result<Vec<StreamBatch>> {
        let mark = if until.closing { i64::MAX } else { until.watermark.saturating_sub(1) };
        if mark <= self.emitted_to {
            return Ok(vec![]);
        }
        let mut latest = self.emitted_to;
        // At the end also rows whose frames were never completed come out.
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        if until.closing {
            self.store.each(|key, rows| {
                keys.extend(rows.iter().any(|e| e.count != OUT).then(|| key.into()));
                Ok(())
            })?;
        }
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > mark {
                break;
            }
            latest = latest.max(*first.key());
            keys.extend(first.remove());
        }
        self.emitted_to = if until.closing { latest } else { mark };
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(vec![]);
        }
        let (mut settled, mut complete): (Vec<(u64, Arc<[u8]>)>, HashSet<u64>) = Default::default();
        for key in &keys {
            self.store.fetch(key)?;
            let mut rows: Vec<_> = self.store.get(key).iter().filter(|e| e.time <= mark).map(|e| (e.time, e.id, e.count, Arc::clone(&e.row))).collect();
            rows.sort_by_key(|(time, id, _, _)| (*time, *id));
            let total = rows.len() as u64;
            let mut still_waits = Vec::new();
            for (nth, (time, id, _, _)) in rows.iter().enumerate().filter(|(_, row)| row.2 != OUT) {
                let ready = |ahead: &Ahead| match *ahead {
                    Ahead::Rows(rows) => nth as u64 + rows < total,
                    Ahead::Time(micros) => time.saturating_add(micros) <= mark,
                };
                if until.closing || self.spec.ahead.iter().all(ready) {
                    complete.insert(*id);
                } else {
                    still_waits.push(*time);
                }
            }
            // A frame that waits for rows is looked at with the next row of its partition, one that waits for time at its time.
            for time in still_waits {
                let again = self.spec.ahead.iter().filter_map(|ahead| if let Ahead::Time(micros) = ahead { Some(time.saturating_add(*micros)) } else { None }).max();
                if let Some(again) = again.filter(|again| *again > mark) {
                    self.waiting.entry(again).or_default().insert(key.clone());
                }
            }
            settled.extend(rows.into_iter().map(|(_, id, _, row)| (id, row)));
        }
        let mut columns: Vec<ArrayRef> = self.rows.decode(settled.iter().map(|(_, row)| row.as_ref()))?;
        columns.push(Arc::new(UInt64Array::from_iter_values(settled.iter().map(|(id, _)| *id))));
        let mut out = Vec::new();
        for batch in self.spec.relation.evaluate(vec![columns])? {
            let numbers = batch.column(self.spec.number).as_primitive_opt::<UInt64Type>();
            let numbers = numbers.ok_or_else(|| DataFusionError::Internal("a row's number is no number".to_owned()))?;
            let mask = numbers.values().iter().map(|number| Some(complete.contains(number))).collect();
            let chosen = filter_record_batch(&batch, &mask)?;
            if chosen.num_rows() == 0 {
                continue;
            }
            let columns = self.spec.output.iter().map(|column| Arc::clone(chosen.column(*column))).collect();
            let rows = conform(&self.schema, columns, chosen.num_rows())?;
            out.push(StreamBatch::results(self.in_time_order(rows)?));
        }
        for key in &keys {
            self.forget(key, &complete, mark);
        }
        Ok(out)
    }

    fn in_time_order(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(times) = rows.column(self.spec.time).as_primitive_opt::<TimestampMicrosecondType>() else { return Ok(rows) };
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_by_key(|row| times.value(*row as usize));
        Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
    }

    /// I2.
    fn forget(&mut self, key: &[u8], complete: &HashSet<u64>, mark: i64) {
        let mut rows: Vec<(i64, u64, bool)> = self.store.get(key).iter().map(|e| (e.time, e.id, e.count == OUT || complete.contains(&e.id))).collect();
        rows.sort_unstable();
        let newly: Vec<u64> = self.store.get(key).iter().filter(|e| e.count != OUT && complete.contains(&e.id)).map(|e| e.id).collect();
        let first_waiting = rows.iter().position(|(_, _, out)| !out).unwrap_or(rows.len());
        let keep_from = match self.spec.history {
            History::All => 0,
            History::Rows(count) => first_waiting.saturating_sub(count as usize),
            History::Time(micros) => {
                let oldest = rows.get(first_waiting).map_or(mark, |(time, _, _)| (*time).min(mark)).saturating_sub(micros);
                rows.partition_point(|(time, _, _)| *time < oldest).min(first_waiting)
            }
        };
        let gone: HashSet<u64> = rows[..keep_from].iter().map(|(_, id, _)| *id).collect();
        self.evicted += gone.len() as u64;
        for id in newly.into_iter().filter(|id| !gone.contains(id)) {
            self.store.recount(key, id, |_| OUT);
        }
        if !gone.is_empty() {
            self.store.retain(key, |entry| !gone.contains(&entry.id));
        }
    }
}

impl Operator for Over {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        timed(Stage::Window, || {
            for batch in inputs.iter().flatten() {
                self.take(batch, &mut tallies[0])?;
            }
            self.settle(until)
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
        self.store.restore(files, i64::MIN)?;
        let waiting = &mut self.waiting;
        self.store.each(|key, rows| {
            for entry in rows.iter().filter(|e| e.count != OUT) {
                waiting.entry(entry.time).or_default().insert(key.into());
            }
            Ok(())
        })
    }
}
