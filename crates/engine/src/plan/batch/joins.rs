//! Joins of streams, `OVER`, unions and the like over history: what they are called in a stream is what they are.
//!
//! A stream waits, keeps state and takes back to come to what a relation says at once: so these nodes stand for themselves.
//! Only what a stream knows by order of arrival is said here: ties, the last row of a key, the version at a time.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Result, plan_err};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{
    Expr, FetchType, Join, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Union, UserDefinedLogicalNodeCore, Window, WindowFrameUnits, cast, lit, when,
};

use super::Lowering;
use super::relation::{Rows, all_columns, column, numbered, over, with_windows};
use crate::plan::nodes::{AsOfNode, DedupNode};
use crate::plan::streams::{as_of, latest_first};

impl Lowering<'_> {
    /// The columns of the streaming plan alone.
    fn shown(&self, rows: &Rows) -> Result<LogicalPlan> {
        let columns: Vec<Expr> = all_columns(&rows.plan).into_iter().filter(|c| !rows.order.contains(&c.name)).map(Expr::Column).collect();
        LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.build()
    }

    /// Results, each a row of its own.
    fn results(&mut self, plan: LogicalPlan) -> Result<Rows> {
        let nth = self.name("result");
        Ok(Rows { plan: numbered(plan, &nth, vec![])?, order: vec![nth], identity: 1, multiplied: false })
    }

    pub(super) fn stream_join(&mut self, plan: &LogicalPlan, join: &Join) -> Result<Rows> {
        let (left, right) = (self.lower(&join.left)?, self.lower(&join.right)?);
        if let Some(marker) = as_of(&join.right) {
            return self.temporal(join, &marker.clone(), left, right);
        }
        let inputs = vec![self.shown(&left)?, self.shown(&right)?];
        let plan = plan.with_new_exprs(self.pinned(plan, &plan.expressions())?, inputs)?;
        self.results(plan)
    }

    /// For each row of the left side the version of the greatest time that is not after its own.
    fn temporal(&mut self, join: &Join, marker: &AsOfNode, left: Rows, right: Rows) -> Result<Rows> {
        let Some((qualifier, name)) = &marker.time else {
            return plan_err!("a join with what is known when a row comes has no batch form: history does not say when that was");
        };
        let time = match qualifier {
            Some(qualifier) => Column::new(Some(qualifier.as_str()), name),
            None => Column::from(join.left.schema().qualified_field_with_unqualified_name(name)?),
        };
        let version = join.right.schema().iter().find(|(_, field)| matches!(field.data_type(), DataType::Timestamp(_, _))).map(Column::from);
        let Some(version) = version else { return plan_err!("the versions of a temporal join have no event time") };
        let (nth, rank) = (self.name("row"), self.name("version"));
        let rows = numbered(left.plan.clone(), &nth, left.hidden())?;
        let visible = all_columns(&rows).into_iter().filter(|c| !left.order.contains(&c.name)).map(Expr::Column).collect::<Vec<_>>();
        let rows = LogicalPlanBuilder::from(rows).project(visible)?.build()?;
        let mut on: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
        on.push(Expr::Column(version.clone()).lt_eq(Expr::Column(time)));
        let arrival: Vec<Expr> = right.hidden();
        let columns: Vec<Expr> = join.schema.iter().map(|found| Expr::Column(Column::from(found))).collect();
        let joined = LogicalPlanBuilder::from(rows).join_on(right.plan.clone(), JoinType::Left, on)?.build()?;
        let mut order = vec![Expr::Column(version.clone()).sort(false, false)];
        order.extend(arrival.into_iter().map(|e| e.sort(false, false)));
        let newest = super::relation::row_number_by(vec![column(&nth)], order)?;
        let mut plan = LogicalPlanBuilder::from(with_windows(joined, vec![(&rank, newest)])?).filter(column(&rank).eq(lit(1_u64)))?;
        if join.join_type == JoinType::Inner {
            plan = plan.filter(Expr::Column(version).is_not_null())?;
        }
        // A version that the further condition does not hold for is none; an earlier one does not take its place.
        let plan = match &join.filter {
            None => plan.project(columns)?,
            Some(holds) if join.join_type == JoinType::Inner => plan.filter(holds.clone())?.project(columns)?,
            Some(holds) => {
                let left = join.left.schema().fields().len();
                let mut kept = Vec::new();
                for (nth, column) in columns.into_iter().enumerate() {
                    let name = column.qualified_name();
                    kept.push(if nth < left { column } else { when(holds.clone(), column).end()?.alias_qualified(name.0, name.1) });
                }
                plan.project(kept)?
            }
        };
        self.results(plan.build()?)
    }

    /// `OVER`, with ties in the order of arrival.
    pub(super) fn over(&mut self, window: &Window) -> Result<Rows> {
        let rows = self.lower(&window.input)?;
        let schema = window.input.schema();
        let names: Vec<String> = window.window_expr.iter().map(|e| e.schema_name().to_string()).collect();
        let mut ordered = Vec::new();
        for expression in self.pinned(&LogicalPlan::Window(window.clone()), &window.window_expr)? {
            let Expr::WindowFunction(function) = expression.clone().unalias() else { return plan_err!("{expression} is no function of a window of rows") };
            let mut function = *function;
            let by_peers = matches!(function.fun.name(), "rank" | "dense_rank" | "percent_rank" | "cume_dist");
            let by_row = matches!(function.fun.name(), "row_number" | "lag" | "lead" | "ntile") || function.params.window_frame.units == WindowFrameUnits::Rows;
            if !by_peers && by_row {
                let forward = !latest_first(schema, &function.params.order_by);
                function.params.order_by.extend(rows.hidden().into_iter().map(|e| Sort::new(e, forward, forward)));
            }
            ordered.push(Expr::WindowFunction(Box::new(function)));
        }
        let found: Vec<String> = ordered.iter().map(|e| e.schema_name().to_string()).collect();
        let plan = LogicalPlanBuilder::from(rows.plan.clone()).window(ordered)?.build()?;
        let visible = all_columns(&rows.plan).into_iter().filter(|c| !rows.order.contains(&c.name)).map(Expr::Column);
        let computed = names.iter().zip(&found).map(|(name, found)| column(found).alias(name));
        let columns: Vec<Expr> = visible.chain(computed).chain(rows.hidden()).collect();
        Ok(Rows { plan: LogicalPlanBuilder::from(plan).project(columns)?.build()?, ..rows })
    }

    pub(super) fn union(&mut self, union: &Union) -> Result<Rows> {
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let rows = self.lower(input)?;
            inputs.push(Arc::new(self.shown(&rows)?));
        }
        let plan = LogicalPlan::Union(Union { inputs, schema: Arc::clone(&union.schema) });
        self.results(plan)
    }

    /// `ORDER BY … LIMIT n`
    pub(super) fn top(&mut self, limit: &Limit) -> Result<Rows> {
        let (LogicalPlan::Sort(sort), FetchType::Literal(fetch), SkipType::Literal(skip)) = (limit.input.as_ref(), limit.get_fetch_type()?, limit.get_skip_type()?) else {
            return plan_err!("LIMIT without ORDER BY has no batch form");
        };
        let rows = self.lower(&sort.input)?;
        let forward = !latest_first(sort.input.schema(), &sort.expr);
        let mut order = sort.expr.clone();
        order.extend(rows.hidden().into_iter().map(|e| Sort::new(e, forward, forward)));
        let plan = LogicalPlanBuilder::from(rows.plan.clone()).sort(order)?.limit(skip, fetch)?.build()?;
        Ok(Rows { plan, ..rows })
    }

    /// The last row of each key, by event time and then by arrival.
    pub(super) fn keep_last(&mut self, rows: Rows, node: &DedupNode) -> Result<Rows> {
        let rank = self.name("last");
        let named = |name: &String| node.input.schema().qualified_field_with_unqualified_name(name).map(|found| Expr::Column(Column::from(found)));
        let key = node.key.iter().map(named).collect::<Result<Vec<_>>>()?;
        let mut order = vec![named(&node.time)?.sort(false, false)];
        order.extend(rows.hidden().into_iter().map(|e| e.sort(false, false)));
        let newest = super::relation::row_number_by(key, order)?;
        let columns: Vec<Expr> = all_columns(&rows.plan).into_iter().map(Expr::Column).collect();
        let plan = LogicalPlanBuilder::from(with_windows(rows.plan.clone(), vec![(&rank, newest)])?).filter(column(&rank).eq(lit(1_u64)))?.project(columns)?.build()?;
        Ok(Rows { plan, ..rows })
    }

    /// Sessions: a row starts one where the row before it, by event time, is more than the gap away.
    pub(super) fn sessions(&mut self, rows: Rows, node: &crate::plan::WindowNode, gap: i64) -> Result<Rows> {
        use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
        use datafusion::functions_aggregate::sum::sum_udaf;
        use datafusion::functions_window::expr_fn::lag;
        use datafusion::logical_expr::{ExprFunctionExt, WindowFrame, when};
        let named = |name: &String| node.input.schema().qualified_field_with_unqualified_name(name).map(|found| Expr::Column(Column::from(found)));
        let before = all_columns(&rows.plan);
        let (at, previous, number, first, last) = (self.name("time"), self.name("previous"), self.name("session"), self.name("first"), self.name("last"));
        let partition = node.partition_by.iter().map(named).collect::<Result<Vec<_>>>()?;
        let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
        columns.push(cast(named(&node.time)?, DataType::Int64).alias(&at));
        let plan = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.build()?;
        let order: Vec<Expr> = std::iter::once(column(&at)).chain(rows.hidden()).collect();
        let plan = with_windows(plan, vec![(&previous, over(lag(column(&at), Some(1), None), partition.clone(), order.clone())?)])?;
        let starts = when((column(&at) - column(&previous)).gt(lit(gap)), lit(1_i64)).otherwise(lit(0_i64))?;
        let plan = with_windows(plan, vec![(&number, over(super::relation::aggregate(sum_udaf(), starts), partition.clone(), order)?)])?;
        let session: Vec<Expr> = partition.into_iter().chain([column(&number)]).collect();
        let of_session =
            |function| -> Result<Expr> { super::relation::aggregate(function, column(&at)).partition_by(session.clone()).window_frame(WindowFrame::new(None)).build() };
        let plan = with_windows(plan, vec![(&first, of_session(min_udaf())?), (&last, of_session(max_udaf())?)])?;
        let schema = node.schema();
        let added = schema.fields().len() - 3;
        let bound = |index: usize, value: Expr| {
            let (qualifier, field) = schema.qualified_field(added + index);
            cast(value, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name())
        };
        let mut columns: Vec<Expr> = before.into_iter().map(Expr::Column).collect();
        columns.push(bound(0, column(&first)));
        columns.push(bound(1, column(&last) + lit(gap)));
        columns.push(bound(2, column(&last) + lit(gap - 1_000)));
        Ok(Rows { plan: LogicalPlanBuilder::from(plan).project(columns)?.build()?, ..rows })
    }
}
