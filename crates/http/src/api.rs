//! `POST /v1/ingest/{source}`.
//!
//! **Owns** statuses, headers and problem documents. **Does not own** the listener, nor whether a record is any good.
//!
//! | status | when |
//! |---|---|
//! | 200 | every record of the body is on disk; an empty body too |
//! | 400 | malformed array or compression, or the body broke off |
//! | 404, 405 | unknown source (the known ones are named), wrong method |
//! | 413 | body or record over its limit |
//! | 415 | a `Content-Encoding` other than `gzip`, `zstd`, `identity` |
//! | 429 | more unread bytes than `max_backlog`; `Retry-After` says when to come back |
//! | 503, 507 | closed, disk error, disk full. `"certainty": "indefinite"` if the records may be there |
//!
//! Everything but 200 is `application/problem+json` with `type`, `title`, `status`, `detail`, `code`, and mostly `hint`.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use watershed_types::{Certainty, Error, Kind, Result};

use crate::body::BodyKind;
use crate::log::{Appended, Log};
use crate::trouble;

/// Seconds after which a refused client may come back.
const RETRY_SECONDS: u32 = 1;
/// A body below this is copied, so that records in the tail cache do not pin a connection's larger buffer.
const COPY_BELOW: usize = 1 << 20;

type Logs = Arc<BTreeMap<String, Arc<Log>>>;

/// The routes that feed these logs, by source name.
pub fn router(logs: Vec<(String, Arc<Log>)>) -> Router {
    let logs: Logs = Arc::new(logs.into_iter().collect());
    Router::new().route("/v1/ingest/{source}", post(ingest).fallback(wrong_method)).with_state(logs)
}

async fn ingest(State(logs): State<Logs>, Path(source): Path<String>, request: Request) -> Response {
    let outcome = match logs.get(&source) {
        Some(log) => accept(log, request).await,
        None => Err(unknown_source(&source, &logs)),
    };
    match outcome {
        Ok(appended) => accepted(&appended),
        Err(error) => problem(&error),
    }
}

async fn accept(log: &Log, request: Request) -> Result<Appended> {
    log.check_open()?;
    let (head, body) = request.into_parts();
    let encoding = encoding_of(&head.headers)?;
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    log.check_len(announced.unwrap_or(0))?;
    log.check_backlog()?;
    let kind = kind_of(&head.headers);
    let body = read(log, body).await?;
    let body = match encoding {
        Encoding::Identity => body,
        _ => decompress(log, body, encoding).await?,
    };
    log.append(body, kind).await
}

async fn read(log: &Log, body: Body) -> Result<Bytes> {
    let limit = usize::try_from(log.options().max_body).unwrap_or(usize::MAX);
    match Limited::new(body, limit).collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            Ok(if bytes.len() < COPY_BELOW { Bytes::copy_from_slice(&bytes) } else { bytes })
        }
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large(log)),
        Err(error) => Err(Error::invalid(trouble::BAD_BODY, format!("the body broke off: {error}")).definite()),
    }
}

fn too_large(log: &Log) -> Error {
    log.check_len(u64::MAX).expect_err("no limit is that large")
}

fn kind_of(headers: &HeaderMap) -> BodyKind {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match named.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => BodyKind::Ndjson,
        "text/csv" | "text/plain" | "text/tab-separated-values" => BodyKind::Lines,
        _ => BodyKind::Auto,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(Error::invalid(trouble::UNSUPPORTED_ENCODING, format!("Content-Encoding \"{other}\" is not supported"))
            .hint("Send gzip, zstd, or no encoding.")
            .definite()),
    }
}

async fn decompress(log: &Log, body: Bytes, encoding: Encoding) -> Result<Bytes> {
    let limit = log.options().max_body;
    let work = move || -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Zstd => zstd::stream::read::Decoder::new(&body[..])?.take(limit + 1).read_to_end(&mut out)?,
            _ => flate2::read::MultiGzDecoder::new(&body[..]).take(limit + 1).read_to_end(&mut out)?,
        };
        Ok(out)
    };
    let outcome = tokio::task::spawn_blocking(work).await;
    let outcome = outcome.map_err(|error| Error::internal(trouble::BAD_ENCODING, format!("decompression stopped: {error}")))?;
    match outcome {
        Ok(out) if out.len() as u64 > limit => Err(too_large(log)),
        Ok(out) => Ok(out.into()),
        Err(error) => Err(Error::invalid(trouble::BAD_ENCODING, format!("the body cannot be decompressed: {error}")).definite()),
    }
}

fn unknown_source(source: &str, logs: &Logs) -> Error {
    let known: Vec<&str> = logs.keys().map(String::as_str).collect();
    let hint = match known.is_empty() {
        true => "This project has no source with connector = 'http'.".to_owned(),
        false => format!("Known sources: {}.", known.join(", ")),
    };
    Error::invalid(trouble::UNKNOWN_SOURCE, format!("there is no http source \"{source}\"")).hint(hint)
}

async fn wrong_method(method: Method) -> Response {
    let error = Error::invalid(trouble::BAD_METHOD, format!("{method} is not possible here")).hint("Send records with POST.");
    let mut response = problem(&error);
    response.headers_mut().insert(ALLOW, axum::http::HeaderValue::from_static("POST"));
    response
}

fn accepted(appended: &Appended) -> Response {
    let body = match &appended.parts[..] {
        [] => json!({ "accepted": 0 }),
        [part] => json!({
            "accepted": part.records, "partition": part.partition,
            "first_offset": part.first_offset, "last_offset": part.last_offset,
        }),
        parts => {
            let of = |part: &crate::AppendedPart| {
                json!({
                    "partition": part.partition, "accepted": part.records,
                    "first_offset": part.first_offset, "last_offset": part.last_offset,
                })
            };
            json!({ "accepted": appended.records, "partitions": parts.iter().map(of).collect::<Vec<_>>() })
        }
    };
    axum::Json(body).into_response()
}

/// The status of an error, by its code; by its kind for what did not start here.
fn status_of(error: &Error) -> StatusCode {
    match error.code() {
        trouble::UNKNOWN_SOURCE => StatusCode::NOT_FOUND,
        trouble::BAD_METHOD => StatusCode::METHOD_NOT_ALLOWED,
        trouble::BODY_TOO_LARGE | trouble::RECORD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        trouble::UNSUPPORTED_ENCODING => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        trouble::BACKLOG => StatusCode::TOO_MANY_REQUESTS,
        trouble::DISK_FULL => StatusCode::INSUFFICIENT_STORAGE,
        _ => match error.kind() {
            Kind::Invalid | Kind::Rejected => StatusCode::BAD_REQUEST,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Fenced | Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

fn problem(error: &Error) -> Response {
    let status = status_of(error);
    let mut body = json!({
        "type": format!("urn:watershed:error:{}", error.code()),
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": error.message(),
        "code": error.code(),
    });
    if let Some(hint) = error.next_step() {
        body["hint"] = hint.into();
    }
    if error.certainty() == Some(Certainty::Indefinite) {
        body["certainty"] = "indefinite".into();
    }
    let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
    }
    response
}
