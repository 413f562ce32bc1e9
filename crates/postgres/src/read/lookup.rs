//! A table asked by key: one statement a request, all of them on their way at once.
//!
//! **Owns** the statement, how keys go into it, and whether a declared column fits the one that is there. **Does not own**
//! which keys are asked for, or what is remembered.
//!
//! ```text
//! SELECT "id", "name", k.nth FROM unnest($1::bigint[]) WITH ORDINALITY k JOIN "public"."customers" t ON t."id" = k.key
//! ```
//!
//! The ordinal says which key a row is of, so that equality is the server's, and an index on the key serves it.
//!
//! Failure: a lost connection is `PG0034`, for which the caller waits; the next request opens another.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::{BufMut as _, BytesMut};
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_postgres::types::{IsNull, Kind as TypeKind, ToSql, Type};
use tokio_postgres::{Client, Row, Statement};
use watershed_ports::{LookupAnswer, LookupTable};
use watershed_types::{Error, Kind, Options, Result};

use super::PostgresReader;
use super::column::{Comparing, ReadColumn, Scalar, find};
use super::decode::Decoder;
use crate::columns::{quote, sent_as};
use crate::encode;
use crate::options::PostgresOptions;

/// A table whose rows are asked for by key. All calls block.
pub struct PostgresLookup {
    reader: Arc<PostgresReader>,
    name: String,
    schema: SchemaRef,
    key: Vec<usize>,
    timeout: Duration,
    ready: Mutex<Option<Arc<Ready>>>,
    runtime: Handle,
}

/// A connection with its statement, made for the columns the table had when it was opened.
struct Ready {
    client: Client,
    statement: Statement,
    columns: Vec<ReadColumn>,
    keys: Vec<KeyColumn>,
}

/// How the values of one column of the key are sent and compared.
#[derive(Debug, Clone)]
struct KeyColumn {
    /// The type of the parameter's elements.
    sent_as: String,
    column: crate::columns::Column,
    /// What it is compared with.
    there: String,
}

impl PostgresLookup {
    /// Takes what `WITH (connector = 'postgres', …)` of a static table says; no network. `key` names columns of `schema`.
    /// Errors: `PG0001` for what cannot be meant, `SQL0102` and `SQL0103` for what is missing or malformed.
    pub fn new(options: &mut Options, name: &str, schema: SchemaRef, key: Vec<usize>, pipeline: &str, runtime: Handle) -> Result<Self> {
        let timeout = options.duration("lookup.timeout")?.unwrap_or(Duration::from_secs(30));
        let taken = PostgresOptions::for_lookup(options, name, timeout).map_err(|error| of_table(name, error))?;
        let reader = PostgresReader::new(taken, pipeline, runtime.clone());
        Ok(Self { reader, name: name.to_owned(), schema, key, timeout, ready: Mutex::default(), runtime })
    }

    /// Connects, compares the columns, prepares the statement.
    async fn open(&self) -> Result<Ready> {
        let client = self.reader.client().await.map_err(|error| match error.kind() {
            Kind::Unavailable => self.away(source(&error)),
            _ => of_table(&self.name, error),
        })?;
        let found = find(&client, &self.reader).await.map_err(|error| self.away(source(&error)))?;
        if found.is_empty() {
            let Self { name, reader, .. } = self;
            return Err(Error::invalid("PG0035", format!("static table \"{name}\": there is no table \"{}\" at \"{}\"", reader.place.table, reader.place.server))
                .hint("Create it, or correct the option table."));
        }
        let columns = self.schema.fields().iter().map(|field| self.fit(field, &found)).collect::<Result<Vec<_>>>()?;
        let keys = self.key.iter().map(|index| self.key_column(self.schema.field(*index), &columns[*index])).collect::<Result<Vec<_>>>()?;
        let statement = client.prepare(&self.statement(&columns, &keys)).await.map_err(|cause| match cause.as_db_error() {
            // Columns and grants were looked at: what is left is a comparison it does not know.
            Some(db) if db.code().code() == "42883" => {
                self.unfit(format!("its key is not compared with ours: {}", db.message()), "Declare the key's columns as they are there.".to_owned())
            }
            _ => self.failed(cause),
        })?;
        Ok(Ready { client, statement, columns, keys })
    }

    fn statement(&self, columns: &[ReadColumn], keys: &[KeyColumn]) -> String {
        let selected: Vec<String> = columns.iter().map(|column| format!("t.{}", column.selected())).collect();
        let arrays: Vec<String> = keys.iter().enumerate().map(|(index, key)| format!("${}::{}[]", index + 1, key.sent_as)).collect();
        let named: Vec<String> = (0..keys.len()).map(|index| format!("key_{index}")).collect();
        let compared: Vec<String> = keys.iter().enumerate().map(|(index, key)| format!("t.{} = k.key_{index}", key.there)).collect();
        format!(
            "SELECT {}, k.nth FROM unnest({}) WITH ORDINALITY AS k({}, nth) JOIN {} AS t ON {}",
            selected.join(", "),
            arrays.join(", "),
            named.join(", "),
            self.reader.quoted_table(),
            compared.join(" AND ")
        )
    }

    /// The column there that a declared one is read from.
    fn fit(&self, field: &Field, found: &[ReadColumn]) -> Result<ReadColumn> {
        let name = field.name();
        let Some(there) = found.iter().find(|there| there.name == *name) else {
            let hint = match watershed_types::near_miss(name, found.iter().map(|there| there.name.as_str())) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("Its columns: {}.", found.iter().map(|there| there.name.as_str()).collect::<Vec<_>>().join(", ")),
            };
            return Err(self.unfit(format!("it has no column \"{name}\""), hint));
        };
        if !holds(field.data_type(), there.field().data_type()) {
            let what = format!("column \"{name}\" is {} there, and declared {}", there.shown, field.data_type());
            return Err(self.unfit(what, "Declare it with a type that holds every value of that one; VARCHAR for what has none of its own.".to_owned()));
        }
        let in_key = self.key.iter().any(|index| self.schema.field(*index).name() == name);
        if !field.is_nullable() && there.nullable && !in_key {
            let table = self.reader.quoted_table();
            return Err(self.unfit(
                format!("column \"{name}\" is declared NOT NULL, and may be NULL there"),
                format!("Leave NOT NULL out, or run there: ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL;", quote(name)),
            ));
        }
        Ok(there.clone())
    }

    fn key_column(&self, field: &Field, there: &ReadColumn) -> Result<KeyColumn> {
        let name = quote(&there.name);
        let refused = |what: &str| {
            self.unfit(format!("column \"{}\" is {} there, {what}", there.name, there.shown), "Ask by another column, or through a view there that casts it.".to_owned())
        };
        let mut column = sent_as(field.name(), field.data_type()).ok_or_else(|| refused("which no key of ours is compared with"))?;
        let mut there_is = name.clone();
        if matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            match (there.scalar, there.comparing) {
                (Scalar::Uuid, _) => {
                    column.wire = crate::columns::Wire::Uuid;
                    column.made_as = "uuid".to_owned();
                }
                (_, Comparing::Plain) => {}
                (_, Comparing::AsText) => there_is = format!("{name}::text"),
                (_, Comparing::Never) => return Err(refused("whose values are equal though they differ")),
            }
        }
        Ok(KeyColumn { sent_as: column.made_as.clone(), column, there: there_is })
    }

    /// The connection that is there, or a new one.
    async fn ready(&self) -> Result<Arc<Ready>> {
        let kept = self.ready.lock().clone();
        if let Some(ready) = kept.filter(|ready| !ready.client.is_closed()) {
            return Ok(ready);
        }
        let ready = Arc::new(self.open().await?);
        *self.ready.lock() = Some(Arc::clone(&ready));
        Ok(ready)
    }

    async fn request(&self, ready: &Ready, keys: &RecordBatch) -> Result<Vec<Row>> {
        let types = ready.statement.params();
        let mut arrays = Vec::with_capacity(ready.keys.len());
        for ((key, column), array) in ready.keys.iter().zip(types).zip(keys.columns()) {
            let TypeKind::Array(element) = column.kind() else {
                return Err(Error::internal("PG0033", format!("static table \"{}\": a key is sent as {column}", self.name)).hint("Please report this."));
            };
            arrays.push(Elements::of(&self.name, &key.column, array, element.oid())?);
        }
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
        ready.client.query(&ready.statement, &parameters).await.map_err(|cause| self.failed(cause))
    }

    fn answer(&self, ready: &Ready, rows: &[Row]) -> Result<LookupAnswer> {
        let nth = |row: &Row| -> Result<u32> {
            let nth: i64 = row.try_get(ready.columns.len()).map_err(|cause| self.failed(cause))?;
            Ok((nth - 1) as u32)
        };
        if let Ok(batch) = self.decode(ready, rows) {
            return Ok(LookupAnswer { rows: batch, of: rows.iter().map(nth).collect::<Result<_>>()?, unreadable: vec![] });
        }
        // One by one, so that each row answers for itself alone.
        let (mut batches, mut of, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match self.decode(ready, std::slice::from_ref(row)) {
                Ok(batch) => {
                    batches.push(batch);
                    of.push(nth(row)?);
                }
                Err(error) => unreadable.push((nth(row)?, error.message().to_owned())),
            }
        }
        let rows = concat_batches(&self.nullable(), &batches).map_err(|cause| self.broken(cause))?;
        Ok(LookupAnswer { rows, of, unreadable })
    }

    /// Rows with the declared columns.
    fn decode(&self, ready: &Ready, rows: &[Row]) -> Result<RecordBatch> {
        let mut decoder = Decoder::new(ready.columns.clone());
        for row in rows {
            decoder.put(self.reader.table_name(), row)?;
        }
        let read = decoder.batch()?;
        let exact = CastOptions { safe: false, ..CastOptions::default() };
        let cast = |(column, field): (&ArrayRef, &Arc<Field>)| cast_with_options(column, field.data_type(), &exact);
        let columns = read.columns().iter().zip(self.schema.fields()).map(cast).collect::<std::result::Result<Vec<_>, _>>().map_err(|cause| self.broken(cause))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.nullable(), columns, &options).map_err(|cause| self.broken(cause))
    }

    fn nullable(&self) -> SchemaRef {
        Arc::new(Schema::new(self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
    }

    fn broken(&self, cause: arrow::error::ArrowError) -> Error {
        Error::internal("PG0033", format!("static table \"{}\": a row does not have the declared columns: {cause}", self.name)).hint("Please report this.")
    }

    fn unfit(&self, what: String, hint: String) -> Error {
        Error::invalid("PG0035", format!("static table \"{}\": table \"{}\" does not fit: {what}", self.name, self.reader.place.table)).hint(hint)
    }

    fn away(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let Self { name, reader, .. } = self;
        Error::unavailable("PG0034", format!("static table \"{name}\": table \"{}\" at \"{}\" cannot be asked", reader.place.table, reader.place.server))
            .hint("Check that the server runs and takes connections; it is asked again.")
            .caused_by(cause)
            .definite()
    }

    fn failed(&self, cause: tokio_postgres::Error) -> Error {
        let Self { name, reader, .. } = self;
        match cause.code().map(tokio_postgres::error::SqlState::code) {
            Some("42501") => Error::denied("PG0004", format!("static table \"{name}\": not allowed to read table \"{}\" at \"{}\"", reader.place.table, reader.place.server))
                .hint(format!("Grant the user of the url SELECT on {}.", reader.place.table)),
            // The table is another one than it was: looked at anew, it may fit or say why not.
            Some("42P01" | "42703" | "0A000") => {
                *self.ready.lock() = None;
                self.away("somebody changed it".to_owned())
            }
            _ => match cause.as_db_error() {
                Some(db) => self.away(db.message().to_owned()),
                None => self.away(cause),
            },
        }
    }
}

impl LookupTable for PostgresLookup {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<()> {
        self.runtime.block_on(self.ready()).map(|_| ())
    }

    fn ask(&self, requests: &[RecordBatch]) -> Result<Vec<LookupAnswer>> {
        let asked = self.runtime.block_on(async {
            let asking = async {
                let ready = self.ready().await?;
                let answered = try_join_all(requests.iter().map(|keys| self.request(&ready, keys))).await?;
                answered.iter().map(|rows| self.answer(&ready, rows)).collect::<Result<Vec<_>>>()
            };
            tokio::time::timeout(self.timeout, asking).await
        });
        let asked = asked.unwrap_or_else(|_| Err(self.away("no answer in time".to_owned())));
        if asked.is_err() {
            // Whatever it was, the answers still under way on it are not to be mixed up with others.
            *self.ready.lock() = None;
        }
        asked
    }
}

/// Values as the elements of an array, in its binary form.
#[derive(Debug)]
struct Elements(Vec<u8>);

impl Elements {
    fn of(owner: &str, column: &crate::columns::Column, array: &ArrayRef, element: u32) -> Result<Elements> {
        let mut out = Vec::with_capacity(20 + 12 * array.len());
        // One dimension, perhaps with NULLs, from 1.
        for word in [1, 1, element as i32, array.len() as i32, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        encode::elements(owner, column, array, &mut out)?;
        Ok(Elements(out))
    }
}

impl ToSql for Elements {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    tokio_postgres::types::to_sql_checked!();
}

/// Whether a declared type holds every value of the type that is read.
fn holds(declared: &DataType, read: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, Date32, Decimal128, Float32, Float64, Int16, Int32, Int64, LargeBinary, LargeUtf8, List, Time64, Timestamp, Utf8, Utf8View};
    let digits = |integer: &DataType| match integer {
        Int16 => 5,
        Int32 => 10,
        _ => 19,
    };
    match (declared, read) {
        (Boolean, Boolean) | (Int16 | Int32 | Int64, Int16) | (Int32 | Int64, Int32) | (Int64, Int64) => true,
        (Float32 | Float64, Float32) | (Float64, Float64 | Int16 | Int32) => true,
        (Int64, Decimal128(precision, 0)) => *precision <= 18,
        (Int32, Decimal128(precision, 0)) => *precision <= 9,
        (Decimal128(precision, scale), integer @ (Int16 | Int32 | Int64)) => i32::from(*precision) - i32::from(*scale) >= digits(integer),
        (Decimal128(precision, scale), Decimal128(of, of_scale)) => scale >= of_scale && i32::from(*precision) - i32::from(*scale) >= i32::from(*of) - i32::from(*of_scale),
        (Utf8 | LargeUtf8 | Utf8View, Utf8) | (Binary | LargeBinary | BinaryView, Binary) | (Date32, Date32) => true,
        (Time64(TimeUnit::Microsecond), Time64(TimeUnit::Microsecond)) => true,
        (Timestamp(TimeUnit::Microsecond, declared), Timestamp(TimeUnit::Microsecond, read)) => declared.is_some() == read.is_some(),
        (List(declared), List(read)) => holds(declared.data_type(), read.data_type()),
        _ => false,
    }
}

/// An error of connections, which sinks open too, as one of a static table.
fn of_table(name: &str, error: Error) -> Error {
    let message = error.message().replacen(&format!("sink \"{name}\""), &format!("static table \"{name}\""), 1);
    let mut renamed = Error::new(error.kind(), error.code(), message);
    if let Some(hint) = error.next_step() {
        renamed = renamed.hint(hint);
    }
    match std::error::Error::source(&error) {
        Some(cause) => renamed.caused_by(cause.to_string()),
        None => renamed,
    }
}

/// The innermost cause in words: what stands above it speaks of readers and sinks.
fn source(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
