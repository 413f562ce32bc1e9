//! What all tests need: a shared server, targets, rows, and SQL to look with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use watershed_ports::{Delivered, Target};
use watershed_postgres::PostgresOptions;
use watershed_redshift::{RedshiftOptions, RedshiftTarget};
use watershed_types::{Epoch, Generation, OptionValue, Options, Result};

use super::moto::{self, BUCKET};
use super::server::Server;

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"))
}

/// The Postgres behind every stand-in.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(true))
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, OptionValue> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect()
}

pub fn postgres_options(table: &str) -> PostgresOptions {
    PostgresOptions::take(&mut Options::new("sink \"s\"", values(&[("url", "postgres://h/d"), ("table", table)])), "s").expect("options")
}

pub fn options(pairs: &[(&str, &str)]) -> Result<RedshiftOptions> {
    let staging = format!("s3://{BUCKET}/in");
    let mut all = vec![("staging", staging.as_str()), ("iam_role", "default")];
    all.extend_from_slice(pairs);
    let environment = HashMap::from(
        [
            ("aws_endpoint", format!("http://127.0.0.1:{}", moto::s3())),
            ("aws_allow_http", "true".into()),
            ("aws_region", "us-east-1".into()),
            ("aws_access_key_id", "test".into()),
            ("aws_secret_access_key", "test".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let mut options = Options::new("sink \"out\"", values(&all));
    let taken = RedshiftOptions::take(&mut options, "out", &environment)?;
    options.finish()?;
    Ok(taken)
}

/// A target whose `app_id` and pipeline are its table's name.
pub fn target(pairs: &[(&str, &str)], schema: SchemaRef) -> RedshiftTarget {
    let table = pairs.iter().find(|(key, _)| *key == "table").map_or("", |(_, table)| table);
    RedshiftTarget::new(options(pairs).expect("options"), table, table, schema, runtime().handle().clone()).expect("a target")
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
    rows.chunks(701).map(batch).collect()
}

pub fn deliver(target: &RedshiftTarget, epoch: u64, generation: u64, batches: &[RecordBatch]) -> Result<Delivered> {
    target.deliver(Epoch(epoch), Generation(generation), &mut batches.iter().cloned().map(Ok))
}

/// Every row as text, columns separated by `|`, NULL as `∅`; straight from the server.
pub fn sql(statement: &str) -> Vec<String> {
    let messages = runtime().block_on(async {
        let (client, connection) = tokio_postgres::connect(&shared().url, NoTls).await?;
        runtime().spawn(connection);
        client.simple_query(statement).await
    });
    let text = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).unwrap_or("∅").to_owned()).collect::<Vec<_>>().join("|");
    let messages = messages.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None }).collect()
}
