//! Which stretch of time the keys cover.
//!
//! **Owns** the index by time and the stamp's fields `run`, `floor` and `newest`. **Does not own** the keys' form, or the stamp.
//!
//! ```text
//!   times    floor                       newest
//! ───────────┼─────────────────────────────┤
//!  trimmed   │ every key is there          │
//! ```
//!
//! The floor rises only: by retention, and to above all that ever was when the server is not the one that took it (its
//! `run_id` differs), for a restarted server may have lost its last second. It rises before keys are removed.

use arrow::array::{Array as _, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use redis::{Connection, RedisError, ServerError};
use watershed_types::{Error, Result};

use crate::options::Retention;

/// Keys removed at a time.
const PAGE: isize = 1_000;

/// Says the newest time the table holds elsewhere, `None` if it holds nothing.
type Past = Box<dyn Fn() -> Result<Option<i64>> + Send>;

pub(crate) struct Coverage {
    retention: Retention,
    index: String,
    past: Option<Past>,
    /// The newest time that was sent.
    newest: Option<i64>,
}

/// Why the index could not be kept.
pub(crate) enum Unkept {
    Lost(RedisError),
    Refused(ServerError),
    Past(Error),
}

impl From<RedisError> for Unkept {
    fn from(cause: RedisError) -> Self {
        match ServerError::try_from(cause) {
            Ok(said) => Unkept::Refused(said),
            Err(cause) => Unkept::Lost(cause),
        }
    }
}

/// The server's name for its present life.
pub(crate) fn run_id(connection: &mut Connection) -> redis::RedisResult<String> {
    let info: String = redis::cmd("INFO").arg("server").query(connection)?;
    Ok(info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned())
}

/// A batch's times as microseconds.
pub(crate) fn micros(batch: &RecordBatch, column: usize) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
    let zone = match batch.column(column).data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => return None,
    };
    let times = cast(batch.column(column), &DataType::Timestamp(TimeUnit::Microsecond, zone)).ok()?;
    Some(times.as_primitive::<TimestampMicrosecondType>().clone())
}

impl Coverage {
    pub fn new(retention: Retention, index: String) -> Coverage {
        Coverage { retention, index, past: None, newest: None }
    }

    pub fn with_past(self, past: Past) -> Coverage {
        Coverage { past: Some(past), ..self }
    }

    pub fn index(&self) -> &str {
        &self.index
    }

    /// The times of rows that are about to be sent.
    pub fn note(&mut self, batch: &RecordBatch) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
        let times = micros(batch, self.retention.time)?;
        self.newest = self.newest.max(arrow::compute::max(&times));
        Some(times)
    }

    /// Looks whether the server is the one it was, raises the floor, removes what is below it.
    pub fn keep(&mut self, connection: &mut Connection, stamp: &str, new: bool) -> std::result::Result<(), Unkept> {
        let run = run_id(connection)?;
        let (was, floor, newest): (Option<String>, Option<i64>, Option<i64>) = redis::cmd("HMGET").arg(stamp).arg(&["run", "floor", "newest"]).query(connection)?;
        self.newest = self.newest.max(newest);
        let same = was.as_deref() == Some(run.as_str());
        let mut floor = match floor.filter(|_| same) {
            Some(floor) => floor,
            None => {
                let past = self.past.as_ref().map_or(Ok(None), |past| past()).map_err(Unkept::Past)?;
                match past.max(self.newest) {
                    // Nothing came before: everything there will be is here.
                    None if new => i64::MIN,
                    None => return Ok(()),
                    Some(newest) => newest.saturating_add(1),
                }
            }
        };
        let keep = i64::try_from(self.retention.keep.as_micros()).unwrap_or(i64::MAX);
        if let Some(newest) = self.newest {
            floor = floor.max(newest.saturating_sub(keep));
        }
        let mut fields = redis::cmd("HSET");
        fields.arg(stamp).arg("run").arg(&run).arg("floor").arg(floor);
        if let Some(newest) = self.newest {
            fields.arg("newest").arg(newest);
        }
        fields.exec(connection)?;
        self.trim(connection, floor)
    }

    fn trim(&self, connection: &mut Connection, floor: i64) -> std::result::Result<(), Unkept> {
        loop {
            let old: Vec<Vec<u8>> = redis::cmd("ZRANGEBYSCORE").arg(&self.index).arg("-inf").arg(format!("({floor}")).arg("LIMIT").arg(0).arg(PAGE).query(connection)?;
            if old.is_empty() {
                return Ok(());
            }
            redis::pipe().cmd("UNLINK").arg(&old).ignore().cmd("ZREM").arg(&self.index).arg(&old).ignore().exec(connection)?;
        }
    }
}
