//! What runs on batches: stateless steps, dedup, window aggregation, lookup joins.
//!
//! **Owns** the operators and their state. **Does not own** the order they run in (`tick`), nor where state is kept
//! (`checkpoint`).
//!
//! I1: a batch knows which source rows its rows came from ([`Rows`], [`Origin`]), so that any refusal can give back
//!     the raw bytes, whatever the query did to the columns.
//! I2: a stateless step is a pure function of its batch and the tick's time.

mod aggregate;
mod answers;
mod assign;
mod batch;
mod change_aggregate;
mod convert;
mod dedup;
mod enrich;
mod expand;
mod fan_out;
mod fingerprint;
mod keeps;
mod keyed;
mod lookup;
mod over;
mod relation;
mod scratch;
mod session;
mod store;
mod stream_join;
mod table128;
mod temporal;
mod union;
mod windowed;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, cast::as_boolean_array};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::expressions::Column;

pub use aggregate::{AggregateSpec, GroupColumn, WindowAggregate, WindowBounds};
pub use assign::AssignSpec;
pub use batch::{DELETE, INSERT, Origin, Refusal, Rows, StreamBatch, Tally};
pub use change_aggregate::{ChangeAggregateSpec, Show};
pub use convert::{Saved, convert};
pub use dedup::{Dedup, DedupSpec};
pub use enrich::{EnrichSpec, Enrichment, FOUND, LookupOptions, SettleSpec, TROUBLE, Waits};
pub use expand::ExpandSpec;
pub use fan_out::FanOut;
pub use fingerprint::{Change, Effect, Fingerprint, Item, NAMED, SHOWN, length};
pub use keeps::{Keeps, KeptFor, width};
pub use keyed::{KeyedSpec, Settles};
pub use lookup::{Lookup, LookupSpec};
pub use over::{Ahead, History, OverSpec};
pub use relation::{Relation, Slot, number_field};
pub use scratch::Scratch;
pub use session::SessionSpec;
pub use store::StateFiles;
pub use stream_join::{StreamJoinSpec, TimeBounds};
pub use temporal::TemporalSpec;
pub use union::UnionSpec;
pub use windowed::{WindowEnd, WindowedSpec};

/// One step of a table's plan.
pub enum Step {
    /// Computes columns.
    Project {
        /// One expression a column.
        expressions: Vec<Arc<dyn PhysicalExpr>>,
        /// The columns.
        schema: SchemaRef,
    },
    /// Keeps rows for which this is true.
    Filter {
        /// The condition.
        condition: Arc<dyn PhysicalExpr>,
        /// True if what it sees are rows that come and go.
        changing: bool,
    },
    /// Keeps rows on which all of these can be evaluated: what the operator behind it will compute.
    Try(Vec<Arc<dyn PhysicalExpr>>),
    /// Adds window columns.
    Assign(AssignSpec),
    /// Multiplies rows, one for each grouping set.
    Expand(ExpandSpec),
    /// Joins a static table.
    Lookup(Arc<Lookup>),
    /// Asks a table outside by key, for all batches of a tick at once.
    Enrich(EnrichSpec),
    /// Joins what it answered.
    Settle(SettleSpec),
    /// Keeps the first row of each key. Stateful.
    Dedup(DedupSpec),
    /// Aggregates windows. Stateful.
    Aggregate(AggregateSpec),
    /// Any other stateful operator.
    Operator(Box<dyn OperatorSpec>),
}

/// How far event time has come in a tick.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// The watermark, microseconds.
    pub watermark: i64,
    /// True at the end of the input, when everything that is open is finished.
    pub closing: bool,
    /// The tick's wall clock, microseconds since 1970.
    pub now: i64,
}

impl Until {
    /// Up to where results are final.
    pub fn mark(self) -> i64 {
        if self.closing { i64::MAX } else { self.watermark }
    }
}

/// Where a snapshot goes, batch by batch.
pub type Out<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<()>;

/// What an aggregate keeps the states of.
pub struct Accumulates<'a> {
    /// GROUP BY.
    pub groups: Vec<&'a Arc<dyn PhysicalExpr>>,
    /// The functions.
    pub functions: &'a [Arc<AggregateFunctionExpr>],
    /// Their FILTER clauses.
    pub filters: &'a [Option<Arc<dyn PhysicalExpr>>],
}

/// A stateful operator, planned.
pub trait OperatorSpec: Send + Sync {
    /// Its name in state: what it was called when its state was written.
    fn id(&self) -> &str;
    /// What its state depends on.
    fn fingerprint(&self) -> &Fingerprint;
    /// The same, to be completed.
    fn fingerprint_mut(&mut self) -> &mut Fingerprint;
    /// How many of the columns it yields first are those of its one input.
    fn passes(&self) -> usize {
        0
    }
    /// For operators that keep the states of functions and not rows: which.
    fn accumulates(&self) -> Option<Accumulates<'_>> {
        None
    }
    /// What it keeps of each of its inputs.
    fn keeps(&self) -> Vec<Keeps>;
    /// What it does, in words, for `watershed plan`.
    fn describe(&self) -> String;
    /// If its state grows for ever: with what, and what would bound it.
    fn grows(&self) -> Option<Growth> {
        None
    }
    /// The columns it yields.
    fn schema(&self) -> SchemaRef;
    /// Starts it without state.
    fn build(self: Box<Self>, parallelism: usize) -> Result<Box<dyn Operator>>;
}

/// State that event time does not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// What it grows with.
    pub with: &'static str,
    /// What would bound it.
    pub bound: &'static str,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grows with {} and for ever; what would bound it: {}", self.with, self.bound)
    }
}

/// A stateful operator at work.
///
/// I1: what it has yielded in the end depends on the rows of each partition in their order, and not on how they were cut
///     into ticks, on the parallelism, or on restarts.
pub trait Operator: Send {
    /// Its name in state.
    fn id(&self) -> &str;
    /// What its state depends on.
    fn fingerprint(&self) -> &Fingerprint;
    /// True if its rows are results; false if it passes on rows of its input.
    fn absorbs(&self) -> bool {
        true
    }
    /// Takes the batches of one tick, by input and in order; yields what changed and, up to the watermark, what is final.
    /// `tallies` has one entry an input.
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>>;
    /// Event time up to which results were yielded, for operators that yield by event time.
    fn emitted_to(&self) -> Option<i64> {
        None
    }
    /// How many rows one row becomes, for joins that multiply rows.
    fn fan_out(&self) -> Option<&FanOut> {
        None
    }
    /// Rows of state held.
    fn rows(&self) -> u64;
    /// Bytes of state held, as near as can be told.
    fn bytes(&self) -> u64;
    /// Bytes that are held only until the next snapshot; a part of [`Operator::bytes`].
    fn unsaved(&self) -> u64 {
        0
    }
    /// Rows of state given up since the start.
    fn evictions(&self) -> u64;
    /// Bytes of state on disk, because there was no room in memory.
    fn spilled(&self) -> u64 {
        0
    }
    /// Lets state go to disk when [`Operator::shrink`] says so; by itself while it is restored, above `limit` bytes.
    fn attach(&mut self, _scratch: &Arc<Scratch>, _limit: u64) {}
    /// Puts state on disk until it takes no more than so many bytes of memory, as far as it can. Between ticks.
    fn shrink(&mut self, _to: u64) -> Result<()> {
        Ok(())
    }
    /// Gives out what changed since the last snapshot, or all of it; the event time after which none of it is needed, if there is one.
    fn snapshot(&mut self, full: bool, out: Out<'_>) -> Result<Option<i64>>;
    /// What it holds, for people. May change the operator: for a copy that was restored to be looked at.
    fn contents(&mut self) -> Result<Vec<RecordBatch>>;
    /// Takes the files of snapshots, oldest first, how far results were yielded, and the watermark of that time.
    fn restore(&mut self, files: &dyn StateFiles, emitted_to: Option<i64>, watermark: i64) -> Result<()>;
}

/// What the states of functions take for a group, bytes.
pub fn state_width(functions: &[Arc<AggregateFunctionExpr>]) -> u64 {
    let fields: Vec<_> = functions.iter().flat_map(|function| function.state_fields().into_iter().flatten()).collect();
    width(fields.iter().map(|field| field.data_type()))
}

impl Step {
    /// Picks columns of `from` by index.
    pub fn pick(indices: &[usize], schema: SchemaRef, from: &SchemaRef) -> Step {
        let expressions = indices.iter().map(|i| Arc::new(Column::new(from.field(*i).name(), *i)) as Arc<dyn PhysicalExpr>).collect();
        Step::Project { expressions, schema }
    }

    /// The name and the fingerprint of a stateful step.
    pub fn stateful(&self) -> Option<(&str, &Fingerprint)> {
        match self {
            Step::Dedup(spec) => Some((&spec.id, &spec.fingerprint)),
            Step::Aggregate(spec) => Some((&spec.id, &spec.fingerprint)),
            Step::Operator(spec) => Some((spec.id(), spec.fingerprint())),
            _ => None,
        }
    }

    /// The fingerprint of a stateful step, to be completed.
    pub fn fingerprint_mut(&mut self) -> Option<&mut Fingerprint> {
        match self {
            Step::Dedup(spec) => Some(&mut spec.fingerprint),
            Step::Aggregate(spec) => Some(&mut spec.fingerprint),
            Step::Operator(spec) => Some(spec.fingerprint_mut()),
            _ => None,
        }
    }

    /// True for steps that keep state between batches.
    pub fn is_stateful(&self) -> bool {
        matches!(self, Step::Dedup(_) | Step::Aggregate(_) | Step::Operator(_))
    }

    /// Runs a stateless step. Stateful ones are an internal error here.
    pub fn apply(&self, input: StreamBatch) -> Result<StreamBatch> {
        match self {
            Step::Project { expressions, schema } => {
                let rows = input.batch.num_rows();
                let columns = expressions.iter().map(|e| e.evaluate(&input.batch).and_then(|v| v.into_array(rows))).collect::<Result<Vec<_>>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
                Ok(StreamBatch { batch, ..input })
            }
            Step::Filter { condition, .. } => {
                let mask = condition.evaluate(&input.batch)?.into_array(input.batch.num_rows())?;
                input.filter(as_boolean_array(&mask)?)
            }
            Step::Try(expressions) => {
                for expression in expressions {
                    expression.evaluate(&input.batch)?;
                }
                Ok(input)
            }
            Step::Assign(spec) => spec.apply(input),
            Step::Expand(spec) => spec.apply(input),
            Step::Lookup(lookup) => lookup.apply(input),
            Step::Settle(spec) => spec.apply(input),
            Step::Enrich(_) => Err(DataFusionError::Internal("a table was asked for one batch of a tick".to_owned())),
            Step::Dedup(_) | Step::Aggregate(_) | Step::Operator(_) => Err(DataFusionError::Internal("a stateful step was run as a stateless one".to_owned())),
        }
    }
}

/// Runs stateless steps over one batch. Where a row makes an expression fail (a division by zero, a cast), that source
/// row alone is refused, with all its copies: the batch is halved, between source rows, until it is found.
pub fn run_stateless(steps: &[Step], input: StreamBatch, refused: &mut Vec<(StreamBatch, String)>) -> Vec<StreamBatch> {
    if steps.is_empty() {
        return vec![input];
    }
    // SUBTLE: an empty batch would keep the schema from before the steps, and the next operator counts columns.
    if input.batch.num_rows() == 0 {
        return vec![];
    }
    match steps.iter().try_fold(input.clone(), |batch, step| step.apply(batch)) {
        Ok(done) => vec![done],
        Err(error) => {
            let Some(half) = input.border() else {
                let text = error.strip_backtrace();
                refused.push((input, text.lines().next().unwrap_or_default().to_owned()));
                return vec![];
            };
            let rest = input.batch.num_rows() - half;
            let mut done = run_stateless(steps, input.slice(0, half), refused);
            done.extend(run_stateless(steps, input.slice(half, rest), refused));
            done
        }
    }
}

/// Evaluates rules: one boolean column each; NULL counts as a violation.
pub fn run_check(steps: &[Step], batch: &RecordBatch) -> Result<Vec<BooleanArray>> {
    let input = StreamBatch::results(batch.clone());
    let checked = steps.iter().try_fold(input, |batch, step| step.apply(batch))?;
    checked.batch.columns().iter().map(holds).collect()
}

/// The steps of [`run_check`] as one expression a rule, each on the table's own columns: what the optimizer has taken out
/// of several rules to compute once is put back, so that each can be evaluated, and fail, on its own.
pub fn rule_by_rule(steps: &[Step]) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let mut rules: Option<Vec<Arc<dyn PhysicalExpr>>> = None;
    for step in steps {
        // A rule has no subquery, which would be a lookup.
        let Step::Project { expressions, .. } = step else {
            return Err(DataFusionError::Internal("rules are checked by projections alone".to_owned()));
        };
        rules = Some(match rules {
            None => expressions.clone(),
            Some(columns) => expressions.iter().map(|e| over(e, &columns)).collect::<Result<_>>()?,
        });
    }
    Ok(rules.unwrap_or_default())
}

/// An expression with its columns replaced by what computes them.
pub fn over(expression: &Arc<dyn PhysicalExpr>, columns: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = Arc::clone(expression).transform_up(|e| {
        Ok(match (e.as_ref() as &dyn std::any::Any).downcast_ref::<Column>() {
            Some(column) => Transformed::yes(Arc::clone(&columns[column.index()])),
            None => Transformed::no(e),
        })
    })?;
    Ok(replaced.data)
}

/// Evaluates one rule where it cannot be evaluated on every row: rows on which it fails break it, and why is written to
/// `failed`. Halves the stretch until they are found.
pub fn run_rule(rule: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, first: usize, failed: &mut HashMap<usize, String>) -> Result<BooleanArray> {
    let rows = batch.num_rows();
    let evaluated = rule.evaluate(batch).and_then(|value| holds(&value.into_array(rows)?));
    match evaluated {
        Ok(mask) => Ok(mask),
        Err(error) if rows <= 1 => {
            let text = error.strip_backtrace();
            failed.insert(first, text.lines().next().unwrap_or_default().to_owned());
            Ok(BooleanArray::from(vec![false; rows]))
        }
        Err(_) => {
            let half = run_rule(rule, &batch.slice(0, rows / 2), first, failed)?;
            let rest = run_rule(rule, &batch.slice(rows / 2, rows - rows / 2), first + rows / 2, failed)?;
            Ok(half.iter().chain(rest.iter()).collect())
        }
    }
}

/// A rule's column without NULLs: where it is not known to hold, it is broken.
fn holds(column: &ArrayRef) -> Result<BooleanArray> {
    let column = as_boolean_array(column)?;
    Ok(match column.nulls() {
        None => column.clone(),
        Some(valid) => BooleanArray::new(column.values() & valid.inner(), None),
    })
}
