//! A small database behind a port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, ArrayRef, Decimal128Array, Int64Array, Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, MemorySchemaProvider, SchemaProvider};
use datafusion::common::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio_postgres::{Client, NoTls};
use watershed_types::{Error, Result};
use watershed_wire::{Database, Options, Server, bind};

/// `public.payments` with three rows, and `public.clock` with one row that says how often it was looked at.
#[derive(Default)]
pub struct World {
    looks: AtomicI64,
}

fn payments() -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a"), Some("b \"c\"")]);
    tags.append_value([] as [Option<&str>; 0]);
    tags.append_null();
    let mut metadata = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    metadata.keys().append_value("device");
    metadata.values().append_value(7);
    metadata.append(true).expect("an entry");
    metadata.append(true).expect("an entry");
    metadata.append(false).expect("a null");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("customer", Arc::new(StringArray::from(vec![Some("ada"), Some("böb"), None]))),
        ("amount", Arc::new(Decimal128Array::from(vec![Some(1250), Some(-99), None]).with_precision_and_scale(12, 2).expect("a decimal"))),
        ("large", Arc::new(Decimal128Array::from(vec![10_i128.pow(38) - 1, 1, 0]).with_precision_and_scale(38, 9).expect("a decimal"))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_767_225_600_000_000, 1_767_225_600_123_456, 0]).with_timezone("UTC"))),
        ("local_at", Arc::new(TimestampMicrosecondArray::from(vec![1_767_225_600_000_000, 1, 0]))),
        ("tags", Arc::new(tags.finish())),
        ("metadata", Arc::new(metadata.finish())),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, c)| c).collect()).expect("a batch")
}

fn table(batch: RecordBatch) -> Arc<MemTable> {
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).expect("a table"))
}

#[async_trait]
impl Database for World {
    fn session(&self) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema("watershed", "public");
        config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
        Ok(SessionContext::new_with_config(config))
    }

    async fn schemas(&self) -> Result<Vec<(String, Arc<dyn SchemaProvider>)>> {
        let public = MemorySchemaProvider::new();
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let clock = RecordBatch::try_from_iter([("look", Arc::new(Int64Array::from(vec![look])) as ArrayRef)]).expect("a batch");
        public.register_table("payments".to_owned(), table(payments())).expect("a table");
        public.register_table("clock".to_owned(), table(clock)).expect("a table");
        let system = MemorySchemaProvider::new();
        let ledger = RecordBatch::try_new(Arc::new(Schema::new(vec![Field::new("epoch", DataType::Int64, true)])), vec![Arc::new(Int64Array::from(vec![1, 2]))]).expect("a batch");
        system.register_table("ledger".to_owned(), table(ledger)).expect("a table");
        Ok(vec![("public".to_owned(), Arc::new(public)), ("system".to_owned(), Arc::new(system))])
    }

    async fn explain(&self, error: DataFusionError, _: &str) -> Error {
        let text = error.strip_backtrace();
        let kind = if text.contains("not supported") { "a query only reads: this statement would change something" } else { &text };
        if kind == text { Error::invalid("TEST0001", text) } else { Error::denied("TEST0001", kind) }
    }
}

pub fn options() -> Options {
    Options { users: Default::default(), tls: None, max_connections: 60, statement_timeout: None }
}

/// A server on a free port.
pub fn serve(options: Options) -> Server {
    Server::start(bind("127.0.0.1:0").expect("a port"), Arc::new(World::default()), options).expect("a server")
}

/// A client without encryption; fails the test if it is not let in.
pub async fn connect(address: SocketAddr, rest: &str) -> Client {
    try_connect(address, rest).await.expect("a connection")
}

pub async fn try_connect(address: SocketAddr, rest: &str) -> std::result::Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&format!("host={} port={} dbname=watershed {rest}", address.ip(), address.port()), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
