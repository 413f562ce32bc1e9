//! Keys asked for as rows pass: a flight of commands a request, the next one on its way while one is answered.
//!
//! **Owns** the commands and the way from a value to typed columns. **Does not own** which keys are asked for, or what is
//! remembered of the answers.
//!
//! Keys and values have the form in which a sink writes them, so that what one pipeline sets another can look up. The columns
//! of the key come from the key that was asked for, all others from the value: a hash's fields, a JSON object's members, or
//! the one string. A field that is not there is NULL; a key that is not there is no row.
//!
//! Failure: a lost connection is an error for which the caller waits; the next call opens another. A value that does not fit
//! is the trouble of its key alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parking_lot::Mutex;
use redis::{Client, Connection, RedisError, Value, from_redis_value};
use watershed_ports::{LookupAnswer, LookupTable};
use watershed_types::{Error, Options, Result};

use crate::error::{Place, bad_option};
use crate::options::{RedisOptions, Type};
use crate::read::{column, object};
use crate::resp::{command, word};
use crate::rows::key;

/// Keys that are asked for. All calls block.
pub struct RedisLookup {
    options: RedisOptions,
    place: Place,
    schema: SchemaRef,
    /// The columns of the key, as requests have them.
    key: Vec<usize>,
    timeout: Duration,
    client: Client,
    connection: Mutex<Option<Connection>>,
}

/// What a key holds, by column.
type Held = BTreeMap<String, Option<Vec<u8>>>;

impl RedisLookup {
    /// Takes what `WITH (connector = 'redis', …)` of a static table says; no network. `key` names columns of `schema`, and the
    /// template's columns are the same. Errors: `RDS0001` for what cannot be meant, `SQL0102` and `SQL0103` for what is
    /// missing or malformed.
    pub fn new(options: &mut Options, name: &str, schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let timeout = options.duration("lookup.timeout")?.unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(1));
        let taken = RedisOptions::for_lookup(options, name, &schema).map_err(|error| of_table(name, error))?;
        let (mut named, mut declared) = (taken.key_columns(), key.clone());
        named.sort_unstable();
        declared.sort_unstable();
        let refused = |message: String, hint: String| Err(of_table(name, bad_option(name, message, hint)));
        if !key.is_empty() && named != declared {
            let names: Vec<&str> = key.iter().map(|index| schema.field(*index).name().as_str()).collect();
            return refused(
                "option \"key\" and the primary key name different columns".to_owned(),
                format!("Name the columns of PRIMARY KEY ({}) in key, each in braces.", names.join(", ")),
            );
        }
        if let Some(field) = schema.fields().iter().enumerate().find(|(index, field)| !field.is_nullable() && !key.contains(index)).map(|(_, field)| field) {
            let message = format!("column \"{}\" is declared NOT NULL, and a key may be without it", field.name());
            return refused(message, "Leave NOT NULL out; coalesce() gives a value where there is none.".to_owned());
        }
        let client = taken.client().map_err(|error| of_table(name, error))?;
        let place = Place { sink: name.to_owned(), server: client.get_connection_info().addr().to_string(), pattern: taken.pattern.clone() };
        Ok(Self { options: taken, place, schema, key, timeout, client, connection: Mutex::default() })
    }

    fn open(&self) -> Result<Connection> {
        if let Some(connection) = self.connection.lock().take() {
            return Ok(connection);
        }
        let opened = self.client.get_connection_with_timeout(self.options.connect_timeout).and_then(|connection| {
            connection.set_read_timeout(Some(self.timeout))?;
            connection.set_write_timeout(Some(self.timeout))?;
            Ok(connection)
        });
        opened.map_err(|cause| of_table(&self.place.sink, self.place.unreachable(cause)))
    }

    fn lost(&self, cause: RedisError) -> Error {
        Error::unavailable("RDS0003", format!("static table \"{}\": the connection to \"{}\" was lost", self.place.sink, self.place.server))
            .hint("It is opened again by itself, and the keys are asked for again.")
            .caused_by(cause)
            .definite()
    }

    /// The commands of a request.
    fn flight(&self, keys: &RecordBatch) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 * keys.num_rows());
        let mut name = Vec::new();
        for row in 0..keys.num_rows() {
            name.clear();
            let of = |place: usize| keys.column(self.key.iter().position(|at| *at == place).unwrap_or(0));
            key(&self.options.key, of, row, &mut name);
            command(&mut out, 2);
            word(&mut out, if self.options.kind == Type::Hash { b"HGETALL" } else { b"GET" });
            word(&mut out, &name);
        }
        out
    }

    /// Sends the requests, two at a time, and reads what comes back for each of their keys.
    fn exchange(&self, connection: &mut Connection, requests: &[RecordBatch]) -> Result<Vec<Vec<Value>>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut unread = std::collections::VecDeque::new();
        for keys in requests {
            connection.send_packed_command(&self.flight(keys)).map_err(|cause| self.lost(cause))?;
            unread.push_back(keys.num_rows());
            if unread.len() > 1 {
                answers.push(self.read(connection, unread.pop_front().unwrap_or(0))?);
            }
        }
        for count in unread {
            answers.push(self.read(connection, count)?);
        }
        Ok(answers)
    }

    fn read(&self, connection: &mut Connection, count: usize) -> Result<Vec<Value>> {
        (0..count).map(|_| connection.recv_response().map_err(|cause| self.lost(cause))).collect()
    }

    /// What a key holds; `None` if it is not there. The inner error is the key's alone.
    fn held(&self, value: Value) -> Result<std::result::Result<Option<Held>, String>> {
        if let Value::ServerError(said) = &value {
            let pattern = &self.place.pattern;
            return match said.code() {
                "WRONGTYPE" => Ok(Err(format!("a key like \"{pattern}\" holds a value of another type"))),
                _ => Err(of_table(&self.place.sink, self.place.refused(said))),
            };
        }
        let said = |cause: redis::ParsingError| format!("a value has another form: {cause}");
        Ok(match self.options.kind {
            Type::Hash => from_redis_value::<BTreeMap<String, Vec<u8>>>(value)
                .map(|hash| (!hash.is_empty()).then(|| hash.into_iter().map(|(name, value)| (name, Some(value))).collect()))
                .map_err(said),
            Type::String => {
                let name = self.options.fields.first().map_or_else(String::new, |place| self.schema.field(*place).name().clone());
                from_redis_value::<Option<Vec<u8>>>(value).map(|value| value.map(|value| Held::from([(name, Some(value))]))).map_err(said)
            }
            Type::Json => match from_redis_value::<Option<Vec<u8>>>(value) {
                Ok(value) => value.map(|value| object(&value)).transpose().map_err(|_| "a value is no JSON object".to_owned()),
                Err(cause) => Err(said(cause)),
            },
        })
    }

    fn answer(&self, keys: &RecordBatch, values: Vec<Value>) -> Result<LookupAnswer> {
        let (mut held, mut of, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (row, value) in values.into_iter().enumerate() {
            match self.held(value)? {
                Ok(None) => {}
                Ok(Some(found)) => {
                    held.push(found);
                    of.push(row as u32);
                }
                Err(why) => unreadable.push((row as u32, why)),
            }
        }
        let rows = match self.decode(keys, &of, &held) {
            Ok(rows) => rows,
            Err(_) => {
                // One by one, so that each key answers for itself alone.
                let (mut batches, mut kept) = (Vec::new(), Vec::new());
                for (found, row) in held.into_iter().zip(of) {
                    match self.decode(keys, &[row], &[found]) {
                        Ok(batch) => {
                            batches.push(batch);
                            kept.push(row);
                        }
                        Err(why) => unreadable.push((row, why)),
                    }
                }
                of = kept;
                arrow::compute::concat_batches(&self.nullable(), &batches).map_err(|cause| self.place.unfit_rows(cause))?
            }
        };
        Ok(LookupAnswer { rows, of, unreadable })
    }

    /// The declared columns of keys that are there.
    fn decode(&self, keys: &RecordBatch, of: &[u32], held: &[Held]) -> std::result::Result<RecordBatch, String> {
        let places = UInt32Array::from(of.to_vec());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (index, field) in self.schema.fields().iter().enumerate() {
            columns.push(match self.key.iter().position(|at| *at == index) {
                Some(at) => take(keys.column(at), &places, None).map_err(|cause| cause.to_string())?,
                None => {
                    let texts: Vec<Option<&[u8]>> = held.iter().map(|row| row.get(field.name()).and_then(|value| value.as_deref())).collect();
                    // The parser's words may quote the value, and are left out.
                    column(field, &texts, self.options.kind == Type::Json)
                        .map_err(|_| format!("column \"{}\" of a key like \"{}\" holds no {}", field.name(), self.place.pattern, field.data_type()))?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(of.len()));
        RecordBatch::try_new_with_options(self.nullable(), columns, &options).map_err(|cause| cause.to_string())
    }

    fn nullable(&self) -> SchemaRef {
        Arc::new(Schema::new(self.schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect::<Vec<_>>()))
    }
}

impl LookupTable for RedisLookup {
    fn name(&self) -> &str {
        &self.place.sink
    }

    /// Keys have no columns that could be looked at beforehand: it is there, and lets us in.
    fn check(&self) -> Result<()> {
        let mut connection = self.open()?;
        let answered: Value = redis::cmd("PING").query(&mut connection).map_err(|cause| self.lost(cause))?;
        if let Value::ServerError(said) = answered {
            return Err(of_table(&self.place.sink, self.place.refused(&said)));
        }
        *self.connection.lock() = Some(connection);
        Ok(())
    }

    fn ask(&self, requests: &[RecordBatch]) -> Result<Vec<LookupAnswer>> {
        let mut connection = self.open()?;
        // A connection on which answers are still under way is given up with the error.
        let answers = self.exchange(&mut connection, requests)?;
        *self.connection.lock() = Some(connection);
        requests.iter().zip(answers).map(|(keys, values)| self.answer(keys, values)).collect()
    }
}

/// An error of connections and options, which sinks have too, as one of a static table.
fn of_table(name: &str, error: Error) -> Error {
    let message = error.message().replacen(&format!("sink \"{name}\""), &format!("static table \"{name}\""), 1);
    let mut renamed = Error::new(error.kind(), error.code(), message);
    if let Some(hint) = error.next_step() {
        renamed = renamed.hint(hint.replace("HSET, HDEL, SET, DEL, PEXPIRE, HMGET and EVAL", "HGETALL and GET"));
    }
    match std::error::Error::source(&error) {
        Some(cause) => renamed.caused_by(cause.to_string()),
        None => renamed,
    }
}
