//! Dedup: the first row of each key passes, within an interval of event time.
//!
//! **Owns** the memory of keys: 128-bit hashes in tables by key group and time bucket. **Does not own** when it is
//! snapshotted.
//!
//! A bucket is as long as the interval, so two rows of one bucket are always within it, and a row needs to look into
//! its own bucket and the two beside it. A bucket is dropped whole once the watermark is an interval past its end.
//!
//! I1: whether a row is a repeat depends on event times and arrival order alone, never on when buckets were dropped:
//!     a row that is not late cannot be within the interval of a dropped one.
//! I2: a repeat does not extend the interval. An accepted row outside the interval starts a new one.
//! I3: hashes are 128 bits (XXH3) over the key's bytes with lengths, so that a collision will not lose a row.
//! I4: a key has one hash, whatever else is in its chunk. Hashes are durable: how one is made never changes.
//! I5: copies of a source row are judged one by one, and counted as one: it is a duplicate if no copy of it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result};
use rayon::prelude::*;
use watershed_types::Reason;
use xxhash_rust::xxh3::xxh3_128;

use super::batch::{Refusal, Rows, StreamBatch, Tally, late_detail};
use super::scratch::{Area, Scratch};
use super::store::StateFiles;
use super::table128::Table128;
use super::{Fingerprint, Operator, Out, Until};
use crate::run::{Stage, timed};

/// What to deduplicate by.
#[derive(Debug, Clone)]
pub struct DedupSpec {
    /// The operator's name in state.
    pub id: String,
    /// What its state depends on.
    pub fingerprint: Fingerprint,
    /// Key columns, by index.
    pub key: Vec<usize>,
    /// The event-time column, by index.
    pub time: usize,
    /// The interval, microseconds.
    pub within: i64,
}

/// The running operator.
pub struct Dedup {
    /// What it does.
    pub spec: DedupSpec,
    key_groups: u32,
    shards: Vec<Shard>,
    /// Where keys go that do not fit in memory, and how many bytes may be in memory while a snapshot is read.
    scratch: Option<(Arc<Scratch>, u64)>,
    /// Keys on disk, by bucket.
    cold: BTreeMap<i64, Cold>,
    evicted: u64,
}

/// A bucket's keys on disk: group and hash, with the offset in the bucket.
struct Cold {
    keys: Area,
    count: u64,
}

/// Bytes of a key on disk, with its offset.
const COLD_KEY: u64 = 24;
/// Keys of one batch of a snapshot.
const BATCH: usize = 1 << 16;

/// The key groups of one thread.
#[derive(Default)]
struct Shard {
    groups: Vec<BTreeMap<i64, Table128>>,
    fresh: Vec<((u64, u64), i64)>,
}

/// A batch made ready: rows that are not late, ordered by key group, so that a shard works through one group's tables
/// while they are in the cache.
struct Prepared {
    hashes: Vec<(u64, u64)>,
    times: Vec<i64>,
    late: Vec<bool>,
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl Dedup {
    /// An operator without keys, its groups spread over `parallelism` shards.
    pub fn new(spec: DedupSpec, key_groups: u32, parallelism: usize) -> Self {
        let count = parallelism.clamp(1, key_groups as usize);
        let mut shards: Vec<Shard> = (0..count).map(|_| Shard::default()).collect();
        for group in 0..key_groups {
            shards[shard_of(group, key_groups, count)].groups.push(BTreeMap::new());
        }
        Self { spec, key_groups, shards, scratch: None, cold: BTreeMap::new(), evicted: 0 }
    }

    /// Drops late rows and repeats; the batches of one tick, in order.
    pub fn process(&mut self, batches: Vec<StreamBatch>, tally: &mut Tally) -> Result<Vec<StreamBatch>> {
        let spec = &self.spec;
        let key_groups = self.key_groups;
        let prepared: Vec<Prepared> = batches.par_iter().map(|batch| timed(Stage::Dedup, || prepare(spec, key_groups, batch))).collect::<Result<_>>()?;
        let count = self.shards.len();
        let within = spec.within;
        let cold = &self.cold;
        let repeats: Vec<Vec<(u32, u32)>> = self
            .shards
            .par_iter_mut()
            .enumerate()
            .map(|(index, shard)| {
                timed(Stage::Dedup, || {
                    let first_group = first_group(index, key_groups, count) as usize;
                    let mut repeats = Vec::new();
                    for (nth, buckets) in shard.groups.iter_mut().enumerate() {
                        let group = first_group + nth;
                        for (number, batch) in prepared.iter().enumerate() {
                            for row in &batch.order[batch.starts[group] as usize..batch.starts[group + 1] as usize] {
                                let (hash, time) = (batch.hashes[*row as usize], batch.times[*row as usize]);
                                if accept(buckets, (cold, group as u32), hash, time, within)? {
                                    shard.fresh.push((hash, time));
                                } else {
                                    repeats.push((number as u32, *row));
                                }
                            }
                        }
                    }
                    Ok(repeats)
                })
            })
            .collect::<Result<_>>()?;
        let mut keep: Vec<Vec<bool>> = prepared.iter().map(|p| p.late.iter().map(|late| !late).collect()).collect();
        let mut repeats_in = vec![0u64; batches.len()];
        for (number, row) in repeats.into_iter().flatten() {
            keep[number as usize][row as usize] = false;
            repeats_in[number as usize] += 1;
        }
        let mut kept = Vec::with_capacity(batches.len());
        for (((batch, keep), prepared), repeats) in batches.into_iter().zip(keep).zip(&prepared).zip(repeats_in) {
            tally.duplicate += duplicates(&batch, repeats, &keep, &prepared.late);
            let mut refused = None;
            for row in (0..prepared.late.len()).filter(|row| prepared.late[*row]) {
                // The copies of a source row stand side by side, and are late together.
                if refused.replace(batch.row(row)) != Some(batch.row(row)) {
                    tally.late.push(late_refusal(&batch, row, prepared.times[row]));
                }
            }
            kept.push(batch.filter(&BooleanArray::from(keep))?);
        }
        Ok(kept)
    }

    /// Forgets what no row that is not late can repeat.
    pub fn evict(&mut self, watermark: i64) {
        let within = self.spec.within;
        for buckets in self.shards.iter_mut().flat_map(|shard| &mut shard.groups) {
            while let Some(bucket) = buckets.first_entry() {
                if (*bucket.key() + 2).saturating_mul(within) > watermark {
                    break;
                }
                self.evicted += bucket.remove().len() as u64;
            }
        }
        while let Some(bucket) = self.cold.first_entry() {
            if (*bucket.key() + 2).saturating_mul(within) > watermark {
                break;
            }
            self.evicted += bucket.remove().count;
        }
    }

    /// Puts a bucket's keys on disk, in the order of group and hash.
    fn freeze(&mut self, bucket: i64) -> Result<()> {
        let Some((scratch, _)) = &self.scratch else { return Ok(()) };
        let (key_groups, shards) = (self.key_groups, self.shards.len());
        let mut taken = Vec::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let first = first_group(index, key_groups, shards);
            taken.extend(shard.groups.iter_mut().zip(first..).filter_map(|(buckets, group)| Some((group, buckets.remove(&bucket)?))));
        }
        let count: u64 = taken.iter().map(|(_, table)| table.len() as u64).sum();
        let cold = match self.cold.entry(bucket) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Cold { keys: Area::new(scratch)?, count: 0 }),
        };
        cold.keys.load(taken.into_iter().flat_map(|(group, table)| {
            let mut keys: Vec<_> = table.iter().collect();
            keys.sort_unstable_by_key(|(hash, _)| *hash);
            keys.into_iter().map(move |(hash, offset)| (cold_name(group, hash).to_vec(), Some(offset.to_be_bytes().to_vec())))
        }))?;
        cold.count += count;
        Ok(())
    }

    fn tables(&self) -> impl Iterator<Item = &Table128> {
        self.shards.iter().flat_map(|s| &s.groups).flat_map(|g| g.values())
    }
}

impl Operator for Dedup {
    fn id(&self) -> &str {
        &self.spec.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.spec.fingerprint
    }
    fn absorbs(&self) -> bool {
        false
    }
    /// Replayed rows that had passed before they were refused pass again.
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        let (bypass, judged): (Vec<_>, Vec<_>) = inputs.into_iter().flatten().partition(|b| b.origin.as_ref().is_some_and(|o| o.bypass_dedup));
        let mut kept = self.process(judged, &mut tallies[0])?;
        kept.extend(bypass);
        self.evict(until.watermark);
        Ok(kept)
    }
    /// Keys held.
    fn rows(&self) -> u64 {
        self.tables().map(|t| t.len() as u64).sum::<u64>() + self.cold.values().map(|cold| cold.count).sum::<u64>()
    }
    /// Bytes held in memory, all included.
    fn bytes(&self) -> u64 {
        self.tables().map(|t| t.bytes() as u64 + 96).sum::<u64>() + self.unsaved()
    }
    /// The keys that the next snapshot adds.
    fn unsaved(&self) -> u64 {
        self.shards.iter().map(|s| s.fresh.capacity() * size_of::<((u64, u64), i64)>()).sum::<usize>() as u64
    }
    /// Keys forgotten since the start.
    fn evictions(&self) -> u64 {
        self.evicted
    }

    fn spilled(&self) -> u64 {
        self.cold.values().map(|cold| cold.count * COLD_KEY).sum()
    }
    fn attach(&mut self, scratch: &Arc<Scratch>, limit: u64) {
        self.scratch = Some((Arc::clone(scratch), limit));
    }
    /// The oldest keys first.
    fn shrink(&mut self, to: u64) -> Result<()> {
        let buckets: BTreeSet<i64> = self.shards.iter().flat_map(|s| &s.groups).flat_map(BTreeMap::keys).copied().collect();
        for bucket in buckets {
            if self.bytes() <= to {
                break;
            }
            self.freeze(bucket)?;
        }
        Ok(())
    }

    /// The keys added since the last snapshot, or all of them; and the event time after which none is needed.
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>> {
        let within = self.spec.within;
        let (mut keys, mut latest) = (Vec::with_capacity(BATCH), None);
        let mut give = |key: ((u64, u64), i64)| {
            latest = latest.max(Some(expires(key.1, within)));
            keys.push(key);
            if keys.len() < BATCH {
                return Ok(());
            }
            let batch = to_batch(&keys);
            keys.clear();
            out(batch?)
        };
        if full {
            for (bucket, table) in self.shards.iter().flat_map(|shard| shard.groups.iter().flatten()) {
                table.iter().try_for_each(|(hash, offset)| give((hash, bucket * within + unscale(offset, within))))?;
            }
            for (bucket, cold) in &self.cold {
                cold.keys.each(None, |name, offset| {
                    let (hash, offset) = read_cold(name, offset)?;
                    give((hash, bucket * within + unscale(offset, within)))
                })?;
            }
        } else {
            self.shards.iter().flat_map(|shard| shard.fresh.iter().copied()).try_for_each(&mut give)?;
        }
        for shard in &mut self.shards {
            shard.fresh = Vec::new();
        }
        if !keys.is_empty() {
            out(to_batch(&keys)?)?;
        }
        Ok(latest)
    }

    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.snapshot(true, &mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    /// Takes the files of a snapshot. Keys that `watermark` has passed are left out.
    fn restore(&mut self, files: &dyn StateFiles, _: Option<i64>, watermark: i64) -> Result<()> {
        files.each(&mut |file| {
            self.take_snapshot(file, watermark)?;
            match self.scratch.as_ref().filter(|(_, limit)| self.bytes() > *limit) {
                Some((_, limit)) => self.shrink(limit / 2),
                None => Ok(()),
            }
        })
    }
}

impl Dedup {
    fn take_snapshot(&mut self, file: &[RecordBatch], watermark: i64) -> Result<()> {
        let damaged = || DataFusionError::Internal("a dedup snapshot has other columns than this version writes".to_owned());
        let (key_groups, count, within) = (self.key_groups, self.shards.len(), self.spec.within);
        type Entry = (u32, (u64, u64), i64);
        let mut of_shard: Vec<Vec<Entry>> = vec![Vec::new(); count];
        for batch in file {
            let keys = batch.column_by_name("key").and_then(|c| c.as_fixed_size_binary_opt()).ok_or_else(damaged)?;
            let times = batch.column_by_name("event_time").and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int64Type>()).ok_or_else(damaged)?;
            for row in 0..batch.num_rows() {
                let time = times.value(row);
                if expires(time, within) <= watermark {
                    continue;
                }
                let (high, low) = keys.value(row).split_at_checked(8).ok_or_else(damaged)?;
                let hash = (u64::from_be_bytes(high.try_into().map_err(|_| damaged())?), u64::from_be_bytes(low.try_into().map_err(|_| damaged())?));
                let group = group_of(hash, key_groups);
                of_shard[shard_of(group, key_groups, count)].push((group, hash, time));
            }
        }
        self.shards.par_iter_mut().zip(of_shard).enumerate().for_each(|(index, (shard, mut rows))| {
            let first_group = first_group(index, key_groups, count);
            rows.sort_unstable_by_key(|(group, _, time)| (*group, time.div_euclid(within)));
            for rows in rows.chunk_by(|a, b| a.0 == b.0 && a.2.div_euclid(within) == b.2.div_euclid(within)) {
                let bucket = rows[0].2.div_euclid(within);
                let table = shard.groups[(rows[0].0 - first_group) as usize].entry(bucket).or_default();
                table.reserve(table.len() + rows.len());
                // Of two entries of a key in one bucket, which a shorter interval had told apart, the later one stays.
                for (_, hash, time) in rows {
                    table.raise(*hash, scale(time - bucket * within, within));
                }
            }
        });
        Ok(())
    }
}

/// A key's name on disk: names sort by group, so that a bucket is written group by group.
fn cold_name(group: u32, hash: (u64, u64)) -> [u8; 20] {
    let mut name = [0; 20];
    name[..4].copy_from_slice(&group.to_be_bytes());
    name[4..12].copy_from_slice(&hash.0.to_be_bytes());
    name[12..].copy_from_slice(&hash.1.to_be_bytes());
    name
}

fn read_cold(name: &[u8], offset: &[u8]) -> Result<((u64, u64), u32)> {
    let damaged = || DataFusionError::Internal("a key that was put on disk came back in another form".to_owned());
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged());
    if name.len() != 20 {
        return Err(damaged());
    }
    Ok(((number(&name[4..12])?, number(&name[12..])?), offset.try_into().map(u32::from_be_bytes).map_err(|_| damaged())?))
}

/// The watermark at which an entry's bucket is dropped.
fn expires(time: i64, within: i64) -> i64 {
    (time.div_euclid(within) + 2).saturating_mul(within)
}

/// How many source rows of a batch, in which so many rows are repeats, have no copy that is kept (I5). Late ones have
/// their own account.
fn duplicates(batch: &StreamBatch, repeats: u64, keep: &[bool], late: &[bool]) -> u64 {
    let Rows::Some(rows) = &batch.rows else { return repeats };
    if repeats == 0 {
        return 0;
    }
    let mut at = 0;
    let mut gone = 0;
    for copies in rows.chunk_by(|a, b| a == b) {
        let stretch = at..at + copies.len();
        at = stretch.end;
        gone += u64::from(!late[stretch.start] && !keep[stretch].contains(&true));
    }
    gone
}

fn late_refusal(batch: &StreamBatch, row: usize, time: i64) -> Refusal {
    let detail = match &batch.origin {
        Some(origin) => {
            let watermark = origin.late.get(&batch.row(row)).copied().unwrap_or(time);
            late_detail(time, watermark, &origin.chunk.partition)
        }
        None => String::new(),
    };
    Refusal::of(batch, row, Reason::Late, detail)
}

/// True, and remembered, if no accepted row of this key is within the interval. `cold` is what is on disk, and the key's group.
fn accept(buckets: &mut BTreeMap<i64, Table128>, cold: (&BTreeMap<i64, Cold>, u32), hash: (u64, u64), time: i64, within: i64) -> Result<bool> {
    let bucket = time.div_euclid(within);
    let scaled = scale(time - bucket * within, within);
    let on_disk = |bucket: i64| match cold.0.get(&bucket) {
        Some(area) => area.keys.get(&cold_name(cold.1, hash))?.map(|offset| Ok(read_cold(&[0; 20], &offset)?.1)).transpose(),
        None => Ok(None),
    };
    let held = |bucket: i64| match buckets.get(&bucket).and_then(|table| table.get(hash)) {
        None => on_disk(bucket),
        found => Ok::<_, DataFusionError>(found),
    };
    // Both are offsets in their buckets: less than an interval apart if ours is the smaller.
    if held(bucket - 1)?.is_some_and(|first| scaled < first) || held(bucket + 1)?.is_some_and(|first| scaled > first) {
        return Ok(false);
    }
    if !cold.0.is_empty() && on_disk(bucket)?.is_some() {
        return Ok(false);
    }
    Ok(match buckets.get_mut(&bucket) {
        Some(table) => table.insert(hash, scaled),
        None => {
            // A new interval will hold about as many keys as the last one: half of that at once saves growing.
            let expected = buckets.last_key_value().map_or(0, |(_, table)| table.len() / 2);
            let table = buckets.entry(bucket).or_default();
            table.reserve(expected);
            table.insert(hash, scaled)
        }
    })
}

/// An offset in a bucket as 32 bits: exact for intervals up to 71 minutes, else to `within / 2^32`.
fn scale(offset: i64, within: i64) -> u32 {
    (offset / unit(within)) as u32
}
fn unscale(value: u32, within: i64) -> i64 {
    i64::from(value) * unit(within)
}
fn unit(within: i64) -> i64 {
    (within >> 32) + 1
}

fn group_of(hash: (u64, u64), key_groups: u32) -> u32 {
    (((hash.1 & 0xffff_ffff) * u64::from(key_groups)) >> 32) as u32
}
fn shard_of(group: u32, key_groups: u32, count: usize) -> usize {
    (group as usize * count) / key_groups as usize
}
fn first_group(shard: usize, key_groups: u32, count: usize) -> u32 {
    (shard * key_groups as usize).div_ceil(count) as u32
}

fn prepare(spec: &DedupSpec, key_groups: u32, batch: &StreamBatch) -> Result<Prepared> {
    let columns: Vec<ArrayRef> = spec.key.iter().map(|i| Arc::clone(batch.batch.column(*i))).collect();
    let hashes = hash_keys(&columns, batch.batch.num_rows())?;
    let times = batch.batch.column(spec.time).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let late = match &batch.origin {
        Some(origin) if !origin.late.is_empty() => (0..times.len()).map(|i| origin.late.contains_key(&batch.row(i))).collect(),
        _ => vec![false; times.len()],
    };
    let (order, starts) = by_group(&hashes, &late, key_groups);
    Ok(Prepared { hashes, times, late, order, starts })
}

/// A stable counting sort of the rows that are not late.
fn by_group(hashes: &[(u64, u64)], late: &[bool], key_groups: u32) -> (Vec<u32>, Vec<u32>) {
    let groups: Vec<u32> = hashes.iter().map(|hash| group_of(*hash, key_groups)).collect();
    let mut starts = vec![0u32; key_groups as usize + 1];
    for (group, _) in groups.iter().zip(late).filter(|(_, late)| !**late) {
        starts[*group as usize + 1] += 1;
    }
    for group in 0..key_groups as usize {
        starts[group + 1] += starts[group];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; starts[key_groups as usize] as usize];
    for (row, group) in groups.iter().enumerate().filter(|(row, _)| !late[*row]) {
        let at = &mut next[*group as usize];
        order[*at as usize] = row as u32;
        *at += 1;
    }
    (order, starts)
}

/// In front of whatever is not plain text. No text has these bytes, so that the two kinds never meet.
const ENCODED: [u8; 2] = [0xff, 0xfe];

/// 128-bit hashes of keys. One text column is hashed as it is; anything else by Arrow's row encoding, which keeps
/// columns and NULLs apart. Which of the two depends on the columns' types alone (I4).
fn hash_keys(columns: &[ArrayRef], rows: usize) -> Result<Vec<(u64, u64)>> {
    let split = |hash: u128| ((hash >> 64) as u64, hash as u64);
    if let [column] = columns
        && let Some(texts) = column.as_string_view_opt()
    {
        let Some(valid) = texts.nulls() else {
            return Ok((0..rows).map(|i| split(xxh3_128(texts.value(i).as_bytes()))).collect());
        };
        // NULL as the row encoding writes it: one zero byte.
        let null = split(xxh3_128(&[ENCODED[0], ENCODED[1], 0]));
        return Ok((0..rows).map(|i| if valid.is_valid(i) { split(xxh3_128(texts.value(i).as_bytes())) } else { null }).collect());
    }
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let encoded = RowConverter::new(fields)?.convert_columns(columns)?;
    let mut buffer = Vec::new();
    Ok(encoded
        .iter()
        .map(|row| {
            buffer.clear();
            buffer.extend_from_slice(&ENCODED);
            buffer.extend_from_slice(row.as_ref());
            split(xxh3_128(&buffer))
        })
        .collect())
}

fn snapshot_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::FixedSizeBinary(16), false), Field::new("event_time", DataType::Int64, false)]))
}

fn to_batch(keys: &[((u64, u64), i64)]) -> Result<RecordBatch> {
    let mut bytes = Vec::with_capacity(keys.len() * 16);
    for (key, _) in keys {
        bytes.extend_from_slice(&key.0.to_be_bytes());
        bytes.extend_from_slice(&key.1.to_be_bytes());
    }
    let hashes = FixedSizeBinaryArray::try_new(16, bytes.into(), None)?;
    let times = Int64Array::from_iter_values(keys.iter().map(|(_, time)| *time));
    Ok(RecordBatch::try_new(snapshot_schema(), vec![Arc::new(hashes), Arc::new(times)])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_exact_whatever_the_buckets() {
        let mut buckets = BTreeMap::new();
        let nothing = BTreeMap::new();
        let mut accept = |key, time, within| accept(&mut buckets, (&nothing, 0), key, time, within).expect("nothing is read");
        let key = (7, 7);
        assert!(accept(key, 1_000, 600));
        assert!(!accept(key, 1_599, 600), "less than the interval after");
        assert!(!accept(key, 401, 600), "less than the interval before");
        assert!(accept(key, 1_600, 600), "a repeat does not extend it");
        assert!(accept(key, 400, 600));
        assert!(!accept(key, 2_199, 600));
        assert!(accept(key, -1_000, 600));
    }

    #[test]
    fn a_key_has_one_hash_whatever_its_chunk_holds() {
        let of = |texts: Vec<Option<&str>>| hash_keys(&[Arc::new(arrow::array::StringViewArray::from(texts.clone())) as ArrayRef], texts.len()).expect("hashes");
        let (plain, mixed) = (of(vec![Some("a"), Some("")]), of(vec![None, Some("a"), Some("")]));
        assert_eq!(plain, mixed[1..]);
        // What checkpoints hold.
        let split = |hash: u128| ((hash >> 64) as u64, hash as u64);
        assert_eq!(plain[0], split(xxh3_128(b"a")));
        let null: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec![None::<&str>]));
        let row = RowConverter::new(vec![SortField::new(DataType::Utf8View)]).and_then(|c| c.convert_columns(&[null])).expect("encodes");
        assert_eq!(mixed[0], split(xxh3_128(&[&ENCODED[..], row.row(0).as_ref()].concat())));
    }

    #[test]
    fn every_group_has_one_shard() {
        for count in 1..=9 {
            for group in 0..128u32 {
                let shard = shard_of(group, 128, count);
                assert!(shard < count && first_group(shard, 128, count) <= group);
                assert!(shard + 1 == count || group < first_group(shard + 1, 128, count));
            }
        }
    }
}
