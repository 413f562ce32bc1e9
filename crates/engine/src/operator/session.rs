//! Session windows: rows of a key that follow each other without a gap.
//!
//! **Owns** the rows of open sessions. **Does not own** the watermark.
//!
//! A row makes `[time, time + gap)`, and those of one key that touch or overlap are one session (Flink's rule). Rows come out
//! with their session's bounds once it is over; or, where results may change, at once, and each time their session grows
//! again with its new bounds, while those with the old ones are taken back.
//!
//! I1: a session is over when the watermark is at its end. A row at that end that its own partition's watermark had reached
//!     before it starts a session of its own, whether the other was given out by then or not: so what sessions there are
//!     does not depend on when they were given out.
//! I2: where rows come out at once, those that have come and were not taken back are, at the end of every tick, the rows of the
//!     sessions that are open or over.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};
use hashbrown::HashMap;
use watershed_types::Reason;

use super::batch::{DELETE, INSERT, Refusal, StreamBatch, Tally};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{conform, relaxed};
use super::scratch::Scratch;
use super::store::{RowCodec, StateFiles, Store, contents, snapshot_all};
use super::windowed::why_late;
use super::{Fingerprint, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// What to find sessions in.
pub struct SessionSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// The columns that say whose sessions; none for sessions of all rows.
    pub partition_by: Vec<usize>,
    /// The event-time column.
    pub time: usize,
    /// The gap, microseconds.
    pub gap: i64,
    /// True if sessions are shown as they grow, as a changelog.
    pub grows: bool,
    /// The input's columns.
    pub input: SchemaRef,
    /// The input's columns and the window's three.
    pub schema: SchemaRef,
}

impl OperatorSpec for SessionSpec {
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
        let key: u64 = self.partition_by.iter().map(|column| width([self.input.field(*column).data_type()])).sum();
        vec![Keeps { span: KeptFor::AtLeast(self.gap), bytes: entry(key, width(self.input.fields().iter().map(|f| f.data_type()))) }]
    }
    fn describe(&self) -> String {
        let names: Vec<&str> = self.partition_by.iter().map(|column| self.input.field(*column).name().as_str()).collect();
        let whose = if names.is_empty() { "all rows".to_owned() } else { names.join(", ") };
        let shown = if self.grows { "; they are shown as they grow" } else { "" };
        format!("assign sessions of {whose} with a gap of {}{shown}; rows are kept until their session is over", crate::time::interval(self.gap))
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn passes(&self) -> usize {
        self.input.fields().len()
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let keys = self.partition_by.iter().map(|column| self.input.field(*column).data_type().clone()).collect::<Vec<_>>();
        let keys = (!keys.is_empty()).then(|| RowCodec::new(keys)).transpose()?;
        Ok(Box::new(Sessions {
            keys,
            rows: RowCodec::of(&self.input)?,
            schema: relaxed(&self.schema),
            spec: *self,
            store: Store::untimed(0),
            open: HashMap::new(),
            due: BTreeMap::new(),
            before: BTreeMap::new(),
            emitted_to: i64::MIN,
            evicted: 0,
        }))
    }
}

/// Bytes that an open session takes beside its rows, about.
const OPEN: u64 = 96;

/// The first and the last event time of a session.
type Span = (i64, i64);

/// The running operator.
struct Sessions {
    spec: SessionSpec,
    schema: SchemaRef,
    keys: Option<RowCodec>,
    rows: RowCodec,
    /// A row's time in the store is its event time, which is not when it is over: its session may go on.
    store: Store,
    /// The open sessions of each key, in order.
    open: HashMap<Box<[u8]>, Vec<Span>>,
    /// When to look at a key: where a session of it may end.
    due: BTreeMap<i64, HashSet<Box<[u8]>>>,
    /// Where sessions are shown as they grow: those that the keys of this tick had before it.
    before: BTreeMap<Box<[u8]>, Vec<Span>>,
    emitted_to: i64,
    evicted: u64,
}

impl Sessions {
    fn take(&mut self, batch: &StreamBatch, tally: &mut Tally) -> Result<()> {
        let count = batch.batch.num_rows();
        if count == 0 {
            return Ok(());
        }
        let times = batch.batch.column(self.spec.time).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| DataFusionError::Internal("event time is no timestamp".to_owned()))?;
        let keys = match &self.keys {
            Some(codec) => {
                let columns: Vec<ArrayRef> = self.spec.partition_by.iter().map(|column| Arc::clone(batch.batch.column(*column))).collect();
                Some(codec.encode(&columns)?)
            }
            None => None,
        };
        let rows = self.rows.encode(batch.batch.columns())?;
        let mut absorbed = None;
        for row in 0..count {
            let (time, source) = (times.value(row), batch.row(row));
            let end = time.saturating_add(self.spec.gap);
            if batch.is_late(row) || end <= self.emitted_to {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, end)));
                continue;
            }
            if absorbed.replace(source) != Some(source) {
                tally.absorbed += 1;
            }
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let edge = batch.is_at_edge(row);
            if self.spec.grows && !self.before.contains_key(key) {
                self.before.insert(key.into(), self.open.get(key).cloned().unwrap_or_default());
            }
            self.store.put(key, time, u32::from(edge), rows.row(row).data());
            self.note(key, time, edge);
        }
        Ok(())
    }

    /// Adds an event time to a key's sessions; at the edge not to one that ends there.
    fn note(&mut self, key: &[u8], time: i64, edge: bool) {
        let gap = self.spec.gap;
        let at = self.due.entry(time.saturating_add(gap)).or_default();
        if !at.contains(key) {
            at.insert(key.into());
        }
        if !self.open.contains_key(key) {
            self.open.insert(key.into(), Vec::new());
        }
        let Some(spans) = self.open.get_mut(key) else { return };
        let first = spans.partition_point(|(_, last)| last.saturating_add(gap) < time + i64::from(edge));
        let past = first + spans[first..].partition_point(|(start, _)| *start <= time.saturating_add(gap));
        let merged = spans[first..past].iter().fold((time, time), |whole, span| (whole.0.min(span.0), whole.1.max(span.1)));
        spans.splice(first..past, [merged]);
    }

    /// What the tick has changed, in which rows have got numbers from `new` on (I2).
    fn growth(&mut self, new: u64) -> Result<Vec<StreamBatch>> {
        let (mut rows, mut starts, mut ends, mut changes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, before) in std::mem::take(&mut self.before) {
            self.store.fetch(&key)?;
            let now = self.open.get(&key).map_or(&[][..], Vec::as_slice);
            let held = self.store.get(&key);
            let mut show = |span: &Span, change: i8, shown: &dyn Fn(u64) -> bool| {
                for entry in held.iter().filter(|entry| span.0 <= entry.time && entry.time <= span.1 && shown(entry.id)) {
                    rows.push(Arc::clone(&entry.row));
                    starts.push(span.0);
                    ends.push(span.1.saturating_add(self.spec.gap));
                    changes.push(change);
                }
            };
            for span in before.iter().filter(|span| !now.contains(span)) {
                show(span, DELETE, &|id| id < new);
            }
            for span in now {
                let known = before.contains(span);
                show(span, INSERT, &|id| !known || id >= new);
            }
        }
        if rows.is_empty() {
            return Ok(vec![]);
        }
        Ok(vec![StreamBatch::changelog(self.bounded(&rows, starts, ends)?, changes)])
    }

    /// Rows with the bounds of their sessions.
    fn bounded(&self, rows: &[Arc<[u8]>], starts: Vec<i64>, ends: Vec<i64>) -> Result<RecordBatch> {
        let mut columns = self.rows.decode(rows.iter().map(AsRef::as_ref))?;
        let zone = match self.spec.input.field(self.spec.time).data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let times: Vec<i64> = ends.iter().map(|end| end - 1_000).collect();
        for values in [starts, ends, times] {
            columns.push(Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(values).with_timezone_opt(zone.clone())));
        }
        conform(&self.schema, columns, rows.len())
    }

    /// Gives out the sessions that have ended.
    fn close(&mut self, until: Until) -> Result<Vec<StreamBatch>> {
        // I1.
        let mark = until.mark();
        let mut keys: HashSet<Box<[u8]>> = HashSet::new();
        while let Some(first) = self.due.first_entry() {
            if *first.key() > mark {
                break;
            }
            keys.extend(first.remove());
        }
        let mut latest = self.emitted_to;
        let mut over: Vec<(i64, i64, Box<[u8]>)> = Vec::new();
        for key in keys {
            let Some(spans) = self.open.get_mut(&key) else { continue };
            spans.retain(|(start, last)| {
                let end = last.saturating_add(self.spec.gap);
                let ended = end <= mark;
                if ended {
                    over.push((end, *start, key.clone()));
                }
                !ended
            });
            if spans.is_empty() {
                self.open.remove(&key);
            }
        }
        over.sort_unstable();
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (end, start, key) in over {
            latest = latest.max(end);
            self.store.fetch(&key)?;
            let mut session: Vec<_> =
                self.store.get(&key).iter().filter(|entry| start <= entry.time && entry.time <= end - self.spec.gap).map(|e| (e.id, Arc::clone(&e.row))).collect();
            session.sort_by_key(|(id, _)| *id);
            self.store.retain(&key, |entry| entry.time < start || entry.time > end - self.spec.gap);
            starts.extend(std::iter::repeat_n(start, session.len()));
            ends.extend(std::iter::repeat_n(end, session.len()));
            rows.extend(session.into_iter().map(|(_, row)| row));
        }
        self.emitted_to = if until.closing { latest } else { mark.max(self.emitted_to) };
        self.evicted += rows.len() as u64;
        // I2: those of sessions that grow have come before.
        if rows.is_empty() || self.spec.grows {
            return Ok(vec![]);
        }
        Ok(vec![StreamBatch::results(self.bounded(&rows, starts, ends)?)])
    }
}

impl Operator for Sessions {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        timed(Stage::Window, || {
            let new = self.store.next_number();
            for batch in inputs.iter().flatten() {
                self.take(batch, &mut tallies[0])?;
            }
            let mut given = self.growth(new)?;
            given.extend(self.close(until)?);
            Ok(given)
        })
    }
    fn emitted_to(&self) -> Option<i64> {
        (self.emitted_to != i64::MIN).then_some(self.emitted_to)
    }
    fn rows(&self) -> u64 {
        self.store.rows()
    }
    fn bytes(&self) -> u64 {
        self.store.bytes() + self.open.len() as u64 * OPEN
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
        self.store.shrink(to.saturating_sub(self.open.len() as u64 * OPEN))
    }
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        snapshot_all([&mut self.store], full, out)
    }
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        contents(&self.store, &self.rows, &self.spec.input).map(|batch| batch.into_iter().collect())
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.store.restore(files, i64::MIN)?;
        let mut times: Vec<(u64, Box<[u8]>, i64, bool)> = Vec::new();
        self.store.each(|key, rows| {
            times.extend(rows.iter().map(|e| (e.id, key.into(), e.time, e.count > 0)));
            Ok(())
        })?;
        times.sort_unstable();
        for (_, key, time, edge) in times {
            self.note(&key, time, edge);
        }
        Ok(())
    }
}
