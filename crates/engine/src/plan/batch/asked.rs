//! Tables that are asked by key, over history: the same requests, a batch of rows at a time.
//!
//! The one place where a batch plan holds something of ours: what a table outside says is no relation that another engine
//! could read by itself. It is a table to the plan, [`Asked`], that reads the stream's rows and gives them with what was
//! found beside them; the join's conditions are filters above it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_string_array;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, TableType, when};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream};
use futures::StreamExt as _;

use super::Lowering;
use super::relation::{Rows, column};
use crate::operator::{EnrichSpec, FOUND, StreamBatch, TROUBLE};
use crate::plan::lookup::KeyJoin;
use crate::run::Patience;

/// How long a batch waits for a table that is away.
const PATIENCE: Duration = Duration::from_secs(30);

impl Lowering<'_> {
    /// The stream's rows, with what the table holds of their keys.
    pub(super) fn asked_join(&mut self, join: &Join, found: KeyJoin) -> Result<Rows> {
        let rows = self.lower(&join.left)?;
        let named = |found: (Option<&TableReference>, &Arc<Field>)| Expr::Column(Column::from(found));
        let left: Vec<Expr> = join.left.schema().iter().map(named).collect();
        let flat = |index: usize| format!("__ws_column_{index}");
        // Names that are the same on both sides, or in two streams, are told apart by place alone.
        let mut columns: Vec<Expr> = left.iter().enumerate().map(|(index, column)| column.clone().alias(flat(index))).collect();
        columns.extend(rows.hidden());
        columns.extend(found.key.iter().enumerate().map(|(index, key)| self.pin(key.clone()).map(|key| key.alias(format!("__ws_key_{index}")))).collect::<Result<Vec<_>>>()?);
        let input = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.build()?;
        let stream: SchemaRef = Arc::new(input.schema().as_arrow().clone());
        let asked = Asked::new(input, EnrichSpec::new(Arc::clone(&found.table), &stream), self.plan.time.get());
        let name = self.name("asked");
        let own = left.len() + rows.order.len();
        let schema = Arc::clone(&asked.schema);
        let scan = LogicalPlanBuilder::scan(TableReference::bare(name.as_str()), provider_as_source(Arc::new(asked)), None)?;
        let mut shown = Vec::new();
        let partners = found.kept.iter().map(|index| schema.field(own + index).name().clone());
        let names = (0..left.len()).map(flat).chain(partners);
        for (name, (qualifier, field)) in names.zip(join.schema.iter()) {
            shown.push(column(&name).alias_qualified(qualifier.cloned(), field.name()));
        }
        let hidden: Vec<Expr> = rows.order.iter().map(|name| column(name).alias(name)).collect();
        shown.extend(hidden.iter().cloned());
        shown.push(column(FOUND).alias(FOUND));
        let plan = scan.project(shown)?;
        let mut holds = column(FOUND);
        if let Some(filter) = found.filter {
            holds = holds.and(self.pin(filter)?);
        }
        let joined: Vec<Expr> = join.schema.iter().map(named).collect();
        let plan = match found.outer {
            false => plan.filter(holds)?.project(joined.into_iter().chain(hidden).collect::<Vec<_>>())?,
            true => {
                let mut kept = Vec::new();
                for (index, expression) in joined.into_iter().enumerate() {
                    let (qualifier, name) = expression.qualified_name();
                    kept.push(if index < left.len() { expression } else { when(holds.clone(), expression).end()?.alias_qualified(qualifier, name) });
                }
                plan.project(kept.into_iter().chain(hidden).collect::<Vec<_>>())?
            }
        };
        Ok(Rows { plan: plan.build()?, ..rows })
    }
}

/// Rows, and beside them what a table outside holds of their keys.
struct Asked {
    input: LogicalPlan,
    spec: Arc<EnrichSpec>,
    now: i64,
    schema: SchemaRef,
}

impl Asked {
    fn new(input: LogicalPlan, spec: EnrichSpec, now: i64) -> Asked {
        // Two columns of one name could not be told apart: the table's are numbered.
        let table = spec.table.schema().fields().len();
        let width = spec.schema.fields().len();
        let first = width - 2 - table;
        let fields = spec.schema.fields().iter().enumerate().map(|(index, field)| match index {
            index if (first..first + table).contains(&index) => field.as_ref().clone().with_name(format!("__ws_found_{}", index - first)),
            _ => field.as_ref().clone(),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Asked { input, spec: Arc::new(EnrichSpec { schema: Arc::clone(&schema), table: Arc::clone(&spec.table), keys: spec.keys }), now, schema }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({})", self.spec.table.name())
    }
}

#[async_trait]
impl TableProvider for Asked {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::Temporary
    }
    async fn scan(&self, session: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = session.create_physical_plan(&self.input).await?;
        let kept = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(AskedExec::new(input, Arc::clone(&self.spec), kept, self.now)?))
    }
}

/// Asks for the keys of each batch of its input.
#[derive(Clone)]
struct AskedExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<EnrichSpec>,
    kept: Vec<usize>,
    now: i64,
    properties: Arc<PlanProperties>,
}

impl AskedExec {
    fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<EnrichSpec>, kept: Vec<usize>, now: i64) -> Result<AskedExec> {
        let schema = Arc::new(spec.schema.project(&kept)?);
        let of = input.properties();
        let properties = PlanProperties::new(EquivalenceProperties::new(schema), of.partitioning.clone(), of.emission_type, of.boundedness);
        Ok(AskedExec { input, spec, kept, now, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for AskedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskedExec({})", self.spec.table.name())
    }
}

impl DisplayAs for AskedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskedExec: {}", self.spec.table.name())
    }
}

impl ExecutionPlan for AskedExec {
    fn name(&self) -> &str {
        "AskedExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return plan_err!("AskedExec has one input") };
        Ok(Arc::new(AskedExec::new(input, Arc::clone(&self.spec), self.kept.clone(), self.now)?))
    }
    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (spec, kept, now) = (Arc::clone(&self.spec), self.kept.clone(), self.now);
        let enriched = rows.then(move |batch| {
            let (spec, kept) = (Arc::clone(&spec), kept.clone());
            async move {
                let batch = batch?;
                // Asking blocks, and is not for the threads that others' rows run on.
                let asked = tokio::task::spawn_blocking(move || ask(&spec, batch, &kept, now)).await;
                asked.map_err(|e| DataFusionError::External(Box::new(e)))?
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), enriched)))
    }
}

fn ask(spec: &EnrichSpec, batch: RecordBatch, kept: &[usize], now: i64) -> Result<RecordBatch> {
    let patience = Patience::new(Arc::new(AtomicBool::new(false)), Some(PATIENCE), Arc::default());
    let enriched = spec.run(vec![StreamBatch::results(batch)], now, &patience).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let Some(enriched) = enriched.into_iter().next() else {
        return Ok(RecordBatch::new_empty(Arc::new(spec.schema.project(kept)?)));
    };
    if let Some(trouble) = enriched.batch.column_by_name(TROUBLE)
        && let Some(why) = as_string_array(trouble)?.iter().flatten().next()
    {
        return Err(DataFusionError::Execution(why.to_owned()));
    }
    Ok(enriched.batch.project(kept)?)
}
