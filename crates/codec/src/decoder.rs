//! The decoder: a chunk in, a batch and the refusals out.
//!
//! **Owns** the public types and the life of a chunk's builders. **Does not own** any format.
//!
//! Failure: only a chunk that breaks its own contract (larger than 2 GiB, ranges outside of it) is an error; whatever is
//! wrong with a record is a [`Refused`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use watershed_ports::RawChunk;
use watershed_types::{Error, Reason, Result};

use crate::builder::{Builder, Text};
use crate::column::{ColumnSpec, Fields, Kind};
use crate::fault::Step;
use crate::{CsvOptions, csv, frame, json, text};

/// How records are written.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object a record.
    Json,
    /// Delimited fields.
    Csv(CsvOptions),
    /// The whole record is the value of the single VARCHAR column.
    Text,
}

/// Turns chunks into batches of the declared columns. Shared between threads; each brings its own [`Scratch`].
#[derive(Debug)]
pub struct Decoder {
    id: u64,
    fields: Fields,
    format: Format,
    schema: SchemaRef,
}

/// What decoding a chunk gave.
#[derive(Debug)]
pub struct Decoded {
    /// Accepted rows, in order.
    pub batch: RecordBatch,
    /// For each accepted row: the index of its record in the chunk.
    pub rows: Vec<u32>,
    /// The byte span of every record in the chunk's bytes, without its newline.
    pub records: Vec<(u32, u32)>,
    /// Records that were not accepted, in order.
    pub refused: Vec<Refused>,
}

/// A record that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the chunk.
    pub record: u32,
    /// [`Reason::Corrupt`] or [`Reason::Schema`].
    pub reason: Reason,
    /// What is wrong, for a person.
    pub detail: String,
}

/// Buffers that live from chunk to chunk, one set per thread. May be used with several decoders in turn.
#[derive(Debug, Default)]
pub struct Scratch {
    owner: u64,
    columns: Vec<Builder>,
    side: String,
    json: json::Memory,
    csv: csv::Memory,
}

/// A chunk being decoded: where rows and refusals go.
pub(crate) struct Output<'a> {
    pub(crate) bytes: &'a [u8],
    /// The chunk as text, if all of it is UTF-8.
    whole: Option<&'a str>,
    pub(crate) columns: &'a mut [Builder],
    /// Unescaped strings.
    pub(crate) side: &'a mut String,
    /// The length of `side` before the current record.
    side_mark: usize,
    records: Vec<(u32, u32)>,
    rows: Vec<u32>,
    refused: Vec<Refused>,
}

impl Output<'_> {
    /// Checks a record; the error is the position of the first bad byte within it.
    #[inline]
    pub(crate) fn utf8(&self, start: u32, end: u32) -> Result<(), usize> {
        let (start, end) = (start as usize, end as usize);
        if self.whole.is_some_and(|whole| whole.is_char_boundary(start) && whole.is_char_boundary(end)) {
            return Ok(());
        }
        simdutf8::compat::from_utf8(&self.bytes[start..end]).map(|_| ()).map_err(|error| error.valid_up_to())
    }
    /// Forgets what the current record left so far.
    pub(crate) fn undo(&mut self) {
        let rows = self.rows.len();
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.side.truncate(self.side_mark);
    }
    /// Ends the current record: it is a row, or it is refused and leaves no trace.
    #[inline]
    pub(crate) fn close(&mut self, start: u32, end: u32, result: Step<()>) {
        let record = self.records.len() as u32;
        self.records.push((start, end));
        match result {
            Ok(()) => self.rows.push(record),
            Err(fault) => {
                self.undo();
                let (reason, detail) = fault.into_words();
                self.refused.push(Refused { record, reason, detail });
            }
        }
        self.side_mark = self.side.len();
    }
}

/// A copy of a chunk in which bytes that are no UTF-8 are question marks. They lie in refused records only, so that
/// accepted values can be sliced out of one text instead of being checked one by one.
fn masked(bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    let mut at = 0;
    while let Err(error) = simdutf8::compat::from_utf8(&copy[at..]) {
        at += error.valid_up_to();
        let length = error.error_len().unwrap_or(copy.len() - at);
        copy[at..at + length].fill(b'?');
        at += length;
    }
    copy
}

static DECODERS: AtomicU64 = AtomicU64::new(1);

impl Decoder {
    /// A decoder for these columns. Fails where the format cannot carry a type.
    pub fn new(columns: Vec<ColumnSpec>, format: Format) -> Result<Decoder> {
        let fields = Fields::new(columns.iter().map(|c| (c.name.as_str(), &c.data_type, c.nullable)))?;
        match &format {
            Format::Json => {}
            Format::Csv(options) => {
                if options.delimiter == options.quote || matches!(options.delimiter, b'\n' | b'\r') || matches!(options.quote, b'\n' | b'\r') || !options.quote.is_ascii() {
                    return Err(Error::invalid("CODEC0001", "the CSV delimiter and quote must be two different characters, and no newlines"));
                }
                if let Some(at) = fields.nodes.iter().position(|node| node.is_nested()) {
                    return Err(Error::invalid("CODEC0001", format!("column \"{}\": CSV cannot carry {}", fields.names[at], fields.nodes[at].declared))
                        .hint("Declare it VARCHAR and parse it in the query, or use format = 'json'."));
                }
            }
            Format::Text => {
                if !matches!(&fields.nodes[..], [only] if matches!(only.kind, Kind::String)) {
                    return Err(Error::invalid("CODEC0001", "format 'text' needs exactly one column, a VARCHAR").hint("Declare one VARCHAR column, or use another format."));
                }
            }
        }
        let arrow: Vec<Field> = columns.into_iter().map(|c| Field::new(c.name, c.data_type, c.nullable)).collect();
        let id = DECODERS.fetch_add(1, Ordering::Relaxed);
        Ok(Decoder { id, fields, format, schema: Arc::new(Schema::new(arrow)) })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Decodes a chunk.
    pub fn decode(&self, chunk: &RawChunk, scratch: &mut Scratch) -> Result<Decoded> {
        if chunk.bytes.len() > i32::MAX as usize {
            return Err(Error::invalid("CODEC0002", format!("a chunk of {} bytes is larger than 2 GiB", chunk.bytes.len())));
        }
        self.adopt(scratch);
        let Scratch { columns, side, json: json_memory, csv: csv_memory, .. } = scratch;
        let whole = simdutf8::basic::from_utf8(&chunk.bytes).ok();
        let mut out = Output { bytes: &chunk.bytes, whole, columns, side, side_mark: 0, records: Vec::new(), rows: Vec::new(), refused: Vec::new() };
        match &self.format {
            Format::Csv(options) => csv::decode(chunk, &self.fields, options, csv_memory, &mut out)?,
            Format::Json => json::decode(self.reserve(chunk, &mut out)?, &self.fields, json_memory, &mut out),
            Format::Text => text::decode(self.reserve(chunk, &mut out)?, &mut out),
        }
        let Output { records, rows, refused, columns, side, .. } = out;
        let masked = if whole.is_none() { masked(&chunk.bytes) } else { Vec::new() };
        let whole = whole.or_else(|| simdutf8::basic::from_utf8(&masked).ok());
        let text = Text { whole, bytes: &chunk.bytes, side };
        let arrays: Result<Vec<_>, _> = columns.iter_mut().zip(&self.fields.nodes).map(|(column, node)| column.finish(&node.data_type, text)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options))
            .map_err(|error| Error::internal("CODEC0004", "decoded columns do not form a batch").caused_by(error))?;
        Ok(Decoded { batch, rows, records, refused })
    }

    /// Frames the chunk and makes room for that many records.
    fn reserve(&self, chunk: &RawChunk, out: &mut Output<'_>) -> Result<Vec<(u32, u32)>> {
        let records = frame::records(chunk)?;
        out.records.reserve(records.len());
        out.rows.reserve(records.len());
        Ok(records)
    }

    /// Makes the scratch this decoder's and empty.
    fn adopt(&self, scratch: &mut Scratch) {
        scratch.side.clear();
        if scratch.owner == self.id {
            // A decode that stopped half way may have left rows.
            scratch.columns.iter_mut().for_each(|column| column.truncate(0));
        } else {
            *scratch = Scratch { owner: self.id, columns: self.fields.nodes.iter().map(Builder::new).collect(), ..Scratch::default() };
        }
    }
}
