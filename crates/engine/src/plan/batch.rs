//! The batch lowering: a table's logical plan over history, as plain relational nodes.
//!
//! **Owns** what each streaming notion is called over history: a window is a grouping, dedup a first-by-key, a rule a
//! filter, a table that reads a table one plan inside the other. **Does not own** reading history (see
//! [`SourceHistory`]) nor where the plan runs: nothing in it is ours, so any DataFusion can run it; but for tables that are
//! asked by key (`asked`), which this process asks.
//!
//! ```text
//! source's rows + partition, ordinal ─▶ table's plan ─▶ rules ─▶ next table's plan ─▶ rules ─▶ the table's columns
//!                       └── hidden columns travel along: stream order, and which source row a row came from ──┘
//! ```
//!
//! I1: on input without late rows, rows and values are those the stream gives once it has closed every window.
//! I2: a row's hidden columns say where it stands in the stream, so nothing depends on the order of execution.
//! I3: what cannot be said as a relation (a rule that is ON VIOLATION FAIL) is a [`Guard`]: a plan that must be empty.
//!
//! Lateness does not exist here: history is whole, and every row is taken.

mod asked;
mod dedup;
mod history;
mod joins;
mod relation;
mod rules;
mod windows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, ScalarValue, TableReference};
use datafusion::datasource::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias, TableScan, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use watershed_types::{Error, Result};

pub use history::{HIDDEN_ORDINAL, HIDDEN_PARTITION, SourceHistory};

use super::lookup::{asked_below, key_join, without_versions};
use super::nodes::{AsOfNode, DedupNode, WindowNode};
use super::streams::projected_top;
use super::{Input, Plan};
use crate::operator::Enrichment;
use relation::{Rows, all_columns, broken, in_arrival_order, numbered};

/// Where a source's rows come from.
///
/// Guarantee asked for: the source's declared columns in order, then [`HIDDEN_PARTITION`] and [`HIDDEN_ORDINAL`], which
/// rise within a partition in the order in which the stream reads it. [`SourceHistory`] makes such tables.
pub trait History {
    /// The decoded rows of a source.
    fn source(&self, name: &str) -> Result<Arc<dyn TableProvider>>;
}

impl History for std::collections::HashMap<String, Arc<dyn TableProvider>> {
    fn source(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        self.get(name)
            .cloned()
            .ok_or_else(|| Error::invalid("PLAN0022", format!("there is no history of source \"{name}\"")).hint("Read the source's history before its tables are lowered."))
    }
}

/// How DEDUPLICATE finds the rows that start an interval of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rounds {
    /// As many rounds as the data needs: a recursive query, on one machine.
    #[default]
    UntilDone,
    /// This many, unrolled: windows and filters alone, which can be spread over machines. A [`Guard`] says if they were
    /// too few. One is enough where repeats come within one interval of the key's first row.
    AtMost(u32),
}

/// A table over history.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Yields the table's columns. In no order.
    pub rows: LogicalPlan,
    /// Must be empty, or the rows are worth nothing.
    pub guards: Vec<Guard>,
}

/// A plan that yields nothing if all is well.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The rows that say otherwise.
    pub offending: LogicalPlan,
    /// What is wrong if there are any.
    pub meaning: Meaning,
}

/// What a guard stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Rows broke a rule that is ON VIOLATION FAIL.
    Rule {
        /// The table.
        table: String,
        /// The rule's name.
        rule: String,
        /// Its condition as written.
        text: String,
    },
    /// [`Rounds::AtMost`] was too few for a DEDUPLICATE.
    Rounds {
        /// The operator.
        operator: String,
        /// How many there were.
        rounds: u32,
    },
}

impl Meaning {
    fn error(&self) -> Error {
        match self {
            Meaning::Rule { table, rule, text } => {
                Error::rejected("PLAN0020", format!("table \"{table}\": a row of the history broke rule {rule}: {text}, which is ON VIOLATION FAIL"))
                    .hint("Correct the data at its source, or change the rule to QUARANTINE.")
            }
            Meaning::Rounds { operator, rounds } => Error::invalid("PLAN0021", format!("{operator}: {rounds} rounds of DEDUPLICATE are too few for this history"))
                .hint("Allow more rounds, or as many as the data needs."),
        }
    }
}

impl Batch {
    /// Checks the guards, then collects the rows.
    pub async fn collect(&self, context: &SessionContext) -> Result<Vec<RecordBatch>> {
        let failed = |e: DataFusionError| {
            Error::invalid("PLAN0022", "the batch plan failed over this history")
                .hint("A row on which the query fails is quarantined by the stream, and stops a batch.")
                .caused_by(e)
        };
        for guard in &self.guards {
            let first = DataFrame::new(context.state(), guard.offending.clone()).limit(0, Some(1)).map_err(failed)?.collect().await.map_err(failed)?;
            if first.iter().any(|batch| batch.num_rows() > 0) {
                return Err(guard.meaning.error());
            }
        }
        DataFrame::new(context.state(), self.rows.clone()).collect().await.map_err(failed)
    }
}

/// Lowers a table, and all tables on its way to the sources, to one relational plan over history.
///
/// `now()` becomes the time the plan's [`super::TickTime`] shows at this moment.
pub fn batch(plan: &Plan, table: &str, history: &dyn History, rounds: Rounds) -> Result<Batch> {
    let index = plan.tables.iter().position(|t| t.name == table).ok_or_else(|| Error::invalid("PLAN0022", format!("there is no table \"{table}\"")))?;
    let mut lowering = Lowering { plan, history, rounds, guards: vec![], names: 0 };
    let rows = lowering.table(index)?;
    let columns = plan.tables[index].schema.fields().iter().map(|field| Expr::Column(Column::from_name(field.name()))).collect::<Vec<_>>();
    let rows = LogicalPlanBuilder::from(rows.plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(|e| broken(table, e))?;
    Ok(Batch { rows, guards: lowering.guards })
}

struct Lowering<'a> {
    plan: &'a Plan,
    history: &'a dyn History,
    rounds: Rounds,
    guards: Vec<Guard>,
    names: usize,
}

impl Lowering<'_> {
    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("__ws_{what}_{}", self.names)
    }

    /// The stream of that name.
    fn input(&self, name: &str) -> Option<Input> {
        let source = self.plan.sources.iter().position(|source| source.name == name).map(Input::Source);
        source.or_else(|| self.plan.tables.iter().position(|table| table.name == name).map(Input::Table))
    }

    /// True if a stream is below.
    fn streams(&self, plan: &LogicalPlan) -> datafusion::common::Result<bool> {
        let mut found = false;
        plan.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                found |= self.input(scan.table_name.table()).is_some();
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    }

    /// The static table of that name, if it is one that is asked by key.
    fn asked(&self, name: &str) -> Option<Arc<Enrichment>> {
        self.plan.asked.iter().find(|asked| asked.table.name() == name).map(|asked| Arc::clone(&asked.table))
    }

    /// True if a side of a join is a table that is asked by key.
    fn asks(&self, join: &Join) -> datafusion::common::Result<bool> {
        let asked = |side: &LogicalPlan| Ok::<_, DataFusionError>(!self.streams(side)? && asked_below(side, &|name| self.asked(name)).is_some());
        Ok(asked(&join.left)? || asked(&join.right)?)
    }

    /// A table's rows with its columns' names, unqualified, and the hidden ones.
    fn table(&mut self, index: usize) -> Result<Rows> {
        let plan = self.plan;
        let table = &plan.tables[index];
        let failed = |e| broken(&table.name, e);
        let rows = self.lower(&table.logical).map_err(failed)?;
        let named = table.logical.schema().iter().zip(table.schema.fields()).map(|(column, field)| Expr::Column(Column::from(column)).alias(field.name()));
        let mut columns: Vec<Expr> = named.collect();
        columns.extend(rows.hidden());
        let projected = Projection::try_new(columns, Arc::new(rows.plan.clone())).map_err(failed)?;
        self.judged(index, Rows { plan: LogicalPlan::Projection(projected), ..rows }).map_err(failed)
    }

    /// Lowers what lies on the way to the stream. Mirrors the streaming lowering, which has refused everything else.
    fn lower(&mut self, plan: &LogicalPlan) -> datafusion::common::Result<Rows> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                let rows = self.lower(&alias.input)?;
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(rows.plan.clone()), alias.alias.clone())?);
                Ok(Rows { plan, ..rows })
            }
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let rows = self.lower(&projection.input)?;
                let mut columns = self.pinned(plan, &projection.expr)?;
                columns.extend(rows.hidden());
                Ok(Rows { plan: LogicalPlan::Projection(Projection::try_new(columns, Arc::new(rows.plan.clone()))?), ..rows })
            }
            LogicalPlan::Filter(filter) => {
                let rows = self.lower(&filter.input)?;
                let predicate = self.pin(filter.predicate.clone())?;
                Ok(Rows { plan: LogicalPlanBuilder::from(rows.plan.clone()).filter(predicate)?.build()?, ..rows })
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(node) = node.downcast_ref::<DedupNode>() {
                    let rows = self.lower(&node.input)?;
                    if node.keep_last { self.keep_last(rows, node) } else { self.dedup(rows, node) }
                } else if let Some(node) = node.downcast_ref::<AsOfNode>() {
                    self.lower(&node.input)
                } else if let Some(node) = node.downcast_ref::<WindowNode>() {
                    let rows = self.lower(&node.input)?;
                    self.assign(rows, node)
                } else {
                    datafusion::common::plan_err!("{} has no batch form", extension.node.name())
                }
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(plan, aggregate),
            LogicalPlan::Join(join) if self.streams(&join.left)? && self.streams(&join.right)? => self.stream_join(plan, join),
            LogicalPlan::Join(join) if self.asks(join)? => {
                let found = key_join(join, &|name| self.asked(name)).map_err(|(message, _)| datafusion::common::plan_datafusion_err!("{message}"))?;
                self.asked_join(join, found)
            }
            LogicalPlan::Join(join) => self.join(plan, join),
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Limit(limit) => match projected_top(limit) {
                Some((projection, inner)) => self.lower(&LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(LogicalPlan::Limit(inner)))?)),
                None => self.top(limit),
            },
            other => datafusion::common::plan_err!("{} has no batch form", other.display()),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> datafusion::common::Result<Rows> {
        let stream = scan.table_name.table();
        let name = TableReference::bare(stream);
        let input = self.input(stream).ok_or_else(|| datafusion::common::plan_datafusion_err!("\"{stream}\" is no stream"))?;
        let (rows, columns) = match input {
            Input::Source(_) => {
                let source = self.history.source(stream).map_err(|e| DataFusionError::External(Box::new(e)))?;
                let columns = scan.source.schema();
                let plan = LogicalPlanBuilder::scan(name, provider_as_source(source), None)?.build()?;
                let order = vec![HIDDEN_PARTITION.to_owned(), HIDDEN_ORDINAL.to_owned()];
                (Rows { plan, order, identity: 2, multiplied: false }, columns)
            }
            Input::Table(index) => {
                let rows = self.table(index).map_err(|e| DataFusionError::External(Box::new(e)))?;
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(rows.plan.clone()), name)?);
                (Rows { plan, ..rows }, Arc::clone(&self.plan.tables[index].schema))
            }
        };
        let wanted: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..columns.fields().len()).collect());
        let mut kept: Vec<Expr> = wanted.iter().map(|i| Expr::Column(Column::new(Some(stream), columns.field(*i).name()))).collect();
        kept.extend(rows.hidden());
        // Filters may name columns that the projection leaves out.
        let mut builder = LogicalPlanBuilder::from(rows.plan.clone());
        for filter in &scan.filters {
            builder = builder.filter(self.pin(filter.clone())?)?;
        }
        Ok(Rows { plan: builder.project(kept)?.build()?, ..rows })
    }

    fn aggregate(&mut self, plan: &LogicalPlan, aggregate: &Aggregate) -> datafusion::common::Result<Rows> {
        let rows = self.lower(&aggregate.input)?;
        let groups = self.pinned(plan, &aggregate.group_expr)?;
        let functions = self.pinned(plan, &aggregate.aggr_expr)?;
        let functions = functions.into_iter().map(|function| in_arrival_order(function, &rows)).collect::<datafusion::common::Result<Vec<_>>>()?;
        let aggregated = Aggregate::try_new(Arc::new(rows.plan), groups, functions)?;
        // A result is a row of its own, in the order in which windows close.
        let sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        let mut keys: Vec<Column> = aggregated.schema.iter().take(if sets { 0 } else { aggregate.group_expr.len() }).map(Column::from).collect();
        keys.sort_by_key(|column| ["window_end", "window_start", "window_time"].iter().position(|name| *name == column.name).unwrap_or(usize::MAX));
        let nth = self.name("result");
        let plan = numbered(LogicalPlan::Aggregate(aggregated), &nth, keys.into_iter().map(Expr::Column).collect())?;
        Ok(Rows { plan, order: vec![nth], identity: 1, multiplied: false })
    }

    /// The static side is joined as it is; its rows are numbered, because a row's copies come in their order.
    fn join(&mut self, plan: &LogicalPlan, join: &Join) -> datafusion::common::Result<Rows> {
        let stream_left = self.streams(&join.left)?;
        let (stream, table) = if stream_left { (&join.left, &join.right) } else { (&join.right, &join.left) };
        let rows = self.lower(stream)?;
        let keeps_only_stream = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti);
        let (mut order, mut statics) = (rows.order.clone(), without_versions(table).map_err(|(message, _)| datafusion::common::plan_datafusion_err!("{message}"))?);
        if !keeps_only_stream {
            let nth = self.name("match");
            statics = numbered(statics, &nth, vec![])?;
            order.push(nth);
        }
        let inputs = if stream_left { vec![rows.plan, statics] } else { vec![statics, rows.plan] };
        let plan = plan.with_new_exprs(self.pinned(plan, &plan.expressions())?, inputs)?;
        Ok(Rows { plan, order, identity: rows.identity, multiplied: rows.multiplied || !keeps_only_stream })
    }

    fn pinned(&self, plan: &LogicalPlan, expressions: &[Expr]) -> datafusion::common::Result<Vec<Expr>> {
        let names = NamePreserver::new(plan);
        expressions.iter().map(|e| Ok(names.save(e).restore(self.pin(e.clone())?))).collect()
    }

    /// `now()` and its relatives as constants.
    fn pin(&self, expression: Expr) -> datafusion::common::Result<Expr> {
        let micros = self.plan.time.get();
        expression
            .transform_up(|e| {
                let Expr::ScalarFunction(function) = &e else { return Ok(Transformed::no(e)) };
                Ok(match function.name() {
                    "now" => Transformed::yes(lit(ScalarValue::TimestampMicrosecond(Some(micros), None))),
                    "current_date" => Transformed::yes(lit(ScalarValue::Date32(Some(micros.div_euclid(86_400_000_000) as i32)))),
                    _ => Transformed::no(e),
                })
            })
            .data()
    }
}

/// All columns but these.
fn without(plan: &LogicalPlan, names: &[&str]) -> Vec<Expr> {
    all_columns(plan).into_iter().filter(|c| !names.contains(&c.name.as_str())).map(Expr::Column).collect()
}
