//! Rows as messages: what both ways of sending share.
//!
//! **Owns** a message's key, headers and value, waiting while librdkafka's queue is full, and noting what was not acknowledged.
//! **Does not own** transactions.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use watershed_ports::RefusedRow;
use watershed_types::Result;

use crate::client::Health;
use crate::encode::{RowEncoder, TextColumn};
use crate::sink_options::KafkaSinkOptions;

pub(crate) type Producer = ThreadedProducer<Context>;

/// What became of messages since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pub(crate) health: Health,
    failed: Mutex<Failed>,
}

/// Messages that were not acknowledged.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) count: u64,
    /// Why the first of them was not.
    pub(crate) why: Option<RDKafkaErrorCode>,
}

impl Acks {
    /// What failed, and forgets it.
    pub(crate) fn take_failed(&self) -> Failed {
        std::mem::take(&mut self.failed.lock())
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.failed.lock().count > 0
    }
}

pub(crate) struct Context(pub(crate) Arc<Acks>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, words: &str) {
        self.0.health.log(level, facility, words);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.health.error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Ok(_) => {}
            Err((error, _)) => {
                let mut failed = self.0.failed.lock();
                failed.count += 1;
                if failed.why.is_none() {
                    failed.why = error.rdkafka_error_code();
                }
            }
        }
    }
}

/// Buffers that every row uses again.
#[derive(Default)]
pub(crate) struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
    header: Vec<u8>,
}

/// Sends a batch's rows. `first` is the ordinal of its first row, for refusals; `give_up` ends the wait for room in the queue.
/// Errors are librdkafka's, except that rows it calls too large are refused one by one.
pub(crate) fn send(
    producer: &Producer,
    options: &KafkaSinkOptions,
    batch: &RecordBatch,
    first: u64,
    scratch: &mut Scratch,
    refused: &mut Vec<RefusedRow>,
    mut give_up: impl FnMut() -> bool,
) -> Result<Result<(), KafkaError>> {
    let messages = Messages::new(options, batch)?;
    for row in 0..batch.num_rows() {
        let mut record = messages.record(row, options, scratch);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) if !give_up() => {
                    record = again;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((KafkaError::MessageProduction(code @ RDKafkaErrorCode::MessageSizeTooLarge), record)) => {
                    let size = record.payload.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
                    refused.push(RefusedRow { row: first + row as u64, detail: format!("{code} ({size} bytes)") });
                    break;
                }
                Err((error, _)) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(()))
}

/// The rows that [`send`] would refuse, without sending any.
pub(crate) fn too_large(options: &KafkaSinkOptions, batch: &RecordBatch, first: u64, limit: usize, scratch: &mut Scratch, refused: &mut Vec<RefusedRow>) -> Result<()> {
    let messages = Messages::new(options, batch)?;
    for row in 0..batch.num_rows() {
        let record = messages.record(row, options, scratch);
        let size = record.payload.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
        if size > limit {
            refused.push(RefusedRow { row: first + row as u64, detail: format!("{} ({size} bytes)", RDKafkaErrorCode::MessageSizeTooLarge) });
        }
    }
    Ok(())
}

/// A batch as messages.
struct Messages {
    rows: RowEncoder,
    key: Vec<TextColumn>,
    headers: Vec<(String, TextColumn)>,
    /// True where a row deletes its key.
    deletes: Option<BooleanArray>,
}

impl Messages {
    fn new(options: &KafkaSinkOptions, batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let column = |index: &usize| TextColumn::new(schema.field(*index).name(), batch.column(*index));
        Ok(Self {
            rows: RowEncoder::new(batch)?,
            key: options.key.iter().map(column).collect::<Result<_>>()?,
            deletes: options.delete_when.and_then(|index| batch.column(index).as_boolean_opt().cloned()),
            headers: options.headers.iter().map(|index| Ok((schema.field(*index).name().clone(), column(index)?))).collect::<Result<_>>()?,
        })
    }

    fn record<'a>(&self, row: usize, options: &'a KafkaSinkOptions, scratch: &'a mut Scratch) -> BaseRecord<'a, [u8], [u8]> {
        scratch.value.clear();
        self.rows.row(row, &mut scratch.value);
        scratch.key.clear();
        let mut keyed = false;
        for (at, column) in self.key.iter().enumerate() {
            if at > 0 {
                scratch.key.push(b'|');
            }
            keyed |= column.append(row, &mut scratch.key);
        }
        let mut record = BaseRecord::to(&options.topic);
        if !self.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
            for (name, column) in &self.headers {
                scratch.header.clear();
                let value = column.append(row, &mut scratch.header).then_some(scratch.header.as_slice());
                headers = headers.insert(Header { key: name, value });
            }
            record = record.headers(headers);
        }
        // A key of nothing but nulls is no key: such rows may go anywhere.
        if keyed {
            record = record.key(scratch.key.as_slice());
        }
        let deleted = self.deletes.as_ref().is_some_and(|deletes| deletes.is_valid(row) && deletes.value(row));
        // A tombstone without a key would delete nothing: such a row stays what it is.
        if deleted && keyed { record } else { record.payload(scratch.value.as_slice()) }
    }
}
