//! Enriching a stream from a table outside: each row with what the table holds of its key at that moment.
//!
//! **Owns** which keys are asked for, in which requests, and what is remembered of the answers. **Does not own** the table (an
//! adapter's [`LookupTable`]) or how long is waited for it (the run's).
//!
//! ```text
//! stream ─ keys computed ─▶ Enrich ─▶ Settle ─▶ stream and table columns
//!          (stateless)      a tick    (stateless: what was found meets the join's
//!                           at once    other conditions; rows without a partner)
//! ```
//!
//! I1: a key is asked for once a tick, however many rows have it; a NULL key is never asked for and finds nothing.
//! I2: a row goes on with one answer, whatever the table says later; nothing of it is state that a restart needs.
//! I3: an unreadable answer is the row's trouble alone: it is refused as one on which the query fails.
//!
//! Failure: while the table is away the tick waits, and with it everything behind; nothing is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::cast::{as_boolean_array, as_string_array};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use hashbrown::HashMap;
use parking_lot::Mutex;
use watershed_ports::{LookupAnswer, LookupTable};
use watershed_types::{Error, Options};

use super::answers::{Answer, Answers};
use super::batch::StreamBatch;

/// Requests that are under way at a time.
const IN_FLIGHT: usize = 8;

/// Waits for what is outside.
pub trait Waits: Send + Sync {
    /// Makes the attempt until it works, fails for good, or there is no more waiting.
    fn wait_for(&self, table: &str, attempt: &mut dyn FnMut() -> watershed_types::Result<()>) -> watershed_types::Result<()>;
}

/// How a table is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupOptions {
    /// Answers kept.
    pub max_rows: usize,
    /// For how long.
    pub ttl: Duration,
    /// Keys a request.
    pub batch: usize,
}

impl LookupOptions {
    /// Takes what is the same for every connector. Errors: `SQL0103`.
    pub fn take(options: &mut Options) -> watershed_types::Result<LookupOptions> {
        let max_rows = options.number("lookup.cache.max_rows")?.unwrap_or(100_000);
        let ttl = options.duration("lookup.cache.ttl")?.unwrap_or(Duration::from_secs(60));
        let keys = |text: &str| text.trim().replace('_', "").parse().ok().filter(|keys| (1..=100_000).contains(keys));
        let batch = options.parse("lookup.batch", "a whole number between 1 and 100,000", keys)?.unwrap_or(1_000);
        Ok(LookupOptions { max_rows: usize::try_from(max_rows).unwrap_or(usize::MAX), ttl, batch })
    }
}

/// A table that is asked by key, and what it has answered. Shared by all joins with it.
pub struct Enrichment {
    table: Arc<dyn LookupTable>,
    schema: SchemaRef,
    key: Vec<usize>,
    options: LookupOptions,
    keys: RowConverter,
    rows: RowConverter,
    answers: Mutex<Answers>,
}

impl std::fmt::Debug for Enrichment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrichment({})", self.table.name())
    }
}

/// What was found for the keys of a tick.
struct Found {
    /// By batch and row: which of the tick's distinct keys it has; `None` for NULL.
    slots: Vec<Vec<Option<u32>>>,
    /// By distinct key: its row among `rows`.
    row_of: Vec<Option<u32>>,
    /// By distinct key: why its answer is none.
    trouble: HashMap<u32, String>,
    /// The rows that were found, with the table's columns.
    rows: Vec<ArrayRef>,
}

impl Enrichment {
    /// A table with these columns, asked by these of them. Asks nothing yet.
    pub fn new(table: Arc<dyn LookupTable>, schema: SchemaRef, key: Vec<usize>, options: LookupOptions) -> Result<Arc<Self>> {
        let field = |index: usize| SortField::new(schema.field(index).data_type().clone());
        let keys = RowConverter::new(key.iter().map(|index| field(*index)).collect())?;
        let rows = RowConverter::new((0..schema.fields().len()).map(field).collect())?;
        let lasts = i64::try_from(options.ttl.as_micros()).unwrap_or(i64::MAX);
        Ok(Arc::new(Self { table, schema, key, options, keys, rows, answers: Mutex::new(Answers::new(options.max_rows, lasts)) }))
    }

    /// The static table's name.
    pub fn name(&self) -> &str {
        self.table.name()
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns it is asked by, in the order of its primary key.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// How it is asked.
    pub fn options(&self) -> &LookupOptions {
        &self.options
    }

    /// Connects and compares its columns with the declared ones.
    pub fn check(&self, waits: &dyn Waits) -> watershed_types::Result<()> {
        waits.wait_for(self.name(), &mut || self.table.check())
    }

    /// What the table holds of the keys in these columns of each batch.
    fn find(&self, batches: &[StreamBatch], columns: &[usize], now: i64, waits: &dyn Waits) -> watershed_types::Result<Found> {
        let encoded = self.encode(batches, columns).map_err(|e| self.unfit(&e))?;
        let (slots, distinct) = slots(&encoded);
        let mut answers = self.known(&distinct, &encoded, now);
        let unknown: Vec<u32> = (0..distinct.len() as u32).filter(|slot| answers[*slot as usize].is_none()).collect();
        let hits = (distinct.len() - unknown.len()) as u64;
        metrics::counter!("watershed_lookup_hits_total", "table" => self.name().to_owned()).increment(hits);
        metrics::counter!("watershed_lookup_misses_total", "table" => self.name().to_owned()).increment(unknown.len() as u64);
        let mut trouble = HashMap::new();
        for flight in unknown.chunks(self.options.batch * IN_FLIGHT) {
            let requests: Vec<&[u32]> = flight.chunks(self.options.batch).collect();
            for (slots, answer) in requests.iter().zip(self.ask(&requests, &encoded, &distinct, waits)?) {
                self.take(slots, &answer, &mut answers, &mut trouble).map_err(|e| self.unfit(&e))?;
            }
            // What was answered before the table went away again is not asked for twice.
            let mut kept = self.answers.lock();
            for slot in flight {
                if let Some(answer) = &answers[*slot as usize] {
                    kept.put(distinct[*slot as usize].bytes(&encoded), answer.clone(), now);
                }
            }
            metrics::gauge!("watershed_lookup_cached_rows", "table" => self.name().to_owned()).set(kept.len() as f64);
        }
        let mut row_of = Vec::with_capacity(answers.len());
        let mut found: Vec<Arc<[u8]>> = Vec::new();
        for answer in answers {
            let row = answer.flatten();
            row_of.push(row.is_some().then_some(found.len() as u32));
            found.extend(row);
        }
        let parser = self.rows.parser();
        let rows = self.rows.convert_rows(found.iter().map(|row| parser.parse(row))).map_err(|e| self.unfit(&e.into()))?;
        Ok(Found { slots, row_of, trouble, rows })
    }

    fn encode(&self, batches: &[StreamBatch], columns: &[usize]) -> Result<Vec<Keys>> {
        let encode = |input: &StreamBatch| {
            let columns: Vec<ArrayRef> = columns.iter().map(|index| Arc::clone(input.batch.column(*index))).collect();
            let rows = self.keys.convert_columns(&columns)?;
            let null = (0..input.batch.num_rows()).map(|row| columns.iter().any(|column| column.is_null(row))).collect();
            Ok(Keys { rows, null })
        };
        batches.iter().map(encode).collect()
    }

    /// By distinct key: what is remembered of it.
    fn known(&self, distinct: &[At], keys: &[Keys], now: i64) -> Vec<Option<Answer>> {
        let mut answers = self.answers.lock();
        distinct.iter().map(|at| answers.get(at.bytes(keys), now)).collect()
    }

    /// Sends requests for these keys until they are answered.
    fn ask(&self, requests: &[&[u32]], keys: &[Keys], distinct: &[At], waits: &dyn Waits) -> watershed_types::Result<Vec<LookupAnswer>> {
        let request = |slots: &&[u32]| {
            let columns = self.keys.convert_rows(slots.iter().map(|slot| distinct[*slot as usize].row(keys)))?;
            let fields: Vec<Field> = self.key.iter().map(|index| self.schema.field(*index).clone().with_nullable(false)).collect();
            Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
        };
        let batches = requests.iter().map(request).collect::<Result<Vec<_>>>().map_err(|e| self.unfit(&e))?;
        let mut answered = Vec::new();
        waits.wait_for(self.name(), &mut || {
            let started = Instant::now();
            let asked = self.table.ask(&batches);
            metrics::counter!("watershed_lookup_requests_total", "table" => self.name().to_owned()).increment(batches.len() as u64);
            metrics::histogram!("watershed_lookup_duration_seconds", "table" => self.name().to_owned()).record(started.elapsed().as_secs_f64());
            answered = asked?;
            Ok(())
        })?;
        match answered.len() == batches.len() {
            true => Ok(answered),
            false => Err(self.unfit(&DataFusionError::Internal(format!("{} answers to {} requests", answered.len(), batches.len())))),
        }
    }

    /// Takes the answer to the request for some keys.
    fn take(&self, slots: &[u32], answer: &LookupAnswer, answers: &mut [Option<Answer>], trouble: &mut HashMap<u32, String>) -> Result<()> {
        let outside = || DataFusionError::Internal("an answer to a key that was not asked for".to_owned());
        for slot in slots {
            answers[*slot as usize] = Some(None);
        }
        let rows = self.rows.convert_columns(answer.rows.columns())?;
        if rows.num_rows() != answer.of.len() {
            return Err(DataFusionError::Internal("rows of no key".to_owned()));
        }
        for (row, of) in rows.iter().zip(&answer.of) {
            let slot = *slots.get(*of as usize).ok_or_else(outside)?;
            if matches!(answers[slot as usize], Some(Some(_))) {
                trouble.insert(slot, format!("static table \"{}\" has several rows of its key", self.name()));
            }
            answers[slot as usize] = Some(Some(Arc::from(row.data())));
        }
        for (of, why) in &answer.unreadable {
            trouble.insert(*slots.get(*of as usize).ok_or_else(outside)?, format!("static table \"{}\": {why}", self.name()));
        }
        // What is wrong is looked at again by the next tick, when it may have been corrected.
        for slot in trouble.keys() {
            answers[*slot as usize] = None;
        }
        Ok(())
    }

    fn unfit(&self, error: &DataFusionError) -> Error {
        Error::internal("RUN0040", format!("static table \"{}\": an answer does not have the declared columns: {}", self.name(), error.strip_backtrace()))
            .hint("Please report this.")
    }
}

/// The keys of a batch.
struct Keys {
    rows: Rows,
    null: Vec<bool>,
}

/// Where a distinct key was seen first.
struct At {
    batch: usize,
    row: usize,
}

impl At {
    fn row<'a>(&self, keys: &'a [Keys]) -> arrow::row::Row<'a> {
        keys[self.batch].rows.row(self.row)
    }
    fn bytes<'a>(&self, keys: &'a [Keys]) -> &'a [u8] {
        self.row(keys).data()
    }
}

/// The distinct keys, and by batch and row which of them it has.
fn slots(keys: &[Keys]) -> (Vec<Vec<Option<u32>>>, Vec<At>) {
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut distinct = Vec::new();
    let mut slots = Vec::with_capacity(keys.len());
    for (batch, of) in keys.iter().enumerate() {
        let slot = |row: usize| {
            if of.null[row] {
                return None;
            }
            Some(*seen.entry(of.rows.row(row).data()).or_insert_with(|| {
                distinct.push(At { batch, row });
                distinct.len() as u32 - 1
            }))
        };
        slots.push((0..of.null.len()).map(slot).collect());
    }
    (slots, distinct)
}

/// Puts a table's columns beside a stream's.
pub struct EnrichSpec {
    /// The table.
    pub table: Arc<Enrichment>,
    /// The stream's columns that hold the key, which come last.
    pub keys: Vec<usize>,
    /// The stream's columns without the keys, the table's, and [`FOUND`] and [`TROUBLE`].
    pub schema: SchemaRef,
}

/// The column that says whether the table has a row.
pub const FOUND: &str = "__ws_found";
/// The column that says why its row cannot be used.
pub const TROUBLE: &str = "__ws_trouble";

impl EnrichSpec {
    /// For a stream with these columns, the last of which are the key.
    pub fn new(table: Arc<Enrichment>, stream: &SchemaRef) -> EnrichSpec {
        let own = stream.fields().len() - table.key.len();
        let mut fields: Vec<Field> = stream.fields().iter().take(own).map(|f| f.as_ref().clone()).collect();
        fields.extend(table.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
        fields.push(Field::new(FOUND, DataType::Boolean, false));
        fields.push(Field::new(TROUBLE, DataType::Utf8, true));
        EnrichSpec { keys: (own..own + table.key.len()).collect(), table, schema: Arc::new(Schema::new(fields)) }
    }

    /// Asks for the keys of all batches, and gives each row what was found. `now` is the tick's wall clock.
    pub fn run(&self, inputs: Vec<StreamBatch>, now: i64, waits: &dyn Waits) -> watershed_types::Result<Vec<StreamBatch>> {
        if inputs.iter().all(|input| input.batch.num_rows() == 0) {
            return Ok(vec![]);
        }
        let found = self.table.find(&inputs, &self.keys, now, waits)?;
        let enriched = inputs.into_iter().zip(&found.slots).map(|(input, slots)| self.beside(input, slots, &found)).collect::<Result<Vec<_>>>();
        enriched.map_err(|e| self.table.unfit(&e))
    }

    fn beside(&self, input: StreamBatch, slots: &[Option<u32>], found: &Found) -> Result<StreamBatch> {
        let row_of = |slot: &Option<u32>| slot.and_then(|slot| found.row_of[slot as usize]);
        let indices: UInt32Array = slots.iter().map(row_of).collect();
        let mut columns: Vec<ArrayRef> = input.batch.columns()[..self.keys[0]].to_vec();
        for column in &found.rows {
            columns.push(take(column, &indices, None)?);
        }
        columns.push(Arc::new(BooleanArray::from_iter(indices.iter().map(|row| Some(row.is_some())))));
        let why = |slot: &Option<u32>| slot.and_then(|slot| found.trouble.get(&slot)).map(String::as_str);
        columns.push(match found.trouble.is_empty() {
            true => arrow::array::new_null_array(&DataType::Utf8, slots.len()),
            false => Arc::new(slots.iter().map(why).collect::<StringArray>()),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(StreamBatch { batch: RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?, ..input })
    }
}

/// Makes the join of what was found.
pub struct SettleSpec {
    /// The table's name.
    pub table: String,
    /// How many columns the stream has.
    pub stream: usize,
    /// Which of the table's columns follow them.
    pub kept: Vec<usize>,
    /// A further condition over the stream's columns and those.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Whether rows for which nothing is found stay.
    pub outer: bool,
    /// The join's columns.
    pub schema: SchemaRef,
}

impl SettleSpec {
    /// The output columns: any of the table's may be NULL.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
    }

    /// Joins one batch.
    pub fn apply(&self, input: StreamBatch) -> Result<StreamBatch> {
        let (rows, columns) = (input.batch.num_rows(), input.batch.columns());
        let [table @ .., found, trouble] = &columns[self.stream..] else {
            return Err(DataFusionError::Internal("a row comes without what was found for it".to_owned()));
        };
        if let Some(why) = as_string_array(trouble)?.iter().flatten().next() {
            return Err(DataFusionError::Execution(why.to_owned()));
        }
        let mut joined: Vec<ArrayRef> = columns[..self.stream].to_vec();
        joined.extend(self.kept.iter().map(|index| Arc::clone(&table[*index])));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema(), joined, &options)?;
        let found = as_boolean_array(found)?;
        let holds: BooleanArray = match &self.filter {
            None => found.clone(),
            Some(filter) => {
                let mask = filter.evaluate(&batch)?.into_array(rows)?;
                let mask = as_boolean_array(&mask)?;
                (0..rows).map(|row| Some(found.value(row) && mask.is_valid(row) && mask.value(row))).collect()
            }
        };
        let joined = StreamBatch { batch, ..input };
        if !self.outer {
            return joined.filter(&holds);
        }
        // What is found and does not meet the condition is as if it were not there.
        if &holds == found {
            return Ok(joined);
        }
        let partners: UInt32Array = (0..rows as u32).map(|row| holds.value(row as usize).then_some(row)).collect();
        let mut columns = joined.batch.columns().to_vec();
        for column in &mut columns[self.stream..] {
            *column = take(column, &partners, None)?;
        }
        let batch = RecordBatch::try_new_with_options(self.schema(), columns, &options)?;
        Ok(StreamBatch { batch, ..joined })
    }
}
