//! What the optimizer must leave to a temporal join.
//!
//! It takes out columns that no expression names, and `FOR SYSTEM_TIME AS OF` is none. So the join's condition names the times
//! of both sides, as arguments of a function that is always true ([`with_version_times`]). And it pushes conditions on one side
//! below the join, where they would choose among versions: of a key whose version is 11 and was 10, `rate < 11` would find 10.
//! [`FilterVersionsAfterJoin`] takes them back into the join's condition. So does an equality on a column that is not of the key
//! of the versions: it is a condition on the version that is found, and must not find another.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{ColumnarValue, Expr, Join, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SubqueryAlias, Volatility};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::streams::as_of;

/// True, whatever it is told.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimesKept(Signature);

impl ScalarUDFImpl for TimesKept {
    fn name(&self) -> &str {
        "__ws_times_kept"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}

/// Names the times of both sides in the condition of a join by event time; other joins stay as they are.
pub(super) fn with_version_times(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let Some((qualifier, name)) = as_of(&join.right).and_then(|marker| marker.time.clone()) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let left = join.left.schema();
    let asked = match qualifier {
        Some(qualifier) => Some(Column::new(Some(qualifier), name)).filter(|column| left.has_column(column)),
        None => left.qualified_field_with_unqualified_name(&name).ok().map(Column::from),
    };
    // A name that is none is told when the join is lowered.
    let Some(asked) = asked else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let times = join.right.schema().iter().filter(|(_, field)| matches!(field.data_type(), DataType::Timestamp(_, _))).map(|found| Expr::Column(Column::from(found)));
    let arguments: Vec<Expr> = std::iter::once(Expr::Column(asked)).chain(times).collect();
    let kept = ScalarUDF::new_from_impl(TimesKept(Signature::variadic_any(Volatility::Immutable))).call(arguments);
    join.filter = Some(match join.filter.take() {
        Some(filter) => filter.and(kept),
        None => kept,
    });
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

/// Conditions on the versions of a temporal join hold for the version that is found, and do not choose it.
#[derive(Debug, Default)]
pub(super) struct FilterVersionsAfterJoin;

impl OptimizerRule for FilterVersionsAfterJoin {
    fn name(&self) -> &str {
        "filter_versions_after_join"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
        let Some(marker) = as_of(&join.right) else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
        let key = marker.key.clone();
        let (right, mut conditions) = unfiltered(&join.right)?;
        conditions.extend(beside_the_key(&mut join, &key));
        if conditions.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        join.right = Arc::new(right);
        join.filter = conjunction(join.filter.take().into_iter().chain(conditions));
        Ok(Transformed::yes(LogicalPlan::Join(join)))
    }
}

/// Takes the equalities out of a join that compare more than the key of the versions, if all of that is compared.
fn beside_the_key(join: &mut Join, key: &[String]) -> Vec<Expr> {
    let of_key = |right: &Expr| matches!(right, Expr::Column(column) if key.contains(&column.name));
    let compared = |name: &String| join.on.iter().any(|(_, right)| matches!(right, Expr::Column(column) if column.name == *name));
    if key.is_empty() || !key.iter().all(compared) {
        return vec![];
    }
    let (kept, beside) = std::mem::take(&mut join.on).into_iter().partition(|(_, right)| of_key(right));
    join.on = kept;
    let beside: Vec<(Expr, Expr)> = beside;
    beside.into_iter().map(|(left, right)| left.eq(right)).collect()
}

/// The versions without conditions above them, and those conditions in the names of this plan.
fn unfiltered(plan: &LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>)> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let (input, mut conditions) = unfiltered(&filter.input)?;
            conditions.push(filter.predicate.clone());
            Ok((input, conditions))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, conditions) = unfiltered(&alias.input)?;
            let inner = input.schema().columns();
            let alias = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?);
            let outer = alias.schema().columns();
            let conditions = renamed(conditions, |column| Some(outer[inner.iter().position(|one| one == column)?].clone()))?;
            Ok((alias, conditions))
        }
        LogicalPlan::Projection(projection) => {
            let (input, conditions) = unfiltered(&projection.input)?;
            let projected = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            let outer = projected.schema.columns();
            let at = |column: &Column| projected.expr.iter().position(|e| matches!(e.clone().unalias(), Expr::Column(one) if one == *column));
            let conditions = renamed(conditions, |column| Some(outer[at(column)?].clone()))?;
            Ok((LogicalPlan::Projection(projected), conditions))
        }
        other => Ok((other.clone(), vec![])),
    }
}

fn renamed(conditions: Vec<Expr>, name: impl Fn(&Column) -> Option<Column>) -> Result<Vec<Expr>> {
    let rename = |e: Expr| match &e {
        Expr::Column(column) => match name(column) {
            Some(named) => Ok(Transformed::yes(Expr::Column(named))),
            None => plan_err!("a condition on versions names \"{column}\", which their join does not see"),
        },
        _ => Ok(Transformed::no(e)),
    };
    conditions.into_iter().map(|condition| Ok(condition.transform(rename)?.data)).collect()
}
