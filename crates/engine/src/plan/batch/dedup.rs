//! DEDUPLICATE over history: first by key, interval by interval.
//!
//! In the stream a row is a repeat if an *accepted* row of its key is less than the interval away in event time, before or
//! after it; rows come in stream order, and a repeat starts nothing. Whether a row is accepted so depends on which rows
//! before it were, which is more than one `row_number()` can say. As relations:
//!
//! 1. Rows of a key are cut into **clusters** where two neighbours in event time are an interval or more apart: rows of
//!    different clusters never repeat each other. (`lag` and a running sum.)
//! 2. In a cluster the first row in stream order is accepted. Every row within the interval of it is a repeat. What is
//!    left has no accepted row near it: **again** from the first of them, until nothing is left.
//!
//! A cluster shorter than the interval, which is what repeats look like nearly always, is done in one round, and that
//! round is `row_number() OVER (PARTITION BY key, cluster ORDER BY stream order) = 1`. No cluster needs more rounds than
//! intervals fit in it. [`Rounds`] says how rounds are run.
//!
//! I1: each round accepts what the stream accepts: by induction, a row left has no earlier accepted row near it, and the
//!     first of those left in stream order has no unjudged row before it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Column, Result, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, not, when};

use super::relation::{Rows, aggregate, all_columns, column, modulo, over, row_number, with_windows};
use super::{Guard, Lowering, Meaning, Rounds, without};
use crate::plan::nodes::DedupNode;

const TIME: &str = "__ws_time";
const BEFORE: &str = "__ws_before";
const CLUSTER: &str = "__ws_cluster";
const NTH: &str = "__ws_nth";
const FIRST: &str = "__ws_first";
const KEPT: &str = "__ws_kept";

/// One DEDUPLICATE, over columns that were renamed so that each has a name of its own.
struct Round {
    key: Vec<Expr>,
    order: Vec<Expr>,
    within: i64,
}

impl Lowering<'_> {
    /// Keeps the rows that the stream accepts.
    pub(super) fn dedup(&mut self, rows: Rows, node: &DedupNode) -> Result<Rows> {
        let before = all_columns(&rows.plan);
        let flat = |index: usize| format!("__ws_c{index}");
        // As the stream finds them: by name, the first of that name.
        let named = |name: &str| -> Result<Expr> {
            let wanted = Column::from(node.input.schema().qualified_field_with_unqualified_name(name)?);
            Ok(column(&flat(before.iter().position(|c| *c == wanted).ok_or_else(|| datafusion::common::plan_datafusion_err!("no column \"{name}\""))?)))
        };
        let key = node.key.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?;
        let hidden = |name: &String| before.iter().position(|c| &c.name == name).map(|i| column(&flat(i)));
        let order: Vec<Expr> = rows.order.iter().filter_map(hidden).collect();
        let time = cast(named(&node.time)?, DataType::Int64);

        let renamed = before.iter().enumerate().map(|(i, c)| Expr::Column(c.clone()).alias(flat(i)));
        let plan = LogicalPlanBuilder::from(rows.plan.clone()).project(renamed)?.build()?;
        let mut columns: Vec<Expr> = all_columns(&plan).into_iter().map(Expr::Column).collect();
        columns.push(time.alias(TIME));
        let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        let round = Round { key, order, within: node.within };
        let plan = round.clustered(plan)?;
        let plan = match self.rounds {
            Rounds::UntilDone => {
                let name = self.name("dedup");
                round.until_done(plan, &name)?
            }
            Rounds::AtMost(rounds) => {
                let plan = round.at_most(plan, rounds)?;
                let offending = LogicalPlanBuilder::from(plan.clone()).filter(not(column(KEPT)))?.build()?;
                self.guards.push(Guard { offending, meaning: Meaning::Rounds { operator: node.id.clone(), rounds } });
                LogicalPlanBuilder::from(plan).filter(column(KEPT))?.build()?
            }
        };
        let restored = before.iter().enumerate().map(|(i, c)| column(&flat(i)).alias_qualified(c.relation.clone(), &c.name));
        Ok(Rows { plan: LogicalPlanBuilder::from(plan).project(restored)?.build()?, ..rows })
    }
}

impl Round {
    /// Cuts each key's rows where nothing on one side can repeat anything on the other.
    fn clustered(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let by_time: Vec<Expr> = std::iter::once(column(TIME)).chain(self.order.iter().cloned()).collect();
        let plan = with_windows(plan, vec![(BEFORE, over(lag(column(TIME), Some(1), None), self.key.clone(), by_time.clone())?)])?;
        let apart = when((column(TIME) - column(BEFORE)).gt_eq(lit(self.within)), lit(1_i64)).otherwise(lit(0_i64))?;
        let plan = with_windows(plan, vec![(CLUSTER, over(aggregate(sum_udaf(), apart), self.key.clone(), by_time)?)])?;
        let columns = without(&plan, &[BEFORE]);
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    /// Finds the first row of each cluster in stream order, and its event time.
    fn led(&self, plan: LogicalPlan, also_by: Option<&str>) -> Result<LogicalPlan> {
        let partition: Vec<Expr> = self.key.iter().cloned().chain([column(CLUSTER)]).chain(also_by.map(column)).collect();
        let first = aggregate(first_value_udaf(), column(TIME));
        let nth = over(row_number(), partition.clone(), self.order.clone())?;
        with_windows(plan, vec![(NTH, nth), (FIRST, over(first, partition, self.order.clone())?)])
    }

    /// Exactly as the stream tells whether two rows are within the interval: to the microsecond up to 71 minutes, and to
    /// `within / 2^32` beyond, where it keeps offsets in buckets an interval long as 32 bits.
    fn near(&self) -> Expr {
        let (within, unit) = (self.within, (self.within >> 32) + 1);
        if unit == 1 {
            let (time, first) = (column(TIME), column(FIRST));
            return (time.clone() - first.clone()).lt(lit(within)).and((first - time).lt(lit(within)));
        }
        let bucket = |name: &str| (column(name) - modulo(column(name), within)) / lit(within);
        let offset = |name: &str| modulo(column(name), within) / lit(unit);
        let same = bucket(TIME).eq(bucket(FIRST));
        let after = bucket(TIME).eq(bucket(FIRST) + lit(1_i64)).and(offset(TIME).lt(offset(FIRST)));
        let before = bucket(TIME).eq(bucket(FIRST) - lit(1_i64)).and(offset(TIME).gt(offset(FIRST)));
        same.or(after).or(before)
    }

    /// Rounds as a recursive query: each works on what the last one left.
    fn until_done(&self, plan: LogicalPlan, name: &str) -> Result<LogicalPlan> {
        let first = self.led(plan, None)?;
        let fields: Vec<_> = first.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let working = CteWorkTable::new(name, Arc::new(Schema::new(fields)));
        let left =
            LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(Arc::new(working)), None)?.filter(column(NTH).gt(lit(1_u64)).and(not(self.near())))?.build()?;
        let columns: Vec<Expr> = all_columns(&left).into_iter().filter(|c| c.name != NTH && c.name != FIRST).map(|c| Expr::Column(c.clone()).alias(c.name)).collect();
        let left = LogicalPlanBuilder::from(left).project(columns)?.build()?;
        let again = self.led(left, None)?;
        LogicalPlanBuilder::from(first).to_recursive_query(name.to_owned(), again, false)?.filter(column(NTH).eq(lit(1_u64)))?.build()
    }

    /// So many rounds, one inside the other. Rows that are not judged by then have no [`KEPT`].
    fn at_most(&self, plan: LogicalPlan, rounds: u32) -> Result<LogicalPlan> {
        let mut columns: Vec<Expr> = all_columns(&plan).into_iter().map(Expr::Column).collect();
        columns.push(lit(false).alias(KEPT));
        let mut plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        for _ in 0..rounds {
            let led = self.led(plan, Some(KEPT))?;
            let accepted = column(KEPT).or(column(NTH).eq(lit(1_u64)));
            let mut columns = without(&led, &[KEPT, NTH, FIRST]);
            columns.push(accepted.clone().alias(KEPT));
            plan = LogicalPlanBuilder::from(led).filter(accepted.or(not(self.near())))?.project(columns)?.build()?;
        }
        Ok(plan)
    }
}
