//! A rule: what is looked at, how long it must last, who hears of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::expression::Condition;
use crate::sample::Labels;

/// How bad it is. P0 wakes somebody up; P3 can wait for a working day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Data stands still or is in danger.
    P0,
    /// It will, within the hour.
    P1,
    /// Worth a look today.
    P2,
    /// Worth knowing.
    P3,
}

impl Severity {
    /// All, the worst first.
    pub const ALL: [Severity; 4] = [Self::P0, Self::P1, Self::P2, Self::P3];

    /// Reads `P1`, in any case.
    pub fn read(text: &str) -> Option<Severity> {
        Self::ALL.into_iter().find(|severity| severity.to_string().eq_ignore_ascii_case(text.trim()))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a rule looks at.
#[derive(Debug, Clone)]
pub enum Look {
    /// Metrics of the running process.
    Metrics(Condition),
    /// A query over the project. Without a condition every row is a finding; with one, its number columns are metrics
    /// and its other columns labels.
    Query {
        /// The query.
        sql: String,
        /// What must hold of its rows.
        condition: Option<Condition>,
        /// How often it is asked.
        every: Duration,
        /// After which it is given up.
        timeout: Duration,
    },
}

impl Look {
    /// How long it must last, where the condition says.
    pub fn hold(&self) -> Option<Duration> {
        match self {
            Self::Metrics(condition) => condition.hold,
            Self::Query { condition, .. } => condition.as_ref().and_then(|c| c.hold),
        }
    }
}

/// A rule, checked.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name: lower case, digits and dashes.
    pub name: String,
    /// What it looks at.
    pub look: Look,
    /// What must hold before an alert that fired counts as over. Without it: that the condition does not hold.
    pub clear: Option<Condition>,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How long it must be over before it is resolved.
    pub keep: Duration,
    /// How bad it is.
    pub severity: Severity,
    /// What a person reads first. `{{label}}` and `{{value}}` are filled in.
    pub summary: String,
    /// Put on each of its alerts.
    pub labels: Labels,
    /// The page that says what to do: a name in `docs/runbooks/`, or an address.
    pub runbook: Option<String>,
    /// The only routes it goes to; all that want it, if empty.
    pub routes: Vec<String>,
    /// True for one of the default set.
    pub default: bool,
}

impl Rule {
    /// The condition as text, for people.
    pub fn condition(&self) -> String {
        let hold = if self.hold.is_zero() { String::new() } else { format!(" for {}", crate::expression::duration(self.hold)) };
        match &self.look {
            Look::Metrics(condition) => format!("{}{hold}", condition.expression),
            Look::Query { sql, condition: Some(condition), .. } => format!("{} of ({sql}){hold}", condition.expression),
            Look::Query { sql, condition: None, .. } => format!("rows of ({sql}){hold}"),
        }
    }

    /// The summary with its places filled in.
    pub fn summary_for(&self, labels: &Labels, value: f64) -> String {
        let mut text = self.summary.replace("{{value}}", &number(value));
        for (label, value) in labels {
            text = text.replace(&format!("{{{{{label}}}}}"), value);
        }
        text
    }
}

/// A number as people read it: whole if large, else three digits that count.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        some if some >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
