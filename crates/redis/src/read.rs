//! Rows read back from keys.
//!
//! **Owns** the connections for reading and the way from text to typed columns. **Does not own** which keys or times are
//! asked for, or what is done where a key is missing.
//!
//! All calls block. A connection that breaks is replaced once within a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parking_lot::Mutex;
use redis::{Client, Connection, RedisError, RedisResult, ServerError};
use serde_json::value::RawValue;
use watershed_types::{Error, Result};

use crate::coverage::run_id;
use crate::error::Place;
use crate::options::{RedisOptions, Type};
use crate::rows::key;

/// Connections kept for the next call.
const IDLE: usize = 16;
/// A reader has somewhere else to ask, and does not wait as long as a writer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the stamp says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HotState {
    /// The pipeline's life it belongs to; `None` without a stamp.
    pub app_id: Option<String>,
    /// The last epoch whose values are all there.
    pub epoch: u64,
    /// From this time on, in microseconds, every key is there and in the index. `None` if that cannot be said.
    pub floor: Option<i64>,
}

/// Rows that were found.
#[derive(Debug, Clone)]
pub struct HotRows {
    /// The columns that values hold, by the table's names and types.
    pub rows: RecordBatch,
    /// For each key asked for, whether it is there; rows come in the order of those that are.
    pub found: Vec<bool>,
    /// The newest time among keys that the index names and that are gone.
    pub missing: Option<i64>,
    /// Whether the limit left rows out.
    pub more: bool,
}

/// Reads the keys a sink writes.
pub struct RedisReader {
    options: RedisOptions,
    place: Place,
    schema: SchemaRef,
    stamp: String,
    index: String,
    client: Client,
    idle: Mutex<Vec<Connection>>,
}

type Value = Option<Vec<u8>>;

impl RedisReader {
    /// A reader; no network. `schema` is the table's. Errors: `RDS0001`.
    pub fn new(options: RedisOptions, pipeline: &str, schema: SchemaRef) -> Result<Self> {
        let client = options.client()?;
        let place = Place { sink: options.sink.clone(), server: client.get_connection_info().addr().to_string(), pattern: options.pattern.clone() };
        let (stamp, index) = (options.stamp_key(pipeline), options.index_key(pipeline));
        Ok(Self { options, place, schema, stamp, index, client, idle: Mutex::default() })
    }

    /// The sink's options.
    pub fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// The stamp, and whether the server is still the one it speaks of. Errors: `RDS0002`, `RDS0003`.
    pub fn state(&self) -> Result<HotState> {
        self.with(|connection| {
            let (app_id, epoch, run, floor): (Option<String>, Option<u64>, Option<String>, Option<i64>) =
                redis::cmd("HMGET").arg(&self.stamp).arg(&["app_id", "epoch", "run", "floor"]).query(connection)?;
            let floor = match run {
                // A server that had to throw keys away does not say which.
                Some(run) if run == run_id(connection)? && !evicts(connection)? => floor,
                _ => None,
            };
            Ok(HotState { app_id, epoch: epoch.unwrap_or(0), floor })
        })
    }

    /// The rows of some keys. `keys` holds the columns of [`RedisOptions::key_columns`], in that order. Errors: `RDS0002`, `RDS0003`, `RDS0009`.
    pub fn get(&self, keys: &[ArrayRef]) -> Result<HotRows> {
        let places = self.options.key_columns();
        let count = keys.first().map_or(0, |array| array.len());
        let names: Vec<Vec<u8>> = (0..count)
            .map(|row| {
                let mut name = Vec::new();
                key(&self.options.key, |place| &keys[places.iter().position(|at| *at == place).unwrap_or(0)], row, &mut name);
                name
            })
            .collect();
        let values = self.with(|connection| self.fetch(connection, &names))?;
        let found: Vec<bool> = values.iter().map(Option::is_some).collect();
        Ok(HotRows { rows: self.decode(values.into_iter().flatten().collect())?, found, missing: None, more: false })
    }

    /// Up to `limit` rows with times in `[from, to)`, oldest first, by the index. Errors as [`RedisReader::get`].
    pub fn range(&self, from: i64, to: i64, limit: usize) -> Result<HotRows> {
        let (names, values) = self.with(|connection| {
            let listed: Vec<(Vec<u8>, f64)> =
                redis::cmd("ZRANGEBYSCORE").arg(&self.index).arg(from).arg(format!("({to}")).arg("WITHSCORES").arg("LIMIT").arg(0).arg(limit + 1).query(connection)?;
            let mut values = Vec::with_capacity(listed.len());
            for page in listed.chunks(self.options.batch) {
                let names: Vec<Vec<u8>> = page.iter().map(|(name, _)| name.clone()).collect();
                values.extend(self.fetch(connection, &names)?);
            }
            Ok((listed, values))
        })?;
        let missing = names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|((_, time), _)| *time as i64).max();
        let more = names.len() > limit;
        let found: Vec<bool> = values.iter().map(Option::is_some).take(limit).collect();
        Ok(HotRows { rows: self.decode(values.into_iter().take(limit).flatten().collect())?, found, missing, more })
    }

    fn fetch(&self, connection: &mut Connection, names: &[Vec<u8>]) -> RedisResult<Vec<Option<BTreeMap<String, Value>>>> {
        let mut pipe = redis::pipe();
        for name in names {
            pipe.cmd(if self.options.kind == Type::Hash { "HGETALL" } else { "GET" }).arg(name);
        }
        match self.options.kind {
            Type::Hash => {
                let hashes: Vec<BTreeMap<String, Vec<u8>>> = pipe.query(connection)?;
                Ok(hashes.into_iter().map(|hash| (!hash.is_empty()).then(|| hash.into_iter().map(|(name, value)| (name, Some(value))).collect())).collect())
            }
            Type::String => {
                let name = self.options.fields.first().map_or_else(String::new, |place| self.schema.field(*place).name().clone());
                let values: Vec<Value> = pipe.query(connection)?;
                Ok(values.into_iter().map(|value| value.map(|value| BTreeMap::from([(name.clone(), Some(value))]))).collect())
            }
            Type::Json => {
                let values: Vec<Value> = pipe.query(connection)?;
                values.into_iter().map(|value| value.map(|value| object(&value)).transpose()).collect()
            }
        }
    }

    /// The columns of values.
    fn decode(&self, values: Vec<BTreeMap<String, Value>>) -> Result<RecordBatch> {
        let fields: Vec<Field> = self.options.fields.iter().map(|place| self.schema.field(*place).clone().with_nullable(true)).collect();
        let mut columns = Vec::with_capacity(fields.len());
        for field in &fields {
            let texts: Vec<Option<&[u8]>> = values.iter().map(|row| row.get(field.name()).and_then(|value| value.as_deref())).collect();
            columns.push(column(field, &texts, self.options.kind == Type::Json).map_err(|what| self.unreadable(field.name(), &what))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(|cause| self.unreadable("…", &cause.to_string()))
    }

    fn unreadable(&self, column: &str, what: &str) -> Error {
        let Place { sink, pattern, .. } = &self.place;
        Error::corrupt("RDS0009", format!("sink \"{sink}\": a key like \"{pattern}\" holds no value for column \"{column}\": {what}"))
            .hint("Somebody else writes such keys, or the table's columns were changed: delete them; the sink sets them again.")
    }

    fn with<T>(&self, ask: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        let kept = self.idle.lock().pop();
        if let Some(mut connection) = kept
            && let Ok(answer) = ask(&mut connection)
        {
            self.give_back(connection);
            return Ok(answer);
        }
        // A kept connection may have died since: the second one is new, and its word counts.
        let patience = self.options.connect_timeout.min(PATIENCE);
        let opened = self.client.get_connection_with_timeout(patience).and_then(|connection| {
            connection.set_read_timeout(Some(patience))?;
            connection.set_write_timeout(Some(patience))?;
            Ok(connection)
        });
        let mut connection = opened.map_err(|cause| self.place.unreachable(cause))?;
        match ask(&mut connection) {
            Ok(answer) => {
                self.give_back(connection);
                Ok(answer)
            }
            Err(cause) => Err(self.failed(cause)),
        }
    }

    fn failed(&self, cause: RedisError) -> Error {
        match ServerError::try_from(cause) {
            Ok(said) => self.place.refused(&said),
            Err(cause) => Error::unavailable("RDS0003", format!("sink \"{}\": the connection to \"{}\" was lost", self.place.sink, self.place.server))
                .hint("It is opened again by the next read.")
                .caused_by(cause),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}

/// Whether the server has thrown keys away to make room.
fn evicts(connection: &mut Connection) -> RedisResult<bool> {
    let info: String = redis::cmd("INFO").arg("stats").query(connection)?;
    Ok(info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).is_some_and(|count| count.trim() != "0"))
}

/// The members of a JSON object: strings without their escapes, everything else as it is written.
pub(crate) fn object(text: &[u8]) -> RedisResult<BTreeMap<String, Value>> {
    let broken = |_| RedisError::from((redis::ErrorKind::UnexpectedReturnType, "a value is not the JSON object the sink writes"));
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text).map_err(broken)?;
    let value = |raw: &RawValue| -> std::result::Result<Value, serde_json::Error> {
        Ok(match raw.get() {
            "null" => None,
            text if text.starts_with('"') => Some(serde_json::from_str::<String>(text)?.into_bytes()),
            text => Some(text.as_bytes().to_vec()),
        })
    };
    members.into_iter().map(|(name, raw)| Ok((name, value(&raw).map_err(broken)?))).collect()
}

/// Texts as a column of the field's type.
pub(crate) fn column(field: &Field, texts: &[Option<&[u8]>], json: bool) -> std::result::Result<ArrayRef, String> {
    let said = |error: arrow::error::ArrowError| error.to_string();
    match field.data_type() {
        binary @ (DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
            let bytes: Vec<Option<Vec<u8>>> =
                texts.iter().map(|text| text.map(|text| if json { unhex(text) } else { Ok(text.to_vec()) }).transpose()).collect::<std::result::Result<_, _>>()?;
            cast(&(Arc::new(BinaryArray::from_iter(bytes)) as ArrayRef), binary).map_err(said)
        }
        nested if nested.is_nested() => parsed(field, texts),
        plain => {
            let texts: Vec<Option<&str>> =
                texts.iter().map(|text| text.map(std::str::from_utf8).transpose()).collect::<std::result::Result<_, _>>().map_err(|_| "text that is not UTF-8".to_owned())?;
            let array: ArrayRef = Arc::new(StringArray::from(texts));
            cast_with_options(&array, plain, &CastOptions { safe: false, ..CastOptions::default() }).map_err(said)
        }
    }
}

fn unhex(text: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let broken = || "bytes that are not written as \\x and hexadecimal digits".to_owned();
    let digits = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("\\x")).ok_or_else(broken)?;
    (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(broken)).collect()
}

/// Nested values from their JSON.
fn parsed(field: &Field, texts: &[Option<&[u8]>]) -> std::result::Result<ArrayRef, String> {
    let said = |error: arrow::error::ArrowError| error.to_string();
    let schema = Arc::new(Schema::new(vec![Field::new("value", field.data_type().clone(), true)]));
    let mut decoder = arrow::json::ReaderBuilder::new(schema).with_batch_size(texts.len().max(1)).build_decoder().map_err(said)?;
    for text in texts {
        let line = [b"{\"value\":", text.unwrap_or(b"null"), b"}\n"].concat();
        decoder.decode(&line).map_err(said)?;
    }
    let batch = decoder.flush().map_err(said)?;
    Ok(batch.map_or_else(|| arrow::array::new_empty_array(field.data_type()), |batch| Arc::clone(batch.column(0))))
}
