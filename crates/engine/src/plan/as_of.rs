//! What a temporal join needs of its sides beside what its query selects: their times.
//!
//! The optimizer takes out columns that no expression names, and `FOR SYSTEM_TIME AS OF` is none. So the join's condition
//! names them, as arguments of a function that is always true; of both sides, so that it stays with the join.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Expr, Join, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

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
