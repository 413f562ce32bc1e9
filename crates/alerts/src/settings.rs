//! `[alerts]` of `watershed.toml`, as written.
//!
//! **Owns** the shape and the defaults. **Does not own** what it means: [`crate::plan`] checks it.
//!
//! I1: what may hold a secret is a [`Written`], which prints its `${VAR}` and never the value.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A text that may hold `${VAR}`. Prints as `***` unless it is nothing but one variable.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Written(pub(crate) String);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = self.0.starts_with("${") && self.0.find('}') == Some(self.0.len() - 1) && !self.0.contains(":-");
        f.write_str(if variable { &self.0 } else { "***" })
    }
}

/// `[alerts]`. An empty section means the default rules, told to the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Off: no rule is looked at.
    pub enabled: bool,
    /// How often rules are looked at.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// Off: only the rules written here.
    pub default_rules: bool,
    /// Changes to default rules, by their names.
    pub default: BTreeMap<String, Change>,
    /// Rules of the project.
    pub rules: Vec<WrittenRule>,
    /// Where messages go, by name.
    pub routes: BTreeMap<String, WrittenRoute>,
    /// Labels whose values put alerts into one message; `rule` and `severity` count as labels.
    pub group_by: Vec<String>,
    /// How long after a message the next one of the same group may leave.
    #[serde(deserialize_with = "duration")]
    pub cooldown: Duration,
    /// After how long an alert that goes on is told again.
    #[serde(deserialize_with = "duration")]
    pub repeat_interval: Duration,
    /// How long a condition must be over before its alert is resolved, unless the rule says otherwise.
    #[serde(deserialize_with = "duration")]
    pub keep_firing_for: Duration,
    /// Where `docs/runbooks/` can be read by those who get messages, such as `https://wiki.example.com/runbooks`.
    pub runbooks: Option<String>,
    /// Messages that may wait for a route.
    pub outbox_messages: usize,
    /// How often `watershed up` audits its own project; never without it.
    #[serde(deserialize_with = "maybe_duration")]
    pub verify_every: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            default_rules: true,
            default: BTreeMap::new(),
            rules: vec![],
            routes: BTreeMap::new(),
            group_by: vec!["rule".to_owned()],
            cooldown: Duration::from_secs(60),
            repeat_interval: Duration::from_secs(4 * 3_600),
            keep_firing_for: Duration::from_secs(60),
            runbooks: None,
            outbox_messages: 1_000,
            verify_every: None,
        }
    }
}

/// `[alerts.default.NAME]`: a change to a default rule.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Off: the rule is not looked at.
    pub enabled: Option<bool>,
    /// The number it compares with.
    pub threshold: Option<f64>,
    /// How long it must last.
    #[serde(rename = "for", deserialize_with = "maybe_duration")]
    pub hold: Option<Duration>,
    /// How bad it is.
    pub severity: Option<String>,
    /// How long it must be over.
    #[serde(deserialize_with = "maybe_duration")]
    pub keep_firing_for: Option<Duration>,
    /// The only routes it goes to.
    pub routes: Option<Vec<String>>,
}

/// `[[alerts.rules]]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenRule {
    /// Its name.
    pub name: String,
    /// The condition.
    pub when: Option<String>,
    /// The query.
    pub sql: Option<String>,
    /// How often the query is asked.
    #[serde(deserialize_with = "maybe_duration")]
    pub every: Option<Duration>,
    /// After which the query is given up.
    #[serde(deserialize_with = "maybe_duration")]
    pub timeout: Option<Duration>,
    /// How long it must hold.
    #[serde(rename = "for", deserialize_with = "maybe_duration")]
    pub hold: Option<Duration>,
    /// What must hold before it counts as over.
    pub clear: Option<String>,
    /// How long it must be over.
    #[serde(deserialize_with = "maybe_duration")]
    pub keep_firing_for: Option<Duration>,
    /// How bad it is; P2 without it.
    pub severity: Option<String>,
    /// What a person reads first.
    pub summary: Option<String>,
    /// Put on each of its alerts.
    pub labels: BTreeMap<String, String>,
    /// The page that says what to do.
    pub runbook: Option<String>,
    /// The only routes it goes to.
    pub routes: Vec<String>,
}

/// `[alerts.routes.NAME]`: what it wants, and where it leads.
#[derive(Debug, Clone, Deserialize)]
pub struct WrittenRoute {
    /// Only alerts this bad.
    #[serde(default)]
    pub severities: Vec<String>,
    /// Only alerts with these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Only these rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Instead of `[alerts] group_by`.
    pub group_by: Option<Vec<String>>,
    /// Instead of `[alerts] repeat_interval`.
    #[serde(default, deserialize_with = "maybe_duration")]
    pub repeat_interval: Option<Duration>,
    /// Where it leads.
    #[serde(flatten)]
    pub target: WrittenTarget,
}

/// The kinds of routes.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum WrittenTarget {
    /// PagerDuty, Events API v2.
    PagerDuty {
        /// The integration's key.
        routing_key: Written,
        /// Another address than PagerDuty's own.
        url: Option<Written>,
    },
    /// A Slack incoming webhook.
    Slack {
        /// Its address, which is a secret.
        url: Written,
        /// Another channel than the webhook's own.
        channel: Option<String>,
    },
    /// Any HTTP server that takes JSON.
    Webhook {
        /// Where to.
        url: Written,
        /// Signs every message with HMAC-SHA256.
        secret: Option<Written>,
        /// More headers.
        #[serde(default)]
        headers: BTreeMap<String, Written>,
    },
    /// An SNS topic.
    Sns {
        /// The topic.
        topic_arn: Written,
        /// The region; read from the topic without it.
        region: Option<String>,
        /// Whose key.
        access_key_id: Written,
        /// Its secret.
        secret_access_key: Written,
        /// For temporary keys.
        session_token: Option<Written>,
        /// Another address than AWS's own.
        url: Option<Written>,
    },
    /// Mail.
    Email {
        /// `smtps://user:password@host`, `smtp://host:587?tls=required`, `smtp://host:25`.
        url: Written,
        /// The sender.
        from: String,
        /// The readers.
        to: Vec<String>,
    },
    /// The log of the process.
    Log {},
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    watershed_types::parse_duration(&text).ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not a duration such as \"10s\"")))
}

fn maybe_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
