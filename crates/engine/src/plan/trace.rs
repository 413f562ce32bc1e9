//! Where the columns of operators come from: what completes their fingerprints.
//!
//! **Owns** following columns and conditions through the steps of a plan. **Does not own** what follows from a difference:
//! see `operator::fingerprint`.
//!
//! A column is written as what computes it of the columns of a source or a table, whatever it is called in between and
//! wherever it stands. So a new name or another order changes no fingerprint, and another computation does.
//!
//! I1: within a query a changed computation of a column that state depends on is another column. A table is a border: its
//!     columns are what they are, and how it makes them is told as what is in front of those who read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::expressions::{Column, Literal};
use watershed_sql::OnViolation;

use super::streams::interval_micros;
use super::{Input, Plan, Rule, SourcePlan, WindowKind};
use crate::operator::{Accumulates, Fingerprint, GroupColumn, Item, NAMED, SHOWN, Step, WindowBounds, length, rule_by_rule};

type Expression = Arc<dyn PhysicalExpr>;

/// What is known of the rows at a place in a plan.
#[derive(Clone)]
struct Trace {
    schema: SchemaRef,
    /// What computes each column.
    columns: Vec<Expression>,
    /// What rows had to meet, in this query.
    conditions: Vec<Expression>,
    /// What rows that come and go had to meet since the operator that makes them so.
    shown: BTreeSet<String>,
    /// True if rows come and go where the query reads them.
    changing: bool,
    /// What else happened to them.
    front: BTreeSet<String>,
    /// How the columns of tables are made, by name.
    made: BTreeMap<String, BTreeSet<String>>,
}

/// Completes the fingerprints of every operator of a plan.
pub fn trace(plan: &mut Plan) {
    let mut tables: Vec<Trace> = Vec::new();
    let sources: Vec<Trace> = plan.sources.iter().map(|source| of_source(source)).collect();
    for index in 0..plan.tables.len() {
        let mut roots: Vec<String> = plan.root_sources(index).into_iter().map(|source| plan.sources[source].name.clone()).collect();
        roots.sort();
        let table = &plan.tables[index];
        let mut inputs: Vec<Trace> = Vec::new();
        for input in &table.inputs {
            inputs.push(match *input {
                Input::Source(source) => sources[source].clone(),
                // A part of the same query is no border.
                Input::Table(input) if plan.tables[input].name.contains('#') => tables[input].clone(),
                Input::Table(input) => tables[input].at_border(&plan.tables[input].name, &plan.tables[input].schema, plan.tables[input].key.is_some()),
            });
        }
        let table = &mut plan.tables[index];
        for step in &mut table.steps {
            if let Some(after) = follow(step, &inputs, &roots) {
                inputs = vec![after];
            }
        }
        let mut last = inputs.into_iter().next().unwrap_or_else(|| Trace::fresh(&table.schema));
        // Where rows come and go a rule is what it computes: of a column that is computed otherwise it takes them back otherwise.
        let computed = table.key.as_ref().and_then(|_| rule_by_rule(&table.check).ok()).unwrap_or_default();
        let words = |number: usize, rule: &Rule| computed.get(number).map_or_else(|| rule.text.clone(), |rule| text(&last.resolve(rule)));
        let rules = table.rules.iter().enumerate().filter(|(_, rule)| rule.on_violation != OnViolation::Warn);
        let rules: Vec<String> = rules.map(|(number, rule)| format!("expect {}", words(number, rule))).collect();
        if table.key.is_some() {
            last.shown.extend(rules)
        } else {
            last.front.extend(rules)
        };
        let border = !table.name.contains('#');
        if border && let Some(key) = &table.key {
            let mut named_by: Vec<Item> = key
                .iter()
                .map(|column| match (text(&last.columns[*column]), table.schema.field(*column).name()) {
                    (column, name) if column == *name => Item::plain(column),
                    (column, name) => Item::plain(format!("{column} AS {name}")),
                })
                .collect();
            named_by.sort_by(|a, b| a.is.cmp(&b.is));
            let (shown, named) = (format!("{SHOWN} in {}", table.name), format!("{NAMED} {}", table.name));
            let parts = [(shown, last.shown.iter().map(Item::plain).collect()), (named, named_by)];
            if let Some(fingerprint) = comes_from(plan, index) {
                fingerprint.parts.extend(parts);
            }
        }
        tables.push(last);
    }
}

/// The operator that makes the rows of a table come and go.
fn comes_from(plan: &mut Plan, table: usize) -> Option<&mut Fingerprint> {
    let mut at = table;
    while !plan.tables[at].steps.iter().any(Step::is_stateful) {
        let Some(Input::Table(input)) = plan.tables[at].inputs.first() else { return None };
        at = *input;
    }
    plan.tables[at].steps.iter_mut().rev().find_map(Step::fingerprint_mut)
}

fn of_source(source: &SourcePlan) -> Trace {
    let raw = source.columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true));
    let metadata = source.metadata.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true));
    let mut trace = Trace::fresh(&Arc::new(Schema::new(raw.chain(metadata).collect::<Vec<_>>())));
    for step in &source.prepare {
        if let Step::Project { expressions, schema } = step {
            trace = trace.project(expressions, schema);
        }
    }
    trace.at_border(&source.name, &source.schema, false)
}

/// What is known after a step; `None` if nothing has changed. Operators are completed on the way.
fn follow(step: &mut Step, inputs: &[Trace], roots: &[String]) -> Option<Trace> {
    let trace = inputs.first()?;
    Some(match step {
        Step::Project { expressions, schema } => trace.project(expressions, schema),
        Step::Filter { condition, changing } => {
            let mut trace = trace.clone();
            let condition = trace.resolve(condition);
            let parts = split_conjunction(&condition).into_iter();
            match changing {
                true => {
                    trace.shown.extend(parts.map(text));
                    let made = trace.made_for([&condition]);
                    trace.shown.extend(made);
                }
                false => trace.conditions.extend(parts.cloned()),
            }
            trace
        }
        Step::Assign(spec) => {
            let window = format!("{} on {}", window(spec.kind), text(&trace.columns[spec.time]));
            let bounds = ["start", "end", "time"].map(|bound| leaf(&format!("{bound} of {window}")));
            trace.then(&spec.schema, trace.columns.iter().cloned().chain(bounds).collect())
        }
        Step::Expand(spec) => {
            let sets: Vec<String> = spec.sets.iter().map(|set| set.iter().map(|there| if *there { '1' } else { '0' }).collect()).collect();
            let sets = sets.join(" ");
            let keys = spec.keys.iter().map(|key| leaf(&format!("{} in sets {sets}", text(&trace.resolve(key)))));
            let columns: Vec<Expression> = trace.columns.iter().cloned().chain(keys).chain([leaf(&format!("number of sets {sets}"))]).collect();
            trace.then(&spec.schema, columns)
        }
        Step::Lookup(lookup) => {
            let spec = lookup.spec();
            let schema = lookup.schema();
            let others = schema.fields().len() - trace.columns.len().min(schema.fields().len());
            let mine = trace.columns.iter().cloned();
            // With the table's name: a column of the stream may have the same.
            let named = spec.table.schema().columns();
            let static_columns =
                |from: usize| (0..others).map(|nth| leaf(&named.get(nth).map_or_else(|| schema.field(from + nth).name().clone(), |c| c.flat_name()))).collect::<Vec<_>>();
            let columns = if spec.stream_left { mine.chain(static_columns(trace.columns.len())).collect() } else { static_columns(0).into_iter().chain(mine).collect() };
            let mut after = trace.then(&schema, columns);
            let on = spec.stream_keys.iter().zip(&spec.table_keys).map(|(of_stream, of_table)| format!("{} = {}", text(&trace.resolve(of_stream)), text(of_table)));
            let filter = spec.filter.iter().map(text);
            let conditions = on.chain(filter).collect::<Vec<_>>().join(" AND ");
            let table = spec.table.display_indent().to_string().lines().map(str::trim).collect::<Vec<_>>().join(" < ");
            let joined = format!("{} join on {conditions} with {table}", spec.join_type);
            if spec.changing {
                after.shown.insert(joined)
            } else {
                after.front.insert(joined)
            };
            after
        }
        Step::Try(_) => return None,
        Step::Enrich(spec) => {
            let own = spec.keys.first().copied().unwrap_or(trace.columns.len()).min(trace.columns.len());
            let (mine, keys) = trace.columns.split_at(own);
            let found = spec.schema.fields().iter().skip(own).map(|field| leaf(&format!("{}.{}", spec.table.name(), field.name())));
            let mut after = trace.then(&spec.schema, mine.iter().cloned().chain(found).collect());
            after.front.insert(format!("lookup in {} by {}", spec.table.name(), keys.iter().map(text).collect::<Vec<_>>().join(", ")));
            after
        }
        Step::Settle(spec) => {
            let (mine, found) = trace.columns.split_at(spec.stream.min(trace.columns.len()));
            let kept = spec.kept.iter().filter_map(|index| found.get(*index).cloned());
            let mut after = trace.then(&spec.schema(), mine.iter().cloned().chain(kept).collect());
            let condition = spec.filter.as_ref().map_or_else(String::new, |filter| format!(" if {}", text(&after.resolve(filter))));
            after.front.insert(format!("{} what {} has{condition}", if spec.outer { "with" } else { "only with" }, spec.table));
            after
        }
        Step::Dedup(spec) => {
            let keys: Vec<Expression> = spec.key.iter().map(|key| Arc::clone(&trace.columns[*key])).collect();
            let time = Arc::clone(&trace.columns[spec.time]);
            let items = spec.key.iter().zip(&keys).map(|(at, key)| Item { is: text(key), of: vec![trace.schema.field(*at).data_type().to_string()] });
            spec.fingerprint.parts.insert("key".to_owned(), items.collect());
            spec.fingerprint.parts.insert("time".to_owned(), vec![Item::plain(text(&time))]);
            spec.fingerprint.front = trace.seen(keys.iter().chain([&time]));
            settle(&mut spec.fingerprint, roots);
            let mut after = trace.clone();
            after.front.insert(spec.fingerprint.summary());
            after
        }
        Step::Aggregate(spec) => {
            let accumulates = Accumulates { groups: spec.groups.iter().map(GroupColumn::expression).collect(), functions: &spec.functions, filters: &spec.filters };
            let keys: Vec<bool> = spec.groups.iter().map(|group| matches!(group, GroupColumn::Key(_))).collect();
            let (groups, functions, seen) = trace.accumulated(&accumulates);
            let columns = groups.iter().map(|(key, _)| Arc::clone(key)).chain(functions.iter().map(|f| leaf(&f.is))).collect();
            let groups = groups.into_iter().zip(keys).filter(|(_, key)| *key).map(|((_, item), _)| item).collect();
            let (WindowBounds::FromStart { index, .. } | WindowBounds::FromEnd { index, .. } | WindowBounds::Columns { end: index, .. }) = spec.bounds;
            let mut parts = vec![("groups", groups), ("functions", functions)];
            // `start of TUMBLE 1 minute on at`: which of the bounds is there does not matter, the time that it is of does.
            if let Some((_, window)) = text(&trace.columns[index]).split_once(" of ") {
                parts.push(("window", vec![Item::plain(window)]));
            }
            trace.behind(&mut spec.fingerprint, parts, seen, roots, (spec.schema.clone(), columns))
        }
        Step::Operator(spec) => {
            if let Some((groups, functions, seen)) = spec.accumulates().map(|accumulates| trace.accumulated(&accumulates)) {
                let columns = groups.iter().map(|(key, _)| Arc::clone(key)).chain(functions.iter().map(|f| leaf(&f.is))).collect();
                let groups = groups.into_iter().map(|(_, item)| item).collect();
                let after = (spec.schema(), columns);
                return Some(trace.behind(spec.fingerprint_mut(), vec![("groups", groups), ("functions", functions)], seen, roots, after));
            }
            let schema = spec.schema();
            let passes = spec.passes();
            let names: &[&str] = if inputs.len() == 1 { &["columns"] } else { &["left columns", "right columns"] };
            let union = spec.fingerprint().kind == "union";
            let mut parts = Vec::new();
            for (name, input) in names.iter().zip(inputs).filter(|_| !union) {
                parts.push((*name, input.items()));
            }
            let seen = inputs.iter().flat_map(|input| input.seen(&input.columns)).collect();
            let shown: BTreeSet<String> = inputs.iter().flat_map(|input| input.taken_back_by(&input.columns)).collect();
            parts.push((SHOWN, shown.into_iter().map(Item::plain).collect()));
            let left = inputs[0].columns.len();
            let both: usize = inputs.iter().map(|input| input.columns.len()).sum();
            // What an aggregate yields is called after what it reads, by a name that may be another tomorrow.
            let aggregate = Some(spec.fingerprint()).filter(|fingerprint| fingerprint.kind == "keyed aggregate");
            let yields: Vec<String> = aggregate.iter().flat_map(|f| f.part("groups").iter().chain(f.part("functions"))).map(|item| item.is.clone()).collect();
            let columns = schema.fields().iter().enumerate().map(|(at, field)| match inputs.len() {
                1 if at < yields.len() => leaf(&yields[at]),
                1 if at < passes => Arc::clone(&trace.columns[at]),
                2 if !union && schema.fields().len() == both => leaf(&format!("{}.{}", if at < left { "left" } else { "right" }, field.name())),
                _ => leaf(field.name()),
            });
            let after = (Arc::clone(&schema), columns.collect());
            trace.behind(spec.fingerprint_mut(), parts, seen, roots, after)
        }
    })
}

/// What a fingerprint has in the end: where its rows come from.
fn settle(fingerprint: &mut Fingerprint, roots: &[String]) {
    fingerprint.parts.insert("source".to_owned(), roots.iter().map(Item::plain).collect());
}

impl Trace {
    fn fresh(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| leaf(field.name())).collect();
        Self { schema: Arc::clone(schema), columns, conditions: vec![], shown: BTreeSet::new(), changing: false, front: BTreeSet::new(), made: BTreeMap::new() }
    }

    fn then(&self, schema: &SchemaRef, columns: Vec<Expression>) -> Self {
        Self { schema: Arc::clone(schema), columns, ..self.clone() }
    }

    fn project(&self, expressions: &[Expression], schema: &SchemaRef) -> Self {
        self.then(schema, expressions.iter().map(|e| self.resolve(e)).collect())
    }

    /// An expression over the columns here, over those of sources and tables.
    fn resolve(&self, expression: &Expression) -> Expression {
        let resolved = Arc::clone(expression).transform_up(|e| {
            Ok(match (e.as_ref() as &dyn std::any::Any).downcast_ref::<Column>().and_then(|column| self.columns.get(column.index())) {
                Some(column) => Transformed::yes(Arc::clone(column)),
                None => Transformed::no(e),
            })
        });
        resolved.data().unwrap_or_else(|_| Arc::clone(expression))
    }

    /// What is in front of an operator that depends on these expressions.
    fn seen<'a>(&'a self, expressions: impl IntoIterator<Item = &'a Expression>) -> BTreeSet<String> {
        let mut seen = self.front.clone();
        seen.extend(self.conditions.iter().map(text));
        if !self.changing {
            seen.extend(self.made_for(expressions.into_iter().chain(&self.conditions)));
        }
        seen
    }

    /// By what an operator that depends on these expressions finds the row again that is taken back: it must be as it was when it
    /// came.
    fn taken_back_by<'a>(&'a self, expressions: impl IntoIterator<Item = &'a Expression>) -> BTreeSet<String> {
        let mut facts = self.shown.clone();
        if self.changing {
            facts.extend(self.made_for(expressions));
        }
        facts
    }

    /// How tables make the columns that these expressions are of.
    fn made_for<'a>(&'a self, expressions: impl IntoIterator<Item = &'a Expression>) -> BTreeSet<String> {
        expressions.into_iter().flat_map(leaves).filter_map(|name| self.made.get(&name)).flatten().cloned().collect()
    }

    fn items(&self) -> Vec<Item> {
        let typed = self.columns.iter().zip(self.schema.fields());
        typed.map(|(column, field)| Item { is: text(column), of: vec![field.data_type().to_string()] }).collect()
    }

    /// The groups and functions of an aggregate, and what is in front of it.
    #[allow(clippy::type_complexity, reason = "three things that belong together for one line")]
    fn accumulated(&self, spec: &Accumulates<'_>) -> (Vec<(Expression, Item)>, Vec<Item>, BTreeSet<String>) {
        let mut used: Vec<Expression> = Vec::new();
        let mut groups = Vec::new();
        for group in &spec.groups {
            let key = self.resolve(group);
            let of = group.data_type(&self.schema).map(|t| t.to_string()).into_iter().collect();
            groups.push((Arc::clone(&key), Item { is: text(&key), of }));
            used.push(key);
        }
        let mut functions = Vec::new();
        for (function, filter) in spec.functions.iter().zip(spec.filters) {
            let arguments: Vec<Expression> = function.expressions().iter().map(|e| self.resolve(e)).collect();
            let orders: Vec<Expression> = function.order_bys().iter().map(|order| self.resolve(&order.expr)).collect();
            let filter = filter.as_ref().map(|filter| self.resolve(filter));
            let of = function.state_fields().into_iter().flatten().map(|field| field.data_type().to_string()).collect();
            functions.push(Item { is: called(function, &arguments, &orders, filter.as_ref()), of });
            used.extend(arguments.into_iter().chain(orders).chain(filter));
        }
        let seen = self.seen(&used);
        (groups, functions, seen)
    }

    /// Completes an operator's fingerprint; what is known behind it.
    fn behind(&self, fingerprint: &mut Fingerprint, parts: Vec<(&str, Vec<Item>)>, seen: BTreeSet<String>, roots: &[String], after: (SchemaRef, Vec<Expression>)) -> Self {
        for (name, items) in parts {
            fingerprint.parts.insert(name.to_owned(), items);
        }
        fingerprint.front.clone_from(&seen);
        settle(fingerprint, roots);
        let mut front = seen;
        front.insert(fingerprint.summary());
        let (schema, columns) = after;
        // Within a query a column of an operator is what it is: what makes it is the operator's own.
        Self { schema, columns, conditions: vec![], shown: BTreeSet::new(), changing: false, front, made: self.made.clone() }
    }

    /// For those who read a table or a source by its name (I1).
    fn at_border(&self, name: &str, schema: &SchemaRef, changing: bool) -> Self {
        let told = |fact: &String| if fact.starts_with("in ") { fact.clone() } else { format!("in {name}: {fact}") };
        let mut border = Self::fresh(schema);
        let front = self.front.iter().cloned().chain(self.conditions.iter().map(text)).collect::<BTreeSet<_>>();
        border.front = front.iter().map(told).collect();
        border.shown = self.shown.iter().map(told).collect();
        border.changing = changing;
        for (column, field) in self.columns.iter().zip(schema.fields()) {
            let mut made: BTreeSet<String> = leaves(column).iter().filter_map(|name| self.made.get(name)).flatten().cloned().collect();
            let computed = text(column);
            if computed != *field.name() {
                made.insert(format!("in {name}: {} is {computed}", field.name()));
            }
            if !made.is_empty() {
                border.made.insert(field.name().clone(), made);
            }
        }
        border
    }
}

fn leaf(name: &str) -> Expression {
    Arc::new(Column::new(name, 0))
}

fn leaves(expression: &Expression) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _ = expression.apply(|e| {
        if let Some(column) = (e.as_ref() as &dyn std::any::Any).downcast_ref::<Column>() {
            names.insert(column.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names
}

/// An expression as SQL would write it.
fn text(expression: &Expression) -> String {
    let quoted = Arc::clone(expression).transform_up(|e| {
        let value = (e.as_ref() as &dyn std::any::Any).downcast_ref::<Literal>().map(Literal::value);
        Ok(match value.and_then(as_sql) {
            Some(words) => Transformed::yes(Arc::new(Literal::new(ScalarValue::from(words))) as Expression),
            None => Transformed::no(e),
        })
    });
    let quoted = quoted.data().unwrap_or_else(|_| Arc::clone(expression));
    fmt_sql(quoted.as_ref()).to_string()
}

/// A constant as SQL would write it, where it does not write itself so.
pub(super) fn as_sql(value: &ScalarValue) -> Option<String> {
    if let Some(text) = value.try_as_str().flatten() {
        return Some(format!("'{}'", text.replace('\'', "''")));
    }
    interval_micros(value).map(|micros| format!("INTERVAL '{}'", length(micros)))
}

/// A call of an aggregate function.
fn called(function: &AggregateFunctionExpr, arguments: &[Expression], orders: &[Expression], filter: Option<&Expression>) -> String {
    let distinct = if function.is_distinct() { "DISTINCT " } else { "" };
    let arguments = arguments.iter().map(text).collect::<Vec<_>>().join(", ");
    let mut call = match (function.fun().name(), arguments.as_str()) {
        ("count", "1") => format!("count({distinct}*)"),
        (name, arguments) => format!("{name}({distinct}{arguments})"),
    };
    if !orders.is_empty() {
        let order = |(e, by): (&Expression, &datafusion::physical_expr::PhysicalSortExpr)| {
            format!("{}{}{}", text(e), if by.options.descending { " DESC" } else { "" }, if by.options.nulls_first { " NULLS FIRST" } else { "" })
        };
        call.push_str(&format!(" ORDER BY {}", orders.iter().zip(function.order_bys()).map(order).collect::<Vec<_>>().join(", ")));
    }
    if function.ignore_nulls() {
        call.push_str(" IGNORE NULLS");
    }
    if let Some(filter) = filter {
        call.push_str(&format!(" FILTER (WHERE {})", text(filter)));
    }
    call
}

/// A kind of windows, in words that lose nothing.
pub fn window(kind: WindowKind) -> String {
    let shifted = |offset: i64| if offset == 0 { String::new() } else { format!(", shifted by {}", length(offset)) };
    match kind {
        WindowKind::Tumble { size, offset } => format!("TUMBLE {}{}", length(size), shifted(offset)),
        WindowKind::Hop { slide, size, offset } => format!("HOP {} every {}{}", length(size), length(slide), shifted(offset)),
        WindowKind::Cumulate { step, size, offset } => format!("CUMULATE {} by {}{}", length(size), length(step), shifted(offset)),
        WindowKind::Session { gap } => format!("SESSION {}", length(gap)),
    }
}
