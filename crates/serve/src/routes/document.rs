//! The description of the API, made from the routes.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};
use utoipa::{Modify, OpenApi as _};

use crate::auth::COOKIE;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Watershed", description = "The HTTP API of a running project. Times are microseconds since 1970, durations are seconds.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(ingest, read),
    modifiers(&Ways),
    tags(
        (name = "pipeline", description = "What runs, and how well"),
        (name = "data", description = "Tables, queries, records"),
        (name = "accounts", description = "The ledger, the quarantine, checkpoints, the audit"),
        (name = "alerts", description = "What wants attention"),
        (name = "access", description = "Who may do what"),
    )
)]
struct Head;

/// How callers say who they are.
struct Ways;

impl Modify for Ways {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(COOKIE))));
        document.security = Some(vec![SecurityRequirement::new::<_, [String; 0], String>("token", []), SecurityRequirement::new::<_, [String; 0], String>("session", [])]);
    }
}

/// Take records.
///
/// JSON objects, one a line, or an array of them; `Content-Encoding: gzip` and `zstd` are understood. 200 means that every record is on disk.
#[utoipa::path(
    post,
    path = "/v1/ingest/{source}",
    tag = "data",
    params(("source" = String, Path, description = "A source with connector = 'http'")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "On disk", content_type = "application/json", body = Object),
        (status = "4XX", description = "Not taken", content_type = "application/problem+json", body = crate::problem::ProblemBody),
        (status = "5XX", description = "Not taken now; send it again", content_type = "application/problem+json", body = crate::problem::ProblemBody),
    )
)]
#[allow(dead_code)]
// The door for records is a router of another crate; this describes it.
fn ingest() {}

/// Read a table over hot keys, warehouse and lake.
#[utoipa::path(
    get,
    path = "/v1/tables/{table}",
    tag = "data",
    params(
        ("table" = String, Path),
        ("from" = Option<String>, Query, description = "From this event time on"),
        ("to" = Option<String>, Query, description = "Up to this event time"),
        ("key" = Option<String>, Query, description = "Of this key"),
        ("limit" = Option<u64>, Query),
        ("columns" = Option<String>, Query, description = "Only these, with commas between them"),
    ),
    responses(
        (status = 200, description = "Rows, the oldest first; headers say where they came from", content_type = "application/json", body = Vec<Object>),
        (status = "4XX", description = "Not understood", content_type = "application/problem+json", body = crate::problem::ProblemBody),
        (status = "5XX", description = "No tier answers now", content_type = "application/problem+json", body = crate::problem::ProblemBody),
    )
)]
#[allow(dead_code)]
// The route is another crate's too.
fn read() {}

/// The document without the routes of this crate.
pub fn head() -> OpenApi {
    Head::openapi()
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    super::described().into_openapi()
}
