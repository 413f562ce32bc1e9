//! The sink: claims, writes, stamps.
//!
//! **Owns** the connection and the flights of commands. **Does not own** the form of keys and values.
//!
//! Two flights are under way at a time: the server works on one while the next is written.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use redis::{Client, Connection, ConnectionLike as _, RedisError, Script, ServerError, Value};
use watershed_types::{Epoch, Generation, Result};

use crate::coverage::{Coverage, Unkept};
use crate::error::Place;
use crate::options::RedisOptions;
use crate::rows::Writer;
use crate::text;

/// Flights without an answer.
const WINDOW: usize = 2;
/// Connections tried per call.
const TRIES: u32 = 3;

/// Takes the stamp for a generation, or says whose it is. ARGV: app_id, generation, epoch (or nothing), time.
/// A stamp of another life of the pipeline is taken over.
const STAMP: &str = "
local app, generation, epoch = unpack(redis.call('HMGET', KEYS[1], 'app_id', 'generation', 'epoch'))
if app ~= ARGV[1] then generation, epoch = '0', '0' end
if tonumber(generation) > tonumber(ARGV[2]) then return {0, generation} end
if ARGV[3] ~= '' then epoch = ARGV[3] end
redis.call('HSET', KEYS[1], 'app_id', ARGV[1], 'generation', ARGV[2], 'epoch', epoch, 'at', ARGV[4])
return {1, epoch}";

/// Keys in Redis, set from state. All calls block.
pub struct RedisLive {
    options: RedisOptions,
    place: Place,
    app_id: String,
    stamp: String,
    schema: SchemaRef,
    client: Client,
    connection: Option<Connection>,
    script: Script,
    writer: Writer,
    /// With `retention`: the index by time, and how far it reaches.
    coverage: Option<Coverage>,
}

/// Why a flight failed.
enum Failed {
    /// The connection is of no use any more.
    Connection(RedisError),
    /// The server refused a command.
    Refused(ServerError),
}

impl RedisLive {
    /// Makes a sink; no network. `app_id` tells two lives of one pipeline apart; `schema` is the one the options were taken for.
    /// Errors: `RDS0001`.
    pub fn new(options: RedisOptions, app_id: &str, pipeline: &str, schema: SchemaRef) -> Result<Self> {
        let client = options.client()?;
        let place = Place { sink: options.sink.clone(), server: client.get_connection_info().addr().to_string(), pattern: options.pattern.clone() };
        let stamp = options.stamp_key(pipeline);
        let coverage = options.retention.map(|retention| Coverage::new(retention, options.index_key(pipeline)));
        let schema = Arc::new(Schema::new(schema.fields().iter().map(|field| unpacked_field(field)).collect::<Vec<_>>()));
        let writer = Writer::new(&options);
        Ok(Self { options, place, app_id: app_id.to_owned(), stamp, schema, client, connection: None, script: Script::new(STAMP), writer, coverage })
    }

    /// The name in metrics and errors: the sink's.
    pub fn name(&self) -> &str {
        &self.place.sink
    }

    /// Connects, takes the stamp for a generation, and says its epoch ([`Epoch::ZERO`] if there is none).
    /// Errors: `RDS0002` without a connection, `RDS0006` if a newer generation has it.
    pub fn claim(&mut self, generation: Generation) -> Result<Epoch> {
        let epoch = self.mark(None, generation)?;
        self.cover(epoch == Epoch::ZERO)?;
        Ok(epoch)
    }

    /// Asks this for the newest time the table holds elsewhere, where it is not known what a server still has of the past.
    pub fn with_past(mut self, newest: impl Fn() -> Result<Option<i64>> + Send + 'static) -> Self {
        self.coverage = self.coverage.map(|coverage| coverage.with_past(Box::new(newest)));
        self
    }

    /// Says that the values hold everything up to an epoch. Call it after the epoch's last `write`. Errors as [`RedisLive::claim`].
    pub fn stamp(&mut self, epoch: Epoch, generation: Generation) -> Result<()> {
        self.mark(Some(epoch), generation)?;
        self.cover(false)
    }

    /// Brings the index and what is said of it up to date. `new`: nothing was ever stamped.
    fn cover(&mut self, new: bool) -> Result<()> {
        let Some(mut coverage) = self.coverage.take() else { return Ok(()) };
        let covered = self.connected().and_then(|mut connection| {
            let covered = coverage.keep(&mut connection, &self.stamp, new).map_err(|failed| match failed {
                Unkept::Lost(cause) => self.place.lost(cause),
                Unkept::Refused(said) => self.place.refused(&said),
                Unkept::Past(error) => error,
            });
            self.connection = Some(connection).filter(Connection::is_open);
            covered
        });
        self.coverage = Some(coverage);
        covered
    }

    /// Sets the keys of all rows; of rows with the same key the last one stays. Everything is answered when it returns.
    /// Errors: `RDS0002` (definite) without a connection, `RDS0003` (indefinite) when it is lost under way, and lost again;
    /// `RDS0005` for keys of another type; others for what the server refuses. Repeat the call after any of them.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.fit(batch)?;
        for repeated in [false, true] {
            let mut connection = self.connected()?;
            match self.send(&mut connection, &batch) {
                Ok(()) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(Failed::Refused(said)) => {
                    self.connection = Some(connection);
                    return Err(self.place.refused(&said));
                }
                // I1: sent again, from the first row.
                Err(Failed::Connection(cause)) if repeated => return Err(self.place.lost(cause)),
                Err(Failed::Connection(cause)) => tracing::debug!(sink = self.place.sink, %cause, "connection lost; once more"),
            }
        }
        Ok(())
    }

    /// Nothing is kept back between calls: makes sure that the connection stands, so that a dead server is noticed in a quiet hour too.
    /// Errors: `RDS0002`, `RDS0003`.
    pub fn flush(&mut self) -> Result<()> {
        let mut connection = self.connected()?;
        redis::cmd("PING").exec(&mut connection).map_err(|cause| self.place.lost(cause))?;
        self.connection = Some(connection);
        Ok(())
    }

    fn mark(&mut self, epoch: Option<Epoch>, generation: Generation) -> Result<Epoch> {
        let mut at = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        text::timestamp(&mut at, now as i64, true);
        let epoch = epoch.map_or(String::new(), |epoch| epoch.to_string());
        let mut call = self.script.prepare_invoke();
        call.key(&self.stamp).arg(&self.app_id).arg(generation.0).arg(epoch).arg(at);
        let mut repeated = false;
        loop {
            let mut connection = Self::open(&mut self.connection, &self.client, &self.options, &self.place)?;
            match call.invoke::<(u8, u64)>(&mut connection) {
                Ok((1, epoch)) => {
                    self.connection = Some(connection);
                    return Ok(Epoch(epoch));
                }
                Ok((_, owner)) => {
                    self.connection = Some(connection);
                    return Err(self.place.fenced(generation, owner));
                }
                Err(cause) => match ServerError::try_from(cause) {
                    Ok(said) => return Err(Place { pattern: self.stamp.clone(), ..self.place.clone() }.refused(&said)),
                    Err(cause) if repeated => return Err(self.place.lost(cause)),
                    Err(_) => repeated = true,
                },
            }
        }
    }

    fn connected(&mut self) -> Result<Connection> {
        Self::open(&mut self.connection, &self.client, &self.options, &self.place)
    }

    /// The connection there is, or a new one: a few tries, a little apart, so that a restart is ridden out and a dead server is not waited for.
    fn open(kept: &mut Option<Connection>, client: &Client, options: &RedisOptions, place: &Place) -> Result<Connection> {
        if let Some(connection) = kept.take().filter(Connection::is_open) {
            return Ok(connection);
        }
        let began = Instant::now();
        let mut tried = 0;
        loop {
            tried += 1;
            let connected = client.get_connection_with_timeout(options.connect_timeout).and_then(|connection| {
                connection.set_read_timeout(Some(options.connect_timeout))?;
                connection.set_write_timeout(Some(options.connect_timeout))?;
                Ok(connection)
            });
            match connected {
                Ok(connection) => return Ok(connection),
                Err(cause) if tried >= TRIES || began.elapsed() > options.connect_timeout => return Err(place.unreachable(cause)),
                Err(_) => std::thread::sleep(jittered(Duration::from_millis(25) * 4u32.pow(tried - 1))),
            }
        }
    }

    fn send(&mut self, connection: &mut Connection, batch: &RecordBatch) -> Result<(), Failed> {
        let mut flight = Vec::with_capacity(64 << 10);
        let mut unanswered = VecDeque::with_capacity(WINDOW);
        let (mut commands, mut refused) = (0, None);
        let times = self.coverage.as_mut().and_then(|coverage| coverage.note(batch));
        for row in 0..batch.num_rows() {
            commands += self.writer.put(&self.options, &self.schema, batch, row, &mut flight);
            if let Some(times) = &times
                && times.is_valid(row)
            {
                self.writer.list(times.value(row));
            }
            if commands < self.options.batch && row + 1 < batch.num_rows() {
                continue;
            }
            if let Some(coverage) = &self.coverage {
                commands += self.writer.index(coverage.index(), &mut flight);
            }
            connection.send_packed_command(&flight).map_err(Failed::Connection)?;
            unanswered.push_back(std::mem::take(&mut commands));
            flight.clear();
            if unanswered.len() >= WINDOW {
                answers(connection, unanswered.pop_front().unwrap_or(0), &mut refused)?;
            }
            if refused.is_some() {
                break;
            }
        }
        // All of them, whatever they say: the connection is used again.
        for count in unanswered {
            answers(connection, count, &mut refused)?;
        }
        refused.map_or(Ok(()), |said| Err(Failed::Refused(said)))
    }

    /// The batch with dictionaries unpacked, if it has the declared columns.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(self.place.unfit_rows(format!("{} columns instead of {}", batch.num_columns(), self.schema.fields().len())));
        }
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            let column = match column.data_type() {
                DataType::Dictionary(_, values) => cast(column, values).map_err(|cause| self.place.unfit_rows(cause))?,
                _ => Arc::clone(column),
            };
            if !column.data_type().equals_datatype(field.data_type()) {
                return Err(self.place.unfit_rows(format!("column \"{}\" is {} instead of {}", field.name(), column.data_type(), field.data_type())));
            }
            columns.push(column);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|cause| self.place.unfit_rows(cause))
    }
}

/// Reads so many answers; keeps the first refusal.
fn answers(connection: &mut Connection, count: usize, refused: &mut Option<ServerError>) -> Result<(), Failed> {
    for _ in 0..count {
        if let Value::ServerError(said) = connection.recv_response().map_err(Failed::Connection)? {
            refused.get_or_insert(said);
        }
    }
    Ok(())
}

/// Between half and one and a half times as long, so that many sinks do not come back at the same moment.
fn jittered(wait: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish() % 1_000;
    wait / 2 + wait * random as u32 / 1_000
}

/// Nullable, as a batch may be more so than its declaration, and no dictionary.
fn unpacked_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}
