//! A Slack incoming webhook.

use serde_json::json;
use watershed_types::Secret;

use super::Refused;
use super::http::{Client, Post};
use crate::message::{Action, Message};
use crate::rule::Severity;

/// A channel of Slack.
#[derive(Debug, Clone)]
pub struct Slack {
    /// The webhook's address, which is a secret.
    pub url: Secret,
    /// Another channel than the webhook's own.
    pub channel: Option<String>,
}

impl Slack {
    /// Sends one message.
    pub fn send(&self, route: &str, client: &Client, message: &Message) -> Result<(), Refused> {
        let color = match (message.action, message.severity) {
            (Action::Resolve, _) => "#2eb67d",
            (_, Severity::P0 | Severity::P1) => "#e01e5a",
            (_, Severity::P2) => "#ecb22e",
            (_, Severity::P3) => "#36c5f0",
        };
        let mut body = json!({
            "text": escaped(&message.title()),
            "attachments": [{ "color": color, "text": format!("```{}```", escaped(&message.text())), "mrkdwn_in": ["text"] }],
        });
        if let Some(channel) = &self.channel {
            body["channel"] = json!(channel);
        }
        let post = Post { url: &self.url, content_type: "application/json", headers: vec![], body: body.to_string().into_bytes(), secrets: vec![&self.url] };
        client.post(route, "Slack", post)
    }
}

/// Slack's own three characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
