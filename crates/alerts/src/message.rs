//! What a route is told: a group of alerts that began, go on or are over.

use serde::{Deserialize, Serialize};

use crate::rule::Severity;
use crate::sample::Labels;

/// The format of messages in the outbox.
pub const FORMAT: u32 = 1;
/// Alerts that a message lists; of the others it says how many they are.
pub const LISTED: usize = 50;

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Something fires.
    Trigger,
    /// More fires of what was told already.
    Update,
    /// It still fires.
    Repeat,
    /// All of it is over.
    Resolve,
    /// Somebody wants to see a message.
    Test,
}

impl Action {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Update => "update",
            Self::Repeat => "repeat",
            Self::Resolve => "resolve",
            Self::Test => "test",
        }
    }
}

/// An alert in a message. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Which alert: the same for a rule and its labels, always.
    pub id: String,
    /// Its rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// Its labels.
    pub labels: Labels,
    /// The value that was compared.
    pub value: Option<f64>,
    /// What a person reads first.
    pub summary: String,
    /// The page that says what to do.
    pub runbook: Option<String>,
    /// Since when it holds.
    pub since: i64,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// [`FORMAT`].
    pub format: u32,
    /// Why it is sent.
    pub action: Action,
    /// The project.
    pub project: String,
    /// The same for every message of a group: receivers that know it take a repeat for what it is.
    pub dedup_key: String,
    /// When it was made.
    pub at: i64,
    /// The worst of its alerts.
    pub severity: Severity,
    /// What puts its alerts together.
    pub group: Labels,
    /// What fires.
    pub firing: Vec<Told>,
    /// What is over since the last message.
    pub resolved: Vec<Told>,
    /// Alerts that fire and are not listed.
    pub more: usize,
}

impl Message {
    /// One line.
    pub fn title(&self) -> String {
        let listed = if self.firing.is_empty() { &self.resolved } else { &self.firing };
        let first = listed.first().map_or("", |told| told.summary.as_str());
        let others = listed.len().saturating_sub(1) + self.more;
        let others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        let state = match self.action {
            Action::Resolve => "resolved: ",
            Action::Repeat => "still: ",
            Action::Test => "test: ",
            Action::Trigger | Action::Update => "",
        };
        format!("[{}] {}: {state}{first}{others}", self.severity, self.project)
    }

    /// All there is to say, as plain text.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for (word, told) in self.firing.iter().map(|t| ("firing", t)).chain(self.resolved.iter().map(|t| ("resolved", t))) {
            let labels: Vec<String> = told.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            lines.push(format!("{word} {} {} {}", told.severity, told.rule, labels.join(" ")).trim_end().to_owned());
            lines.push(format!("  {}", told.summary));
            lines.push(format!("  since {}, id {}", time(told.since), told.id));
            lines.extend(told.runbook.iter().map(|page| format!("  what to do: {page}")));
        }
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines.join("\n")
    }
}

/// A time as RFC 3339 has it.
pub fn time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
