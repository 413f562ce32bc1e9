//! Bodies that come too slowly, and answers that are not ours.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use crate::problem::{Problem, code};

/// A body must bring something within this long …
const PAUSE: Duration = Duration::from_secs(15);
/// … and be whole within this long.
const WHOLE: Duration = Duration::from_secs(300);
/// More than an extractor of axum ever says.
const WORDS: usize = 16 << 10;

/// Breaks bodies that trickle; turns what extractors answer into problems.
pub async fn tidy(mut request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = hurried(body.into_data_stream());
    }
    let response = next.run(request).await;
    let status = response.status();
    let plain = response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR) || !plain {
        return response;
    }
    let words = to_bytes(response.into_body(), WORDS).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let title = if words.is_empty() { status.canonical_reason().unwrap_or("the request is wrong").to_lowercase() } else { words };
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE { code::BODY } else { code::REQUEST };
    Problem::new(status, code, title).hint("GET /v1/openapi.json says what each address takes.").into_response()
}

fn hurried(body: BodyDataStream) -> Body {
    let until = Instant::now() + WHOLE;
    Body::from_stream(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        let wait = PAUSE.min(until.saturating_duration_since(Instant::now()));
        match timeout(wait, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(_) => Some((Err(axum::Error::new(std::io::Error::new(std::io::ErrorKind::TimedOut, "the body comes too slowly"))), None)),
        }
    }))
}
