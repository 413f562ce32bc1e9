//! One HTTP request at a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpErrorKind, HttpRequestBody, ReqwestConnector};
use watershed_types::{Error, Result, Secret};

use super::{Again, Refused, without};

const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read, and how much of it is shown.
const ANSWER_BYTES: usize = 64 << 10;
const ANSWER_SHOWN: usize = 200;
/// Longer than this is not waited, whatever a receiver asks for.
const LONGEST_WAIT: u64 = 3_600;

/// A client with a runtime of its own, for one thread.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    client: HttpClient,
}

/// A request to be sent.
pub struct Post<'p> {
    /// Where to.
    pub url: &'p Secret,
    /// What kind the body is.
    pub content_type: &'static str,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
    /// Never shown, whatever the receiver answers.
    pub secrets: Vec<&'p Secret>,
}

impl Client {
    /// A client. Certificates are checked against the machine's.
    pub fn new() -> Result<Client> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::unavailable("ALR0006", "the sender of alerts cannot be started").caused_by(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.into()))?;
        let agent = HeaderValue::from_static(concat!("watershed/", env!("CARGO_PKG_VERSION")));
        // A receiver is where it is written: plain HTTP is for receivers on this machine and in its network.
        let options = ClientOptions::new().with_allow_http(true).with_timeout(TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT).with_user_agent(agent);
        let client = ReqwestConnector::default().connect(&options).map_err(|e| failed(e.into()))?;
        Ok(Client { runtime, client })
    }

    /// Sends a request; anything but 2xx is refused.
    pub fn post(&self, route: &str, kind: &str, post: Post<'_>) -> std::result::Result<(), Refused> {
        let unreachable = |words: &str, sent: bool, cause: Option<Box<dyn std::error::Error + Send + Sync>>| {
            let error = Error::unavailable("ALR0008", format!("route \"{route}\": {kind} {words}"));
            let error = if sent { error.indefinite() } else { error.definite() };
            let error = error.hint("The message waits in .watershed/alerts/outbox and is sent again; receivers know it by its dedup key.");
            Refused { error: if let Some(cause) = cause { error.caused_by(without(&chain(cause.as_ref()), &post.secrets)) } else { error }, again: Again::Later(None) }
        };
        let request = Request::builder().method(Method::POST).uri(post.url.expose()).header(hyper::header::CONTENT_TYPE, post.content_type);
        let mut request = request.body(HttpRequestBody::from(Bytes::from(post.body))).map_err(|e| unreachable("cannot be asked", false, Some(e.into())))?;
        request.headers_mut().extend(post.headers);
        let answered = self.runtime.block_on(async {
            let response = self.client.execute(request).await?;
            let (parts, body) = response.into_parts();
            // What it says beside its status is for people; without it the status stands.
            let said = Limited::new(body, ANSWER_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok::<_, object_store::client::HttpError>((parts.status, parts.headers, said))
        });
        let (status, headers, said) = answered.map_err(|e| unreachable("does not answer", e.kind() != HttpErrorKind::Connect, Some(Box::new(e))))?;
        if status.is_success() {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&said).chars().take(ANSWER_SHOWN).collect();
        let said = without(&said, &post.secrets);
        let words = format!("answered {status}{}{}", if said.is_empty() { "" } else { ": " }, said.trim());
        Err(judge(route, kind, status, &headers, words))
    }
}

/// What an answer means for the message.
fn judge(route: &str, kind: &str, status: StatusCode, headers: &HeaderMap, words: String) -> Refused {
    // These say that this message is wrong; the others that the receiver or the route is.
    if matches!(status.as_u16(), 400 | 413 | 415 | 422) {
        let hint = "The message was put into .watershed/alerts/failed; the messages after it are sent.";
        let error = Error::rejected("ALR0009", format!("route \"{route}\": {kind} {words}")).definite().hint(hint);
        return Refused { error, again: Again::Never };
    }
    let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let hint = match status.as_u16() {
        401 | 403 => "Is the key right? Mend it in the environment and start again: the message waits in .watershed/alerts/outbox.",
        404 | 405 | 410 => "Is the address right? Mend it and start again: the message waits in .watershed/alerts/outbox.",
        _ => "The message waits in .watershed/alerts/outbox and is sent again.",
    };
    let error = Error::unavailable("ALR0008", format!("route \"{route}\": {kind} {words}")).definite().hint(hint);
    Refused { error, again: Again::Later(wait.map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)))) }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = inner.source();
    }
    words
}

/// An address that can be asked.
pub fn check_url(route: &str, key: &str, url: Secret) -> Result<Secret> {
    let good = url::Url::parse(url.expose()).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) && url.expose().parse::<hyper::Uri>().is_ok();
    if good {
        return Ok(url);
    }
    Err(Error::invalid("ALR0004", format!("route \"{route}\": {key} is not an address")).hint("Write it as https://host/path."))
}

/// A header of a message.
pub fn header(name: &'static str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
}
