//! Who is told what, as a pure function of the alerts and of what was told before.
//!
//! **Owns** routing, grouping, cooldown, repeats, resolves. **Does not own** sending.
//!
//! I1: a group is opened by a trigger and closed by a resolve; between them come updates (more of it fires) and repeats.
//! I2: two messages of a group are at least `cooldown` apart. What changed back in between is not told.
//! I3: a silenced alert is told of as if it did not fire; but a group that was opened is not closed by a silence.
//! I4: a group whose alerts are all acknowledged is not repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{Action, FORMAT, LISTED, Message, Told};
use crate::plan::{Plan, Route};
use crate::rule::Rule;
use crate::sample::Labels;

/// A firing alert.
#[derive(Debug, Clone)]
pub struct Firing {
    /// What is told of it.
    pub told: Told,
    /// Somebody wants no messages of it.
    pub silenced: bool,
    /// Somebody has it in hand.
    pub acknowledged: bool,
}

/// What a route knows of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What puts its alerts together.
    pub labels: Labels,
    /// Those it was told of, as they were then.
    pub told: BTreeMap<String, Told>,
    /// When it was last told.
    pub told_at: i64,
    /// False after a resolve, until the cooldown is over and it is forgotten.
    pub open: bool,
}

/// What every route knows, by route and group.
pub type Groups = BTreeMap<String, BTreeMap<String, Group>>;

/// True if a route wants a rule's alerts.
fn wants(name: &str, route: &Route, rule: &Rule, told: &Told) -> bool {
    let chosen = if rule.routes.is_empty() { route.rules.is_empty() || route.rules.contains(&rule.name) } else { rule.routes.iter().any(|wanted| wanted == name) };
    chosen && (route.severities.is_empty() || route.severities.contains(&told.severity)) && route.labels.iter().all(|(label, value)| told.labels.get(label) == Some(value))
}

/// The values that put an alert into its group.
fn group_of(route: &Route, told: &Told) -> Labels {
    let value = |label: &str| match label {
        "rule" => Some(told.rule.clone()),
        "severity" => Some(told.severity.to_string()),
        label => told.labels.get(label).cloned(),
    };
    route.group_by.iter().filter_map(|label| Some((label.clone(), value(label)?))).collect()
}

/// A group's name: short enough for every receiver.
fn key_of(labels: &Labels) -> String {
    let text = labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",");
    match text.len() {
        0 => "all".to_owned(),
        1..=120 if text.chars().all(|c| c.is_ascii_graphic()) => text,
        _ => format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())),
    }
}

/// The messages that leave now, each with its route.
pub fn messages(project: &str, plan: &Plan, groups: &mut Groups, firing: &[Firing], at: i64) -> Vec<(String, Message)> {
    let mut leaving = Vec::new();
    groups.retain(|route, _| plan.routes.contains_key(route));
    for (name, route) in &plan.routes {
        let known = groups.entry(name.clone()).or_default();
        let mut wanted: BTreeMap<String, (Labels, Vec<&Firing>)> = BTreeMap::new();
        for alert in firing {
            let Some(rule) = plan.rules.iter().find(|rule| rule.name == alert.told.rule) else { continue };
            if wants(name, route, rule, &alert.told) {
                let labels = group_of(route, &alert.told);
                wanted.entry(key_of(&labels)).or_insert_with(|| (labels, vec![])).1.push(alert);
            }
        }
        let keys: BTreeSet<String> = known.keys().chain(wanted.keys()).cloned().collect();
        for key in keys {
            let (labels, alerts) = wanted.remove(&key).unwrap_or_else(|| (known.get(&key).map(|g| g.labels.clone()).unwrap_or_default(), vec![]));
            let group = known.entry(key.clone()).or_insert_with(|| Group { labels, told: BTreeMap::new(), told_at: i64::MIN, open: false });
            if let Some((action, told, resolved)) = decide(group, &alerts, at, plan.cooldown, route.repeat) {
                let message = compose(project, &key, group, action, told, resolved, at);
                leaving.push((name.clone(), message));
            }
        }
        let cooldown = micros(plan.cooldown);
        known.retain(|_, group| group.open || at.saturating_sub(group.told_at) < cooldown);
    }
    leaving
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// What is told of a group now, if anything: why, what fires, what is over. Notes that it was told.
fn decide(group: &mut Group, alerts: &[&Firing], at: i64, cooldown: Duration, repeat: Duration) -> Option<(Action, Vec<Told>, Vec<Told>)> {
    let since_told = at.saturating_sub(group.told_at);
    if group.told_at != i64::MIN && since_told < micros(cooldown) {
        return None;
    }
    let loud: Vec<&&Firing> = alerts.iter().filter(|alert| !alert.silenced).collect();
    let over: Vec<Told> = group.told.values().filter(|told| alerts.iter().all(|alert| alert.told.id != told.id)).cloned().collect();
    let fresh = loud.iter().any(|alert| !group.told.contains_key(&alert.told.id));
    let action = if !group.open {
        (!loud.is_empty()).then_some(Action::Trigger)?
    } else if alerts.is_empty() {
        Action::Resolve
    } else if fresh {
        Action::Update
    } else if !loud.is_empty() && since_told >= micros(repeat) && loud.iter().any(|alert| !alert.acknowledged) {
        Action::Repeat
    } else {
        return None;
    };
    let told: Vec<Told> = loud.iter().map(|alert| alert.told.clone()).collect();
    // Those silenced meanwhile stay known: their end is still to be told.
    let quiet = alerts.iter().filter(|alert| alert.silenced && group.told.contains_key(&alert.told.id)).map(|alert| alert.told.clone());
    group.told = told.iter().cloned().chain(quiet).map(|told| (told.id.clone(), told)).collect();
    group.told_at = at;
    group.open = action != Action::Resolve;
    Some((action, told, over))
}

fn compose(project: &str, key: &str, group: &Group, action: Action, mut firing: Vec<Told>, mut resolved: Vec<Told>, at: i64) -> Message {
    let worst = firing.iter().chain(&resolved).map(|told| told.severity).min().unwrap_or(crate::rule::Severity::P3);
    firing.sort_by(|a, b| (a.severity, &a.id).cmp(&(b.severity, &b.id)));
    let more = firing.len().saturating_sub(LISTED);
    firing.truncate(LISTED);
    resolved.truncate(LISTED);
    Message {
        format: FORMAT,
        action,
        project: project.to_owned(),
        dedup_key: format!("watershed/{project}/{key}"),
        at,
        severity: worst,
        group: group.labels.clone(),
        firing,
        resolved,
        more,
    }
}
