//! The listener: connections, their limits, and an orderly end.
//!
//! I1: the server is given a port that is taken already, and gives it back when it is dropped.
//! I2: a connection has a time for its headers, for its body, and for taking its answer; there is a limit to all of them.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use watershed_engine::run::Live;
use watershed_types::sql::PLANNING_STACK;
use watershed_types::{Error, Result, Secret};

use crate::access::{AlertBook, ProjectAccess};
use crate::auth::{Door, TokenFile, TokenRecord};
use crate::hub::{self, Hub};
use crate::io::Stalling;
use crate::observe::{Constants, Resolution, Series, SourceOfFigures};
use crate::problem::code;
use crate::rate::Rate;
use crate::routes;
use crate::shared::Shared;

/// How long WebSockets may take to be told that the server stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long open requests may take when the server stops.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a client may take for the head of a request, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answer.
const STALL: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// Connections at once.
const CONNECTIONS: usize = 1_024;
/// Queries at once, and threads they have.
const QUERIES: usize = 4;
const QUERY_THREADS: usize = 2;

/// What is served.
pub struct Parts {
    /// Figures.
    pub figures: SourceOfFigures,
    /// Live rows.
    pub live: Arc<Live>,
    /// The project.
    pub project: Arc<dyn ProjectAccess>,
    /// Its alerts.
    pub alerts: Arc<dyn AlertBook>,
    /// What never changes.
    pub constants: Constants,
    /// The door for records, and the sources it takes them for.
    pub ingest: Router,
    /// Their names.
    pub doors: Vec<String>,
}

/// How it is served.
pub struct ServeOptions {
    /// Tokens of the settings.
    pub tokens: Vec<TokenRecord>,
    /// Tokens that were made by command.
    pub file: TokenFile,
    /// A token for the commands of this machine, if any is wanted.
    pub local: Option<Secret>,
    /// Pages of other origins that may send requests.
    pub origins: Vec<String>,
    /// Names besides `localhost` that are ours on loopback.
    pub hosts: Vec<String>,
    /// Requests a second and caller.
    pub requests_per_second: NonZeroU32,
    /// What queries may take together, bytes.
    pub query_memory: usize,
}

/// A server at work.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    hub: Arc<Hub>,
    runtime: Option<Runtime>,
    queries: Option<Runtime>,
    stop: watch::Sender<bool>,
    done: Option<oneshot::Receiver<()>>,
}

impl Server {
    /// Serves on a listener until [`Server::stop`].
    pub fn start(listener: TcpListener, parts: Parts, options: ServeOptions) -> Result<Server> {
        let failed = |e: std::io::Error| Error::unavailable(code::START, "the API cannot be started").caused_by(e);
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("api").enable_all().build().map_err(failed)?;
        let queries = Builder::new_multi_thread().worker_threads(QUERY_THREADS).thread_name("query").thread_stack_size(PLANNING_STACK).enable_all().build().map_err(failed)?;
        let door = door(address, &options)?;
        let tables = parts.figures.topology.tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
        let hub = Arc::new(Hub::new(tables.into_iter()));
        let document = serde_json::to_vec(&routes::document()).map_err(|e| Error::internal(code::START, "the API cannot describe itself").caused_by(e))?;
        let shared = Arc::new(Shared {
            figures: parts.figures,
            live: parts.live,
            project: parts.project,
            alerts: parts.alerts,
            door,
            rate: Rate::new(options.requests_per_second),
            loopback: address.ip().is_loopback(),
            address,
            hosts: options.hosts,
            origins: options.origins,
            constants: parts.constants,
            doors: parts.doors,
            series: [RwLock::new(Series::new(Resolution::Second)), RwLock::new(Series::new(Resolution::TenSeconds))],
            newest: RwLock::default(),
            hub: Arc::clone(&hub),
            queries: Semaphore::new(QUERIES),
            query_memory: options.query_memory,
            query_threads: queries.handle().clone(),
            auditing: Semaphore::new(1),
            records: Mutex::new(None),
            document: Bytes::from(document),
        });
        let router = routes::router(Arc::clone(&shared), parts.ingest);
        let (stop, stopped) = watch::channel(false);
        let (finished, done) = oneshot::channel();
        let guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        drop(guard);
        runtime.spawn(hub::run(shared));
        runtime.spawn(async move {
            accept(listener, router, stopped).await;
            let _ = finished.send(());
        });
        Ok(Server { address, hub, runtime: Some(runtime), queries: Some(queries), stop, done: Some(done) })
    }

    /// Takes no more requests, and waits a little for those that are open.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.hub.end();
        self.stop.send_replace(true);
        if let Some(done) = self.done.take() {
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, done).await });
        }
        // WebSockets are no requests any more: their tasks are told by the hub, and say goodbye if their readers let them.
        let told = Instant::now();
        while self.hub.clients() > 0 && told.elapsed() < FAREWELL {
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime.shutdown_timeout(Duration::from_millis(200));
        if let Some(queries) = self.queries.take() {
            queries.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Beyond loopback everybody needs a token, so there has to be one.
fn door(address: SocketAddr, options: &ServeOptions) -> Result<Door> {
    let required = !address.ip().is_loopback();
    let door = Door::new(required, options.tokens.clone(), options.file.clone(), options.local.as_ref())?;
    if required && door.tokens().is_empty() {
        return Err(Error::denied(code::OPEN, format!("\"{address}\" can be reached by other machines, and there is no token that would keep them out"))
            .hint("Make one: watershed token create --role admin --name me. Or listen on 127.0.0.1."));
    }
    Ok(door)
}

async fn accept(listener: tokio::net::TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, say: it passes.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = told(&mut stopped) => break,
        };
        // Live rows are small and many: none should wait for the one before to be acknowledged.
        let _ = stream.set_nodelay(true);
        let (router, stopped) = (router.clone(), stopped.clone());
        connections.spawn(async move {
            serve(stream, router, stopped).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the server is to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn serve(stream: tokio::net::TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).keep_alive(true);
    let connection = protocol.serve_connection(TokioIo::new(Stalling::new(stream, STALL)), TowerToHyperService::new(router)).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = told(&mut stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has ended");
    }
}
