//! Replay: quarantined rows go round again, once.
//!
//! A request is a file, written once, in the project's own folder. The running pipeline (or the next one) takes
//! requests in the order of their names; which were taken is part of the epoch, so that a crash repeats none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};
use watershed_codec::{ColumnSpec, Decoder, Format, Scratch};
use watershed_ports::{Framing, RawChunk};
use watershed_protocol::{Replayed, open, seal};
use watershed_types::{Error, Result};

/// The name under which taken requests are kept among the sources' positions.
pub const REPLAY_SOURCE: &str = "system.replay";

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// Microseconds since 1970.
    pub requested_at: i64,
    /// The rows.
    pub rows: Vec<ReplayRow>,
}

/// One row of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRow {
    /// Which row it is.
    #[serde(flatten)]
    pub row: Replayed,
    /// Why it was refused.
    pub reason: String,
}

fn folder(work: &Path) -> PathBuf {
    work.join("replay")
}

/// Writes a request; returns its name. Durable when it returns.
pub fn submit_replay(work: &Path, request: &ReplayRequest) -> Result<String> {
    let folder = folder(work);
    let fail = |e: std::io::Error| Error::unavailable("RUN0012", format!("cannot write a replay request to \"{}\"", folder.display())).caused_by(e).definite();
    fs::create_dir_all(&folder).map_err(fail)?;
    let bytes = seal(request)?;
    let mut number = 1 + names(work)?.iter().filter_map(|n| n.strip_suffix(".json")?.parse::<u64>().ok()).max().unwrap_or(0);
    loop {
        let name = format!("{number:010}.json");
        let temporary = folder.join(format!(".{name}-{}", std::process::id()));
        fs::write(&temporary, &bytes).and_then(|()| fs::File::open(&temporary)?.sync_all()).map_err(fail)?;
        let linked = fs::hard_link(&temporary, folder.join(&name));
        let _ = fs::remove_file(&temporary);
        match linked {
            Ok(()) => {
                fs::File::open(&folder).and_then(|f| f.sync_all()).map_err(fail)?;
                return Ok(name);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(fail(error)),
        }
    }
}

/// The names of all requests, in order.
pub fn names(work: &Path) -> Result<Vec<String>> {
    let folder = folder(work);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::unavailable("RUN0012", format!("cannot list \"{}\"", folder.display())).caused_by(error)),
    };
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".json") && !n.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

/// Reads a request.
pub fn read(work: &Path, name: &str) -> Result<ReplayRequest> {
    let path = folder(work).join(name);
    let bytes = fs::read(&path).map_err(|e| Error::unavailable("RUN0012", format!("cannot read \"{}\"", path.display())).caused_by(e))?;
    open(&path.display().to_string(), &bytes)
}

/// Every request there is, with its rows: to know what was sent round before.
pub fn pending_requests(work: &Path) -> Result<Vec<(String, ReplayRequest)>> {
    names(work)?.into_iter().map(|name| Ok((name.clone(), read(work, &name)?))).collect()
}

/// Rows of one request for one table and source as a chunk.
pub fn chunk(name: &str, first: u64, rows: &[&ReplayRow], now: i64) -> Result<RawChunk> {
    let mut bytes = Vec::new();
    let mut ranges = Vec::new();
    for row in rows {
        let raw = decode_hex(&row.row.raw).ok_or_else(|| Error::corrupt("RUN0013", format!("replay request \"{name}\" holds a row that is not hexadecimal")))?;
        let start = bytes.len() as u32;
        bytes.extend_from_slice(&raw);
        ranges.push((start, bytes.len() as u32));
        bytes.push(b'\n');
    }
    let partition: Arc<str> = format!("replay/{}", name.trim_end_matches(".json")).into();
    Ok(RawChunk {
        partition: Arc::clone(&partition),
        stretch: partition,
        offset: first,
        end_offset: first + rows.len() as u64,
        record: first,
        byte_positions: false,
        ingested_at: now,
        framing: Framing::Ranges(ranges.into()),
        bytes: bytes.into(),
        header: false,
        facts: None,
        lost: 0,
        skipped: 0,
    })
}

/// Rows an outside target refused, as rows of the table it follows. They are JSON, as [`crate::json::row_as_json`] writes it.
pub fn rows_of_sink(name: &str, rows: &[&ReplayRow], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|f| ColumnSpec { name: f.name().clone(), data_type: decodable(f.data_type()), nullable: true }).collect();
    let decoder = Decoder::new(columns, Format::Json)?;
    let decoded = decoder.decode(&chunk(name, 0, rows, 0)?, &mut Scratch::default())?;
    if let Some(refused) = decoded.refused.first() {
        return Err(Error::corrupt("RUN0027", format!("replay request \"{name}\" holds a row that does not fit the table any more: {}", refused.detail))
            .hint("Remove the request from .watershed/replay, or give the table back the columns it had."));
    }
    let columns = decoded.batch.columns().iter().zip(schema.fields()).map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns));
    columns.map_err(|e| Error::corrupt("RUN0027", format!("replay request \"{name}\" holds a row that does not fit the table any more")).caused_by(e))
}

/// The type the decoder reads for a column of this type; casting it gives the column back.
fn decodable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 => DataType::Int16,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        other => other.clone(),
    }
}

/// Bytes as hexadecimal text.
pub fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}
