//! Series of fixed length.
//!
//! I1: every column is as long as the times. I2: memory is bounded by names × points, and names by the pipeline's parts.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use utoipa::ToSchema;

/// How far apart points are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// A point a second, ten minutes of them.
    Second,
    /// A point every ten seconds, two hours of them.
    TenSeconds,
}

impl Resolution {
    /// Seconds between points.
    pub fn step(self) -> u64 {
        match self {
            Resolution::Second => 1,
            Resolution::TenSeconds => 10,
        }
    }
    /// Points kept.
    pub fn points(self) -> usize {
        match self {
            Resolution::Second => 600,
            Resolution::TenSeconds => 720,
        }
    }
}

/// Points by name; NaN where nothing is known.
#[derive(Debug)]
pub struct Series {
    resolution: Resolution,
    times: VecDeque<i64>,
    columns: BTreeMap<String, VecDeque<f32>>,
}

/// Series as the API gives them.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesView {
    /// Now, microseconds since 1970.
    pub at: i64,
    /// Seconds between points.
    pub step_seconds: u64,
    /// When each point was taken.
    pub times: Vec<i64>,
    /// As many values by name; null where nothing is known.
    pub series: BTreeMap<String, Vec<Option<f32>>>,
}

impl Series {
    /// Without points.
    pub fn new(resolution: Resolution) -> Self {
        Self { resolution, times: VecDeque::new(), columns: BTreeMap::new() }
    }

    /// Adds a point; the oldest goes when there are too many.
    pub fn push(&mut self, at: i64, values: &BTreeMap<String, Option<f64>>) {
        if self.times.len() == self.resolution.points() {
            self.times.pop_front();
            for column in self.columns.values_mut() {
                column.pop_front();
            }
        }
        for name in values.keys().filter(|name| !self.columns.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.columns.insert(name, VecDeque::from(vec![f32::NAN; self.times.len()]));
        }
        for (name, column) in &mut self.columns {
            column.push_back(values.get(name).copied().flatten().map_or(f32::NAN, |value| value as f32));
        }
        self.times.push_back(at);
    }

    /// Points after a time; of these names only, if any are given.
    pub fn view(&self, now: i64, since: Option<i64>, names: &[String]) -> SeriesView {
        let first = since.map_or(0, |since| self.times.partition_point(|at| *at <= since));
        let wanted = |name: &String| names.is_empty() || names.contains(name);
        let values = |column: &VecDeque<f32>| column.iter().skip(first).map(|value| value.is_finite().then_some(*value)).collect();
        SeriesView {
            at: now,
            step_seconds: self.resolution.step(),
            times: self.times.iter().skip(first).copied().collect(),
            series: self.columns.iter().filter(|(name, _)| wanted(name)).map(|(name, column)| (name.clone(), values(column))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_long_as_the_times_whenever_they_came() {
        let mut series = Series::new(Resolution::Second);
        let point = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Some(1.0))).collect::<BTreeMap<_, _>>();
        for at in 0..700 {
            series.push(at, &point(if at < 650 { &["a"] } else { &["b"] }));
        }
        let view = series.view(700, Some(640), &[]);
        assert_eq!(view.times.len(), 59);
        assert!(view.series.values().all(|column| column.len() == 59));
        assert_eq!(view.series["a"].iter().flatten().count(), 9);
        assert_eq!(view.series["b"].iter().flatten().count(), 50);
        assert_eq!(series.view(700, None, &["b".to_owned()]).times.len(), 600, "no more than fit");
        assert_eq!(series.view(700, None, &["b".to_owned()]).series.len(), 1);
    }
}
