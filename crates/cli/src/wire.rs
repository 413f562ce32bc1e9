//! The project on the Postgres wire, beside the API of `watershed up`.
//!
//! **Owns** what the settings mean for it. **Does not own** the protocol, which is `watershed-wire`'s, nor the tables,
//! which are those of `watershed query`.

use std::net::TcpListener;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::SchemaProvider;
use datafusion::common::DataFusionError;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use tokio::runtime::Handle;
use watershed_types::{Error, Result};
use watershed_wire::{Database, Options, Server, TlsFiles, Verifier, bind};

use crate::commands::query::trouble;
use crate::project::{PostgresUser, Project};
use crate::system;

/// A port that is taken and not served yet.
pub struct Taken {
    listener: TcpListener,
    options: Options,
}

/// Takes the port if the project or the command line wants one. Nothing is served yet, so nothing is half started if
/// the rest of the project cannot start.
pub fn take(project: &Project, listen: Option<&str>) -> Result<Option<Taken>> {
    let serve = &project.settings.serve;
    let Some(listen) = listen.or(serve.postgres.as_deref()).filter(|l| !l.is_empty()) else { return Ok(None) };
    let mut users = std::collections::BTreeMap::new();
    for (name, user) in &serve.postgres_users {
        users.insert(name.clone(), verifier(name, user)?);
    }
    let tls = serve.postgres_tls.as_ref().map(|tls| TlsFiles { certificate: project.root.join(&tls.certificate), key: project.root.join(&tls.key) });
    let options =
        Options { users, tls, max_connections: serve.postgres_max_connections.max(1), statement_timeout: Some(serve.postgres_statement_timeout).filter(|t| !t.is_zero()) };
    let listener = bind(listen)?;
    let address = listener.local_addr().map_err(|e| Error::unavailable("WIRE0003", format!("cannot listen on \"{listen}\" for Postgres clients")).caused_by(e))?;
    options.allow(address)?;
    Ok(Some(Taken { listener, options }))
}

/// What checks a user's password.
fn verifier(name: &str, user: &PostgresUser) -> Result<Verifier> {
    let place = format!("[serve.postgres_users.{name}]");
    match (&user.password_env, &user.verifier) {
        (Some(variable), None) => match std::env::var(variable) {
            Ok(password) if !password.is_empty() => Verifier::of_password(&password),
            _ => Err(Error::invalid("WIRE0006", format!("{place}: the environment variable {variable} is empty or not set"))
                .hint("Set it to the user's password before `watershed up`, or give a verifier instead.")),
        },
        (None, Some(text)) => Verifier::parse(text).ok_or_else(|| {
            Error::invalid("WIRE0006", format!("{place}: the verifier is not one of SCRAM-SHA-256"))
                .hint("It looks like SCRAM-SHA-256$4096:salt$stored:server, as Postgres keeps it in pg_authid.")
        }),
        _ => Err(Error::invalid("WIRE0006", format!("{place} needs either password_env or verifier")).hint("password_env names an environment variable with the password.")),
    }
}

impl Taken {
    /// Serves the project.
    pub fn serve(self, project: &Project, runtime: &Handle) -> Result<Server> {
        // Queries share one pool, so that no number of them takes the pipeline's memory.
        let limit = usize::try_from(project.settings.serve.postgres_memory).unwrap_or(usize::MAX);
        let limits = RuntimeEnvBuilder::new().with_memory_limit(limit, 1.0).build_arc();
        let limits = limits.map_err(|e| Error::internal("WIRE0002", "the session of the Postgres port cannot be set up").caused_by(e))?;
        let database = ProjectDatabase { project: Arc::new(Project::open(&project.root)?), runtime: runtime.clone(), limits };
        Server::start(self.listener, Arc::new(database), self.options)
    }
}

struct ProjectDatabase {
    project: Arc<Project>,
    runtime: Handle,
    limits: Arc<RuntimeEnv>,
}

#[async_trait]
impl Database for ProjectDatabase {
    fn session(&self) -> Result<SessionContext> {
        let config = system::session_config(&self.project)?.with_default_catalog_and_schema("watershed", "public");
        let context = SessionContext::new_with_config_rt(config, Arc::clone(&self.limits));
        system::register_functions(&context, &self.project, &self.runtime)?;
        Ok(context)
    }

    async fn schemas(&self) -> Result<Vec<(String, Arc<dyn SchemaProvider>)>> {
        let (project, runtime) = (Arc::clone(&self.project), self.runtime.clone());
        // Looking for tables blocks.
        let found = tokio::task::spawn_blocking(move || system::schemas(&project, &runtime)).await;
        found.map_err(|e| Error::internal("WIRE0002", "the project's tables cannot be looked up").caused_by(e))?
    }

    async fn explain(&self, error: DataFusionError, sql: &str) -> Error {
        let (project, runtime, sql) = (Arc::clone(&self.project), self.runtime.clone(), sql.to_owned());
        let worded = tokio::task::spawn_blocking(move || match system::names(&project, &runtime) {
            Ok(names) => trouble::explain(&error, &sql, &names),
            Err(error) => error,
        });
        worded.await.unwrap_or_else(|e| Error::internal("WIRE0002", "the error of a query cannot be told").caused_by(e))
    }
}
