//! Where messages go.
//!
//! **Owns** what each kind of receiver wants to get, and whether a failure may pass. **Does not own** waiting and trying
//! again: that is the outbox's.
//!
//! I1: an error names the route and the kind of receiver, never its address or a key; what a receiver answers is shown
//! without them.

mod email;
mod http;
mod pagerduty;
mod slack;
mod sns;
mod webhook;

use std::time::Duration;

use watershed_types::{Error, Result, Secret};

use crate::message::Message;
use crate::rule::Severity;
use crate::settings::WrittenTarget;
use crate::variables::{Environment, resolve};

pub use http::Client;

/// A receiver.
#[derive(Debug, Clone)]
pub enum Target {
    /// PagerDuty, Events API v2.
    PagerDuty(pagerduty::PagerDuty),
    /// A Slack incoming webhook.
    Slack(slack::Slack),
    /// Any HTTP server that takes JSON.
    Webhook(webhook::Webhook),
    /// An SNS topic.
    Sns(sns::Sns),
    /// Mail.
    Email(email::Email),
    /// The log of the process.
    Log,
}

/// Why a message did not arrive, and what to do with it.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// Whether it is sent again.
    pub again: Again,
}

/// Whether a message is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After a while, or after as long as the receiver asks for.
    Later(Option<Duration>),
    /// Never: the receiver does not take this message.
    Never,
}

impl Target {
    /// Checks a route's settings and puts its secrets in.
    pub fn new(route: &str, written: &WrittenTarget, environment: Environment<'_>) -> Result<Target> {
        let secret = |written, key: &str| resolve(written, &format!("[alerts.routes.{route}] {key}"), environment);
        let address = |written, key: &str| secret(written, key).and_then(|value| http::check_url(route, key, value));
        Ok(match written {
            WrittenTarget::PagerDuty { routing_key, url } => {
                let url = url.as_ref().map(|url| address(url, "url")).transpose()?;
                Self::PagerDuty(pagerduty::PagerDuty { url: url.unwrap_or_else(pagerduty::usual_url), routing_key: secret(routing_key, "routing_key")? })
            }
            WrittenTarget::Slack { url, channel } => Self::Slack(slack::Slack { url: address(url, "url")?, channel: channel.clone() }),
            WrittenTarget::Webhook { url, secret: signed, headers } => {
                let signed = signed.as_ref().map(|s| secret(s, "secret")).transpose()?;
                let headers = headers.iter().map(|(name, value)| Ok((name.clone(), secret(value, &format!("headers.{name}"))?))).collect::<Result<_>>()?;
                Self::Webhook(webhook::Webhook::new(route, address(url, "url")?, signed, headers)?)
            }
            WrittenTarget::Sns { topic_arn, region, access_key_id, secret_access_key, session_token, url } => {
                let url = url.as_ref().map(|url| address(url, "url")).transpose()?;
                let token = session_token.as_ref().map(|t| secret(t, "session_token")).transpose()?;
                let keys = sns::Keys { id: secret(access_key_id, "access_key_id")?, secret: secret(secret_access_key, "secret_access_key")?, token };
                Self::Sns(sns::Sns::new(route, secret(topic_arn, "topic_arn")?, region.clone(), keys, url)?)
            }
            WrittenTarget::Email { url, from, to } => Self::Email(email::Email::new(route, secret(url, "url")?, from, to)?),
            WrittenTarget::Log {} => Self::Log,
        })
    }

    /// What kind it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PagerDuty(_) => "pagerduty",
            Self::Slack(_) => "slack",
            Self::Webhook(_) => "webhook",
            Self::Sns(_) => "sns",
            Self::Email(_) => "email",
            Self::Log => "log",
        }
    }

    /// Sends one message; `id` is the same whenever this message is sent again.
    pub fn send(&self, route: &str, client: &Client, message: &Message, id: &str) -> std::result::Result<(), Refused> {
        match self {
            Self::PagerDuty(to) => to.send(route, client, message),
            Self::Slack(to) => to.send(route, client, message),
            Self::Webhook(to) => to.send(route, client, message, id),
            Self::Sns(to) => to.send(route, client, message, id),
            Self::Email(to) => to.send(route, message, id),
            Self::Log => {
                log(message);
                Ok(())
            }
        }
    }
}

fn log(message: &Message) {
    let (title, details) = (message.title(), message.text());
    if message.firing.is_empty() || message.severity > Severity::P1 {
        tracing::warn!(alert = message.dedup_key, action = message.action.as_str(), "{title}\n{details}");
    } else {
        tracing::error!(alert = message.dedup_key, action = message.action.as_str(), "{title}\n{details}");
    }
}

/// The text without the secrets in it.
fn without(text: &str, secrets: &[&Secret]) -> String {
    let mut shown = text.to_owned();
    for secret in secrets.iter().map(|s| s.expose()).filter(|s| s.len() >= 4) {
        shown = shown.replace(secret, "***");
    }
    shown
}
