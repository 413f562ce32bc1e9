//! What DataFusion sees of streams and static tables while it plans.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::RwLock;
use watershed_sql::StaticDef;

/// A stream: it has columns, and cannot be scanned.
#[derive(Debug)]
pub struct StreamTable {
    schema: SchemaRef,
}

impl StreamTable {
    /// A stream with these columns.
    pub fn new(schema: SchemaRef) -> Arc<Self> {
        Arc::new(Self { schema })
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a stream cannot be read like a table here")
    }
}

/// A static table: all its rows in memory, replaced as a whole by a refresh.
#[derive(Debug)]
pub struct StaticTable {
    /// The definition, to load it again.
    pub definition: StaticDef,
    schema: SchemaRef,
    rows: RwLock<Arc<RecordBatch>>,
}

impl StaticTable {
    /// A table with its first rows.
    pub fn new(definition: StaticDef, rows: RecordBatch) -> Arc<Self> {
        Arc::new(Self { definition, schema: rows.schema(), rows: RwLock::new(Arc::new(rows)) })
    }
    /// Takes new rows; the columns must be the same.
    pub fn replace(&self, rows: RecordBatch) -> watershed_types::Result<()> {
        if rows.schema().fields() != self.schema.fields() {
            return Err(watershed_types::Error::invalid("PLAN0012", format!("static table \"{}\" came back with other columns", self.definition.name))
                .hint("Restart the pipeline to take the new columns."));
        }
        *self.rows.write() = Arc::new(rows);
        Ok(())
    }
    /// The rows now.
    pub fn rows(&self) -> Arc<RecordBatch> {
        Arc::clone(&self.rows.read())
    }
}

#[async_trait]
impl TableProvider for StaticTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows().as_ref().clone();
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(&self.schema), projection.cloned())?)
    }
}
