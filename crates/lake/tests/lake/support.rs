//! A lake in a temporary folder, and queries over it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use watershed_lake::{Lake, LakeOptions, LakeTable, TableSpec, table_provider};
use watershed_ports::{CommitOutcome, Sink, Staged};
use watershed_types::{Epoch, Generation};

pub type Any<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub struct Fixture {
    pub runtime: Runtime,
    pub folder: TempDir,
    pub lake: Arc<Lake>,
}

pub fn fixture() -> Any<Fixture> {
    fixture_with(|_| ())
}

pub fn fixture_with(adjust: impl FnOnce(&mut LakeOptions)) -> Any<Fixture> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let mut options = LakeOptions::new(folder.path().join("my lake").to_string_lossy());
    adjust(&mut options);
    let lake = Lake::open(options, runtime.handle().clone())?;
    Ok(Fixture { runtime, folder, lake })
}

impl Fixture {
    pub fn table(&self, schema: &SchemaRef, partitioned_by: &[&str]) -> Any<Arc<LakeTable>> {
        Ok(self.lake.table(spec(schema, partitioned_by))?)
    }

    /// The rows of a query over `t`, as a printed table.
    pub fn query(&self, table: &LakeTable, sql: &str) -> Any<String> {
        let batches = self.rows(table, sql)?;
        Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
    }

    pub fn rows(&self, table: &LakeTable, sql: &str) -> Any<Vec<RecordBatch>> {
        self.runtime.block_on(async {
            let context = SessionContext::new();
            context.register_table("t", table_provider(table.location(), &HashMap::new()).await?)?;
            let found = context.sql(sql).await?.collect().await?;
            Ok(found)
        })
    }

    /// `SELECT count(*)` and the like.
    pub fn number(&self, table: &LakeTable, sql: &str) -> Any<i64> {
        let batches = self.rows(table, sql)?;
        let batch = batches.first().ok_or("no rows")?;
        Ok(batch.column(0).as_any().downcast_ref::<Int64Array>().ok_or("not a number")?.value(0))
    }
}

pub fn spec(schema: &SchemaRef, partitioned_by: &[&str]) -> TableSpec {
    TableSpec {
        name: "orders".into(),
        folder: "silver".into(),
        schema: schema.clone(),
        partitioned_by: partitioned_by.iter().map(|name| (*name).to_owned()).collect(),
        app_id: "watershed/shop/orders".into(),
        compression: None,
        key: None,
    }
}

/// `id` from `start`, and a text.
pub fn ids(start: i64, rows: i64) -> Any<RecordBatch> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + rows));
    let names: ArrayRef = Arc::new(StringViewArray::from_iter_values((start..start + rows).map(|id| format!("row number {id}"))));
    Ok(RecordBatch::try_from_iter(vec![("id", numbers), ("name", names)])?)
}

pub fn stage(table: &LakeTable, epoch: u64, batches: &[RecordBatch]) -> Any<Staged> {
    let mut writer = table.writer(Epoch(epoch))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.seal()?)
}

pub fn write(table: &LakeTable, epoch: u64, batches: &[RecordBatch]) -> Any<CommitOutcome> {
    let staged = stage(table, epoch, batches)?;
    Ok(table.commit(Epoch(epoch), Generation(1), &[staged])?)
}
