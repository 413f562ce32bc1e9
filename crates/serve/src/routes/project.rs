//! The project and its settings. Secrets are masked before they get here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::{Origin, Role};
use crate::problem::{Answer, ProblemBody};
use crate::shared::{Shared, blocking};
use crate::topology::Topology;

/// The project.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectView {
    /// The pipeline's name.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: i64,
    /// Where it listens.
    pub listen: String,
    /// True if the console is built in.
    pub console: bool,
    /// Its parts.
    #[serde(flatten)]
    pub parts: Topology,
}

/// The settings.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettingsView {
    /// As `watershed.toml` has them; what is not there has its default.
    #[schema(value_type = Object)]
    pub settings: Value,
    /// Who may come in.
    pub tokens: Vec<TokenView>,
}

/// A token without the token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Who holds it.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Where it is kept.
    pub from: Origin,
    /// Since when.
    pub created_at: Option<i64>,
}

/// What the project is made of.
#[utoipa::path(
    get,
    path = "/v1/project",
    tag = "pipeline",
    responses((status = 200, description = "Sources, tables, targets", body = ProjectView), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn project(State(shared): State<Arc<Shared>>) -> Json<ProjectView> {
    Json(ProjectView {
        name: shared.figures.status.read().pipeline.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: shared.constants.started_at,
        listen: shared.address.to_string(),
        console: crate::console::built(),
        parts: shared.figures.topology.as_ref().clone(),
    })
}

/// The settings.
#[utoipa::path(
    get,
    path = "/v1/settings",
    tag = "access",
    responses((status = 200, description = "Secrets are masked", body = SettingsView), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn settings(State(shared): State<Arc<Shared>>) -> Answer<Json<SettingsView>> {
    let tokens = shared.door.tokens().into_iter().map(|token| TokenView { name: token.name, role: token.role, from: token.from, created_at: token.created_at }).collect();
    let project = Arc::clone(&shared.project);
    let settings = blocking(move || project.settings()).await?;
    Ok(Json(SettingsView { settings, tokens }))
}
