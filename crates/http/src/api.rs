//! `POST /v1/ingest/{source}`: 200 only once the records are on disk.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;
use watershed_types::{Error, near_miss};

use crate::body::BodyKind;
use crate::log::Log;
use crate::trouble;

type Logs = Arc<BTreeMap<String, Arc<Log>>>;

/// The door to these logs. Errors are `application/problem+json`.
pub fn router(logs: Vec<(String, Arc<Log>)>) -> Router {
    let logs: Logs = Arc::new(logs.into_iter().collect());
    Router::new().route("/v1/ingest/{source}", post(ingest).fallback(wrong_method)).with_state(logs)
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, trouble::BAD_METHOD, "records are sent with POST", None)
}

async fn ingest(State(logs): State<Logs>, Path(source): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let Some(log) = logs.get(&source) else {
        let known: Vec<&str> = logs.keys().map(String::as_str).collect();
        let hint = match near_miss(&source, known.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Sources that take records over HTTP: {}.", known.join(", ")),
        };
        return problem(StatusCode::NOT_FOUND, trouble::UNKNOWN_SOURCE, &format!("there is no source \"{source}\" with connector = 'http'"), Some(&hint));
    };
    let limit = log.options().max_body;
    let body = match to_bytes(body, limit as usize).await {
        Ok(body) => body,
        Err(_) => return problem(StatusCode::PAYLOAD_TOO_LARGE, trouble::BODY_TOO_LARGE, &format!("the body could not be read whole; at most {limit} bytes are taken"), None),
    };
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("identity");
    let body = match decompress(body, encoding, limit) {
        Ok(body) => body,
        Err(error) => return failure(&error),
    };
    match log.append(body, BodyKind::Auto).await {
        Ok(done) => Json(json!({
            "accepted": done.records, "partition": done.partition, "first_offset": done.first_offset, "last_offset": done.last_offset,
        }))
        .into_response(),
        Err(error) => failure(&error),
    }
}

fn decompress(body: Bytes, encoding: &str, limit: u64) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    let read = match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => return Ok(body),
        "gzip" => flate2::read::MultiGzDecoder::new(&body[..]).take(limit + 1).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(&body[..]).and_then(|d| d.take(limit + 1).read_to_end(&mut out)),
        other => {
            return Err(Error::invalid(trouble::UNSUPPORTED_ENCODING, format!("content encoding \"{other}\" is not supported")).hint("Use gzip, zstd or none."));
        }
    };
    read.map_err(|e| Error::invalid(trouble::BAD_ENCODING, format!("the body is not {encoding}: {e}")))?;
    Ok(out.into())
}

fn failure(error: &Error) -> Response {
    let status = match error.code() {
        trouble::BODY_TOO_LARGE | trouble::RECORD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        trouble::BAD_ARRAY | trouble::BAD_ENCODING | trouble::BAD_BODY => StatusCode::BAD_REQUEST,
        trouble::UNSUPPORTED_ENCODING => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        trouble::BACKLOG => StatusCode::TOO_MANY_REQUESTS,
        trouble::DISK_FULL => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = problem(status, error.code(), error.message(), error.next_step());
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn problem(status: StatusCode, code: &str, title: &str, hint: Option<&str>) -> Response {
    let body = json!({ "type": format!("urn:watershed:error:{code}"), "title": title, "status": status.as_u16(), "detail": hint.unwrap_or(title), "code": code });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
