//! The API of a running project: ingest, live rows, status, metrics.
//!
//! **Owns** the listener, the routes and how errors look (RFC 9457, `application/problem+json`). **Does not own** ingest
//! itself, which is the embedded log's, nor the figures, which are the pipeline's.
//!
//! I1: the port is taken before anything of the pipeline starts, and given back when the server is dropped.
//! I2: a reader of live rows that does not keep up loses its stream; the pipeline never waits for it.
//!
//! It has threads of its own, so that a busy lake does not slow down the answers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures::stream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use watershed_engine::run::{Handle, Live, SharedStatus};
use watershed_http::Log;
use watershed_types::{Error, Result, near_miss};

/// Batches that may wait for a reader of live rows.
const LIVE_BACKLOG: usize = 1_024;
/// Rows written at once, so that one reader does not hold a thread for long.
const LIVE_ROWS: usize = 256;
/// How long open requests may take when the server stops.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the routes look at.
#[derive(Clone)]
struct Shared {
    status: SharedStatus,
    live: Arc<Live>,
    tables: Arc<Vec<String>>,
    sources: Arc<Vec<String>>,
}

/// A server at work.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    done: Option<oneshot::Receiver<()>>,
}

/// Takes the port.
pub fn bind(listen: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(listen).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::conflict("CLI0030", format!("\"{listen}\" is taken by another process"))
            .hint("Take another port with --listen 127.0.0.1:9090, or any free one with --listen 127.0.0.1:0; [serve] listen in watershed.toml sets it for good."),
        std::io::ErrorKind::PermissionDenied => Error::denied("CLI0031", format!("this user may not listen on \"{listen}\"")).hint("Choose a port above 1023.").caused_by(e),
        _ => Error::invalid("CLI0032", format!("cannot listen on \"{listen}\"")).hint("Write an address of this machine and a port, such as 127.0.0.1:8080.").caused_by(e),
    })?;
    let unusable = |e: std::io::Error| Error::unavailable("CLI0032", format!("cannot listen on \"{listen}\"")).caused_by(e);
    listener.set_nonblocking(true).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    if !address.ip().is_loopback() {
        eprintln!("warning: the API listens on {address}, which other machines can reach, and it asks nobody who they are");
    }
    Ok(listener)
}

impl Server {
    /// Serves on a listener until [`Server::stop`].
    pub fn start(listener: TcpListener, handle: &Handle, logs: Vec<(String, Arc<Log>)>, tables: Vec<String>, reads: Router) -> Result<Server> {
        let failed = |e: std::io::Error| Error::unavailable("CLI0033", "the API cannot be started").caused_by(e);
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("api").enable_all().build().map_err(failed)?;
        let shared = Shared {
            status: Arc::clone(&handle.status),
            live: Arc::clone(&handle.live),
            tables: Arc::new(tables),
            sources: Arc::new(logs.iter().map(|(name, _)| name.clone()).collect()),
        };
        let routes = routes(shared, logs, reads);
        let (stop, stopped) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        drop(guard);
        runtime.spawn(async move {
            // Live rows are small and many: none should wait for the one before to be acknowledged.
            let listener = listener.tap_io(|connection| {
                let _ = connection.set_nodelay(true);
            });
            let served = axum::serve(listener, routes).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = served.await {
                tracing::error!(%error, "the API has stopped");
            }
            let _ = finished.send(());
        });
        Ok(Server { address, runtime: Some(runtime), stop: Some(stop), done: Some(done) })
    }

    /// Takes no more requests, and waits a little for those that are open.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(done) = self.done.take() {
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, done).await });
        }
        runtime.shutdown_timeout(Duration::from_millis(200));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn routes(shared: Shared, logs: Vec<(String, Arc<Log>)>, reads: Router) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/tables/{table}/live", get(live))
        .with_state(shared)
        .merge(watershed_http::router(logs))
        .merge(reads)
        .method_not_allowed_fallback(|| async { problem(StatusCode::METHOD_NOT_ALLOWED, "API0004", "this address does not take that method", Some("GET / lists what there is.")) })
        .fallback(|uri: Uri| async move { problem(StatusCode::NOT_FOUND, "API0001", &format!("there is nothing at \"{}\"", uri.path()), Some("GET / lists what there is.")) })
}

async fn index(State(shared): State<Shared>) -> String {
    let pipeline = shared.status.read().pipeline.clone();
    let mut text = format!("watershed · {pipeline}\n\n");
    for source in shared.sources.iter() {
        text.push_str(&format!("POST /v1/ingest/{source}\n     JSON records, one a line; answered when they are on disk\n"));
    }
    for table in shared.tables.iter() {
        text.push_str(&format!("GET  /v1/tables/{table}?from=&to=&key=&limit=&columns=\n     rows over hot keys, warehouse and lake\n"));
        text.push_str(&format!("GET  /v1/tables/{table}/live\n     rows as JSON lines, as they are made\n"));
    }
    text.push_str("GET  /v1/status\n     the pipeline's state as JSON\nGET  /metrics\n     Prometheus' text format\nGET  /healthz\n     200 while the pipeline runs\n");
    text
}

async fn health(State(shared): State<Shared>) -> Response {
    let (state, error) = {
        let status = shared.status.read();
        (status.state.clone(), status.error.clone())
    };
    match state.as_str() {
        "running" => "ok\n".into_response(),
        other => problem(StatusCode::SERVICE_UNAVAILABLE, "API0002", &format!("the pipeline is {other}"), error.as_deref()),
    }
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], crate::telemetry::render_metrics()).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    let status = shared.status.read().clone();
    axum::Json(status).into_response()
}

async fn live(State(shared): State<Shared>, Path(table): Path<String>) -> Response {
    if !shared.tables.contains(&table) {
        let known = shared.tables.iter().map(String::as_str);
        let hint = match near_miss(&table, known) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Tables: {}.", shared.tables.join(", ")),
        };
        return problem(StatusCode::NOT_FOUND, "API0003", &format!("there is no table \"{table}\""), Some(&hint));
    }
    let rows = shared.live.subscribe(&table, LIVE_BACKLOG);
    let body = stream::unfold((rows, None::<(RecordBatch, usize)>), |(mut rows, rest)| async move {
        let (batch, from) = match rest {
            Some(rest) => rest,
            None => (rows.recv().await?, 0),
        };
        let until = batch.num_rows().min(from + LIVE_ROWS);
        let lines = lines(&batch, from, until);
        let rest = (until < batch.num_rows()).then_some((batch, until));
        Some((Ok::<_, std::convert::Infallible>(lines), (rows, rest)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], Body::from_stream(body)).into_response()
}

fn lines(batch: &RecordBatch, from: usize, until: usize) -> Bytes {
    let mut text = String::with_capacity((until - from) * 400);
    for row in from..until {
        text.push_str(&watershed_engine::json::row_as_json(batch, row));
        text.push('\n');
    }
    Bytes::from(text)
}

/// An error as RFC 9457 has it, in the words ingest uses: the title says what, the detail what to do.
fn problem(status: StatusCode, code: &str, title: &str, hint: Option<&str>) -> Response {
    let body = serde_json::json!({
        "type": format!("urn:watershed:error:{code}"),
        "title": title,
        "status": status.as_u16(),
        "detail": hint.unwrap_or(title),
        "code": code,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
