//! `watershed plan`: what would run, and what becomes of the state that is there. Touches nothing.

mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use watershed_engine::operator::{Growth, Step};
use watershed_engine::plan::{Plan, TablePlan, describe};
use watershed_engine::time::interval;
use watershed_lake::ExistingTable;
use watershed_serve::mask;
use watershed_sql::OnViolation;
use watershed_types::{Options, Result};

use crate::adapters::open_lake;
use crate::arguments::{Format, PlanArguments};
use crate::output::{print, print_json};
use crate::project::Project;
use crate::session::{plan, runtime};
use crate::system;

use state::{State, Stored};

/// Runs the command.
pub fn run(arguments: PlanArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let plan = plan(&project, &runtime)?;
    let checkpoint = system::open_checkpoint(&project, runtime.handle())?;
    let there = match &checkpoint {
        Some(_) => system::existing_tables(&project, runtime.handle())?,
        None => vec![],
    };
    let stored = stored(&project, &runtime, &plan, &there)?;
    let tables = there.into_iter().map(|table| table.name).collect();
    let state = State::of(&plan, checkpoint.as_ref(), tables, stored, &arguments.rate, project.settings.engine.memory)?;
    if arguments.format == Format::Table {
        print(&text(&project, &plan, &state))?;
    } else {
        print_json(&as_json(&project, &plan, &state))?;
    }
    Ok(0)
}

/// What a start would do with the tables that are there.
fn stored(project: &Project, runtime: &Runtime, plan: &Plan, there: &[ExistingTable]) -> Result<BTreeMap<String, Stored>> {
    let mut found = BTreeMap::new();
    if there.is_empty() {
        return Ok(found);
    }
    let lake = open_lake(project, runtime.handle())?;
    for table in plan.tables.iter().filter(|table| table.stored) {
        let named: Vec<&ExistingTable> = there.iter().filter(|other| other.name == table.name && other.folder != "system").collect();
        if let Some(other) = named.first().filter(|_| named.iter().all(|other| other.folder != table.zone.as_str())) {
            found.insert(table.name.clone(), Stored::Elsewhere { folder: other.folder.clone() });
            continue;
        }
        if named.is_empty() {
            continue;
        }
        let key: Option<Vec<String>> = table.key_names().map(|names| names.into_iter().map(str::to_owned).collect());
        match lake.fits(table.zone.as_str(), &table.name, Arc::clone(&table.schema), &table.partitioned_by, key.as_deref()) {
            Ok(None) => {}
            Ok(Some(columns)) => {
                found.insert(table.name.clone(), Stored::Fits { new: columns });
            }
            Err(error) if error.code() == "LAKE0003" => {
                found.insert(table.name.clone(), Stored::Unfit { why: error.message().to_owned(), hint: error.next_step().unwrap_or_default().to_owned() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// If the state of a step grows for ever: with what, and what would bound it.
fn grows(step: &Step) -> Option<Growth> {
    if let Step::Operator(spec) = step { spec.grows() } else { None }
}

fn options(options: &Options) -> String {
    options.shown().map(|(key, value)| format!("{key} = '{}'", mask(key, value))).collect::<Vec<_>>().join(", ")
}

fn text(project: &Project, plan: &Plan, state: &State) -> String {
    let mut text = format!("{}: {} source(s), {} table(s), {} sink(s)\n", project.name(), plan.sources.len(), plan.tables.len(), plan.sinks.len());
    for source in &plan.sources {
        text.push_str(&format!("\nsource {} · {} · {} · {} columns\n", source.name, source.connector, describe::format(&source.format), source.schema.fields().len()));
        let with = options(&source.options);
        if !with.is_empty() {
            text.push_str(&format!("  with {with}\n"));
        }
        if let Some(drift) = &source.drift {
            let others = drift.group.as_ref().map_or_else(|| "the others".to_owned(), |group| format!("the others of group {group}"));
            text.push_str(&format!("  a partition more than {} ahead of {others} is not read until they have come up\n", interval(drift.max)));
        }
        match source.watermark {
            Some((column, delay)) => text.push_str(&format!(
                "  watermark on {}, {} behind; a silent partition is left out after {}\n",
                source.schema.field(column).name(),
                interval(delay),
                interval(source.idle_timeout)
            )),
            None => text.push_str("  no watermark: no window over it ever closes but at `run --once --final`\n"),
        }
    }
    for (number, table) in plan.tables.iter().enumerate() {
        match table.stored {
            true => text.push_str(&format!("\ntable {} · {} · {} columns", table.name, table.zone.as_str(), table.schema.fields().len())),
            false => text.push_str(&format!("\nstream {} · not kept · {} columns", table.name, table.schema.fields().len())),
        }
        if !table.partitioned_by.is_empty() {
            text.push_str(&format!(" · partitioned by {}", table.partitioned_by.join(", ")));
        }
        text.push_str(&format!("\n  {}\n", reads(plan, table).join(" and ")));
        for line in state.past(plan, number) {
            text.push_str(&format!("  new, and its past is not in it: {line}\n"));
        }
        for step in &table.steps {
            text.push_str(&format!("  └─ {}\n", describe::step(step)));
            for line in step.stateful().into_iter().flat_map(|(id, fingerprint)| state.lines(plan, number, id, fingerprint)) {
                text.push_str(&format!("       {line}\n"));
            }
            if let Some(growth) = grows(step) {
                text.push_str(&format!("       it {growth}\n"));
            }
        }
        for rule in &table.rules {
            text.push_str(&format!("  └─ expect {}: {} (else {})\n", rule.name, rule.text, violation(rule.on_violation)));
        }
        if table.stored {
            text.push_str(&format!("  └─ write to the lake, {}/{}\n", table.zone.as_str(), table.name));
            for line in state.stored(&table.name).into_iter().flat_map(Stored::lines) {
                text.push_str(&format!("       {line}\n"));
            }
        }
        for sink in plan.sinks.iter().filter(|s| plan.tables[s.table].name == table.name) {
            text.push_str(&format!("  └─ sink {} · {} {}\n", sink.name, sink.connector, options(&sink.options)));
        }
    }
    for id in state.gone(plan) {
        text.push_str(&format!("\nstate \"{id}\" belongs to nothing any more and is dropped with the next epoch\n"));
    }
    for line in state.verdicts() {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

fn reads<'a>(plan: &'a Plan, table: &TablePlan) -> Vec<&'a str> {
    table.inputs.iter().map(|input| plan.input_name(*input)).collect()
}

fn violation(action: OnViolation) -> &'static str {
    match action {
        OnViolation::Warn => "count and keep",
        OnViolation::Drop => "drop",
        OnViolation::Quarantine => "quarantine",
        OnViolation::Fail => "stop the pipeline",
    }
}

fn table_json(plan: &Plan, number: usize, state: &State) -> Value {
    let table = &plan.tables[number];
    let steps: Vec<Value> = table
        .steps
        .iter()
        .map(|step| {
            let mut told = json!({ "step": describe::step(step) });
            if let Some((id, fingerprint)) = step.stateful() {
                told["state"] = json!(id);
                told["grows"] = json!(grows(step).map(|growth| json!({ "with": growth.with, "bounded_by": growth.bound })));
                if let (Value::Object(told), Value::Object(state)) = (&mut told, state.json(plan, number, id, fingerprint)) {
                    told.extend(state);
                }
            }
            told
        })
        .collect();
    let rules: Vec<Value> = table.rules.iter().map(|r| json!({ "name": r.name, "expect": r.text, "on_violation": violation(r.on_violation) })).collect();
    json!({
        "name": table.name, "zone": table.zone.as_str(), "reads": reads(plan, table), "partitioned_by": table.partitioned_by,
        "columns": describe::columns(&table.schema), "steps": steps, "rules": rules, "not_in_it": state.past(plan, number),
        "stored": state.stored(&table.name).map(Stored::json),
    })
}

fn as_json(project: &Project, plan: &Plan, state: &State) -> Value {
    let sources: Vec<Value> = plan
        .sources
        .iter()
        .map(|s| {
            let with: BTreeMap<_, _> = s.options.shown().collect();
            let watermark = s.watermark.map(|(column, delay)| json!({ "column": s.schema.field(column).name(), "delay_micros": delay }));
            json!({ "name": s.name, "connector": s.connector, "format": describe::format(&s.format), "columns": describe::columns(&s.schema), "watermark": watermark, "with": with })
        })
        .collect();
    let tables: Vec<Value> = (0..plan.tables.len()).map(|number| table_json(plan, number, state)).collect();
    let sinks: Vec<Value> = plan
        .sinks
        .iter()
        .map(|s| json!({ "name": s.name, "from": plan.tables[s.table].name, "connector": s.connector, "with": s.options.shown().collect::<BTreeMap<_, _>>() }))
        .collect();
    json!({ "pipeline": project.name(), "sources": sources, "tables": tables, "sinks": sinks, "dropped_state": state.gone(plan), "state": state.summary() })
}
