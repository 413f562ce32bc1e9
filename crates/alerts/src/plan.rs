//! From what is written to what is done: every rule parsed, every route with its secrets.
//!
//! I1: whatever is wrong is found here, before anything starts: names, conditions, severities, routes, variables.

use std::collections::BTreeMap;
use std::time::Duration;

use watershed_types::{Error, Result, near_miss};

use crate::defaults;
use crate::expression::{Condition, Names, parse};
use crate::route::Target;
use crate::rule::{Look, Rule, Severity};
use crate::settings::{Settings, WrittenRoute, WrittenRule};
use crate::variables::Environment;

/// The name of the route that is there when none is written.
pub const LOG_ROUTE: &str = "log";

/// Rules and routes, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rules, in the order they are looked at.
    pub rules: Vec<Rule>,
    /// Routes by name.
    pub routes: BTreeMap<String, Route>,
    /// How often rules are looked at.
    pub interval: Duration,
    /// How long after a message the next one of the same group may leave.
    pub cooldown: Duration,
    /// Messages that may wait for a route.
    pub outbox_messages: usize,
    /// Where runbooks can be read.
    pub runbooks: Option<String>,
}

/// A route: what it wants and where it leads.
#[derive(Debug, Clone)]
pub struct Route {
    /// Only alerts this bad; all if empty.
    pub severities: Vec<Severity>,
    /// Only alerts with these labels.
    pub labels: BTreeMap<String, String>,
    /// Only these rules; all if empty.
    pub rules: Vec<String>,
    /// Labels whose values put alerts into one message.
    pub group_by: Vec<String>,
    /// After how long an alert that goes on is told again.
    pub repeat: Duration,
    /// Where it leads.
    pub target: Target,
}

impl Plan {
    /// Checks settings.
    pub fn new(settings: &Settings, environment: Environment<'_>) -> Result<Plan> {
        let mut routes = BTreeMap::new();
        for (name, written) in &settings.routes {
            check_name("route", name)?;
            routes.insert(name.clone(), route(name, written, settings, environment)?);
        }
        if routes.is_empty() {
            let everything =
                Route { severities: vec![], labels: BTreeMap::new(), rules: vec![], group_by: settings.group_by.clone(), repeat: settings.repeat_interval, target: Target::Log };
            routes.insert(LOG_ROUTE.to_owned(), everything);
        }
        let mut rules = defaults::rules(settings)?;
        for written in &settings.rules {
            let rule = rule(written, settings)?;
            if rules.iter().any(|earlier| earlier.name == rule.name) {
                let hint = "Rename one of them; a default rule is changed by [alerts.default.NAME], or turned off there with enabled = false.";
                return Err(Error::invalid("ALR0003", format!("there are two rules \"{}\"", rule.name)).hint(hint));
            }
            rules.push(rule);
        }
        let plan =
            Plan { rules, routes, interval: settings.interval, cooldown: settings.cooldown, outbox_messages: settings.outbox_messages.max(1), runbooks: settings.runbooks.clone() };
        plan.check_names()?;
        Ok(plan)
    }

    /// Rules and routes name each other.
    fn check_names(&self) -> Result<()> {
        if self.interval.is_zero() {
            return Err(Error::invalid("ALR0003", "[alerts] interval is zero").hint("Write a duration such as interval = \"10s\"."));
        }
        for rule in &self.rules {
            for wanted in rule.routes.iter().filter(|name| !self.routes.contains_key(*name)) {
                return Err(Error::invalid("ALR0003", format!("rule \"{}\" goes to route \"{wanted}\", which is not there", rule.name)).hint(near(wanted, self.routes.keys())));
            }
        }
        for (name, route) in &self.routes {
            for wanted in route.rules.iter().filter(|wanted| !self.rules.iter().any(|rule| rule.name == **wanted)) {
                return Err(
                    Error::invalid("ALR0004", format!("route \"{name}\" wants rule \"{wanted}\", which is not there")).hint(near(wanted, self.rules.iter().map(|r| &r.name)))
                );
            }
        }
        Ok(())
    }

    /// Where a rule's page can be read.
    pub fn runbook(&self, rule: &Rule) -> Option<String> {
        let page = rule.runbook.as_ref()?;
        if page.contains("://") {
            return Some(page.clone());
        }
        let folder = self.runbooks.as_deref().unwrap_or("docs/runbooks");
        Some(format!("{}/{page}.md", folder.trim_end_matches('/')))
    }
}

fn near<'n>(wanted: &str, names: impl Iterator<Item = &'n String> + Clone) -> String {
    match near_miss(wanted, names.clone().map(String::as_str)) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("There are: {}.", names.cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let code = if what == "rule" { "ALR0003" } else { "ALR0004" };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_') {
        return Err(
            Error::invalid(code, format!("\"{}\" is not the name of a {what}", name.escape_debug())).hint("Use lower case letters, digits and dashes, such as orders-late.")
        );
    }
    Ok(())
}

/// The error for a severity that is not there.
pub fn no_severity(owner: &str, text: &str) -> Error {
    let code = if owner.starts_with("route") { "ALR0004" } else { "ALR0003" };
    Error::invalid(code, format!("{owner}: there is no severity \"{}\"", text.escape_debug())).hint("Write P0, P1, P2 or P3.")
}

fn rule(written: &WrittenRule, settings: &Settings) -> Result<Rule> {
    check_name("rule", &written.name)?;
    let owner = format!("rule \"{}\"", written.name);
    let names = if written.sql.is_some() { Names::Any } else { Names::Metrics };
    let condition = written.when.as_deref().map(|text| parse(&owner, text, names)).transpose()?;
    let clear = written.clear.as_deref().map(|text| parse(&format!("{owner}, clear"), text, names)).transpose()?;
    if clear.as_ref().is_some_and(|c| c.hold.is_some()) {
        return Err(Error::invalid("ALR0003", format!("{owner}: clear has a \"for\"")).hint("Write keep_firing_for = \"…\" instead."));
    }
    let look = match (&written.sql, condition) {
        (None, Some(condition)) => {
            if written.every.is_some() || written.timeout.is_some() {
                return Err(Error::invalid("ALR0003", format!("{owner}: every and timeout are for rules with sql")).hint("Metrics are looked at every [alerts] interval."));
            }
            Look::Metrics(condition)
        }
        (Some(sql), condition) => {
            check_windows(&owner, condition.as_ref())?;
            if [written.every, written.timeout].into_iter().flatten().any(|length| length.is_zero()) {
                return Err(Error::invalid("ALR0003", format!("{owner}: every and timeout cannot be zero")).hint("Write durations such as every = \"60s\", timeout = \"30s\"."));
            }
            Look::Query { sql: sql.clone(), condition, every: written.every.unwrap_or(Duration::from_secs(60)), timeout: written.timeout.unwrap_or(Duration::from_secs(30)) }
        }
        (None, None) => return Err(Error::invalid("ALR0003", format!("{owner} looks at nothing")).hint("Give it when = \"a condition over metrics\", or sql = \"SELECT …\".")),
    };
    if written.hold.is_some() && look.hold().is_some() {
        return Err(Error::invalid("ALR0003", format!("{owner} says twice how long it must last")).hint("Write it at the end of the condition, or as for = \"5m\"."));
    }
    let severity = match &written.severity {
        Some(text) => Severity::read(text).ok_or_else(|| no_severity(&owner, text))?,
        None => Severity::P2,
    };
    let summary = written.summary.clone().unwrap_or_else(|| format!("{} holds", written.when.as_deref().or(written.sql.as_deref()).unwrap_or_default()));
    Ok(Rule {
        name: written.name.clone(),
        clear,
        hold: written.hold.or(look.hold()).unwrap_or_default(),
        look,
        keep: written.keep_firing_for.unwrap_or(settings.keep_firing_for),
        severity,
        summary,
        labels: written.labels.clone(),
        runbook: written.runbook.clone(),
        routes: written.routes.clone(),
        default: false,
    })
}

/// The rows of a query have no past.
fn check_windows(owner: &str, condition: Option<&Condition>) -> Result<()> {
    match condition.map(Condition::windows) {
        Some(windows) if !windows.is_empty() => {
            Err(Error::invalid("ALR0003", format!("{owner}: the rows of a query have no past to look back on")).hint("Compute the change in the query itself, or use a metric."))
        }
        _ => Ok(()),
    }
}

fn route(name: &str, written: &WrittenRoute, settings: &Settings, environment: Environment<'_>) -> Result<Route> {
    let owner = format!("route \"{name}\"");
    let severities = written.severities.iter().map(|text| Severity::read(text).ok_or_else(|| no_severity(&owner, text))).collect::<Result<_>>()?;
    Ok(Route {
        severities,
        labels: written.labels.clone(),
        rules: written.rules.clone(),
        group_by: written.group_by.clone().unwrap_or_else(|| settings.group_by.clone()),
        repeat: written.repeat_interval.unwrap_or(settings.repeat_interval),
        target: Target::new(name, &written.target, environment)?,
    })
}
