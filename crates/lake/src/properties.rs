//! How a table's files are encoded, learnt from the files before.
//!
//! **Owns** the choice of dictionary and compression per column. **Does not own** writing.
//!
//! Before the first file, a sample of the first batch says which columns are nearly all different: a dictionary for
//! them costs hashing and is thrown away. After each file its column chunks are looked at: where a dictionary
//! overflowed or was most of the chunk, there is none from then on; where compression saved under a twelfth, the bytes
//! are left as they are.
//!
//! I1: a choice changes size and speed, never what is read back.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use parquet::basic::{Compression as Codec, Encoding, PageType, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use watershed_types::{Error, Result};

use crate::error;

/// How files are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast, and every reader knows it.
    #[default]
    Snappy,
    /// Smaller; the level is 1 to 22.
    Zstd(i32),
    /// Fast (LZ4_RAW).
    Lz4,
}

impl std::str::FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let level = lower.strip_prefix("zstd(").and_then(|rest| rest.strip_suffix(')')).and_then(|level| level.trim().parse().ok());
        match (lower.as_str(), level) {
            ("none" | "uncompressed", _) => Ok(Self::None),
            ("snappy", _) => Ok(Self::Snappy),
            ("lz4", _) => Ok(Self::Lz4),
            ("zstd", _) => Ok(Self::Zstd(1)),
            (_, Some(level @ 1..=22)) => Ok(Self::Zstd(level)),
            _ => Err(error::bad_option(format!("compression '{text}' is not known"), "Write snappy, zstd, zstd(3), lz4 or none.")),
        }
    }
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Self::None => Codec::UNCOMPRESSED,
            Self::Snappy => Codec::SNAPPY,
            Self::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()),
            Self::Lz4 => Codec::LZ4_RAW,
        }
    }
}

/// Rows of a row group, at most.
pub(crate) const ROW_GROUP_ROWS: usize = 1 << 20;
/// Bytes of a row group, about. Not the whole file: what is written early is made durable beside the encoding of the
/// rest, and readers take row groups in parallel.
pub(crate) const ROW_GROUP_BYTES: usize = 32 << 20;
const SAMPLE: usize = 4096;
/// Leave a chunk uncompressed if compression leaves more than this share of it.
const WORTHLESS: f64 = 0.92;
/// Fewer values say nothing about a column.
const TELLING: i64 = 2000;

#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    plain: bool,
    uncompressed: bool,
}

/// What is known of a table's columns.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sampled: bool,
    columns: HashMap<String, Choice>,
}

impl Tuning {
    /// How the next file is written. `first` is the batch it starts with.
    pub(crate) fn properties(&self, first: &RecordBatch, compression: Compression) -> WriterProperties {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.sampled && first.num_rows() > 1000 {
            known.sampled = true;
            for (field, column) in first.schema_ref().fields().iter().zip(first.columns()) {
                if mostly_different(column) {
                    known.columns.entry(field.name().clone()).or_default().plain = true;
                }
            }
        }
        let mut builder = WriterProperties::builder()
            .set_compression(compression.codec())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(64))
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_data_page_size_limit(1 << 20)
            .set_data_page_row_count_limit(usize::MAX)
            .set_write_batch_size(8192)
            .set_created_by(concat!("watershed ", env!("CARGO_PKG_VERSION")).to_owned());
        let mut silent = Vec::new();
        for field in first.schema_ref().fields() {
            without_statistics(field.data_type(), vec![field.name().clone()], false, &mut silent);
        }
        for path in silent {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        for (path, choice) in &known.columns {
            let path = ColumnPath::new(path.split('\u{1f}').map(str::to_owned).collect());
            if choice.plain {
                builder = builder.set_column_dictionary_enabled(path.clone(), false);
            }
            if choice.uncompressed {
                builder = builder.set_column_compression(path, Codec::UNCOMPRESSED);
            }
        }
        builder.build()
    }

    /// Learns from a finished file.
    pub(crate) fn learn(&self, file: &ParquetMetaData) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in file.row_groups().iter().flat_map(|group| group.columns()) {
            if chunk.num_values() < TELLING {
                continue;
            }
            let plain = dictionary_wasted(chunk);
            let compressed = chunk.compression() != Codec::UNCOMPRESSED;
            let uncompressed = compressed && chunk.compressed_size() as f64 > WORTHLESS * chunk.uncompressed_size() as f64;
            if plain || uncompressed {
                let choice = known.columns.entry(chunk.column_path().parts().join("\u{1f}")).or_default();
                choice.plain |= plain;
                // A chunk with a dictionary compresses differently from one without: judge the plain one.
                choice.uncompressed |= uncompressed && !plain;
            }
        }
    }
}

/// The leaves whose bounds are of no use or misleading: bytes, whatever repeats, and floating point (readers compare NaN
/// as the greatest number, the bounds leave it out).
fn without_statistics(data_type: &DataType, path: Vec<String>, repeated: bool, out: &mut Vec<ColumnPath>) {
    let child = |names: &[&str]| path.iter().map(String::as_str).chain(names.iter().copied()).map(str::to_owned).collect();
    match data_type {
        DataType::Struct(fields) => {
            for field in fields {
                without_statistics(field.data_type(), child(&[field.name()]), repeated, out);
            }
        }
        DataType::List(item) | DataType::LargeList(item) => without_statistics(item.data_type(), child(&["list", item.name()]), true, out),
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type() {
                for field in pair {
                    without_statistics(field.data_type(), child(&[entries.name(), field.name()]), true, out);
                }
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Float32 | DataType::Float64 => out.push(ColumnPath::new(path)),
        _ if repeated => out.push(ColumnPath::new(path)),
        _ => {}
    }
}

fn dictionary_wasted(chunk: &ColumnChunkMetaData) -> bool {
    let Some(dictionary_at) = chunk.dictionary_page_offset() else { return false };
    let overflowed =
        chunk.page_encoding_stats().is_some_and(|pages| pages.iter().any(|page| page.page_type != PageType::DICTIONARY_PAGE && page.encoding == Encoding::PLAIN && page.count > 0));
    let dictionary = (chunk.data_page_offset() - dictionary_at) as f64;
    overflowed || dictionary > 0.7 * chunk.compressed_size() as f64
}

/// True if at least nine in ten of the first values differ from each other.
fn mostly_different(column: &ArrayRef) -> bool {
    let column = column.slice(0, column.len().min(SAMPLE));
    let hasher = RandomState::new();
    let mut seen: HashSet<u64> = HashSet::with_capacity(column.len());
    let mut values = 0usize;
    let mut see = |hash: u64| {
        values += 1;
        seen.insert(hash);
    };
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::Utf8View => column.as_string_view().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::Binary => column.as_binary::<i32>().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::BinaryView => column.as_binary_view().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::Int64 => column.as_primitive::<Int64Type>().iter().flatten().for_each(|value| see(hasher.hash_one(value))),
        DataType::Decimal128(_, _) => {
            column.as_primitive::<Decimal128Type>().iter().flatten().for_each(|value| see(hasher.hash_one(value)));
        }
        DataType::Timestamp(_, _) => {
            column.as_primitive::<TimestampMicrosecondType>().iter().flatten().for_each(|value| see(hasher.hash_one(value)));
        }
        _ => return false,
    }
    values > 500 && seen.len() * 10 >= values * 9
}
