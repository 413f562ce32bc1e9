//! Simulated traffic over HTTP: several connections, an NDJSON body at least every 20 ms, backing off when told to.
//!
//! **Owns** the pace and the count of what was acknowledged. **Does not own** what a record looks like.
//!
//! I1: a record counts as sent once its request was acknowledged; a request that was refused with 429 is sent again whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use watershed_simulator::{Made, Profile, Simulator};
use watershed_types::{Error, Result};

use super::latency::{Book, Measured, summary};

const CONNECTIONS: usize = 4;
const EVERY: Duration = Duration::from_millis(20);
/// Records in a body at most; faster traffic comes in more bodies, not larger ones.
const LARGEST: u64 = 10_000;
/// Where a record's id stands.
const ID: std::ops::Range<usize> = 19..55;

/// What to send.
pub struct Traffic {
    pub address: SocketAddr,
    /// Records a second.
    pub rate: u64,
    /// How long.
    pub sending: Duration,
    pub profile: Profile,
    /// Event time runs so much faster than the clock.
    pub speed: f64,
    /// Set when the demo is told to stop.
    pub stop: Arc<AtomicBool>,
    pub latency: Arc<Book>,
}

/// What was sent.
pub struct Sent {
    /// Records that were acknowledged.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What they were meant to be.
    pub made: BTreeMap<Made, u64>,
    /// Requests that were acknowledged.
    pub requests: u64,
    /// Requests that were told to wait.
    pub told_to_wait: u64,
    /// How long acknowledgements took.
    pub acknowledged: Measured,
    /// When the first request started.
    pub began: Instant,
    /// How long sending took.
    pub took: Duration,
}

#[derive(Default)]
struct Tally {
    records: u64,
    bytes: u64,
    requests: u64,
    told_to_wait: u64,
    made: BTreeMap<Made, u64>,
    acknowledged: Vec<Duration>,
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

impl Traffic {
    /// Sends everything; returns when the last request was answered.
    pub fn send(self) -> Result<Sent> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("client")
            .enable_all()
            .build()
            .map_err(|e| Error::unavailable("CLI0043", "the demo's client cannot be started").caused_by(e))?;
        let traffic = Arc::new(self);
        let began = Instant::now();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let next = Arc::new(AtomicU64::new(0));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: HttpClient = Client::builder(TokioExecutor::new()).build(connector);
        let result = runtime.block_on(async {
            let tasks: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(connection(Arc::clone(&traffic), client.clone(), Arc::clone(&next), Arc::clone(&tally), began))).collect();
            for task in tasks {
                task.await.map_err(|e| Error::internal("CLI0044", "a sender has ended unexpectedly").caused_by(e))??;
            }
            Ok::<_, Error>(())
        });
        let took = began.elapsed();
        result?;
        let mut tally = std::mem::take(&mut *tally.lock());
        Ok(Sent {
            records: tally.records,
            bytes: tally.bytes,
            made: tally.made,
            requests: tally.requests,
            told_to_wait: tally.told_to_wait,
            acknowledged: summary(&mut tally.acknowledged),
            began,
            took,
        })
    }

    /// Time between two bodies.
    fn every(&self) -> f64 {
        EVERY.as_secs_f64().min(LARGEST as f64 / self.rate as f64)
    }

    /// The index of the first record of a batch.
    fn first(&self, batch: u64) -> u64 {
        (batch as f64 * self.every() * self.rate as f64).round() as u64
    }
}

/// One connection: takes the next batch that is due, until time is over.
async fn connection(traffic: Arc<Traffic>, client: HttpClient, next: Arc<AtomicU64>, tally: Arc<Mutex<Tally>>, began: Instant) -> Result<()> {
    let simulator = Simulator::new(traffic.profile.clone());
    let uri = format!("http://{}/v1/ingest/transactions", traffic.address);
    let batches = (traffic.sending.as_secs_f64() / traffic.every()).round() as u64;
    loop {
        let batch = next.fetch_add(1, Ordering::Relaxed);
        let due = began + Duration::from_secs_f64(batch as f64 * traffic.every());
        tokio::time::sleep_until(due.into()).await;
        if batch >= batches || began.elapsed() >= traffic.sending + EVERY || traffic.stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        let records = traffic.first(batch)..traffic.first(batch + 1);
        if records.is_empty() {
            continue;
        }
        let (body, made, id) = compose(&traffic, &simulator, records.clone(), began.elapsed());
        let size = body.len() as u64;
        let mut waits = 0;
        let took = loop {
            if let Some(id) = &id {
                traffic.latency.sending(id);
            }
            let asked = Instant::now();
            let Some(wait) = post(&client, &uri, body.clone()).await? else { break asked.elapsed() };
            if waits == 0 && tally.lock().told_to_wait == 0 {
                eprintln!("the log has as much unread as it may (429): waiting {} s, as it asks", wait.as_secs_f64());
            }
            waits += 1;
            tally.lock().told_to_wait += 1;
            tokio::time::sleep(wait).await;
        };
        let mut tally = tally.lock();
        tally.records += records.end - records.start;
        tally.bytes += size;
        tally.requests += 1;
        tally.acknowledged.push(took);
        for (kind, count) in made {
            *tally.made.entry(kind).or_default() += count;
        }
    }
}

/// A body, what is in it, and the id of its first good record.
fn compose(traffic: &Traffic, simulator: &Simulator, records: std::ops::Range<u64>, elapsed: Duration) -> (Bytes, BTreeMap<Made, u64>, Option<String>) {
    let mut body = Vec::with_capacity((records.end - records.start) as usize * 360);
    let mut made: BTreeMap<Made, u64> = BTreeMap::new();
    let mut id = None;
    let first = traffic.profile.start_micros + (elapsed.as_secs_f64() * traffic.speed * 1e6) as i64;
    for index in records.clone() {
        let start = body.len();
        let event_time = first + ((index - records.start) as f64 * 1e6 / traffic.profile.events_per_second) as i64;
        let kind = simulator.record(index, Some(event_time), &mut body);
        *made.entry(kind).or_default() += 1;
        if kind == Made::Good && id.is_none() {
            id = body.get(start + ID.start..start + ID.end).map(|id| String::from_utf8_lossy(id).into_owned());
        }
        body.push(b'\n');
    }
    (Bytes::from(body), made, id)
}

/// Posts a body; `Some` is how long to wait before trying again.
async fn post(client: &HttpClient, uri: &str, body: Bytes) -> Result<Option<Duration>> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::unavailable("CLI0045", format!("POST {uri} has failed")).caused_by(e);
    let request = Request::builder().method(Method::POST).uri(uri).header("content-type", "application/x-ndjson").body(Full::new(body)).map_err(|e| failed(e.into()))?;
    let response = client.request(request).await.map_err(|e| failed(e.into()))?;
    let code = response.status();
    let wait = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<f64>().ok());
    // The whole answer is read so that the connection can be used again.
    let answer = response.into_body().collect().await.map_err(|e| failed(e.into()))?.to_bytes();
    if code.is_success() {
        return Ok(None);
    }
    if code == StatusCode::TOO_MANY_REQUESTS {
        return Ok(Some(Duration::from_secs_f64(wait.unwrap_or(1.0).clamp(0.05, 60.0))));
    }
    Err(Error::unavailable("CLI0045", format!("POST {uri} was answered {code}: {}", String::from_utf8_lossy(&answer).trim())))
}
