//! Any HTTP server that takes JSON.
//!
//! ```text
//! X-Watershed-Signature: t=1767225600,v1=<hex of HMAC-SHA256(secret, "1767225600." + body)>
//! ```
//!
//! The time is signed too, so that a receiver can refuse what is old.

use hyper::header::{HeaderName, HeaderValue};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use watershed_types::{Error, Result, Secret};

use super::http::{Client, Post, header};
use super::{Again, Refused};
use crate::message::Message;

/// A server.
#[derive(Debug, Clone)]
pub struct Webhook {
    url: Secret,
    secret: Option<Secret>,
    headers: Vec<(HeaderName, Secret)>,
}

impl Webhook {
    /// Checks the headers.
    pub fn new(route: &str, url: Secret, secret: Option<Secret>, headers: Vec<(String, Secret)>) -> Result<Webhook> {
        let mut checked = Vec::new();
        for (name, value) in headers {
            let wrong = || Error::invalid("ALR0004", format!("route \"{route}\": header \"{}\" cannot be sent", name.escape_debug()));
            let parsed: HeaderName = name.parse().map_err(|_| wrong().hint("Names of headers are letters, digits and dashes."))?;
            HeaderValue::from_str(value.expose()).map_err(|_| wrong().hint("Its value has a character that headers cannot hold."))?;
            checked.push((parsed, value));
        }
        Ok(Webhook { url, secret, headers: checked })
    }

    /// Sends one message.
    pub fn send(&self, route: &str, client: &Client, message: &Message, id: &str) -> std::result::Result<(), Refused> {
        let body = serde_json::to_vec(message).map_err(|e| never(route, e.into()))?;
        let mut headers: Vec<_> = self.headers.iter().filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(value.expose()).ok()?))).collect();
        headers.extend(header("x-watershed-event", message.action.as_str()));
        headers.extend(header("x-watershed-delivery", id));
        headers.extend(header("x-watershed-dedup-key", &message.dedup_key));
        if let Some(secret) = &self.secret {
            let at = chrono::Utc::now().timestamp();
            let signature = sign(secret, at, &body).map_err(|e| never(route, e.into()))?;
            headers.extend(header("x-watershed-signature", &format!("t={at},v1={signature}")));
        }
        let secrets = self.headers.iter().map(|(_, value)| value).chain(&self.secret).chain([&self.url]).collect();
        client.post(route, "the webhook", Post { url: &self.url, content_type: "application/json", headers, body, secrets })
    }
}

fn never(route: &str, cause: Box<dyn std::error::Error + Send + Sync>) -> Refused {
    Refused { error: Error::internal("ALR0009", format!("route \"{route}\": the message cannot be written")).caused_by(cause), again: Again::Never }
}

/// The signature of a body at a time.
pub fn sign(secret: &Secret, at: i64, body: &[u8]) -> std::result::Result<String, openssl::error::ErrorStack> {
    let key = PKey::hmac(secret.expose().as_bytes())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    signer.update(format!("{at}.").as_bytes())?;
    signer.update(body)?;
    Ok(signer.sign_to_vec()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
