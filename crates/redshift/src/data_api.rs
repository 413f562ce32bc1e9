//! The Data API: statements by HTTPS, with no connection to keep.
//!
//! **Owns** the requests, their signatures, and the wait for answers. **Does not own** the statements.
//!
//! A batch runs as one transaction. It goes on whether anybody waits for it, so an answer that is lost is asked for:
//! each batch has a token of its own, by which the same request sent again is not run again; a statement that takes too
//! long is cancelled, and what became of it is read from `DescribeStatement`. Only if nobody says is it in doubt.

use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use hyper::http::Request;
use object_store::ClientOptions;
use object_store::aws::AwsCredentialProvider;
use object_store::client::{HttpClient, HttpConnector, HttpErrorKind, HttpRequestBody, ReqwestConnector};
use serde_json::{Map, Value, json};
use watershed_types::{Error, Result, failpoint};

use crate::backend::{Row, pauses};
use crate::error::{Fault, Place, Said, ServerWords, bad_option, failed};
use crate::options::{DataApiOptions, RedshiftOptions};
use crate::plan::{Plan, Step};

/// A request is given up after so long.
const REQUEST: Duration = Duration::from_secs(60);
/// How often a request is sent again that nobody answered, or that was one too many at the moment.
const TRIES: usize = 6;
/// How long a cancelled statement may take to end.
const CANCELLING: Duration = Duration::from_secs(30);

pub(crate) struct DataApi {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    options: DataApiOptions,
    endpoint: String,
    timeout: Duration,
    place: Place,
}

/// A request that was not answered with success.
enum Failure {
    /// Refused, with the type of the refusal and its words.
    Refused { kind: String, words: String },
    /// Nobody answered, or not in time. It may have been taken.
    Silent(String),
    /// No request went out: there are no keys to sign it with.
    Unsent(Error),
}

/// What became of a statement or a batch.
enum Became {
    Finished,
    /// Surely rolled back. The number of the statement in the batch that failed, where it is said.
    Failed {
        index: Option<usize>,
        words: String,
        /// By us.
        cancelled: bool,
    },
}

impl DataApi {
    pub fn new(options: &RedshiftOptions, api: &DataApiOptions, place: &Place, credentials: AwsCredentialProvider) -> Result<Self> {
        let endpoint = api.endpoint.clone().unwrap_or_else(|| {
            let suffix = if api.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://redshift-data.{}.{suffix}", api.region)
        });
        let client_options = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(options.connect_timeout).with_allow_http(endpoint.starts_with("http://"));
        let client = ReqwestConnector::default()
            .connect(&client_options)
            .map_err(|cause| bad_option(&options.sink, "no HTTPS client can be made", "Check the system's certificates.").caused_by(cause))?;
        Ok(Self { client, credentials, options: api.clone(), endpoint, timeout: options.statement_timeout, place: place.clone() })
    }

    /// The fields that say where and as whom.
    fn target(&self) -> Map<String, Value> {
        let DataApiOptions { cluster_identifier, workgroup, database, secret_arn, db_user, .. } = &self.options;
        let mut fields = Map::new();
        fields.insert("Database".to_owned(), json!(database));
        for (name, value) in [("ClusterIdentifier", cluster_identifier), ("WorkgroupName", workgroup), ("SecretArn", secret_arn), ("DbUser", db_user)] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), json!(value));
            }
        }
        fields
    }

    /// A signed request.
    async fn request(&self, action: &str, body: &str) -> Result<Request<HttpRequestBody>> {
        let internal = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::internal("RSH0017", format!("sink \"{}\": a request cannot be signed", self.place.sink)).caused_by(cause).definite()
        };
        let keys = self.credentials.get_credential().await.map_err(|cause| self.place.keyless(cause))?;
        let identity = Credentials::new(&keys.key_id, &keys.secret_key, keys.token.clone(), None, "watershed").into();
        let target = format!("RedshiftData.{action}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let signable = SignableRequest::new("POST", self.endpoint.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes())).map_err(|cause| internal(cause.into()))?;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.options.region)
            .name("redshift-data")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|cause| internal(cause.into()))?
            .into();
        let (instructions, _) = sign(signable, &parameters).map_err(|cause| internal(cause.into()))?.into_parts();
        let mut request = Request::builder().method("POST").uri(self.endpoint.as_str());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(HttpRequestBody::from(body.to_owned())).map_err(|cause| internal(cause.into()))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// One request, sent again as long as that can help.
    async fn call(&self, action: &str, fields: &Value) -> Result<Value, Failure> {
        let body = fields.to_string();
        let mut failure = Failure::Silent(String::new());
        let mut heard = false;
        for pause in pauses().take(TRIES) {
            let request = match self.request(action, &body).await {
                Ok(request) => request,
                Err(error) => {
                    failure = Failure::Unsent(error);
                    break;
                }
            };
            match self.client.execute(request).await {
                Ok(response) => {
                    let status = response.status();
                    let bytes = match response.into_body().bytes().await {
                        Ok(bytes) => bytes,
                        Err(cause) => {
                            heard = true;
                            failure = Failure::Silent(cause.to_string());
                            tokio::time::sleep(pause).await;
                            continue;
                        }
                    };
                    let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                    if status.is_success() {
                        return Ok(answer);
                    }
                    let kind = match answer["__type"].as_str().and_then(|kind| kind.rsplit('#').next()) {
                        Some(kind) => kind.to_owned(),
                        // Not the service speaks, but what stands before it.
                        None if matches!(status.as_u16(), 401 | 403) => "AccessDenied".to_owned(),
                        None => format!("HTTP {status}"),
                    };
                    let words = answer["message"].as_str().or(answer["Message"].as_str()).unwrap_or("no words").to_owned();
                    let passing = matches!(kind.as_str(), "ThrottlingException" | "ActiveStatementsExceededException" | "ActiveSessionsExceededException");
                    failure = if status.is_server_error() { Failure::Silent(format!("HTTP {status}: {kind}: {words}")) } else { Failure::Refused { kind, words } };
                    heard |= status.is_server_error();
                    if !passing && !status.is_server_error() {
                        break;
                    }
                }
                Err(cause) if cause.kind() == HttpErrorKind::Connect && !heard => {
                    // Nothing was sent.
                    failure = Failure::Refused { kind: "Unreachable".to_owned(), words: cause.to_string() };
                }
                Err(cause) => {
                    heard = true;
                    failure = Failure::Silent(cause.to_string());
                }
            }
            tokio::time::sleep(pause).await;
        }
        // What happens later says nothing of an earlier request that nobody answered.
        Err(match failure {
            Failure::Refused { words, .. } if heard => Failure::Silent(words),
            Failure::Unsent(error) if heard => Failure::Silent(error.to_string()),
            failure => failure,
        })
    }

    /// The error of a request that ran nothing, or of which nobody knows.
    fn error(&self, failure: Failure, durable: bool) -> Error {
        match failure {
            Failure::Unsent(error) => error,
            Failure::Silent(words) => self.place.lost(durable, ServerWords(words)),
            Failure::Refused { kind, words } => match kind.as_str() {
                "Unreachable" => self.place.absent(ServerWords(words)),
                "AccessDeniedException"
                | "AccessDenied"
                | "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "InvalidClientTokenId"
                | "SignatureDoesNotMatch"
                | "ExpiredTokenException"
                | "MissingAuthenticationTokenException" => self.place.denied(ServerWords(format!("{kind}: {words}"))),
                _ => failed(&self.place, format!("{kind}: {words}")),
            },
        }
    }

    /// Starts a statement or a batch and waits for its end. `Err`: with its certainty.
    async fn run(&self, action: &str, mut fields: Map<String, Value>, durable: bool) -> Result<(String, Became)> {
        fields.extend(self.target());
        // The same request sent again is the same statement.
        fields.insert("ClientToken".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        let started = self.call(action, &Value::Object(fields)).await.map_err(|failure| self.error(failure, durable))?;
        let id = started["Id"].as_str().ok_or_else(|| self.place.lost(durable, ServerWords("the answer names no statement".to_owned())))?.to_owned();
        if durable {
            failpoint::reach("redshift_sent");
        }
        let became = self.wait(&id, durable).await?;
        Ok((id, became))
    }

    async fn wait(&self, id: &str, durable: bool) -> Result<Became> {
        let mut deadline = Instant::now() + self.timeout;
        let mut cancelled = false;
        let mut words = "it did not end in time".to_owned();
        for pause in pauses() {
            match self.call("DescribeStatement", &json!({ "Id": id })).await {
                Ok(answer) => match answer["Status"].as_str() {
                    Some("FINISHED") => return Ok(Became::Finished),
                    Some("FAILED" | "ABORTED") => return Ok(became(&answer, cancelled)),
                    _ => {}
                },
                Err(Failure::Refused { kind, words: said }) => return Err(self.place.lost(durable, ServerWords(format!("{kind}: {said}")))),
                Err(Failure::Silent(said)) => words = said,
                Err(Failure::Unsent(error)) => words = error.report(),
            }
            if Instant::now() >= deadline {
                if cancelled {
                    break;
                }
                // Whether that comes in time is seen by what becomes of it.
                if let Err(Failure::Silent(said)) = self.call("CancelStatement", &json!({ "Id": id })).await {
                    words = said;
                }
                (cancelled, deadline) = (true, Instant::now() + CANCELLING);
            }
            tokio::time::sleep(pause).await;
        }
        Err(self.place.lost(durable, ServerWords(words)))
    }

    pub async fn query(&self, sql: &str) -> Result<Vec<Row>> {
        let id = self.single(sql).await?;
        let mut rows = Vec::new();
        let mut next: Option<Value> = None;
        loop {
            let mut fields = json!({ "Id": id });
            if let Some(token) = &next {
                fields["NextToken"] = token.clone();
            }
            let answer = self.call("GetStatementResult", &fields).await.map_err(|failure| self.error(failure, false))?;
            for record in answer["Records"].as_array().into_iter().flatten() {
                rows.push(record.as_array().into_iter().flatten().map(cell).collect());
            }
            match answer.get("NextToken") {
                Some(token) if token.as_str().is_some_and(|token| !token.is_empty()) => next = Some(token.clone()),
                _ => return Ok(rows),
            }
        }
    }

    pub async fn alone(&self, sql: &str) -> Result<()> {
        self.single(sql).await.map(drop)
    }

    async fn single(&self, sql: &str) -> Result<String> {
        let mut fields = Map::new();
        fields.insert("Sql".to_owned(), json!(sql));
        match self.run("ExecuteStatement", fields, false).await? {
            (id, Became::Finished) => Ok(id),
            (_, Became::Failed { words, .. }) => Err(self.place.judge(Step::Record, &Said { code: None, words }).into_error(&self.place)),
        }
    }

    pub async fn transaction(&self, plan: &Plan, durable: bool) -> Result<(), Fault> {
        let statements: Vec<&str> = plan.statements.iter().map(|statement| statement.sql.as_str()).collect();
        let mut fields = Map::new();
        fields.insert("Sqls".to_owned(), json!(statements));
        match self.run("BatchExecuteStatement", fields, durable).await? {
            (_, Became::Finished) => Ok(()),
            (_, Became::Failed { index, words, cancelled }) => {
                let step = index.and_then(|index| plan.statements.get(index)).map(|statement| statement.step);
                match self.place.judge(step.unwrap_or(Step::Record), &Said { code: None, words: words.clone() }) {
                    // Every statement was done, so it was the commit that failed; if not for a conflict, who knows how far it came.
                    Fault::Failed(_) if step.is_none() && durable && !cancelled => Err(self.place.lost(true, ServerWords(words)).into()),
                    fault => Err(fault),
                }
            }
        }
    }
}

fn became(answer: &Value, cancelled: bool) -> Became {
    let failed = |part: &&Value| matches!(part["Status"].as_str(), Some("FAILED" | "ABORTED"));
    let parts = answer["SubStatements"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Those after the one that failed are aborted with it.
    let index = parts.iter().position(|part| part["Status"] == "FAILED").or_else(|| parts.iter().position(|part| failed(&part)));
    let own = index.and_then(|index| parts[index]["Error"].as_str());
    let words = own.or(answer["Error"].as_str()).map(str::to_owned);
    let words = words.unwrap_or_else(|| if cancelled { "cancelled on user request: it took longer than statement_timeout".to_owned() } else { "no words".to_owned() });
    Became::Failed { index, words, cancelled }
}

fn cell(field: &Value) -> Option<String> {
    let (name, value) = field.as_object()?.iter().next()?;
    match (name.as_str(), value) {
        ("isNull", _) => None,
        (_, Value::String(text)) => Some(text.clone()),
        // As the wire writes it.
        (_, Value::Bool(true)) => Some("t".to_owned()),
        (_, Value::Bool(false)) => Some("f".to_owned()),
        (_, other) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_service_writes_them() {
        let fields = json!([{"longValue": 12}, {"stringValue": "it's"}, {"isNull": true}, {"booleanValue": false}, {"doubleValue": 1.5}]);
        let cells: Vec<_> = fields.as_array().expect("fields").iter().map(cell).collect();
        assert_eq!(cells, [Some("12".to_owned()), Some("it's".to_owned()), None, Some("f".to_owned()), Some("1.5".to_owned())]);
        let answer = json!({"Status": "FAILED", "Error": "Query failed", "SubStatements": [
            {"Status": "FINISHED"}, {"Status": "FAILED", "Error": "ERROR: Divide by zero"}, {"Status": "ABORTED"}]});
        assert!(matches!(became(&answer, false), Became::Failed { index: Some(1), words, .. } if words == "ERROR: Divide by zero"));
        assert!(matches!(became(&json!({"Status": "ABORTED"}), true), Became::Failed { index: None, words, cancelled: true } if words.contains("statement_timeout")));
    }
}
