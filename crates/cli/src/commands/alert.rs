//! `watershed alert`: alerts, rules, silences, and whether messages arrive.
//!
//! **Owns** what is printed. **Does not own** rules and routes: `watershed-alerts` does. The running process writes its
//! alerts down, and reads silences and acknowledgements from the project's work folder: no command here needs it to answer,
//! but `check`, which wants its metrics.

mod check;

use watershed_alerts::message::time;
use watershed_alerts::{Alert, Book, Scope, prometheus, runbooks, send_test};
use watershed_types::{Error, Result};

use crate::arguments::{AlertAction, AlertArguments, Format, SilenceArguments};
use crate::observe;
use crate::output::{Cell, Sheet, ago, count, print};
use crate::project::Project;
use crate::system;

/// Runs the command.
pub fn run(arguments: AlertArguments) -> Result<u8> {
    if let AlertAction::Runbook { rule } = &arguments.action {
        return runbook(rule);
    }
    let project = Project::open(&arguments.project.project)?;
    let format = arguments.format;
    match arguments.action {
        AlertAction::List { history } => list(&project, history, format),
        AlertAction::Rules { prometheus } => rules(&project, prometheus, format),
        AlertAction::Check => check::run(&project, format),
        AlertAction::Test { route } => test(&project, route.as_deref(), format),
        AlertAction::Silence(silence) => silenced(&project, silence, format),
        AlertAction::Ack { id, note } => {
            let alert = Book::open(&project.work())?.ack(&id, &who(), &note)?;
            eprintln!("{} is in hand: it is not repeated, and told when it is over", alert.id);
            Ok(0)
        }
        AlertAction::Runbook { .. } => Ok(0),
    }
}

/// Who says so.
fn who() -> String {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

fn runbook(rule: &str) -> Result<u8> {
    let page = runbooks::page(rule).ok_or_else(|| {
        let known: Vec<&str> = runbooks::PAGES.iter().map(|(name, _)| *name).collect();
        let hint = match watershed_types::near_miss(rule, known.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("There are: {}.", known.join(", ")),
        };
        Error::invalid("CLI0103", format!("there is no runbook \"{}\"", rule.escape_debug())).hint(hint)
    })?;
    print(page)?;
    Ok(0)
}

fn list(project: &Project, history: bool, format: Format) -> Result<u8> {
    let book = Book::open(&project.work())?;
    if format == Format::Table && !system::is_running(project) {
        let seen = if book.at() == 0 { "nobody has looked at its rules yet".to_owned() } else { format!("this is as of {}", ago(book.at())) };
        eprintln!("the project does not run; {seen}");
    }
    if history {
        let mut sheet = Sheet::new(&["at", "id", "rule", "change", "summary"]);
        for event in book.history() {
            let change = serde_json::to_value(event.change).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
            sheet.push(vec![Cell::time(Some(event.at)), Cell::text(event.id), Cell::text(event.rule), Cell::text(change), Cell::text(event.summary)]);
        }
        return show(&sheet, format, "event");
    }
    let mut sheet = Sheet::new(&["severity", "state", "id", "rule", "since", "value>", "silenced until", "in hand of", "summary", "runbook"]);
    for alert in book.snapshot() {
        sheet.push(row(&alert));
    }
    show(&sheet, format, "alert")
}

fn row(alert: &Alert) -> Vec<Cell> {
    vec![
        Cell::text(alert.severity.to_string()),
        Cell::text(alert.state.as_str()),
        Cell::text(&alert.id),
        Cell::text(&alert.rule),
        Cell::time(Some(alert.since)),
        alert.value.map_or(Cell::Null, |value| Cell::number(watershed_alerts::rule::number(value))),
        Cell::time(alert.silenced_until),
        alert.acked_by.clone().map_or(Cell::Null, Cell::Text),
        Cell::text(&alert.summary),
        alert.runbook.clone().map_or(Cell::Null, Cell::Text),
    ]
}

fn show(sheet: &Sheet, format: Format, noun: &str) -> Result<u8> {
    if format == Format::Table && sheet.is_empty() {
        print(&format!("no {noun}s\n"))?;
        return Ok(0);
    }
    sheet.print(format)?;
    if format == Format::Table {
        print(&format!("({})\n", count(sheet.len() as u64, noun)))?;
    }
    Ok(0)
}

fn rules(project: &Project, as_prometheus: bool, format: Format) -> Result<u8> {
    let plan = observe::plan(project)?;
    if as_prometheus {
        print(&prometheus::rules(&plan))?;
        return Ok(0);
    }
    let mut sheet = Sheet::new(&["rule", "severity", "from", "condition", "runbook"]);
    for rule in &plan.rules {
        let from = if rule.default { "default" } else { "project" };
        let page = plan.runbook(rule).map_or(Cell::Null, Cell::Text);
        sheet.push(vec![Cell::text(&rule.name), Cell::text(rule.severity.to_string()), Cell::text(from), Cell::text(rule.condition()), page]);
    }
    show(&sheet, format, "rule")
}

/// Sends to every route, or to one; exit 1 if any does not take it.
fn test(project: &Project, only: Option<&str>, format: Format) -> Result<u8> {
    let plan = observe::plan(project)?;
    let names: Vec<String> = only.map_or_else(|| plan.routes.keys().cloned().collect(), |name| vec![name.to_owned()]);
    let mut sheet = Sheet::new(&["route", "type", "result"]);
    let mut failed = 0;
    for name in names {
        let kind = plan.routes.get(&name).map_or("", |route| route.target.kind());
        let result = match send_test(&plan, &project.name(), &name) {
            Ok(()) => "sent".to_owned(),
            Err(error) if error.code() == "ALR0011" => return Err(error),
            Err(error) => {
                failed += 1;
                eprintln!("error: {}", error.report());
                format!("{}: {}", error.code(), error.message())
            }
        };
        sheet.push(vec![Cell::text(name), Cell::text(kind), Cell::text(result)]);
    }
    sheet.print(format)?;
    Ok(u8::from(failed > 0))
}

fn silenced(project: &Project, arguments: SilenceArguments, format: Format) -> Result<u8> {
    let book = Book::open(&project.work())?;
    if arguments.list {
        let mut sheet = Sheet::new(&["id", "until", "alert", "rule", "labels", "by", "reason"]);
        for silence in book.silences()? {
            let labels: Vec<String> = silence.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let optional = |text: Option<String>| text.map_or(Cell::Null, Cell::Text);
            let (alert, rule) = (optional(silence.alert), optional(silence.rule));
            sheet.push(vec![
                Cell::text(silence.id),
                Cell::time(Some(silence.until)),
                alert,
                rule,
                Cell::text(labels.join(" ")),
                Cell::text(silence.by),
                Cell::text(silence.reason),
            ]);
        }
        return show(&sheet, format, "silence");
    }
    if let Some(id) = arguments.end {
        book.end_silence(&id)?;
        eprintln!("silence {id} is over");
        return Ok(0);
    }
    if let Some(rule) = arguments.rule.as_deref().filter(|_| book.rules().is_empty()) {
        check_rule(project, rule)?;
    }
    let scope = Scope { alert: arguments.alert, rule: arguments.rule, labels: arguments.labels.into_iter().collect() };
    let silence = book.silence(scope, arguments.lasting, &who(), &arguments.reason)?;
    match format {
        Format::Table => print(&format!("silence {} until {}\n", silence.id, time(silence.until)))?,
        _ => {
            let mut sheet = Sheet::new(&["id", "until"]);
            sheet.push(vec![Cell::text(silence.id), Cell::time(Some(silence.until))]);
            sheet.print(format)?;
        }
    }
    Ok(0)
}

/// Before the first run only the settings know the rules.
fn check_rule(project: &Project, name: &str) -> Result<()> {
    if observe::plan(project)?.rules.iter().any(|rule| rule.name == name) {
        return Ok(());
    }
    Err(Error::invalid("ALR0011", format!("there is no rule \"{}\"", name.escape_debug())).hint("`watershed alert rules` shows them."))
}
