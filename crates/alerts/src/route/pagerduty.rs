//! PagerDuty, Events API v2: one incident a group, known by its dedup key.

use serde_json::json;
use watershed_types::Secret;

use super::Refused;
use super::http::{Client, Post};
use crate::message::{Action, Message, time};
use crate::rule::Severity;

/// What PagerDuty cuts a summary at.
const SUMMARY_CHARACTERS: usize = 1_024;

/// A service of PagerDuty.
#[derive(Debug, Clone)]
pub struct PagerDuty {
    /// Where events go.
    pub url: Secret,
    /// The integration's key.
    pub routing_key: Secret,
}

/// PagerDuty's own address.
pub fn usual_url() -> Secret {
    Secret::new("https://events.pagerduty.com/v2/enqueue")
}

impl PagerDuty {
    /// Sends one event. A test opens an incident and closes it.
    pub fn send(&self, route: &str, client: &Client, message: &Message) -> Result<(), Refused> {
        match message.action {
            Action::Resolve => self.event(route, client, message, "resolve"),
            Action::Trigger | Action::Update | Action::Repeat => self.event(route, client, message, "trigger"),
            Action::Test => self.event(route, client, message, "trigger").and_then(|()| self.event(route, client, message, "resolve")),
        }
    }

    fn event(&self, route: &str, client: &Client, message: &Message, action: &str) -> Result<(), Refused> {
        let severity = match message.severity {
            Severity::P0 => "critical",
            Severity::P1 => "error",
            Severity::P2 => "warning",
            Severity::P3 => "info",
        };
        let links: Vec<_> = message.firing.iter().filter_map(|told| told.runbook.as_ref().map(|page| (told, page))).filter(|(_, page)| page.contains("://")).collect();
        let links: Vec<_> = links.iter().map(|(told, page)| json!({ "href": page, "text": format!("what to do: {}", told.rule) })).collect();
        let body = json!({
            "routing_key": self.routing_key.expose(),
            "event_action": action,
            "dedup_key": message.dedup_key,
            "client": "watershed",
            "links": links,
            "payload": {
                "summary": message.title().chars().take(SUMMARY_CHARACTERS).collect::<String>(),
                "source": message.project,
                "severity": severity,
                "timestamp": time(message.at),
                "class": message.group.get("rule"),
                "custom_details": { "alerts": message.text(), "firing": message.firing.len() + message.more },
            },
        });
        let post = Post { url: &self.url, content_type: "application/json", headers: vec![], body: body.to_string().into_bytes(), secrets: vec![&self.routing_key, &self.url] };
        client.post(route, "PagerDuty", post)
    }
}
