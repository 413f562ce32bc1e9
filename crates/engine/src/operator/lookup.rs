//! Lookup join: a stream with a static table that fits in memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{JoinType, Result, cast::as_boolean_array};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::FanOut;
use super::batch::{Rows, StreamBatch};
use super::fan_out::{Meter, STRETCH};

/// What to join and how.
pub struct LookupSpec {
    /// The join's name in metrics.
    pub name: String,
    /// The static side, any plan over static tables.
    pub table: LogicalPlan,
    /// The session that runs it.
    pub context: SessionContext,
    /// Key expressions on the stream's columns.
    pub stream_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Key expressions on the static columns.
    pub table_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// A further condition over `combined`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Left columns and right columns.
    pub combined: SchemaRef,
    /// True if the stream is the left side.
    pub stream_left: bool,
    /// The join.
    pub join_type: JoinType,
    /// True if NULL keys match each other.
    pub null_equal: bool,
    /// True if an anti join is NOT IN over its one key: a row stays only if it surely equals no static row. One whose
    /// comparison with any of them is NULL does not.
    pub null_aware: bool,
    /// True if the stream's rows come and go.
    pub changing: bool,
    /// The output columns.
    pub schema: SchemaRef,
}

struct Built {
    rows: RecordBatch,
    converter: RowConverter,
    by_key: HashMap<OwnedRow, Vec<u32>>,
    all: Vec<u32>,
    /// True if a row's key has a NULL.
    null_key: bool,
}

/// Which row of a batch meets which static row.
#[derive(Default)]
struct Pairs {
    stream_side: Vec<u32>,
    table_side: Vec<u32>,
}

/// The running join.
pub struct Lookup {
    spec: LookupSpec,
    fan_out: FanOut,
    built: RwLock<Arc<Built>>,
}

impl Lookup {
    /// Reads the static side.
    pub fn build(spec: LookupSpec) -> Result<Self> {
        let built = build(&spec)?;
        let fan_out = FanOut::new(&spec.name, &spec.stream_keys);
        Ok(Self { spec, fan_out, built: RwLock::new(Arc::new(built)) })
    }

    /// Reads the static side again, after a refresh of its tables.
    pub fn rebuild(&self) -> Result<()> {
        let built = build(&self.spec)?;
        *self.built.write() = Arc::new(built);
        Ok(())
    }

    /// What is joined and how.
    pub fn spec(&self) -> &LookupSpec {
        &self.spec
    }

    /// The output columns.
    pub fn schema(&self) -> SchemaRef {
        relaxed(&self.spec.schema)
    }

    /// Joins one batch.
    pub fn apply(&self, input: StreamBatch) -> Result<StreamBatch> {
        let built = Arc::clone(&self.built.read());
        let spec = &self.spec;
        let rows = input.batch.num_rows();
        let (mut found, mut open) = (Pairs::default(), Pairs::default());
        let mut meter = self.fan_out.meter();
        if spec.stream_keys.is_empty() {
            for row in 0..rows {
                self.meet(row, &built.all, &input, &built, &mut open, &mut found, &mut meter)?;
            }
        } else {
            let keys = evaluate(&spec.stream_keys, &input.batch)?;
            let encoded = built.converter.convert_columns(&keys)?;
            for row in 0..rows {
                if !spec.null_equal && keys.iter().any(|key| key.is_null(row)) {
                    continue;
                }
                if let Some(matches) = built.by_key.get(&encoded.row(row).owned()) {
                    self.meet(row, matches, &input, &built, &mut open, &mut found, &mut meter)?;
                }
            }
        }
        self.judge(&input, &built, &mut open, &mut found, &mut meter)?;
        let Pairs { stream_side, table_side } = found;
        match spec.join_type {
            JoinType::Inner => self.finish(input, &built, stream_side, table_side.into_iter().map(Some).collect()),
            JoinType::Left | JoinType::Right => {
                let (mut outer_stream, mut outer_table) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
                let mut at = 0;
                for row in 0..rows as u32 {
                    let first = at;
                    while at < stream_side.len() && stream_side[at] == row {
                        outer_stream.push(row);
                        outer_table.push(Some(table_side[at]));
                        at += 1;
                    }
                    if first == at {
                        outer_stream.push(row);
                        outer_table.push(None);
                    }
                }
                self.finish(input, &built, outer_stream, outer_table)
            }
            join_type => {
                let mut matched = vec![false; rows];
                for row in stream_side {
                    matched[row as usize] = true;
                }
                if spec.null_aware && built.rows.num_rows() > 0 {
                    let keys = evaluate(&spec.stream_keys, &input.batch)?;
                    for (row, matched) in matched.iter_mut().enumerate() {
                        *matched |= built.null_key || keys.iter().any(|key| key.is_null(row));
                    }
                }
                let wanted = matches!(join_type, JoinType::LeftSemi | JoinType::RightSemi);
                input.filter(&BooleanArray::from_iter(matched.into_iter().map(|m| Some(m == wanted))))
            }
        }
    }

    /// How many rows one row becomes; absent for joins that only choose rows.
    pub fn fan_out(&self) -> Option<&FanOut> {
        self.multiplies().then_some(&self.fan_out)
    }

    fn multiplies(&self) -> bool {
        matches!(self.spec.join_type, JoinType::Inner | JoinType::Left | JoinType::Right)
    }

    /// Pairs a row with static rows of its key.
    #[allow(clippy::too_many_arguments, reason = "what one batch has on its way")]
    fn meet(&self, row: usize, matches: &[u32], input: &StreamBatch, built: &Built, open: &mut Pairs, found: &mut Pairs, meter: &mut Meter<'_>) -> Result<()> {
        for stretch in matches.chunks(STRETCH) {
            open.stream_side.extend(std::iter::repeat_n(row as u32, stretch.len()));
            open.table_side.extend_from_slice(stretch);
            if open.stream_side.len() >= STRETCH {
                self.judge(input, built, open, found, meter)?;
            }
        }
        Ok(())
    }

    /// Keeps the pairs that the further condition holds for.
    fn judge(&self, input: &StreamBatch, built: &Built, open: &mut Pairs, found: &mut Pairs, meter: &mut Meter<'_>) -> Result<()> {
        let Pairs { mut stream_side, mut table_side } = std::mem::take(open);
        if let Some(filter) = &self.spec.filter {
            let pairs = self.pair(&input.batch, &built.rows, &stream_side, &table_side.iter().copied().map(Some).collect::<Vec<_>>(), &self.spec.combined)?;
            let mask = filter.evaluate(&pairs)?.into_array(pairs.num_rows())?;
            let mask = as_boolean_array(&mask)?;
            let passes = |i: &usize| mask.is_valid(*i) && mask.value(*i);
            stream_side = (0..mask.len()).filter(passes).map(|i| stream_side[i]).collect();
            table_side = (0..mask.len()).filter(passes).map(|i| table_side[i]).collect();
        }
        if self.multiplies() {
            for of_row in stream_side.chunk_by(|a, b| a == b) {
                meter.count(input, of_row[0] as usize, of_row.len() as u64)?;
            }
        } else {
            // That a row meets one is all that matters.
            stream_side.dedup();
            table_side.clear();
        }
        found.stream_side.extend(stream_side);
        found.table_side.extend(table_side);
        Ok(())
    }

    fn finish(&self, input: StreamBatch, built: &Built, stream_side: Vec<u32>, table_side: Vec<Option<u32>>) -> Result<StreamBatch> {
        let batch = self.pair(&input.batch, &built.rows, &stream_side, &table_side, &self.spec.schema)?;
        let rows = stream_side.iter().map(|row| input.row(*row as usize)).collect();
        Ok(StreamBatch { batch, rows: Rows::Some(rows), ..input })
    }

    fn pair(&self, stream: &RecordBatch, table: &RecordBatch, stream_side: &[u32], table_side: &[Option<u32>], schema: &SchemaRef) -> Result<RecordBatch> {
        let of_stream = UInt32Array::from(stream_side.to_vec());
        let of_table = UInt32Array::from(table_side.to_vec());
        let taken = |batch: &RecordBatch, indices: &UInt32Array| batch.columns().iter().map(|c| take(c, indices, None)).collect::<Result<Vec<ArrayRef>, _>>();
        let (stream, table) = (taken(stream, &of_stream)?, taken(table, &of_table)?);
        let columns = if self.spec.stream_left { [stream, table].concat() } else { [table, stream].concat() };
        let options = RecordBatchOptions::new().with_row_count(Some(stream_side.len()));
        Ok(RecordBatch::try_new_with_options(relaxed(schema), columns, &options)?)
    }
}

/// The same columns, each of which may be NULL: an outer join's static side, before a filter has seen it.
fn relaxed(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn evaluate(expressions: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    expressions.iter().map(|e| e.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

fn build(spec: &LookupSpec) -> Result<Built> {
    let context = spec.context.clone();
    let plan = spec.table.clone();
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    let batches = futures::executor::block_on(async move {
        let physical = context.state().query_planner().create_physical_plan(&plan, &context.state()).await?;
        collect(physical, context.task_ctx()).await
    })?;
    let rows = concat_batches(&batches.first().map_or(schema, |b| b.schema()), &batches)?;
    let keys = evaluate(&spec.table_keys, &rows)?;
    let fields = keys.iter().map(|k| SortField::new(k.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let mut by_key: HashMap<OwnedRow, Vec<u32>> = HashMap::new();
    if !keys.is_empty() {
        let encoded = converter.convert_columns(&keys)?;
        for row in 0..rows.num_rows() {
            if spec.null_equal || keys.iter().all(|key| key.is_valid(row)) {
                by_key.entry(encoded.row(row).owned()).or_default().push(row as u32);
            }
        }
    }
    let all = if keys.is_empty() { (0..rows.num_rows() as u32).collect() } else { vec![] };
    let null_key = keys.iter().any(|key| key.logical_null_count() > 0);
    Ok(Built { rows, converter, by_key, all, null_key })
}
