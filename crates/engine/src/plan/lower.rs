//! The streaming lowering: an optimized logical plan becomes a straight line of steps.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::expressions::{CastExpr, Column};
use datafusion::prelude::SessionContext;
use watershed_types::{Error, Result};

use super::nodes::{DedupNode, WindowKind, WindowNode};
use crate::operator::{AggregateSpec, AssignSpec, DedupSpec, GroupColumn, LookupSpec, Step, WindowBounds};

/// A lowered (part of a) query.
pub struct Lowered {
    /// The stream it reads, by name.
    pub input: String,
    /// What is done with it.
    pub steps: Vec<Step>,
    /// Its columns.
    pub schema: SchemaRef,
    /// What its columns are to event time.
    pub rowtime: Vec<RowTime>,
    /// True once windows were aggregated.
    pub aggregated: bool,
    /// The windows that rows were assigned to last.
    pub window: Option<WindowKind>,
}

/// What a column is to event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTime {
    /// Nothing.
    No,
    /// Event time: a row that is not late comes before the watermark has passed it.
    Yes,
    /// The start of such a window. Its rows come until the watermark has reached its end, so it is event time only for
    /// windows that never end in between.
    StartOf(WindowKind),
}

/// What the lowering must know of names.
pub trait Names {
    /// What the columns of a stream are to event time; `None` if the name is no stream (a static table).
    fn rowtime(&self, stream: &str) -> Option<Vec<RowTime>>;
}

/// Lowers one query.
pub struct Lowering<'a> {
    /// The session it was planned in.
    pub context: &'a SessionContext,
    /// The names.
    pub names: &'a dyn Names,
    /// For operator ids: the table.
    pub owner: &'a str,
    /// How many operators were made so far.
    pub operators: usize,
}

pub(super) fn invalid(owner: &str, message: impl std::fmt::Display) -> Error {
    Error::invalid("PLAN0001", format!("table \"{owner}\": {message}"))
}

impl Lowering<'_> {
    fn physical(&self, expression: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let state = self.context.state();
        create_physical_expr(expression, schema, state.execution_props(), &Default::default()).map_err(|e| invalid(self.owner, e))
    }

    fn operator_id(&mut self, kind: &str) -> String {
        self.operators += 1;
        format!("{}/{}:{kind}", self.owner, self.operators)
    }

    /// True if nothing below reads a stream.
    fn is_static(&self, plan: &LogicalPlan) -> bool {
        let mut streaming = false;
        let _ = datafusion::common::tree_node::TreeNode::apply(plan, |node| {
            if let LogicalPlan::TableScan(scan) = node {
                streaming |= self.names.rowtime(scan.table_name.table()).is_some();
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        });
        !streaming
    }

    /// Lowers a plan whose leaves include exactly one stream.
    pub fn lower(&mut self, plan: &LogicalPlan) -> Result<Lowered> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table();
                let Some(mut rowtime) = self.names.rowtime(name) else {
                    return Err(invalid(self.owner, format!("reads only static tables (\"{name}\")"))
                        .hint("A table of a pipeline needs a stream in its FROM; read a static table in `watershed query` instead."));
                };
                let mut steps = Vec::new();
                let mut schema = scan.source.schema();
                if let Some(projection) = &scan.projection {
                    rowtime = projection.iter().map(|i| rowtime[*i]).collect();
                    schema = Arc::new(schema.project(projection).map_err(|e| invalid(self.owner, e))?);
                    steps.push(Step::pick(projection, Arc::clone(&schema), &scan.source.schema()));
                }
                let mut lowered = Lowered { input: name.to_owned(), steps, schema, rowtime, aggregated: false, window: None };
                for filter in &scan.filters {
                    lowered.steps.push(Step::Filter(self.physical(filter, &scan.projected_schema)?));
                }
                Ok(lowered)
            }
            LogicalPlan::Projection(projection) => {
                let mut lowered = self.lower(&projection.input)?;
                let input = projection.input.schema();
                let expressions = projection.expr.iter().map(|e| self.physical(e, input)).collect::<Result<Vec<_>>>()?;
                lowered.rowtime = expressions.iter().map(|e| passed_through(e).map_or(RowTime::No, |i| lowered.rowtime[i])).collect();
                lowered.schema = Arc::new(projection.schema.as_arrow().clone());
                lowered.steps.push(Step::Project { expressions, schema: Arc::clone(&lowered.schema) });
                Ok(lowered)
            }
            LogicalPlan::Filter(filter) => {
                let mut lowered = self.lower(&filter.input)?;
                lowered.steps.push(Step::Filter(self.physical(&filter.predicate, filter.input.schema())?));
                Ok(lowered)
            }
            LogicalPlan::Extension(extension) => {
                if let Some(dedup) = extension.node.as_any().downcast_ref::<DedupNode>() {
                    self.lower_dedup(dedup)
                } else if let Some(window) = extension.node.as_any().downcast_ref::<WindowNode>() {
                    self.lower_window(window)
                } else {
                    Err(invalid(self.owner, format!("{} cannot run as a stream", extension.node.name())))
                }
            }
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate),
            LogicalPlan::Join(join) => self.lower_join(join),
            LogicalPlan::Distinct(_) => Err(invalid(self.owner, "DISTINCT over a stream would have to remember every row for ever")
                .hint("Use DEDUPLICATE(stream, KEY (…), WITHIN INTERVAL '…'), or GROUP BY inside a window.")),
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => {
                Err(invalid(self.owner, "ORDER BY and LIMIT need an end, and a stream has none").hint("Leave them to the queries that read the table."))
            }
            LogicalPlan::Union(_) => Err(invalid(self.owner, "UNION of streams is not available").hint("Write one table per stream, and a union in the query that reads them.")),
            LogicalPlan::Window(_) => Err(invalid(self.owner, "OVER (…) is not available on streams").hint("Aggregate in TUMBLE or HOP windows.")),
            other => Err(invalid(self.owner, format!("{} cannot run as a stream", other.display()))),
        }
    }

    fn lower_dedup(&mut self, node: &DedupNode) -> Result<Lowered> {
        let mut lowered = self.lower(&node.input)?;
        let key = node.key.iter().map(|name| lowered.schema.index_of(name).map_err(|e| invalid(self.owner, e))).collect::<Result<Vec<_>>>()?;
        let time = lowered.schema.index_of(&node.time).map_err(|e| invalid(self.owner, e))?;
        if lowered.aggregated {
            return Err(invalid(self.owner, "DEDUPLICATE over aggregated windows is not available").hint("Deduplicate before the window."));
        }
        let fingerprint = format!("dedup key={:?} time={} within={}", node.key, node.time, node.within);
        let id = self.operator_id("dedup");
        lowered.steps.push(Step::Dedup(DedupSpec { id, fingerprint, key, time, within: node.within }));
        Ok(lowered)
    }

    fn lower_window(&mut self, node: &WindowNode) -> Result<Lowered> {
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        let mut lowered = self.lower(&node.input)?;
        let time = lowered.schema.index_of(&node.time).map_err(|e| invalid(self.owner, e))?;
        let known = || {
            let times = lowered.schema.fields().iter().zip(&lowered.rowtime).filter(|(_, r)| **r == RowTime::Yes);
            times.map(|(f, _)| f.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        match lowered.rowtime[time] {
            RowTime::Yes => {}
            RowTime::StartOf(inner) if node.kind.ends_with(inner) => {}
            RowTime::StartOf(_) => {
                let message = format!("\"{}\" is the start of a window whose rows come when it ends, and windows over its starts may end before", node.time);
                let hint = match known() {
                    none if none.is_empty() => "Select window_time as well (and group by it), and use that: it is the event time of a window's rows.".to_owned(),
                    names => format!("Use the event time of the window's rows, window_time; here that is: {names}."),
                };
                return Err(invalid(self.owner, message).hint(hint));
            }
            RowTime::No => {
                let hint = match known() {
                    none if none.is_empty() => "Declare WATERMARK FOR on the source, and pass that column through unchanged.".to_owned(),
                    names => format!("Its event-time columns are: {names}."),
                };
                return Err(invalid(self.owner, format!("a window needs an event-time column, and \"{}\" is not one", node.time)).hint(hint));
            }
        }
        lowered.schema = Arc::new(node.schema().as_arrow().clone());
        lowered.rowtime.extend([RowTime::StartOf(node.kind), RowTime::Yes, RowTime::Yes]);
        lowered.window = Some(node.kind);
        lowered.steps.push(Step::Assign(AssignSpec { time, kind: node.kind, schema: Arc::clone(&lowered.schema) }));
        Ok(lowered)
    }

    fn lower_aggregate(&mut self, aggregate: &Aggregate) -> Result<Lowered> {
        let mut lowered = self.lower(&aggregate.input)?;
        let input = aggregate.input.schema();
        let mut groups = Vec::new();
        let (mut has_start, mut has_end) = (false, false);
        for expression in &aggregate.group_expr {
            if matches!(expression, Expr::GroupingSet(_)) {
                return Err(invalid(self.owner, "GROUPING SETS, ROLLUP and CUBE are not available on streams"));
            }
            let physical = self.physical(expression, input)?;
            let name = passed_through(&physical).map(|i| (i, lowered.schema.field(i).name().clone()));
            let is_time = name.as_ref().is_some_and(|(i, _)| lowered.rowtime[*i] != RowTime::No);
            let group = match name {
                Some((_, name)) if is_time && name == "window_start" => {
                    has_start = true;
                    GroupColumn::WindowStart(physical)
                }
                Some((_, name)) if is_time && name == "window_end" => {
                    has_end = true;
                    GroupColumn::WindowEnd(physical)
                }
                Some((_, name)) if is_time && name == "window_time" => GroupColumn::WindowTime(physical),
                _ => GroupColumn::Key(physical),
            };
            groups.push(group);
        }
        if !has_start && !has_end {
            return Err(invalid(self.owner, "an aggregate over a stream needs a window, or it would never be finished")
                .hint("Write FROM TUMBLE(stream, event_time, INTERVAL '1 minute') … GROUP BY window_start, window_end, …"));
        }
        // The optimizer keeps only the window columns that are used: one of them and the size say the rest.
        let window = lowered.window.ok_or_else(|| invalid(self.owner, "the window columns do not come from TUMBLE or HOP"))?;
        let of_group = |group: &GroupColumn| match group {
            GroupColumn::WindowStart(_) => RowTime::StartOf(window),
            GroupColumn::WindowEnd(_) | GroupColumn::WindowTime(_) => RowTime::Yes,
            GroupColumn::Key(_) => RowTime::No,
        };
        let mut rowtime: Vec<RowTime> = groups.iter().map(of_group).collect();
        let size = window.size();
        let column = |name: &str| lowered.schema.index_of(name).ok().filter(|i| lowered.rowtime[*i] != RowTime::No);
        let bounds = match (column("window_start"), column("window_end")) {
            (Some(index), _) => WindowBounds::FromStart { index, size },
            (None, Some(index)) => WindowBounds::FromEnd { index, size },
            (None, None) => return Err(invalid(self.owner, "GROUP BY needs window_start or window_end")),
        };
        let physical_schema = input.as_arrow();
        let state = self.context.state();
        let mut functions = Vec::new();
        let mut filters = Vec::new();
        for expression in &aggregate.aggr_expr {
            let planning = Default::default();
            let lowered = LoweredAggregateBuilder::new(expression, input, physical_schema, state.execution_props(), &planning);
            let lowered = lowered.build().map_err(|e| invalid(self.owner, e))?;
            functions.push(lowered.aggregate);
            filters.push(lowered.filter);
            rowtime.push(RowTime::No);
        }
        let schema = Arc::new(aggregate.schema.as_arrow().clone());
        let fingerprint = format!(
            "aggregate windows={window:?} groups={:?} functions={:?}",
            groups.iter().map(|g| g.expression().to_string()).collect::<Vec<_>>(),
            functions.iter().map(|f| f.name().to_owned()).collect::<Vec<_>>()
        );
        let id = self.operator_id("window");
        lowered.steps.push(Step::Aggregate(AggregateSpec { id, fingerprint, bounds, groups, functions, filters, schema: Arc::clone(&schema) }));
        Ok(Lowered { schema, rowtime, aggregated: true, ..lowered })
    }

    fn lower_join(&mut self, join: &Join) -> Result<Lowered> {
        let (left_static, right_static) = (self.is_static(&join.left), self.is_static(&join.right));
        let stream_left = match (left_static, right_static) {
            (false, true) => true,
            (true, false) => false,
            (false, false) => {
                return Err(invalid(self.owner, "a join of two streams is not available").hint("Join the stream with a static table (CREATE STATIC TABLE …)."));
            }
            (true, true) => return Err(invalid(self.owner, "joins only static tables")),
        };
        let supported = matches!(
            (join.join_type, stream_left),
            (JoinType::Inner, _)
                | (JoinType::Left, true)
                | (JoinType::Right, false)
                | (JoinType::LeftSemi | JoinType::LeftAnti, true)
                | (JoinType::RightSemi | JoinType::RightAnti, false)
        );
        if !supported {
            return Err(invalid(self.owner, format!("a {} JOIN would have to wait for the end of the stream to know which static rows found no match", join.join_type))
                .hint("Keep the stream on the preserved side: stream LEFT JOIN static."));
        }
        // With a second condition NULLs would have to be looked for among the rows that meet it, one set for each stream row.
        if join.null_aware && (join.on.len() != 1 || join.filter.is_some()) {
            return Err(invalid(
                self.owner,
                "NOT IN over a subquery that refers to the stream's own columns, or in which the value is no plain column, is not available where either side may be NULL",
            )
            .hint("Write NOT EXISTS (SELECT 1 FROM … WHERE …), for which a NULL is no match."));
        }
        let (stream, table) = if stream_left { (&join.left, &join.right) } else { (&join.right, &join.left) };
        let lowered = self.lower(stream)?;
        let mut stream_keys = Vec::new();
        let mut table_keys = Vec::new();
        for (left, right) in &join.on {
            let (of_stream, of_table) = if stream_left { (left, right) } else { (right, left) };
            stream_keys.push(self.physical(of_stream, stream.schema())?);
            table_keys.push(self.physical(of_table, table.schema())?);
        }
        let combined = join.left.schema().join(join.right.schema()).map_err(|e| invalid(self.owner, e))?;
        let filter = join.filter.as_ref().map(|f| self.physical(f, &combined)).transpose()?;
        let keeps_only_stream = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti);
        let table_columns = table.schema().fields().len();
        let mut rowtime = lowered.rowtime.clone();
        if !keeps_only_stream {
            let others = vec![RowTime::No; table_columns];
            rowtime = if stream_left { [rowtime, others].concat() } else { [others, rowtime].concat() };
        }
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        let spec = LookupSpec {
            table: table.as_ref().clone(),
            context: self.context.clone(),
            stream_keys,
            table_keys,
            filter,
            combined: Arc::new(combined.as_arrow().clone()),
            stream_left,
            join_type: join.join_type,
            null_equal: join.null_equality == datafusion::common::NullEquality::NullEqualsNull,
            null_aware: join.null_aware,
            schema: Arc::clone(&schema),
        };
        let mut steps = lowered.steps;
        steps.push(Step::Lookup(Arc::new(crate::operator::Lookup::build(spec).map_err(|e| invalid(self.owner, e))?)));
        Ok(Lowered { steps, schema, rowtime, ..lowered })
    }
}

/// If an expression is a column, perhaps cast between timestamps of one unit: its index.
fn passed_through(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    if let Some(column) = (expression.as_ref() as &dyn std::any::Any).downcast_ref::<Column>() {
        return Some(column.index());
    }
    let cast = (expression.as_ref() as &dyn std::any::Any).downcast_ref::<CastExpr>()?;
    match cast.cast_type() {
        arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => passed_through(cast.expr()),
        _ => None,
    }
}
