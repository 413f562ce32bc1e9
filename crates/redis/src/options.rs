//! What `WITH (connector = 'redis', …)` says.

use std::time::Duration;

use arrow::datatypes::{DataType, Schema};
use redis::{Client, IntoConnectionInfo};
use watershed_types::{Options, Result, Secret, near_miss};

use crate::error::bad_option;
use crate::text;

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A hash with a field per column; a NULL is a field that is not there.
    Hash,
    /// The text of one column; a NULL deletes the key.
    String,
    /// The row as a JSON object.
    Json,
}

/// The options of a Redis sink, checked as far as that goes without a network.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    pub(crate) sink: String,
    url: Secret,
    /// The template as written, for errors.
    pub pattern: String,
    pub(crate) key: Vec<Piece>,
    /// The form of values.
    pub kind: Type,
    /// The places of the columns that are written, in order.
    pub(crate) fields: Vec<usize>,
    /// How long a key lives after it was last set. None: for ever.
    pub ttl: Option<Duration>,
    /// For how long of event time keys are kept, and listed in an index by their time. None: for ever, without an index.
    pub retention: Option<Retention>,
    /// The key of the stamp; None for `watershed:<pipeline>:<sink>:epoch`.
    pub stamp: Option<String>,
    /// Commands per flight.
    pub batch: usize,
    /// How long a connection may take to open, and the server to answer a flight.
    pub connect_timeout: Duration,
}

/// How long keys are kept by the time of their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The place of the time column.
    pub time: usize,
    /// How far behind the newest time a key is kept.
    pub keep: Duration,
}

/// A piece of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// A column's place.
    Column(usize),
}

impl RedisOptions {
    /// Takes what a Redis sink knows. `schema` is what it will be given. Errors: `RDS0001` for what cannot be meant,
    /// `SQL0102` and `SQL0103` for what is missing or malformed.
    pub fn take(options: &mut Options, sink_name: &str, schema: &Schema) -> Result<Self> {
        let url = url(options, sink_name)?;
        let pattern = options.require("key")?;
        let key = pieces(sink_name, &pattern, schema)?;
        let kind = kind(options)?;
        let retention = retention(sink_name, schema, options, kind)?;
        // A row that is found by its time is read from its value alone.
        let covered = if retention.is_some() { &[] } else { key.as_slice() };
        let fields = fields(sink_name, schema, covered, kind, options.take("fields"), options.take("value"))?;
        let ttl = options.duration("ttl")?;
        if ttl.is_some_and(|ttl| ttl < Duration::from_millis(1)) {
            return Err(bad_option(sink_name, "option \"ttl\" is shorter than a millisecond", "Leave ttl out to keep keys for ever."));
        }
        let batch = options.number("batch")?.unwrap_or(1_000);
        if !(1..=100_000).contains(&batch) {
            return Err(bad_option(sink_name, "option \"batch\" is not between 1 and 100,000", "1,000 is plenty."));
        }
        let (stamp, connect_timeout) = (options.take("stamp"), options.duration("connect_timeout")?.unwrap_or(Duration::from_secs(5)));
        Ok(Self { sink: sink_name.to_owned(), url, pattern, key, kind, fields, ttl, retention, stamp, batch: batch as usize, connect_timeout })
    }

    /// Takes what keys that are only asked for know: where they are, their template, and the form of their values.
    pub(crate) fn for_lookup(options: &mut Options, name: &str, schema: &Schema) -> Result<Self> {
        let url = url(options, name)?;
        let pattern = options.require("key")?;
        let key = pieces(name, &pattern, schema)?;
        let kind = kind(options)?;
        let fields: Vec<usize> = (0..schema.fields().len()).filter(|index| !key.contains(&Piece::Column(*index))).collect();
        if kind == Type::String && fields.len() != 1 {
            let message = format!("type 'string' holds one column besides the key, not {}", fields.len());
            return Err(bad_option(name, message, "Declare one, or use type 'hash' or 'json'."));
        }
        for place in &fields {
            check(name, schema, *place)?;
        }
        let connect_timeout = options.duration("connect_timeout")?.unwrap_or(Duration::from_secs(5));
        Ok(Self { sink: name.to_owned(), url, pattern, key, kind, fields, ttl: None, retention: None, stamp: None, batch: 1_000, connect_timeout })
    }

    /// The places of the columns in the template, each once, in its order.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut places = Vec::new();
        for piece in &self.key {
            if let Piece::Column(place) = piece
                && !places.contains(place)
            {
                places.push(*place);
            }
        }
        places
    }

    /// The places of the columns that a value holds.
    pub fn value_columns(&self) -> &[usize] {
        &self.fields
    }

    /// The key of the stamp of a pipeline's sink.
    pub fn stamp_key(&self, pipeline: &str) -> String {
        self.stamp.clone().unwrap_or_else(|| format!("watershed:{pipeline}:{}:epoch", self.sink))
    }

    /// The key of the index by time of a pipeline's sink.
    pub fn index_key(&self, pipeline: &str) -> String {
        format!("watershed:{pipeline}:{}:times", self.sink)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::open(self.url.expose()).map_err(|_| bad_option(&self.sink, "option \"url\" cannot be read", "Write url = 'redis://host:6379/0'."))
    }
}

fn url(options: &mut Options, owner: &str) -> Result<Secret> {
    let url = options.require("url")?;
    // The parser's words may quote the URL, and are left out.
    let info = url.as_str().into_connection_info().and_then(Client::open);
    if info.is_err() {
        return Err(bad_option(owner, "option \"url\" cannot be read", "Write url = 'redis://user:password@host:6379/0', or rediss:// for TLS."));
    }
    Ok(Secret::new(url))
}

fn kind(options: &mut Options) -> Result<Type> {
    let kind = options.parse("type", "'hash', 'string' or 'json'", |text| match text.trim().to_ascii_lowercase().as_str() {
        "hash" => Some(Type::Hash),
        "string" => Some(Type::String),
        "json" => Some(Type::Json),
        _ => None,
    })?;
    Ok(kind.unwrap_or(Type::Hash))
}

fn column(sink: &str, schema: &Schema, option: &str, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let hint = match near_miss(name, names.clone()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Its columns: {}.", names.collect::<Vec<_>>().join(", ")),
        };
        bad_option(sink, format!("option \"{option}\" names \"{name}\", which is not a column"), hint)
    })
}

fn pieces(sink: &str, pattern: &str, schema: &Schema) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                text.push(c);
            }
            '{' => {
                let mut name = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some(c) => name.push(c),
                        None => return Err(bad_option(sink, "option \"key\" has a { without its }", "Write {column}, or {{ for a brace.")),
                    }
                }
                let index = column(sink, schema, "key", name.trim())?;
                check(sink, schema, index)?;
                if schema.field(index).data_type().is_nested() {
                    return Err(bad_option(sink, format!("option \"key\" names \"{name}\", which is nested"), "Make keys of plain columns."));
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Column(index));
            }
            '}' => return Err(bad_option(sink, "option \"key\" has a } without its {", "Write {column}, or }} for a brace.")),
            c => text.push(c),
        }
    }
    pieces.push(Piece::Text(text));
    if !pieces.iter().any(|piece| matches!(piece, Piece::Column(_))) {
        return Err(bad_option(sink, "option \"key\" names no column, so all rows would share one key", "Write key = 'orders:{id}'."));
    }
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(pieces)
}

fn retention(sink: &str, schema: &Schema, options: &mut Options, kind: Type) -> Result<Option<Retention>> {
    let (keep, named) = (options.duration("retention")?, options.take("time"));
    let Some(keep) = keep else {
        return match named {
            Some(_) => Err(bad_option(sink, "option \"time\" is for \"retention\"", "Add retention = '1 hour', or leave time out.")),
            None => Ok(None),
        };
    };
    if kind == Type::String {
        return Err(bad_option(sink, "option \"retention\" is for types 'hash' and 'json'", "Leave retention out, and give the sink a ttl."));
    }
    let name = match named {
        Some(name) => name,
        None if schema.index_of("window_start").is_ok() => "window_start".to_owned(),
        None => return Err(bad_option(sink, "option \"retention\" needs to know which column is the time", "Add time = 'column'.")),
    };
    let time = column(sink, schema, "time", &name)?;
    if !matches!(schema.field(time).data_type(), DataType::Timestamp(..)) {
        return Err(bad_option(sink, format!("option \"time\" names \"{name}\", which is no timestamp"), "Name a TIMESTAMP column."));
    }
    Ok(Some(Retention { time, keep }))
}

fn fields(sink: &str, schema: &Schema, key: &[Piece], kind: Type, fields: Option<String>, value: Option<String>) -> Result<Vec<usize>> {
    if value.is_some() && kind != Type::String || fields.is_some() && kind == Type::String {
        return Err(bad_option(sink, "option \"value\" is for type 'string', and \"fields\" for the others", "Leave the other one out."));
    }
    let places = match fields.or(value) {
        Some(names) => {
            let option = if kind == Type::String { "value" } else { "fields" };
            names.split(',').map(|name| column(sink, schema, option, name.trim())).collect::<Result<Vec<_>>>()?
        }
        // A JSON object is the whole row; elsewhere the key need not be said twice.
        None => (0..schema.fields().len()).filter(|index| kind == Type::Json || !key.contains(&Piece::Column(*index))).collect(),
    };
    if kind == Type::String && places.len() != 1 {
        return Err(bad_option(sink, format!("type 'string' takes one column, not {}", places.len()), "Add value = 'column'."));
    }
    if places.is_empty() {
        return Err(bad_option(sink, "no column is left to be written", "Name columns in fields."));
    }
    for place in &places {
        check(sink, schema, *place)?;
    }
    Ok(places)
}

fn check(sink: &str, schema: &Schema, index: usize) -> Result<()> {
    let field = schema.field(index);
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if text::knows(data_type) {
        return Ok(());
    }
    Err(bad_option(sink, format!("column \"{}\" is {data_type}, which has no text form", field.name()), format!("CAST {} to another type, or leave it out.", field.name())))
}
