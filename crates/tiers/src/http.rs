//! `GET /v1/tables/{table}`: the route, ready to be mounted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use watershed_types::{Error, Kind};

use crate::answer::Form;
use crate::error::no_table;
use crate::plan::Standing;
use crate::request::Request;
use crate::table::{Answer, Part, TieredTable};

/// The tables that can be read, and the answers to requests for them.
#[derive(Clone)]
pub struct Reads(Arc<BTreeMap<String, TieredTable>>);

impl Reads {
    /// Over some tables.
    pub fn new(tables: Vec<TieredTable>) -> Reads {
        Reads(Arc::new(tables.into_iter().map(|table| (table.name().to_owned(), table)).collect()))
    }

    /// Answers a request for a table's rows: `query` is the URL's.
    pub async fn respond(&self, table: &str, query: &str, headers: &HeaderMap) -> Response {
        match answer(self, table, query, headers).await {
            Ok(response) => response,
            Err(error) => problem(&error),
        }
    }

    /// Whether a request is for rows, where the same address describes the table otherwise: it has a parameter of a read,
    /// or asks for a form that only rows have.
    pub fn asked(query: &str, headers: &HeaderMap) -> bool {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        Request::has_parameters(query) || matches!(Form::of(accept), Ok(Form::Lines | Form::Csv))
    }

    /// A route at a path with `{table}` in it; carries its own state.
    pub fn router_at(self, path: &str) -> Router {
        Router::new().route(path, get(read)).with_state(self)
    }
}

/// `GET /v1/tables/{table}` over some tables, ready to be merged where nobody else has that address.
pub fn router(tables: Vec<TieredTable>) -> Router {
    Reads::new(tables).router_at("/v1/tables/{table}")
}

async fn read(State(reads): State<Reads>, Path(table): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    reads.respond(&table, query.as_deref().unwrap_or_default(), &headers).await
}

async fn answer(reads: &Reads, name: &str, query: &str, headers: &HeaderMap) -> Result<Response, Error> {
    let form = Form::of(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()))?;
    let request = Request::parse(query)?;
    let table = reads.0.get(name).ok_or_else(|| no_table(name, &reads.0.keys().map(String::as_str).collect::<Vec<_>>()))?;
    let answer = table.read(&request).await?;
    let mut response = form.write(&answer.batch).into_response();
    let said = response.headers_mut();
    said.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    said.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    put(said, "x-watershed-tiers", &answer.parts.iter().map(tier).collect::<Vec<_>>().join("; "));
    put(said, "x-watershed-more", if answer.more { "true" } else { "false" });
    let warnings = warnings(&answer);
    if !warnings.is_empty() {
        put(said, "warning", &warnings);
    }
    Ok(response)
}

/// `hot=used, rows 3, epoch 12`.
fn tier(part: &Part) -> String {
    let Part { tier, standing, asked, rows } = part;
    match standing {
        Standing::Absent => format!("{tier}=none"),
        Standing::Unfit(_) => format!("{tier}=unused"),
        Standing::Down { code, .. } => format!("{tier}=down, {code}"),
        Standing::Keys { epoch } | Standing::Whole { epoch, .. } if *asked => format!("{tier}=used, rows {rows}, epoch {epoch}"),
        Standing::Keys { epoch } => format!("{tier}=keys only, epoch {epoch}"),
        Standing::Whole { epoch, .. } => format!("{tier}=unused, epoch {epoch}"),
    }
}

/// A warning for each tier that is down, as RFC 7234 writes them.
fn warnings(answer: &Answer) -> String {
    let instead: Vec<String> = answer.parts.iter().filter(|part| part.asked).map(|part| part.tier.to_string()).collect();
    let said = answer.parts.iter().filter_map(|part| match &part.standing {
        Standing::Down { code, message } => {
            Some(format!("199 watershed \"{} is down, {} answered ({code}: {})\"", part.tier, instead.join(" and "), message.replace(['"', '\\'], "'")))
        }
        _ => None,
    });
    said.collect::<Vec<_>>().join(", ")
}

/// A header holds visible ASCII alone.
fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let text: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(name, value);
    }
}

/// An error as RFC 9457 has it, as all of the API says it.
fn problem(error: &Error) -> Response {
    let status = match (error.code(), error.kind()) {
        ("TIER0003", _) => StatusCode::NOT_FOUND,
        ("TIER0005", _) => StatusCode::NOT_ACCEPTABLE,
        (_, Kind::Invalid) => StatusCode::BAD_REQUEST,
        (_, Kind::Denied) => StatusCode::FORBIDDEN,
        (_, Kind::Unavailable | Kind::Conflict | Kind::Fenced) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = serde_json::json!({
        "type": format!("urn:watershed:error:{}", error.code()),
        "title": error.message(),
        "status": status.as_u16(),
        "detail": error.next_step().unwrap_or(error.message()),
        "code": error.code(),
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
