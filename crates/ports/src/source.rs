//! Where records come from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use watershed_types::{Positions, Result};

/// How records lie in a chunk's bytes.
#[derive(Debug, Clone)]
pub enum Framing {
    /// One record a line (`\n` or `\r\n`); blank lines are no records. The last line may lack its newline.
    /// A source whose format is CSV never splits a quoted field over two chunks; a quoted newline stays inside.
    Lines,
    /// Records at these `(start, end)` byte ranges.
    Ranges(Arc<[(u32, u32)]>),
}

/// A slice of raw input: whole records, in order, of one partition.
#[derive(Debug, Clone)]
pub struct RawChunk {
    /// The partition whose watermark these records move: `"0"` for files, the partition number for logs.
    pub partition: Arc<str>,
    /// The key in [`Positions`] that this chunk moves: the file's name, or the partition.
    pub stretch: Arc<str>,
    /// Where the first record starts, in the units of [`watershed_types::PartitionPosition::offset`].
    pub offset: u64,
    /// Where reading goes on after this chunk.
    pub end_offset: u64,
    /// The ordinal of the first record (lines or log records before it).
    pub record: u64,
    /// True where a record's position is `stretch` + byte (files), false where it is its ordinal (logs).
    pub byte_positions: bool,
    /// When the records were accepted, microseconds since 1970 (files: when read).
    pub ingested_at: i64,
    /// How to find the records.
    pub framing: Framing,
    /// The records. At most 2 GiB.
    pub bytes: Bytes,
    /// True if `bytes` starts with a CSV header line that is not a record.
    pub header: bool,
    /// What a log knows about each record besides its value; absent where positions alone say it all.
    pub facts: Option<Arc<RecordFacts>>,
    /// Records that were gone before they could be read, just before this chunk: the ledger shows them as lost.
    pub lost: u64,
    /// Records of this stretch that the source's options leave out: read and filtered in the ledger.
    pub skipped: u64,
}

impl RawChunk {
    /// A chunk of a log: records at byte ranges, positions that are ordinals, nothing lost or left out.
    pub fn of_log(partition: Arc<str>, first: u64, end: u64, ingested_at: i64, ranges: Arc<[(u32, u32)]>, bytes: Bytes) -> Self {
        Self {
            stretch: Arc::clone(&partition),
            partition,
            offset: first,
            end_offset: end,
            record: first,
            byte_positions: false,
            ingested_at,
            framing: Framing::Ranges(ranges),
            bytes,
            header: false,
            facts: None,
            lost: 0,
            skipped: 0,
        }
    }
}

/// What a log knows about each record of a chunk. Lists are per record, in order, or empty where nobody asked for them.
/// Byte ranges are `(start, end)` in the chunk's bytes, so that keys and headers travel in the same buffer.
#[derive(Debug, Clone, Default)]
pub struct RecordFacts {
    /// Each record's offset: logs with compaction or transactions have holes.
    pub offsets: Vec<u64>,
    /// Each record's timestamp, microseconds since 1970; [`i64::MIN`] where the log has none.
    pub timestamps: Vec<i64>,
    /// Each record's key.
    pub keys: Vec<Option<(u32, u32)>>,
    /// Each record's headers, as a range of [`RecordFacts::header_items`].
    pub headers: Vec<(u32, u32)>,
    /// Header names and values.
    pub header_items: Vec<HeaderItem>,
    /// The topic, where a source reads several; [`None`] elsewhere.
    pub topic: Option<Arc<str>>,
    /// Ordinals in the chunk of records that have no value at all (tombstones), ascending.
    pub tombstones: Vec<u32>,
}

/// One header of a record, as byte ranges in the chunk.
#[derive(Debug, Clone, Copy)]
pub struct HeaderItem {
    /// Its name, UTF-8.
    pub name: (u32, u32),
    /// Its value; headers may have none.
    pub value: Option<(u32, u32)>,
}

/// What a poll found.
#[derive(Debug)]
pub enum Polled {
    /// Some records.
    Chunk(RawChunk),
    /// Nothing at the moment; more may come. The source is caught up.
    CaughtUp,
    /// Nothing of the partitions that may be read; others are held, see [`Source::hold`].
    Held,
    /// Nothing, ever again (a bounded generator).
    End,
}

/// How far behind a source is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lag {
    /// Records not yet read, where the source knows.
    pub records: Option<u64>,
    /// Bytes not yet read, where the source knows.
    pub bytes: Option<u64>,
    /// The same by partition, for sources whose partitions are filled by somebody else.
    pub partitions: Vec<PartitionLag>,
}

/// One partition as its reader sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartitionLag {
    /// As [`RawChunk::partition`] names it.
    pub partition: String,
    /// The next record to be read.
    pub position: u64,
    /// Where the partition ends at the moment: the position of the next record somebody writes.
    pub end: u64,
    /// The key that comes most often and its share of the partition's records (0 to 1), by a sketch over the recent ones.
    pub hot_key: Option<(String, f64)>,
}

/// A replayable stream of records.
///
/// Guarantees: after [`Source::seek`] to positions of an earlier run, the same records come in the same order per
/// partition, unless retention or somebody outside removed them, which is an error and never a silent gap.
/// Non-guarantees: how records are sliced into chunks; the order between partitions.
/// On a crash nothing needs to be undone: reading has no effect on the outside.
pub trait Source: Send {
    /// Goes to the positions of the last committed epoch; empty positions mean the beginning. Called once, first.
    fn seek(&mut self, positions: &Positions) -> Result<()>;

    /// The next records, about `max_bytes` of them. Waits up to `wait` if there are none.
    /// A single record larger than `max_bytes` comes in a chunk of its own.
    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled>;

    /// `run --once` is about to stop at [`Polled::CaughtUp`]: an unterminated last record counts if it is whole.
    fn drain(&mut self) {}

    /// The partitions there are, as [`RawChunk::partition`] will name them. Until each was heard, or has been silent for
    /// the idle timeout, the source's watermark does not move. Asked once, after [`Source::seek`]; empty if unknown.
    fn partitions(&self) -> Vec<String> {
        Vec::new()
    }

    /// Leaves these partitions alone until told otherwise, and reads all others: they have run ahead in event time. Takes the
    /// place of what was said before. What was gathered of them already may still be handed out.
    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()>;

    /// The partitions that have records to read, held ones among them, as far as is known. All others are at their end.
    fn unread(&mut self) -> BTreeSet<String>;

    /// How far behind the reader is now.
    fn lag(&mut self) -> Lag;

    /// These positions are committed: what lies before them will not be asked for again.
    fn committed(&mut self, positions: &Positions) -> Result<()> {
        let _ = positions;
        Ok(())
    }

    /// Conditions worth a person's attention (a file that waits for the end of its last line, a file that vanished).
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }
}
