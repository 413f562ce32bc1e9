//! A project's alerts as the API shows them.

use std::time::Duration;

use watershed_alerts::{Alert, Book, Change, Scope, Severity};
use watershed_serve::{AlertBook, AlertChange, AlertList, AlertView};
use watershed_types::Result;

/// The book of a running project.
pub struct ProjectAlerts(pub Book);

/// Which node of the pipeline's graph an alert is about, by its labels.
const NODES: [&str; 3] = ["sink", "table", "source"];

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::P0 | Severity::P1 => "critical",
        Severity::P2 => "warning",
        Severity::P3 => "info",
    }
}

fn view(alert: Alert) -> AlertView {
    let target = NODES.iter().find_map(|kind| alert.labels.get(*kind).map(|name| format!("{kind}:{name}")));
    let mut labels: std::collections::BTreeMap<String, String> = alert.labels.into_iter().collect();
    labels.insert("priority".to_owned(), format!("{:?}", alert.severity));
    if let Some(runbook) = alert.runbook {
        labels.insert("runbook".to_owned(), runbook);
    }
    AlertView {
        id: alert.id,
        name: alert.rule,
        severity: severity(alert.severity).to_owned(),
        state: alert.state.as_str().to_owned(),
        since: Some(alert.fired_at.unwrap_or(alert.since)),
        value: alert.value.map(|value| value.to_string()),
        text: alert.summary,
        target,
        silenced_until: alert.silenced_until,
        acked_by: alert.acked_by,
        acked_at: alert.acked_at,
        labels,
    }
}

impl AlertBook for ProjectAlerts {
    fn available(&self) -> bool {
        true
    }
    fn revision(&self) -> u64 {
        self.0.revision()
    }
    fn list(&self) -> AlertList {
        let changed = |change| match change {
            Change::Fired => "firing",
            Change::Resolved => "resolved",
        };
        let history = self.0.history().into_iter().map(|event| AlertChange { at: event.at, id: event.id, state: changed(event.change).to_owned(), text: event.summary });
        AlertList { available: true, alerts: self.0.snapshot().into_iter().map(view).collect(), history: history.collect() }
    }
    fn silence(&self, id: &str, seconds: u64, reason: &str, by: &str) -> Option<Result<AlertView>> {
        self.0.find(id).ok()?;
        let scope = Scope { alert: Some(id.to_owned()), ..Scope::default() };
        let done = match seconds {
            0 => self.0.unsilence(id).map(drop),
            seconds => self.0.silence(scope, Duration::from_secs(seconds), by, reason).map(drop),
        };
        Some(done.and_then(|()| self.0.find(id)).map(view))
    }
    fn acknowledge(&self, id: &str, note: &str, by: &str) -> Option<Result<AlertView>> {
        self.0.find(id).ok()?;
        Some(self.0.ack(id, by, note).map(view))
    }
}
