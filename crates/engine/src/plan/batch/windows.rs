//! Windows over history: the window columns as plain arithmetic on the event time.
//!
//! TUMBLE is a projection. HOP counts back from the last window that holds the row: a constant list `0, 1, …` of as many
//! numbers as a row can have windows is unnested, and windows that end before the row are filtered out. The aggregate
//! above groups by the columns, as it does in the stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit};

use super::Lowering;
use super::relation::{Rows, all_columns, column, modulo};
use crate::plan::nodes::{WindowKind, WindowNode};

/// `window_time` is a millisecond before the end.
const WINDOW_TIME_BEFORE_END: i64 = 1_000;

impl Lowering<'_> {
    /// Adds the window columns.
    pub(super) fn assign(&mut self, rows: Rows, node: &WindowNode) -> Result<Rows> {
        let time = cast(Expr::Column(Column::from(node.input.schema().qualified_field_with_unqualified_name(&node.time)?)), DataType::Int64);
        let before = all_columns(&rows.plan);
        let nth = self.name("window");
        let start = self.name("start");
        match node.kind {
            WindowKind::Tumble { size, offset } => {
                let first = time.clone() - modulo(time - lit(offset), size);
                let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
                columns.push(first.alias(&start));
                let builder = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?;
                let plan = builder.project(with_bounds(&before, &start, size, node))?.build()?;
                Ok(Rows { plan, ..rows })
            }
            WindowKind::Hop { slide, size, offset } => {
                let most = (size + slide - 1) / slide;
                let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
                columns.push(lit(counted(most)?).alias(&nth));
                let builder = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.unnest_column(Column::from_name(&nth))?;
                let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
                let back = column(&nth) * lit(slide);
                columns.push(column(&nth));
                columns.push((time.clone() - modulo(time.clone() - lit(offset), slide) - back).alias(&start));
                let mut kept = before;
                kept.push(Column::from_name(&nth));
                let plan = builder.project(columns)?.filter(column(&start).gt(time - lit(size)))?.project(with_bounds(&kept, &start, size, node))?.build()?;
                // A row's windows come latest first.
                let order = [rows.order, vec![nth]].concat();
                Ok(Rows { plan, order, identity: rows.identity, multiplied: true })
            }
            WindowKind::Session { gap } => self.sessions(rows, node, gap),
            WindowKind::Cumulate { step, size, offset } => {
                let most = size / step;
                let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
                columns.push(lit(counted(most)?).alias(&nth));
                let builder = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.unnest_column(Column::from_name(&nth))?;
                let end = self.name("end");
                let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
                let first = time.clone() - modulo(time.clone() - lit(offset), size);
                columns.push(column(&nth));
                columns.push(first.clone().alias(&start));
                columns.push((first + (column(&nth) + lit(1_i64)) * lit(step)).alias(&end));
                let mut kept = before;
                kept.push(Column::from_name(&nth));
                let bounds = bounds(&kept, column(&start), column(&end), node);
                let plan = builder.project(columns)?.filter(column(&end).gt(time))?.project(bounds)?.build()?;
                let order = [rows.order, vec![nth]].concat();
                Ok(Rows { plan, order, identity: rows.identity, multiplied: true })
            }
        }
    }
}

/// The columns there were, and the window's, with the names and types of the streaming node.
fn with_bounds(before: &[Column], start: &str, size: i64, node: &WindowNode) -> Vec<Expr> {
    bounds(before, column(start), column(start) + lit(size), node)
}

fn bounds(before: &[Column], start: Expr, end: Expr, node: &WindowNode) -> Vec<Expr> {
    let schema = node.schema();
    let added = schema.fields().len() - 3;
    let bound = |index: usize, value: Expr| {
        let (qualifier, field) = schema.qualified_field(added + index);
        cast(value, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name())
    };
    let mut columns: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
    columns.push(bound(0, start));
    columns.push(bound(1, end.clone()));
    columns.push(bound(2, end - lit(WINDOW_TIME_BEFORE_END)));
    columns
}

/// The constant list `0, 1, …, count - 1`.
fn counted(count: i64) -> Result<ScalarValue> {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)?)))
}
