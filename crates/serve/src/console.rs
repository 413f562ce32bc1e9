//! The web console's files, built into the program; or a page that says how to build them.
//!
//! Names below `assets/` carry a hash of their content and may be kept for ever; everything else is asked for again.

use std::collections::HashMap;
use std::io::Write;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use rust_embed::RustEmbed;

use crate::problem::{Problem, code};

#[derive(RustEmbed)]
#[folder = "../../console/dist"]
#[allow_missing = true]
struct Files;

/// Shown when the program was built without the console.
const PLAIN: &str = include_str!("console.html");
/// Smaller files gain nothing.
const WORTH: usize = 1_024;

/// Files compressed so far, each once.
static COMPRESSED: LazyLock<Mutex<HashMap<String, Bytes>>> = LazyLock::new(Mutex::default);

/// True if the console is built in.
pub fn built() -> bool {
    Files::get("index.html").is_some()
}

/// True if a person's browser asks for a page.
pub fn wants_page(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// The console's page.
pub fn page(headers: &HeaderMap) -> Response {
    file("index.html", headers).unwrap_or_else(|| ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], PLAIN).into_response())
}

/// Whatever no route takes: a file of the console, its page for a page's address, or nothing.
pub async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if matches!(method, Method::GET | Method::HEAD) {
        if let Some(found) = file(path.trim_start_matches('/'), &headers) {
            return found;
        }
        let of_the_api = path == "/v1" || path.starts_with("/v1/");
        if !of_the_api && wants_page(&method, &headers) {
            return page(&headers);
        }
    }
    Problem::new(StatusCode::NOT_FOUND, code::NOT_FOUND, format!("there is nothing at \"{path}\"")).hint("GET / lists what there is.").into_response()
}

fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    let found = Files::get(path)?;
    let kind = content_type(path);
    let lasts = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = format!("\"{}\"", found.metadata.sha256_hash()[..12].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Some((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let common = [(header::CONTENT_TYPE, kind.to_owned()), (header::CACHE_CONTROL, lasts.to_owned()), (header::ETAG, tag), (header::VARY, "accept-encoding".to_owned())];
    let gzip =
        headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).is_some_and(|accepted| accepted.split(',').any(|one| one.trim().split(';').next() == Some("gzip")));
    if gzip && found.data.len() >= WORTH && compressible(kind) {
        return Some((common, [(header::CONTENT_ENCODING, "gzip")], Body::from(compressed(path, &found.data))).into_response());
    }
    Some((common, Body::from(found.data.into_owned())).into_response())
}

fn compressible(kind: &str) -> bool {
    kind.starts_with("text/") || kind.contains("json") || kind.contains("svg") || kind.contains("wasm")
}

fn compressed(path: &str, data: &[u8]) -> Bytes {
    let mut known = COMPRESSED.lock();
    if let Some(bytes) = known.get(path) {
        return bytes.clone();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail.
    let bytes = encoder.write_all(data).and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default();
    known.insert(path.to_owned(), bytes.clone());
    bytes
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_was_built_is_built_in_and_compressed_for_those_who_ask() {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console/dist");
        assert_eq!(built(), dist.join("index.html").is_file());
        assert!(file("../Cargo.toml", &HeaderMap::new()).is_none());
        let gzip = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.8"))]);
        let big = Files::iter()
            .filter(|name| name.starts_with("assets/"))
            .find(|name| Files::get(name).is_some_and(|found| found.data.len() >= WORTH && compressible(content_type(name))));
        let Some(name) = big else { return };
        let answer = file(&name, &gzip).expect("it is there");
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(answer.headers()[header::CACHE_CONTROL].to_str().expect("text").contains("immutable"));
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, answer.headers()[header::ETAG].clone())]);
        assert_eq!(file(&name, &known).expect("it is there").status(), StatusCode::NOT_MODIFIED);
    }
}
