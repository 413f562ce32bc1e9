//! A tree and samples to the series that are left.
//!
//! I1: as in PromQL: two series belong together if their labels agree, all of them or those after `on`; a comparison
//! keeps the left one; what has no partner is left out.
//! I2: a rate needs two samples in its window, and a counter that fell began anew.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::tree::{Aggregation, Expression, Matching, Operator, Selector, Side, WindowFunction};
use crate::sample::{History, Labels, Points, Samples};

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// Series, each with its labels.
    Series(Vec<(Labels, f64)>),
}

impl Value {
    /// The series; a number has none.
    pub fn series(self) -> Vec<(Labels, f64)> {
        match self {
            Self::Series(series) => series,
            Self::Scalar(_) => vec![],
        }
    }
}

/// A moment at which expressions are looked at.
pub struct Evaluation<'s> {
    /// The newest samples.
    pub samples: &'s Samples,
    /// Those before.
    pub history: &'s History,
    /// Microseconds since 1970.
    pub at: i64,
}

impl Evaluation<'_> {
    /// What an expression comes to.
    pub fn of(&self, expression: &Expression) -> Value {
        match expression {
            Expression::Number(number) => Value::Scalar(*number),
            Expression::Time => Value::Scalar(self.at as f64 / 1e6),
            Expression::Select(selector) => {
                Value::Series(self.samples.of(&selector.name).iter().filter(|(labels, _)| matches(selector, labels)).map(|(labels, value)| (labels.clone(), *value)).collect())
            }
            Expression::Window(function, selector, window) => Value::Series(self.window(*function, selector, *window)),
            Expression::Absent(argument) => match self.of(argument) {
                Value::Series(series) if series.is_empty() => Value::Series(vec![(Labels::new(), 1.0)]),
                _ => Value::Series(vec![]),
            },
            Expression::Abs(argument) => map(self.of(argument), f64::abs),
            Expression::Negate(argument) => map(self.of(argument), |value| -value),
            Expression::Quantile(q, argument) => Value::Series(quantile(*q, self.of(argument).series())),
            Expression::Aggregate(aggregation, by, argument) => Value::Series(aggregate(*aggregation, by, self.of(argument).series())),
            Expression::Binary(operator, matching, left, right) => binary(*operator, matching.as_ref(), self.of(left), self.of(right)),
        }
    }

    fn window(&self, function: WindowFunction, selector: &Selector, window: Duration) -> Vec<(Labels, f64)> {
        let since = self.at - i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let series = self.history.of(&selector.name).filter(|(labels, _)| matches(selector, labels));
        let mut found: Vec<(Labels, f64)> = series.filter_map(|(labels, points)| Some((labels.clone(), over(function, points, since)?))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.matchers.iter().all(|matcher| matcher.test.holds(labels.get(&matcher.label).map_or("", String::as_str)))
}

/// A function over the points since a moment.
fn over(function: WindowFunction, points: &Points, since: i64) -> Option<f64> {
    let inside = || points.iter().filter(|(at, _)| *at >= since);
    let (first, last) = (inside().next()?, inside().next_back()?);
    let values = || inside().map(|(_, value)| *value);
    match function {
        WindowFunction::Average => Some(values().sum::<f64>() / values().count() as f64),
        WindowFunction::Max => values().reduce(f64::max),
        WindowFunction::Min => values().reduce(f64::min),
        _ if last.0 <= first.0 => None,
        WindowFunction::Delta => Some(last.1 - first.1),
        WindowFunction::Rate | WindowFunction::Increase => {
            let steps = values().zip(values().skip(1));
            let grown: f64 = steps.map(|(before, after)| if after >= before { after - before } else { after }).sum();
            let seconds = (last.0 - first.0) as f64 / 1e6;
            Some(if function == WindowFunction::Rate { grown / seconds } else { grown })
        }
    }
}

fn map(value: Value, change: impl Fn(f64) -> f64) -> Value {
    match value {
        Value::Scalar(number) => Value::Scalar(change(number)),
        Value::Series(series) => Value::Series(series.into_iter().map(|(labels, number)| (labels, change(number))).collect()),
    }
}

fn only(labels: &Labels, names: &[String]) -> Labels {
    names.iter().filter_map(|name| Some((name.clone(), labels.get(name)?.clone()))).collect()
}

fn aggregate(aggregation: Aggregation, by: &[String], series: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for (labels, value) in series {
        groups.entry(only(&labels, by)).or_default().push(value);
    }
    let folded = |values: Vec<f64>| match aggregation {
        Aggregation::Sum => values.iter().sum(),
        Aggregation::Count => values.len() as f64,
        Aggregation::Average => values.iter().sum::<f64>() / values.len() as f64,
        Aggregation::Min => values.into_iter().fold(f64::INFINITY, f64::min),
        Aggregation::Max => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
    };
    groups.into_iter().map(|(labels, values)| (labels, folded(values))).collect()
}

/// From cumulative buckets, as Prometheus does it: linear within a bucket; beyond the last bound, that bound.
fn quantile(q: f64, series: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    let mut histograms: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (mut labels, count) in series {
        let bound = match labels.remove("le").as_deref() {
            Some("+Inf") => f64::INFINITY,
            Some(bound) => match bound.parse() {
                Ok(bound) => bound,
                Err(_) => continue,
            },
            None => continue,
        };
        histograms.entry(labels).or_default().push((bound, count));
    }
    let of = |mut buckets: Vec<(f64, f64)>| {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = q * total;
        let index = buckets.iter().position(|(_, count)| *count >= rank)?;
        let (bound, count) = buckets[index];
        let (from, before) = if index == 0 { (0.0, 0.0) } else { buckets[index - 1] };
        if bound.is_infinite() {
            return Some(from);
        }
        Some(if count > before { from + (bound - from) * (rank - before) / (count - before) } else { bound })
    };
    histograms.into_iter().filter_map(|(labels, buckets)| Some((labels, of(buckets)?))).collect()
}

/// A number, or nothing if a comparison does not hold.
fn compute(operator: Operator, left: f64, right: f64) -> Option<f64> {
    let kept = |holds: bool| holds.then_some(left);
    match operator {
        Operator::Add => Some(left + right),
        Operator::Subtract => Some(left - right),
        Operator::Multiply => Some(left * right),
        Operator::Divide => Some(left / right),
        Operator::Equal => kept(left == right),
        Operator::NotEqual => kept(left != right),
        Operator::Less => kept(left < right),
        Operator::LessOrEqual => kept(left <= right),
        Operator::Greater => kept(left > right),
        Operator::GreaterOrEqual => kept(left >= right),
        Operator::And | Operator::Or | Operator::Unless => None,
    }
}

fn binary(operator: Operator, matching: Option<&Matching>, left: Value, right: Value) -> Value {
    if operator.is_set() {
        return Value::Series(set(operator, matching, left.series(), right.series()));
    }
    match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => compute(operator, left, right).map_or(Value::Series(vec![]), Value::Scalar),
        (Value::Series(series), Value::Scalar(right)) => Value::Series(series.into_iter().filter_map(|(labels, left)| Some((labels, compute(operator, left, right)?))).collect()),
        // With a number on its left, a comparison keeps the series' own value.
        (Value::Scalar(left), Value::Series(series)) => {
            let one = |right: f64| compute(operator, left, right).map(|value| if operator.is_comparison() { right } else { value });
            Value::Series(series.into_iter().filter_map(|(labels, right)| Some((labels, one(right)?))).collect())
        }
        (Value::Series(left), Value::Series(right)) => Value::Series(join(operator, matching, left, &right)),
    }
}

fn key(matching: Option<&Matching>, labels: &Labels) -> Labels {
    matching.map_or_else(|| labels.clone(), |matching| only(labels, &matching.on))
}

fn set(operator: Operator, matching: Option<&Matching>, mut left: Vec<(Labels, f64)>, right: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    match operator {
        Operator::Or => {
            let there: HashSet<Labels> = left.iter().map(|(labels, _)| key(matching, labels)).collect();
            left.extend(right.into_iter().filter(|(labels, _)| !there.contains(&key(matching, labels))));
        }
        operator => {
            let others: HashSet<Labels> = right.iter().map(|(labels, _)| key(matching, labels)).collect();
            left.retain(|(labels, _)| others.contains(&key(matching, labels)) == (operator == Operator::And));
        }
    }
    left
}

/// Pairs of series. The labels are those of the side that may be many; else those that had to agree.
fn join(operator: Operator, matching: Option<&Matching>, left: Vec<(Labels, f64)>, right: &[(Labels, f64)]) -> Vec<(Labels, f64)> {
    let mut joined = Vec::new();
    for (left_labels, left_value) in left {
        let wanted = key(matching, &left_labels);
        for (right_labels, right_value) in right.iter().filter(|(labels, _)| key(matching, labels) == wanted) {
            let labels = match matching.map(|m| m.many) {
                Some(None) if !operator.is_comparison() => wanted.clone(),
                Some(Some(Side::Right)) => right_labels.clone(),
                _ => left_labels.clone(),
            };
            joined.extend(compute(operator, left_value, *right_value).map(|value| (labels, value)));
        }
    }
    joined
}
