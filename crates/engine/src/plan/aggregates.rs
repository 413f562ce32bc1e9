//! The streaming lowering of GROUP BY.
//!
//! ```text
//! windows, results final          ─▶ WindowAggregate   (one set of accumulators a window)
//! windows, early or again         ─▶ ChangeAggregate   (state by group, given up with the window)
//! no window, rows never change    ─▶ ChangeAggregate   (state by group, for ever)
//! no window, rows are taken back  ─▶ Keyed             (the rows of each group, run again)
//! sessions, shown as they grow    ─▶ Keyed             (the same, given up with the session)
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::expressions::Column;
use watershed_types::Result;

use super::lower::{KeyColumn, Lowered, Lowering, RowTime, invalid, may_fail, passed_through};
use super::nodes::{WindowKind, WindowNode};
use crate::operator::{
    AggregateSpec, ChangeAggregateSpec, ExpandSpec, Fingerprint, GroupColumn, KeyedSpec, Relation, Settles, Show, Slot, Step, WindowBounds, length, number_field, over,
};

/// What GROUP BY names, and what of it is a window's.
struct Groups {
    columns: Vec<GroupColumn>,
    rowtime: Vec<RowTime>,
    window: Option<WindowKind>,
}

type Functions = (Vec<Arc<AggregateFunctionExpr>>, Vec<Option<Arc<dyn PhysicalExpr>>>);

impl Lowering<'_> {
    pub(super) fn lower_aggregate(&mut self, aggregate: &Aggregate) -> Result<Lowered> {
        let lowered = match self.growing_sessions(aggregate)? {
            Some(lowered) => lowered,
            None => {
                let mut lowered = self.lower(&aggregate.input)?;
                // As for sessions that are shown as they grow: a row on which the query fails is in none.
                if over_sessions(&aggregate.input)
                    && let Some((at, may_fail)) = self.tried_before(aggregate, &lowered)?
                    && !may_fail.is_empty()
                {
                    lowered.steps.insert(at, Step::Try(may_fail));
                }
                lowered
            }
        };
        let mut lowered = self.settled(lowered);
        let schema: SchemaRef = Arc::new(aggregate.schema.as_arrow().clone());
        let expressions = match aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            false => aggregate.group_expr.iter().map(|e| self.physical(e, aggregate.input.schema())).collect::<Result<Vec<_>>>()?,
            // Its rows would be taken once for each set, and grouped by all sets again.
            true if lowered.key.is_some() => {
                return Err(invalid(self.owner, "GROUPING SETS, ROLLUP and CUBE over results that change are not available").hint("Write a table for each set."));
            }
            true => self.expand(aggregate, &mut lowered)?,
        };
        let groups = group_columns(&expressions, &lowered);
        let functions = self.functions(aggregate, &lowered)?;
        let arguments = functions.0.iter().flat_map(|f| f.expressions().into_iter().chain(f.order_bys().iter().map(|order| Arc::clone(&order.expr))));
        let evaluated: Vec<_> = expressions.iter().cloned().chain(arguments).chain(functions.1.iter().flatten().cloned()).collect();
        self.tried(&mut lowered, evaluated.iter().cloned());
        if lowered.key.is_some() {
            self.refuse_of_tick(&lowered, &evaluated, "an aggregate")?;
            self.refuse_kept_of_tick(&lowered.key, &lowered.rowtime, &lowered.schema)?;
            return self.recomputed_aggregate(aggregate, lowered, groups, schema);
        }
        let again = self.emission.on_change || self.emission.early.is_some() || self.emission.lateness > 0;
        match groups.window {
            Some(window) if !again => self.window_aggregate(lowered, groups, functions, window, schema),
            // SESSION and CUMULATE.
            None if !self.emission.on_change && expressions.iter().filter_map(passed_through).any(|i| matches!(lowered.rowtime[i], RowTime::StartOf(_) | RowTime::EndOf(_))) => {
                Err(invalid(self.owner, "these windows differ in length, and GROUP BY names only one of their bounds").hint("Name both: GROUP BY window_start, window_end, …"))
            }
            None if !self.emission.on_change => Err(match functions.0.is_empty() {
                true => invalid(self.owner, "DISTINCT over a stream has to remember every row for ever")
                    .hint("Use DEDUPLICATE(stream, KEY (…), WITHIN INTERVAL '…'), or GROUP BY inside a window; or say EMIT ON CHANGE and give it the memory."),
                false => invalid(self.owner, "an aggregate over a stream needs a window, or it would never be finished").hint(
                    "Write FROM TUMBLE(stream, event_time, INTERVAL '1 minute') … GROUP BY window_start, window_end, …, or EMIT ON CHANGE for results that change as rows come.",
                ),
            }),
            window => self.change_aggregate(lowered, groups, functions, window, schema),
        }
    }

    /// The input of an aggregate whose results change, over sessions that are shown as they grow; `None` if it is another.
    ///
    /// A row of a session comes again whenever the session grows. One that makes an expression fail must be left out before, or
    /// it would be refused each time: so where that cannot be, sessions are taken when they are over.
    fn growing_sessions(&mut self, aggregate: &Aggregate) -> Result<Option<Lowered>> {
        let sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        if !self.emission.on_change || sets || !over_sessions(&aggregate.input) {
            return Ok(None);
        }
        let (operators, parts) = (self.operators, self.parts.len());
        self.sessions_grow = true;
        let lowered = self.lower(&aggregate.input);
        self.sessions_grow = false;
        let mut lowered = lowered?;
        let of_tick = self.refuse_kept_of_tick(&lowered.key, &lowered.rowtime, &lowered.schema).is_err();
        let tried = self.tried_before(aggregate, &lowered)?.filter(|_| !of_tick);
        match tried {
            Some((at, may_fail)) if lowered.key.is_some() => {
                if !may_fail.is_empty() {
                    lowered.steps.insert(at, Step::Try(may_fail));
                }
                Ok(Some(lowered))
            }
            _ => {
                self.operators = operators;
                self.parts.truncate(parts);
                Ok(None)
            }
        }
    }

    /// Where the sessions are found, and what may fail behind, over the columns before; `None` if it needs their bounds.
    fn tried_before(&self, aggregate: &Aggregate, lowered: &Lowered) -> Result<Option<(usize, Vec<Arc<dyn PhysicalExpr>>)>> {
        let failed = |e| invalid(self.owner, e);
        let Some(at) = lowered.steps.iter().rposition(Step::is_stateful) else { return Ok(None) };
        let Step::Operator(sessions) = &lowered.steps[at] else { return Ok(None) };
        let schema = sessions.schema();
        let mut columns: Vec<Arc<dyn PhysicalExpr>> =
            schema.fields().iter().enumerate().map(|(index, field)| Arc::new(Column::new(field.name(), index)) as Arc<dyn PhysicalExpr>).collect();
        // What is behind a condition is tried where the condition holds.
        let mut guards: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let guarded = |expression: Arc<dyn PhysicalExpr>, guards: &[Arc<dyn PhysicalExpr>]| {
            let both = |all: Arc<dyn PhysicalExpr>, one| Arc::new(BinaryExpr::new(all, Operator::And, one)) as Arc<dyn PhysicalExpr>;
            match guards.iter().cloned().reduce(both) {
                None => Ok(expression),
                Some(guard) => CaseExpr::try_new(None, vec![(guard, expression)], None).map(|case| Arc::new(case) as Arc<dyn PhysicalExpr>),
            }
        };
        let mut used: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for step in &lowered.steps[at + 1..] {
            match step {
                Step::Filter { condition, .. } => {
                    let condition = over(condition, &columns).map_err(failed)?;
                    used.push(guarded(Arc::clone(&condition), &guards).map_err(failed)?);
                    guards.push(condition);
                }
                Step::Project { expressions, .. } => {
                    columns = expressions.iter().map(|e| over(e, &columns)).collect::<datafusion::common::Result<_>>().map_err(failed)?;
                    used.extend(columns.iter().map(|e| guarded(Arc::clone(e), &guards)).collect::<datafusion::common::Result<Vec<_>>>().map_err(failed)?);
                }
                _ => return Ok(None),
            }
        }
        let functions = self.functions(aggregate, lowered)?;
        let arguments = functions.0.iter().flat_map(|f| f.expressions().into_iter().chain(f.order_bys().iter().map(|order| Arc::clone(&order.expr))));
        let groups = aggregate.group_expr.iter().map(|e| self.physical(e, aggregate.input.schema())).collect::<Result<Vec<_>>>()?;
        for expression in groups.into_iter().chain(arguments).chain(functions.1.into_iter().flatten()) {
            let expression = over(&expression, &columns).map_err(failed)?;
            used.push(guarded(expression, &guards).map_err(failed)?);
        }
        if used.iter().any(is_volatile) {
            return Ok(None);
        }
        let may_fail: Vec<_> = used.into_iter().filter(|e| may_fail(e, &schema)).collect();
        let before = sessions.passes();
        let bounds = may_fail.iter().flat_map(collect_columns).any(|column| column.index() >= before);
        Ok((!bounds).then_some((at, may_fail)))
    }

    fn functions(&self, aggregate: &Aggregate, lowered: &Lowered) -> Result<Functions> {
        let input = aggregate.input.schema();
        let state = self.context.state();
        let (mut functions, mut filters) = (Vec::new(), Vec::new());
        for expression in &aggregate.aggr_expr {
            let planning = Default::default();
            let built = LoweredAggregateBuilder::new(expression, input, input.as_arrow(), state.execution_props(), &planning).build();
            let built = built.map_err(|e| invalid(self.owner, e))?;
            functions.push(built.aggregate);
            filters.push(built.filter);
        }
        debug_assert!(lowered.schema.fields().len() >= input.fields().len(), "grouping sets add columns behind the input's");
        Ok((functions, filters))
    }

    /// The columns that say which window a row is in.
    fn bounds(&self, lowered: &Lowered, window: WindowKind) -> Result<WindowBounds> {
        let at = |wanted: RowTime| lowered.rowtime.iter().position(|time| *time == wanted);
        let (start, end) = (at(RowTime::StartOf(window)), at(RowTime::EndOf(window)));
        // The optimizer keeps only the window columns that are used: where windows are of one size, one of them says the rest.
        match (start, end, window.size()) {
            (Some(index), _, Some(size)) => Ok(WindowBounds::FromStart { index, size }),
            (None, Some(index), Some(size)) => Ok(WindowBounds::FromEnd { index, size }),
            (Some(start), Some(end), None) => Ok(WindowBounds::Columns { start, end }),
            _ => Err(invalid(self.owner, "GROUP BY needs window_start and window_end").hint("Name both: GROUP BY window_start, window_end, …")),
        }
    }

    fn window_aggregate(&mut self, lowered: Lowered, groups: Groups, (functions, filters): Functions, window: WindowKind, schema: SchemaRef) -> Result<Lowered> {
        let bounds = self.bounds(&lowered, window)?;
        let mut rowtime = groups.rowtime;
        rowtime.extend(functions.iter().map(|_| RowTime::No));
        let earlier = format!(
            "aggregate windows={window:?} groups={:?} functions={:?}",
            groups.columns.iter().map(|g| g.expression().to_string()).collect::<Vec<_>>(),
            functions.iter().map(|f| f.name().to_owned()).collect::<Vec<_>>()
        );
        let fingerprint = Fingerprint::new("window", earlier).with("window", super::trace::window(window));
        let id = self.operator_id("window");
        let mut steps = lowered.steps;
        steps.push(Step::Aggregate(AggregateSpec { id, fingerprint, bounds, groups: groups.columns, functions, filters, schema: Arc::clone(&schema) }));
        Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: None, hold: 0 })
    }

    fn change_aggregate(&mut self, lowered: Lowered, groups: Groups, (functions, filters): Functions, window: Option<WindowKind>, schema: SchemaRef) -> Result<Lowered> {
        let bounds = window.map(|window| self.bounds(&lowered, window)).transpose()?;
        let emission = self.emission;
        let show = match (bounds.is_some(), emission.on_change, emission.early) {
            (false, ..) | (true, true, _) => Show::OnChange,
            (true, false, Some(every)) => Show::Early(every),
            (true, false, None) => Show::AfterClose,
        };
        let keys: Vec<Arc<dyn PhysicalExpr>> = groups.columns.iter().map(|g| Arc::clone(g.expression())).collect();
        let earlier = format!(
            "changes windows={window:?} lateness={} show={show:?} groups={:?} functions={:?}",
            emission.lateness,
            keys.iter().map(|e| e.to_string()).collect::<Vec<_>>(),
            functions.iter().map(|f| f.name().to_owned()).collect::<Vec<_>>()
        );
        let shown = match show {
            Show::OnChange => "with every change",
            Show::AfterClose => "when a window closes",
            Show::Early(_) => "early and when a window closes",
        };
        let mut fingerprint = Fingerprint::new("changes", earlier).with("shows", shown).for_ever(window.is_none());
        if let Some(window) = window {
            fingerprint = fingerprint.with("window", super::trace::window(window)).with("lateness", length(emission.lateness));
        }
        if let Show::Early(every) = show {
            fingerprint = fingerprint.with("every", length(every));
        }
        let id = self.operator_id("changes");
        let mut rowtime = groups.rowtime;
        // A window's results change until it is given up: nothing further on can take their time for final.
        if show != Show::AfterClose || emission.lateness > 0 {
            rowtime.fill(RowTime::No);
        }
        rowtime.extend(functions.iter().map(|_| RowTime::No));
        let key = (0..keys.len()).map(KeyColumn::At).collect();
        let mut steps = lowered.steps;
        let spec = ChangeAggregateSpec {
            id,
            fingerprint,
            groups: keys,
            functions,
            filters,
            window: bounds,
            lateness: emission.lateness,
            show,
            input: Arc::clone(&lowered.schema),
            schema: Arc::clone(&schema),
        };
        steps.push(Step::Operator(Box::new(spec)));
        Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: Some(key), hold: 0 })
    }

    /// Over rows that are taken back: the rows of each group are kept, and the aggregate is run over them again.
    fn recomputed_aggregate(&mut self, aggregate: &Aggregate, lowered: Lowered, groups: Groups, schema: SchemaRef) -> Result<Lowered> {
        let failed = |e| invalid(self.owner, e);
        let slot = Slot::new(aggregate.input.schema(), &[number_field()]).map_err(failed)?;
        let node = Aggregate::try_new(Arc::new(slot.leaf()), aggregate.group_expr.clone(), aggregate.aggr_expr.clone()).map_err(failed)?;
        let relation = Relation::new(LogicalPlan::Aggregate(node), vec![slot], self.context.clone());
        let keys: Vec<Arc<dyn PhysicalExpr>> = groups.columns.iter().map(|g| Arc::clone(g.expression())).collect();
        let key_types = keys.iter().map(|k| k.data_type(&lowered.schema)).collect::<datafusion::common::Result<Vec<_>>>().map_err(failed)?;
        let settles = keys.iter().enumerate().find_map(|(at, key)| match lowered.rowtime[passed_through(key)?] {
            RowTime::SettlesAt(after) => Some(Settles { at, after }),
            _ => None,
        });
        let functions: Vec<String> = aggregate.aggr_expr.iter().map(|e| e.schema_name().to_string()).collect();
        let names: Vec<String> = keys.iter().map(|e| e.to_string()).collect();
        let words = format!("aggregate {} by {}", functions.join(", "), names.join(", "));
        let earlier = format!("keyed aggregate groups={names:?} functions={functions:?}");
        let fingerprint = Fingerprint::new("keyed aggregate", earlier)
            .with_all("groups", aggregate.group_expr.iter().map(unqualified))
            .with_all("functions", aggregate.aggr_expr.iter().map(unqualified))
            .for_ever(settles.is_none());
        let id = self.operator_id("keyed");
        let key = (0..keys.len()).map(KeyColumn::At).collect();
        let output = (0..schema.fields().len()).collect();
        let mut steps = lowered.steps;
        steps.push(Step::Operator(Box::new(KeyedSpec {
            id,
            fingerprint,
            words,
            relation,
            keys,
            key_types,
            number: 0,
            prune: false,
            settles,
            output,
            schema: Arc::clone(&schema),
        })));
        let rowtime = vec![RowTime::No; schema.fields().len()];
        Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: Some(key), hold: 0 })
    }

    /// GROUPING SETS, ROLLUP, CUBE: each row once a set, its keys as columns. The keys to group by.
    fn expand(&mut self, aggregate: &Aggregate, lowered: &mut Lowered) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let failed = |e| invalid(self.owner, e);
        let sets = enumerate_grouping_sets(aggregate.group_expr.clone()).map_err(failed)?;
        let keys: Vec<&Expr> = grouping_set_to_exprlist(&sets).map_err(failed)?;
        // Those that stand alone are not enumerated.
        let lists: Vec<Vec<Expr>> = match sets.as_slice() {
            [Expr::GroupingSet(GroupingSet::GroupingSets(lists))] => lists.clone(),
            [Expr::GroupingSet(GroupingSet::Rollup(keys))] => (0..=keys.len()).map(|length| keys[..length].to_vec()).collect(),
            [Expr::GroupingSet(GroupingSet::Cube(keys))] if keys.len() < 16 => {
                (0..1_u32 << keys.len()).map(|set| keys.iter().enumerate().filter(|(nth, _)| set >> nth & 1 == 1).map(|(_, key)| key.clone()).collect()).collect()
            }
            _ => return Err(invalid(self.owner, "these grouping sets cannot run as a stream").hint("Write GROUPING SETS ((…), …) with plain columns.")),
        };
        let masks: Vec<Vec<bool>> = lists.iter().map(|list| keys.iter().map(|key| list.contains(key)).collect()).collect();
        if masks.iter().enumerate().any(|(nth, mask)| masks[..nth].contains(mask)) {
            return Err(invalid(self.owner, "a grouping set is there twice").hint("Leave one of them out."));
        }
        let physical = keys.iter().map(|e| self.physical(e, aggregate.input.schema())).collect::<Result<Vec<_>>>()?;
        let number_type = Aggregate::grouping_id_type(keys.len(), 0);
        let number = |mask: &Vec<bool>| mask.iter().fold(0u64, |bits, there| (bits << 1) | u64::from(!there));
        let numbers = masks.iter().map(|mask| ScalarValue::UInt64(Some(number(mask))).cast_to(&number_type)).collect::<datafusion::common::Result<Vec<_>>>().map_err(failed)?;
        let mut fields: Vec<Field> = lowered.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let plain = fields.len();
        for (nth, key) in physical.iter().enumerate() {
            let data_type: DataType = key.data_type(&lowered.schema).map_err(failed)?;
            // A window's bounds are in every set: they say what they said.
            let time = passed_through(key).filter(|_| masks.iter().all(|mask| mask[nth])).map_or(RowTime::No, |i| lowered.rowtime[i]);
            fields.push(Field::new(format!("__ws_set_{nth}"), data_type, true));
            lowered.rowtime.push(time);
        }
        fields.push(Field::new("__ws_set", number_type, false));
        lowered.rowtime.push(RowTime::No);
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let columns = (plain..schema.fields().len()).map(|i| Arc::new(Column::new(schema.field(i).name(), i)) as Arc<dyn PhysicalExpr>).collect();
        lowered.steps.push(Step::Expand(ExpandSpec { keys: physical, sets: masks, numbers, schema: Arc::clone(&schema) }));
        lowered.schema = schema;
        Ok(columns)
    }
}

/// An expression in the words of SQL, whatever what it reads is called here.
fn unqualified(expression: &Expr) -> String {
    let plain = expression.clone().transform(|e| {
        Ok(match e {
            Expr::Column(column) => Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    plain.map_or_else(|_| expression.schema_name().to_string(), |plain| plain.data.schema_name().to_string())
}

/// True if what an aggregate reads are the rows of sessions, perhaps chosen among.
fn over_sessions(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => over_sessions(&alias.input),
        LogicalPlan::Projection(projection) => over_sessions(&projection.input),
        LogicalPlan::Filter(filter) => over_sessions(&filter.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>().is_some_and(|node| matches!(node.kind, WindowKind::Session { .. })),
        _ => false,
    }
}

/// Which of the groups are a window's bounds.
fn group_columns(expressions: &[Arc<dyn PhysicalExpr>], lowered: &Lowered) -> Groups {
    let times: Vec<RowTime> = expressions.iter().map(|e| passed_through(e).map_or(RowTime::No, |i| lowered.rowtime[i])).collect();
    // Of several windows the last that rows were assigned to: its columns come last.
    let latest = expressions.iter().zip(&times).filter(|(_, time)| matches!(time, RowTime::StartOf(_) | RowTime::EndOf(_)));
    let window = latest.max_by_key(|(e, _)| passed_through(e)).and_then(|(_, time)| time.window());
    // Windows of several lengths are told apart by both of their bounds.
    let window = window.filter(|kind| kind.size().is_some() || [RowTime::StartOf(*kind), RowTime::EndOf(*kind)].iter().all(|bound| times.contains(bound)));
    let (mut columns, mut rowtime) = (Vec::new(), Vec::new());
    for (expression, time) in expressions.iter().zip(times) {
        let expression = Arc::clone(expression);
        let of_window = window.is_some() && time.window() == window;
        columns.push(match time {
            RowTime::StartOf(_) if of_window => GroupColumn::WindowStart(expression),
            RowTime::EndOf(_) if of_window => GroupColumn::WindowEnd(expression),
            RowTime::TimeOf(_) if of_window => GroupColumn::WindowTime(expression),
            _ => GroupColumn::Key(expression),
        });
        rowtime.push(if of_window { time } else { RowTime::No });
    }
    Groups { columns, rowtime, window }
}
