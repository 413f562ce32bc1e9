//! Fan-out: how many rows one row becomes in a join.
//!
//! **Owns** the limit, and the largest number seen. **Does not own** the join, nor stopping the run: who runs it asks for
//! [`FanOut::error`].
//!
//! I1: rows are counted stretch by stretch while they are made, a stretch being [`STRETCH`] pairs at most, so that a row that
//!     goes beyond the limit is noticed before what it makes fills the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::expressions::Column;
use parking_lot::Mutex;
use watershed_types::Error;

use super::batch::StreamBatch;

/// Pairs that are looked at, and yielded, at a time.
pub const STRETCH: usize = 16_384;

/// The fan-out of one join.
pub struct FanOut {
    /// The join, as metrics name it.
    operator: String,
    /// The columns that rows meet by.
    keys: String,
    /// Rows that one row may become; 0 without a limit.
    most: AtomicU64,
    largest: AtomicU64,
    /// Where the first row came from that went beyond the limit.
    broken: Mutex<Option<String>>,
}

impl FanOut {
    /// Of a join by these keys; without a limit as yet.
    pub fn new(operator: impl Into<String>, keys: &[Arc<dyn PhysicalExpr>]) -> Self {
        let name = |key: &Arc<dyn PhysicalExpr>| match (key.as_ref() as &dyn std::any::Any).downcast_ref::<Column>() {
            Some(column) => column.name().to_owned(),
            None => key.to_string(),
        };
        let keys = keys.iter().map(name).collect::<Vec<_>>().join(", ");
        Self { operator: operator.into(), keys, most: AtomicU64::new(0), largest: AtomicU64::new(0), broken: Mutex::new(None) }
    }

    /// The join's name.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// Sets the limit; 0 takes it away.
    pub fn limit(&self, rows: u64) {
        self.most.store(rows, Ordering::Relaxed);
    }

    /// The most rows that one row has become since the start.
    pub fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    /// A sentence once a row has come near the limit.
    pub fn notice(&self) -> Option<String> {
        let (most, largest) = (self.most.load(Ordering::Relaxed), self.largest());
        (most > 0 && largest > most / 10).then(|| format!("join \"{}\" has made {largest} rows of one row {}; the run stops beyond {most} (max_fan_out)", self.operator, self.by()))
    }

    /// Why the run has to stop, if it has.
    pub fn error(&self, table: &str) -> Option<Error> {
        let place = self.broken.lock().clone()?;
        let most = self.most.load(Ordering::Relaxed);
        let message = format!("table \"{table}\": one row{place} becomes more than {most} rows in join \"{}\" {}", self.operator, self.by());
        let hint = "Nothing of this epoch was committed. Find the key that comes too often, and leave it out of one side or join by more columns; \
                    or raise [engine] max_fan_out in watershed.toml.";
        Some(Error::rejected("RUN0034", message).hint(hint))
    }

    fn by(&self) -> String {
        if self.keys.is_empty() { "where every row meets every other".to_owned() } else { format!("by {}", self.keys) }
    }

    /// Counts from here on.
    pub fn meter(&self) -> Meter<'_> {
        Meter { fan_out: self, most: self.most.load(Ordering::Relaxed), row: None, rows: 0 }
    }
}

/// Counts the rows made of each row of a batch.
pub struct Meter<'f> {
    fan_out: &'f FanOut,
    most: u64,
    /// The source row: what was made of its copies counts together.
    row: Option<u32>,
    rows: u64,
}

impl Meter<'_> {
    /// So many more rows of a row of this batch. Rows come in their order.
    pub fn count(&mut self, batch: &StreamBatch, index: usize, rows: u64) -> Result<()> {
        let row = Some(batch.row(index));
        self.rows = if self.row == row { self.rows + rows } else { rows };
        self.row = row;
        if self.rows > self.fan_out.largest() {
            self.fan_out.largest.fetch_max(self.rows, Ordering::Relaxed);
        }
        if self.most == 0 || self.rows <= self.most {
            return Ok(());
        }
        let place = batch
            .origin
            .as_ref()
            .map_or_else(String::new, |origin| format!(" at position {} of partition {}", origin.position(origin.record_of[batch.row(index) as usize]), origin.chunk.partition));
        self.fan_out.broken.lock().get_or_insert(place);
        Err(DataFusionError::ResourcesExhausted(format!("one row becomes more than {} rows", self.most)))
    }
}
