//! Letting a client in: protocol, encryption, password.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::{ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation, save_startup_parameters_to_metadata};
use datafusion_postgres::pgwire::api::{ClientInfo, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, PasswordMessageFamily, Startup};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use parking_lot::Mutex;
use watershed_types::Error;

use crate::connection::{Connection, Registered};
use crate::error::{fatal, worded};
use crate::scram::{Exchange, Verifier};
use crate::session::Shared;

const MECHANISM: &str = "SCRAM-SHA-256";

/// Where one connection's login is.
enum Login {
    Unknown,
    /// The password is asked for.
    Asked {
        user: String,
    },
    Proving {
        user: String,
        exchange: Box<Exchange>,
    },
    Done,
}

/// One connection's way in.
pub(crate) struct Door {
    shared: Arc<Shared>,
    /// False if there are too many connections already.
    admitted: bool,
    /// True once the client is in.
    open: Arc<AtomicBool>,
    login: Mutex<Login>,
    keys: Arc<RandomPidSecretKeyGenerator>,
}

struct Parameters(HashMap<String, String>);

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, _: &C) -> Option<HashMap<String, String>> {
        Some(self.0.clone())
    }
}

fn wrong_password(user: &str) -> PgWireError {
    let error =
        Error::denied("WIRE0004", format!("the password of user \"{user}\" is wrong")).hint("Users and their passwords are under [serve.postgres_users] in watershed.toml.");
    fatal("28P01", format!("{}: {}", error.code(), error.message()), error.next_step())
}

impl Door {
    /// For one connection.
    pub fn new(shared: Arc<Shared>, admitted: bool, open: Arc<AtomicBool>, keys: Arc<RandomPidSecretKeyGenerator>) -> Door {
        Door { shared, admitted, open, login: Mutex::new(Login::Unknown), keys }
    }

    async fn begin<C>(&self, client: &mut C, startup: &Startup) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        protocol_negotiation(client, startup).await?;
        save_startup_parameters_to_metadata(client, startup);
        if !self.admitted {
            metrics::counter!("watershed_wire_refused_total", "reason" => "connections").increment(1);
            let most = self.shared.options.max_connections;
            return Err(fatal("53300", format!("there are {most} connections already"), Some("Close some, or raise [serve] postgres_max_connections.")));
        }
        if self.shared.options.tls.is_some() && !client.is_secure() {
            metrics::counter!("watershed_wire_refused_total", "reason" => "tls").increment(1);
            return Err(fatal("28000", "this server takes encrypted connections only", Some("Connect with sslmode=require, or verify-full to check the certificate.")));
        }
        let user = client.metadata().get(METADATA_USER).cloned().filter(|u| !u.is_empty()).ok_or(PgWireError::UserNameRequired)?;
        if self.shared.options.users.is_empty() {
            return self.finish(client, &user).await;
        }
        *self.login.lock() = Login::Asked { user };
        client.set_state(PgWireConnectionState::AuthenticationInProgress);
        client.send(PgWireBackendMessage::Authentication(Authentication::SASL(vec![MECHANISM.to_owned()]))).await?;
        Ok(())
    }

    async fn prove<C>(&self, client: &mut C, message: PasswordMessageFamily) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let login = std::mem::replace(&mut *self.login.lock(), Login::Done);
        match login {
            Login::Asked { user } => {
                let first = message.into_sasl_initial_response()?;
                if first.auth_method != MECHANISM {
                    return Err(PgWireError::UnsupportedSASLAuthMethod(first.auth_method));
                }
                let verifier = match self.shared.options.users.get(&user) {
                    Some(verifier) => verifier.clone(),
                    None => Verifier::of_nobody().map_err(|e| worded(&e))?,
                };
                let begun = Exchange::begin(verifier, first.data.as_deref().unwrap_or_default()).map_err(|e| worded(&e))?;
                let Some((exchange, answer)) = begun else { return Err(fatal("28000", "the client's first SCRAM message is not understood", None)) };
                *self.login.lock() = Login::Proving { user, exchange: Box::new(exchange) };
                client.send(PgWireBackendMessage::Authentication(Authentication::SASLContinue(answer.into()))).await?;
                Ok(())
            }
            Login::Proving { user, exchange } => {
                let last = message.into_sasl_response()?;
                match exchange.finish(&last.data).map_err(|e| worded(&e))? {
                    Some(answer) => {
                        client.feed(PgWireBackendMessage::Authentication(Authentication::SASLFinal(answer.into()))).await?;
                        self.finish(client, &user).await
                    }
                    None => {
                        metrics::counter!("watershed_wire_refused_total", "reason" => "password").increment(1);
                        tracing::warn!(user, from = %client.socket_addr(), "a login at the Postgres port failed");
                        Err(wrong_password(&user))
                    }
                }
            }
            Login::Unknown | Login::Done => Err(fatal("08P01", "a password was not asked for", None)),
        }
    }

    /// The client is in.
    async fn finish<C>(&self, client: &mut C, user: &str) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        *self.login.lock() = Login::Done;
        let connection = client.session_extensions().get_or_insert_with::<Connection>(Connection::default);
        connection.settings.lock().start(client.metadata(), user, self.shared.options.statement_timeout);
        let (pid, secret) = self.keys.generate(client);
        let registered = self.shared.connections.register(pid, &secret, Arc::clone(&connection));
        client.session_extensions().insert::<Registered>(registered);
        client.set_pid_and_secret_key(pid, secret);
        let parameters = Parameters(connection.settings.lock().reported());
        self.open.store(true, Ordering::Release);
        finish_authentication(client, &parameters).await
    }
}

#[async_trait]
impl StartupHandler for Door {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => self.begin(client, &startup).await,
            PgWireFrontendMessage::PasswordMessageFamily(message) => self.prove(client, message).await,
            _ => Err(fatal("08P01", "a login was expected", None)),
        }
    }
}
