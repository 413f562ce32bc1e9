//! What all tests need: a shared server, targets, rows, and SQL to look with.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use watershed_ports::{Delivered, Target};
use watershed_postgres::{PostgresOptions, PostgresTarget};
use watershed_types::{Epoch, Generation, OptionValue, Options, Result};

use crate::server::Server;

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"))
}

/// A server for tests that do not kill it.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(true))
}

pub fn options(url: &str, pairs: &[(&str, &str)]) -> Result<PostgresOptions> {
    let mut values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
    values.insert("url".to_owned(), OptionValue::new(url, "${URL}", "a.sql:1:1"));
    let mut options = Options::new("sink \"out\"", values);
    let taken = PostgresOptions::take(&mut options, "out")?;
    options.finish()?;
    Ok(taken)
}

/// A target whose `app_id` is its table's name.
pub fn target(url: &str, pairs: &[(&str, &str)], schema: SchemaRef) -> PostgresTarget {
    let app = pairs.iter().find(|(key, _)| *key == "table").map_or("", |(_, table)| table);
    PostgresTarget::new(options(url, pairs).expect("options"), app, "shop", schema, runtime().handle().clone()).expect("a target")
}

/// id, name, amount, gone.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(18, 2), true),
        Field::new("gone", DataType::Boolean, true),
    ]))
}

pub fn batch(rows: &[(Option<i64>, &str, i128, bool)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Decimal128Array>().with_precision_and_scale(18, 2).expect("a decimal")),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("a batch")
}

/// Rows of an epoch, in batches of uneven sizes: ids from `first`, amounts that sum up tellingly.
pub fn many(first: i64, rows: i64) -> Vec<RecordBatch> {
    let rows: Vec<(Option<i64>, &str, i128, bool)> = (first..first + rows).map(|id| (Some(id), "somebody", i128::from(id) * 7 + 1, false)).collect();
    rows.chunks(7_001).map(batch).collect()
}

pub fn deliver(target: &PostgresTarget, epoch: u64, generation: u64, batches: &[RecordBatch]) -> Result<Delivered> {
    target.deliver(Epoch(epoch), Generation(generation), &mut batches.iter().cloned().map(Ok))
}

/// Every row as text, columns separated by `|`, NULL as `∅`.
pub fn sql(url: &str, statement: &str) -> Vec<String> {
    try_sql(url, statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"))
}

pub fn try_sql(url: &str, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    runtime().block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        runtime().spawn(connection);
        let messages = client.simple_query(statement).await?;
        let text = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).unwrap_or("∅").to_owned()).collect::<Vec<_>>().join("|");
        Ok(messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None }).collect())
    })
}
