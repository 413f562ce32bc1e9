//! Intake: one thread a source polls chunks; the pool decodes them; they arrive in order.
//!
//! **Owns** reading ahead and decoding. **Does not own** watermarks: those need the order, and run on the tick thread.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use crossbeam_channel::{Receiver, Sender, bounded};
use watershed_codec::{Decoder, Refused, Scratch};
use watershed_ports::{Lag, Polled, RawChunk, Source};
use watershed_sql::MetadataColumn;
use watershed_types::{Error, Reason, Result};

use super::metadata;
use super::stages::{Stage, timed};
use crate::operator::{Origin, Step, StreamBatch, run_stateless};
use crate::plan::SourcePlan;

/// How long a source waits for word that it may go on, before it looks again for what is not held.
const HELD: Duration = Duration::from_millis(5);

/// A chunk, decoded and prepared.
pub struct Intake {
    /// Accepted rows with the source's declared columns.
    pub batch: RecordBatch,
    /// Where they came from; `late` is filled in on the tick thread.
    pub origin: Origin,
    /// Records that were not accepted.
    pub refused: Vec<Refused>,
    /// The ordinal of the record after this chunk.
    pub end_record: u64,
}

/// What a source says.
pub enum Event {
    /// A chunk that is being decoded.
    Chunk {
        /// Where the result arrives.
        ready: Receiver<Result<Intake>>,
    },
    /// Nothing at the moment.
    CaughtUp(usize),
    /// The partitions that have more to be read; from sources that are aligned.
    Unread(usize, BTreeSet<String>),
    /// Nothing, ever again.
    End(usize),
    /// How far behind it is, and things worth a person's attention.
    News(usize, Lag, Vec<String>),
    /// It cannot go on.
    Failed(usize, Error),
}

/// Everything decoding needs, shared by the pool.
pub struct Prepare {
    /// The source, by index.
    pub index: usize,
    /// Its name.
    pub name: String,
    decoder: Decoder,
    metadata: Vec<(String, MetadataColumn)>,
    steps: Vec<Step>,
    watermark: Option<usize>,
    watermark_column: String,
}

impl Prepare {
    /// Takes what it needs out of the plan.
    pub fn new(index: usize, plan: &mut SourcePlan) -> Result<Self> {
        Ok(Self {
            index,
            name: plan.name.clone(),
            decoder: Decoder::new(plan.columns.clone(), plan.format.clone())?,
            metadata: plan.metadata.clone(),
            steps: std::mem::take(&mut plan.prepare),
            watermark: plan.watermark.map(|(column, _)| column),
            watermark_column: plan.watermark.map(|(column, _)| plan.schema.field(column).name().clone()).unwrap_or_default(),
        })
    }

    /// Decodes one chunk and computes the source's declared columns.
    pub fn decode(&self, chunk: RawChunk) -> Result<Intake> {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
        }
        let decoded = SCRATCH.with_borrow_mut(|scratch| self.decoder.decode(&chunk, scratch))?;
        let mut refused = decoded.refused;
        if let Some(facts) = &chunk.facts {
            for refused in refused.iter_mut().filter(|refused| facts.tombstones.binary_search(&refused.record).is_ok()) {
                (refused.reason, refused.detail) = (Reason::Schema, "the record has no value (a tombstone)".to_owned());
            }
        }
        let origin = Origin {
            source: self.index,
            target: None,
            bypass_dedup: false,
            chunk,
            records: decoded.records,
            record_of: decoded.rows,
            event_time: vec![],
            late: HashMap::new(),
            edge: HashSet::new(),
        };
        let mut origin = Arc::new(origin);
        let batch = self.with_metadata(decoded.batch, &origin)?;
        let (batch, record_of) = self.computed(batch, &mut origin, &mut refused)?;
        let mut origin = Arc::try_unwrap(origin).map_err(|_| Error::internal("RUN0001", "a chunk's origin is shared while it is decoded"))?;
        origin.record_of = record_of;
        let batch = self.event_times(batch, &mut origin, &mut refused)?;
        let end_record = end_record(&origin);
        Ok(Intake { batch, origin, refused, end_record })
    }

    fn with_metadata(&self, batch: RecordBatch, origin: &Origin) -> Result<RecordBatch> {
        if self.metadata.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let mut fields: Vec<Field> = batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut columns = batch.columns().to_vec();
        for (name, kind) in &self.metadata {
            let column = metadata::column(*kind, rows, origin, &self.name);
            fields.push(Field::new(name, column.data_type().clone(), kind.nullable()));
            columns.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Error::internal("RUN0002", "metadata columns do not fit").caused_by(e))
    }

    /// Runs the computed columns; a row for which one fails is refused.
    fn computed(&self, batch: RecordBatch, origin: &mut Arc<Origin>, refused: &mut Vec<Refused>) -> Result<(RecordBatch, Vec<u32>)> {
        if self.steps.is_empty() {
            return Ok((batch, origin.record_of.clone()));
        }
        let mut failed = Vec::new();
        let input = StreamBatch::results(batch);
        let done = run_stateless(&self.steps, input, &mut failed);
        for (row, text) in &failed {
            refused.push(Refused { record: origin.record_of[row.row(0) as usize], reason: Reason::Schema, detail: format!("a computed column failed: {text}") });
        }
        let record_of = done.iter().flat_map(|b| (0..b.batch.num_rows()).map(|i| origin.record_of[b.row(i) as usize])).collect();
        let batches: Vec<RecordBatch> = done.into_iter().map(|b| b.batch).collect();
        let joined = match batches.as_slice() {
            [one] => one.clone(),
            [] => RecordBatch::new_empty(self.output_schema()),
            many => arrow::compute::concat_batches(&many[0].schema(), many).map_err(|e| Error::internal("RUN0002", "computed columns do not fit").caused_by(e))?,
        };
        Ok((joined, record_of))
    }

    fn output_schema(&self) -> arrow::datatypes::SchemaRef {
        for step in self.steps.iter().rev() {
            if let Step::Project { schema, .. } = step {
                return Arc::clone(schema);
            }
        }
        self.decoder.schema()
    }

    /// Reads event times; a row without one is refused.
    fn event_times(&self, batch: RecordBatch, origin: &mut Origin, refused: &mut Vec<Refused>) -> Result<RecordBatch> {
        let Some(column) = self.watermark else { return Ok(batch) };
        let times = batch.column(column).as_primitive::<TimestampMicrosecondType>().clone();
        if times.null_count() == 0 {
            origin.event_time = times.values().to_vec();
            return Ok(batch);
        }
        let keep = BooleanArray::from_iter((0..times.len()).map(|i| Some(times.is_valid(i))));
        for row in (0..times.len()).filter(|row| times.is_null(*row)) {
            let detail = format!("the event time, column \"{}\", is NULL", self.watermark_column);
            refused.push(Refused { record: origin.record_of[row], reason: Reason::Schema, detail });
        }
        let kept: Vec<usize> = (0..times.len()).filter(|row| times.is_valid(*row)).collect();
        origin.record_of = kept.iter().map(|row| origin.record_of[*row]).collect();
        origin.event_time = kept.iter().map(|row| times.value(*row)).collect();
        filter_record_batch(&batch, &keep).map_err(|e| Error::internal("RUN0002", "rows without event time cannot be taken out").caused_by(e))
    }
}

/// Files count lines, blank ones and those inside quotes too; logs count records.
fn end_record(origin: &Origin) -> u64 {
    let chunk = &origin.chunk;
    if !chunk.byte_positions {
        // Where offsets have holes, ordinals are offsets.
        return if chunk.facts.is_some() { chunk.end_offset } else { chunk.record + origin.records.len() as u64 };
    }
    let after_header = &chunk.bytes[origin.header_bytes()..];
    chunk.record + memchr::memchr_iter(b'\n', after_header).count() as u64
}

/// The last of what was said, waiting for the first word.
fn newest(held: &Receiver<BTreeSet<String>>, wait: Duration) -> Option<BTreeSet<String>> {
    let first = held.recv_timeout(wait).ok()?;
    Some(held.try_iter().last().unwrap_or(first))
}

/// How a source thread runs.
pub struct IntakeOptions {
    /// About how large a chunk is.
    pub chunk_bytes: usize,
    /// Stop at the first [`Polled::CaughtUp`].
    pub once: bool,
    /// Tells which partitions to leave alone; absent for a source that is not aligned.
    pub held: Option<Receiver<BTreeSet<String>>>,
}

/// Starts a source's thread. It ends when `stop` is set, the source ends or fails, or nobody listens any more.
pub fn start(
    mut source: Box<dyn Source>,
    prepare: Arc<Prepare>,
    options: IntakeOptions,
    pool: Arc<rayon::ThreadPool>,
    events: Sender<Event>,
    stop: Arc<AtomicBool>,
    committed: Receiver<watershed_types::Positions>,
) -> std::io::Result<JoinHandle<()>> {
    let index = prepare.index;
    std::thread::Builder::new().name(format!("source-{}", prepare.name)).spawn(move || {
        if options.once {
            source.drain();
        }
        let mut told = std::time::Instant::now() - Duration::from_secs(1);
        let (mut idle, mut unread) = (false, None);
        while !stop.load(Ordering::Relaxed) {
            while let Ok(positions) = committed.try_recv() {
                if let Err(error) = source.committed(&positions) {
                    let _ = events.send(Event::Failed(index, error));
                    return;
                }
            }
            // With nothing to read but what is held, the next word is waited for.
            let word = options.held.as_ref().and_then(|held| newest(held, if idle { HELD } else { Duration::ZERO }));
            if let Some(Err(error)) = word.map(|partitions| source.hold(&partitions)) {
                let _ = events.send(Event::Failed(index, error));
                return;
            }
            let wait = if options.once { Duration::ZERO } else { Duration::from_millis(50) };
            let event = match source.poll(options.chunk_bytes, wait) {
                Ok(Polled::Chunk(chunk)) => {
                    let (done, ready) = bounded(1);
                    let prepare = Arc::clone(&prepare);
                    pool.spawn_fifo(move || {
                        let _ = done.send(timed(Stage::Decode, || prepare.decode(chunk)));
                    });
                    Some(Event::Chunk { ready })
                }
                Ok(Polled::CaughtUp) => Some(Event::CaughtUp(index)),
                Ok(Polled::Held) => None,
                Ok(Polled::End) => Some(Event::End(index)),
                Err(error) => Some(Event::Failed(index, error)),
            };
            let last = matches!(event, Some(Event::End(_) | Event::Failed(..))) || (options.once && matches!(event, Some(Event::CaughtUp(_))));
            idle = event.is_none();
            if told.elapsed() > Duration::from_millis(250) || last {
                told = std::time::Instant::now();
                let news = Event::News(index, source.lag(), source.notices());
                if events.send(news).is_err() {
                    return;
                }
            }
            if event.is_some_and(|event| events.send(event).is_err()) || last {
                break;
            }
            // Behind the chunk: what it has is not to be read any more.
            let left = options.held.is_some().then(|| source.unread());
            if left != unread {
                unread.clone_from(&left);
                if left.is_some_and(|left| events.send(Event::Unread(index, left)).is_err()) {
                    break;
                }
            }
        }
        while let Ok(positions) = committed.recv() {
            if source.committed(&positions).is_err() {
                return;
            }
        }
    })
}
