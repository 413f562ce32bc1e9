//! Live topics: each message written once for everybody, a quarter of a second apart.
//!
//! ```text
//! status, latencies ─ every second ─▶ series        ┌▶ client: last seq per topic
//! status ─┐                                         │
//! rows   ─┼─ every 250 ms ─▶ topic: newest frame ───┼▶ client …   (a beat wakes all)
//! alerts ─┘                                         └▶ client …
//! ```
//!
//! I1: a topic holds its newest frame and nothing else: there is no queue a slow client could fill.
//! I2: a frame is made only while somebody follows its topic.
//! I3: a client that has frame n gets what changed in n + 1; one that missed some gets the whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::extract::ws::Utf8Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::observe::{Resolution, Sampler};
use crate::shared::{Shared, now};

/// How often topics are looked at.
pub const BEAT: Duration = Duration::from_millis(250);
/// The beat after which there is none.
pub const THE_END: u64 = u64::MAX;
/// Beats between points of the series.
const SECOND: u64 = 4;
/// Rows shown of each table and beat.
const ROWS: usize = 50;
/// Batches that may wait between two beats.
const BACKLOG: usize = 4_096;

/// One message, as everybody gets it.
#[derive(Clone)]
pub struct Frame {
    /// Which of its topic.
    pub seq: u64,
    /// All of it.
    pub full: Utf8Bytes,
    /// What changed since the one before, if that is less.
    pub delta: Option<Utf8Bytes>,
}

/// Something to follow.
#[derive(Default)]
pub struct Topic {
    seq: Mutex<u64>,
    frame: RwLock<Option<Arc<Frame>>>,
    followers: AtomicUsize,
}

impl Topic {
    /// The newest message.
    pub fn newest(&self) -> Option<Arc<Frame>> {
        self.frame.read().clone()
    }
    /// Somebody follows.
    pub fn follow(&self) {
        self.followers.fetch_add(1, Ordering::SeqCst);
    }
    /// Somebody does not any more.
    pub fn leave(&self) {
        self.followers.fetch_sub(1, Ordering::SeqCst);
    }
    fn wanted(&self) -> bool {
        self.followers.load(Ordering::SeqCst) > 0
    }
    fn publish(&self, make: impl FnOnce(u64) -> (String, Option<String>)) {
        let mut seq = self.seq.lock();
        *seq += 1;
        let (full, delta) = make(*seq);
        *self.frame.write() = Some(Arc::new(Frame { seq: *seq, full: full.into(), delta: delta.map(Utf8Bytes::from) }));
    }
    /// Nobody is to get what was true some time ago.
    fn forget(&self) {
        if self.frame.read().is_some() {
            *self.frame.write() = None;
        }
    }
}

/// A table's rows.
#[derive(Default)]
pub struct Rows {
    topic: Arc<Topic>,
    incoming: Option<Receiver<RecordBatch>>,
}

/// Every topic.
pub struct Hub {
    graph: Arc<Topic>,
    series: Arc<Topic>,
    alerts: Arc<Topic>,
    rows: Mutex<BTreeMap<String, Rows>>,
    beat: watch::Sender<u64>,
    clients: AtomicUsize,
}

impl Hub {
    /// Topics for these tables.
    pub fn new(tables: impl Iterator<Item = String>) -> Hub {
        Hub {
            graph: Arc::default(),
            series: Arc::default(),
            alerts: Arc::default(),
            rows: Mutex::new(tables.map(|table| (table, Rows::default())).collect()),
            beat: watch::channel(0).0,
            clients: AtomicUsize::new(0),
        }
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        match name {
            "graph" | "status" => Some(Arc::clone(&self.graph)),
            "series" => Some(Arc::clone(&self.series)),
            "alerts" => Some(Arc::clone(&self.alerts)),
            _ => self.rows.lock().get(name.strip_prefix("rows:")?).map(|rows| Arc::clone(&rows.topic)),
        }
    }

    /// Wakes whoever waits for it when topics were looked at.
    pub fn beats(&self) -> watch::Receiver<u64> {
        self.beat.subscribe()
    }

    /// Tells every client that it is over.
    pub fn end(&self) {
        self.beat.send_replace(THE_END);
    }

    /// Takes a place for a client; false if there is none.
    pub fn enter(&self, at_most: usize) -> bool {
        self.clients.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |clients| (clients < at_most).then_some(clients + 1)).is_ok()
    }

    /// Gives it back.
    pub fn exit(&self) {
        self.clients.fetch_sub(1, Ordering::SeqCst);
    }

    /// Clients there are.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::SeqCst)
    }
}

/// Takes points and makes frames until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut clock = interval(BEAT);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut samplers = [Sampler::default(), Sampler::default()];
    let mut graph = None;
    let mut alerts = None;
    for beat in 0u64.. {
        clock.tick().await;
        if beat % SECOND == 0 {
            sample(&shared, &mut samplers, beat / SECOND);
        }
        let hub = &shared.hub;
        publish_graph(&shared, &hub.graph, &mut graph);
        publish_alerts(&shared, &hub.alerts, &mut alerts);
        publish_rows(&shared);
        metrics_of(hub);
        hub.beat.send_if_modified(|at| {
            let goes_on = *at != THE_END;
            if goes_on {
                *at = beat;
            }
            goes_on
        });
    }
}

fn metrics_of(hub: &Hub) {
    metrics::gauge!("watershed_live_clients").set(hub.clients() as f64);
}

fn sample(shared: &Shared, samplers: &mut [Sampler; 2], second: u64) {
    let now = now();
    let values = samplers[0].sample(&shared.figures, now);
    shared.series(Resolution::Second).write().push(now, &values);
    if second.is_multiple_of(Resolution::TenSeconds.step()) {
        let ten = samplers[1].sample(&shared.figures, now);
        shared.series(Resolution::TenSeconds).write().push(now, &ten);
    }
    let topic = &shared.hub.series;
    if topic.wanted() {
        topic.publish(|seq| (json!({ "topic": "series", "seq": seq, "step_seconds": 1, "at": now, "values": values }).to_string(), None));
    } else {
        topic.forget();
    }
    *shared.newest.write() = values;
}

fn publish_graph(shared: &Shared, topic: &Topic, before: &mut Option<Map<String, Value>>) {
    if !topic.wanted() {
        topic.forget();
        *before = None;
        return;
    }
    let Ok(Value::Object(after)) = serde_json::to_value(shared.graph()) else { return };
    topic.publish(|seq| {
        let message = |full: bool, data: &Map<String, Value>| json!({ "topic": "graph", "seq": seq, "full": full, "data": data }).to_string();
        (message(true, &after), before.as_ref().map(|before| message(false, &changes(before, &after))))
    });
    *before = Some(after);
}

/// Fields that differ; of lists of nodes and edges, the elements that differ. Nodes and edges never come or go in a run.
fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let mut changed = Map::new();
    for (name, value) in after.iter().filter(|(name, value)| before.get(*name) != Some(value)) {
        let part = match (name.as_str(), before.get(name), value) {
            ("nodes" | "edges", Some(Value::Array(old)), Value::Array(new)) => {
                Value::Array(new.iter().enumerate().filter(|(index, element)| old.get(*index) != Some(element)).map(|(_, element)| element.clone()).collect())
            }
            _ => value.clone(),
        };
        changed.insert(name.clone(), part);
    }
    changed
}

fn publish_alerts(shared: &Shared, topic: &Topic, known: &mut Option<u64>) {
    if !topic.wanted() {
        topic.forget();
        *known = None;
        return;
    }
    let revision = shared.alerts.revision();
    if *known != Some(revision) {
        *known = Some(revision);
        topic.publish(|seq| (json!({ "topic": "alerts", "seq": seq, "data": shared.alerts.list() }).to_string(), None));
    }
}

fn publish_rows(shared: &Shared) {
    for (table, rows) in shared.hub.rows.lock().iter_mut() {
        if !rows.topic.wanted() {
            rows.incoming = None;
            rows.topic.forget();
            continue;
        }
        let incoming = rows.incoming.get_or_insert_with(|| shared.live.subscribe(table, BACKLOG));
        let (batches, total, ended) = drain(incoming);
        if ended {
            // We were too slow for once: follow anew.
            rows.incoming = None;
        }
        if total > 0 {
            rows.topic.publish(|seq| (rows_message(table, seq, &batches, total), None));
        }
    }
}

/// What came since the last beat: the batches that hold the newest rows, and how many rows there were.
fn drain(incoming: &mut Receiver<RecordBatch>) -> (VecDeque<RecordBatch>, usize, bool) {
    let (mut newest, mut held, mut total) = (VecDeque::new(), 0, 0);
    loop {
        match incoming.try_recv() {
            Ok(batch) => {
                total += batch.num_rows();
                held += batch.num_rows();
                newest.push_back(batch);
                while newest.front().is_some_and(|first: &RecordBatch| held - first.num_rows() >= ROWS) {
                    held -= newest.pop_front().map_or(0, |first| first.num_rows());
                }
            }
            Err(TryRecvError::Empty) => return (newest, total, false),
            Err(TryRecvError::Disconnected) => return (newest, total, true),
        }
    }
}

fn rows_message(table: &str, seq: u64, batches: &VecDeque<RecordBatch>, total: usize) -> String {
    let held: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut skip = held.saturating_sub(ROWS);
    let shown = held - skip;
    let mut text = format!("{{\"topic\":{},\"seq\":{seq},\"total\":{total},\"skipped\":{},\"rows\":[", json!(format!("rows:{table}")), total - shown);
    let mut first = true;
    for batch in batches {
        let from = skip.min(batch.num_rows());
        skip -= from;
        for row in from..batch.num_rows() {
            if !std::mem::take(&mut first) {
                text.push(',');
            }
            text.push_str(&watershed_engine::json::row_as_json(batch, row));
        }
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from_iter_values(from..from + rows)) as arrow::array::ArrayRef)]).expect("a batch")
    }

    #[test]
    fn shows_the_newest_rows_and_says_how_many_it_does_not() {
        let (sender, mut incoming) = tokio::sync::mpsc::channel(8);
        for first in [0, 100, 110] {
            sender.try_send(batch(first, if first == 0 { 100 } else { 10 })).expect("room");
        }
        let (batches, total, ended) = drain(&mut incoming);
        assert!((total, ended) == (120, false));
        let message: Value = serde_json::from_str(&rows_message("t", 7, &batches, total)).expect("JSON");
        assert_eq!((message["total"].as_u64(), message["skipped"].as_u64(), message["seq"].as_u64()), (Some(120), Some(70), Some(7)));
        let ids: Vec<i64> = message["rows"].as_array().expect("rows").iter().map(|row| row["id"].as_i64().expect("a number")).collect();
        assert_eq!(ids, (70..120).collect::<Vec<_>>());
        drop(sender);
        assert!(drain(&mut incoming).2);
    }

    #[test]
    fn a_delta_holds_only_what_changed() {
        let graph = |rate: f64, node: u64| match json!({ "pipeline": "p", "rate": rate, "nodes": [{ "id": "a", "n": 1 }, { "id": "b", "n": node }] }) {
            Value::Object(fields) => fields,
            _ => unreachable!("it is an object"),
        };
        assert_eq!(Value::Object(changes(&graph(1.0, 1), &graph(2.0, 1))), json!({ "rate": 2.0 }));
        assert_eq!(Value::Object(changes(&graph(1.0, 1), &graph(1.0, 2))), json!({ "nodes": [{ "id": "b", "n": 2 }] }));
    }

    #[test]
    fn a_topic_keeps_only_its_newest_frame() {
        let topic = Topic::default();
        for _ in 0..3 {
            topic.publish(|seq| (seq.to_string(), None));
        }
        assert_eq!(topic.newest().expect("a frame").full.as_str(), "3");
        topic.forget();
        assert!(topic.newest().is_none());
        let hub = Hub::new(std::iter::empty());
        assert!(hub.enter(1) && !hub.enter(1));
        hub.exit();
        assert!(hub.enter(1));
    }
}
