//! One look at every rule: samples and answers in, alerts and messages out.
//!
//! **Owns** which alerts there are. **Does not own** clocks, threads, files: what it knows is [`Memory`], which its owner
//! keeps.
//!
//! I1: the same looks make the same alerts and messages, whatever happens between them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_types::Error;

use crate::book::{Alert, Event, Page, RuleView, State, mark};
use crate::expression::{Condition, Evaluation};
use crate::marks::Said;
use crate::message::{Message, Told};
use crate::notify::{Firing, Groups, messages};
use crate::plan::Plan;
use crate::rule::{Look, Rule};
use crate::sample::{History, Labels, Sample, Samples};
use crate::state::{Change, Phase, Seen, Timing, step};

/// Alerts that one rule may have at once; a label with more values than that is no label.
const ALERTS_PER_RULE: usize = 200;
/// Events that are remembered.
const EVENTS_KEPT: usize = 200;
/// Looks that may fail or be missed in a row before lasting starts over.
const LOOKS_MISSED: u32 = 4;

/// A cell of a query's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number.
    Number(f64),
    /// Anything else, as text.
    Text(String),
    /// Nothing.
    Null,
}

/// What a query found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

/// An alert that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Active {
    /// What is told of it.
    pub told: Told,
    /// How far it has got.
    pub phase: Phase,
}

/// What is known from earlier looks; it survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Alerts by id.
    pub active: BTreeMap<String, Active>,
    /// What routes were told.
    pub groups: Groups,
    /// What happened, the newest first.
    pub events: VecDeque<Event>,
}

/// What a look can use.
pub struct View<'v> {
    /// Microseconds since 1970.
    pub at: i64,
    /// Metrics; `None` if they could not be had.
    pub samples: Option<&'v Samples>,
    /// New answers of queries, by rule.
    pub answers: HashMap<String, Result<Rows, Error>>,
    /// What people said.
    pub said: &'v Said,
}

/// Rules at work.
pub struct Evaluator {
    /// Rules and routes.
    pub plan: Plan,
    project: String,
    history: History,
    memory: Memory,
    errors: BTreeMap<String, String>,
}

/// What a look came to.
pub struct Looked {
    /// Messages that leave, each with its route.
    pub messages: Vec<(String, Message)>,
    /// Alerts that are over.
    pub resolved: Vec<String>,
}

impl Evaluator {
    /// Goes on where `memory` ends.
    pub fn new(project: &str, plan: Plan, memory: Memory) -> Evaluator {
        let windows: Vec<(String, Duration)> =
            plan.rules.iter().flat_map(conditions).flat_map(|condition| condition.windows().into_iter().map(|(name, window)| (name.to_owned(), window))).collect();
        let history = History::new(windows.iter().map(|(name, window)| (name.as_str(), *window)));
        Evaluator { plan, project: project.to_owned(), history, memory, errors: BTreeMap::new() }
    }

    /// What it knows.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Looks at every rule.
    pub fn look(&mut self, mut view: View<'_>) -> Looked {
        if let Some(samples) = view.samples {
            self.history.take(view.at, samples);
        }
        let mut resolved = self.retire(view.at);
        for index in 0..self.plan.rules.len() {
            let answer = view.answers.remove(&self.plan.rules[index].name);
            resolved.extend(self.look_at(index, view.at, view.samples, answer));
        }
        let firing: Vec<Firing> = self.memory.active.values().filter_map(|active| firing(active, view.said, view.at)).collect();
        let messages = messages(&self.project, &self.plan, &mut self.memory.groups, &firing, view.at);
        self.memory.events.truncate(EVENTS_KEPT);
        Looked { messages, resolved }
    }

    /// Ends the alerts of rules that are gone.
    fn retire(&mut self, at: i64) -> Vec<String> {
        let rules: BTreeSet<&str> = self.plan.rules.iter().map(|rule| rule.name.as_str()).collect();
        let gone: Vec<String> = self.memory.active.values().filter(|active| !rules.contains(active.told.rule.as_str())).map(|active| active.told.id.clone()).collect();
        for id in &gone {
            if let Some(active) = self.memory.active.remove(id) {
                note(&mut self.memory.events, at, &active.told, Change::Resolved);
            }
        }
        gone
    }

    /// Looks at one rule; says which of its alerts are over.
    fn look_at(&mut self, index: usize, at: i64, samples: Option<&Samples>, answer: Option<Result<Rows, Error>>) -> Vec<String> {
        let rule = &self.plan.rules[index];
        let answer = answer.map(|answer| answer.and_then(|rows| found_in_rows(rule, &rows, at)));
        let (found, gap) = match (&rule.look, answer) {
            (Look::Metrics(_), _) => (samples.map(|samples| found_in(rule, samples, &self.history, at)), self.plan.interval),
            // No new answer: nothing was seen.
            (Look::Query { .. }, None) => return vec![],
            (Look::Query { every, .. }, Some(Ok(found))) => (Some(found), *every),
            (Look::Query { every, .. }, Some(Err(error))) => {
                metrics::counter!("watershed_alert_rule_errors_total", "rule" => rule.name.clone()).increment(1);
                tracing::warn!(rule = rule.name, error = %error.report(), "a rule could not be looked at");
                self.errors.insert(rule.name.clone(), error.message().to_owned());
                (None, *every)
            }
        };
        if found.is_some() {
            self.errors.remove(&rule.name);
        }
        let timing = Timing { hold: rule.hold, keep: rule.keep, gap: gap.saturating_mul(LOOKS_MISSED) };
        let earlier: Vec<String> = self.memory.active.iter().filter(|(_, active)| active.told.rule == rule.name).map(|(id, _)| id.clone()).collect();
        let mut over = Vec::new();
        let Some(mut found) = found else { return over };
        if found.holds.len() > ALERTS_PER_RULE {
            tracing::warn!(rule = rule.name, alerts = found.holds.len(), "this rule has too many alerts at once; only {ALERTS_PER_RULE} are kept");
            found.holds.truncate(ALERTS_PER_RULE);
        }
        let holding: BTreeMap<String, (Labels, f64)> = found.holds.into_iter().map(|(labels, value)| (id_of(rule, &labels), (labels, value))).collect();
        for id in holding.keys().chain(earlier.iter().filter(|id| !holding.contains_key(*id))) {
            let active = self.memory.active.get(id);
            let seen = match (&found.clear, active) {
                _ if holding.contains_key(id) => Seen::Holds,
                (Some(clear), Some(active)) if !clear.iter().any(|(labels, _)| agree(labels, &active.told.labels)) => Seen::Between,
                _ => Seen::Over,
            };
            let (phase, change) = step(active.map(|active| active.phase), &timing, seen, at);
            let told = match (holding.get(id), active) {
                (Some((labels, value)), active) => tell(rule, &self.plan, id, labels, *value, active.map_or(at, |active| active.told.since)),
                (None, Some(active)) => active.told.clone(),
                (None, None) => continue,
            };
            if let Some(change) = change {
                note(&mut self.memory.events, at, &told, change);
            }
            match phase {
                Some(phase) => {
                    self.memory.active.insert(id.clone(), Active { told: Told { since: began(&phase), ..told }, phase });
                }
                None => {
                    self.memory.active.remove(id);
                    over.push(id.clone());
                }
            }
        }
        over
    }

    /// What others see.
    pub fn page(&self, said: &Said, at: i64) -> Page {
        let mut alerts: Vec<Alert> = self.memory.active.values().map(shown).collect();
        alerts.sort_by(|a, b| (a.severity, a.state == State::Pending, &a.id).cmp(&(b.severity, b.state == State::Pending, &b.id)));
        let view = |rule: &Rule| RuleView {
            name: rule.name.clone(),
            severity: rule.severity,
            condition: rule.condition(),
            runbook: self.plan.runbook(rule),
            error: self.errors.get(&rule.name).cloned(),
        };
        let mut page = Page { at, alerts, history: self.memory.events.iter().cloned().collect(), rules: self.plan.rules.iter().map(view).collect() };
        mark(&mut page, said, at);
        page
    }
}

fn conditions(rule: &Rule) -> Vec<&Condition> {
    let look = match &rule.look {
        Look::Metrics(condition) => Some(condition),
        Look::Query { condition, .. } => condition.as_ref(),
    };
    look.into_iter().chain(&rule.clear).collect()
}

/// What a look at a rule found.
pub struct Found {
    /// Series for which its condition holds.
    pub holds: Vec<(Labels, f64)>,
    /// Those for which its `clear` holds, if it has one.
    pub clear: Option<Vec<(Labels, f64)>>,
}

/// Looks at a rule over metrics.
pub fn found_in(rule: &Rule, samples: &Samples, history: &History, at: i64) -> Found {
    let evaluation = Evaluation { samples, history, at };
    let of = |condition: &Condition| evaluation.of(&condition.expression).series();
    let holds = match &rule.look {
        Look::Metrics(condition) => of(condition),
        Look::Query { condition, .. } => condition.as_ref().map(of).unwrap_or_default(),
    };
    Found { holds, clear: rule.clear.as_ref().map(of) }
}

/// Looks at a rule over the rows of its query. Errors: `ALR0010` if its conditions name what is no number of theirs.
pub fn found_in_rows(rule: &Rule, rows: &Rows, at: i64) -> Result<Found, Error> {
    if let Some(wrong) = unanswered(rule, rows) {
        let hint = format!("The columns of its query are {}; names without quotes are in lower case there.", rows.columns.join(", "));
        return Err(Error::invalid("ALR0010", format!("its condition looks at \"{wrong}\", which is no column of numbers of its query")).hint(hint));
    }
    let labels_of = |row: &[Cell]| -> Labels {
        let named = rows.columns.iter().zip(row);
        named.filter_map(|(column, cell)| if let Cell::Text(text) = cell { Some((column.clone(), text.clone())) } else { None }).collect()
    };
    let numbers = |row: &[Cell]| -> Vec<(String, f64)> {
        let named = rows.columns.iter().zip(row);
        named.filter_map(|(column, cell)| if let Cell::Number(number) = cell { Some((column.clone(), *number)) } else { None }).collect()
    };
    if let Look::Query { condition: None, .. } = &rule.look {
        // Two rows with the same labels are one alert.
        let mut holds: BTreeMap<Labels, f64> = BTreeMap::new();
        for row in &rows.rows {
            holds.entry(labels_of(row)).or_insert_with(|| numbers(row).first().map_or(1.0, |(_, value)| *value));
        }
        return Ok(Found { holds: holds.into_iter().collect(), clear: None });
    }
    let samples = rows.rows.iter().flat_map(|row| numbers(row).into_iter().map(|(name, value)| Sample { name, labels: labels_of(row), value }));
    let samples = Samples::new(samples);
    Ok(found_in(rule, &samples, &History::default(), at))
}

/// What a rule's conditions look at and its query does not answer with numbers. A query that could not be asked has no columns.
fn unanswered<'r>(rule: &'r Rule, rows: &Rows) -> Option<&'r str> {
    if rows.columns.is_empty() {
        return None;
    }
    let is_number = |name: &str| {
        let column = rows.columns.iter().position(|column| column == name);
        column.is_some_and(|column| !rows.rows.iter().any(|row| matches!(row.get(column), Some(Cell::Text(_)))))
    };
    conditions(rule).into_iter().flat_map(Condition::selectors).map(|selector| selector.name.as_str()).find(|name| !is_number(name))
}

/// A name for a rule and labels, fit for a path.
fn id_of(rule: &Rule, labels: &Labels) -> String {
    if labels.is_empty() {
        return rule.name.clone();
    }
    let text: String = labels.iter().map(|(label, value)| format!("{label}\u{1f}{value}\u{1e}")).collect();
    format!("{}-{:08x}", rule.name, xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> 32)
}

/// True if the labels that both have are the same.
fn agree(one: &Labels, other: &Labels) -> bool {
    one.iter().all(|(label, value)| other.get(label).is_none_or(|theirs| theirs == value))
}

fn tell(rule: &Rule, plan: &Plan, id: &str, labels: &Labels, value: f64, since: i64) -> Told {
    let mut all = labels.clone();
    all.extend(rule.labels.clone());
    Told {
        id: id.to_owned(),
        rule: rule.name.clone(),
        severity: rule.severity,
        summary: rule.summary_for(&all, value),
        labels: all,
        value: Some(value),
        runbook: plan.runbook(rule),
        since,
    }
}

fn began(phase: &Phase) -> i64 {
    match phase {
        Phase::Pending { since, .. } | Phase::Firing { since, .. } => *since,
    }
}

fn note(events: &mut VecDeque<Event>, at: i64, told: &Told, change: Change) {
    events.push_front(Event { at, id: told.id.clone(), rule: told.rule.clone(), change, summary: told.summary.clone() });
}

fn firing(active: &Active, said: &Said, at: i64) -> Option<Firing> {
    let Phase::Firing { fired, .. } = active.phase else { return None };
    let told = &active.told;
    let silenced = said.silence(&told.id, &told.rule, &told.labels, at).is_some();
    Some(Firing { silenced, acknowledged: said.acknowledgement(&told.id, fired).is_some(), told: told.clone() })
}

fn shown(active: &Active) -> Alert {
    let (state, fired_at) = match active.phase {
        Phase::Pending { .. } => (State::Pending, None),
        Phase::Firing { fired, .. } => (State::Firing, Some(fired)),
    };
    let told = active.told.clone();
    Alert {
        id: told.id,
        rule: told.rule,
        severity: told.severity,
        state,
        labels: told.labels,
        value: told.value.filter(|value| value.is_finite()),
        summary: told.summary,
        runbook: told.runbook,
        since: told.since,
        fired_at,
        silenced_until: None,
        acked_by: None,
        acked_at: None,
    }
}
