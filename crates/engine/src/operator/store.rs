//! Rows kept by key: the state of every operator that must find earlier rows again.
//!
//! **Owns** the rows in Arrow's row format, what changed since the last snapshot, and the durable form of both. **Does not
//! own** what the rows mean.
//!
//! I1: a row has a number of its own in its store; numbers rise in the order of arrival and are never used again.
//! I2: a snapshot has what was put and what was taken out since the one before it, so that its cost follows the change and
//!     not the size. Files are read oldest first, and the newest word on a number holds.
//! I3: a row whose time `emitted_to` has passed is not restored, even if the file that says it was taken out is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder, RecordBatch, UInt8Builder, UInt32Builder, UInt64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{DataFusionError, Result};
use hashbrown::{HashMap, HashSet};

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

/// What one key has.
type Slot = Vec<Entry>;

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
    rows: usize,
    bytes: usize,
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

    /// The rows of a key, in the order of their numbers.
    pub fn get(&self, key: &[u8]) -> &[Entry] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// All keys and their rows.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[Entry])> {
        self.keys.iter().map(|(key, slot)| (key.as_ref(), slot.as_slice()))
    }

    /// Rows held.
    pub fn rows(&self) -> u64 {
        self.rows as u64
    }

    /// Bytes held, with what finding them costs.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Puts a row under a key; its number.
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
                let at = slot.partition_point(|e| e.id < entry.id);
                slot.insert(at, entry);
            }
            None => {
                self.bytes += key.len() + 64;
                self.keys.insert(key.into(), vec![entry]);
            }
        }
    }

    /// Replaces the one row of a key.
    pub fn set(&mut self, key: &[u8], time: i64, count: u32, row: impl Into<Arc<[u8]>>) {
        let row = row.into();
        let kept = self.get(key).first().is_some_and(|entry| entry.time == time);
        match self.keys.get_mut(key).and_then(|slot| slot.first_mut()).filter(|_| kept) {
            Some(entry) => {
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

    /// Changes the count of a row; the new count.
    pub fn recount(&mut self, key: &[u8], id: u64, change: impl FnOnce(u32) -> u32) -> Option<u32> {
        let slot = self.keys.get_mut(key)?;
        let at = slot.binary_search_by_key(&id, |entry| entry.id).ok()?;
        let entry = slot.get_mut(at)?;
        entry.count = change(entry.count);
        entry.dirty = true;
        let count = entry.count;
        if !self.touched.contains(key) {
            self.touched.insert(key.into());
        }
        Some(count)
    }

    /// Takes out the first row with these bytes.
    pub fn take(&mut self, key: &[u8], row: &[u8]) -> Option<Entry> {
        let id = self.get(key).iter().find(|entry| entry.row.as_ref() == row)?.id;
        let mut taken = None;
        self.drain(key, |entry| entry.id == id, |entry| taken = Some(entry));
        taken
    }

    /// Keeps a key's rows for which this is true.
    pub fn retain(&mut self, key: &[u8], keep: impl Fn(&Entry) -> bool) {
        self.drain(key, |entry| !keep(entry), |_| {});
    }

    fn drain(&mut self, key: &[u8], out: impl Fn(&Entry) -> bool, mut taken: impl FnMut(Entry)) {
        let Some(slot) = self.keys.get_mut(key) else { return };
        let mut kept = Vec::with_capacity(slot.len());
        for entry in slot.drain(..) {
            if !out(&entry) {
                kept.push(entry);
                continue;
            }
            self.rows -= 1;
            self.bytes -= entry.bytes();
            self.removed.push((key.into(), entry.id, entry.time));
            taken(entry);
        }
        *slot = kept;
        if slot.is_empty() {
            self.keys.remove(key);
            self.touched.remove(key);
            self.bytes -= key.len() + 64;
        }
    }

    /// Takes out every row whose time is at or before `mark`, earliest first, and within a time by number.
    pub fn expire(&mut self, mark: i64) -> Vec<(Box<[u8]>, Entry)> {
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
        expired
    }

    /// What changed since the last snapshot, or everything (I2); and the latest time in it, if every row has one.
    pub fn snapshot(&mut self, full: bool) -> Result<(Option<RecordBatch>, Option<i64>)> {
        let mut writer = Writer::default();
        let mut latest = i64::MIN;
        if full {
            for (key, slot) in &mut self.keys {
                for entry in slot {
                    writer.row(self.tag, key, entry.id, entry.time, entry.count, Some(&entry.row));
                    latest = latest.max(entry.time);
                    entry.dirty = false;
                }
            }
        } else {
            for (key, id, time) in &self.removed {
                writer.row(self.tag, key, *id, *time, 0, None);
                latest = latest.max(*time);
            }
            for key in &self.touched {
                for entry in self.keys.get_mut(key).into_iter().flatten().filter(|entry| entry.dirty) {
                    writer.row(self.tag, key, entry.id, entry.time, entry.count, Some(&entry.row));
                    latest = latest.max(entry.time);
                    entry.dirty = false;
                }
            }
        }
        self.touched.clear();
        self.removed.clear();
        let batch = writer.finish()?;
        Ok((batch, (latest != FOR_EVER && latest != i64::MIN && !self.untimed).then_some(latest)))
    }

    /// Takes the files of snapshots, oldest first; rows of other stores are passed over.
    pub fn restore(&mut self, files: &[Vec<RecordBatch>], emitted_to: i64) -> Result<()> {
        for batch in files.iter().flatten() {
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
                self.drain(key, |entry| entry.id == id, |_| {});
                self.next = self.next.max(id + 1);
                // I3.
                if rows.is_valid(row) && time > emitted_to {
                    self.insert(key, Entry { id, time, count: counts.value(row), row: rows.value(row).into(), dirty: false });
                }
            }
        }
        self.removed.clear();
        Ok(())
    }
}

#[derive(Default)]
struct Writer {
    store: UInt8Builder,
    key: BinaryBuilder,
    id: UInt64Builder,
    time: Int64Builder,
    count: UInt32Builder,
    row: BinaryBuilder,
    rows: usize,
}

impl Writer {
    fn row(&mut self, store: u8, key: &[u8], id: u64, time: i64, count: u32, row: Option<&[u8]>) {
        self.store.append_value(store);
        self.key.append_value(key);
        self.id.append_value(id);
        self.time.append_value(time);
        self.count.append_value(count);
        self.row.append_option(row);
        self.rows += 1;
    }

    fn finish(mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.store.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.row.finish()),
        ];
        Ok(Some(RecordBatch::try_new(snapshot_schema(), columns)?))
    }
}

/// A store's rows for people: in the order of their numbers, without columns that the store does not keep.
pub fn contents(store: &Store, codec: &RowCodec, columns: &Schema) -> Result<Option<RecordBatch>> {
    let mut rows: Vec<(u64, Arc<[u8]>)> = store.iter().flat_map(|(_, rows)| rows.iter().map(|e| (e.id, Arc::clone(&e.row)))).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    rows.sort_by_key(|(id, _)| *id);
    let decoded = codec.decode(rows.iter().map(|(_, row)| row.as_ref()))?;
    let kept: Vec<usize> = (0..decoded.len()).collect();
    let schema = super::relation::relaxed(&columns.project(&kept)?);
    Ok(Some(super::relation::conform(&schema, decoded, rows.len())?))
}

/// The snapshots of several stores as one: the batches, and the event time after which none of it is needed.
pub fn snapshot_all<'a>(stores: impl IntoIterator<Item = &'a mut Store>, full: bool) -> Result<(Vec<RecordBatch>, Option<i64>)> {
    let (mut batches, mut latest, mut kept_for_ever) = (Vec::new(), None, false);
    for store in stores {
        let (batch, expires) = store.snapshot(full)?;
        kept_for_ever |= batch.is_some() && expires.is_none();
        latest = latest.max(expires);
        batches.extend(batch);
    }
    Ok((batches, latest.filter(|_| !kept_for_ever)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(store: &Store) -> Vec<(Vec<u8>, u64, u32, Vec<u8>)> {
        let mut rows: Vec<_> = store.iter().flat_map(|(key, slot)| slot.iter().map(|e| (key.to_vec(), e.id, e.count, e.row.to_vec()))).collect();
        rows.sort();
        rows
    }

    #[test]
    fn deltas_on_a_base_give_the_same_rows() {
        let mut store = Store::new(3);
        let mut files = Vec::new();
        let keep = |store: &mut Store, full| store.snapshot(full).expect("encodes").0.into_iter().collect::<Vec<_>>();
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
        let expired: Vec<Vec<u8>> = store.expire(20).into_iter().map(|(_, entry)| entry.row.to_vec()).collect();
        assert_eq!(expired, [b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]);
        assert_eq!(store.rows(), 1);
        let files: Vec<_> = store.snapshot(true).expect("encodes").0.into_iter().collect();
        let mut restored = Store::new(0);
        restored.restore(&[files], 30).expect("reads");
        assert_eq!(restored.rows(), 0, "I3");
    }
}
