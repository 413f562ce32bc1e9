//! How fast a source fills and is read, partition by partition: lag, skew, time to catch up.
//!
//! **Owns** the figures made of positions and ends. **Does not own** where those come from, or what is done about them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use watershed_ports::{Lag, PartitionLag};

/// Rates are taken over about this many seconds.
const SPAN_SECONDS: f64 = 10.0;
/// A partition is skewed if it gets this many times the mean of the others.
const SKEW: f64 = 5.0;
/// For so long, seconds: after a broker's pause partitions come back one after the other.
const SKEW_SECONDS: f64 = 10.0;
/// Below this many records a second nothing is called skewed or behind.
const QUIET: f64 = 10.0;

/// Position and end of each partition.
type Marks = BTreeMap<String, (u64, u64)>;

/// What the last seconds of a source looked like.
#[derive(Debug, Default)]
pub struct Flow {
    marks: VecDeque<(Instant, Marks)>,
    hot: BTreeMap<String, (String, f64)>,
    /// Since when a partition has got too much.
    over: BTreeMap<String, Instant>,
}

/// A source's rates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Records a second that somebody writes.
    pub input_rate: f64,
    /// Records a second that are read.
    pub read_rate: f64,
    /// Records not yet read.
    pub lag: u64,
    /// Seconds until nothing is left to read at these rates; absent if there is no lag, or if it does not shrink.
    pub catch_up_seconds: Option<f64>,
    /// True if more comes in than is read, and there is a lag.
    pub falling_behind: bool,
    /// The partitions.
    pub partitions: BTreeMap<String, PartitionFlow>,
}

/// One partition's rates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionFlow {
    /// The next record to be read.
    pub position: u64,
    /// Where the partition ends.
    pub end: u64,
    /// Records not yet read.
    pub lag: u64,
    /// Records a second that somebody writes.
    pub input_rate: f64,
    /// Records a second that are read.
    pub read_rate: f64,
    /// True if it has got over five times the mean of the other partitions for ten seconds.
    pub skewed: bool,
    /// The key that comes most often in it and its share, from 0 to 1.
    pub hot_key: Option<(String, f64)>,
}

impl Flow {
    /// Takes what a source says at one moment.
    pub fn hear(&mut self, now: Instant, lag: &Lag) {
        if lag.partitions.is_empty() {
            return;
        }
        self.hot = lag.partitions.iter().filter_map(|p| Some((p.partition.clone(), p.hot_key.clone()?))).collect();
        self.marks.push_back((now, lag.partitions.iter().map(|PartitionLag { partition, position, end, .. }| (partition.clone(), (*position, *end))).collect()));
        while self.marks.len() > 2 && now.duration_since(self.marks[0].0).as_secs_f64() > SPAN_SECONDS {
            self.marks.pop_front();
        }
        let report = self.rates();
        let others = report.partitions.len().saturating_sub(1) as f64;
        let mut over = BTreeMap::new();
        for (partition, flow) in report.partitions.iter().filter(|_| others > 0.0) {
            // Against the others: one of four partitions can never be five times the mean of all four.
            let mean = (report.input_rate - flow.input_rate) / others;
            if flow.input_rate > QUIET && flow.input_rate > SKEW * mean {
                over.insert(partition.clone(), self.over.get(partition).copied().unwrap_or(now));
            }
        }
        self.over = over;
    }

    /// The figures as of the last word.
    pub fn report(&self) -> FlowReport {
        let mut report = self.rates();
        let Some((now, _)) = self.marks.back() else { return report };
        for (partition, flow) in &mut report.partitions {
            flow.skewed = self.over.get(partition).is_some_and(|since| now.duration_since(*since).as_secs_f64() >= SKEW_SECONDS);
        }
        report
    }

    fn rates(&self) -> FlowReport {
        let (Some((since, before)), Some((now, last))) = (self.marks.front(), self.marks.back()) else { return FlowReport::default() };
        let seconds = now.duration_since(*since).as_secs_f64().max(1e-3);
        let rate = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 / seconds;
        let mut report = FlowReport::default();
        for (partition, (position, end)) in last {
            let (position_before, end_before) = before.get(partition).copied().unwrap_or((*position, *end));
            let flow = PartitionFlow {
                position: *position,
                end: *end,
                lag: end.saturating_sub(*position),
                input_rate: rate(*end, end_before),
                read_rate: rate(*position, position_before),
                skewed: false,
                hot_key: self.hot.get(partition).cloned(),
            };
            report.input_rate += flow.input_rate;
            report.read_rate += flow.read_rate;
            report.lag += flow.lag;
            report.partitions.insert(partition.clone(), flow);
        }
        let spare = report.read_rate - report.input_rate;
        report.falling_behind = report.lag as f64 > report.input_rate && spare < -0.01 * report.input_rate && report.input_rate > QUIET;
        report.catch_up_seconds = (report.lag > 0 && spare > 0.0).then(|| report.lag as f64 / spare);
        report
    }
}

impl FlowReport {
    /// Sets the metrics.
    pub fn publish(&self, source: &str) {
        if self.partitions.is_empty() {
            return;
        }
        let of = |name: &str| vec![("source".to_owned(), name.to_owned())];
        let labels: Vec<metrics::Label> = of(source).iter().map(metrics::Label::from).collect();
        metrics::gauge!("watershed_source_input_rate", labels.clone()).set(self.input_rate);
        metrics::gauge!("watershed_source_read_rate", labels.clone()).set(self.read_rate);
        metrics::gauge!("watershed_source_falling_behind", labels.clone()).set(f64::from(u8::from(self.falling_behind)));
        metrics::gauge!("watershed_source_catch_up_seconds", labels).set(self.catch_up_seconds.unwrap_or(if self.lag > 0 { f64::INFINITY } else { 0.0 }));
        for (partition, flow) in &self.partitions {
            let (source, partition) = (source.to_owned(), partition.clone());
            metrics::gauge!("watershed_source_partition_lag", "source" => source.clone(), "partition" => partition.clone()).set(flow.lag as f64);
            metrics::gauge!("watershed_source_partition_input_rate", "source" => source.clone(), "partition" => partition.clone()).set(flow.input_rate);
            metrics::gauge!("watershed_source_partition_skewed", "source" => source, "partition" => partition).set(f64::from(u8::from(flow.skewed)));
        }
    }

    /// A sentence about skew, if there is any.
    pub fn skew_notice(&self, source: &str) -> Option<String> {
        let (partition, flow) = self
            .partitions
            .iter()
            .filter(|(_, flow)| flow.skewed)
            .max_by(|a, b| (a.1.input_rate, a.1.lag).partial_cmp(&(b.1.input_rate, b.1.lag)).unwrap_or(std::cmp::Ordering::Equal))?;
        let mean = (self.input_rate - flow.input_rate) / self.partitions.len().saturating_sub(1).max(1) as f64;
        let times = if mean > 0.0 { format!("{:.1} times the mean of the others", flow.input_rate / mean) } else { "the others nothing".to_owned() };
        let hot = match &flow.hot_key {
            Some((key, share)) => format!("; the key \"{key}\" is {:.0} % of it", share * 100.0),
            None => String::new(),
        };
        Some(format!("source \"{source}\": SKEWED: partition {partition} gets {:.0} records/s, {times}, and is {} behind{hot}", flow.input_rate, flow.lag))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lag(partitions: &[(&str, u64, u64)]) -> Lag {
        let partitions = partitions.iter().map(|(name, position, end)| PartitionLag { partition: (*name).to_owned(), position: *position, end: *end, hot_key: None }).collect();
        Lag { records: None, bytes: None, partitions }
    }

    #[test]
    fn predicts_the_time_to_catch_up_and_names_the_skewed_partition() {
        let start = Instant::now();
        let mut flow = Flow::default();
        let quiet = ["b", "c", "d", "e", "f", "g", "h"];
        let with = |hot: (u64, u64), other: u64| lag(&std::iter::once(("a", hot.0, hot.1)).chain(quiet.iter().map(|name| (*name, other, other))).collect::<Vec<_>>());
        flow.hear(start, &with((0, 20_000), 0));
        flow.hear(start + Duration::from_secs(2), &with((8_000, 24_000), 100));
        let report = flow.report();
        assert_eq!((report.input_rate, report.read_rate, report.lag), (2_350.0, 4_350.0, 16_000));
        assert_eq!(report.catch_up_seconds, Some(8.0));
        assert!(!report.falling_behind);
        assert!(report.skew_notice("s").is_none(), "two seconds are no skew");
        flow.hear(start + Duration::from_secs(13), &with((52_000, 52_000), 650));
        let report = flow.report();
        let skewed: Vec<_> = report.partitions.iter().filter(|(_, p)| p.skewed).map(|(name, _)| name.as_str()).collect();
        assert_eq!(skewed, ["a"]);
        assert!(report.skew_notice("s").expect("skew").contains("partition a gets 2545 records/s, 50.9 times the mean of the others, and is 0 behind"));

        flow.hear(start + Duration::from_secs(15), &with((52_100, 160_000), 700));
        assert!(flow.report().falling_behind);
        assert_eq!(flow.report().catch_up_seconds, None);
    }
}
