//! Rows on their way through a batch plan, and the few relational idioms everything here is made of.

use std::sync::Arc;

use datafusion::common::{Column, DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, lit,
};
use watershed_types::Error;

/// A plan and what is hidden in it.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// The columns of the streaming plan at the same place, by name, and the hidden ones.
    pub plan: LogicalPlan,
    /// The hidden columns that say where a row stands in the stream, the most significant first.
    pub order: Vec<String>,
    /// How many of them name the source row (or window result) that a row came from.
    pub identity: usize,
    /// True if several rows may come from one.
    pub multiplied: bool,
}

impl Rows {
    /// The hidden columns as expressions.
    pub fn hidden(&self) -> Vec<Expr> {
        let columns = all_columns(&self.plan);
        self.order.iter().filter_map(|name| columns.iter().find(|c| &c.name == name)).cloned().map(Expr::Column).collect()
    }
}

/// A lowering that failed. What our own code said goes through as it is.
pub(super) fn broken(table: &str, error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::internal("PLAN0099", format!("table \"{table}\" cannot be lowered to a batch plan: {other}")),
        },
        other => Error::internal("PLAN0099", format!("table \"{table}\" cannot be lowered to a batch plan: {}", other.strip_backtrace())),
    }
}

/// Every column, qualified as it is.
pub(super) fn all_columns(plan: &LogicalPlan) -> Vec<Column> {
    plan.schema().iter().map(Column::from).collect()
}

/// A column that has this name alone.
pub(super) fn column(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// Ascending, NULL (the static side of a row without a match) first: it has no siblings to be ordered among.
pub(super) fn ascending(expressions: Vec<Expr>) -> Vec<SortExpr> {
    expressions.into_iter().map(|e| e.sort(true, true)).collect()
}

/// Adds window functions under these names.
pub(super) fn with_windows(plan: LogicalPlan, functions: Vec<(&str, Expr)>) -> Result<LogicalPlan> {
    let mut columns: Vec<Expr> = all_columns(&plan).into_iter().map(Expr::Column).collect();
    columns.extend(functions.iter().map(|(name, function)| column(&function.schema_name().to_string()).alias(*name)));
    let functions = functions.into_iter().map(|(_, function)| function).collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).window(functions)?.project(columns)?.build()
}

/// `function OVER (PARTITION BY … ORDER BY … ROWS UNBOUNDED PRECEDING)`
pub(super) fn over(function: Expr, partition_by: Vec<Expr>, order_by: Vec<Expr>) -> Result<Expr> {
    let frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, WindowFrameBound::Preceding(ScalarValue::UInt64(None)), WindowFrameBound::CurrentRow);
    function.partition_by(partition_by).order_by(ascending(order_by)).window_frame(frame).build()
}

/// `row_number()`, to be used with [`over`].
pub(super) fn row_number() -> Expr {
    Expr::from(WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), vec![]))
}

/// `row_number() OVER (PARTITION BY … ORDER BY …)` in an order of any direction.
pub(super) fn row_number_by(partition_by: Vec<Expr>, order_by: Vec<SortExpr>) -> Result<Expr> {
    row_number().partition_by(partition_by).order_by(order_by).build()
}

/// An aggregate, to be used with [`over`].
pub(super) fn aggregate(function: Arc<AggregateUDF>, argument: Expr) -> Expr {
    Expr::from(WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![argument]))
}

/// Adds the row's number in this order, or in the order in which the plan yields rows.
pub(super) fn numbered(plan: LogicalPlan, name: &str, order_by: Vec<Expr>) -> Result<LogicalPlan> {
    with_windows(plan, vec![(name, over(row_number(), vec![], order_by)?)])
}

/// `max(flag) OVER (PARTITION BY …)`: true for all rows of a partition if it is for one.
pub(super) fn any_of(flag: Expr, partition_by: Vec<Expr>) -> Result<Expr> {
    aggregate(max_udaf(), flag).partition_by(partition_by).window_frame(WindowFrame::new(None)).build()
}

/// `value` modulo a positive `divisor`, never negative.
pub(super) fn modulo(value: Expr, divisor: i64) -> Expr {
    (value % lit(divisor) + lit(divisor)) % lit(divisor)
}

/// Aggregates whose result depends on the order of rows take it from the stream, as a stream does, after any ORDER BY of
/// their own. The others are left alone.
pub(super) fn in_arrival_order(function: Expr, rows: &Rows) -> Result<Expr> {
    const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];
    let name = function.qualified_name();
    let inner = function.clone().unalias();
    match inner {
        Expr::AggregateFunction(AggregateFunction { func, mut params }) if ORDERED.contains(&func.name()) && !params.distinct => {
            params.order_by.extend(ascending(rows.hidden()));
            Ok(Expr::AggregateFunction(AggregateFunction { func, params }).alias_qualified(name.0, name.1))
        }
        _ => Ok(function),
    }
}
