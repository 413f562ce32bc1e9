//! A relational node run by DataFusion itself over rows that an operator holds.
//!
//! **Owns** putting the rows under the node and running it. **Does not own** which rows, nor what becomes of the results.
//!
//! What a node means over a bounded set of rows is DataFusion's word, in a stream as in a batch: nothing is said twice.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;
use parking_lot::RwLock;

/// Rows that stand for an input of a node.
#[derive(Clone)]
pub struct Slot {
    schema: DFSchemaRef,
    columns: SchemaRef,
    rows: Arc<RwLock<Vec<RecordBatch>>>,
}

impl Slot {
    /// An input with the columns of `input`, and `extra` ones behind them.
    pub fn new(input: &DFSchema, extra: &[Field]) -> Result<Self> {
        let mut fields: Vec<_> = input.iter().map(|(q, f)| (q.cloned(), Arc::new(f.as_ref().clone().with_nullable(true)))).collect();
        fields.extend(extra.iter().map(|field| (None, Arc::new(field.clone()))));
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        let columns: SchemaRef = Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone()).collect::<Vec<_>>()));
        Ok(Self { schema: Arc::new(schema), columns, rows: Arc::default() })
    }

    /// As a leaf of a plan.
    pub fn leaf(&self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self.clone()) })
    }

    /// The columns, each of which may be NULL.
    pub fn columns(&self) -> &SchemaRef {
        &self.columns
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows [{}]", self.columns.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "))
    }
}
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows)
    }
}
impl Eq for Slot {}
impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.rows) as usize).hash(state);
    }
}
impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (Arc::as_ptr(&self.rows) as usize).partial_cmp(&(Arc::as_ptr(&other.rows) as usize))
    }
}

impl UserDefinedLogicalNodeCore for Slot {
    fn name(&self) -> &str {
        "Rows"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Plans [`Slot`] as the rows it holds.
struct SlotPlanner;

#[async_trait]
impl ExtensionPlanner for SlotPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(slot) = node.as_any().downcast_ref::<Slot>() else { return Ok(None) };
        let rows = slot.rows.read().clone();
        Ok(Some(MemorySourceConfig::try_new_exec(&[rows], Arc::clone(&slot.columns), None)?))
    }
}

/// A node over slots.
pub struct Relation {
    plan: LogicalPlan,
    slots: Vec<Slot>,
    context: SessionContext,
    planner: DefaultPhysicalPlanner,
}

impl Relation {
    /// `plan` has the slots as its leaves.
    pub fn new(plan: LogicalPlan, slots: Vec<Slot>, context: SessionContext) -> Self {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(SlotPlanner)]);
        Self { plan, slots, context, planner }
    }

    /// The inputs.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Runs the node over these columns of its inputs, in their order.
    pub fn evaluate(&self, inputs: Vec<Vec<ArrayRef>>) -> Result<Vec<RecordBatch>> {
        for (slot, columns) in self.slots.iter().zip(inputs) {
            let rows = columns.first().map_or(0, |column| column.len());
            *slot.rows.write() = vec![conform(&slot.columns, columns, rows)?];
        }
        let state = self.context.state();
        let (planner, plan, context) = (&self.planner, &self.plan, &self.context);
        let batches = futures::executor::block_on(async move {
            let physical = planner.create_physical_plan(plan, &state).await?;
            collect(physical, context.task_ctx()).await
        });
        for slot in &self.slots {
            slot.rows.write().clear();
        }
        batches
    }
}

/// Columns as a batch of these fields; a column whose type differs in form is cast.
pub fn conform(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        return Err(DataFusionError::Internal(format!("{} columns where {} are expected", columns.len(), schema.fields().len())));
    }
    let columns = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| if column.data_type() == field.data_type() { Ok(column) } else { Ok(cast(&column, field.data_type())?) })
        .collect::<Result<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

/// The same columns, each of which may be NULL.
pub fn relaxed(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

/// The number of a row in its store, as a column of a slot.
pub fn number_field() -> Field {
    Field::new("__ws_number", DataType::UInt64, false)
}
