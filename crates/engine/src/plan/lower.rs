//! The streaming lowering: an optimized logical plan becomes a straight line of steps.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::expressions::{CastExpr, Column};
use datafusion::prelude::SessionContext;
use watershed_types::{Error, Result};

use super::lookup::without_versions;
use super::nodes::{AsOfNode, DedupNode, WindowKind, WindowNode};
use crate::operator::{AssignSpec, DedupSpec, Enrichment, Fingerprint, LookupSpec, Step, length};

/// A lowered (part of a) query.
pub struct Lowered {
    /// The streams it reads, by name; several only if its first step takes several.
    pub inputs: Vec<String>,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// Its columns.
    pub schema: SchemaRef,
    /// What its columns are to event time.
    pub rowtime: Vec<RowTime>,
    /// True once an operator made rows of others.
    pub aggregated: bool,
    /// For a changelog: the columns that name its rows.
    pub key: Option<Vec<KeyColumn>>,
    /// How far its rows' event time may be behind the watermark of its inputs, microseconds.
    pub hold: i64,
}

/// A column of a changelog's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyColumn {
    /// It is this column.
    At(usize),
    /// It had this name, and is not selected any more.
    Lost(String),
}

/// A part of a query that runs as a table of its own, of which nothing is kept.
pub struct Part {
    /// Its name: the table's, and a number.
    pub name: String,
    /// What it does.
    pub lowered: Lowered,
}

/// When the results of a query come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Emission {
    /// With every change, as a changelog.
    pub on_change: bool,
    /// Before a window closes, every so often, microseconds.
    pub early: Option<i64>,
    /// For how long after its end a window takes rows, microseconds.
    pub lateness: i64,
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
    /// The end of such a window; event time too.
    EndOf(WindowKind),
    /// A millisecond before the end of such a window; event time too.
    TimeOf(WindowKind),
    /// The end of a session with such a gap whose rows come and go until the watermark is there: no event time, but final then.
    SettlesAt(i64),
    /// What a tick made of its own time or by chance, of results that change: when the row is taken back it is another.
    OfTick,
}

impl RowTime {
    /// True if the watermark speaks of it.
    pub fn is_time(self) -> bool {
        matches!(self, RowTime::Yes | RowTime::EndOf(_) | RowTime::TimeOf(_))
    }
    /// The windows it is of.
    pub fn window(self) -> Option<WindowKind> {
        match self {
            RowTime::StartOf(kind) | RowTime::EndOf(kind) | RowTime::TimeOf(kind) => Some(kind),
            RowTime::No | RowTime::Yes | RowTime::SettlesAt(_) | RowTime::OfTick => None,
        }
    }
    /// The windows of which rows that agree in it close together: those it is the end of, and where all are of one length
    /// those it is the start of.
    pub fn closes_with(self) -> Option<WindowKind> {
        match self {
            RowTime::EndOf(kind) => Some(kind),
            RowTime::StartOf(kind) => kind.size().map(|_| kind),
            RowTime::No | RowTime::Yes | RowTime::TimeOf(_) | RowTime::SettlesAt(_) | RowTime::OfTick => None,
        }
    }
}

/// What the lowering must know of names.
pub trait Names {
    /// What the columns of a stream are to event time; `None` if the name is no stream (a static table).
    fn rowtime(&self, stream: &str) -> Option<Vec<RowTime>>;
    /// For a changelog: the columns that name its rows.
    fn key(&self, stream: &str) -> Option<Vec<usize>>;
    /// The columns by which a later row takes the place of an earlier one, if the stream declares some.
    fn primary_key(&self, stream: &str) -> Vec<String>;
    /// The static table of that name, if it is one that is asked by key.
    fn asked(&self, name: &str) -> Option<Arc<Enrichment>>;
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
    /// When results come.
    pub emission: Emission,
    /// True while the input of an aggregate is lowered that takes sessions as they grow.
    pub sessions_grow: bool,
    /// Parts that run as tables of their own, inputs before users.
    pub parts: Vec<Part>,
}

pub(super) fn invalid(owner: &str, message: impl std::fmt::Display) -> Error {
    Error::invalid("PLAN0001", format!("table \"{owner}\": {message}"))
}

impl Lowering<'_> {
    pub(super) fn physical(&self, expression: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let state = self.context.state();
        let expression = create_physical_expr(expression, schema, state.execution_props(), &Default::default()).map_err(|e| invalid(self.owner, e))?;
        checked(expression).map_err(|e| invalid(self.owner, e))
    }

    /// Refuses what would meet a row that is taken back otherwise than it met it when it came.
    pub(super) fn refuse_of_tick<'e>(&self, lowered: &Lowered, expressions: impl IntoIterator<Item = &'e Arc<dyn PhysicalExpr>>, what: &str) -> Result<()> {
        if lowered.key.is_none() || !expressions.into_iter().any(|e| is_of_tick(e, &lowered.rowtime)) {
            return Ok(());
        }
        Err(invalid(self.owner, format!("{what} over results that change depends on the time of the tick, or on chance: a row that is taken back would not be the one that came"))
            .hint("Compute now() or random() in front of what makes the results change, or in the queries that read the table."))
    }

    /// The same for an operator that keeps its input's rows.
    pub(super) fn refuse_kept_of_tick(&self, key: &Option<Vec<KeyColumn>>, rowtime: &[RowTime], schema: &SchemaRef) -> Result<()> {
        match rowtime.iter().position(|time| *time == RowTime::OfTick) {
            Some(column) if key.is_some() => Err(invalid(
                self.owner,
                format!(
                    "column \"{}\" of results that change depends on the time of the tick, or on chance: a row that is taken back would not be the one that came",
                    schema.field(column).name()
                ),
            )
            .hint("Compute now() or random() in front of what makes the results change, or in the queries that read the table; or leave the column out here.")),
            _ => Ok(()),
        }
    }

    /// Rows on which one of these fails stay behind, for an operator that evaluates them could only stop.
    pub(super) fn tried(&self, lowered: &mut Lowered, expressions: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>) {
        let may_fail: Vec<_> = expressions.into_iter().filter(|e| may_fail(e, &lowered.schema)).collect();
        if !may_fail.is_empty() {
            lowered.steps.push(Step::Try(may_fail));
        }
    }

    pub(super) fn operator_id(&mut self, kind: &str) -> String {
        self.operators += 1;
        format!("{}/{}:{kind}", self.owner, self.operators)
    }

    /// True if nothing below reads a stream.
    pub(super) fn is_static(&self, plan: &LogicalPlan) -> bool {
        let mut streaming = false;
        let _ = datafusion::common::tree_node::TreeNode::apply(plan, |node| {
            if let LogicalPlan::TableScan(scan) = node {
                streaming |= self.names.rowtime(scan.table_name.table()).is_some();
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        });
        !streaming
    }

    /// Lowers a plan whose leaves include at least one stream.
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
                let place = |column: usize| match &scan.projection {
                    None => Some(column),
                    Some(projection) => projection.iter().position(|kept| *kept == column),
                };
                let named = |column: usize| place(column).map_or_else(|| KeyColumn::Lost(scan.source.schema().field(column).name().clone()), KeyColumn::At);
                let key = self.names.key(name).map(|key| key.into_iter().map(named).collect());
                let mut lowered = Lowered { inputs: vec![name.to_owned()], steps, schema, rowtime, aggregated: false, key, hold: 0 };
                for filter in &scan.filters {
                    let condition = self.physical(filter, &scan.projected_schema)?;
                    self.refuse_of_tick(&lowered, [&condition], "a condition")?;
                    lowered.steps.push(Step::Filter { condition, changing: lowered.key.is_some() });
                }
                Ok(lowered)
            }
            LogicalPlan::Projection(projection) => {
                let lowered = self.lower(&projection.input)?;
                self.project(projection, lowered)
            }
            LogicalPlan::Filter(filter) => {
                match filter.input.as_ref() {
                    LogicalPlan::Window(window) => return self.lower_over(window, Some(&filter.predicate)),
                    // The optimizer puts a choice of columns in between, which leaves their names as they are.
                    LogicalPlan::Projection(projection) if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) => {
                        if let LogicalPlan::Window(window) = projection.input.as_ref() {
                            let lowered = self.lower_over(window, Some(&filter.predicate))?;
                            return self.project(projection, lowered);
                        }
                    }
                    _ => {}
                }
                let mut lowered = self.lower(&filter.input)?;
                let condition = self.physical(&filter.predicate, filter.input.schema())?;
                self.refuse_of_tick(&lowered, [&condition], "a condition")?;
                lowered.steps.push(Step::Filter { condition, changing: lowered.key.is_some() });
                Ok(lowered)
            }
            LogicalPlan::Extension(extension) => {
                if let Some(dedup) = extension.node.as_any().downcast_ref::<DedupNode>() {
                    self.lower_dedup(dedup)
                } else if let Some(window) = extension.node.as_any().downcast_ref::<WindowNode>() {
                    self.lower_window(window)
                } else if let Some(marker) = extension.node.as_any().downcast_ref::<AsOfNode>() {
                    self.lower(&marker.input)
                } else {
                    Err(invalid(self.owner, format!("{} cannot run as a stream", extension.node.name())))
                }
            }
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate),
            LogicalPlan::Join(join) => self.lower_join(join),
            LogicalPlan::Distinct(_) => Err(invalid(self.owner, "DISTINCT over a stream would have to remember every row for ever")
                .hint("Use DEDUPLICATE(stream, KEY (…), WITHIN INTERVAL '…'), or GROUP BY inside a window.")),
            LogicalPlan::Limit(limit) if self.emission.on_change => self.lower_top(limit),
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => Err(invalid(self.owner, "ORDER BY and LIMIT need an end, and a stream has none")
                .hint("Leave them to the queries that read the table; or say EMIT ON CHANGE: ORDER BY … LIMIT n then keeps the first n up to date.")),
            LogicalPlan::EmptyRelation(_) => {
                Err(invalid(self.owner, "has no rows: a condition of it is never true").hint("Look for what compares a value with NULL, or with another constant."))
            }
            LogicalPlan::Union(union) => self.lower_union(union),
            LogicalPlan::Window(window) => self.lower_over(window, None),
            other => Err(invalid(self.owner, format!("{} cannot run as a stream", other.display()))),
        }
    }

    pub(super) fn project(&self, projection: &Projection, mut lowered: Lowered) -> Result<Lowered> {
        let input = projection.input.schema();
        let expressions = projection.expr.iter().map(|e| self.physical(e, input)).collect::<Result<Vec<_>>>()?;
        let of_tick = |e: &Arc<dyn PhysicalExpr>| lowered.key.is_some() && is_of_tick(e, &lowered.rowtime);
        let computed = |e| if of_tick(e) { RowTime::OfTick } else { RowTime::No };
        lowered.rowtime = expressions.iter().map(|e| passed_through(e).map_or_else(|| computed(e), |i| lowered.rowtime[i])).collect();
        let lost = |column: usize| KeyColumn::Lost(lowered.schema.field(column).name().clone());
        let place = |column: usize| expressions.iter().position(|e| passed_through(e) == Some(column)).map_or_else(|| lost(column), KeyColumn::At);
        lowered.key = lowered.key.map(|key| key.into_iter().map(|column| if let KeyColumn::At(at) = column { place(at) } else { column }).collect());
        lowered.schema = Arc::new(projection.schema.as_arrow().clone());
        lowered.steps.push(Step::Project { expressions, schema: Arc::clone(&lowered.schema) });
        Ok(lowered)
    }

    fn lower_dedup(&mut self, node: &DedupNode) -> Result<Lowered> {
        if node.keep_last {
            return self.lower_keep_last(node);
        }
        let lowered = self.lower(&node.input)?;
        let mut lowered = self.settled(lowered);
        self.refuse_changes(&lowered, "DEDUPLICATE")?;
        let key = node.key.iter().map(|name| lowered.schema.index_of(name).map_err(|e| invalid(self.owner, e))).collect::<Result<Vec<_>>>()?;
        let time = lowered.schema.index_of(&node.time).map_err(|e| invalid(self.owner, e))?;
        if lowered.aggregated {
            return Err(invalid(self.owner, "DEDUPLICATE over aggregated windows is not available").hint("Deduplicate before the window."));
        }
        let earlier = format!("dedup key={:?} time={} within={}", node.key, node.time, node.within);
        let fingerprint = Fingerprint::new("dedup", earlier).with("within", length(node.within));
        let id = self.operator_id("dedup");
        lowered.steps.push(Step::Dedup(DedupSpec { id, fingerprint, key, time, within: node.within }));
        Ok(lowered)
    }

    fn lower_window(&mut self, node: &WindowNode) -> Result<Lowered> {
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        // It speaks of this window, not of those below.
        let sessions_grow = std::mem::take(&mut self.sessions_grow);
        let lowered = self.lower(&node.input)?;
        self.sessions_grow = sessions_grow;
        let mut lowered = self.settled(lowered);
        let time = lowered.schema.index_of(&node.time).map_err(|e| invalid(self.owner, e))?;
        let known = || {
            let times = lowered.schema.fields().iter().zip(&lowered.rowtime).filter(|(_, r)| r.is_time());
            times.map(|(f, _)| f.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        match lowered.rowtime[time] {
            RowTime::Yes | RowTime::EndOf(_) | RowTime::TimeOf(_) => {}
            RowTime::StartOf(inner) if node.kind.ends_with(inner) => {}
            RowTime::StartOf(_) => {
                let message = format!("\"{}\" is the start of a window whose rows come when it ends, and windows over its starts may end before", node.time);
                let hint = match known() {
                    none if none.is_empty() => "Select window_time as well (and group by it), and use that: it is the event time of a window's rows.".to_owned(),
                    names => format!("Use the event time of the window's rows, window_time; here that is: {names}."),
                };
                return Err(invalid(self.owner, message).hint(hint));
            }
            // Results that change are never final: any time will do.
            RowTime::No | RowTime::SettlesAt(_) | RowTime::OfTick if self.emission.on_change && !matches!(node.kind, WindowKind::Session { .. }) => {
                named_by_window(&mut lowered.key, node.kind, lowered.schema.fields().len());
                lowered.schema = Arc::new(node.schema().as_arrow().clone());
                lowered.rowtime.extend([RowTime::No; 3]);
                lowered.steps.push(Step::Assign(AssignSpec { time, kind: node.kind, schema: Arc::clone(&lowered.schema) }));
                return Ok(lowered);
            }
            RowTime::No | RowTime::SettlesAt(_) | RowTime::OfTick => {
                let hint = match known() {
                    none if none.is_empty() => "Declare WATERMARK FOR on the source, and pass that column through unchanged.".to_owned(),
                    names => format!("Its event-time columns are: {names}."),
                };
                return Err(invalid(self.owner, format!("a window needs an event-time column, and \"{}\" is not one", node.time)).hint(hint));
            }
        }
        let input = Arc::clone(&lowered.schema);
        lowered.schema = Arc::new(node.schema().as_arrow().clone());
        if let WindowKind::Session { gap } = node.kind {
            return self.lower_session(lowered, node, input, time, gap);
        }
        let width = input.fields().len();
        named_by_window(&mut lowered.key, node.kind, width);
        lowered.rowtime.extend([RowTime::StartOf(node.kind), RowTime::EndOf(node.kind), RowTime::TimeOf(node.kind)]);
        lowered.steps.push(Step::Assign(AssignSpec { time, kind: node.kind, schema: Arc::clone(&lowered.schema) }));
        Ok(lowered)
    }

    fn lower_join(&mut self, join: &Join) -> Result<Lowered> {
        let (left_static, right_static) = (self.is_static(&join.left), self.is_static(&join.right));
        if left_static && self.asked_table(&join.left) || right_static && self.asked_table(&join.right) {
            return self.lower_key_join(join);
        }
        let stream_left = match (left_static, right_static) {
            (false, true) => true,
            (true, false) => false,
            (false, false) => return self.lower_stream_join(join),
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
        let mut key = lowered.key.clone();
        if !keeps_only_stream {
            if !stream_left {
                for column in key.iter_mut().flatten() {
                    if let KeyColumn::At(at) = column {
                        *at += table_columns;
                    }
                }
            }
            let others = vec![RowTime::No; table_columns];
            rowtime = if stream_left { [rowtime, others].concat() } else { [others, rowtime].concat() };
        }
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        let nth = 1 + lowered.steps.iter().filter(|step| matches!(step, Step::Lookup(_))).count();
        let spec = LookupSpec {
            name: format!("{}/lookup:{nth}", self.owner),
            table: without_versions(table).map_err(|(message, hint)| invalid(self.owner, message).hint(hint))?,
            context: self.context.clone(),
            stream_keys,
            table_keys,
            filter,
            combined: Arc::new(combined.as_arrow().clone()),
            stream_left,
            join_type: join.join_type,
            null_equal: join.null_equality == datafusion::common::NullEquality::NullEqualsNull,
            null_aware: join.null_aware,
            changing: key.is_some(),
            schema: Arc::clone(&schema),
        };
        let mut steps = lowered.steps;
        steps.push(Step::Lookup(Arc::new(crate::operator::Lookup::build(spec).map_err(|e| invalid(self.owner, e))?)));
        Ok(Lowered { steps, schema, rowtime, key, ..lowered })
    }
}

/// A row that is in several windows is told apart by them.
fn named_by_window(key: &mut Option<Vec<KeyColumn>>, kind: WindowKind, width: usize) {
    if let (Some(key), WindowKind::Hop { .. } | WindowKind::Cumulate { .. }) = (key, kind) {
        key.extend([KeyColumn::At(width), KeyColumn::At(width + 1)]);
    }
}

/// The same expression, in which a sum, a difference or a product that does not fit its type fails instead of wrapping around.
fn checked(expression: Arc<dyn PhysicalExpr>) -> datafusion::common::Result<Arc<dyn PhysicalExpr>> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::BinaryExpr;
    expression
        .transform_up(|e| {
            let Some(binary) = (e.as_ref() as &dyn std::any::Any).downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(e)) };
            if !matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) {
                return Ok(Transformed::no(e));
            }
            let strict = BinaryExpr::new(Arc::clone(binary.left()), *binary.op(), Arc::clone(binary.right())).with_fail_on_overflow(true);
            Ok(Transformed::yes(Arc::new(strict) as Arc<dyn PhysicalExpr>))
        })
        .data()
}

/// True for what has another value in another tick.
pub(super) fn is_of_tick(expression: &Arc<dyn PhysicalExpr>, rowtime: &[RowTime]) -> bool {
    is_volatile(expression) || collect_columns(expression).iter().any(|column| rowtime.get(column.index()) == Some(&RowTime::OfTick))
}

/// False for expressions that have a value, or NULL, for every row.
pub(super) fn may_fail(expression: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr, TryCastExpr};
    let this = expression.as_ref() as &dyn std::any::Any;
    let value = this.is::<Column>() || this.is::<Literal>() || this.is::<CaseExpr>() || this.is::<TryCastExpr>();
    let sure = value || this.is::<IsNullExpr>() || this.is::<IsNotNullExpr>() || this.is::<NotExpr>() || this.is::<InListExpr>() || this.is::<LikeExpr>();
    let plain = this.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
        let floating = || expression.data_type(schema).is_ok_and(|t| t.is_floating());
        match binary.op() {
            Operator::And | Operator::Or | Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => true,
            Operator::Plus | Operator::Minus | Operator::Multiply => floating(),
            _ => false,
        }
    });
    let widened = this.downcast_ref::<CastExpr>().is_some_and(|cast| {
        let from = cast.expr().data_type(schema);
        from.is_ok_and(|from| from == *cast.cast_type() || from.is_integer() && cast.cast_type().is_floating())
    });
    !(sure || plain || widened) || expression.children().into_iter().any(|child| may_fail(child, schema))
}

/// If an expression is a column, perhaps cast between timestamps of one unit: its index.
pub(super) fn passed_through(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    if let Some(column) = (expression.as_ref() as &dyn std::any::Any).downcast_ref::<Column>() {
        return Some(column.index());
    }
    let cast = (expression.as_ref() as &dyn std::any::Any).downcast_ref::<CastExpr>()?;
    match cast.cast_type() {
        arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => passed_through(cast.expr()),
        _ => None,
    }
}
