//! A join of two streams.
//!
//! **Owns** the rows of both sides that later rows of the other may still meet. **Does not own** the watermark.
//!
//! With bounds on the distance of the sides' event times (an interval join) a row is kept until no row of the other side can
//! meet it; a row of a preserved side that met none is yielded then, filled up with NULL. Without bounds rows are kept for
//! ever, and what a preserved side shows for want of a partner is taken back when one comes: that is a changelog.
//!
//! I1: a pair is yielded once, when the later of its rows arrives; and taken back when one of them is.
//! I2: a row's count is the number of rows it meets, kept for the sides that need it.
//! I3: a NULL key meets nothing, unless NULLs are equal by the join's own word.
//! I4: with bounds a row is late by its own event time. One that is not finds all that it may meet, also where nothing that is
//!     still to come can meet it: it is not kept then.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DataFusionError, JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use watershed_types::Reason;

use super::batch::{DELETE, INSERT, Refusal, StreamBatch, Tally, late_detail};
use super::fan_out::{Meter, STRETCH};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{conform, relaxed};
use super::scratch::Scratch;
use super::store::{FOR_EVER, RowCodec, StateFiles, Store, contents, shrink_all, snapshot_all};
use super::{FanOut, Fingerprint, Growth, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// How far apart the event times of two rows that meet may be: `least <= left - right <= most`, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBounds {
    /// The event-time columns of the left and of the right side.
    pub columns: [usize; 2],
    /// The least distance.
    pub least: i64,
    /// The greatest distance.
    pub most: i64,
}

impl TimeBounds {
    /// After which watermark a row of that side meets no new one.
    fn needed_until(&self, side: usize, time: i64) -> i64 {
        if side == 0 { time.saturating_sub(self.least) } else { time.saturating_add(self.most) }
    }
    fn meets(&self, left: i64, right: i64) -> bool {
        let distance = left.saturating_sub(right);
        self.least <= distance && distance <= self.most
    }
    /// How far a result's event times may be behind the watermark.
    pub fn hold(&self) -> i64 {
        self.most.max(self.least.saturating_neg()).max(0)
    }
}

/// What to join and how.
pub struct StreamJoinSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// The join.
    pub join_type: JoinType,
    /// Key expressions on the columns of each side; of the same types.
    pub keys: [Vec<Arc<dyn PhysicalExpr>>; 2],
    /// The keys' types.
    pub key_types: Vec<DataType>,
    /// True if NULL keys meet each other.
    pub null_equal: bool,
    /// A further condition over the columns of both.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of each side.
    pub columns: [SchemaRef; 2],
    /// The columns of both, for `filter`.
    pub combined: SchemaRef,
    /// Bounds on event time, for an interval join.
    pub bounds: Option<TimeBounds>,
    /// True if unmatched rows of a preserved side are shown at once and taken back when they are matched; false if they wait
    /// until nothing can match them.
    pub on_change: bool,
    /// The columns yielded.
    pub schema: SchemaRef,
}

impl OperatorSpec for StreamJoinSpec {
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
        let keys = width(&self.key_types);
        let of = |side: usize| {
            let span = self.bounds.map_or(KeptFor::ForEver, |bounds| KeptFor::Time(bounds.needed_until(side, 0).max(0)));
            Keeps { span, bytes: entry(keys, width(self.columns[side].fields().iter().map(|f| f.data_type()))) }
        };
        vec![of(0), of(1)]
    }
    fn describe(&self) -> String {
        let kind = self.join_type.to_string().to_lowercase();
        match self.bounds {
            Some(bounds) => format!(
                "{kind} join of two streams, left from {} to {} after right; a row is kept until none can meet it",
                crate::time::interval(bounds.least),
                crate::time::interval(bounds.most)
            ),
            None => format!("{kind} join of two streams; every row of both is kept for ever"),
        }
    }
    fn grows(&self) -> Option<Growth> {
        self.bounds.is_none().then_some(Growth {
            with: "the rows of both streams",
            bound: "bounds on their event times (… AND l.at BETWEEN r.at - INTERVAL '1 hour' AND r.at), or a join of windows",
        })
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let keys = RowCodec::new(self.key_types.clone())?;
        let rows = [RowCodec::of(&self.columns[0])?, RowCodec::of(&self.columns[1])?];
        let schema = relaxed(&self.schema);
        let fan_out = FanOut::new(&self.id, &self.keys[0]);
        Ok(Box::new(StreamJoin { schema, fan_out, spec: *self, keys, rows, stores: [Store::new(0), Store::new(1)], emitted_to: i64::MIN, evicted: 0 }))
    }
}

/// The running operator.
struct StreamJoin {
    spec: StreamJoinSpec,
    schema: SchemaRef,
    fan_out: FanOut,
    keys: RowCodec,
    rows: [RowCodec; 2],
    stores: [Store; 2],
    emitted_to: i64,
    evicted: u64,
}

/// A row of one side alone, as a result.
struct Single {
    side: usize,
    row: Arc<[u8]>,
    change: i8,
}

/// A row of the batch and one it may meet.
struct Pair {
    mine: u32,
    theirs: u64,
    row: Arc<[u8]>,
}

impl StreamJoinSpec {
    /// True if rows of that side are counted for whom they meet.
    fn counts(&self, side: usize) -> bool {
        match self.join_type {
            JoinType::Full => true,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => side == 0,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => side == 1,
            JoinType::Inner => false,
        }
    }
    fn yields_pairs(&self) -> bool {
        matches!(self.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }
    fn is_semi(&self) -> bool {
        matches!(self.join_type, JoinType::LeftSemi | JoinType::RightSemi)
    }
}

impl StreamJoin {
    /// Takes one batch of one side.
    fn take(&mut self, side: usize, batch: &StreamBatch, tally: &mut Tally, out: &mut Vec<StreamBatch>) -> Result<()> {
        let rows = batch.batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let key_columns = self.spec.keys[side].iter().map(|e| e.evaluate(&batch.batch)?.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let keys = match key_columns.is_empty() {
            true => None,
            false => Some(self.keys.encode(&key_columns)?),
        };
        let encoded = self.rows[side].encode(batch.batch.columns())?;
        let times = self.spec.bounds.map(|bounds| self.times(batch, bounds.columns[side])).transpose()?;
        let other = 1 - side;
        let (mut pairs, mut met): (Vec<Pair>, Vec<Pair>) = (Vec::new(), Vec::new());
        let mut meter = self.fan_out.meter();
        let mut arrived: Vec<(usize, Arc<[u8]>)> = Vec::with_capacity(rows);
        let (mut absorbed, mut last_absorbed) = (0, None);
        for row in 0..rows {
            if self.spec.bounds.is_some() && self.is_late(batch, row, &times) {
                if last_absorbed != Some(batch.row(row)) {
                    let time = times.as_ref().map_or(0, |times| times[row]);
                    tally.late.push(Refusal::of(batch, row, Reason::Late, self.why_late(batch, row, time)));
                }
                continue;
            }
            if last_absorbed.replace(batch.row(row)) != Some(batch.row(row)) {
                absorbed += 1;
            }
            let mine: Arc<[u8]> = encoded.row(row).as_ref().into();
            let meets_any = self.spec.null_equal || key_columns.iter().all(|key| key.is_valid(row));
            if meets_any {
                self.stores[other].fetch(keys.as_ref().map_or(&[], |keys| keys.row(row).data()))?;
                for entry in self.stores[other].get(keys.as_ref().map_or(&[], |keys| keys.row(row).data())) {
                    let within = match (self.spec.bounds, &times) {
                        (Some(bounds), Some(times)) => {
                            // An entry's time says until when it is needed: its event time is told from that.
                            let theirs = if other == 0 { entry.time.saturating_add(bounds.least) } else { entry.time.saturating_sub(bounds.most) };
                            if side == 0 { bounds.meets(times[row], theirs) } else { bounds.meets(theirs, times[row]) }
                        }
                        _ => true,
                    };
                    if within {
                        pairs.push(Pair { mine: row as u32, theirs: entry.id, row: Arc::clone(&entry.row) });
                    }
                    if pairs.len() >= STRETCH {
                        met.extend(self.judge(side, batch, std::mem::take(&mut pairs), &mut meter, out)?);
                    }
                }
            }
            arrived.push((row, mine));
        }
        tally.absorbed += absorbed;
        met.extend(self.judge(side, batch, pairs, &mut meter, out)?);
        let pairs = met;
        let mut singles: Vec<Single> = Vec::new();
        let mut at = 0;
        for (row, mine) in arrived {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let change = batch.change(row);
            let from = at;
            while at < pairs.len() && pairs[at].mine as usize == row {
                at += 1;
            }
            let met = (at - from) as u32;
            if self.spec.counts(other) {
                for pair in &pairs[from..at] {
                    let count = self.stores[other].recount(key, pair.theirs, |count| if change == INSERT { count + 1 } else { count.saturating_sub(1) });
                    match (change, count) {
                        (INSERT, Some(1)) => self.partner_found(other, &pair.row, &mut singles),
                        (DELETE, Some(0)) => self.partner_lost(other, &pair.row, &mut singles),
                        _ => {}
                    }
                }
            }
            if change == INSERT {
                if self.spec.counts(side) {
                    match met {
                        0 if self.spec.on_change && !self.spec.is_semi() => self.partner_lost(side, &mine, &mut singles),
                        0 => {}
                        _ if self.spec.is_semi() => singles.push(Single { side, row: Arc::clone(&mine), change: INSERT }),
                        _ => {}
                    }
                }
                let time = match (self.spec.bounds, &times) {
                    (Some(bounds), Some(times)) => bounds.needed_until(side, times[row]),
                    _ => FOR_EVER,
                };
                if self.spec.bounds.is_some() && time <= self.emitted_to {
                    // I4.
                    if met == 0 && self.spec.counts(side) && !self.spec.is_semi() && !self.spec.on_change {
                        singles.push(Single { side, row: mine, change: INSERT });
                    }
                    continue;
                }
                self.stores[side].put(key, time, met, mine);
            } else {
                self.stores[side].fetch(key)?;
                self.stores[side].take(key, &mine);
                if self.spec.counts(side) {
                    let shown = if met == 0 { !self.spec.is_semi() } else { self.spec.is_semi() };
                    if shown {
                        singles.push(Single { side, row: mine, change: DELETE });
                    }
                }
            }
        }
        out.extend(self.singles(singles)?);
        Ok(())
    }

    fn times(&self, batch: &StreamBatch, column: usize) -> Result<Vec<i64>> {
        let times = batch.batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| DataFusionError::Internal("event time is no timestamp".to_owned()))?;
        Ok((0..times.len()).map(|row| if times.is_valid(row) { times.value(row) } else { i64::MIN }).collect())
    }

    fn is_late(&self, batch: &StreamBatch, row: usize, times: &Option<Vec<i64>>) -> bool {
        // I4.
        times.as_ref().is_some_and(|times| times[row] <= self.emitted_to) || batch.is_late(row)
    }

    fn why_late(&self, batch: &StreamBatch, row: usize, time: i64) -> String {
        let source = batch.row(row);
        match batch.origin.as_ref().and_then(|origin| Some((origin, *origin.late.get(&source)?))) {
            Some((origin, watermark)) => late_detail(time, watermark, &origin.chunk.partition),
            None => format!("rows of event time {} were finished already", crate::time::timestamp(time)),
        }
    }

    /// Drops the pairs that the further condition does not hold for, and yields the others where pairs are results.
    fn judge(&self, side: usize, batch: &StreamBatch, mut pairs: Vec<Pair>, meter: &mut Meter<'_>, out: &mut Vec<StreamBatch>) -> Result<Vec<Pair>> {
        if pairs.is_empty() || (self.spec.filter.is_none() && !self.spec.yields_pairs()) {
            return Ok(pairs);
        }
        let indices = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.mine));
        let mine = batch.batch.columns().iter().map(|column| take(column, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        let theirs = self.rows[1 - side].decode(pairs.iter().map(|pair| pair.row.as_ref()))?;
        let mut columns = if side == 0 { [mine, theirs].concat() } else { [theirs, mine].concat() };
        if let Some(condition) = &self.spec.filter {
            let combined = conform(&relaxed(&self.spec.combined), columns.clone(), pairs.len())?;
            let mask = condition.evaluate(&combined)?.into_array(pairs.len())?;
            let mask = as_boolean_array(&mask)?;
            let mask: BooleanArray = (0..mask.len()).map(|i| Some(mask.is_valid(i) && mask.value(i))).collect();
            if mask.true_count() < pairs.len() {
                columns = columns.iter().map(|column| filter(column, &mask)).collect::<Result<Vec<_>, _>>()?;
                let mut at = 0;
                pairs.retain(|_| {
                    at += 1;
                    mask.value(at - 1)
                });
            }
        }
        if self.spec.yields_pairs() && !pairs.is_empty() {
            for of_row in pairs.chunk_by(|a, b| a.mine == b.mine) {
                meter.count(batch, of_row[0].mine as usize, of_row.len() as u64)?;
            }
            let rows = conform(&self.schema, columns, pairs.len())?;
            out.push(match &batch.changes {
                None => StreamBatch::results(rows),
                Some(_) => StreamBatch::changelog(rows, pairs.iter().map(|pair| batch.change(pair.mine as usize)).collect()),
            });
        }
        Ok(pairs)
    }

    /// A row that was alone has met one.
    fn partner_found(&self, side: usize, row: &Arc<[u8]>, singles: &mut Vec<Single>) {
        if self.spec.is_semi() {
            singles.push(Single { side, row: Arc::clone(row), change: INSERT });
        } else if self.spec.on_change {
            singles.push(Single { side, row: Arc::clone(row), change: DELETE });
        }
    }

    /// A row is alone, or is so again.
    fn partner_lost(&self, side: usize, row: &Arc<[u8]>, singles: &mut Vec<Single>) {
        match self.spec.is_semi() {
            true => singles.push(Single { side, row: Arc::clone(row), change: DELETE }),
            false => singles.push(Single { side, row: Arc::clone(row), change: INSERT }),
        }
    }

    /// Rows of one side alone as results: filled up with NULL where the join has both sides' columns.
    fn singles(&self, singles: Vec<Single>) -> Result<Vec<StreamBatch>> {
        let mut out = Vec::new();
        let mut singles = singles.into_iter().peekable();
        while let Some(first) = singles.peek() {
            let side = first.side;
            let mut run: Vec<Single> = Vec::new();
            while let Some(single) = singles.next_if(|single| single.side == side) {
                // A semi join's rows that were never shown are not taken back.
                run.push(single);
            }
            let known = self.rows[side].decode(run.iter().map(|single| single.row.as_ref()))?;
            let columns = match self.spec.yields_pairs() {
                false => known,
                true => {
                    let absent = self.spec.columns[1 - side].fields().iter().map(|f| new_null_array(f.data_type(), run.len()));
                    if side == 0 { known.into_iter().chain(absent).collect() } else { absent.chain(known).collect() }
                }
            };
            let rows = conform(&self.schema, columns, run.len())?;
            let changes: Vec<i8> = run.iter().map(|single| single.change).collect();
            out.push(if changes.iter().all(|change| *change == INSERT) && !self.spec.on_change { StreamBatch::results(rows) } else { StreamBatch::changelog(rows, changes) });
        }
        Ok(out)
    }

    /// Gives up rows that nothing can meet any more.
    fn expire(&mut self, until: Until, out: &mut Vec<StreamBatch>) -> Result<()> {
        if self.spec.bounds.is_none() {
            return Ok(());
        }
        // At the watermark itself a row may still come.
        let mark = if until.closing { i64::MAX - 1 } else { until.watermark.saturating_sub(1) };
        if mark <= self.emitted_to {
            return Ok(());
        }
        let mut latest = self.emitted_to;
        let mut singles = Vec::new();
        for side in 0..2 {
            for (_, entry) in self.stores[side].expire(mark)? {
                self.evicted += 1;
                latest = latest.max(entry.time);
                if entry.count == 0 && self.spec.counts(side) && !self.spec.is_semi() && !self.spec.on_change {
                    singles.push(Single { side, row: entry.row, change: INSERT });
                }
            }
        }
        self.emitted_to = if until.closing { latest } else { mark };
        out.extend(self.singles(singles)?);
        Ok(())
    }
}

impl Operator for StreamJoin {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        let mut out = Vec::new();
        timed(Stage::Window, || {
            for (side, (batches, tally)) in inputs.iter().zip(tallies).enumerate() {
                for batch in batches {
                    self.take(side, batch, tally, &mut out)?;
                }
            }
            self.expire(until, &mut out)
        })?;
        Ok(out)
    }
    fn fan_out(&self) -> Option<&FanOut> {
        self.spec.yields_pairs().then_some(&self.fan_out)
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
        for side in 0..2 {
            sides.extend(contents(&self.stores[side], &self.rows[side], &self.spec.columns[side])?);
        }
        Ok(sides)
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.stores.iter_mut().try_for_each(|store| store.restore(files, self.emitted_to))
    }
}
