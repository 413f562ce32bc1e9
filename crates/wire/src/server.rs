//! The port: who is taken, on which threads, and how it ends.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{PgWireServerHandlers, RandomPidSecretKeyGenerator};
use datafusion_postgres::pgwire::tokio::tokio_rustls::rustls::ServerConfig;
use datafusion_postgres::pgwire::tokio::tokio_rustls::rustls::crypto::ring;
use datafusion_postgres::pgwire::tokio::tokio_rustls::rustls::pki_types::pem::PemObject;
use datafusion_postgres::pgwire::tokio::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use datafusion_postgres::pgwire::tokio::{TlsAcceptor, process_socket};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watershed_types::sql::PLANNING_STACK;
use watershed_types::{Error, Result};

use crate::connection::Connections;
use crate::database::Database;
use crate::options::{Options, TlsFiles};
use crate::service::Service;
use crate::session::Shared;
use crate::startup::Door;

/// How long a client may take to log in.
const LOGIN: Duration = Duration::from_secs(15);
/// Connections that are let in far enough to be told there are too many, or to cancel a statement.
const WAITING: usize = 32;
/// Threads that statements run on.
const THREADS: usize = 2;

/// Takes a port.
pub fn bind(listen: &str) -> Result<TcpListener> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::conflict("WIRE0003", format!("\"{listen}\" is taken by another process"))
            .hint("Take another port with --postgres 127.0.0.1:5434, or [serve] postgres in watershed.toml."),
        _ => Error::invalid("WIRE0003", format!("cannot listen on \"{listen}\" for Postgres clients"))
            .hint("Write an address of this machine and a port, such as 127.0.0.1:5433.")
            .caused_by(e),
    };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// A server at work; it ends when it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves a database on a port.
    pub fn start(listener: TcpListener, database: Arc<dyn Database>, options: Options) -> Result<Server> {
        let failed = |e: std::io::Error| Error::unavailable("WIRE0003", "the Postgres port cannot be served").caused_by(e);
        let address = listener.local_addr().map_err(failed)?;
        options.allow(address)?;
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("wire").thread_stack_size(PLANNING_STACK).enable_all().build().map_err(failed)?;
        let shared = Arc::new(Shared::new(database, options)?);
        let guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        drop(guard);
        runtime.spawn(accept(listener, tls, shared));
        Ok(Server { address, runtime: Some(runtime) })
    }

    /// Ends every connection.
    pub fn stop(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads a certificate and its key. Never falls back to no encryption.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let unusable = |what: &str, path: &std::path::Path, cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::invalid("WIRE0005", format!("the {what} in \"{}\" cannot be used", path.display()))
            .hint("Both files are PEM: [serve.postgres_tls] certificate and key.")
            .caused_by(cause)
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|e| unusable("certificate", &files.certificate, Box::new(e)))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable("private key", &files.key, Box::new(e)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|e| unusable("certificate and key", &files.certificate, Box::new(e)))?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.options.max_connections));
    let waiting = Arc::new(Semaphore::new(WAITING));
    let keys = Arc::new(RandomPidSecretKeyGenerator::default());
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of files, most likely: connections that end give some back.
                tracing::warn!(%error, "the Postgres port cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (place, admitted) = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => (place, true),
            Err(_) => match Arc::clone(&waiting).try_acquire_owned() {
                Ok(place) => (place, false),
                Err(_) => continue,
            },
        };
        let open = Arc::new(AtomicBool::new(false));
        let handlers = Handlers { door: Arc::new(Door::new(Arc::clone(&shared), admitted, Arc::clone(&open), Arc::clone(&keys))), shared: Arc::clone(&shared) };
        tokio::spawn(serve(socket, tls.clone(), handlers, open, place));
    }
}

/// One connection from its first byte to its last.
async fn serve(socket: TcpStream, tls: Option<TlsAcceptor>, handlers: Handlers, open: Arc<AtomicBool>, _place: OwnedSemaphorePermit) {
    let _counted = Counted::new();
    let conversation = process_socket(socket, tls, handlers);
    tokio::pin!(conversation);
    let ended = tokio::select! {
        ended = &mut conversation => ended,
        () = tokio::time::sleep(LOGIN) => match open.load(Ordering::Acquire) {
            true => conversation.await,
            false => Ok(()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection at the Postgres port has broken");
    }
}

/// Counts a connection as long as it lives.
struct Counted;

impl Counted {
    fn new() -> Counted {
        metrics::gauge!("watershed_wire_connections").increment(1.0);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("watershed_wire_connections").decrement(1.0);
    }
}

/// What answers one connection.
struct Handlers {
    door: Arc<Door>,
    shared: Arc<Shared>,
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::new(Service(Arc::clone(&self.shared)))
    }
    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Service(Arc::clone(&self.shared)))
    }
    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.door)
    }
    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        let connections: Arc<Connections> = Arc::clone(&self.shared.connections);
        connections
    }
}
