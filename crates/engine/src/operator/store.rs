//! Rows kept by key: the state of every operator that must find earlier rows again.
//!
//! **Owns** the rows in Arrow's row format, what changed since the last snapshot, and the durable form of both. **Does not
//! own** what the rows mean.
//!
//! I1: a row has a number of its own in its store; numbers rise in the order of arrival and are never used again.
//! I2: a snapshot has what was put and what was taken out since the one before it, so that its cost follows the change and
//!     not the size. Files are read oldest first, and the newest word on a number holds.
//! I3: a row whose time `emitted_to` has passed is not restored, even if the file that says it was taken out is gone.
//! I4: a key's rows may be on disk until the key is fetched; rows may be put under it before that. Between two calls of
//!     [`Store::shrink`] a key that was fetched stays in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder, RecordBatch, UInt8Array, UInt32Builder, UInt64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{DataFusionError, Result};
use hashbrown::{HashMap, HashSet};

use super::Out;
use super::scratch::{Area, Scratch};

/// Never given up by event time.
pub const FOR_EVER: i64 = i64::MAX;

/// Columns to bytes and back, by Arrow's row format: equal values have equal bytes, and bytes sort as values do.
pub struct RowCodec {
    converter: RowConverter,
    types: Vec<DataType>,
}

impl RowCodec {
    /// For columns of these types; an error if one of them has no row format.
    pub fn new(types: Vec<DataType>) -> Result<Self> {
        let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
        Ok(Self { converter, types })
    }

    /// For the columns of a schema.
    pub fn of(schema: &Schema) -> Result<Self> {
        Self::new(schema.fields().iter().map(|f| f.data_type().clone()).collect())
    }

    /// Rows as bytes.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        let mut cast_columns = Vec::with_capacity(columns.len());
        for (column, wanted) in columns.iter().zip(&self.types) {
            cast_columns.push(if column.data_type() == wanted { Arc::clone(column) } else { cast(column, wanted)? });
        }
        Ok(self.converter.convert_columns(&cast_columns)?)
    }

    /// Bytes as columns.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.into_iter().map(|bytes| parser.parse(bytes)))?;
        columns.into_iter().zip(&self.types).map(|(column, wanted)| if column.data_type() == wanted { Ok(column) } else { Ok(cast(&column, wanted)?) }).collect()
    }
}

/// One row.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// Event time once the watermark has passed which the row is not needed any more, or [`FOR_EVER`].
    pub time: i64,
    /// A count or a mark, as the operator likes.
    pub count: u32,
    /// Its columns.
    pub row: Arc<[u8]>,
    dirty: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Entry>() + self.row.len()
    }
}

/// What one key has in memory.
#[derive(Default)]
struct Slot {
    rows: Vec<Entry>,
    /// True if it was used since the store was last shrunk.
    recent: bool,
}

/// Rows by key.
#[derive(Default)]
pub struct Store {
    /// The store's number in the operator's snapshots.
    tag: u8,
    keys: HashMap<Box<[u8]>, Slot>,
    by_time: BTreeMap<i64, HashSet<Box<[u8]>>>,
    /// True if rows are taken out by key alone, and their times mean what the operator likes.
    untimed: bool,
    touched: HashSet<Box<[u8]>>,
    removed: Vec<(Box<[u8]>, u64, i64)>,
    next: u64,
    /// Rows in memory.
    rows: usize,
    /// Bytes in memory.
    bytes: usize,
    /// Where rows go that do not fit in memory, and how many bytes may be in memory while a snapshot is read.
    scratch: Option<(Arc<Scratch>, u64)>,
    cold: Option<Cold>,
    /// Keys whose rows were on disk and are in memory again, and in how many pieces they were (I4).
    fetched: HashMap<Box<[u8]>, u32>,
}

/// Rows on disk.
struct Cold {
    /// Into how many pieces a key's rows were put.
    heads: Area,
    /// The rows of a key, piece by piece, in the order of their numbers.
    pieces: Area,
    /// Times and keys; some of them of rows that are not there any more.
    times: Area,
    rows: usize,
    bytes: u64,
}

fn damaged() -> DataFusionError {
    DataFusionError::Internal("a snapshot of rows has other columns than this version writes".to_owned())
}

/// The columns of a snapshot.
pub fn snapshot_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("store", DataType::UInt8, false),
        Field::new("key", DataType::Binary, false),
        Field::new("id", DataType::UInt64, false),
        Field::new("time", DataType::Int64, false),
        Field::new("count", DataType::UInt32, false),
        Field::new("row", DataType::Binary, true),
    ]))
}

impl Store {
    /// An empty store; `tag` tells it from the operator's other stores.
    pub fn new(tag: u8) -> Self {
        Self { tag, ..Self::default() }
    }

    /// An empty store whose rows never expire: their times are the operator's own.
    pub fn untimed(tag: u8) -> Self {
        Self { tag, untimed: true, ..Self::default() }
    }

    /// Lets rows go to disk by [`Store::shrink`]; by itself while a snapshot is read, above `limit` bytes.
    pub fn attach(&mut self, scratch: &Arc<Scratch>, limit: u64) {
        self.scratch = Some((Arc::clone(scratch), limit));
    }

    /// The rows of a key that was fetched, in the order of their numbers.
    pub fn get(&self, key: &[u8]) -> &[Entry] {
        self.keys.get(key).map_or(&[], |slot| slot.rows.as_slice())
    }

    /// All keys and their rows; a key may come several times, each time with other rows.
    pub fn each(&self, mut take: impl FnMut(&[u8], &[Entry]) -> Result<()>) -> Result<()> {
        for (key, slot) in &self.keys {
            take(key, &slot.rows)?;
        }
        let Some(cold) = self.cold.as_ref().filter(|cold| cold.rows > 0) else { return Ok(()) };
        cold.pieces.each(None, |name, rows| {
            let key = &name[1..name.len() - PIECE];
            match self.fetched.contains_key(key) {
                true => Ok(()),
                false => take(key, &read_piece(rows)?),
            }
        })
    }

    /// The number that the next row gets: those from it on are new.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Rows held, on disk too.
    pub fn rows(&self) -> u64 {
        (self.rows + self.cold.as_ref().map_or(0, |cold| cold.rows)) as u64
    }

    /// Bytes held in memory, with what finding them costs.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Bytes held on disk.
    pub fn spilled(&self) -> u64 {
        self.cold.as_ref().map_or(0, |cold| cold.bytes)
    }

    /// Takes a key's rows into memory, if they are on disk (I4).
    pub fn fetch(&mut self, key: &[u8]) -> Result<()> {
        let Some(cold) = self.cold.as_mut().filter(|cold| cold.rows > 0) else { return Ok(()) };
        if self.fetched.contains_key(key) {
            return Ok(());
        }
        let Some(head) = cold.heads.get(&head_name(key))? else { return Ok(()) };
        let pieces = read_head(&head)?;
        let mut entries = Vec::new();
        for piece in 0..pieces {
            let rows = cold.pieces.get(&piece_name(key, piece))?.ok_or_else(unreadable)?;
            cold.bytes = cold.bytes.saturating_sub(rows.len() as u64);
            entries.extend(read_piece(&rows)?);
        }
        cold.rows -= entries.len();
        self.fetched.insert(key.into(), pieces);
        let changed = self.touched.contains(key);
        for entry in entries {
            self.insert(key, Entry { dirty: entry.dirty && changed, ..entry });
        }
        Ok(())
    }

    /// Puts rows on disk until no more than so many bytes are in memory: first those of keys that were not used of late
    /// and that the next snapshot does not need.
    pub fn shrink(&mut self, to: u64) -> Result<()> {
        let Some((scratch, _)) = &self.scratch else { return Ok(()) };
        let to = usize::try_from(to).unwrap_or(usize::MAX);
        if self.bytes <= to || self.keys.is_empty() {
            return Ok(());
        }
        if self.cold.is_none() {
            self.cold = Some(Cold { heads: Area::new(scratch)?, pieces: Area::new(scratch)?, times: Area::new(scratch)?, rows: 0, bytes: 0 });
        }
        self.sweep()?;
        for any in [false, true] {
            while self.bytes > to {
                let wanted = (self.bytes - to).min(ROUND);
                let mut gathered = 0;
                let touched = &self.touched;
                let chosen: Vec<(Box<[u8]>, Slot)> = self
                    .keys
                    .extract_if(|key, slot| {
                        if gathered >= wanted || key.len() > LONGEST_KEY || !(any || !std::mem::take(&mut slot.recent) && !touched.contains(key)) {
                            return false;
                        }
                        gathered += slot.rows.iter().map(Entry::bytes).sum::<usize>() + key.len() + KEY_COST;
                        true
                    })
                    .collect();
                if chosen.is_empty() {
                    break;
                }
                self.bytes -= gathered;
                self.freeze(chosen)?;
            }
        }
        Ok(())
    }

    fn freeze(&mut self, chosen: Vec<(Box<[u8]>, Slot)>) -> Result<()> {
        let Some(cold) = &mut self.cold else { return Ok(()) };
        let (mut heads, mut pieces, mut times) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (key, slot) in chosen {
            let had = match self.fetched.remove(&key) {
                // All of its rows are here, and take the place of what is there.
                Some(had) => {
                    pieces.extend((1..had).map(|piece| (piece_name(&key, piece), None)));
                    0
                }
                None => cold.heads.get(&head_name(&key))?.map(|head| read_head(&head)).transpose()?.unwrap_or(0),
            };
            let rows = write_piece(&slot.rows);
            self.rows -= slot.rows.len();
            cold.rows += slot.rows.len();
            cold.bytes += rows.len() as u64;
            pieces.insert(piece_name(&key, had), Some(rows));
            heads.insert(head_name(&key), Some((had + 1).to_be_bytes().to_vec()));
            for entry in slot.rows.iter().filter(|entry| entry.time != FOR_EVER && !self.untimed) {
                times.insert(time_name(entry.time, &key), Some(vec![]));
                if let Some(keys) = self.by_time.get_mut(&entry.time) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.by_time.remove(&entry.time);
                    }
                }
            }
        }
        cold.pieces.load(pieces)?;
        cold.times.load(times)?;
        cold.heads.load(heads)
    }

    /// Takes from disk what was fetched and is nowhere any more.
    fn sweep(&mut self) -> Result<()> {
        let Some(cold) = &self.cold else { return Ok(()) };
        let gone: Vec<(Box<[u8]>, u32)> = self.fetched.extract_if(|key, _| !self.keys.contains_key(key)).collect();
        let pieces: BTreeMap<_, _> = gone.iter().flat_map(|(key, pieces)| (0..*pieces).map(|piece| (piece_name(key, piece), None))).collect();
        let heads: BTreeMap<_, _> = gone.iter().map(|(key, _)| (head_name(key), None)).collect();
        cold.pieces.load(pieces)?;
        cold.heads.load(heads)
    }

    /// Puts a row under a key; its number. The key need not be fetched.
    pub fn put(&mut self, key: &[u8], time: i64, count: u32, row: impl Into<Arc<[u8]>>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.insert(key, Entry { id, time, count, row: row.into(), dirty: true });
        id
    }

    fn insert(&mut self, key: &[u8], entry: Entry) {
        self.rows += 1;
        self.bytes += entry.bytes();
        self.next = self.next.max(entry.id + 1);
        if entry.time != FOR_EVER && !self.untimed {
            let keys = self.by_time.entry(entry.time).or_default();
            if !keys.contains(key) {
                keys.insert(key.into());
            }
        }
        if entry.dirty && !self.touched.contains(key) {
            self.touched.insert(key.into());
        }
        match self.keys.get_mut(key) {
            Some(slot) => {
                let at = slot.rows.partition_point(|e| e.id < entry.id);
                slot.rows.insert(at, entry);
                slot.recent = true;
            }
            None => {
                self.bytes += key.len() + KEY_COST;
                self.keys.insert(key.into(), Slot { rows: vec![entry], recent: true });
            }
        }
    }

    /// Replaces the one row of a key that was fetched.
    pub fn set(&mut self, key: &[u8], time: i64, count: u32, row: impl Into<Arc<[u8]>>) {
        let row = row.into();
        match self.keys.get_mut(key).filter(|slot| slot.rows.first().is_some_and(|entry| entry.time == time)) {
            Some(slot) => {
                slot.recent = true;
                let Some(entry) = slot.rows.first_mut() else { return };
                self.bytes = self.bytes - entry.row.len() + row.len();
                (entry.row, entry.count, entry.dirty) = (row, count, true);
                if !self.touched.contains(key) {
                    self.touched.insert(key.into());
                }
            }
            None => {
                self.retain(key, |_| false);
                self.put(key, time, count, row);
            }
        }
    }

    /// Changes the count of a row of a key that was fetched; the new count.
    pub fn recount(&mut self, key: &[u8], id: u64, change: impl FnOnce(u32) -> u32) -> Option<u32> {
        let slot = self.keys.get_mut(key)?;
        let at = slot.rows.binary_search_by_key(&id, |entry| entry.id).ok()?;
        slot.recent = true;
        let entry = slot.rows.get_mut(at)?;
        entry.count = change(entry.count);
        entry.dirty = true;
        let count = entry.count;
        if !self.touched.contains(key) {
            self.touched.insert(key.into());
        }
        Some(count)
    }

    /// Takes out the first row with these bytes, of a key that was fetched.
    pub fn take(&mut self, key: &[u8], row: &[u8]) -> Option<Entry> {
        let id = self.get(key).iter().find(|entry| entry.row.as_ref() == row)?.id;
        let mut taken = None;
        self.drain(key, |entry| entry.id == id, |entry| taken = Some(entry));
        taken
    }

    /// Keeps the rows for which this is true, of a key that was fetched.
    pub fn retain(&mut self, key: &[u8], keep: impl Fn(&Entry) -> bool) {
        self.drain(key, |entry| !keep(entry), |_| {});
    }

    fn drain(&mut self, key: &[u8], out: impl Fn(&Entry) -> bool, mut taken: impl FnMut(Entry)) {
        let Some(slot) = self.keys.get_mut(key) else { return };
        let mut kept = Vec::with_capacity(slot.rows.len());
        for entry in slot.rows.drain(..) {
            if !out(&entry) {
                kept.push(entry);
                continue;
            }
            self.rows -= 1;
            self.bytes -= entry.bytes();
            self.removed.push((key.into(), entry.id, entry.time));
            taken(entry);
        }
        slot.rows = kept;
        slot.recent = true;
        if slot.rows.is_empty() {
            self.keys.remove(key);
            self.bytes -= key.len() + KEY_COST;
            // Of a key that was not fetched there may be rows on disk that the next snapshot needs.
            if self.cold.is_none() || self.fetched.contains_key(key) {
                self.touched.remove(key);
            }
        }
    }

    /// Takes out every row whose time is at or before `mark`, earliest first, and within a time by number.
    pub fn expire(&mut self, mark: i64) -> Result<Vec<(Box<[u8]>, Entry)>> {
        self.fetch_until(mark)?;
        let mut expired: Vec<(Box<[u8]>, Entry)> = Vec::new();
        while let Some(first) = self.by_time.first_entry() {
            if *first.key() > mark {
                break;
            }
            let (time, keys) = first.remove_entry();
            let from = expired.len();
            for key in keys {
                let mut taken = Vec::new();
                self.drain(&key, |entry| entry.time == time, |entry| taken.push(entry));
                expired.extend(taken.into_iter().map(|entry| (key.clone(), entry)));
            }
            expired[from..].sort_by_key(|(_, entry)| entry.id);
        }
        if self.fetched.len() > 2 * self.keys.len() + SWEPT_FROM {
            self.sweep()?;
        }
        Ok(expired)
    }

    /// Takes into memory every key with a row whose time is at or before `mark`.
    fn fetch_until(&mut self, mark: i64) -> Result<()> {
        let Some(cold) = self.cold.as_ref().filter(|cold| cold.rows > 0 && !self.untimed) else { return Ok(()) };
        let mut names: Vec<Vec<u8>> = Vec::new();
        let end = mark.checked_add(1).map(|end| time_name(end, &[]));
        cold.times.each(end.as_deref(), |name, _| {
            names.push(name.to_vec());
            Ok(())
        })?;
        for name in &names {
            self.fetch(&name[TIME..])?;
        }
        match &self.cold {
            Some(cold) => cold.times.load(names.into_iter().map(|name| (name, None))),
            None => Ok(()),
        }
    }

    /// Gives out what changed since the last snapshot, or everything (I2); the latest time in it, if every row has one,
    /// and whether there was anything.
    pub fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<(bool, Option<i64>)> {
        let mut writer = Writer::new(self.tag, out);
        if full {
            self.each(|key, rows| rows.iter().try_for_each(|entry| writer.row(key, entry.id, entry.time, entry.count, Some(&entry.row))))?;
            for slot in self.keys.values_mut() {
                slot.rows.iter_mut().for_each(|entry| entry.dirty = false);
            }
        } else {
            for (key, id, time) in &self.removed {
                writer.row(key, *id, *time, 0, None)?;
            }
            for key in &self.touched {
                for entry in self.keys.get_mut(key).into_iter().flat_map(|slot| &mut slot.rows).filter(|entry| entry.dirty) {
                    writer.row(key, entry.id, entry.time, entry.count, Some(&entry.row))?;
                    entry.dirty = false;
                }
                let Some(cold) = self.cold.as_ref().filter(|cold| cold.rows > 0 && !self.fetched.contains_key(key)) else { continue };
                let pieces = cold.heads.get(&head_name(key))?.map(|head| read_head(&head)).transpose()?.unwrap_or(0);
                for piece in 0..pieces {
                    let rows = cold.pieces.get(&piece_name(key, piece))?.ok_or_else(unreadable)?;
                    for entry in read_piece(&rows)?.iter().filter(|entry| entry.dirty) {
                        writer.row(key, entry.id, entry.time, entry.count, Some(&entry.row))?;
                    }
                }
            }
        }
        self.touched.clear();
        self.removed.clear();
        let (any, latest) = writer.finish()?;
        Ok((any, (latest != FOR_EVER && latest != i64::MIN && !self.untimed).then_some(latest)))
    }

    /// Takes the files of snapshots, oldest first; rows of other stores are passed over.
    pub fn restore(&mut self, files: &dyn StateFiles, emitted_to: i64) -> Result<()> {
        files.each(&mut |file| {
            for batch in file {
                let column = |name: &str| batch.column_by_name(name).ok_or_else(damaged);
                let stores = column("store")?.as_primitive_opt::<UInt8Type>().ok_or_else(damaged)?;
                let keys = column("key")?.as_binary_opt::<i32>().ok_or_else(damaged)?;
                let ids = column("id")?.as_primitive_opt::<UInt64Type>().ok_or_else(damaged)?;
                let times = column("time")?.as_primitive_opt::<Int64Type>().ok_or_else(damaged)?;
                let counts = column("count")?.as_primitive_opt::<UInt32Type>().ok_or_else(damaged)?;
                let rows = column("row")?.as_binary_opt::<i32>().ok_or_else(damaged)?;
                let tag = self.tag;
                for row in (0..batch.num_rows()).filter(|row| stores.value(*row) == tag) {
                    let (key, id, time) = (keys.value(row), ids.value(row), times.value(row));
                    self.fetch(key)?;
                    self.drain(key, |entry| entry.id == id, |_| {});
                    self.next = self.next.max(id + 1);
                    // I3.
                    if rows.is_valid(row) && time > emitted_to {
                        self.insert(key, Entry { id, time, count: counts.value(row), row: rows.value(row).into(), dirty: false });
                    }
                }
                self.removed.clear();
                if let Some((_, limit)) = self.scratch.as_ref().filter(|(_, limit)| self.bytes as u64 > *limit) {
                    self.shrink(limit / 2)?;
                }
            }
            Ok(())
        })
    }
}

/// What a key costs beside its bytes.
const KEY_COST: usize = 64;
/// Bytes that go to disk at once, about.
const ROUND: usize = 64 << 20;
/// Longer keys stay in memory: the tree on disk takes no longer ones.
const LONGEST_KEY: usize = 60_000;
/// Bytes of a piece's number in its name, and of a time.
const PIECE: usize = 4;
const TIME: usize = 8;
/// What is gone is taken from disk when there is this much of it.
const SWEPT_FROM: usize = 4_096;

fn unreadable() -> DataFusionError {
    DataFusionError::Internal("rows that were put on disk came back in another form".to_owned())
}

/// Names are not empty, also for the empty key.
fn head_name(key: &[u8]) -> Vec<u8> {
    [&[1][..], key].concat()
}
fn piece_name(key: &[u8], piece: u32) -> Vec<u8> {
    [&[1][..], key, &piece.to_be_bytes()].concat()
}
/// Sorts as times do.
fn time_name(time: i64, key: &[u8]) -> Vec<u8> {
    [&(time as u64 ^ (1 << 63)).to_be_bytes()[..], key].concat()
}
fn read_head(head: &[u8]) -> Result<u32> {
    head.try_into().map(u32::from_be_bytes).map_err(|_| unreadable())
}

/// Each entry: number, time, count, whether it changed, length, bytes.
fn write_piece(rows: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.iter().map(|entry| 25 + entry.row.len()).sum());
    for entry in rows {
        bytes.extend_from_slice(&entry.id.to_be_bytes());
        bytes.extend_from_slice(&entry.time.to_be_bytes());
        bytes.extend_from_slice(&entry.count.to_be_bytes());
        bytes.push(u8::from(entry.dirty));
        bytes.extend_from_slice(&(entry.row.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&entry.row);
    }
    bytes
}

fn read_piece(mut bytes: &[u8]) -> Result<Vec<Entry>> {
    fn cut<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
        let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(unreadable)?;
        *bytes = rest;
        Ok(*first)
    }
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let (id, time, count) = (u64::from_be_bytes(cut(&mut bytes)?), i64::from_be_bytes(cut(&mut bytes)?), u32::from_be_bytes(cut(&mut bytes)?));
        let [dirty] = cut(&mut bytes)?;
        let length = u32::from_be_bytes(cut(&mut bytes)?) as usize;
        let (row, rest) = bytes.split_at_checked(length).ok_or_else(unreadable)?;
        bytes = rest;
        rows.push(Entry { id, time, count, row: row.into(), dirty: dirty != 0 });
    }
    Ok(rows)
}

/// Files of snapshots, read one after the other.
pub trait StateFiles {
    /// Gives out the files, oldest first.
    fn each(&self, take: &mut dyn FnMut(&[RecordBatch]) -> Result<()>) -> Result<()>;
}

/// Files that are in memory already.
#[cfg(test)]
impl StateFiles for Vec<Vec<RecordBatch>> {
    fn each(&self, take: &mut dyn FnMut(&[RecordBatch]) -> Result<()>) -> Result<()> {
        self.iter().try_for_each(|file| take(file))
    }
}

/// Gives out rows in batches of bounded size.
struct Writer<'a> {
    tag: u8,
    out: Out<'a>,
    key: BinaryBuilder,
    id: UInt64Builder,
    time: Int64Builder,
    count: UInt32Builder,
    row: BinaryBuilder,
    rows: usize,
    bytes: usize,
    any: bool,
    latest: i64,
}

impl<'a> Writer<'a> {
    const ROWS: usize = 1 << 16;
    const BYTES: usize = 16 << 20;

    fn new(tag: u8, out: Out<'a>) -> Self {
        Self {
            tag,
            out,
            key: BinaryBuilder::new(),
            id: UInt64Builder::new(),
            time: Int64Builder::new(),
            count: UInt32Builder::new(),
            row: BinaryBuilder::new(),
            rows: 0,
            bytes: 0,
            any: false,
            latest: i64::MIN,
        }
    }

    fn row(&mut self, key: &[u8], id: u64, time: i64, count: u32, row: Option<&[u8]>) -> Result<()> {
        self.key.append_value(key);
        self.id.append_value(id);
        self.time.append_value(time);
        self.count.append_value(count);
        self.row.append_option(row);
        self.rows += 1;
        self.bytes += key.len() + row.map_or(0, <[u8]>::len);
        self.latest = self.latest.max(time);
        if self.rows >= Self::ROWS || self.bytes >= Self::BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from_value(self.tag, self.rows)),
            Arc::new(self.key.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.row.finish()),
        ];
        (self.rows, self.bytes, self.any) = (0, 0, true);
        (self.out)(RecordBatch::try_new(snapshot_schema(), columns)?)
    }

    /// Whether there was anything, and the latest time.
    fn finish(mut self) -> Result<(bool, i64)> {
        self.flush()?;
        Ok((self.any, self.latest))
    }
}

/// A store's rows for people: in the order of their numbers, without columns that the store does not keep.
pub fn contents(store: &Store, codec: &RowCodec, columns: &Schema) -> Result<Option<RecordBatch>> {
    let mut rows: Vec<(u64, Arc<[u8]>)> = Vec::new();
    store.each(|_, held| {
        rows.extend(held.iter().map(|e| (e.id, Arc::clone(&e.row))));
        Ok(())
    })?;
    if rows.is_empty() {
        return Ok(None);
    }
    rows.sort_by_key(|(id, _)| *id);
    let decoded = codec.decode(rows.iter().map(|(_, row)| row.as_ref()))?;
    let kept: Vec<usize> = (0..decoded.len()).collect();
    let schema = super::relation::relaxed(&columns.project(&kept)?);
    Ok(Some(super::relation::conform(&schema, decoded, rows.len())?))
}

/// Shrinks several stores to so many bytes together, the largest first.
pub fn shrink_all<'a>(stores: impl IntoIterator<Item = &'a mut Store>, to: u64) -> Result<()> {
    let mut stores: Vec<&mut Store> = stores.into_iter().collect();
    stores.sort_by_key(|store| std::cmp::Reverse(store.bytes()));
    let mut over = stores.iter().map(|store| store.bytes()).sum::<u64>().saturating_sub(to);
    for store in stores {
        let had = store.bytes();
        store.shrink(had.saturating_sub(over))?;
        over = over.saturating_sub(had - store.bytes());
    }
    Ok(())
}

/// The snapshots of several stores as one; the event time after which none of it is needed.
pub fn snapshot_all<'a>(stores: impl IntoIterator<Item = &'a mut Store>, full: bool, out: Out<'_>) -> Result<Option<i64>> {
    let (mut latest, mut kept_for_ever) = (None, false);
    for store in stores {
        let (any, expires) = store.snapshot(full, out)?;
        kept_for_ever |= any && expires.is_none();
        latest = latest.max(expires);
    }
    Ok(latest.filter(|_| !kept_for_ever))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(store: &Store) -> Vec<(Vec<u8>, u64, i64, u32, Vec<u8>)> {
        let mut rows = Vec::new();
        let all = store.each(|key, held| {
            rows.extend(held.iter().map(|e| (key.to_vec(), e.id, e.time, e.count, e.row.to_vec())));
            Ok(())
        });
        all.expect("reads");
        rows.sort();
        rows
    }

    fn keep(store: &mut Store, full: bool) -> Vec<RecordBatch> {
        let mut batches = Vec::new();
        let taken = store.snapshot(full, &mut |batch| {
            batches.push(batch);
            Ok(())
        });
        taken.expect("encodes");
        batches
    }

    #[test]
    fn deltas_on_a_base_give_the_same_rows() {
        let mut store = Store::new(3);
        let mut files = Vec::new();
        store.put(b"a", 10, 0, *b"one");
        store.put(b"a", 20, 0, *b"two");
        store.put(b"b", FOR_EVER, 0, *b"three");
        files.push(keep(&mut store, true));
        assert_eq!(store.take(b"a", b"one").map(|e| e.id), Some(0));
        assert_eq!(store.recount(b"a", 1, |count| count + 5), Some(5));
        store.set(b"b", FOR_EVER, 1, *b"four");
        files.push(keep(&mut store, false));
        assert!(keep(&mut store, false).is_empty(), "nothing has changed since");
        let mut restored = Store::new(3);
        restored.restore(&files, i64::MIN).expect("reads");
        assert_eq!(rows(&restored), rows(&store));
        assert_eq!((restored.rows(), restored.bytes()), (store.rows(), store.bytes()));
        assert_eq!(restored.put(b"c", 1, 0, *b""), store.put(b"c", 1, 0, *b""), "I1");
        let mut other = Store::new(4);
        other.restore(&files, i64::MIN).expect("reads");
        assert_eq!(other.rows(), 0);
    }

    #[test]
    fn rows_expire_in_the_order_of_their_times() {
        let mut store = Store::new(0);
        store.put(b"b", 20, 0, *b"2");
        store.put(b"a", 10, 0, *b"1");
        store.put(b"c", 20, 0, *b"3");
        store.put(b"a", 30, 0, *b"4");
        let expired: Vec<Vec<u8>> = store.expire(20).expect("reads").into_iter().map(|(_, entry)| entry.row.to_vec()).collect();
        assert_eq!(expired, [b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]);
        assert_eq!(store.rows(), 1);
        let files = vec![keep(&mut store, true)];
        let mut restored = Store::new(0);
        restored.restore(&files, 30).expect("reads");
        assert_eq!(restored.rows(), 0, "I3");
    }

    /// What one store does in memory and one on disk, step by step the same.
    #[test]
    fn a_store_on_disk_is_the_store_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        for seed in 0..20u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut draw = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let scratch = Scratch::new(folder.path().join(seed.to_string()), 1 << 20);
            let (mut memory, mut disk) = (Store::new(0), Store::new(0));
            disk.attach(&scratch, 2_000);
            let (mut mark, mut spilled) = (0, 0);
            let (mut of_memory, mut of_disk) = (vec![], vec![]);
            for step in 0..400 {
                let key = ["", "a", "a\0\0\0\0", "b", "cc", "ccc"][draw(6) as usize].as_bytes().to_vec();
                let time = if draw(3) == 0 { FOR_EVER } else { mark + 1 + draw(40) as i64 };
                let row = vec![draw(3) as u8; draw(60) as usize];
                match draw(12) {
                    0..5 => assert_eq!(memory.put(&key, time, 0, row.clone()), disk.put(&key, time, 0, row)),
                    5 => {
                        disk.fetch(&key).expect("reads");
                        memory.set(&key, time, 7, row.clone());
                        disk.set(&key, time, 7, row);
                    }
                    6 => {
                        disk.fetch(&key).expect("reads");
                        assert_eq!(memory.take(&key, &row).map(|e| e.id), disk.take(&key, &row).map(|e| e.id));
                    }
                    7 => {
                        disk.fetch(&key).expect("reads");
                        for id in memory.get(&key).iter().map(|e| e.id).collect::<Vec<_>>() {
                            assert_eq!(memory.recount(&key, id, |c| c + 1), disk.recount(&key, id, |c| c + 1));
                        }
                    }
                    8 => {
                        mark += draw(15) as i64;
                        let gone = |store: &mut Store| store.expire(mark).expect("reads").into_iter().map(|(key, e)| (key, e.id, e.row)).collect::<Vec<_>>();
                        assert_eq!(gone(&mut memory), gone(&mut disk));
                    }
                    9 => {
                        let full = draw(4) == 0;
                        if full {
                            (of_memory, of_disk) = (vec![], vec![]);
                        }
                        of_memory.push(keep(&mut memory, full || step < 100 && of_memory.is_empty()));
                        of_disk.push(keep(&mut disk, full || step < 100 && of_disk.is_empty()));
                    }
                    _ => {
                        disk.shrink(draw(2) * 200).expect("writes");
                        spilled += u64::from(disk.spilled() > 0);
                    }
                }
                assert_eq!(rows(&memory), rows(&disk), "seed {seed}, step {step}");
                assert_eq!(memory.rows(), disk.rows());
            }
            assert!(spilled > 10, "too little went to disk");
            of_memory.push(keep(&mut memory, of_memory.is_empty()));
            of_disk.push(keep(&mut disk, of_disk.is_empty()));
            let (mut plain, mut small) = (Store::new(0), Store::new(0));
            small.attach(&scratch, 500);
            plain.restore(&of_memory, mark).expect("reads");
            small.restore(&of_disk, mark).expect("reads");
            assert_eq!(rows(&plain), rows(&small), "seed {seed}: restored");
            assert_eq!(rows(&plain), rows(&memory), "seed {seed}: restored as it was");
        }
    }
}
