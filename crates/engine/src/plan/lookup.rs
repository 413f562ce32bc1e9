//! Joins with tables that are asked by key: `JOIN table FOR SYSTEM_TIME AS OF PROCTIME() ON …`.
//!
//! **Owns** what such a join is made of, for both lowerings: the key's values out of the stream, and the conditions that what
//! is found has to meet besides. **Does not own** how it runs (`operator/enrich.rs`).
//!
//! ```text
//! ON s.id = c.id AND s.country = c.country AND s.amount > c.least        PRIMARY KEY (id)
//!    └── key ─────┘     └── met by what is found, or it counts as not found ┘
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator, try_cast};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::expressions::Column;
use watershed_sql::StaticDef;
use watershed_types::Result;

use super::lower::{Lowered, Lowering, RowTime, invalid};
use super::nodes::AsOfNode;
use super::streams::as_of;
use crate::operator::{EnrichSpec, Enrichment, SettleSpec, Step};

/// A static table that is asked by key.
pub struct AskedTable {
    /// Its definition.
    pub definition: StaticDef,
    /// Itself, as all joins share it.
    pub table: Arc<Enrichment>,
}

/// What a join with such a table is made of.
pub(super) struct KeyJoin {
    pub table: Arc<Enrichment>,
    /// The key's values over the left side's columns, in the order of the table's key and of its types.
    pub key: Vec<Expr>,
    /// Which of the table's columns the right side's columns are.
    pub kept: Vec<usize>,
    /// What else must hold, over the join's columns.
    pub filter: Option<Expr>,
    /// Whether rows without a partner stay.
    pub outer: bool,
}

/// Why there is no such join, and what to write instead.
type Refused = (String, String);

const FORM: &str = "Write stream [LEFT] JOIN table FOR SYSTEM_TIME AS OF PROCTIME() [AS alias] ON stream.column = alias.key.";

/// The first table below that is asked by key.
pub(super) fn asked_below(plan: &LogicalPlan, known: &dyn Fn(&str) -> Option<Arc<Enrichment>>) -> Option<Arc<Enrichment>> {
    let mut found = None;
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found = known(scan.table_name.table());
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Takes a join apart.
pub(super) fn key_join(join: &Join, known: &dyn Fn(&str) -> Option<Arc<Enrichment>>) -> std::result::Result<KeyJoin, Refused> {
    let Some((table, kept)) = right_side(&join.right, known) else {
        let name = asked_below(&join.right, known).or_else(|| asked_below(&join.left, known)).map(|table| table.name().to_owned()).unwrap_or_default();
        return Err((format!("static table \"{name}\" is asked by key, and cannot be read in any other way"), FORM.to_owned()));
    };
    let name = table.name().to_owned();
    if as_of(&join.right).is_some_and(|marker| marker.time.is_some()) {
        return Err((format!("static table \"{name}\" has no versions: it is asked for what it holds now"), FORM.to_owned()));
    }
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        other => return Err((format!("a {other} JOIN with \"{name}\", which is asked by key, is not available"), FORM.to_owned())),
    };
    if join.null_equality == NullEquality::NullEqualsNull {
        return Err((format!("static table \"{name}\" is asked by key, and a NULL is none"), "Compare the key's columns by =.".to_owned()));
    }
    let place = |expression: &Expr| {
        let Expr::Column(column) = expression else { return None };
        let at = kept[join.right.schema().index_of_column(column).ok()?];
        table.key().iter().position(|index| *index == at)
    };
    let mut key: Vec<Option<Expr>> = vec![None; table.key().len()];
    let mut others: Vec<Expr> = Vec::new();
    for (left, right) in &join.on {
        let at = place(uncast(right)).filter(|at| key[*at].is_none());
        let Some(at) = at else {
            others.push(left.clone().eq(right.clone()));
            continue;
        };
        let wanted = table.schema().field(table.key()[at]).data_type();
        let exact = uncast(right) == right && left.get_type(join.left.schema()).is_ok_and(|given| given == *wanted);
        if !exact {
            // A value that the key's type does not hold finds nothing; one that it holds only about is looked at again.
            others.push(left.clone().eq(right.clone()));
        }
        key[at] = Some(if exact { left.clone() } else { try_cast(left.clone(), wanted.clone()) });
    }
    for condition in join.filter.iter().flat_map(split_conjunction) {
        if let Some((column, value)) = with_constant(condition)
            && let Some(at) = place(column)
            && key[at].is_none()
        {
            key[at] = Some(try_cast(value.clone(), table.schema().field(table.key()[at]).data_type().clone()));
        }
        others.push(condition.clone());
    }
    if let Some(missing) = key.iter().position(Option::is_none) {
        let names: Vec<String> = table.key().iter().map(|index| format!("\"{}\"", table.schema().field(*index).name())).collect();
        let column = table.schema().field(table.key()[missing]).name();
        return Err((
            format!("static table \"{name}\" is asked by {}, and ON gives no value for \"{column}\"", names.join(" and ")),
            format!("Add AND … = {column} to the condition."),
        ));
    }
    Ok(KeyJoin { table, key: key.into_iter().flatten().collect(), kept, filter: conjunction(others), outer })
}

/// The table of the right side, and which of its columns are selected; `None` if something else is done to it.
fn right_side(plan: &LogicalPlan, known: &dyn Fn(&str) -> Option<Arc<Enrichment>>) -> Option<(Arc<Enrichment>, Vec<usize>)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => right_side(&alias.input, known),
        LogicalPlan::Projection(projection) => {
            let (table, kept) = right_side(&projection.input, known)?;
            let place = |expression: &Expr| match expression.clone().unalias() {
                Expr::Column(column) => projection.input.schema().index_of_column(&column).ok().map(|at| kept[at]),
                _ => None,
            };
            let kept = projection.expr.iter().map(place).collect::<Option<Vec<_>>>()?;
            Some((table, kept))
        }
        LogicalPlan::Extension(extension) => {
            let marker = extension.node.as_any().downcast_ref::<AsOfNode>()?;
            let mut below = &marker.input;
            while let LogicalPlan::SubqueryAlias(alias) = below {
                below = &alias.input;
            }
            let LogicalPlan::TableScan(scan) = below else { return None };
            let table = known(scan.table_name.table())?;
            let kept = scan.projection.clone().unwrap_or_else(|| (0..table.schema().fields().len()).collect());
            scan.filters.is_empty().then_some((table, kept))
        }
        _ => None,
    }
}

/// What is below casts, which come from comparing columns of different types.
fn uncast(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

/// `column = constant`, in either order.
fn with_constant(condition: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    match (left.as_ref(), right.as_ref()) {
        (column @ Expr::Column(_), value @ Expr::Literal(..)) | (value @ Expr::Literal(..), column @ Expr::Column(_)) => Some((column, value)),
        _ => None,
    }
}

/// A static table that is read as a whole holds the same at all times: what marks a version is taken out.
pub(super) fn without_versions(plan: &LogicalPlan) -> std::result::Result<LogicalPlan, Refused> {
    if as_of(plan).is_some_and(|marker| marker.time.is_some()) {
        let hint = "Leave FOR SYSTEM_TIME out, or write AS OF PROCTIME().".to_owned();
        return Err(("a static table has no versions".to_owned(), hint));
    }
    let unmarked = plan.clone().transform_down(|node| {
        Ok(match &node {
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<AsOfNode>() {
                Some(marker) => Transformed::yes(marker.input.clone()),
                None => Transformed::no(node),
            },
            _ => Transformed::no(node),
        })
    });
    unmarked.data().map_err(|e| (e.strip_backtrace(), String::new()))
}

/// A stream's columns, and behind them the key.
fn with_key(stream: &SchemaRef, key: &[(Arc<dyn PhysicalExpr>, DataType)]) -> Step {
    let mut expressions: Vec<Arc<dyn PhysicalExpr>> =
        stream.fields().iter().enumerate().map(|(index, field)| Arc::new(Column::new(field.name(), index)) as Arc<dyn PhysicalExpr>).collect();
    let mut fields: Vec<Field> = stream.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    for (index, (expression, data_type)) in key.iter().enumerate() {
        expressions.push(Arc::clone(expression));
        fields.push(Field::new(format!("__ws_key_{index}"), data_type.clone(), true));
    }
    Step::Project { expressions, schema: Arc::new(Schema::new(fields)) }
}

impl Lowering<'_> {
    pub(super) fn asked_table(&self, plan: &LogicalPlan) -> bool {
        asked_below(plan, &|name| self.names.asked(name)).is_some()
    }

    /// A join with a table that is asked by key.
    pub(super) fn lower_key_join(&mut self, join: &Join) -> Result<Lowered> {
        let found = key_join(join, &|name| self.names.asked(name)).map_err(|(message, hint)| invalid(self.owner, message).hint(hint))?;
        let lowered = self.lower(&join.left)?;
        self.refuse_changes(&lowered, "a join with what a table holds now")?;
        let stream = &lowered.schema;
        let mut key = Vec::new();
        for (expression, index) in found.key.iter().zip(found.table.key()) {
            key.push((self.physical(expression, join.left.schema())?, found.table.schema().field(*index).data_type().clone()));
        }
        let keyed = with_key(stream, &key);
        let combined = join.left.schema().join(join.right.schema()).map_err(|e| invalid(self.owner, e))?;
        let filter = found.filter.as_ref().map(|filter| self.physical(filter, &combined)).transpose()?;
        let mut steps = lowered.steps;
        let width = stream.fields().len();
        if let Step::Project { schema, .. } = &keyed {
            let enrich = EnrichSpec::new(Arc::clone(&found.table), schema);
            steps.extend([keyed, Step::Enrich(enrich)]);
        }
        let mut rowtime = lowered.rowtime;
        rowtime.extend(found.kept.iter().map(|_| RowTime::No));
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        steps.push(Step::Settle(SettleSpec { table: found.table.name().to_owned(), stream: width, kept: found.kept, filter, outer: found.outer, schema: Arc::clone(&schema) }));
        Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: lowered.aggregated, key: None, hold: lowered.hold })
    }
}
