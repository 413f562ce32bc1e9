//! Epochs, generations, positions, zones, reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The unit of exactly-once: a run of ticks committed as one. The first epoch is 1; 0 means "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before the first epoch.
    pub const ZERO: Epoch = Epoch(0);
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which run of a pipeline owns it. A newer generation fences an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far one stretch of a source has been read: the *next* thing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// Where the next record starts: a byte for files, an offset for logs.
    pub offset: u64,
    /// How many records came before it in this stretch: the line number less one for files, the offset for logs.
    pub record: u64,
}

/// How far a source has been read, by stretch: a file's name, a log's partition.
pub type Positions = BTreeMap<String, PartitionPosition>;

/// The lake zone a table belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// As it came.
    Bronze,
    /// Cleaned.
    #[default]
    Silver,
    /// Aggregated, for readers.
    Gold,
}

impl Zone {
    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Zone::Bronze => "bronze",
            Zone::Silver => "silver",
            Zone::Gold => "gold",
        }
    }
}

impl FromStr for Zone {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "bronze" => Ok(Zone::Bronze),
            "silver" => Ok(Zone::Silver),
            "gold" => Ok(Zone::Gold),
            _ => Err(()),
        }
    }
}

/// Why a row waits in the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The bytes are not a record of the declared format.
    Corrupt,
    /// A record, but not of the declared columns.
    Schema,
    /// An expectation, or the query itself, refused it.
    Violation,
    /// Behind its partition's watermark.
    Late,
    /// A sink refused it.
    Sink,
}

impl Reason {
    /// As stored in `system.quarantine.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Corrupt => "corrupt",
            Reason::Schema => "schema",
            Reason::Violation => "violation",
            Reason::Late => "late",
            Reason::Sink => "sink",
        }
    }
}
