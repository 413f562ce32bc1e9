//! Postgres as a tier: the table a sink writes, as of its last epoch.
//!
//! One connection serves all reads, which follow each other on it without waiting; a broken one is replaced by the next read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use watershed_postgres::read::{Decoder, PostgresReader, ReadColumn};
use watershed_postgres::{Mode, quote};
use watershed_types::{Error, Result};

use crate::cold::Cold;
use crate::error::unfit;
use crate::plan::{Name, Standing};
use crate::tier::{Keys, Rows, Tier, projected};

const FLOOR: &str = "SELECT (extract(epoch FROM floor) * 1000000)::bigint FROM watershed.floors WHERE app_id = $1 AND sink = $2";
/// The first epoch there, the last, and the generation the first came from.
const EPOCHS: &str = "
SELECT (SELECT max(epoch) FROM watershed.epochs WHERE app_id = $1 AND sink = $2),
       (SELECT generation FROM watershed.epochs WHERE app_id = $1 AND sink = $2 ORDER BY epoch, part LIMIT 1)";

/// The rows a `postgres` sink writes.
pub struct Warm {
    table: String,
    schema: SchemaRef,
    time: Option<usize>,
    app_id: String,
    sink: String,
    reader: Arc<PostgresReader>,
    cold: Arc<Cold>,
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
    /// Above everything that was there before the sink, where it came later than the table.
    before: tokio::sync::OnceCell<i64>,
}

/// A connection and what is prepared on it.
struct Open {
    client: Client,
    columns: Vec<ReadColumn>,
    epochs: Statement,
    floor: Option<Statement>,
    statements: Mutex<HashMap<String, Statement>>,
}

impl Warm {
    /// A tier over a sink's table. `app_id` is the sink's, of this life of the pipeline; `cold` says what was there before the sink.
    pub fn new(table: &str, schema: SchemaRef, time: Option<usize>, app_id: &str, sink: &str, reader: Arc<PostgresReader>, cold: Arc<Cold>) -> Warm {
        Warm {
            table: table.to_owned(),
            schema,
            time,
            app_id: app_id.to_owned(),
            sink: sink.to_owned(),
            reader,
            cold,
            open: tokio::sync::Mutex::default(),
            before: tokio::sync::OnceCell::new(),
        }
    }

    /// The names of the columns that make its rows unique.
    pub fn key(&self) -> &[String] {
        &self.reader.options().key
    }

    async fn open(&self) -> Result<Arc<Open>> {
        let mut kept = self.open.lock().await;
        if let Some(open) = kept.as_ref().filter(|open| !open.client.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let columns = self.reader.columns().await?;
        let client = self.reader.client().await?;
        let failed = |cause| self.reader.failed(cause);
        // A read that nobody waits for any more holds up those behind it.
        client.batch_execute("SET statement_timeout = 4500").await.map_err(failed)?;
        let epochs = client.prepare(EPOCHS).await.map_err(failed)?;
        let floors: bool = client.query_one("SELECT to_regclass('watershed.floors') IS NOT NULL", &[]).await.and_then(|row| row.try_get(0)).map_err(failed)?;
        let floor = if floors { Some(client.prepare(FLOOR).await.map_err(failed)?) } else { None };
        let open = Arc::new(Open { client, columns, epochs, floor, statements: Mutex::default() });
        *kept = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Drops the connection: the table is not what it was.
    async fn forget(&self) {
        *self.open.lock().await = None;
    }

    async fn prepared(&self, open: &Open, sql: String) -> Result<Statement> {
        let kept = open.statements.lock().get(&sql).cloned();
        if let Some(statement) = kept {
            return Ok(statement);
        }
        let statement = open.client.prepare(&sql).await.map_err(|cause| self.reader.failed(cause))?;
        open.statements.lock().insert(sql, statement.clone());
        Ok(statement)
    }

    async fn floor(&self, open: &Open) -> Result<Option<i64>> {
        let Some(statement) = &open.floor else {
            // Retention makes the table of floors when it first removes something.
            if self.reader.options().retention.is_some() {
                let made: bool = open
                    .client
                    .query_one("SELECT to_regclass('watershed.floors') IS NOT NULL", &[])
                    .await
                    .and_then(|row| row.try_get(0))
                    .map_err(|cause| self.reader.failed(cause))?;
                if made {
                    let row = open.client.query_opt(FLOOR, &[&self.app_id, &self.sink]).await.map_err(|cause| self.reader.failed(cause))?;
                    self.forget().await;
                    return row.map(|row| row.try_get(0)).transpose().map_err(|cause| self.reader.failed(cause));
                }
            }
            return Ok(None);
        };
        let row = open.client.query_opt(statement, &[&self.app_id, &self.sink]).await.map_err(|cause| self.reader.failed(cause))?;
        row.map(|row| row.try_get(0)).transpose().map_err(|cause| self.reader.failed(cause))
    }

    fn there<'a>(&self, open: &'a Open, place: usize) -> Option<&'a ReadColumn> {
        open.columns.iter().find(|column| column.name == *self.schema.field(place).name())
    }

    /// `SELECT` of some columns.
    fn select(&self, open: &Open, columns: &[usize]) -> Result<(String, Vec<ReadColumn>)> {
        let mut read = Vec::with_capacity(columns.len());
        for place in columns {
            read.push(self.there(open, *place).cloned().ok_or_else(|| unfit("warm", &self.table, format!("column \"{}\" is not there", self.schema.field(*place).name())))?);
        }
        let list = read.iter().map(ReadColumn::selected).collect::<Vec<_>>().join(", ");
        Ok((format!("SELECT {list} FROM {}", self.reader.quoted_table()), read))
    }

    fn batch<'a>(&self, rows: impl Iterator<Item = &'a Row>, read: Vec<ReadColumn>, columns: &[usize]) -> Result<RecordBatch> {
        let mut decoder = Decoder::new(read);
        for row in rows {
            decoder.put(self.reader.table_name(), row)?;
        }
        typed(&decoder.batch()?, &projected(&self.schema, columns)).map_err(|cause| unfit("warm", &self.table, cause))
    }
}

/// A batch in the table's types; nested ones come as JSON.
fn typed(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| match (field.data_type().is_nested(), column.data_type()) {
        (true, DataType::Utf8) => nested(field, column),
        _ => cast(column, field.data_type()),
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())))
}

fn nested(field: &Field, texts: &ArrayRef) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("value", field.data_type().clone(), true)]));
    let mut decoder = arrow::json::ReaderBuilder::new(schema).with_batch_size(texts.len().max(1)).build_decoder()?;
    for text in texts.as_string::<i32>() {
        decoder.decode(format!("{{\"value\":{}}}\n", text.unwrap_or("null")).as_bytes())?;
    }
    Ok(decoder.flush()?.map_or_else(|| arrow::array::new_empty_array(field.data_type()), |batch| Arc::clone(batch.column(0))))
}

/// A column as texts that Postgres reads as the same values.
fn texts(column: &ArrayRef) -> std::result::Result<StringArray, arrow::error::ArrowError> {
    let format = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &format)?;
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect())
}

/// A time in UTC; sessions for reading are in UTC too.
fn written(micros: i64) -> Option<String> {
    chrono::DateTime::from_timestamp_micros(micros).map(|at| at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
}

#[async_trait]
impl Tier for Warm {
    fn name(&self) -> Name {
        Name::Warm
    }

    async fn standing(&self, columns: &[usize]) -> Result<Standing> {
        let open = self.open().await?;
        if let Some(place) = columns.iter().find(|place| self.there(&open, **place).is_none()) {
            return Ok(Standing::Unfit(format!("its table has no column \"{}\"", self.schema.field(*place).name())));
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.app_id, &self.sink];
        let (epochs, floor) = futures::join!(open.client.query_one(&open.epochs, &parameters), self.floor(&open));
        let row = epochs.map_err(|cause| self.reader.failed(cause))?;
        let get = |index| row.try_get::<_, Option<i64>>(index).map_err(|cause| self.reader.failed(cause));
        let (last, generation) = (get(0)?, get(1)?);
        let before = match generation {
            // It took part from the first run on.
            Some(1) => i64::MIN,
            // Rows from before it, if there are any, are all in the lake by now.
            _ => *self.before.get_or_try_init(|| async { Ok::<_, Error>(self.cold.newest().await?.map_or(i64::MIN, |newest| newest.saturating_add(1))) }).await?,
        };
        Ok(Standing::Whole { floor: floor?.unwrap_or(i64::MIN).max(before), epoch: last.unwrap_or(0) as u64 })
    }

    async fn by_key(&self, keys: &Keys, columns: &[usize]) -> Result<Rows> {
        let open = self.open().await?;
        let mut conditions = Vec::with_capacity(keys.places.len());
        for (index, place) in keys.places.iter().enumerate() {
            let column = self.there(&open, *place).ok_or_else(|| unfit("warm", &self.table, "a column of the key is not there"))?;
            conditions.push(format!("{} = ${}::text::{}", quote(&column.name), index + 1, column.shown));
        }
        let (select, read) = self.select(&open, columns)?;
        let mut sql = format!("{select} WHERE {}", conditions.join(" AND "));
        match (self.reader.options().mode, self.time) {
            (Mode::Append, Some(time)) => sql.push_str(&format!(" ORDER BY {} DESC NULLS LAST LIMIT 1", quote(self.schema.field(time).name()))),
            _ => sql.push_str(" LIMIT 1"),
        }
        let statement = self.prepared(&open, sql).await?;
        let texts: Vec<StringArray> = keys.columns.iter().map(texts).collect::<std::result::Result<_, _>>().map_err(|cause| unfit("warm", &self.table, cause))?;
        let asked = (0..keys.len()).map(|row| {
            let (statement, open, texts) = (&statement, &open, &texts);
            async move {
                let values: Vec<Option<&str>> = texts.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect();
                let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
                open.client.query_opt(statement, &parameters).await
            }
        });
        let answers = match try_join_all(asked).await {
            Ok(answers) => answers,
            Err(cause) => {
                self.forget().await;
                return Err(self.reader.failed(cause));
            }
        };
        let batch = self.batch(answers.iter().flatten(), read, columns)?;
        Ok(Rows { batch, found: answers.iter().map(Option::is_some).collect(), more: false, risen: None })
    }

    async fn by_time(&self, from: i64, to: i64, limit: usize, columns: &[usize]) -> Result<Rows> {
        let open = self.open().await?;
        let (mut sql, read) = self.select(&open, columns)?;
        let mut borders = Vec::with_capacity(2);
        if let Some(time) = self.time {
            let name = quote(self.schema.field(time).name());
            let of_type = if matches!(self.schema.field(time).data_type(), DataType::Timestamp(_, Some(_))) { "timestamptz" } else { "timestamp" };
            for (sign, at) in [(">=", (from > i64::MIN).then_some(from)), ("<", (to < i64::MAX).then_some(to))] {
                let Some(text) = at.and_then(written) else { continue };
                borders.push(text);
                let word = if borders.len() == 1 { "WHERE" } else { "AND" };
                sql.push_str(&format!(" {word} {name} {sign} ${}::text::{of_type}", borders.len()));
            }
            sql.push_str(&format!(" ORDER BY {name}"));
        }
        sql.push_str(&format!(" LIMIT {}", limit + 1));
        let statement = self.prepared(&open, sql).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = borders.iter().map(|border| border as &(dyn ToSql + Sync)).collect();
        // One after the other on one connection: what was removed before the rows were read is below the floor read after.
        let (rows, floor) = futures::join!(open.client.query(&statement, &parameters), self.floor(&open));
        let rows = match rows {
            Ok(rows) => rows,
            Err(cause) => {
                self.forget().await;
                return Err(self.reader.failed(cause));
            }
        };
        let more = rows.len() > limit;
        let batch = self.batch(rows.iter().take(limit), read, columns)?;
        Ok(Rows { batch, found: vec![], more, risen: floor?.filter(|floor| *floor > from) })
    }
}
