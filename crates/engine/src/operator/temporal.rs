//! A temporal join: each row of a stream with the version of another that was valid at its event time.
//!
//! **Owns** the stream's rows until the watermark has passed them, and the versions that such rows may still ask for.
//! **Does not own** the watermark.
//!
//! `FOR SYSTEM_TIME AS OF left.time` takes the version of the greatest event time that is not after the row's; of several at
//! one time the last to arrive. `AS OF PROCTIME()` takes the last version that is known when the row comes, and never looks back;
//! in this form versions may also be taken back.
//!
//! I1: a row is joined when no version that it might take can still come: when the watermark of both sides is past its time.
//! I2: a version is given up when a later one of its key is at or before the watermark.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use watershed_types::Reason;

use super::batch::{DELETE, Refusal, StreamBatch, Tally};
use super::keeps::{Keeps, KeptFor, entry, width};
use super::relation::{conform, relaxed};
use super::scratch::Scratch;
use super::store::{FOR_EVER, RowCodec, StateFiles, Store, contents, shrink_all, snapshot_all};
use super::windowed::why_late;
use super::{Fingerprint, Growth, Operator, OperatorSpec, Out, Until};
use crate::run::{Stage, timed};

/// What to join and how.
pub struct TemporalSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// True if rows without a version stay, with NULLs.
    pub outer: bool,
    /// Key expressions on the columns of each side: the stream's, the versions'.
    pub keys: [Vec<Arc<dyn PhysicalExpr>>; 2],
    /// The keys' types.
    pub key_types: Vec<DataType>,
    /// A further condition over the columns of both: a version that it does not hold for is none.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of each side.
    pub columns: [SchemaRef; 2],
    /// The event-time columns of each side; `None` for processing time.
    pub times: Option<[usize; 2]>,
    /// The columns yielded.
    pub schema: SchemaRef,
}

impl OperatorSpec for TemporalSpec {
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
        let row = |side: usize| entry(keys, width(self.columns[side].fields().iter().map(|f| f.data_type())));
        vec![Keeps { span: KeptFor::Time(0), bytes: row(STREAM) }, Keeps { span: KeptFor::EachKey(1), bytes: row(VERSIONS) + 8 }]
    }
    fn describe(&self) -> String {
        match self.times {
            Some(_) => "join each row with the version valid at its event time, once the watermark has passed it".to_owned(),
            None => "join each row with the version known when it comes".to_owned(),
        }
    }
    fn grows(&self) -> Option<Growth> {
        let bound = "nothing but fewer keys: the last version of each stays, for any row to come may ask for it; a join by interval forgets";
        Some(Growth { with: "the keys of the versions", bound })
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        let keys = (!self.key_types.is_empty()).then(|| RowCodec::new(self.key_types.clone())).transpose()?;
        let rows = [RowCodec::of(&self.columns[0])?, RowCodec::of(&self.columns[1])?];
        Ok(Box::new(Temporal {
            schema: relaxed(&self.schema),
            spec: *self,
            keys,
            rows,
            stores: [Store::new(0), Store::new(1)],
            due: BTreeMap::new(),
            emitted_to: i64::MIN,
            evicted: 0,
        }))
    }
}

/// The running operator.
struct Temporal {
    spec: TemporalSpec,
    schema: SchemaRef,
    keys: Option<RowCodec>,
    rows: [RowCodec; 2],
    /// The stream's waiting rows by key, their time being their event time; the versions by key, kept for ever until I2.
    stores: [Store; 2],
    /// Versions by event time: when to look whether a key has some to give up.
    due: BTreeMap<i64, std::collections::HashSet<Box<[u8]>>>,
    emitted_to: i64,
    evicted: u64,
}

const STREAM: usize = 0;
const VERSIONS: usize = 1;

/// A row and its version.
type Joined = (Arc<[u8]>, Option<Arc<[u8]>>);

impl Temporal {
    fn keys_of(&self, side: usize, batch: &RecordBatch) -> Result<Vec<Option<Box<[u8]>>>> {
        let rows = batch.num_rows();
        let columns = self.spec.keys[side].iter().map(|e| e.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let Some(codec) = &self.keys else { return Ok(vec![Some(Box::default()); rows]) };
        let encoded = codec.encode(&columns)?;
        Ok((0..rows).map(|row| columns.iter().all(|c| c.is_valid(row)).then(|| encoded.row(row).as_ref().into())).collect())
    }

    fn times_of(&self, side: usize, batch: &RecordBatch) -> Result<Option<Vec<i64>>> {
        let Some(columns) = self.spec.times else { return Ok(None) };
        let times = batch.column(columns[side]).as_primitive_opt::<TimestampMicrosecondType>();
        Ok(Some(times.ok_or_else(|| DataFusionError::Internal("event time is no timestamp".to_owned()))?.values().to_vec()))
    }

    fn take_version(&mut self, batch: &StreamBatch, tally: &mut Tally) -> Result<()> {
        let count = batch.batch.num_rows();
        if count == 0 {
            return Ok(());
        }
        let (keys, times) = (self.keys_of(VERSIONS, &batch.batch)?, self.times_of(VERSIONS, &batch.batch)?);
        let rows = self.rows[VERSIONS].encode(batch.batch.columns())?;
        let mut absorbed = None;
        for row in 0..count {
            if let Some(times) = &times
                && batch.is_late(row)
            {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, times[row])));
                continue;
            }
            if absorbed.replace(batch.row(row)) != Some(batch.row(row)) {
                tally.absorbed += 1;
            }
            let Some(key) = &keys[row] else { continue };
            if times.is_none() || batch.change(row) == DELETE {
                self.stores[VERSIONS].fetch(key)?;
            }
            if batch.change(row) == DELETE {
                // Where its successor came first, it is gone already.
                self.stores[VERSIONS].take(key, &version(0, rows.row(row).data()));
                continue;
            }
            if let Some(times) = &times {
                let time = times[row];
                self.stores[VERSIONS].put(key, FOR_EVER, 0, version(time, rows.row(row).data()));
                self.due.entry(time).or_default().insert(key.clone());
                continue;
            }
            // In processing time a key has one version.
            self.stores[VERSIONS].retain(key, |_| false);
            self.stores[VERSIONS].put(key, FOR_EVER, 0, version(0, rows.row(row).data()));
        }
        Ok(())
    }

    fn take_row(&mut self, batch: &StreamBatch, tally: &mut Tally, joined: &mut Vec<Joined>) -> Result<()> {
        let count = batch.batch.num_rows();
        if count == 0 {
            return Ok(());
        }
        let (keys, times) = (self.keys_of(STREAM, &batch.batch)?, self.times_of(STREAM, &batch.batch)?);
        let rows = self.rows[STREAM].encode(batch.batch.columns())?;
        let mut absorbed = None;
        for row in 0..count {
            if let Some(times) = &times
                && (batch.is_late(row) || times[row] <= self.emitted_to)
            {
                tally.late.push(Refusal::of(batch, row, Reason::Late, why_late(batch, row, times[row])));
                continue;
            }
            if absorbed.replace(batch.row(row)) != Some(batch.row(row)) {
                tally.absorbed += 1;
            }
            let mine: Arc<[u8]> = rows.row(row).as_ref().into();
            match &times {
                // A row without a key has no version; it waits like the others, so that order is kept.
                Some(times) => {
                    let key = keys[row].clone().map(|key| [&[1][..], &key].concat()).unwrap_or_else(|| vec![0]);
                    self.stores[STREAM].put(&key, times[row], 0, mine);
                }
                None => {
                    keys[row].iter().try_for_each(|key| self.stores[VERSIONS].fetch(key))?;
                    let known = keys[row].as_ref().and_then(|key| self.stores[VERSIONS].get(key).last());
                    joined.push((mine, known.map(|e| Arc::clone(&e.row))));
                }
            }
        }
        Ok(())
    }

    /// Joins the rows that no version can still come for (I1), in the order of their times.
    fn close(&mut self, until: Until, joined: &mut Vec<Joined>) -> Result<()> {
        if self.spec.times.is_none() {
            return Ok(());
        }
        let mark = if until.closing { i64::MAX - 1 } else { until.watermark.saturating_sub(1) };
        if mark <= self.emitted_to {
            return Ok(());
        }
        let mut latest = self.emitted_to;
        for (key, entry) in self.stores[STREAM].expire(mark)? {
            latest = latest.max(entry.time);
            self.evicted += 1;
            let version = match key.split_first() {
                Some((1, key)) => {
                    self.stores[VERSIONS].fetch(key)?;
                    let valid = self.stores[VERSIONS].get(key).iter().filter(|v| version_time(&v.row) <= entry.time);
                    valid.max_by_key(|v| (version_time(&v.row), v.id)).map(|v| Arc::clone(&v.row))
                }
                _ => None,
            };
            joined.push((entry.row, version));
        }
        self.emitted_to = if until.closing { latest } else { mark };
        // I2. At the end of the input versions stay: rows of a later run may ask for them.
        let mark = if until.closing { until.watermark.saturating_sub(1) } else { mark };
        while let Some(first) = self.due.first_entry() {
            if *first.key() > mark {
                break;
            }
            for key in first.remove() {
                self.stores[VERSIONS].fetch(&key)?;
                let newest = self.stores[VERSIONS].get(&key).iter().map(|v| (version_time(&v.row), v.id)).filter(|(time, _)| *time <= mark).max();
                if let Some(newest) = newest {
                    let had = self.stores[VERSIONS].rows();
                    self.stores[VERSIONS].retain(&key, |v| (version_time(&v.row), v.id) >= newest);
                    self.evicted += had - self.stores[VERSIONS].rows();
                }
            }
        }
        Ok(())
    }

    fn results(&self, joined: Vec<Joined>) -> Result<Vec<StreamBatch>> {
        if joined.is_empty() {
            return Ok(vec![]);
        }
        let left = self.rows[STREAM].decode(joined.iter().map(|(row, _)| row.as_ref()))?;
        let present: Vec<&[u8]> = joined.iter().filter_map(|(_, v)| v.as_deref().map(|v| &v[8..])).collect();
        let mut at = 0;
        let mut places: Vec<Option<u64>> = joined
            .iter()
            .map(|(_, v)| {
                v.as_ref().map(|_| {
                    at += 1;
                    at - 1
                })
            })
            .collect();
        let versions = self.rows[VERSIONS].decode(present)?;
        let gather = |places: &[Option<u64>]| -> Result<Vec<ArrayRef>> {
            let indices = UInt64Array::from(places.to_vec());
            let columns = self.spec.columns[VERSIONS].fields().iter().zip(&versions);
            columns.map(|(f, c)| if c.is_empty() { Ok(new_null_array(f.data_type(), indices.len())) } else { Ok(arrow::compute::take(c, &indices, None)?) }).collect()
        };
        if let Some(condition) = &self.spec.filter {
            let combined = conform(&self.schema, [left.clone(), gather(&places)?].concat(), joined.len())?;
            let mask = condition.evaluate(&combined)?.into_array(joined.len())?;
            let mask = as_boolean_array(&mask)?;
            for (row, place) in places.iter_mut().enumerate() {
                if !(mask.is_valid(row) && mask.value(row)) {
                    *place = None;
                }
            }
        }
        let rows = conform(&self.schema, [left, gather(&places)?].concat(), joined.len())?;
        let rows = match self.spec.outer {
            true => rows,
            false => arrow::compute::filter_record_batch(&rows, &places.iter().map(|place| Some(place.is_some())).collect())?,
        };
        Ok(vec![StreamBatch::results(rows)])
    }
}

/// A version with its event time in front of its columns.
fn version(time: i64, row: &[u8]) -> Arc<[u8]> {
    [&time.to_be_bytes()[..], row].concat().into()
}

fn version_time(version: &[u8]) -> i64 {
    version.first_chunk::<8>().map_or(i64::MIN, |bytes| i64::from_be_bytes(*bytes))
}

impl Operator for Temporal {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        timed(Stage::Window, || {
            let mut joined = Vec::new();
            // What arrives in one tick arrives at one time: versions first.
            for batch in &inputs[VERSIONS] {
                self.take_version(batch, &mut tallies[VERSIONS])?;
            }
            for batch in &inputs[STREAM] {
                self.take_row(batch, &mut tallies[STREAM], &mut joined)?;
            }
            self.close(until, &mut joined)?;
            self.results(joined)
        })
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
        let mut sides: Vec<RecordBatch> = contents(&self.stores[STREAM], &self.rows[STREAM], &self.spec.columns[STREAM])?.into_iter().collect();
        let mut versions: Vec<Arc<[u8]>> = Vec::new();
        self.stores[VERSIONS].each(|_, rows| {
            versions.extend(rows.iter().map(|e| Arc::clone(&e.row)));
            Ok(())
        })?;
        if !versions.is_empty() {
            let columns = self.rows[VERSIONS].decode(versions.iter().map(|version| &version[8..]))?;
            sides.push(conform(&relaxed(&self.spec.columns[VERSIONS]), columns, versions.len())?);
        }
        Ok(sides)
    }
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, _: i64) -> Result<()> {
        self.emitted_to = emitted_to.unwrap_or(i64::MIN);
        self.stores[STREAM].restore(files, self.emitted_to)?;
        self.stores[VERSIONS].restore(files, i64::MIN)?;
        if self.spec.times.is_some() {
            let due = &mut self.due;
            self.stores[VERSIONS].each(|key, versions| {
                for version in versions {
                    due.entry(version_time(&version.row)).or_default().insert(key.into());
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
