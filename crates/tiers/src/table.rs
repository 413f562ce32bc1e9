//! One table over its tiers: asks, falls back, merges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use parking_lot::Mutex;
use watershed_types::{Error, Result};

use crate::error::{bad_parameter, no_key, uncovered, unfit};
use crate::key;
use crate::plan::{Name, Share, Standing, divide, settles};
use crate::request::Request;
use crate::tier::{Keys, Rows, Tier, projected};

/// How long a tier that failed is not asked again: readers do not all wait for a server that is away.
const REST: Duration = Duration::from_secs(1);
/// How long a tier may take before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often borders may move while a range is read.
const TURNS: usize = 5;

/// A table that can be read over all its tiers.
pub struct TieredTable {
    name: String,
    schema: SchemaRef,
    /// The place of the time column, and those of the key's columns.
    time: Option<usize>,
    key: Vec<usize>,
    tiers: [Option<Guarded>; 3],
}

/// A tier, and when it failed last.
struct Guarded {
    tier: Arc<dyn Tier>,
    failed: Mutex<Option<(Instant, Standing)>>,
}

/// What a tier did for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tier.
    pub tier: Name,
    /// What it can be asked.
    pub standing: Standing,
    /// Whether it was asked for rows.
    pub asked: bool,
    /// Rows of the answer that came from it.
    pub rows: usize,
}

/// Rows, and where they came from.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The rows, the oldest first.
    pub batch: RecordBatch,
    /// Every tier, hottest first.
    pub parts: Vec<Part>,
    /// Whether the limit left rows out.
    pub more: bool,
}

impl Guarded {
    fn new(tier: Arc<dyn Tier>) -> Guarded {
        Guarded { tier, failed: Mutex::default() }
    }

    fn down(&self, error: &Error) -> Standing {
        tracing::debug!(tier = %self.tier.name(), error = %error.report(), "a tier does not answer");
        metrics::counter!("watershed_tier_failures_total", "tier" => self.tier.name().to_string()).increment(1);
        let standing = Standing::Down { code: error.code(), message: error.message().to_owned() };
        *self.failed.lock() = Some((Instant::now(), standing.clone()));
        standing
    }

    async fn standing(&self, columns: &[usize]) -> Standing {
        if let Some((at, standing)) = self.failed.lock().clone()
            && at.elapsed() < REST
        {
            return standing;
        }
        match in_time(self.tier.name(), self.tier.standing(columns)).await {
            Ok(standing) => standing,
            Err(error) => self.down(&error),
        }
    }
}

async fn in_time<T>(tier: Name, asked: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::unavailable("TIER0008", format!("the {tier} tier did not answer within {} seconds", PATIENCE.as_secs()))
            .hint("Look at the server's load; the next tier was asked.")),
    }
}

impl TieredTable {
    /// A table over tiers. `key` names the columns of its key, in order; empty if it has none.
    pub fn new(name: &str, schema: SchemaRef, time: Option<usize>, key: Vec<usize>, tiers: Vec<Arc<dyn Tier>>) -> TieredTable {
        let find = |name: Name| tiers.iter().find(|tier| tier.name() == name).map(|tier| Guarded::new(Arc::clone(tier)));
        TieredTable { name: name.to_owned(), schema, time, key, tiers: Name::ALL.map(find) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Answers a read. Errors: `TIER0001` and `TIER0002` for what cannot be meant, `TIER0004` if no tier has a part of it.
    pub async fn read(&self, request: &Request) -> Result<Answer> {
        let wanted = request.places(&self.schema)?;
        // The time is needed to keep rows apart, the key to keep them single.
        let mut columns = wanted.clone();
        for place in self.time.iter().chain(&self.key) {
            if !columns.contains(place) {
                columns.push(*place);
            }
        }
        let mut answer = match request.keys.is_empty() {
            true => self.range(request, &columns).await?,
            false => self.keys(request, &columns).await?,
        };
        let places: Vec<usize> = (0..wanted.len()).collect();
        answer.batch = answer.batch.project(&places).map_err(|cause| unfit("merged", &self.name, cause))?;
        for part in &answer.parts {
            if part.asked {
                metrics::counter!("watershed_tier_reads_total", "tier" => part.tier.to_string()).increment(1);
            }
        }
        Ok(answer)
    }

    fn guarded(&self, name: Name) -> Option<&Guarded> {
        self.tiers[name as usize].as_ref()
    }

    async fn standings(&self, columns: &[usize]) -> [Standing; 3] {
        let standing = |name: Name| async move {
            match self.guarded(name) {
                Some(guarded) => guarded.standing(columns).await,
                None => Standing::Absent,
            }
        };
        let (hot, warm, cold) = futures::join!(standing(Name::Hot), standing(Name::Warm), standing(Name::Cold));
        [hot, warm, cold]
    }

    /// A range: divided by borders, each share read from its tier; when a tier fails or turns out to begin later, divided again.
    async fn range(&self, request: &Request, columns: &[usize]) -> Result<Answer> {
        if self.time.is_none() && (request.from > i64::MIN || request.to < i64::MAX) {
            return Err(bad_parameter(format!("table \"{}\" has no event time to read a range of", self.name), "Leave from and to out, or read by key."));
        }
        let mut standings = self.standings(columns).await;
        for _ in 0..TURNS {
            let shares = divide(request.from, request.to, &standings).map_err(|gap| self.not_covered(&standings, gap.from, gap.to))?;
            match self.collect(&shares, request.limit, columns, &mut standings).await {
                Some((batch, rows, more)) => return Ok(Answer { batch: batch?, parts: self.parts(standings, &rows), more }),
                None => continue,
            }
        }
        Err(uncovered(&self.name, "this range", "their borders keep moving"))
    }

    /// Reads the shares, the oldest first. `None` if a standing changed and they are to be divided again.
    async fn collect(&self, shares: &[Share], limit: usize, columns: &[usize], standings: &mut [Standing; 3]) -> Option<(Result<RecordBatch>, Vec<(Name, usize)>, bool)> {
        let (mut batches, mut rows, mut more, mut count) = (Vec::new(), Vec::new(), false, 0);
        for (index, share) in shares.iter().enumerate() {
            let guarded = self.guarded(share.tier)?;
            let read = in_time(share.tier, guarded.tier.by_time(share.from, share.to, limit - count, columns)).await;
            let standing = &mut standings[share.tier as usize];
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    *standing = guarded.down(&error);
                    return None;
                }
            };
            if let (Some(risen), Standing::Whole { floor, .. }) = (read.risen, standing) {
                *floor = risen.max(*floor);
                return None;
            }
            count += read.batch.num_rows();
            rows.push((share.tier, read.batch.num_rows()));
            batches.push(read.batch);
            more = read.more || (count == limit && index + 1 < shares.len());
            if count == limit || more {
                break;
            }
        }
        let merged = concat_batches(&projected(&self.schema, columns), &batches).map_err(|cause| unfit("merged", &self.name, cause));
        Some((merged.and_then(|batch| self.single(batch, columns)), rows, more))
    }

    /// Of rows with the same key the last one, which is the hottest's.
    fn single(&self, batch: RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
        if self.key.is_empty() || batch.num_rows() < 2 {
            return Ok(batch);
        }
        let broken = |cause: arrow::error::ArrowError| unfit("merged", &self.name, cause);
        let arrays: Vec<ArrayRef> = self.key.iter().filter_map(|place| columns.iter().position(|at| at == place)).map(|at| Arc::clone(batch.column(at))).collect();
        let fields = arrays.iter().map(|array| arrow::row::SortField::new(array.data_type().clone())).collect();
        let converter = arrow::row::RowConverter::new(fields).map_err(broken)?;
        let rows = converter.convert_columns(&arrays).map_err(broken)?;
        let mut last = std::collections::HashMap::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            last.insert(rows.row(row), row);
        }
        if last.len() == batch.num_rows() {
            return Ok(batch);
        }
        let mut kept: Vec<u32> = last.into_values().map(|row| row as u32).collect();
        kept.sort_unstable();
        take_record_batch(&batch, &UInt32Array::from(kept)).map_err(broken)
    }

    /// Keys: the hottest tier first, the next one for those it does not have, until one settles it.
    async fn keys(&self, request: &Request, columns: &[usize]) -> Result<Answer> {
        if self.key.is_empty() {
            return Err(no_key(&self.name));
        }
        let mut keys = key::parse(&request.keys, &self.key, &self.schema)?;
        let mut standings: [Standing; 3] = [Standing::Absent, Standing::Absent, Standing::Absent];
        let (mut batches, mut rows, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        for name in Name::ALL {
            let Some(guarded) = self.guarded(name) else { continue };
            if keys.is_empty() {
                // It was not needed; what it could have said is not asked.
                standings[name as usize] = Standing::Unfit("not needed".to_owned());
                continue;
            }
            let mut standing = guarded.standing(columns).await;
            if standing.takes_keys() {
                match in_time(name, guarded.tier.by_key(&keys, columns)).await {
                    Ok(read) => {
                        rows.push((name, read.batch.num_rows()));
                        keys = missing(keys, &read).map_err(|cause| unfit("merged", &self.name, cause))?;
                        keys = self.unsettled(keys, &standing);
                        batches.push(read.batch);
                    }
                    Err(error) => standing = guarded.down(&error),
                }
            }
            if let Standing::Down { message, .. } = &standing {
                refusals.push(message.clone());
            }
            standings[name as usize] = standing;
        }
        if !keys.is_empty() {
            return Err(uncovered(&self.name, "this key", &refusals.join("; ")));
        }
        let batch = concat_batches(&projected(&self.schema, columns), &batches).map_err(|cause| unfit("merged", &self.name, cause))?;
        let batch = self.between(batch, request, columns)?;
        let more = batch.num_rows() > request.limit;
        let batch = batch.slice(0, batch.num_rows().min(request.limit));
        Ok(Answer { batch, parts: self.parts(standings, &rows), more })
    }

    /// Leaves out the keys that surely are nowhere, as this tier would have them.
    fn unsettled(&self, keys: Keys, standing: &Standing) -> Keys {
        let times = self.time.and_then(|time| keys.places.iter().position(|place| *place == time)).and_then(|at| micros(&keys.columns[at]));
        let open: BooleanArray = (0..keys.len()).map(|row| Some(!settles(standing, times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row))))).collect();
        let columns = keys.columns.iter().map(|column| arrow::compute::filter(column, &open).unwrap_or_else(|_| Arc::clone(column))).collect();
        Keys { places: keys.places, columns }
    }

    /// Rows of keys whose time is in the range, the oldest first.
    fn between(&self, batch: RecordBatch, request: &Request, columns: &[usize]) -> Result<RecordBatch> {
        let broken = |cause: arrow::error::ArrowError| unfit("merged", &self.name, cause);
        let Some(times) = self.time.and_then(|time| columns.iter().position(|place| *place == time)).and_then(|at| micros(batch.column(at))) else { return Ok(batch) };
        let bounded = request.from > i64::MIN || request.to < i64::MAX;
        let inside: BooleanArray = times.iter().map(|time| Some(!bounded || time.is_some_and(|time| (request.from..request.to).contains(&time)))).collect();
        let order = arrow::compute::sort_to_indices(&arrow::compute::filter(&times, &inside).map_err(broken)?, None, None).map_err(broken)?;
        take_record_batch(&filter_record_batch(&batch, &inside).map_err(broken)?, &order).map_err(broken)
    }

    fn parts(&self, standings: [Standing; 3], rows: &[(Name, usize)]) -> Vec<Part> {
        let part = |(tier, standing): (Name, Standing)| Part {
            tier,
            standing,
            asked: rows.iter().any(|(name, _)| *name == tier),
            rows: rows.iter().filter(|(name, _)| *name == tier).map(|(_, rows)| rows).sum(),
        };
        Name::ALL.into_iter().zip(standings).map(part).collect()
    }

    fn not_covered(&self, standings: &[Standing; 3], from: i64, to: i64) -> Error {
        let down: Vec<&str> = standings.iter().filter_map(|standing| if let Standing::Down { message, .. } = standing { Some(message.as_str()) } else { None }).collect();
        let show = |micros: i64, open: &str| match micros {
            i64::MIN | i64::MAX => open.to_owned(),
            micros => watershed_engine::time::timestamp(micros),
        };
        uncovered(&self.name, &format!("from {} to {}", show(from, "the beginning"), show(to, "now")), &down.join("; "))
    }
}

/// Times as microseconds.
fn micros(column: &ArrayRef) -> Option<arrow::array::PrimitiveArray<TimestampMicrosecondType>> {
    let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
    times.as_primitive_opt::<TimestampMicrosecondType>().cloned()
}

/// The keys that were not found.
fn missing(keys: Keys, read: &Rows) -> std::result::Result<Keys, arrow::error::ArrowError> {
    let missing: BooleanArray = read.found.iter().map(|found| Some(!found)).collect();
    let columns = keys.columns.iter().map(|column| arrow::compute::filter(column, &missing)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Keys { places: keys.places, columns })
}

#[cfg(test)]
mod tests;
