//! The pipeline as a graph, with the figures of now, and what holds everything back.

use serde::Serialize;
use utoipa::ToSchema;
use watershed_engine::run::{SinkStatus, SourceStatus, Status};
use watershed_protocol::Account;

use super::sampler::owner;
use crate::topology::{SinkInfo, SourceInfo, TableInfo, Topology};

/// A partition holds the watermark back if it is so far, microseconds, behind the one that is farthest.
const BEHIND: i64 = 60 * 1_000_000;

/// The graph.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GraphView {
    /// Now, microseconds since 1970.
    pub at: i64,
    /// The pipeline's name.
    pub pipeline: String,
    /// `starting`, `running`, `stopping`, `stopped`, `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Which run this is.
    pub generation: u64,
    /// When it started.
    pub started_at: i64,
    /// The last committed epoch.
    pub epoch: u64,
    /// The epoch that is being filled.
    pub open_epoch: u64,
    /// When the last one was committed.
    pub committed_at: Option<i64>,
    /// How long that took.
    pub commit_seconds: f64,
    /// How often epochs are committed.
    pub epoch_interval_seconds: f64,
    /// Records a second.
    pub rate: f64,
    /// Records since the start.
    pub records: u64,
    /// Raw bytes since the start.
    pub bytes: u64,
    /// The combined watermark.
    pub watermark: Option<i64>,
    /// How far it is behind now.
    pub watermark_lag_seconds: Option<f64>,
    /// What state takes.
    pub state_bytes: u64,
    /// What state may take.
    pub memory_limit: u64,
    /// Refused rows since the start, by reason.
    #[schema(value_type = Object)]
    pub quarantine: std::collections::BTreeMap<String, u64>,
    /// Conditions worth a person's attention.
    pub notices: Vec<String>,
    /// What everything waits for, if it does.
    pub held_back_by: Option<WaitView>,
    /// Sources, tables, targets, static tables.
    pub nodes: Vec<NodeView>,
    /// What flows where.
    pub edges: Vec<EdgeView>,
}

/// What everything waits for.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WaitView {
    /// The node, if it is one.
    pub node: Option<String>,
    /// `failed`, `sink`, `lag` or `watermark`.
    pub why: String,
    /// In a sentence.
    pub detail: String,
}

/// A node. What does not apply to its kind is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct NodeView {
    /// Kind and name: `source:orders`.
    pub id: String,
    /// `source`, `table`, `sink` or `static`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub connector: String,
    /// `ok`, `idle`, `behind`, `retrying` or `failed`.
    pub state: String,
    /// True if the others wait for it.
    pub holds_back: bool,
    /// Why, in a sentence.
    pub why: Option<String>,
    /// Rows a second through it.
    pub rate: Option<f64>,
    /// Rows since the start.
    pub rows: Option<u64>,
    /// How far event time is.
    pub watermark: Option<i64>,
    /// How far that is behind now.
    pub watermark_lag_seconds: Option<f64>,
    /// The newest epoch it holds.
    pub epoch: Option<u64>,

    /// Records a second that somebody writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_rate: Option<f64>,
    /// Records not yet read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Bytes not yet read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// True if there was nothing more at the last look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<bool>,
    /// True if more comes in than is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub falling_behind: Option<bool>,
    /// Seconds until nothing is left to read, if it shrinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_seconds: Option<f64>,
    /// The partition that holds its watermark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Partitions that do not count, because they are idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Vec<String>>,
    /// True if one partition gets far more than the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skewed: Option<bool>,
    /// Its partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<PartitionView>>,

    /// Where in the lake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// False if it is kept nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<bool>,
    /// Its accounts since the start, the open epoch included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub account: Option<Account>,
    /// How often each rule was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub violations: Option<std::collections::BTreeMap<String, u64>>,
    /// Keys and groups its operators hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_rows: Option<u64>,
    /// Bytes they hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// Its operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<OperatorView>>,

    /// True if it gets rows after each tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// Rows it refused since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
    /// When it took its newest epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<i64>,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_seconds: Option<f64>,
    /// How long ago that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// What it is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A partition of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct PartitionView {
    /// Its name.
    pub partition: String,
    /// The next record to be read.
    pub position: Option<u64>,
    /// Where it ends.
    pub end: Option<u64>,
    /// Records not yet read.
    pub lag: Option<u64>,
    /// Records a second that somebody writes.
    pub input_rate: Option<f64>,
    /// Records a second that are read.
    pub read_rate: Option<f64>,
    /// True if it gets far more than the others.
    pub skewed: bool,
    /// The key that comes most often.
    pub hot_key: Option<String>,
    /// Its share, from 0 to 1.
    pub hot_share: Option<f64>,
    /// Its watermark.
    pub watermark: Option<i64>,
    /// True if it does not count.
    pub idle: bool,
}

/// A stateful operator.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OperatorView {
    /// Its name.
    pub id: String,
    /// Keys or groups it holds.
    pub rows: u64,
    /// Bytes it holds in memory.
    pub bytes: u64,
    /// Bytes it holds on disk, because there was no room.
    pub spilled: u64,
    /// Keys or groups it forgot since the start.
    pub evictions: u64,
}

/// Something flows from one node to another.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EdgeView {
    /// From this node.
    pub from: String,
    /// To that one.
    pub to: String,
    /// `rows` or `lookup`.
    pub kind: String,
    /// Rows a second.
    pub rate: Option<f64>,
}

/// What never changes of a run.
#[derive(Debug, Clone)]
pub struct Constants {
    /// When it started.
    pub started_at: i64,
    /// How often epochs are committed.
    pub epoch_interval_seconds: f64,
    /// What state may take.
    pub memory_limit: u64,
}

/// Draws the graph. `rate` is the newest rate of a series, by its name.
pub fn view(status: &Status, topology: &Topology, constants: &Constants, now: i64, rate: &dyn Fn(&str) -> Option<f64>) -> GraphView {
    let held = held_back_by(status, topology);
    let mut nodes: Vec<NodeView> = topology.sources.iter().map(|source| source_node(source, status, now, rate)).collect();
    nodes.extend(topology.tables.iter().map(|table| table_node(table, topology, status, now, rate)));
    nodes.extend(topology.sinks.iter().map(|sink| sink_node(sink, status, now, rate)));
    nodes.extend(topology.statics.iter().map(|fixed| NodeView {
        id: format!("static:{}", fixed.name),
        kind: "static".to_owned(),
        name: fixed.name.clone(),
        connector: fixed.format.clone(),
        state: "ok".to_owned(),
        ..NodeView::default()
    }));
    if let Some(WaitView { node: Some(id), detail, .. }) = &held
        && let Some(node) = nodes.iter_mut().find(|node| node.id == *id)
    {
        (node.holds_back, node.why) = (true, Some(detail.clone()));
    }
    GraphView {
        at: now,
        pipeline: status.pipeline.clone(),
        state: status.state.clone(),
        error: status.error.clone(),
        generation: status.generation,
        started_at: constants.started_at,
        epoch: status.epoch,
        open_epoch: status.open_epoch,
        committed_at: status.committed_at,
        commit_seconds: status.commit_seconds,
        epoch_interval_seconds: constants.epoch_interval_seconds,
        rate: rate("rate").unwrap_or(status.rate),
        records: status.records,
        bytes: status.bytes,
        watermark: status.watermark,
        watermark_lag_seconds: behind(status.watermark, now),
        state_bytes: status.operators.values().map(|operator| operator.bytes).sum(),
        memory_limit: constants.memory_limit,
        quarantine: status.quarantine.clone(),
        notices: status.notices.clone(),
        held_back_by: held,
        nodes,
        edges: edges(topology, rate),
    }
}

fn behind(at: Option<i64>, now: i64) -> Option<f64> {
    at.map(|at| (now - at) as f64 / 1e6)
}

fn edges(topology: &Topology, rate: &dyn Fn(&str) -> Option<f64>) -> Vec<EdgeView> {
    let mut edges = Vec::new();
    for table in &topology.tables {
        edges.extend(table.inputs.iter().map(|from| EdgeView {
            rate: rate(&format!("{}.rate", from.replacen(':', ".", 1))),
            from: from.clone(),
            to: format!("table:{}", table.name),
            kind: "rows".to_owned(),
        }));
        edges.extend(table.lookups.iter().map(|name| EdgeView { from: format!("static:{name}"), to: format!("table:{}", table.name), kind: "lookup".to_owned(), rate: None }));
    }
    edges.extend(topology.sinks.iter().map(|sink| EdgeView {
        from: format!("table:{}", sink.table),
        to: format!("sink:{}", sink.name),
        kind: "rows".to_owned(),
        rate: rate(&format!("table.{}.rate", sink.table)),
    }));
    edges
}

fn source_node(info: &SourceInfo, status: &Status, now: i64, rate: &dyn Fn(&str) -> Option<f64>) -> NodeView {
    let nothing = SourceStatus::default();
    let source = status.sources.get(&info.name).unwrap_or(&nothing);
    let flow = &source.flow;
    let known = !flow.partitions.is_empty();
    let state = match (status.state.as_str(), flow.falling_behind, source.caught_up) {
        ("failed", _, _) if status.error.as_ref().is_some_and(|error| error.contains(&format!("source \"{}\"", info.name))) => "failed",
        (_, true, _) => "behind",
        (_, _, true) => "idle",
        _ => "ok",
    };
    NodeView {
        id: format!("source:{}", info.name),
        kind: "source".to_owned(),
        name: info.name.clone(),
        connector: info.connector.clone(),
        state: state.to_owned(),
        rate: rate(&format!("source.{}.rate", info.name)),
        rows: Some(source.records),
        watermark: source.watermark,
        watermark_lag_seconds: behind(source.watermark, now),
        input_rate: known.then_some(flow.input_rate),
        lag_records: source.lag_records.or(known.then_some(flow.lag)),
        lag_bytes: source.lag_bytes,
        caught_up: Some(source.caught_up),
        falling_behind: Some(flow.falling_behind),
        catch_up_seconds: flow.catch_up_seconds,
        held_by: source.held_by.clone(),
        idle: Some(source.idle.clone()),
        skewed: Some(flow.partitions.values().any(|partition| partition.skewed)),
        partitions: Some(partitions(source)),
        ..NodeView::default()
    }
}

fn partitions(source: &SourceStatus) -> Vec<PartitionView> {
    let names: std::collections::BTreeSet<&String> = source.flow.partitions.keys().chain(source.partitions.keys()).chain(&source.idle).collect();
    let view = |name: &String| {
        let flow = source.flow.partitions.get(name);
        let (hot_key, hot_share) = flow.and_then(|flow| flow.hot_key.clone()).unzip();
        PartitionView {
            partition: name.clone(),
            position: flow.map(|flow| flow.position),
            end: flow.map(|flow| flow.end),
            lag: flow.map(|flow| flow.lag),
            input_rate: flow.map(|flow| flow.input_rate),
            read_rate: flow.map(|flow| flow.read_rate),
            skewed: flow.is_some_and(|flow| flow.skewed),
            hot_key,
            hot_share,
            watermark: source.partitions.get(name).copied(),
            idle: source.idle.contains(name),
        }
    };
    names.into_iter().map(view).collect()
}

/// The event time of a table: the least of the sources its rows come from. Inputs stand before users, so this ends.
fn watermark_of(table: &TableInfo, topology: &Topology, status: &Status) -> Option<i64> {
    let of_input = |input: &String| match input.split_once(':') {
        Some(("source", name)) => status.sources.get(name).and_then(|source| source.watermark),
        Some((_, name)) => topology.tables.iter().find(|other| other.name == name).and_then(|other| watermark_of(other, topology, status)),
        None => None,
    };
    // One input without event time leaves the whole without.
    table.inputs.iter().map(of_input).min().flatten()
}

fn table_node(info: &TableInfo, topology: &Topology, status: &Status, now: i64, rate: &dyn Fn(&str) -> Option<f64>) -> NodeView {
    let table = status.tables.get(&info.name).cloned().unwrap_or_default();
    let mut account = table.account;
    account.add(&table.open);
    let operators: Vec<OperatorView> = status
        .operators
        .iter()
        .filter(|(id, _)| owner(id) == info.name)
        .map(|(id, operator)| OperatorView { id: id.clone(), rows: operator.rows, bytes: operator.bytes, spilled: operator.spilled, evictions: operator.evictions })
        .collect();
    let watermark = watermark_of(info, topology, status);
    NodeView {
        id: format!("table:{}", info.name),
        kind: "table".to_owned(),
        name: info.name.clone(),
        connector: if info.stored { "delta" } else { "none" }.to_owned(),
        state: if status.state == "failed" { "failed" } else { "ok" }.to_owned(),
        rate: rate(&format!("table.{}.rate", info.name)),
        rows: Some(table.written),
        watermark,
        watermark_lag_seconds: behind(watermark, now),
        epoch: Some(status.epoch),
        zone: Some(info.zone.clone()),
        stored: Some(info.stored),
        account: Some(account),
        violations: Some(table.violations.clone()),
        state_rows: Some(operators.iter().map(|operator| operator.rows).sum()),
        state_bytes: Some(operators.iter().map(|operator| operator.bytes).sum()),
        operators: Some(operators),
        ..NodeView::default()
    }
}

fn sink_node(info: &SinkInfo, status: &Status, now: i64, rate: &dyn Fn(&str) -> Option<f64>) -> NodeView {
    let nothing = SinkStatus::default();
    let sink = status.sinks.get(&info.name).unwrap_or(&nothing);
    let failed = status.error.as_ref().is_some_and(|error| error.contains(&format!("\"{}\"", info.name)));
    // One that may be left behind is given what it missed later; nobody waits for it.
    let away = status.spools.get(&info.name).and_then(|spool| spool.away.clone());
    let state = if failed {
        "failed"
    } else if sink.waiting.is_some() || away.is_some() {
        "retrying"
    } else {
        "ok"
    };
    NodeView {
        id: format!("sink:{}", info.name),
        kind: "sink".to_owned(),
        name: info.name.clone(),
        connector: info.connector.clone(),
        state: state.to_owned(),
        rate: rate(&format!("sink.{}.rate", info.name)),
        rows: Some(sink.rows),
        epoch: Some(sink.epoch),
        live: Some(sink.live),
        refused: Some(sink.refused),
        committed_at: sink.committed_at,
        commit_seconds: Some(sink.commit_seconds),
        lag_seconds: behind(sink.committed_at, now),
        error: sink.waiting.clone().or(away),
        ..NodeView::default()
    }
}

/// The first of these that is so: it has failed, a target is waited for, a source is not read fast enough, event time is held.
fn held_back_by(status: &Status, topology: &Topology) -> Option<WaitView> {
    let wait = |node: Option<String>, why: &str, detail: String| Some(WaitView { node, why: why.to_owned(), detail });
    if status.state == "failed" {
        let error = status.error.clone().unwrap_or_else(|| "the pipeline has failed".to_owned());
        let nodes = topology.sources.iter().map(|s| ("source", &s.name)).chain(topology.sinks.iter().map(|s| ("sink", &s.name)));
        let node = nodes.into_iter().find(|(kind, name)| error.contains(&format!("{kind} \"{name}\""))).map(|(kind, name)| format!("{kind}:{name}"));
        return wait(node, "failed", error);
    }
    if let Some((name, sink)) = status.sinks.iter().find(|(_, sink)| sink.waiting.is_some()) {
        return wait(Some(format!("sink:{name}")), "sink", format!("sink \"{name}\" is waited for: {}", sink.waiting.as_deref().unwrap_or_default()));
    }
    if let Some((name, source)) = status.sources.iter().find(|(_, source)| source.flow.falling_behind) {
        let flow = &source.flow;
        let detail = format!("source \"{name}\" falls behind: {:.0} records/s come in, {:.0} are read, {} wait", flow.input_rate, flow.read_rate, flow.lag);
        return wait(Some(format!("source:{name}")), "lag", detail);
    }
    held_by_event_time(status)
}

fn held_by_event_time(status: &Status) -> Option<WaitView> {
    let farthest = |source: &SourceStatus| source.partitions.values().copied().max();
    let ahead = status.sources.values().filter_map(farthest).max()?;
    // A source without partitions has no event time to hold anything with.
    let holders = status.sources.iter().filter_map(|(name, source)| Some((name, source, source.held_by.as_ref()?)));
    let (name, source, partition) = holders.min_by_key(|(_, source, partition)| source.partitions.get(*partition).copied())?;
    let (behind, words) = match source.partitions.get(partition) {
        Some(at) if ahead - at > BEHIND => (ahead - at, format!("is {:.0} s behind the farthest one", (ahead - at) as f64 / 1e6)),
        Some(_) => return None,
        None => (i64::MAX, "has not had a record yet".to_owned()),
    };
    (behind > BEHIND).then(|| WaitView {
        node: Some(format!("source:{name}")),
        why: "watermark".to_owned(),
        detail: format!("partition {partition} of \"{name}\" holds event time back: it {words}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_everything_waits_for() {
        let mut status = Status::default();
        let topology = Topology::default();
        assert_eq!(held_back_by(&status, &topology), None);
        let source = status.sources.entry("orders".to_owned()).or_default();
        source.partitions = [("0".to_owned(), 1_000 * 1_000_000), ("1".to_owned(), 900 * 1_000_000)].into();
        source.held_by = Some("1".to_owned());
        let held = held_back_by(&status, &topology).expect("event time is held");
        assert_eq!((held.node.as_deref(), held.why.as_str()), (Some("source:orders"), "watermark"));
        assert!(held.detail.contains("partition 1") && held.detail.contains("100 s behind"), "{held:?}");
        status.sources.get_mut("orders").expect("it").flow.falling_behind = true;
        assert_eq!(held_back_by(&status, &topology).expect("lag").why, "lag");
        status.sinks.entry("pg".to_owned()).or_default().waiting = Some("cannot connect".to_owned());
        assert_eq!(held_back_by(&status, &topology).expect("a sink").node.as_deref(), Some("sink:pg"));
    }
}
