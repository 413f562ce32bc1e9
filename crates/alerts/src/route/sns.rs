//! A topic of Amazon SNS, asked by its query protocol and signed with Signature Version 4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use hyper::header::{HeaderName, HeaderValue};
use url::form_urlencoded::Serializer;
use watershed_types::{Error, Result, Secret};

use super::http::{Client, Post};
use super::{Again, Refused};
use crate::message::Message;

/// What SNS cuts a subject at, and how long a message may be in bytes.
const SUBJECT_CHARACTERS: usize = 99;
const MESSAGE_BYTES: usize = 250_000;
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// Whose keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The key's name.
    pub id: Secret,
    /// The key.
    pub secret: Secret,
    /// For temporary keys.
    pub token: Option<Secret>,
}

/// A topic.
#[derive(Debug, Clone)]
pub struct Sns {
    url: Secret,
    topic: Secret,
    region: String,
    keys: Keys,
}

impl Sns {
    /// Checks the topic; its region is in its name.
    pub fn new(route: &str, topic: Secret, region: Option<String>, keys: Keys, url: Option<Secret>) -> Result<Sns> {
        let parts: Vec<&str> = topic.expose().split(':').collect();
        let ["arn", partition, "sns", named, _, _] = parts[..] else {
            return Err(Error::invalid("ALR0004", format!("route \"{route}\": topic_arn is not a topic of SNS")).hint("Write it as arn:aws:sns:REGION:ACCOUNT:NAME."));
        };
        let region = region.unwrap_or_else(|| named.to_owned());
        let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = url.unwrap_or_else(|| Secret::new(format!("https://sns.{region}.{suffix}/")));
        Ok(Sns { url, topic, region, keys })
    }

    /// Publishes one message.
    pub fn send(&self, route: &str, client: &Client, message: &Message, id: &str) -> std::result::Result<(), Refused> {
        let subject: String = message.title().chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(SUBJECT_CHARACTERS).collect();
        let mut text = format!("{}\n\n{}", message.title(), message.text());
        let mut end = MESSAGE_BYTES.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "Publish").append_pair("Version", "2010-03-31").append_pair("TopicArn", self.topic.expose());
        form.append_pair("Subject", &subject).append_pair("Message", &text);
        if self.topic.expose().ends_with(".fifo") {
            form.append_pair("MessageGroupId", &message.dedup_key).append_pair("MessageDeduplicationId", id);
        }
        let body = form.finish().into_bytes();
        let headers = self.signed(&body).map_err(|cause| {
            let error = Error::internal("ALR0009", format!("route \"{route}\": the request to SNS cannot be signed")).caused_by(cause);
            Refused { error, again: Again::Never }
        })?;
        let mut secrets = vec![&self.keys.secret, &self.keys.id, &self.topic, &self.url];
        secrets.extend(&self.keys.token);
        client.post(route, "SNS", Post { url: &self.url, content_type: CONTENT_TYPE, headers, body, secrets })
    }

    fn signed(&self, body: &[u8]) -> std::result::Result<Vec<(HeaderName, HeaderValue)>, Box<dyn std::error::Error + Send + Sync>> {
        let token = self.keys.token.as_ref().map(|token| token.expose().to_owned());
        let identity = Credentials::new(self.keys.id.expose(), self.keys.secret.expose(), token, None, "watershed").into();
        let signing =
            v4::SigningParams::builder().identity(&identity).region(&self.region).name("sns").time(SystemTime::now()).settings(SigningSettings::default()).build()?.into();
        let request = SignableRequest::new("POST", self.url.expose(), [("content-type", CONTENT_TYPE)].into_iter(), SignableBody::Bytes(body))?;
        let (instructions, _) = sign(request, &signing)?.into_parts();
        instructions.headers().map(|(name, value)| Ok((HeaderName::try_from(name)?, HeaderValue::from_str(value)?))).collect()
    }
}
