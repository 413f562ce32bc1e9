//! A batch on its way, and where its rows came from.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::Result;
use watershed_ports::RawChunk;
use watershed_types::Reason;

/// The raw chunk some rows were decoded from.
#[derive(Debug)]
pub struct Origin {
    /// The source, by index in the plan.
    pub source: usize,
    /// For a replayed row: the only table it is meant for.
    pub target: Option<usize>,
    /// For a replayed row that had passed dedup before it was refused: it does not repeat itself.
    pub bypass_dedup: bool,
    /// The bytes and where they came from.
    pub chunk: RawChunk,
    /// Byte span of every record in the chunk.
    pub records: Vec<(u32, u32)>,
    /// For each accepted row: its record.
    pub record_of: Vec<u32>,
    /// For each accepted row: its event time, microseconds since 1970. Empty without a watermark.
    pub event_time: Vec<i64>,
    /// Accepted rows behind their own partition's watermark, and where it stood.
    pub late: HashMap<u32, i64>,
    /// Accepted rows exactly at their own partition's watermark.
    pub edge: HashSet<u32>,
}

impl Origin {
    /// How many bytes of a header line were put in front of the records. A chunk's first record starts at its offset.
    pub fn header_bytes(&self) -> usize {
        match (self.chunk.header, self.records.first()) {
            (true, Some((start, _))) => *start as usize,
            (true, None) => self.chunk.bytes.len(),
            (false, _) => 0,
        }
    }
    /// A record's raw bytes.
    pub fn raw(&self, record: u32) -> &[u8] {
        let (start, end) = self.records[record as usize];
        &self.chunk.bytes[start as usize..end as usize]
    }
    /// A record's position as text: `file:byte`, or the ordinal in its partition.
    pub fn position(&self, record: u32) -> String {
        if self.chunk.byte_positions {
            let header = self.header_bytes() as u64;
            let byte = self.chunk.offset + u64::from(self.records[record as usize].0).saturating_sub(header);
            format!("{}:{byte}", self.chunk.stretch)
        } else {
            let offset = self.chunk.facts.as_ref().and_then(|facts| facts.offsets.get(record as usize)).copied();
            offset.unwrap_or(self.chunk.record + u64::from(record)).to_string()
        }
    }
}

/// Which of the origin's accepted rows the rows of a batch are.
#[derive(Debug, Clone)]
pub enum Rows {
    /// All of them, in order.
    All,
    /// These. Never decreasing; a row that a join or a hopping window multiplied is there several times.
    Some(Arc<[u32]>),
}

/// Rows on their way through a plan.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    /// The columns.
    pub batch: RecordBatch,
    /// Which source rows these are.
    pub rows: Rows,
    /// Where they came from; `None` for the results of operators.
    pub origin: Option<Arc<Origin>>,
    /// For a changelog: what each row does, by the number that `rows` gives it. `None` means that every row is an insert.
    pub changes: Option<Arc<[i8]>>,
}

/// A row appears.
pub const INSERT: i8 = 1;
/// A row that was there is taken back.
pub const DELETE: i8 = -1;

impl StreamBatch {
    /// Rows that an operator made: all of them inserts.
    pub fn results(batch: RecordBatch) -> StreamBatch {
        StreamBatch { batch, rows: Rows::All, origin: None, changes: None }
    }

    /// Rows of a changelog: for each whether it appears ([`INSERT`]) or is taken back ([`DELETE`]).
    pub fn changelog(batch: RecordBatch, changes: Vec<i8>) -> StreamBatch {
        StreamBatch { batch, rows: Rows::All, origin: None, changes: Some(changes.into()) }
    }

    /// What a row does: [`INSERT`] or [`DELETE`].
    pub fn change(&self, index: usize) -> i8 {
        self.changes.as_ref().map_or(INSERT, |changes| changes[self.row(index) as usize])
    }

    /// True if the row is behind its own partition's watermark.
    pub fn is_late(&self, index: usize) -> bool {
        self.origin.as_ref().is_some_and(|origin| !origin.late.is_empty() && origin.late.contains_key(&self.row(index)))
    }

    /// True if the row is exactly at its own partition's watermark.
    pub fn is_at_edge(&self, index: usize) -> bool {
        self.origin.as_ref().is_some_and(|origin| !origin.edge.is_empty() && origin.edge.contains(&self.row(index)))
    }

    /// The source row of a row.
    pub fn row(&self, index: usize) -> u32 {
        match &self.rows {
            Rows::All => index as u32,
            Rows::Some(rows) => rows[index],
        }
    }

    /// Keeps rows where the mask is true; NULL is false.
    pub fn filter(self, mask: &BooleanArray) -> Result<StreamBatch> {
        if mask.null_count() == 0 && mask.true_count() == mask.len() {
            return Ok(self);
        }
        let batch = filter_record_batch(&self.batch, mask)?;
        let kept = (0..mask.len()).filter(|i| mask.is_valid(*i) && mask.value(*i)).map(|i| self.row(i)).collect();
        Ok(StreamBatch { batch, rows: Rows::Some(kept), ..self })
    }

    /// A stretch of rows.
    pub fn slice(&self, offset: usize, length: usize) -> StreamBatch {
        let rows = (offset..offset + length).map(|i| self.row(i)).collect();
        StreamBatch { batch: self.batch.slice(offset, length), rows: Rows::Some(rows), origin: self.origin.clone(), changes: self.changes.clone() }
    }

    /// Where to cut it in two between source rows, near the middle; `None` if all rows are copies of one.
    pub fn border(&self) -> Option<usize> {
        let middle = self.batch.num_rows() / 2;
        match &self.rows {
            Rows::All => (middle > 0).then_some(middle),
            Rows::Some(rows) => {
                let copy_of = *rows.get(middle)?;
                let start = rows[..middle].partition_point(|row| *row < copy_of);
                let end = middle + rows[middle..].partition_point(|row| *row == copy_of);
                [start, end].into_iter().find(|at| 0 < *at && *at < rows.len())
            }
        }
    }

    /// How many different source rows are here.
    pub fn distinct_rows(&self) -> u64 {
        match &self.rows {
            Rows::All => self.batch.num_rows() as u64,
            Rows::Some(rows) => rows.chunk_by(|a, b| a == b).count() as u64,
        }
    }
}

/// A source row that was not accepted, with the reason.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Where it came from.
    pub origin: Option<Arc<Origin>>,
    /// The record in its chunk.
    pub record: u32,
    /// The accepted row it was, if it was decoded.
    pub row: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// The rule, the column, the parser's words.
    pub detail: String,
    /// For rows without an origin: the row itself.
    pub raw: Option<Vec<u8>>,
}

impl Refusal {
    /// Refuses a row of a batch.
    pub fn of(batch: &StreamBatch, index: usize, reason: Reason, detail: String) -> Refusal {
        match &batch.origin {
            Some(origin) => {
                let row = batch.row(index);
                Refusal { origin: Some(Arc::clone(origin)), record: origin.record_of[row as usize], row: Some(row), reason, detail, raw: None }
            }
            None => {
                let raw = crate::json::row_as_json(&batch.batch, index).into_bytes();
                Refusal { origin: None, record: 0, row: None, reason, detail, raw: Some(raw) }
            }
        }
    }
}

/// What a stateful operator did with the rows it was given.
#[derive(Debug, Default)]
pub struct Tally {
    /// Repeats of a key.
    pub duplicate: u64,
    /// Rows absorbed into windows.
    pub absorbed: u64,
    /// Late rows, to be quarantined.
    pub late: Vec<Refusal>,
}

/// How a late row is explained.
pub fn late_detail(event_time: i64, watermark: i64, partition: &str) -> String {
    format!(
        "event time {} is {} behind the watermark of partition {partition}, {}",
        crate::time::timestamp(event_time),
        crate::time::interval(watermark - event_time),
        crate::time::timestamp(watermark)
    )
}
