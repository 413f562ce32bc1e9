//! Binding: names in queries become streams, static tables, views and our logical nodes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, SubqueryAlias};
use datafusion::optimizer::OptimizerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::expressions::{CastExpr, Column};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement;
use watershed_codec::{ColumnSpec, CsvOptions, Format};
use watershed_ports::LookupTable;
use watershed_sql::{AsOfTime, ColumnKind, Definitions, Emit, Keep, OnLate, Place, QueryDef, RelationInput, RelationKind, SinkDef, SourceDef, StaticDef, TableDef};
use watershed_types::{Error, Options, Result, Zone};

use super::as_of::{FilterVersionsAfterJoin, with_version_times};
use super::functions::{self, TickTime};
use super::lower::{Emission, KeyColumn, Lowered, Lowering, Names, Part, RowTime};
use super::nodes::{AsOfNode, DedupNode, WINDOW_COLUMNS, WindowKind, WindowNode};
use super::provider::{StaticTable, StreamTable};
use super::trace::trace;
use super::{AskedTable, DELETED, Drift, Input, Plan, Rule, SinkPlan, SourcePlan, TablePlan};
use crate::operator::{Enrichment, LookupOptions, Step};

/// Reads a static table's rows: files by DataFusion, lake tables by the lake's adapter; others are asked by key.
pub trait StaticLoader: Send + Sync {
    /// All rows of the table, with its declared columns if it declares any.
    fn load(&self, definition: &StaticDef) -> Result<RecordBatch>;
    /// The table itself, if it is one that is asked by key instead; reaches for nothing yet.
    fn asked(&self, definition: &StaticDef) -> Result<Option<Arc<dyn LookupTable>>> {
        let _ = definition;
        Ok(None)
    }
}

enum Kind {
    Source(usize),
    Table(usize),
    View(Box<LogicalPlan>),
    Static,
    Asked(Arc<Enrichment>),
}

struct Named {
    kind: Kind,
    schema: SchemaRef,
    rowtime: Vec<RowTime>,
    delay: Option<i64>,
    /// For a changelog: the columns that name its rows.
    key: Option<Vec<usize>>,
    primary_key: Vec<String>,
    /// For a view: when its results come, as its own clauses say, for sinks that follow it.
    emission: Emission,
}

impl Named {
    fn new(kind: Kind, schema: SchemaRef, rowtime: Vec<RowTime>, delay: Option<i64>) -> Self {
        Self { kind, schema, rowtime, delay, key: None, primary_key: vec![], emission: Emission::default() }
    }
}

struct Binder {
    context: SessionContext,
    named: HashMap<String, Named>,
    plan: Plan,
}

impl Names for HashMap<String, Named> {
    fn rowtime(&self, stream: &str) -> Option<Vec<RowTime>> {
        match self.get(stream) {
            Some(Named { kind: Kind::Static | Kind::Asked(_), .. }) | None => None,
            Some(named) => Some(named.rowtime.clone()),
        }
    }
    fn key(&self, stream: &str) -> Option<Vec<usize>> {
        self.get(stream).and_then(|named| named.key.clone())
    }
    fn primary_key(&self, stream: &str) -> Vec<String> {
        self.get(stream).map(|named| named.primary_key.clone()).unwrap_or_default()
    }
    fn asked(&self, name: &str) -> Option<Arc<Enrichment>> {
        match self.get(name) {
            Some(Named { kind: Kind::Asked(table), .. }) => Some(Arc::clone(table)),
            _ => None,
        }
    }
}

/// Whose key is looked for.
struct Keyed<'a> {
    name: &'a str,
    primary_key: &'a [String],
    place: &'a Place,
}

/// Checks and plans a whole project. Touches nothing but the static tables' files.
pub fn bind(definitions: &Definitions, loader: &dyn StaticLoader) -> Result<Plan> {
    let time = TickTime::default();
    let context = session(&time);
    let plan = Plan { sources: vec![], tables: vec![], sinks: vec![], statics: vec![], asked: vec![], context: context.clone(), time };
    let mut binder = Binder { context, named: HashMap::new(), plan };
    for name in &definitions.order {
        if let Some(source) = definitions.sources.iter().find(|d| &d.name == name) {
            binder.source(source)?;
        } else if let Some(table) = definitions.statics.iter().find(|d| &d.name == name) {
            binder.static_table(table, loader)?;
        } else if let Some(view) = definitions.views.iter().find(|d| &d.name == name) {
            binder.view(&view.name, &view.query)?;
        } else if let Some(table) = definitions.tables.iter().find(|d| &d.name == name) {
            binder.table(table)?;
        } else if let Some(sink) = definitions.sinks.iter().find(|d| &d.name == name) {
            binder.sink(sink)?;
        }
    }
    trace(&mut binder.plan);
    Ok(binder.plan)
}

/// A session with pinned time and only the optimizer rules whose result can run as a straight line of steps.
fn session(time: &TickTime) -> SessionContext {
    use datafusion::optimizer as o;
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(o::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(o::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
        Arc::new(o::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(o::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(o::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(o::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(o::eliminate_filter::EliminateFilter::new()),
        Arc::new(o::push_down_filter::PushDownFilter::new()),
        Arc::new(o::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(o::common_subexpr_eliminate::CommonSubexprEliminate::new()),
        // Behind what pushes filters down, and before what takes out the columns that they need.
        Arc::new(FilterVersionsAfterJoin),
        Arc::new(o::optimize_projections::OptimizeProjections::new()),
    ];
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    config.options_mut().sql_parser.collect_spans = true;
    // A subquery for one value becomes a join, which can run as a stream.
    config.options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config.options_mut().sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    let access: Arc<dyn ExprPlanner> = Arc::new(functions::MapAccess);
    // What is asked first stands before the defaults.
    let state = SessionStateBuilder::new().with_config(config).with_expr_planners(vec![access]).with_default_features().with_optimizer_rules(rules).build();
    let context = SessionContext::new_with_state(state);
    functions::register(&context, time);
    context
}

fn at(place: &Place, owner: &str, error: impl std::fmt::Display) -> Error {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default().to_owned();
    Error::invalid("PLAN0002", format!("{place}: {owner}: {text}"))
}

/// DataFusion's own error, at the place it names if it names one: the queries it plans keep their places in the file.
fn planned(place: &Place, owner: &str, error: &DataFusionError) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = match span {
        Some(span) => Place { file: Arc::clone(&place.file), line: span.start.line as u32, column: span.start.column as u32 },
        None => place.clone(),
    };
    at(&place, owner, first_line(error))
}

impl Binder {
    fn register(&self, name: &str, schema: &SchemaRef) -> Result<()> {
        self.context
            .register_table(datafusion::common::TableReference::bare(name), StreamTable::new(Arc::clone(schema)))
            .map(|_| ())
            .map_err(|e| Error::internal("PLAN0099", format!("\"{name}\" cannot be registered")).caused_by(e))
    }

    fn source(&mut self, definition: &SourceDef) -> Result<()> {
        let owner = format!("source \"{}\"", definition.name);
        let mut options = definition.options.clone();
        let connector = options.require("connector")?;
        let format = format_of(&mut options, &definition.place)?;
        let idle_timeout = options.duration("idle_timeout")?.map_or(30_000_000, |d| d.as_micros() as i64);
        let drift = drift_of(&mut options, definition, &owner)?;
        let mut columns = Vec::new();
        let mut metadata = Vec::new();
        let mut selected = Vec::new();
        for column in &definition.columns {
            let quoted = quote(&column.name);
            match &column.kind {
                ColumnKind::Physical => {
                    columns.push(ColumnSpec { name: column.name.clone(), data_type: column.data_type.clone(), nullable: column.nullable });
                    selected.push(quoted);
                }
                ColumnKind::Metadata(kind) => {
                    metadata.push((column.name.clone(), *kind));
                    selected.push(quoted);
                }
                ColumnKind::Computed(expression) => selected.push(format!("{expression} AS {quoted}")),
            }
        }
        if columns.is_empty() {
            return Err(at(&definition.place, &owner, "has no columns that come with the records"));
        }
        let mut raw_fields: Vec<Field> = columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect();
        for (name, kind) in &metadata {
            if kind.of_logs() && connector != "kafka" {
                let message = format!("column \"{name}\": a {connector} source has no metadata '{}'", kind.name());
                return Err(at(&definition.place, &owner, message).hint("Metadata of every source: 'partition', 'position', 'ingest_time', 'source'."));
            }
            raw_fields.push(Field::new(name, kind.data_type(), kind.nullable()));
        }
        let raw_schema: SchemaRef = Arc::new(Schema::new(raw_fields));
        let straight = definition.columns.iter().map(|c| &c.name).eq(raw_schema.fields().iter().map(|f| f.name()));
        let (prepare, schema) = if straight {
            (Vec::new(), Arc::clone(&raw_schema))
        } else {
            let raw = format!("__ws_raw_{}", definition.name);
            let (mut steps, schema) = self.select(&raw, &raw_schema, &selected).map_err(|e| at(&definition.place, &owner, e.message()))?;
            self.refuse_volatile(definition, &raw, &selected, &owner)?;
            let schema = cast_as_declared(definition, &schema, &mut steps);
            (steps, schema)
        };
        let watermark = match &definition.watermark {
            None => None,
            Some(watermark) => {
                let index = schema.index_of(&watermark.column).map_err(|e| at(&watermark.place, &owner, e))?;
                if !matches!(schema.field(index).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
                    return Err(at(
                        &watermark.place,
                        &owner,
                        format!("WATERMARK FOR needs a TIMESTAMP column, and \"{}\" is {}", watermark.column, schema.field(index).data_type()),
                    ));
                }
                Some((index, watermark.delay_micros))
            }
        };
        let rowtime = (0..schema.fields().len()).map(|i| if watermark.is_some_and(|(at, _)| at == i) { RowTime::Yes } else { RowTime::No }).collect();
        self.register(&definition.name, &schema)?;
        let index = self.plan.sources.len();
        let named = Named::new(Kind::Source(index), Arc::clone(&schema), rowtime, watermark.map(|(_, delay)| delay));
        self.named.insert(definition.name.clone(), Named { primary_key: definition.primary_key.clone(), ..named });
        self.plan.sources.push(SourcePlan { name: definition.name.clone(), columns, format, metadata, prepare, schema, watermark, idle_timeout, drift, connector, options });
        Ok(())
    }

    /// Records are decoded ahead of the tick that takes them, and again after a restart or when they are replayed: a column
    /// that is not a function of its record would have the time of another tick, and not twice the same value.
    fn refuse_volatile(&self, definition: &SourceDef, raw: &str, selected: &[String], owner: &str) -> Result<()> {
        let sql = format!("SELECT {} FROM {}", selected.join(", "), quote(raw));
        let plan = futures::executor::block_on(self.context.state().create_logical_plan(&sql)).map_err(|e| planned(&definition.place, owner, &e))?;
        for (expression, column) in plan.expressions().iter().zip(&definition.columns) {
            let mut volatile = None;
            let _ = expression.apply(|e| {
                if let Expr::ScalarFunction(function) = e
                    && e.is_volatile_node()
                {
                    volatile = Some(function.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            });
            if let Some(function) = volatile {
                let message = format!("column \"{}\": a computed column is a function of its record, and the value of {function}() is not", column.name);
                return Err(at(&column.place, owner, message)
                    .hint("For the time of arrival declare a column METADATA FROM 'ingest_time'; or compute it in a table, where now() is the time of the tick."));
            }
        }
        Ok(())
    }

    /// Plans `SELECT … FROM raw` over a schema that exists only for it.
    fn select(&self, raw: &str, raw_schema: &SchemaRef, selected: &[String]) -> Result<(Vec<Step>, SchemaRef)> {
        self.register(raw, raw_schema)?;
        let mut names: HashMap<String, Named> = HashMap::new();
        let rowtime = vec![RowTime::No; raw_schema.fields().len()];
        names.insert(raw.to_owned(), Named::new(Kind::Source(0), Arc::clone(raw_schema), rowtime, None));
        let sql = format!("SELECT {} FROM {}", selected.join(", "), quote(raw));
        let state = self.context.state();
        let plan = futures::executor::block_on(state.create_logical_plan(&sql)).and_then(|plan| state.optimize(&plan));
        let plan = plan.map_err(|e| Error::invalid("PLAN0002", first_line(&e)))?;
        let lowered = lowering(&self.context, &names, raw, Emission::default()).lower(&plan)?;
        Ok((lowered.steps, lowered.schema))
    }

    fn static_table(&mut self, definition: &StaticDef, loader: &dyn StaticLoader) -> Result<()> {
        let mut options = definition.options.clone();
        let asking = LookupOptions::take(&mut options)?;
        if let Some(table) = loader.asked(&StaticDef { options, ..definition.clone() })? {
            return self.asked_table(definition, table, asking);
        }
        let rows = loader.load(definition)?;
        let table = StaticTable::new(definition.clone(), rows);
        let schema = datafusion::catalog::TableProvider::schema(table.as_ref());
        self.context
            .register_table(datafusion::common::TableReference::bare(definition.name.as_str()), Arc::clone(&table) as _)
            .map_err(|e| at(&definition.place, &definition.name, e))?;
        self.named.insert(definition.name.clone(), Named::new(Kind::Static, schema, vec![], None));
        self.plan.statics.push(table);
        Ok(())
    }

    fn asked_table(&mut self, definition: &StaticDef, table: Arc<dyn LookupTable>, asking: LookupOptions) -> Result<()> {
        let owner = format!("static table \"{}\"", definition.name);
        if definition.primary_key.is_empty() {
            return Err(at(&definition.place, &owner, "is asked by key, and declares none").hint("Declare its columns and PRIMARY KEY (…) NOT ENFORCED among them."));
        }
        let fields: Vec<Field> = definition.columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let key = definition.primary_key.iter().map(|name| schema.index_of(name)).collect::<std::result::Result<Vec<_>, _>>().map_err(|e| at(&definition.place, &owner, e))?;
        if let Some(index) = key.iter().find(|index| schema.field(**index).data_type().is_nested() || schema.field(**index).data_type().is_floating()) {
            let field = schema.field(*index);
            return Err(at(&definition.place, &owner, format!("\"{}\" is {}, which is compared in more ways than one", field.name(), field.data_type()))
                .hint("Ask by columns of text, whole numbers, decimals, dates or times."));
        }
        let table = Enrichment::new(table, Arc::clone(&schema), key, asking).map_err(|e| at(&definition.place, &owner, first_line(&e)))?;
        self.register(&definition.name, &schema)?;
        self.named.insert(definition.name.clone(), Named::new(Kind::Asked(Arc::clone(&table)), schema, vec![], None));
        self.plan.asked.push(AskedTable { definition: definition.clone(), table });
        Ok(())
    }

    fn view(&mut self, name: &str, query: &QueryDef) -> Result<()> {
        let owner = format!("view \"{name}\"");
        let logical = self.query(query, &owner)?;
        let schema: SchemaRef = Arc::new(logical.schema().as_arrow().clone());
        self.register(name, &schema)?;
        let reads_stream = query.inputs.iter().any(|input| self.named.rowtime(input).is_some());
        let (kind, rowtime, delay) = if reads_stream {
            let optimized = self.context.state().optimize(&logical).map_err(|e| planned(&query.place, &owner, &e))?;
            let mut lowering = lowering(&self.context, &self.named, name, emission(query));
            let lowered = lowering.lower(&optimized)?;
            let parts = std::mem::take(&mut lowering.parts);
            (Kind::View(Box::new(logical)), lowered.rowtime.clone(), self.delay(&lowered, &parts))
        } else {
            (Kind::View(Box::new(logical)), vec![], None)
        };
        self.named.insert(name.to_owned(), Named { emission: emission(query), ..Named::new(kind, schema, rowtime, delay) });
        Ok(())
    }

    fn table(&mut self, definition: &TableDef) -> Result<()> {
        let owner = format!("table \"{}\"", definition.name);
        let mut options = definition.options.clone();
        let zone = options.parse("zone", "one of bronze, silver, gold", |text| text.parse::<Zone>().ok())?.unwrap_or_default();
        let logical = self.query(&definition.query, &owner)?;
        let state = self.context.state();
        let optimized = state.optimize(&logical).map_err(|e| planned(&definition.query.place, &owner, &e))?;
        if definition.query.on_late == OnLate::Update && definition.query.allowed_lateness_micros.is_none() {
            return Err(at(&definition.query.place, &owner, "ON LATE UPDATE needs to know for how long windows are kept for late rows")
                .hint("Write ALLOWED LATENESS INTERVAL '1 hour' ON LATE UPDATE."));
        }
        let mut lowering = lowering(&self.context, &self.named, &definition.name, emission(&definition.query));
        let lowered = lowering.lower(&optimized).map_err(|e| placed(e, &definition.query.place))?;
        let parts = std::mem::take(&mut lowering.parts);
        let schema: SchemaRef = Arc::new(Schema::new(lowered.schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), f.is_nullable())).collect::<Vec<_>>()));
        let mut seen = std::collections::HashSet::new();
        for field in schema.fields() {
            if !seen.insert(field.name()) {
                return Err(at(&definition.query.place, &owner, format!("two columns are named \"{}\"", field.name())));
            }
        }
        for column in &definition.partitioned_by {
            if schema.index_of(column).is_err() {
                let hint = match column.as_str() {
                    "year" | "month" | "day" | "hour" => format!("Add date_part('{column}', <event time>) AS {column} to the SELECT."),
                    _ => format!("Its columns are: {}.", schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")),
                };
                return Err(at(&definition.place, &owner, format!("PARTITIONED BY names \"{column}\", which the query does not select")).hint(hint));
            }
        }
        let delay = self.delay(&lowered, &parts);
        let wanted = Keyed { name: &definition.name, primary_key: &definition.primary_key, place: &definition.query.place };
        let key = self.key(&lowered, wanted, &owner)?;
        self.parts(parts, &definition.query.text, definition.query.on_late == OnLate::Drop, &owner)?;
        let inputs = self.inputs(&lowered, &owner)?;
        let (check, rules) = self.constraints(definition, &schema, &owner)?;
        self.register(&definition.name, &schema)?;
        let named = Named::new(Kind::Table(self.plan.tables.len()), Arc::clone(&schema), lowered.rowtime.clone(), delay);
        self.named.insert(definition.name.clone(), Named { key: key.clone(), primary_key: definition.primary_key.clone(), ..named });
        self.plan.tables.push(TablePlan {
            name: definition.name.clone(),
            inputs,
            steps: lowered.steps,
            check,
            rules,
            schema,
            partitioned_by: definition.partitioned_by.clone(),
            zone,
            stored: true,
            key,
            hold: lowered.hold,
            drops_late: definition.query.on_late == OnLate::Drop,
            options,
            rowtime: lowered.rowtime.iter().map(|time| time.is_time()).collect(),
            aggregated: lowered.aggregated,
            logical: optimized,
            sql: definition.query.text.clone(),
        });
        Ok(())
    }

    /// The streams a query reads, parts of it among them.
    fn inputs(&self, lowered: &Lowered, owner: &str) -> Result<Vec<Input>> {
        let input = |name: &String| match self.named.get(name).map(|named| &named.kind) {
            Some(Kind::Source(index)) => Ok(Input::Source(*index)),
            Some(Kind::Table(index)) => Ok(Input::Table(*index)),
            _ => Err(Error::internal("PLAN0099", format!("{owner} reads \"{name}\", which is no stream"))),
        };
        lowered.inputs.iter().map(input).collect()
    }

    /// The greatest delay of the streams that a query reads in the end.
    fn delay(&self, lowered: &Lowered, parts: &[Part]) -> Option<i64> {
        let of = |name: &String| match parts.iter().find(|part| &part.name == name) {
            Some(part) => self.delay(&part.lowered, parts),
            None => self.named.get(name).and_then(|named| named.delay),
        };
        lowered.inputs.iter().filter_map(of).max()
    }

    /// For results that change: the columns that name a row, all of which must be selected.
    fn key(&self, lowered: &Lowered, wanted: Keyed<'_>, owner: &str) -> Result<Option<Vec<usize>>> {
        let Some(columns) = &lowered.key else { return Ok(None) };
        if !wanted.primary_key.is_empty() {
            let at = |name: &String| lowered.schema.index_of(name).map_err(|e| at(wanted.place, owner, e));
            return wanted.primary_key.iter().map(at).collect::<Result<Vec<_>>>().map(Some);
        }
        let mut key = Vec::new();
        for column in columns {
            match column {
                KeyColumn::At(index) if !key.contains(index) => key.push(*index),
                KeyColumn::At(_) => {}
                KeyColumn::Lost(name) if name.starts_with("__") => {
                    let message = "its results change, and which of the grouping sets a row is of is needed to tell its rows apart";
                    return Err(at(wanted.place, owner, message).hint(format!(
                        "Select grouping(column) for what the sets differ in, and say what names a row: CREATE TABLE {} (PRIMARY KEY (…) NOT ENFORCED) AS …",
                        wanted.name
                    )));
                }
                KeyColumn::Lost(name) => {
                    let message = format!("its results change, and \"{name}\", which is needed to tell its rows apart, is not selected");
                    return Err(at(wanted.place, owner, message)
                        .hint(format!("Select {name} as well, or say what names a row: CREATE TABLE {} (PRIMARY KEY (…) NOT ENFORCED) AS …", wanted.name)));
                }
            }
        }
        Ok(Some(key))
    }

    /// Parts of a query as tables of which nothing is kept.
    fn parts(&mut self, parts: Vec<Part>, sql: &str, drops_late: bool, owner: &str) -> Result<()> {
        for Part { name, lowered } in parts {
            let inputs = self.inputs(&lowered, owner)?;
            let schema: SchemaRef = Arc::new(Schema::new(lowered.schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), f.is_nullable())).collect::<Vec<_>>()));
            let named = Named::new(Kind::Table(self.plan.tables.len()), Arc::clone(&schema), lowered.rowtime.clone(), None);
            self.named.insert(name.clone(), named);
            self.plan.tables.push(TablePlan {
                name,
                inputs,
                steps: lowered.steps,
                check: vec![],
                rules: vec![],
                schema,
                partitioned_by: vec![],
                zone: Zone::default(),
                stored: false,
                key: lowered.key.map(|_| vec![]),
                hold: lowered.hold,
                drops_late,
                options: Options::new(owner.to_owned(), std::collections::BTreeMap::new()),
                rowtime: lowered.rowtime.iter().map(|time| time.is_time()).collect(),
                aggregated: lowered.aggregated,
                logical: LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation { produce_one_row: false, schema: Arc::new(datafusion::common::DFSchema::empty()) }),
                sql: sql.to_owned(),
            });
        }
        Ok(())
    }

    fn constraints(&self, definition: &TableDef, schema: &SchemaRef, owner: &str) -> Result<(Vec<Step>, Vec<Rule>)> {
        if definition.constraints.is_empty() {
            return Ok((vec![], vec![]));
        }
        let mut selected = Vec::new();
        let mut rules = Vec::new();
        for (index, constraint) in definition.constraints.iter().enumerate() {
            let expression = format!("({}) AS {}", constraint.expr, quote(&format!("rule_{index}")));
            let raw = format!("__ws_rule_{}_{index}", definition.name);
            let (_, checked) = self.select(&raw, schema, std::slice::from_ref(&expression)).map_err(|e| at(&constraint.place, owner, e.message()))?;
            if checked.field(0).data_type() != &DataType::Boolean {
                return Err(at(&constraint.place, owner, format!("constraint \"{}\" is {}, and a rule must be true or false", constraint.name, checked.field(0).data_type())));
            }
            selected.push(expression);
            rules.push(Rule { name: constraint.name.clone(), text: constraint.text.clone(), on_violation: constraint.on_violation });
        }
        let raw = format!("__ws_check_{}", definition.name);
        let (steps, _) = self.select(&raw, schema, &selected)?;
        Ok((steps, rules))
    }

    fn sink(&mut self, definition: &SinkDef) -> Result<()> {
        let mut options = definition.options.clone();
        let connector = options.require("connector")?;
        let owner = format!("sink \"{}\"", definition.name);
        let table = match self.named.get(&definition.from) {
            Some(Named { kind: Kind::Table(table), .. }) => *table,
            Some(Named { kind: Kind::View(_), rowtime, .. }) if !rowtime.is_empty() => self.unstored(&definition.from, &definition.place, &owner)?,
            Some(Named { kind: Kind::Source(_), .. }) => self.unstored(&definition.from, &definition.place, &owner)?,
            _ => {
                return Err(
                    at(&definition.place, &owner, format!("\"{}\" is not a stream", definition.from)).hint("A sink follows a table, a view over a source or a table, or a source.")
                );
            }
        };
        if let Some(key) = self.plan.tables[table].key_names() {
            let at_end = |message: String| at(&definition.place, &owner, message);
            match connector.as_str() {
                "postgres" | "kafka" | "redshift" => {
                    if options.peek("mode").is_some_and(|mode| mode != "upsert") || options.peek("delete_when").is_some() {
                        return Err(at_end(format!("the rows of \"{}\" change, and only a sink that upserts can follow them", definition.from))
                            .hint("Write mode = 'upsert', and leave delete_when out."));
                    }
                    options.set_default("mode", "upsert");
                    options.set_default("key", &key.join(", "));
                    options.set_default("delete_when", DELETED);
                }
                "redis" | "blackhole" | "stdout" => {}
                other => {
                    return Err(at_end(format!("a {other} sink cannot follow \"{}\", whose rows change", definition.from))
                        .hint("Use a sink that upserts: postgres, kafka, redshift, redis."));
                }
            }
        }
        self.plan.sinks.push(SinkPlan { name: definition.name.clone(), table, connector, options });
        Ok(())
    }

    /// A view or a source as a table of which nothing is kept, for sinks to follow.
    fn unstored(&mut self, name: &str, place: &Place, owner: &str) -> Result<usize> {
        if let Some(index) = self.plan.tables.iter().position(|table| !table.stored && table.name == name) {
            return Ok(index);
        }
        let state = self.context.state();
        let optimized = self.scan(name).and_then(|scan| state.optimize(&scan)).map_err(|e| planned(place, owner, &e))?;
        let emission = self.named.get(name).map(|named| named.emission).unwrap_or_default();
        let mut lowering = lowering(&self.context, &self.named, name, emission);
        let lowered = lowering.lower(&optimized).map_err(|e| placed(e, place))?;
        let parts = std::mem::take(&mut lowering.parts);
        let key = self.key(&lowered, Keyed { name, primary_key: &[], place }, owner)?;
        self.parts(parts, &format!("SELECT * FROM {}", quote(name)), false, owner)?;
        let inputs = self.inputs(&lowered, owner)?;
        let fields: Vec<Field> = lowered.schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), f.is_nullable())).collect();
        self.plan.tables.push(TablePlan {
            name: name.to_owned(),
            inputs,
            steps: lowered.steps,
            check: vec![],
            rules: vec![],
            schema: Arc::new(Schema::new(fields)),
            partitioned_by: vec![],
            zone: Zone::default(),
            stored: false,
            key,
            hold: lowered.hold,
            drops_late: false,
            options: Options::new(owner, std::collections::BTreeMap::new()),
            rowtime: lowered.rowtime.iter().map(|time| time.is_time()).collect(),
            aggregated: lowered.aggregated,
            logical: optimized,
            sql: format!("SELECT * FROM {}", quote(name)),
        });
        Ok(self.plan.tables.len() - 1)
    }

    /// A query's logical plan with placeholders and views replaced. Not optimized.
    fn query(&self, query: &QueryDef, owner: &str) -> Result<LogicalPlan> {
        let fail = |e: &DataFusionError| planned(&query.place, owner, e);
        let mut relations: Vec<LogicalPlan> = Vec::new();
        for (index, relation) in query.relations.iter().enumerate() {
            let (input, name) = match &relation.input {
                RelationInput::Named(name) => (None, name.as_str()),
                RelationInput::Relation(inner) => (Some(relations[*inner].clone()), innermost(query, *inner)),
            };
            let named = self.named.get(name).ok_or_else(|| at(&relation.place, owner, format!("unknown relation \"{name}\"")))?;
            let input = match input {
                Some(relation) => relation,
                None => self.scan(name).map_err(|e| fail(&e))?,
            };
            let node: LogicalPlan = match &relation.kind {
                RelationKind::Deduplicate { key, keep, within_micros } => {
                    let within = within_micros.or(named.delay).unwrap_or(0).max(1);
                    let time = dedup_time(named, within).map_err(|(message, hint)| at(&relation.place, owner, message).hint(hint))?;
                    for column in key {
                        if input.schema().field_with_unqualified_name(column).is_err() {
                            let columns: Vec<_> = input.schema().fields().iter().map(|f| f.name().as_str()).collect();
                            let hint = match watershed_types::near_miss(column, columns.iter().copied()) {
                                Some(near) => format!("Did you mean \"{near}\"?"),
                                None => format!("Its columns are: {}.", columns.join(", ")),
                            };
                            return Err(at(&relation.place, owner, format!("KEY names \"{column}\", which is not a column")).hint(hint));
                        }
                    }
                    let node = DedupNode { input, key: key.clone(), time, within, keep_last: *keep == Keep::Last, id: format!("{owner}#{index}") };
                    LogicalPlan::Extension(Extension { node: Arc::new(node) })
                }
                RelationKind::Tumble { column, size_micros, offset_micros } => {
                    window(input, column, WindowKind::Tumble { size: *size_micros, offset: *offset_micros }, &[], &relation.place, owner)?
                }
                RelationKind::Hop { column, slide_micros, size_micros, offset_micros } => {
                    let kind = WindowKind::Hop { slide: *slide_micros, size: *size_micros, offset: *offset_micros };
                    window(input, column, kind, &[], &relation.place, owner)?
                }
                RelationKind::Cumulate { column, step_micros, size_micros, offset_micros } => {
                    let kind = WindowKind::Cumulate { step: *step_micros, size: *size_micros, offset: *offset_micros };
                    window(input, column, kind, &[], &relation.place, owner)?
                }
                RelationKind::Session { column, partition_by, gap_micros } => {
                    window(input, column, WindowKind::Session { gap: *gap_micros }, partition_by, &relation.place, owner)?
                }
                RelationKind::AsOf { time } => {
                    let time = match time {
                        AsOfTime::Column { relation, column } => Some((relation.clone(), column.clone())),
                        AsOfTime::Processing => None,
                    };
                    let key = match &named.key {
                        Some(key) if named.primary_key.is_empty() => key.iter().map(|column| named.schema.field(*column).name().clone()).collect(),
                        _ => named.primary_key.clone(),
                    };
                    LogicalPlan::Extension(Extension { node: Arc::new(AsOfNode { input, time, key }) })
                }
            };
            let aliased = SubqueryAlias::try_new(Arc::new(node), relation.placeholder.as_str()).map_err(|e| fail(&e))?;
            let aliased = LogicalPlan::SubqueryAlias(aliased);
            let schema: SchemaRef = Arc::new(aliased.schema().as_arrow().clone());
            self.register(&relation.placeholder, &schema)?;
            relations.push(aliased);
        }
        let statement = DfStatement::Statement(Box::new(Statement::Query(query.query.clone())));
        let planned = futures::executor::block_on(self.context.state().statement_to_plan(statement)).map_err(|e| fail(&e))?;
        planned
            .transform_up_with_subqueries(|node| {
                if let LogicalPlan::Join(join) = node {
                    return with_version_times(join);
                }
                let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
                let name = scan.table_name.table();
                if let Some(index) = query.relations.iter().position(|r| r.placeholder == name) {
                    return Ok(Transformed::yes(relations[index].clone()));
                }
                match self.named.get(name) {
                    Some(Named { kind: Kind::View(_), .. }) => Ok(Transformed::yes(self.scan(name)?)),
                    _ => Ok(Transformed::no(node)),
                }
            })
            .data()
            .map_err(|e| fail(&e))
    }

    fn scan(&self, name: &str) -> datafusion::common::Result<LogicalPlan> {
        if let Some(Named { kind: Kind::View(plan), .. }) = self.named.get(name) {
            return Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan.as_ref().clone()), name)?));
        }
        let reference = datafusion::common::TableReference::bare(name);
        let provider = futures::executor::block_on(self.context.table_provider(reference.clone()))?;
        LogicalPlanBuilder::scan(reference, provider_as_source(provider), None)?.build()
    }
}

fn window(input: LogicalPlan, column: &str, kind: WindowKind, partition_by: &[String], place: &Place, owner: &str) -> Result<LogicalPlan> {
    if let Some(name) = WINDOW_COLUMNS.iter().find(|name| input.schema().fields().iter().any(|f| f.name() == *name)) {
        let message = format!("a window adds the column \"{name}\", and its input has one of that name");
        return Err(at(place, owner, message).hint(format!("Give the input's another name where it is selected: {name} AS …")));
    }
    let node = WindowNode::try_new(input, column.to_owned(), kind, partition_by.to_vec()).map_err(|e| at(place, owner, first_line(&e)))?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The column by which rows are within the interval of each other: the first that the watermark speaks of.
fn dedup_time(named: &Named, within: i64) -> std::result::Result<String, (String, &'static str)> {
    // Keys are forgotten at whole intervals, as windows of that length end.
    let buckets = WindowKind::Tumble { size: within, offset: 0 };
    let name = |index: usize| named.schema.field(index).name().clone();
    let safe = |time: &RowTime| match time {
        RowTime::Yes | RowTime::EndOf(_) | RowTime::TimeOf(_) => true,
        RowTime::StartOf(inner) => buckets.ends_with(*inner),
        RowTime::No | RowTime::SettlesAt(_) | RowTime::OfTick => false,
    };
    if let Some(index) = named.rowtime.iter().position(safe) {
        return Ok(name(index));
    }
    match named.rowtime.iter().position(|time| !matches!(time, RowTime::No | RowTime::SettlesAt(_) | RowTime::OfTick)) {
        Some(start) => Err((
            format!("DEDUPLICATE needs event time, and \"{}\" is the start of a window whose rows come when it ends", name(start)),
            "Select window_time as well (and group by it): it is the event time of a window's rows.",
        )),
        None => Err(("DEDUPLICATE needs event time, and its input has none".to_owned(), "Declare WATERMARK FOR on the source.")),
    }
}

fn lowering<'a>(context: &'a SessionContext, names: &'a dyn Names, owner: &'a str, emission: Emission) -> Lowering<'a> {
    Lowering { context, names, owner, operators: 0, emission, sessions_grow: false, parts: vec![] }
}

/// When a query's results come, as its last clauses say.
fn emission(query: &QueryDef) -> Emission {
    let lateness = query.allowed_lateness_micros.unwrap_or(0);
    match query.emit {
        Emit::OnChange => Emission { on_change: true, early: None, lateness },
        Emit::OnClose { early_micros } => Emission { on_change: false, early: early_micros, lateness },
    }
}

fn innermost(query: &QueryDef, mut index: usize) -> &str {
    loop {
        match &query.relations[index].input {
            RelationInput::Named(name) => return name,
            RelationInput::Relation(inner) => index = *inner,
        }
    }
}

fn placed(error: Error, place: &Place) -> Error {
    let hint = error.next_step().map(str::to_owned);
    let placed = Error::new(error.kind(), error.code(), format!("{place}: {}", error.message()));
    match hint {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

fn first_line(error: &DataFusionError) -> String {
    let stripped = error.find_root().strip_backtrace();
    let line = stripped.lines().next().unwrap_or_default();
    // The kind of error is ours to say.
    for prefix in ["Schema error: ", "Error during planning: ", "SQL error: ", "type_coercion\ncaused by\n"] {
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.to_owned();
        }
    }
    line.to_owned()
}

/// Computed columns take the type they were declared with.
fn cast_as_declared(definition: &SourceDef, schema: &SchemaRef, steps: &mut Vec<Step>) -> SchemaRef {
    let mut differs = false;
    let (mut fields, mut expressions) = (Vec::new(), Vec::new());
    for (index, (field, column)) in schema.fields().iter().zip(&definition.columns).enumerate() {
        let input: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        let declared = matches!(column.kind, ColumnKind::Computed(_)) && column.data_type != DataType::Null;
        if declared && &column.data_type != field.data_type() {
            differs = true;
            fields.push(field.as_ref().clone().with_data_type(column.data_type.clone()));
            expressions.push(Arc::new(CastExpr::new(input, column.data_type.clone(), None)) as Arc<dyn PhysicalExpr>);
        } else {
            fields.push(field.as_ref().clone());
            expressions.push(input);
        }
    }
    if !differs {
        return Arc::clone(schema);
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    steps.push(Step::Project { expressions, schema: Arc::clone(&schema) });
    schema
}

/// A name as a quoted SQL identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How far apart a source's partitions may be read.
fn drift_of(options: &mut Options, definition: &SourceDef, owner: &str) -> Result<Option<Drift>> {
    let max = options.duration("max_drift")?.map(|max| i64::try_from(max.as_micros()).unwrap_or(i64::MAX));
    let group = options.take("drift_group");
    match (max, &definition.watermark) {
        (None, _) if group.is_some() => {
            Err(at(&definition.place, owner, "is in a \"drift_group\" and does not say how far ahead of the others it may be read").hint("Add max_drift = '10 minutes'."))
        }
        (Some(_), None) => Err(at(&definition.place, owner, "has a \"max_drift\" and no event time").hint("Declare WATERMARK FOR on its event time.")),
        (max, _) => Ok(max.map(|max| Drift { max, group })),
    }
}

fn format_of(options: &mut Options, place: &Place) -> Result<Format> {
    let name = options.take("format").unwrap_or_else(|| "json".to_owned());
    match name.to_ascii_lowercase().as_str() {
        "json" | "ndjson" => Ok(Format::Json),
        "csv" => {
            let one = |text: &str| match text {
                "\\t" | "tab" => Some(b'\t'),
                other if other.len() == 1 => other.bytes().next(),
                _ => None,
            };
            Ok(Format::Csv(CsvOptions {
                delimiter: options.parse("delimiter", "one character", one)?.unwrap_or(b','),
                quote: options.parse("quote", "one character", one)?.unwrap_or(b'"'),
                header: options.flag("header")?.unwrap_or(true),
                null: options.take("null").unwrap_or_default(),
            }))
        }
        "text" | "raw" => Ok(Format::Text),
        other => {
            let hint = match watershed_types::near_miss(other, ["json", "csv", "text"]) {
                Some(near) => format!("Did you mean '{near}'?"),
                None => "Known formats: json, csv, text.".to_owned(),
            };
            Err(Error::invalid("PLAN0003", format!("{place}: {}: unknown format '{other}'", options.owner())).hint(hint))
        }
    }
}
