//! Sending at once: every row arrives, some of them twice after a crash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use watershed_ports::RefusedRow;
use watershed_types::{Error, Result};

use crate::client;
use crate::produce::{self, Acks, Context, Producer, Scratch};
use crate::sink_options::KafkaSinkOptions;
use crate::topics;
use crate::trouble;

/// How long a write waits for room in the queue of what is not acknowledged yet.
const ROOM: Duration = Duration::from_secs(120);

/// An idempotent producer: rows are sent as they come, in order and without repeats for as long as it lives.
///
/// Non-guarantee: rows written before a crash and not yet in a checkpoint are written again by the next run.
pub struct KafkaLive {
    options: KafkaSinkOptions,
    acks: Arc<Acks>,
    producer: Producer,
    scratch: Mutex<Scratch>,
}

impl std::fmt::Debug for KafkaLive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLive").field("options", &self.options).finish()
    }
}

impl KafkaLive {
    /// Connects, and makes or checks the topic.
    pub fn new(options: KafkaSinkOptions, schema: SchemaRef) -> Result<Self> {
        debug_assert!(options.key.iter().chain(&options.headers).all(|column| *column < schema.fields().len()), "the options were checked against this schema");
        let mut options = options;
        options.connection.default_to("linger.ms", "1");
        let mut config = options.connection.config();
        config.set("enable.idempotence", "true");
        let acks = Arc::<Acks>::default();
        let producer: Producer = client::create(&config, Context(Arc::clone(&acks)))?;
        topics::ensure(producer.client(), &options, || acks.health.denied())?;
        Ok(Self { options, acks, producer, scratch: Mutex::default() })
    }

    /// Sends a batch's rows. Returns those that are too large, by their ordinal in the batch.
    ///
    /// Errors: brokers that take nothing for two minutes; rows written earlier that were not acknowledged.
    pub fn write(&self, batch: &RecordBatch) -> Result<Vec<RefusedRow>> {
        if self.acks.any_failed() {
            return Err(self.unacknowledged(0));
        }
        let until = Instant::now() + ROOM;
        let mut refused = Vec::new();
        let sent = produce::send(&self.producer, &self.options, batch, 0, &mut self.scratch.lock(), &mut refused, || Instant::now() >= until)?;
        match sent {
            Ok(()) => Ok(refused),
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => Err(self.unacknowledged(self.producer.in_flight_count())),
            Err(error) => Err(Error::unavailable(trouble::DELIVERY, format!("topic \"{}\" takes no rows: {error}", self.options.topic)).hint("Start the run again.").indefinite()),
        }
    }

    /// Waits until every row written is acknowledged. Errors: some are not, with their number.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let flushed = self.producer.flush(timeout);
        let waiting = if flushed.is_err() { self.producer.in_flight_count() } else { 0 };
        if waiting > 0 || self.acks.any_failed() {
            return Err(self.unacknowledged(waiting));
        }
        Ok(())
    }

    fn unacknowledged(&self, waiting: i32) -> Error {
        if let Some(words) = self.acks.health.denied() {
            return trouble::denied(self.options.connection.brokers(), &words).indefinite();
        }
        let failed = self.acks.take_failed();
        let count = failed.count + waiting.max(0) as u64;
        let why = failed.why.map_or_else(|| "no answer yet".to_owned(), |code| code.to_string());
        Error::unavailable(trouble::UNACKNOWLEDGED, format!("{count} row(s) sent to topic \"{}\" are not acknowledged: {why}", self.options.topic))
            .hint("Check the brokers; the rows are sent again from the last checkpoint, and some may come twice.")
            .indefinite()
    }
}
