//! The streaming lowering of what relates rows to each other: joins of streams, `OVER`, unions, sessions, keep-last dedup.
//!
//! What relates rows of one window runs when the window closes ([`WindowedSpec`]); what relates rows by event time runs as
//! the watermark goes ([`StreamJoinSpec`] with bounds, [`OverSpec`], [`TemporalSpec`]); the rest keeps its rows for ever and
//! shows what changes ([`StreamJoinSpec`] without bounds, [`KeyedSpec`]).

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchemaRef, JoinType, NullEquality, ScalarValue};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{NullTreatment, Sort, WindowFunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Operator as Op, Projection, SkipType, Union, UserDefinedLogicalNodeCore,
    Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, col, lit,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::expressions::Column as PhysicalColumn;
use watershed_types::Result;

use super::lower::{KeyColumn, Lowered, Lowering, Part, RowTime, invalid, passed_through};
use super::nodes::{AsOfNode, DedupNode, WindowKind, WindowNode};
use super::trace::as_sql;
use crate::operator::{
    Ahead, Fingerprint, History, KeyedSpec, OverSpec, Relation, SessionSpec, Slot, Step, StreamJoinSpec, TemporalSpec, TimeBounds, UnionSpec, WindowEnd, WindowedSpec, length,
    number_field,
};

/// One of several inputs.
struct Port {
    name: String,
    schema: SchemaRef,
    rowtime: Vec<RowTime>,
    key: Option<Vec<KeyColumn>>,
    /// Where the columns are by which its rows are told apart, as declared; none if they are not there.
    primary: Vec<usize>,
}

type Keys = (Vec<Arc<dyn PhysicalExpr>>, Vec<DataType>);

impl Lowering<'_> {
    /// Cuts off a query whose rows may come behind the watermark: what follows runs by a watermark that is held back.
    pub(super) fn settled(&mut self, lowered: Lowered) -> Lowered {
        if lowered.hold == 0 {
            return lowered;
        }
        let port = self.cut(lowered);
        Lowered { inputs: vec![port.name], steps: vec![], schema: port.schema, rowtime: port.rowtime, aggregated: false, key: port.key, hold: 0 }
    }

    /// Makes a part of what was lowered.
    fn cut(&mut self, lowered: Lowered) -> Port {
        let (schema, rowtime, key, primary) = (Arc::clone(&lowered.schema), lowered.rowtime.clone(), lowered.key.clone(), self.primary(&lowered));
        if let ([name], [], 0) = (&lowered.inputs[..], &lowered.steps[..], lowered.hold) {
            return Port { name: name.clone(), schema, rowtime, key, primary };
        }
        let name = format!("{}#{}", self.owner, self.parts.len() + 1);
        self.parts.push(Part { name: name.clone(), lowered });
        Port { name, schema, rowtime, key, primary }
    }

    /// Where the primary key of a stream's source or table is, if rows of it are no more than chosen; empty if not all of it is there.
    fn primary(&self, lowered: &Lowered) -> Vec<usize> {
        let [name] = &lowered.inputs[..] else { return vec![] };
        let declared = self.names.primary_key(name);
        let mut projections = Vec::new();
        for step in &lowered.steps {
            match step {
                Step::Project { expressions, .. } => projections.push(expressions),
                Step::Filter { .. } | Step::Try(_) => {}
                _ => return vec![],
            }
        }
        let Some((first, others)) = projections.split_first() else {
            return declared.iter().map(|name| lowered.schema.index_of(name).ok()).collect::<Option<_>>().unwrap_or_default();
        };
        let named = |e: &Arc<dyn PhysicalExpr>, name: &str| (e.as_ref() as &dyn std::any::Any).downcast_ref::<PhysicalColumn>().is_some_and(|column| column.name() == name);
        let places = declared.iter().map(|name| {
            let at = first.iter().position(|e| named(e, name))?;
            others.iter().try_fold(at, |at, expressions| expressions.iter().position(|e| passed_through(e) == Some(at)))
        });
        places.collect::<Option<_>>().unwrap_or_default()
    }

    fn port(&mut self, plan: &LogicalPlan) -> Result<Port> {
        self.keyed_port(plan, &[])
    }

    /// One of several inputs, without the rows that have no key because it cannot be evaluated.
    fn keyed_port(&mut self, plan: &LogicalPlan, keys: &[Expr]) -> Result<Port> {
        let mut lowered = self.lower(plan)?;
        let (keys, _) = self.keys(keys, plan.schema())?;
        self.tried(&mut lowered, keys);
        Ok(self.cut(lowered))
    }

    /// An operator that cannot take rows back.
    pub(super) fn refuse_changes(&self, lowered: &Lowered, what: &str) -> Result<()> {
        match lowered.key {
            None => Ok(()),
            Some(_) => {
                Err(invalid(self.owner, format!("{what} cannot run over results that change"))
                    .hint("Use results that are final: leave out EMIT ON CHANGE where its input is made."))
            }
        }
    }

    fn changing(&self, what: &str, hint: &str) -> Result<()> {
        match self.emission.on_change {
            true => Ok(()),
            false => Err(invalid(self.owner, what).hint(hint)),
        }
    }

    pub(super) fn lower_union(&mut self, union: &Union) -> Result<Lowered> {
        let ports = union.inputs.iter().map(|input| self.port(input)).collect::<Result<Vec<_>>>()?;
        for port in &ports {
            if port.key.is_some() {
                return Err(invalid(self.owner, "UNION cannot put together results that change").hint("Use results that are final: leave out EMIT ON CHANGE where they are made."));
            }
        }
        let schema: SchemaRef = Arc::new(union.schema.as_arrow().clone());
        let rowtime = (0..schema.fields().len()).map(|column| {
            let first = ports[0].rowtime[column];
            if ports.iter().all(|port| port.rowtime[column] == first) { first } else { RowTime::No }
        });
        let (rowtime, inputs) = (rowtime.collect(), ports.iter().map(|port| port.name.clone()).collect());
        let fingerprint = Fingerprint::new("union", "union".to_owned());
        let step = Step::Operator(Box::new(UnionSpec { id: self.operator_id("union"), fingerprint, schema: Arc::clone(&schema) }));
        Ok(Lowered { inputs, steps: vec![step], schema, rowtime, aggregated: true, key: None, hold: 0 })
    }

    pub(super) fn lower_session(&mut self, mut lowered: Lowered, node: &WindowNode, input: SchemaRef, time: usize, gap: i64) -> Result<Lowered> {
        self.refuse_changes(&lowered, "SESSION")?;
        let partition_by = node.partition_by.iter().map(|name| input.index_of(name).map_err(|e| invalid(self.owner, e))).collect::<Result<Vec<_>>>()?;
        let earlier = format!("session of={:?} time={} gap={gap} columns={:?}", node.partition_by, node.time, columns(&input));
        let mut fingerprint = Fingerprint::new("session", earlier).with_all("of", &node.partition_by).with("time", &node.time).with("gap", length(gap));
        // Rows come out when their session is over: of their own event time the watermark says nothing any more.
        lowered.rowtime.fill(RowTime::No);
        let grows = self.sessions_grow;
        if grows {
            fingerprint = fingerprint.with("shows", "as they grow");
            lowered.rowtime.extend([RowTime::No, RowTime::SettlesAt(gap), RowTime::No]);
            lowered.key = Some((0..lowered.rowtime.len()).map(KeyColumn::At).collect());
        } else {
            lowered.rowtime.extend([RowTime::StartOf(node.kind), RowTime::EndOf(node.kind), RowTime::TimeOf(node.kind)]);
        }
        let spec = SessionSpec { id: self.operator_id("session"), fingerprint, partition_by, time, gap, grows, input, schema: Arc::new(node.schema().as_arrow().clone()) };
        lowered.steps.push(Step::Operator(Box::new(spec)));
        Ok(Lowered { aggregated: true, ..lowered })
    }

    /// The last row of each key, by event time and then by arrival.
    pub(super) fn lower_keep_last(&mut self, node: &DedupNode) -> Result<Lowered> {
        self.changing("DEDUPLICATE … KEEP LAST shows rows that later ones take the place of", "Say EMIT ON CHANGE at the end of the query, or KEEP FIRST.")?;
        let lowered = self.lower(&node.input)?;
        self.refuse_kept_of_tick(&lowered.key, &lowered.rowtime, &lowered.schema)?;
        let failed = |e| invalid(self.owner, e);
        let column = |name: &str| node.input.schema().qualified_field_with_unqualified_name(name).map(|found| Expr::Column(Column::from(found)));
        let keys = node.key.iter().map(|name| column(name)).collect::<datafusion::common::Result<Vec<_>>>().map_err(failed)?;
        let slot = Slot::new(node.input.schema(), &[number_field()]).map_err(failed)?;
        let order = vec![column(&node.time).map_err(failed)?.sort(false, false), col("__ws_number").sort(false, false)];
        let function = Expr::from(WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), vec![]));
        let nth = function.partition_by(keys.clone()).order_by(order).build().map_err(failed)?;
        let first = col(nth.schema_name().to_string()).eq(lit(1u64));
        let window = Window::try_new(vec![nth], Arc::new(slot.leaf())).map_err(failed)?;
        let filter = Filter::try_new(first, Arc::new(LogicalPlan::Window(window))).map_err(failed)?;
        let plan = LogicalPlan::Filter(filter);
        let (keys, key_types) = self.keys(&keys, node.input.schema())?;
        let at = |name: &String| lowered.schema.index_of(name).map(KeyColumn::At).map_err(|e| invalid(self.owner, e));
        let key = node.key.iter().map(at).collect::<Result<Vec<_>>>()?;
        let width = lowered.schema.fields().len();
        let spec = KeyedSpec {
            fingerprint: Fingerprint::new("last", format!("keep last key={:?} time={} columns={:?}", node.key, node.time, columns(&lowered.schema)))
                .with_all("key", &node.key)
                .with("time", &node.time)
                .for_ever(true),
            words: format!("keep the last row of each {}", node.key.join(", ")),
            relation: Relation::new(plan, vec![slot], self.context.clone()),
            keys,
            key_types,
            number: width,
            prune: lowered.key.is_none(),
            settles: None,
            output: (0..width).collect(),
            schema: Arc::clone(&lowered.schema),
            id: self.operator_id("last"),
        };
        let mut steps = lowered.steps;
        steps.push(Step::Operator(Box::new(spec)));
        let rowtime = vec![RowTime::No; width];
        Ok(Lowered { inputs: lowered.inputs, steps, schema: lowered.schema, rowtime, aggregated: true, key: Some(key), hold: lowered.hold })
    }

    fn keys(&self, expressions: &[Expr], schema: &DFSchemaRef) -> Result<Keys> {
        let keys = expressions.iter().map(|e| self.physical(e, schema)).collect::<Result<Vec<_>>>()?;
        let types = keys.iter().map(|k| k.data_type(schema.as_arrow())).collect::<datafusion::common::Result<Vec<_>>>().map_err(|e| invalid(self.owner, e))?;
        Ok((keys, types))
    }

    /// `OVER`, with what a filter keeps of it.
    pub(super) fn lower_over(&mut self, window: &Window, keep: Option<&Expr>) -> Result<Lowered> {
        let lowered = self.lower(&window.input)?;
        self.refuse_kept_of_tick(&lowered.key, &lowered.rowtime, &lowered.schema)?;
        let mut lowered = self.settled(lowered);
        let functions = window.window_expr.iter().map(|e| self.over(e)).collect::<Result<Vec<_>>>()?;
        let evaluated: Vec<Expr> =
            functions.iter().flat_map(|f| f.params.args.iter().chain(&f.params.partition_by).chain(f.params.order_by.iter().map(|sort| &sort.expr))).cloned().collect();
        let (evaluated, _) = self.keys(&evaluated, window.input.schema())?;
        self.tried(&mut lowered, evaluated);
        let first = functions.first().ok_or_else(|| invalid(self.owner, "a window of rows without a function"))?;
        // What all functions partition by: rows that differ in it never meet.
        let shared: Vec<Expr> = first.params.partition_by.iter().filter(|key| functions.iter().all(|f| f.params.partition_by.contains(key))).cloned().collect();
        let (keys, key_types) = self.keys(&shared, window.input.schema())?;
        let at: Vec<Option<usize>> = keys.iter().map(passed_through).collect();
        let windowed = at.iter().flatten().find_map(|i| lowered.rowtime[*i].closes_with());
        let changes = lowered.key.is_some() || self.emission.on_change;
        let width = lowered.schema.fields().len();
        let failed = |e| invalid(self.owner, e);
        let slot = Slot::new(window.input.schema(), &[number_field()]).map_err(failed)?;
        let ordered = window.window_expr.iter().map(|e| in_order_of_arrival(e, window.input.schema())).collect::<Vec<_>>();
        let names: Vec<String> = window.window_expr.iter().map(|e| e.schema_name().to_string()).collect();
        let mut plan = slot.leaf();
        for functions in by_order(&ordered) {
            plan = LogicalPlan::Window(Window::try_new(functions, Arc::new(plan)).map_err(failed)?);
        }
        let of_functions = ordered.iter().map(|e| {
            let name = e.schema_name().to_string();
            plan.schema().index_of_column_by_name(None, &name).ok_or_else(|| invalid(self.owner, format!("{name} was lost on the way")))
        });
        let of_functions: Vec<usize> = of_functions.collect::<Result<_>>()?;
        if let Some(predicate) = keep {
            let renamed = renamed(predicate, &window.window_expr, &ordered).map_err(failed)?;
            plan = LogicalPlan::Filter(Filter::try_new(renamed, Arc::new(plan)).map_err(failed)?);
        }
        let relation = Relation::new(plan, vec![slot], self.context.clone());
        let schema: SchemaRef = Arc::new(window.schema.as_arrow().clone());
        let output: Vec<usize> = (0..width).chain(of_functions).collect();
        let kept = keep.map_or_else(String::new, |e| format!(" where {e}"));
        let words = format!("compute {}{kept}", names.join(", "));
        let earlier = format!("over {names:?}{kept} columns={:?}", columns(&lowered.schema));
        let fingerprint = |kind: &str| {
            let fingerprint = Fingerprint::new(kind, earlier.clone()).with_all("functions", &names);
            keep.iter().fold(fingerprint, |fingerprint, keep| fingerprint.with("condition", shown(keep)))
        };
        let mut steps = lowered.steps;
        let mut rowtime = lowered.rowtime.clone();
        rowtime.extend(names.iter().map(|_| RowTime::No));
        if let Some(kind) = windowed.filter(|_| !changes) {
            let end = window_end(&lowered.rowtime, kind);
            let end =
                end.ok_or_else(|| invalid(self.owner, "the rows of a window are known by its end").hint("Select window_end as well, and PARTITION BY window_start, window_end."))?;
            let id = self.operator_id("windowed");
            let spec = WindowedSpec { id, fingerprint: fingerprint("windowed over"), words, relation, numbered: true, ends: vec![end], output, schema: Arc::clone(&schema) };
            steps.push(Step::Operator(Box::new(spec)));
            // A row's own event time lies in its window, whose end has come.
            for time in rowtime.iter_mut().filter(|time| **time == RowTime::Yes) {
                *time = RowTime::No;
            }
            return Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: None, hold: 0 });
        }
        if changes {
            let numbers: Vec<Option<&str>> = functions.iter().zip(&names).map(|(f, name)| (f.fun.name() == "row_number").then_some(name.as_str())).collect();
            let bound = keep.and_then(|keep| numbered_below(keep, &numbers));
            let top = bound.is_some_and(|bound| bound.alone) && lowered.key.is_none() && functions.len() == 1;
            let id = self.operator_id("keyed");
            let key = self.over_key(lowered.key.as_deref(), width, &functions, bound, window.input.schema())?;
            let fingerprint = fingerprint("keyed over").for_ever(true);
            let spec = KeyedSpec { id, fingerprint, words, relation, keys, key_types, number: width, prune: top, settles: None, output, schema: Arc::clone(&schema) };
            steps.push(Step::Operator(Box::new(spec)));
            rowtime.fill(RowTime::No);
            return Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: Some(key), hold: 0 });
        }
        let time = first.params.order_by.first().filter(|sort| sort.asc).map(|sort| self.physical(&sort.expr, window.input.schema())).transpose()?;
        let time = time.as_ref().and_then(passed_through).filter(|i| lowered.rowtime[*i].is_time());
        let same = functions.iter().all(|f| f.params.order_by.first() == first.params.order_by.first());
        let Some(time) = time.filter(|_| same) else {
            return Err(invalid(self.owner, "OVER (…) on a stream whose results are final is ordered by event time, ascending, or is of one window")
                .hint("ORDER BY the event-time column; or PARTITION BY window_start, window_end; or say EMIT ON CHANGE, for results that change as rows come."));
        };
        let (history, ahead) = self.reach(&functions)?;
        // Rows that wait for others come out at no known distance to the watermark.
        if !ahead.is_empty() {
            rowtime.fill(RowTime::No);
        }
        let fingerprint = fingerprint("over").for_ever(matches!(history, History::All | History::Rows(_)));
        let spec =
            OverSpec { id: self.operator_id("over"), fingerprint, words, relation, keys, key_types, time, history, ahead, number: width, output, schema: Arc::clone(&schema) };
        steps.push(Step::Operator(Box::new(spec)));
        Ok(Lowered { inputs: lowered.inputs, steps, schema, rowtime, aggregated: true, key: None, hold: 0 })
    }

    /// `ORDER BY … LIMIT n`: the first n of all rows.
    pub(super) fn lower_top(&mut self, limit: &Limit) -> Result<Lowered> {
        if let Some((projection, inner)) = projected_top(limit) {
            let lowered = self.lower_top(&inner)?;
            return self.project(projection, lowered);
        }
        let failed = |e| invalid(self.owner, e);
        let (LogicalPlan::Sort(sort), FetchType::Literal(Some(count @ 1..)), SkipType::Literal(0)) =
            (limit.input.as_ref(), limit.get_fetch_type().map_err(failed)?, limit.get_skip_type().map_err(failed)?)
        else {
            return Err(
                invalid(self.owner, "LIMIT on a stream stands behind ORDER BY, is a constant above zero, and has no OFFSET").hint("Write ORDER BY … LIMIT 10 EMIT ON CHANGE.")
            );
        };
        let mut lowered = self.lower(&sort.input)?;
        self.refuse_kept_of_tick(&lowered.key, &lowered.rowtime, &lowered.schema)?;
        let (evaluated, _) = self.keys(&sort.expr.iter().map(|s| s.expr.clone()).collect::<Vec<_>>(), sort.input.schema())?;
        self.tried(&mut lowered, evaluated);
        let width = lowered.schema.fields().len();
        let failed = |e| invalid(self.owner, e);
        let slot = Slot::new(sort.input.schema(), &[number_field()]).map_err(failed)?;
        let mut order = sort.expr.clone();
        order.push(Sort::new(col("__ws_number"), !latest_first(sort.input.schema(), &sort.expr), false));
        let plan = LogicalPlanBuilder::from(slot.leaf()).sort(order).and_then(|b| b.limit(0, Some(count))).and_then(LogicalPlanBuilder::build).map_err(failed)?;
        let shown: Vec<String> = sort.expr.iter().map(|s| s.to_string()).collect();
        let key = lowered.key.clone().unwrap_or_else(|| (0..width).map(KeyColumn::At).collect());
        let spec = KeyedSpec {
            id: self.operator_id("top"),
            fingerprint: Fingerprint::new("top", format!("top {count} by {shown:?} columns={:?}", columns(&lowered.schema)))
                .with("count", count)
                .with_all("order", &shown)
                .for_ever(true),
            words: format!("keep the first {count} by {}", shown.join(", ")),
            relation: Relation::new(plan, vec![slot], self.context.clone()),
            keys: vec![],
            key_types: vec![],
            number: width,
            prune: lowered.key.is_none(),
            settles: None,
            output: (0..width).collect(),
            schema: Arc::clone(&lowered.schema),
        };
        let mut steps = lowered.steps;
        steps.push(Step::Operator(Box::new(spec)));
        Ok(Lowered { inputs: lowered.inputs, steps, schema: lowered.schema, rowtime: vec![RowTime::No; width], aggregated: true, key: Some(key), hold: lowered.hold })
    }

    fn over(&self, expression: &Expr) -> Result<WindowFunction> {
        match expression.clone().unalias() {
            Expr::WindowFunction(function) => Ok(*function),
            other => Err(invalid(self.owner, format!("{other} is no function of a window of rows"))),
        }
    }

    /// What names the rows of `OVER` results that change: the partition of a row's number, and the number unless it can only be one.
    fn over_key(&self, input: Option<&[KeyColumn]>, width: usize, functions: &[WindowFunction], bound: Option<NumberedBelow>, schema: &DFSchemaRef) -> Result<Vec<KeyColumn>> {
        let one = bound.filter(|bound| bound.most == 1).map(|bound| bound.function);
        let Some(nth) = one.or_else(|| functions.iter().position(|f| f.fun.name() == "row_number")) else {
            return Ok(input.map_or_else(|| (0..width).map(KeyColumn::At).collect(), <[KeyColumn]>::to_vec));
        };
        let (partition, _) = self.keys(&functions[nth].params.partition_by, schema)?;
        let lost = || KeyColumn::Lost("what it partitions by".to_owned());
        let mut key: Vec<KeyColumn> = partition.iter().map(|key| passed_through(key).map_or_else(lost, KeyColumn::At)).collect();
        if one.is_none() {
            key.push(KeyColumn::At(width + nth));
        }
        Ok(key)
    }

    /// How far the frames of these functions reach.
    fn reach(&self, functions: &[WindowFunction]) -> Result<(History, Vec<Ahead>)> {
        let (mut rows, mut micros, mut all) = (0u64, 0i64, false);
        let mut ahead = Vec::new();
        for function in functions {
            let count = |nth: usize, default: u64| match function.params.args.get(nth) {
                None => Some(default),
                Some(Expr::Literal(value, _)) => value.cast_to(&DataType::UInt64).ok().and_then(|v| if let ScalarValue::UInt64(n) = v { n } else { None }),
                Some(_) => None,
            };
            let skips_nulls = function.params.null_treatment == Some(NullTreatment::IgnoreNulls);
            match function.fun.name() {
                // How far back the row is that has a value, nobody knows.
                "lag" if skips_nulls => all = true,
                "lead" if skips_nulls => {
                    return Err(invalid(self.owner, "lead() … IGNORE NULLS on a stream does not know how long to wait")
                        .hint("Leave out IGNORE NULLS, or PARTITION BY window_start, window_end."));
                }
                "lag" => rows = rows.max(count(1, 1).ok_or_else(|| invalid(self.owner, "lag() on a stream looks a constant number of rows back"))?),
                "lead" => ahead.push(Ahead::Rows(count(1, 1).ok_or_else(|| invalid(self.owner, "lead() on a stream looks a constant number of rows ahead"))?)),
                "row_number" | "rank" | "dense_rank" => all = true,
                "percent_rank" | "cume_dist" | "ntile" => {
                    return Err(invalid(self.owner, format!("{}() needs the whole of its partition, and a stream has no end", function.fun.name()))
                        .hint("PARTITION BY window_start, window_end."));
                }
                _ => self.frame(&function.params.window_frame, &mut rows, &mut micros, &mut all, &mut ahead)?,
            }
        }
        let history = match (all, micros, rows) {
            (true, ..) => History::All,
            (false, 0, rows) => History::Rows(rows),
            (false, micros, 0) => History::Time(micros),
            (false, ..) => History::All,
        };
        Ok((history, ahead))
    }

    fn frame(&self, frame: &WindowFrame, rows: &mut u64, micros: &mut i64, all: &mut bool, ahead: &mut Vec<Ahead>) -> Result<()> {
        let count = |value: &ScalarValue| match value.cast_to(&DataType::UInt64) {
            Ok(ScalarValue::UInt64(Some(n))) => Some(n),
            _ => None,
        };
        match (&frame.start_bound, frame.units) {
            (WindowFrameBound::CurrentRow, _) | (WindowFrameBound::Following(_), _) => {}
            (WindowFrameBound::Preceding(value), _) if value.is_null() => *all = true,
            (WindowFrameBound::Preceding(value), WindowFrameUnits::Rows) => match count(value) {
                Some(n) => *rows = (*rows).max(n),
                None => *all = true,
            },
            (WindowFrameBound::Preceding(value), WindowFrameUnits::Range) => match interval_micros(value) {
                Some(n) => *micros = (*micros).max(n),
                None => *all = true,
            },
            (WindowFrameBound::Preceding(_), WindowFrameUnits::Groups) => *all = true,
        }
        match (&frame.end_bound, frame.units) {
            (WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_), _) => Ok(()),
            (WindowFrameBound::Following(value), WindowFrameUnits::Rows) if count(value).is_some() && !value.is_null() => {
                ahead.extend(count(value).map(Ahead::Rows));
                Ok(())
            }
            (WindowFrameBound::Following(value), WindowFrameUnits::Range) if interval_micros(value).is_some() => {
                ahead.extend(interval_micros(value).map(Ahead::Time));
                Ok(())
            }
            _ => {
                Err(invalid(self.owner, "a frame that reaches to the end of its partition is never complete on a stream")
                    .hint("End it at CURRENT ROW or a number of rows FOLLOWING."))
            }
        }
    }

    pub(super) fn lower_stream_join(&mut self, join: &Join) -> Result<Lowered> {
        if join.null_aware {
            return Err(invalid(self.owner, "NOT IN over a stream is not available, for a NULL in it decides over every row").hint("Write NOT EXISTS (SELECT 1 FROM … WHERE …)."));
        }
        let marker = as_of(&join.right).cloned();
        let (left_on, right_on): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let ports = [self.keyed_port(&join.left, &left_on)?, self.keyed_port(&join.right, &right_on)?];
        let (left_keys, key_types) = self.keys(&left_on, join.left.schema())?;
        let (right_keys, _) = self.keys(&right_on, join.right.schema())?;
        let combined = join.left.schema().join(join.right.schema()).map_err(|e| invalid(self.owner, e))?;
        let inputs: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        if let Some(marker) = marker {
            return self.lower_temporal(join, &marker, ports, [left_keys, right_keys], key_types, inputs, schema);
        }
        let sides = |keeps: fn(RowTime) -> RowTime| -> Vec<RowTime> {
            let of = |port: &Port| port.rowtime.iter().map(|time| keeps(*time)).collect::<Vec<_>>();
            match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => of(&ports[0]),
                JoinType::RightSemi | JoinType::RightAnti => of(&ports[1]),
                _ => [of(&ports[0]), of(&ports[1])].concat(),
            }
        };
        let earlier = format!(
            "join {} on={:?} filter={:?} columns={:?}/{:?}",
            join.join_type,
            join.on.iter().map(|(l, r)| format!("{l}={r}")).collect::<Vec<_>>(),
            join.filter.as_ref().map(|f| f.to_string()),
            columns(&ports[0].schema),
            columns(&ports[1].schema)
        );
        let fingerprint = |kind: &str| {
            let on = join.on.iter().map(|(l, r)| format!("{l} = {r}"));
            let fingerprint = Fingerprint::new(kind, earlier.clone()).with("type", join.join_type).with_all("on", on);
            join.filter.iter().fold(fingerprint, |fingerprint, condition| fingerprint.with("condition", shown(condition)))
        };
        let changing = ports.iter().any(|port| port.key.is_some());
        for port in &ports {
            self.refuse_kept_of_tick(&port.key, &port.rowtime, &port.schema)?;
        }
        let same_window = left_keys.iter().zip(&right_keys).find_map(|(l, r)| {
            let (l, r) = (ports[0].rowtime[passed_through(l)?], ports[1].rowtime[passed_through(r)?]);
            (l == r).then(|| l.closes_with()).flatten()
        });
        if let Some(kind) = same_window.filter(|_| !changing && !self.emission.on_change) {
            let mut ends = Vec::new();
            for port in &ports {
                let end = window_end(&port.rowtime, kind);
                ends.push(end.ok_or_else(|| {
                    invalid(self.owner, "a join of windows needs window_start and window_end of both")
                        .hint("Write ON l.window_start = r.window_start AND l.window_end = r.window_end AND …")
                })?);
            }
            let failed = |e| invalid(self.owner, e);
            let slots = vec![Slot::new(join.left.schema(), &[]).map_err(failed)?, Slot::new(join.right.schema(), &[]).map_err(failed)?];
            let node = LogicalPlan::Join(join.clone());
            let plan = node.with_new_exprs(node.expressions(), slots.iter().map(Slot::leaf).collect()).map_err(failed)?;
            let spec = WindowedSpec {
                id: self.operator_id("windowed"),
                fingerprint: fingerprint("windowed join"),
                words: format!("{} join of two windows", join.join_type.to_string().to_lowercase()),
                relation: Relation::new(plan, slots, self.context.clone()),
                numbered: false,
                ends,
                output: (0..schema.fields().len()).collect(),
                schema: Arc::clone(&schema),
            };
            let rowtime = sides(|time| if time == RowTime::Yes { RowTime::No } else { time });
            // Filled up with NULLs a window's bounds are those of neither side.
            let rowtime = if matches!(join.join_type, JoinType::Left | JoinType::Right | JoinType::Full) { outer_times(join.join_type, rowtime, &ports) } else { rowtime };
            return Ok(Lowered { inputs, steps: vec![Step::Operator(Box::new(spec))], schema, rowtime, aggregated: true, key: None, hold: 0 });
        }
        let bounds = self.time_bounds(join, &ports).filter(|_| !changing);
        let on_change = self.emission.on_change && (changing || bounds.is_none());
        let final_without_bounds = matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi);
        if bounds.is_none() && !on_change && (changing || !final_without_bounds) {
            return Err(invalid(self.owner, format!("a {} JOIN of two streams without bounds on their event times shows rows that it has to take back", join.join_type))
                .hint("Bound it: … AND l.time BETWEEN r.time - INTERVAL '1 hour' AND r.time + INTERVAL '1 hour'; or say EMIT ON CHANGE."));
        }
        let one_row = |port: &Port| port.key.as_ref().is_some_and(Vec::is_empty);
        if left_keys.is_empty() && bounds.is_none() && !ports.iter().any(one_row) {
            return Err(invalid(self.owner, "a join of two streams needs an equality, or it would pair every row with every other").hint("Write ON l.key = r.key."));
        }
        let filter = join.filter.as_ref().map(|f| self.physical(f, &Arc::new(combined.clone()))).transpose()?;
        let changelog = changing || (on_change && !final_without_bounds);
        let key = changelog.then(|| Self::join_key(join.join_type, &ports, [&left_keys, &right_keys]));
        let spec = StreamJoinSpec {
            id: self.operator_id("join"),
            fingerprint: fingerprint("join").with("keeps", if on_change { "what it shows for want of a partner" } else { "what waits for a partner" }).for_ever(bounds.is_none()),
            join_type: join.join_type,
            keys: [left_keys, right_keys],
            key_types,
            null_equal: join.null_equality == NullEquality::NullEqualsNull,
            filter,
            columns: [Arc::clone(&ports[0].schema), Arc::clone(&ports[1].schema)],
            combined: Arc::new(combined.as_arrow().clone()),
            bounds,
            on_change,
            schema: Arc::clone(&schema),
        };
        let (rowtime, hold) = match bounds {
            // NULLs of an outer join have no time.
            Some(bounds) => (outer_times(join.join_type, sides(|time| time), &ports), bounds.hold()),
            None => (sides(|_| RowTime::No), 0),
        };
        Ok(Lowered { inputs, steps: vec![Step::Operator(Box::new(spec))], schema, rowtime, aggregated: true, key, hold })
    }

    /// What names the rows of a join: what names those of its sides.
    fn join_key(join_type: JoinType, ports: &[Port; 2], keys: [&[Arc<dyn PhysicalExpr>]; 2]) -> Vec<KeyColumn> {
        let left = ports[0].schema.fields().len();
        let of = |side: usize, shift: usize| -> Vec<KeyColumn> {
            let declared: Vec<KeyColumn> = ports[side].primary.iter().map(|at| KeyColumn::At(*at)).collect();
            let all = || (0..ports[side].schema.fields().len()).map(KeyColumn::At).collect();
            let key = ports[side].key.clone().unwrap_or_else(|| if declared.is_empty() { all() } else { declared });
            key.into_iter().map(|column| if let KeyColumn::At(at) = column { KeyColumn::At(at + shift) } else { column }).collect()
        };
        // A side of which the other's rows meet one at most does not help to tell them apart.
        let unique = |side: usize| {
            let at: Vec<Option<usize>> = keys[side].iter().map(passed_through).collect();
            of(side, 0).iter().all(|column| matches!(column, KeyColumn::At(index) if at.contains(&Some(*index))))
        };
        match join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => of(0, 0),
            JoinType::RightSemi | JoinType::RightAnti => of(1, 0),
            JoinType::Inner | JoinType::Left if unique(1) => of(0, 0),
            JoinType::Inner | JoinType::Right if unique(0) => of(1, left),
            _ => [of(0, 0), of(1, left)].concat(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what the join of two streams has worked out already")]
    fn lower_temporal(
        &mut self,
        join: &Join,
        marker: &AsOfNode,
        ports: [Port; 2],
        keys: [Vec<Arc<dyn PhysicalExpr>>; 2],
        key_types: Vec<DataType>,
        inputs: Vec<String>,
        schema: SchemaRef,
    ) -> Result<Lowered> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return Err(invalid(self.owner, format!("a {} JOIN with versions is not available", join.join_type))
                .hint("Keep the stream on the left: stream [LEFT] JOIN versions FOR SYSTEM_TIME AS OF stream.time."));
        }
        if ports[0].key.is_some() {
            return Err(invalid(self.owner, "a temporal join looks up versions for rows that never change").hint("Use results that are final on its left side."));
        }
        let times = match &marker.time {
            None => None,
            Some((qualifier, name)) => {
                let left = join.left.schema();
                let at = match qualifier {
                    Some(qualifier) => left.index_of_column(&Column::new(Some(qualifier.as_str()), name)),
                    None => left
                        .index_of_column(&Column::from_name(name))
                        .or_else(|_| left.qualified_field_with_unqualified_name(name).and_then(|found| left.index_of_column(&Column::from(found)))),
                };
                let at = at.map_err(|_| invalid(self.owner, format!("FOR SYSTEM_TIME AS OF names \"{name}\", which is no column of the join's left side")))?;
                if !ports[0].rowtime[at].is_time() {
                    return Err(
                        invalid(self.owner, format!("FOR SYSTEM_TIME AS OF needs event time, and \"{name}\" is not")).hint("Name the column of WATERMARK FOR, or PROCTIME().")
                    );
                }
                let version = ports[1].rowtime.iter().position(|time| time.is_time());
                let version = version.ok_or_else(|| {
                    invalid(self.owner, "the versions of a temporal join have no event time").hint("Declare WATERMARK FOR on their source, and select that column.")
                })?;
                Some([at, version])
            }
        };
        if times.is_some() && ports[1].key.is_some() {
            return Err(
                invalid(self.owner, "versions by event time come from a stream that only adds").hint("Join the stream of changes itself, not a table that is kept up to date.")
            );
        }
        let combined = join.left.schema().join(join.right.schema()).map_err(|e| invalid(self.owner, e))?;
        let filter = join.filter.as_ref().map(|f| self.physical(f, &Arc::new(combined))).transpose()?;
        let earlier = format!("temporal {} on={:?} as of {:?} columns={:?}/{:?}", join.join_type, join.on, marker.time, columns(&ports[0].schema), columns(&ports[1].schema));
        let fingerprint = Fingerprint::new("temporal", earlier)
            .with("type", join.join_type)
            .with_all("on", join.on.iter().map(|(l, r)| format!("{l} = {r}")))
            .with("time", marker.time.as_ref().map_or("of processing", |(_, column)| column))
            .for_ever(true);
        let fingerprint = join.filter.iter().fold(fingerprint, |fingerprint, condition| fingerprint.with("condition", shown(condition)));
        let mut rowtime = ports[0].rowtime.clone();
        rowtime.extend(ports[1].rowtime.iter().map(|_| RowTime::No));
        let [left, right] = ports;
        let spec = TemporalSpec {
            id: self.operator_id("temporal"),
            fingerprint,
            outer: join.join_type == JoinType::Left,
            keys,
            key_types,
            filter,
            columns: [left.schema, right.schema],
            times,
            schema: Arc::clone(&schema),
        };
        Ok(Lowered { inputs, steps: vec![Step::Operator(Box::new(spec))], schema, rowtime, aggregated: true, key: None, hold: 0 })
    }

    /// What the join's condition says of the distance of the sides' event times.
    fn time_bounds(&self, join: &Join, ports: &[Port; 2]) -> Option<TimeBounds> {
        let width = ports[0].schema.fields().len();
        let combined = join.left.schema().join(join.right.schema()).ok()?;
        let mut conditions: Vec<Expr> = Vec::new();
        split(join.filter.as_ref()?, &mut conditions);
        let mut found: Option<([usize; 2], Option<i64>, Option<i64>)> = None;
        for condition in conditions {
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { continue };
            let (Some((a, plus_a)), Some((b, plus_b))) = (linear(&left), linear(&right)) else { continue };
            let (Ok(a), Ok(b)) = (combined.index_of_column(&a), combined.index_of_column(&b)) else { continue };
            // a + plus_a op b + plus_b, turned so that a is of the left side.
            let (l, r, op, apart) = match (a < width, b < width) {
                (true, false) => (a, b - width, op, plus_b - plus_a),
                (false, true) => (b, a - width, op.swap()?, plus_a - plus_b),
                _ => continue,
            };
            if !(ports[0].rowtime[l].is_time() && ports[1].rowtime[r].is_time()) {
                continue;
            }
            let entry = found.get_or_insert(([l, r], None, None));
            if entry.0 != [l, r] {
                continue;
            }
            let (mut least, mut most) = (entry.1, entry.2);
            match op {
                Op::Gt => least = least.max(Some(apart + 1)),
                Op::GtEq => least = least.max(Some(apart)),
                Op::Lt => most = Some(most.map_or(apart - 1, |m| m.min(apart - 1))),
                Op::LtEq => most = Some(most.map_or(apart, |m| m.min(apart))),
                Op::Eq => (least, most) = (least.max(Some(apart)), Some(most.map_or(apart, |m| m.min(apart)))),
                _ => continue,
            }
            (entry.1, entry.2) = (least, most);
        }
        let (columns, least, most) = found?;
        Some(TimeBounds { columns, least: least?, most: most? })
    }
}

/// `ORDER BY … LIMIT n` whose order is by columns that are not selected: what selects, and the limit without it.
pub(super) fn projected_top(limit: &Limit) -> Option<(&Projection, Limit)> {
    let LogicalPlan::Projection(projection) = limit.input.as_ref() else { return None };
    matches!(projection.input.as_ref(), LogicalPlan::Sort(_)).then(|| (projection, Limit { input: Arc::clone(&projection.input), ..limit.clone() }))
}

/// Where a row's window ends: in a column, or a length after one.
fn window_end(rowtime: &[RowTime], kind: WindowKind) -> Option<WindowEnd> {
    let at = |wanted: RowTime| rowtime.iter().position(|time| *time == wanted);
    let end = at(RowTime::EndOf(kind)).map(|column| WindowEnd { column, after: 0 });
    end.or_else(|| Some(WindowEnd { column: at(RowTime::StartOf(kind))?, after: kind.size()? }))
}

/// Event times of an outer join: the side that may be missing has none.
fn outer_times(join_type: JoinType, mut rowtime: Vec<RowTime>, ports: &[Port; 2]) -> Vec<RowTime> {
    let left = ports[0].schema.fields().len();
    if matches!(join_type, JoinType::Right | JoinType::Full) {
        rowtime[..left].fill(RowTime::No);
    }
    if matches!(join_type, JoinType::Left | JoinType::Full) {
        rowtime[left..].fill(RowTime::No);
    }
    rowtime
}

fn columns(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
}

/// The marker of a temporal join on this side.
pub(super) fn as_of(plan: &LogicalPlan) -> Option<&AsOfNode> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<AsOfNode>(),
        LogicalPlan::SubqueryAlias(alias) => as_of(&alias.input),
        LogicalPlan::Projection(projection) => as_of(&projection.input),
        LogicalPlan::Filter(filter) => as_of(&filter.input),
        _ => None,
    }
}

/// `a AND b AND …`, with BETWEEN as two.
fn split(expression: &Expr, out: &mut Vec<Expr>) {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op: Op::And, right }) => {
            split(left, out);
            split(right, out);
        }
        Expr::Between(between) if !between.negated => {
            out.push(between.expr.as_ref().clone().gt_eq(between.low.as_ref().clone()));
            out.push(between.expr.as_ref().clone().lt_eq(between.high.as_ref().clone()));
        }
        other => out.push(other.clone()),
    }
}

/// A column, plus or minus a constant interval: the column and the microseconds.
fn linear(expression: &Expr) -> Option<(Column, i64)> {
    match expression {
        Expr::Column(column) => Some((column.clone(), 0)),
        // A cast to anything coarser than microseconds moves what it casts.
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)) => linear(&cast.expr),
        Expr::Alias(alias) => linear(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Op::Plus, right }) => match (linear(left), constant(right)) {
            (Some((column, plus)), Some(micros)) => Some((column, plus + micros)),
            _ => linear(right).zip(constant(left)).map(|((column, plus), micros)| (column, plus + micros)),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Op::Minus, right }) => linear(left).zip(constant(right)).map(|((column, plus), micros)| (column, plus - micros)),
        _ => None,
    }
}

fn constant(expression: &Expr) -> Option<i64> {
    match expression {
        Expr::Literal(value, _) => interval_micros(value),
        Expr::Cast(cast) => constant(&cast.expr),
        _ => None,
    }
}

/// A condition as SQL would write it.
fn shown(condition: &Expr) -> String {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    let words = condition.clone().transform_up(|e| {
        Ok(match &e {
            Expr::Literal(value, _) => as_sql(value).map_or_else(|| Transformed::no(e.clone()), |words| Transformed::yes(lit(words))),
            _ => Transformed::no(e),
        })
    });
    words.data().map_or_else(|_| condition.human_display().to_string(), |words| words.human_display().to_string())
}

/// A constant interval without months, in microseconds.
pub(super) fn interval_micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => Some(i64::from(interval.days) * 86_400_000_000 + interval.nanoseconds / 1_000),
        ScalarValue::IntervalDayTime(Some(interval)) => Some(i64::from(interval.days) * 86_400_000_000 + i64::from(interval.milliseconds) * 1_000),
        ScalarValue::DurationMicrosecond(Some(micros)) => Some(*micros),
        ScalarValue::DurationMillisecond(Some(millis)) => millis.checked_mul(1_000),
        ScalarValue::DurationSecond(Some(seconds)) => seconds.checked_mul(1_000_000),
        ScalarValue::DurationNanosecond(Some(nanos)) => Some(nanos / 1_000),
        _ => None,
    }
}

/// Functions of one order together, the finest order first: a node sorts once, by what its first function asks for, and a coarser order
/// finds its rows sorted.
fn by_order(functions: &[Expr]) -> Vec<Vec<Expr>> {
    fn order(expression: &Expr) -> Option<(&[Expr], &[Sort])> {
        match expression {
            Expr::Alias(alias) => order(&alias.expr),
            Expr::WindowFunction(function) => Some((&function.params.partition_by, &function.params.order_by)),
            _ => None,
        }
    }
    let mut groups: Vec<Vec<Expr>> = Vec::new();
    for function in functions {
        match groups.iter_mut().find(|group| order(&group[0]) == order(function)) {
            Some(group) => group.push(function.clone()),
            None => groups.push(vec![function.clone()]),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(order(&group[0]).map_or(0, |(keys, order)| keys.len() + order.len())));
    groups
}

/// Within ties rows stand in the order of their arrival, where the function tells rows of a tie apart.
fn in_order_of_arrival(expression: &Expr, schema: &DFSchemaRef) -> Expr {
    let Expr::WindowFunction(function) = expression else {
        return match expression {
            Expr::Alias(alias) => Expr::Alias(datafusion::logical_expr::expr::Alias { expr: Box::new(in_order_of_arrival(&alias.expr, schema)), ..alias.clone() }),
            other => other.clone(),
        };
    };
    let by_peers = matches!(function.fun.name(), "rank" | "dense_rank" | "percent_rank" | "cume_dist");
    let by_row = matches!(function.fun.name(), "row_number" | "lag" | "lead" | "ntile") || function.params.window_frame.units == WindowFrameUnits::Rows;
    let mut function = function.as_ref().clone();
    if !by_peers && by_row {
        function.params.order_by.push(Sort::new(col("__ws_number"), !latest_first(schema, &function.params.order_by), false));
    }
    Expr::WindowFunction(Box::new(function))
}

/// True for an order by time that has the latest first: of rows of one time the last to arrive is the latest.
pub(super) fn latest_first(schema: &DFSchemaRef, order: &[Sort]) -> bool {
    use datafusion::logical_expr::ExprSchemable;
    order.last().is_some_and(|sort| !sort.asc && sort.expr.get_type(schema.as_ref()).is_ok_and(|t| matches!(t, DataType::Timestamp(_, _))))
}

/// A condition on the results of functions, by the names they have once they are ordered.
fn renamed(predicate: &Expr, functions: &[Expr], ordered: &[Expr]) -> datafusion::common::Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    let names: Vec<(String, String)> = functions.iter().zip(ordered).map(|(f, o)| (f.schema_name().to_string(), o.schema_name().to_string())).collect();
    let renamed = predicate.clone().transform_up(|e| {
        Ok(match &e {
            Expr::Column(column) => match names.iter().find(|(name, _)| column.relation.is_none() && *name == column.name) {
                Some((_, ordered)) => Transformed::yes(Expr::Column(Column::from_name(ordered))),
                None => Transformed::no(e),
            },
            _ => Transformed::no(e),
        })
    });
    renamed.data()
}

/// A condition that keeps the first rows of a numbering.
#[derive(Debug, Clone, Copy)]
struct NumberedBelow {
    /// Which function numbers them.
    function: usize,
    /// The greatest number it keeps.
    most: u64,
    /// True if it says nothing else.
    alone: bool,
}

/// Reads `row_number() <= n` and its like, perhaps with other conditions; `numbers` are the names of the functions that number rows.
fn numbered_below(predicate: &Expr, numbers: &[Option<&str>]) -> Option<NumberedBelow> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return None };
    if *op == Op::And {
        let least = [left, right].into_iter().filter_map(|side| numbered_below(side, numbers)).min_by_key(|bound| bound.most)?;
        return Some(NumberedBelow { alone: false, ..least });
    }
    let literal = |e: &Expr| match e {
        Expr::Literal(value, _) => value.cast_to(&DataType::UInt64).ok().and_then(|v| if let ScalarValue::UInt64(n) = v { n } else { None }),
        _ => None,
    };
    let number = |e: &Expr| {
        let bare = match e {
            Expr::Cast(cast) if cast.field.data_type().is_integer() => cast.expr.as_ref(),
            other => other,
        };
        let Expr::Column(column) = bare else { return None };
        numbers.iter().position(|name| column.relation.is_none() && *name == Some(column.name.as_str()))
    };
    let (function, op, bound) = match (number(left), number(right)) {
        (Some(function), None) => (function, *op, literal(right)?),
        (None, Some(function)) => (function, op.swap()?, literal(left)?),
        _ => return None,
    };
    match op {
        Op::LtEq => Some(NumberedBelow { function, most: bound, alone: true }),
        Op::Lt => Some(NumberedBelow { function, most: bound.checked_sub(1)?, alone: true }),
        Op::Eq => Some(NumberedBelow { function, most: bound, alone: bound == 1 }),
        _ => None,
    }
}
