//! The API of a running project: what the program hands to `watershed_serve`.
//!
//! **Owns** the port, and how a project looks to the API. **Does not own** routes, roles or limits.

mod access;
mod alerts;

use std::net::TcpListener;
use std::sync::Arc;

use tokio::runtime::Runtime;
use watershed_serve::{Constants, NoAlerts, Origin, Parts, Role, ServeOptions, Server, SourceOfFigures, TokenFile, TokenRecord, fresh_token, hash_of, parse_hash};
use watershed_types::{Error, Result, Secret};

use crate::project::{Project, TokenSettings};
use crate::session::Session;
use access::Access;

/// Takes the port.
pub fn bind(listen: &str) -> Result<TcpListener> {
    TcpListener::bind(listen).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::conflict("CLI0030", format!("\"{listen}\" is taken by another process"))
            .hint("Take another port with --listen 127.0.0.1:9090, or any free one with --listen 127.0.0.1:0; [serve] listen in watershed.toml sets it for good."),
        std::io::ErrorKind::PermissionDenied => Error::denied("CLI0031", format!("this user may not listen on \"{listen}\"")).hint("Choose a port above 1023.").caused_by(e),
        _ => Error::invalid("CLI0032", format!("cannot listen on \"{listen}\"")).hint("Write an address of this machine and a port, such as 127.0.0.1:8080.").caused_by(e),
    })
}

/// Serves a session and `reads`, the route over tables' tiers; also returns the token by which commands of this machine may ask.
pub fn serve(
    listener: TcpListener,
    project: &Project,
    runtime: &Runtime,
    session: &Session,
    reads: axum::Router,
    book: Option<watershed_alerts::Book>,
) -> Result<(Server, Secret)> {
    let local = fresh_token()?;
    let settings = &project.settings.serve;
    let options = ServeOptions {
        tokens: tokens(&settings.tokens)?,
        file: token_file(project),
        local: Some(local.clone()),
        origins: settings.origins.clone(),
        hosts: settings.hosts.clone(),
        requests_per_second: settings.requests_per_second,
        query_memory: usize::try_from(settings.query_memory).unwrap_or(usize::MAX),
    };
    let logs = session.adapters.logs();
    let parts = Parts {
        figures: SourceOfFigures { status: Arc::clone(&session.handle.status), observed: Arc::clone(&session.handle.observed), topology: Arc::clone(&session.topology) },
        live: Arc::clone(&session.handle.live),
        project: Arc::new(Access::new(project, runtime.handle().clone(), Arc::clone(&session.topology))?),
        alerts: match book {
            Some(book) => Arc::new(alerts::ProjectAlerts(book)),
            None => Arc::new(NoAlerts),
        },
        constants: Constants {
            started_at: chrono::Utc::now().timestamp_micros(),
            epoch_interval_seconds: project.settings.engine.epoch_interval.as_secs_f64(),
            memory_limit: project.settings.engine.memory,
        },
        doors: logs.iter().map(|(name, _)| name.clone()).collect(),
        ingest: watershed_http::router(logs).merge(reads),
    };
    Ok((Server::start(listener, parts, options)?, local))
}

/// Where `watershed token` keeps what it makes.
pub fn token_file(project: &Project) -> TokenFile {
    TokenFile::new(project.work().join("tokens.json"))
}

/// The tokens of the settings.
pub fn tokens(settings: &[TokenSettings]) -> Result<Vec<TokenRecord>> {
    let mut tokens: Vec<TokenRecord> = Vec::new();
    for TokenSettings { name, role, hash, env } in settings {
        let wrong = |what: String, hint: &str| Error::invalid("SRV0019", format!("[serve] tokens: \"{name}\": {what}")).hint(hint);
        let role = Role::parse(role).ok_or_else(|| wrong(format!("there is no role \"{role}\""), "Roles: viewer, operator, admin, ingest."))?;
        if name == "local" || tokens.iter().any(|token| token.name == *name) {
            return Err(wrong("the name is taken".to_owned(), "Give each token a name of its own."));
        }
        let hash = match (hash, env) {
            (Some(hash), None) => {
                parse_hash(hash).ok_or_else(|| wrong("its hash is not one".to_owned(), "Write sha256: and 64 hexadecimal digits: printf %s TOKEN | sha256sum."))?
            }
            (None, Some(variable)) => {
                let token = std::env::var(variable).ok().filter(|token| token.trim().len() >= 16);
                hash_of(
                    token
                        .ok_or_else(|| wrong(format!("the environment variable {variable} has no token of at least 16 characters"), "Set it, or write hash = \"sha256:…\"."))?
                        .trim(),
                )
            }
            _ => return Err(wrong("it needs either hash or env".to_owned(), "hash = \"sha256:…\" or env = \"NAME\".")),
        };
        tokens.push(TokenRecord { name: name.clone(), role, hash, from: Origin::Settings, created_at: None });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_the_settings_has_a_role_a_name_of_its_own_and_a_hash_or_a_variable() {
        let of =
            |name: &str, role: &str, hash: Option<String>, env: Option<&str>| TokenSettings { name: name.to_owned(), role: role.to_owned(), hash, env: env.map(str::to_owned) };
        let hash = || Some(format!("sha256:{}", "0b".repeat(32)));
        let good = tokens(&[of("ops", "admin", hash(), None), of("feed", "ingest", hash(), None)]).expect("two tokens");
        assert_eq!((good.len(), good[1].role), (2, Role::Ingest));
        for (wrong, words) in [
            (vec![of("ops", "root", hash(), None)], "there is no role \"root\""),
            (vec![of("ops", "admin", Some("sha256:xyz".to_owned()), None)], "its hash is not one"),
            (vec![of("ops", "admin", hash(), Some("HOME"))], "either hash or env"),
            (vec![of("ops", "admin", None, None)], "either hash or env"),
            (vec![of("ops", "admin", None, Some("WATERSHED_NO_SUCH_TOKEN"))], "WATERSHED_NO_SUCH_TOKEN"),
            (vec![of("ops", "admin", hash(), None), of("ops", "viewer", hash(), None)], "the name is taken"),
        ] {
            let error = tokens(&wrong).expect_err("it is wrong");
            assert!(error.code() == "SRV0019" && error.message().contains(words), "{error:?}");
        }
    }
}
