//! A Postgres table as DataFusion plans with it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream};

use super::PostgresReader;
use super::column::ReadColumn;
use super::filter::{Pushed, push};
use super::stream::run;
use crate::columns::qualified;

/// The table a sink writes, as it was when it was opened.
pub struct PostgresTable {
    reader: Arc<PostgresReader>,
    columns: Vec<ReadColumn>,
    schema: SchemaRef,
}

impl fmt::Debug for PostgresTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresTable({:?})", self.reader)
    }
}

impl PostgresTable {
    pub(super) fn new(reader: Arc<PostgresReader>, columns: Vec<ReadColumn>) -> PostgresTable {
        let schema = Arc::new(Schema::new(columns.iter().map(ReadColumn::field).collect::<Vec<_>>()));
        PostgresTable { reader, columns, schema }
    }
}

#[async_trait]
impl TableProvider for PostgresTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match push(filter, &self.columns) {
            Some(Pushed { exact: true, .. }) => TableProviderFilterPushDown::Exact,
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.columns.len()).collect();
        let columns: Vec<ReadColumn> = projection.cloned().unwrap_or_else(all).iter().map(|index| self.columns[*index].clone()).collect();
        let mut sql = format!("SELECT {} FROM {}", columns.iter().map(ReadColumn::selected).collect::<Vec<_>>().join(", "), qualified(self.reader.options()));
        let pushed: Vec<String> = filters.iter().filter_map(|filter| push(filter, &self.columns)).map(|pushed| pushed.sql).collect();
        if !pushed.is_empty() {
            sql.push_str(&format!(" WHERE {}", pushed.join(" AND ")));
        }
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(Arc::new(PostgresExec::new(Arc::clone(&self.reader), columns, sql)))
    }
}

/// One statement at a Postgres.
#[derive(Debug)]
pub struct PostgresExec {
    reader: Arc<PostgresReader>,
    columns: Vec<ReadColumn>,
    sql: String,
    properties: Arc<PlanProperties>,
}

impl PostgresExec {
    fn new(reader: Arc<PostgresReader>, columns: Vec<ReadColumn>, sql: String) -> PostgresExec {
        let schema = Arc::new(Schema::new(columns.iter().map(ReadColumn::field).collect::<Vec<_>>()));
        let equivalence = EquivalenceProperties::new(schema);
        let properties = PlanProperties::new(equivalence, Partitioning::UnknownPartitioning(1), EmissionType::Incremental, Boundedness::Bounded);
        PostgresExec { reader, columns, sql, properties: Arc::new(properties) }
    }

    /// What is sent.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

impl DisplayAs for PostgresExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresExec: sql={}", self.sql)
    }
}

impl ExecutionPlan for PostgresExec {
    fn name(&self) -> &str {
        "PostgresExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(run(Arc::clone(&self.reader), self.sql.clone(), self.columns.clone(), self.schema()))
    }
}
