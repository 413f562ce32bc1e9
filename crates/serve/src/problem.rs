//! Errors as the API shows them: RFC 9457, `application/problem+json`.
//!
//! I1: what a caller sent wrong is never a 5xx. I2: causes stay in the log; a caller sees the message and the next step.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use watershed_types::{Error, Kind};

/// The codes of this crate. Each has a page in `docs/errors`.
pub mod code {
    /// Nothing there.
    pub const NOT_FOUND: &str = "API0001";
    /// The pipeline does not run.
    pub const NOT_RUNNING: &str = "API0002";
    /// No such table.
    pub const NO_TABLE: &str = "API0003";
    /// Not that method.
    pub const METHOD: &str = "API0004";
    /// Listening beyond loopback without a token.
    pub const OPEN: &str = "SRV0001";
    /// Who is that?
    pub const UNKNOWN_CALLER: &str = "SRV0002";
    /// The role is too small.
    pub const ROLE: &str = "SRV0003";
    /// A page of another origin asks.
    pub const ORIGIN: &str = "SRV0004";
    /// The name in `Host` is not ours.
    pub const HOST: &str = "SRV0005";
    /// Too many requests.
    pub const RATE: &str = "SRV0006";
    /// The request cannot be understood.
    pub const REQUEST: &str = "SRV0007";
    /// The body is too large, or too slow.
    pub const BODY: &str = "SRV0008";
    /// A parameter is out of its range.
    pub const PARAMETER: &str = "SRV0009";
    /// The statement cannot be run.
    pub const QUERY: &str = "SRV0010";
    /// The query took too long.
    pub const QUERY_TIME: &str = "SRV0011";
    /// The query needs too much memory.
    pub const QUERY_MEMORY: &str = "SRV0012";
    /// Too many queries at once.
    pub const QUERY_BUSY: &str = "SRV0013";
    /// An audit runs already.
    pub const VERIFY_BUSY: &str = "SRV0014";
    /// No such alert.
    pub const NO_ALERT: &str = "SRV0015";
    /// No such epoch.
    pub const NO_EPOCH: &str = "SRV0016";
    /// An identifier of a quarantined row that is none.
    pub const ROW_ID: &str = "SRV0017";
    /// A task of the server has ended without an answer.
    pub const TASK: &str = "SRV0018";
    /// A token in the settings or the token file is wrong.
    pub const TOKEN: &str = "SRV0019";
    /// The token file cannot be read or written.
    pub const TOKEN_FILE: &str = "SRV0020";
    /// Too many live clients.
    pub const CLIENTS: &str = "SRV0021";
    /// A live message that makes no sense.
    pub const MESSAGE: &str = "SRV0022";
    /// The server cannot be started.
    pub const START: &str = "CLI0033";
}

/// An error on its way to a caller.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: String,
    detail: Option<String>,
    retry_after: Option<u64>,
}

/// How it looks on the wire.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// The page about it.
    #[schema(example = "/v1/errors/SRV0003")]
    pub r#type: String,
    /// What is wrong.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What to do.
    pub detail: String,
    /// Stable.
    #[schema(example = "SRV0003")]
    pub code: String,
}

impl Problem {
    /// An error of the caller or of ours.
    pub fn new(status: StatusCode, code: &'static str, title: impl Into<String>) -> Self {
        Self { status, code, title: title.into(), detail: None, retry_after: None }
    }
    /// The request is wrong.
    pub fn bad(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, title)
    }
    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.detail = Some(hint.into());
        self
    }
    /// Says when to come again, seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
    /// What is sent.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            r#type: format!("/v1/errors/{}", self.code),
            title: self.title.clone(),
            status: self.status.as_u16(),
            detail: self.detail.clone().unwrap_or_else(|| self.title.clone()),
            code: self.code.to_owned(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid | Kind::Denied => StatusCode::BAD_REQUEST,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unavailable | Kind::Fenced => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(error = %error.report(), "a request failed");
        }
        Self {
            status,
            code: error.code(),
            title: error.message().to_owned(),
            detail: error.next_step().map(str::to_owned),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")], Body::from(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"watershed\""));
        }
        response
    }
}

/// What a route answers.
pub type Answer<T> = Result<T, Problem>;
