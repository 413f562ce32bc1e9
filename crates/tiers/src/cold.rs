//! The lake as a tier: everything there is, as of the last commit.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DataFusionError, ScalarValue};
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use tokio::sync::Mutex;
use watershed_types::{Error, Result};

use crate::error::unfit;
use crate::plan::{Name, Standing};
use crate::tier::{Keys, Rows, Tier, projected};

/// Says the last committed epoch.
pub type Committed = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A lake table.
pub struct Cold {
    table: String,
    schema: SchemaRef,
    time: Option<usize>,
    location: String,
    storage: HashMap<String, String>,
    committed: Committed,
    context: SessionContext,
    /// The table as of an epoch.
    opened: Mutex<Option<(u64, Arc<dyn TableProvider>)>>,
}

impl Cold {
    /// A table at a place; nothing is opened yet. `time` is the place of its time column.
    pub fn new(table: &str, schema: SchemaRef, time: Option<usize>, location: String, storage: HashMap<String, String>, committed: Committed) -> Arc<Cold> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        Arc::new(Cold { table: table.to_owned(), schema, time, location, storage, committed, context, opened: Mutex::default() })
    }

    /// The table as of the last committed epoch or later.
    async fn open(&self) -> Result<Arc<dyn TableProvider>> {
        let epoch = (self.committed)();
        let mut opened = self.opened.lock().await;
        if let Some((at, provider)) = opened.as_ref()
            && *at == epoch
        {
            return Ok(Arc::clone(provider));
        }
        // The epoch was read first: what is opened holds it at least.
        let provider = watershed_lake::table_provider(&self.location, &self.storage).await?;
        *opened = Some((epoch, Arc::clone(&provider)));
        Ok(provider)
    }

    async fn frame(&self) -> Result<DataFrame> {
        self.context.read_table(self.open().await?).map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: DataFusionError) -> Error {
        match Error::find(&cause) {
            Some(ours) => Error::new(ours.kind(), ours.code(), ours.message()).hint("Run `watershed verify --deep` to see what is wrong with the lake."),
            None => unfit("cold", &self.table, cause),
        }
    }

    fn column(&self, place: usize) -> Expr {
        Expr::Column(Column::from_name(self.schema.field(place).name()))
    }

    /// The newest time there is; `None` without rows.
    pub async fn newest(&self) -> Result<Option<i64>> {
        let Some(time) = self.time else { return Ok(None) };
        let frame = self.frame().await?.aggregate(vec![], vec![max(self.column(time)).alias("newest")]).map_err(|cause| self.failed(cause))?;
        let batches = frame.collect().await.map_err(|cause| self.failed(cause))?;
        let value = batches.first().map(|batch| ScalarValue::try_from_array(batch.column(0), 0)).transpose().map_err(|cause| self.failed(cause))?;
        let micros = value.map(|value| value.cast_to(&DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))).transpose().map_err(|cause| self.failed(cause))?;
        Ok(match micros {
            Some(ScalarValue::TimestampMicrosecond(micros, _)) => micros,
            _ => None,
        })
    }

    /// Runs a frame down to some columns in the table's types.
    async fn rows(&self, frame: DataFrame, columns: &[usize]) -> Result<RecordBatch> {
        let batches = frame.select(columns.iter().map(|place| self.column(*place)).collect::<Vec<_>>()).map_err(|cause| self.failed(cause))?;
        let batches = batches.collect().await.map_err(|cause| self.failed(cause))?;
        let schema = projected(&self.schema, columns);
        let cast: Vec<RecordBatch> =
            batches.iter().map(|batch| fitted(batch, &schema)).collect::<std::result::Result<_, _>>().map_err(|cause| unfit("cold", &self.table, cause))?;
        concat_batches(&schema, &cast).map_err(|cause| unfit("cold", &self.table, cause))
    }
}

/// A batch in the types of a schema.
pub(crate) fn fitted(batch: &RecordBatch, schema: &Arc<Schema>) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| cast(column, field.data_type())).collect::<std::result::Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())))
}

#[async_trait]
impl Tier for Cold {
    fn name(&self) -> Name {
        Name::Cold
    }

    async fn standing(&self, _: &[usize]) -> Result<Standing> {
        // I2: opened with this epoch or a later one by the call that reads.
        Ok(Standing::Whole { floor: i64::MIN, epoch: (self.committed)() })
    }

    async fn by_key(&self, keys: &Keys, columns: &[usize]) -> Result<Rows> {
        let mut found = Vec::with_capacity(keys.len());
        let mut batches = Vec::new();
        for row in 0..keys.len() {
            let mut filter = lit(true);
            for (place, column) in keys.places.iter().zip(&keys.columns) {
                let value = ScalarValue::try_from_array(column, row).map_err(|cause| self.failed(cause))?;
                filter = filter.and(self.column(*place).eq(Expr::Literal(value, None)));
            }
            let mut frame = self.frame().await?.filter(filter).map_err(|cause| self.failed(cause))?;
            if let Some(time) = self.time {
                // The lake keeps all rows of a key; its current one is asked for.
                frame = frame.sort(vec![self.column(time).sort(false, false)]).map_err(|cause| self.failed(cause))?;
            }
            let batch = self.rows(frame.limit(0, Some(1)).map_err(|cause| self.failed(cause))?, columns).await?;
            found.push(batch.num_rows() > 0);
            batches.push(batch);
        }
        let batch = concat_batches(&projected(&self.schema, columns), &batches).map_err(|cause| unfit("cold", &self.table, cause))?;
        Ok(Rows { batch, found, more: false, risen: None })
    }

    async fn by_time(&self, from: i64, to: i64, limit: usize, columns: &[usize]) -> Result<Rows> {
        let mut frame = self.frame().await?;
        if let Some(time) = self.time {
            let DataType::Timestamp(_, zone) = self.schema.field(time).data_type() else { return Err(unfit("cold", &self.table, "the time is no timestamp")) };
            let at = |micros: i64| -> std::result::Result<Expr, DataFusionError> {
                Ok(lit(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()).cast_to(self.schema.field(time).data_type())?))
            };
            if from > i64::MIN {
                frame = at(from).and_then(|from| frame.filter(self.column(time).gt_eq(from))).map_err(|cause| self.failed(cause))?;
            }
            if to < i64::MAX {
                frame = at(to).and_then(|to| frame.filter(self.column(time).lt(to))).map_err(|cause| self.failed(cause))?;
            }
            frame = frame.sort(vec![self.column(time).sort(true, false)]).map_err(|cause| self.failed(cause))?;
        }
        let batch = self.rows(frame.limit(0, Some(limit + 1)).map_err(|cause| self.failed(cause))?, columns).await?;
        let more = batch.num_rows() > limit;
        Ok(Rows { batch: batch.slice(0, batch.num_rows().min(limit)), found: vec![], more, risen: None })
    }
}
