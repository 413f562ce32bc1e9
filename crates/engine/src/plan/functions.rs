//! Functions whose value is pinned per tick, `now()` and its relatives; and values of a map by key.
//!
//! DataFusion folds `now()` into a constant when it plans, which is once for a query and once for ever for a stream.
//! Ours reads the clock of the running tick, so that all rows of a tick see one time and a manifest can say which.
//!
//! Keys of maps are string views here, and DataFusion compares them with plain text, which fails: [`MapAccess`] plans
//! `map['key']` with a key of the map's own type.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions_nested::expr_fn::{array_element, map_extract};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{ColumnarValue, ExprSchemable, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit};
use datafusion::prelude::SessionContext;

/// The time the running tick sees, microseconds since 1970, shared between the tick loop and the functions.
#[derive(Debug, Clone, Default)]
pub struct TickTime(Arc<AtomicI64>);

impl TickTime {
    /// Sets it at the start of a tick.
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Relaxed);
    }
    /// Reads it.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Now,
    Today,
}

#[derive(Debug)]
struct TickFunction {
    what: What,
    aliases: Vec<String>,
    signature: Signature,
    time: TickTime,
}

impl PartialEq for TickFunction {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}
impl Eq for TickFunction {}
impl std::hash::Hash for TickFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.what.hash(state);
    }
}

impl ScalarUDFImpl for TickFunction {
    fn name(&self) -> &str {
        match self.what {
            What::Now => "now",
            What::Today => "current_date",
        }
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.what {
            What::Now => DataType::Timestamp(TimeUnit::Microsecond, None),
            What::Today => DataType::Date32,
        })
    }
    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let micros = self.time.get();
        Ok(ColumnarValue::Scalar(match self.what {
            What::Now => ScalarValue::TimestampMicrosecond(Some(micros), None),
            What::Today => ScalarValue::Date32(Some(micros.div_euclid(86_400_000_000) as i32)),
        }))
    }
}

/// Plans `map['key']` and `map[expression]`.
#[derive(Debug)]
pub struct MapAccess;

impl ExprPlanner for MapAccess {
    fn plan_field_access(&self, access: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let DataType::Map(entries, _) = access.expr.get_type(schema)? else { return Ok(PlannerResult::Original(access)) };
        let DataType::Struct(pair) = entries.data_type() else { return Ok(PlannerResult::Original(access)) };
        let key = match &access.field_access {
            GetFieldAccess::NamedStructField { name } => lit(name.cast_to(pair[0].data_type())?),
            GetFieldAccess::ListIndex { key } => key.as_ref().clone().cast_to(pair[0].data_type(), schema)?,
            GetFieldAccess::ListRange { .. } => return Ok(PlannerResult::Original(access)),
        };
        Ok(PlannerResult::Planned(array_element(map_extract(access.expr, key), lit(1_i64))))
    }
}

/// Puts the pinned functions in place of DataFusion's.
pub fn register(context: &SessionContext, time: &TickTime) {
    for (what, aliases) in [(What::Now, vec!["current_timestamp".to_owned(), "localtimestamp".to_owned()]), (What::Today, vec!["today".to_owned()])] {
        let function = TickFunction { what, aliases, signature: Signature::nullary(Volatility::Volatile), time: time.clone() };
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
}
