//! What the API asks of the program around it.
//!
//! The traits here are all that this crate knows of a project's folder, its lake and its alerts. Their methods block, and are
//! called from threads that may.

use std::collections::BTreeMap;

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watershed_engine::checkpoint::Checkpoint;
use watershed_types::{Error, Result};

/// A project, as the API needs it.
pub trait ProjectAccess: Send + Sync {
    /// A session over the project as it is now: tables by their names, and the schema `system`. Nothing is written through it,
    /// and what its queries take counts against one limit.
    fn session(&self) -> Result<SessionContext>;
    /// A query's error in words.
    fn explain_query(&self, error: &DataFusionError, sql: &str) -> Error;
    /// The checkpoint; `None` before the first epoch.
    fn checkpoint(&self) -> Result<Option<Checkpoint>>;
    /// Which quarantined rows went round again in an epoch that is committed, and why each had been refused.
    fn replayed(&self) -> Result<Vec<(RowKey, String)>>;
    /// Sends refused rows round again, or says what would be sent.
    fn replay(&self, wanted: &ReplayWanted, dry_run: bool) -> Result<Replayed>;
    /// The audit.
    fn verify(&self) -> Result<Vec<AuditFinding>>;
    /// The settings as they are written, secrets masked.
    fn settings(&self) -> Result<serde_json::Value>;
    /// The page of an error code.
    fn error_page(&self, code: &str) -> Option<String>;
    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// What names one quarantined row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// The epoch in which it was refused.
    pub epoch: u64,
    /// The table or sink that refused it.
    pub table: String,
    /// Its source.
    pub source: String,
    /// Its partition.
    pub partition: String,
    /// Its place there.
    pub position: String,
}

/// Which rows to send round again.
#[derive(Debug, Clone)]
pub enum ReplayWanted {
    /// These.
    Rows(Vec<RowKey>),
    /// All that a filter lets through.
    Filter(QuarantineFilter),
}

/// Which rows of the quarantine are meant; what is absent filters nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineFilter {
    /// Refused by this table or sink.
    pub table: Option<String>,
    /// Of this source.
    pub source: Option<String>,
    /// For this reason: corrupt, schema, violation, late, sink.
    pub reason: Option<String>,
    /// In this epoch.
    pub epoch: Option<u64>,
    /// With these words in the detail or in the raw bytes.
    pub text: Option<String>,
}

/// What a replay did, or would do.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Replayed {
    /// The request, if one was written.
    pub request: Option<String>,
    /// Rows sent round.
    pub rows: u64,
    /// Rows left out, and why.
    pub left_out: LeftOut,
    /// True if nothing was written because nothing should be.
    pub dry_run: bool,
}

/// Rows that were not sent round.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct LeftOut {
    /// They went round before.
    pub replayed: u64,
    /// They are results of windows, which have no record of their own.
    pub results: u64,
    /// Their table or sink is not part of the project any more.
    pub gone: u64,
}

/// One line of an audit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditFinding {
    /// What was checked.
    pub check: String,
    /// `ok`, `note` or `fail`.
    pub level: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A project's alerts.
pub trait AlertBook: Send + Sync {
    /// False if the project has none.
    fn available(&self) -> bool;
    /// Grows with every change, so that nobody reads what they know.
    fn revision(&self) -> u64;
    /// All of them, and what happened last.
    fn list(&self) -> AlertList;
    /// Keeps one quiet for so many seconds; 0 ends it. `None` if there is no such alert.
    fn silence(&self, id: &str, seconds: u64, reason: &str, by: &str) -> Option<Result<AlertView>>;
    /// Says that somebody is at it. `None` if there is no such alert.
    fn acknowledge(&self, id: &str, note: &str, by: &str) -> Option<Result<AlertView>>;
}

/// Alerts, and their last changes.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct AlertList {
    /// False if the project has none.
    pub available: bool,
    /// By name.
    pub alerts: Vec<AlertView>,
    /// The newest first.
    pub history: Vec<AlertChange>,
}

/// One alert.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct AlertView {
    /// What names it in requests.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// `ok`, `pending`, `firing` or `resolved`.
    pub state: String,
    /// Since when, microseconds since 1970.
    pub since: Option<i64>,
    /// The value it was judged by.
    pub value: Option<String>,
    /// What it says.
    pub text: String,
    /// The node of the graph it is about.
    pub target: Option<String>,
    /// Quiet until then.
    pub silenced_until: Option<i64>,
    /// Who is at it.
    pub acked_by: Option<String>,
    /// Since when.
    pub acked_at: Option<i64>,
    /// What else is known.
    pub labels: BTreeMap<String, String>,
}

/// One change of an alert.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct AlertChange {
    /// When, microseconds since 1970.
    pub at: i64,
    /// Which.
    pub id: String,
    /// What it became.
    pub state: String,
    /// What it said.
    pub text: String,
}

/// The book of a project without alerts.
pub struct NoAlerts;

impl AlertBook for NoAlerts {
    fn available(&self) -> bool {
        false
    }
    fn revision(&self) -> u64 {
        0
    }
    fn list(&self) -> AlertList {
        AlertList::default()
    }
    fn silence(&self, _: &str, _: u64, _: &str, _: &str) -> Option<Result<AlertView>> {
        None
    }
    fn acknowledge(&self, _: &str, _: &str, _: &str) -> Option<Result<AlertView>> {
        None
    }
}
