//! Samples: what a metric was at a moment, read from Prometheus' text, and kept as long as a rule looks back.
//!
//! I1: a line that cannot be read is left out and counted; the others are taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// A series at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// Reads Prometheus' text format; the number says how many lines could not be read.
pub fn read(text: &str) -> (Vec<Sample>, usize) {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut unreadable = 0;
    let samples = lines
        .filter_map(|line| {
            let sample = read_line(line);
            unreadable += usize::from(sample.is_none());
            sample
        })
        .collect();
    (samples, unreadable)
}

/// `name{label="value",…} 12.5`, with a time behind it if any.
fn read_line(line: &str) -> Option<Sample> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut escaped = false;
            let mut end = None;
            for (at, c) in after.char_indices() {
                match (escaped, c) {
                    (true, 'n') => value.push('\n'),
                    (true, other) => value.push(other),
                    (false, '\\') => {
                        escaped = true;
                        continue;
                    }
                    (false, '"') => {
                        end = Some(at + 1);
                        break;
                    }
                    (false, other) => value.push(other),
                }
                escaped = false;
            }
            labels.insert(label.trim().to_owned(), value);
            rest = after.get(end?..)?;
        }
    }
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A moment's samples by metric.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    by_name: HashMap<String, Vec<(Labels, f64)>>,
}

impl Samples {
    /// Groups samples by metric.
    pub fn new(samples: impl IntoIterator<Item = Sample>) -> Samples {
        let mut by_name: HashMap<String, Vec<(Labels, f64)>> = HashMap::new();
        for sample in samples {
            by_name.entry(sample.name).or_default().push((sample.labels, sample.value));
        }
        Samples { by_name }
    }

    /// The series of a metric.
    pub fn of(&self, name: &str) -> &[(Labels, f64)] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// One series over time: microseconds since 1970, and values.
pub type Points = VecDeque<(i64, f64)>;

/// Samples of the last while, for the metrics that rules look back on.
#[derive(Debug, Default)]
pub struct History {
    /// How far back, by metric.
    wanted: HashMap<String, Duration>,
    series: HashMap<String, HashMap<Labels, Points>>,
}

impl History {
    /// Keeps these metrics, each as long as its longest window.
    pub fn new<'a>(windows: impl IntoIterator<Item = (&'a str, Duration)>) -> History {
        let mut wanted: HashMap<String, Duration> = HashMap::new();
        for (name, window) in windows {
            let longest = wanted.entry(name.to_owned()).or_default();
            *longest = window.max(*longest);
        }
        History { wanted, series: HashMap::new() }
    }

    /// Takes a moment's samples, and forgets what no rule looks back on.
    pub fn take(&mut self, at: i64, samples: &Samples) {
        for (name, window) in &self.wanted {
            let series = self.series.entry(name.clone()).or_default();
            for (labels, value) in samples.of(name) {
                match series.get_mut(labels) {
                    Some(points) => points.push_back((at, *value)),
                    None => {
                        series.insert(labels.clone(), Points::from([(at, *value)]));
                    }
                }
            }
            let oldest = at - i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
            series.retain(|_, points| {
                while points.front().is_some_and(|(t, _)| *t < oldest) {
                    points.pop_front();
                }
                !points.is_empty()
            });
        }
    }

    /// The series of a metric.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&Labels, &Points)> {
        self.series.get(name).into_iter().flatten()
    }
}
