//! What `WITH (connector = 'http', …)` may say.
//!
//! **Owns** defaults and bounds. **Does not own** the folder (the engine gives it) or the listener's address.

use std::time::Duration;

use watershed_types::{Error, Options, Result, parse_duration};

/// The largest `max_body`: a frame's length must fit its header and a chunk 2 GiB.
const LARGEST_BODY: u64 = 1 << 30;
/// More partitions than this are surely a slip: each has a thread and a folder.
const MOST_PARTITIONS: u64 = 1_024;

/// The options of an `http` source.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Partitions that take new records. Folders of partitions beyond this number stay readable.
    pub partitions: u32,
    /// The largest body, after decompression.
    pub max_body: u64,
    /// The largest record.
    pub max_record: u64,
    /// A segment is closed when the next group of frames would make it longer than this.
    pub segment_bytes: u64,
    /// How long committed segments are kept, counted from their last record. `None`: for ever.
    pub retention: Option<Duration>,
    /// Committed segments are deleted, oldest first, while a partition holds more than this.
    pub retention_bytes: Option<u64>,
    /// Unread bytes (all partitions together) beyond which requests are answered 429.
    pub max_backlog: u64,
    /// The JSON field whose raw value text chooses the partition. `None`: round robin by request.
    pub key: Option<String>,
    /// Whether to wait for the disk. `false` survives a crash of the process, not one of the machine.
    pub fsync: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            max_body: 16 << 20,
            max_record: 1 << 20,
            segment_bytes: 128 << 20,
            retention: Some(Duration::from_secs(24 * 3_600)),
            retention_bytes: None,
            max_backlog: 1 << 30,
            key: None,
            fsync: true,
        }
    }
}

impl HttpOptions {
    /// Takes what this connector knows from a statement's options; the rest stays for others.
    pub fn take(options: &mut Options) -> Result<Self> {
        let standard = Self::default();
        let owner = options.owner().to_owned();
        let partitions = options.number("partitions")?.unwrap_or(u64::from(standard.partitions));
        within(&owner, "partitions", partitions, 1, MOST_PARTITIONS)?;
        let max_body = options.bytes("max_body")?.unwrap_or(standard.max_body);
        within(&owner, "max_body", max_body, 1, LARGEST_BODY)?;
        let max_record = options.bytes("max_record")?.unwrap_or(standard.max_record.min(max_body));
        within(&owner, "max_record", max_record, 1, max_body)?;
        let segment_bytes = options.bytes("segment_bytes")?.unwrap_or(standard.segment_bytes);
        within(&owner, "segment_bytes", segment_bytes, 4 << 10, 4 << 30)?;
        let retention = options.parse("retention", "a duration such as '24h', or 'forever'", |text| match text.trim().eq_ignore_ascii_case("forever") {
            true => Some(None),
            false => parse_duration(text).map(Some),
        })?;
        Ok(Self {
            partitions: partitions as u32,
            max_body,
            max_record,
            segment_bytes,
            retention: retention.unwrap_or(standard.retention),
            retention_bytes: options.bytes("retention_bytes")?,
            max_backlog: options.bytes("max_backlog")?.unwrap_or(standard.max_backlog),
            key: options.take("key"),
            fsync: options.flag("fsync")?.unwrap_or(standard.fsync),
        })
    }
}

fn within(owner: &str, key: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid("HTTP0010", format!("{owner}: option \"{key}\" is {value}, outside {least} to {most}")).hint(format!("Choose {key} between {least} and {most}.")))
}
