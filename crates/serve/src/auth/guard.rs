//! The checks before a route runs.
//!
//! ```text
//! request ─▶ host ─▶ origin ─▶ route ─▶ caller ─▶ role ─▶ rate ─▶ handler
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Role;
use crate::problem::{Answer, Problem, code};
use crate::routes::need;
use crate::shared::Shared;

/// Somebody who may come in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// As the token is called.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// For every request, also for files: is it meant for us, and does no foreign page send it?
pub async fn outer(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match host(&shared, request.headers()).and_then(|()| origin(&shared, &request)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// For every route: who asks, may they, and not too often?
pub async fn guard(State(shared): State<Arc<Shared>>, matched: MatchedPath, mut request: Request, next: Next) -> Response {
    let needed = match need(request.method(), matched.as_str()) {
        Some(needed) => needed,
        // A route that nobody thought about is closed.
        None => return Problem::new(StatusCode::FORBIDDEN, code::ROLE, "nobody may do that").into_response(),
    };
    let Some(role) = needed else { return next.run(request).await };
    match admit(&shared, request.headers(), role) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn admit(shared: &Shared, headers: &HeaderMap, needed: Role) -> Answer<Caller> {
    let caller = match shared.door.caller(headers) {
        Ok(caller) => caller,
        Err(unknown) => return Err(shared.rate.strangers().err().unwrap_or(unknown)),
    };
    let Some(caller) = caller else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, code::UNKNOWN_CALLER, "this needs a token").hint("Send it as \"Authorization: Bearer …\", or log in to the console."));
    };
    if !caller.role.covers(needed) {
        let title = format!("\"{}\" is {}, and this takes {}", caller.name, caller.role.name(), needed.name());
        return Err(Problem::new(StatusCode::FORBIDDEN, code::ROLE, title).hint("Ask an administrator for a token with that role."));
    }
    // Records have a backpressure of their own.
    if needed != Role::Ingest {
        shared.rate.caller(&caller.name)?;
    }
    Ok(caller)
}

/// On loopback the name must be one that only this machine has: a foreign name that points here is a rebinding attack.
fn host(shared: &Shared, headers: &HeaderMap) -> Answer<()> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(value), None) = (hosts.next(), hosts.next()) else {
        // HTTP/1.0 has none, and no browser speaks that.
        return if headers.contains_key(header::HOST) { Err(Problem::bad(code::HOST, "there is more than one Host header")) } else { Ok(()) };
    };
    if !shared.loopback {
        return Ok(());
    }
    let name = value.to_str().ok().and_then(|text| text.parse::<axum::http::uri::Authority>().ok());
    let known = name.as_ref().is_some_and(|name| is_local(name.host()) || shared.hosts.iter().any(|known| known.eq_ignore_ascii_case(name.host())));
    if known {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, code::HOST, "the name in the Host header is not this server's")
        .hint("Use localhost or 127.0.0.1, or list the name in [serve] hosts if a proxy on this machine passes it on."))
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let lower = bare.to_ascii_lowercase();
    lower == "localhost" || lower.ends_with(".localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A browser says which page a request comes from; only our own, and those the settings name, may change things or follow live.
fn origin(shared: &Shared, request: &Request) -> Answer<()> {
    let headers = request.headers();
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD) && !headers.contains_key(header::UPGRADE);
    if harmless {
        return Ok(());
    }
    let foreign = || {
        Problem::new(StatusCode::FORBIDDEN, code::ORIGIN, "the page that sends this is not the console's")
            .hint("Add its address to [serve] origins, such as [\"http://localhost:5173\"], if it is meant to.")
    };
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Without Origin it is no page, or an old browser, and those say where they come from.
        let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        return if matches!(site, None | Some("same-origin" | "none")) { Ok(()) } else { Err(foreign()) };
    };
    let origin = origin.to_str().map_err(|_| foreign())?;
    if shared.origins.iter().any(|known| known.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    let from: Uri = origin.parse().map_err(|_| foreign())?;
    let ours = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    match (from.authority(), ours) {
        (Some(from), Some(ours)) if from.as_str().eq_ignore_ascii_case(ours) => Ok(()),
        _ => Err(foreign()),
    }
}
