//! The metrics there are, as `docs/reference/metrics.md` lists them, and the short names.
//!
//! **Owns** which names a condition may use. The page is part of the program: a metric that is not on it cannot be used,
//! and a test compares it with the code.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The page.
const PAGE: &str = include_str!("../../../docs/reference/metrics.md");

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub meaning: String,
}

/// What a name in a condition stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The metric, or a series of a histogram.
    pub name: String,
    /// A label, its value, and whether it must be that or must not.
    pub matcher: Option<(&'static str, &'static str, bool)>,
    /// True if all series together are meant.
    pub total: bool,
}

/// A short name: itself, its metric, a condition on a label, whether all series together are meant.
type Short = (&'static str, &'static str, Option<(&'static str, &'static str, bool)>, bool);

/// Short names for what is asked most.
pub const SHORT_NAMES: [Short; 9] = [
    ("lag", "watershed_source_lag_records", None, false),
    ("watermark_lag", "watershed_watermark_lag_seconds", None, false),
    ("read", "watershed_source_records_total", None, true),
    ("rows", "watershed_table_rows_total", None, true),
    ("quarantined", "watershed_quarantine_rows_total", Some(("reason", "late", false)), true),
    ("delivered", "watershed_ledger_rows_total", Some(("fate", "delivered", true)), true),
    ("filtered", "watershed_ledger_rows_total", Some(("fate", "filtered", true)), true),
    ("duplicates", "watershed_ledger_rows_total", Some(("fate", "duplicate", true)), true),
    ("late", "watershed_ledger_rows_total", Some(("fate", "late", true)), true),
];

static METRICS: LazyLock<BTreeMap<String, Metric>> = LazyLock::new(|| read(PAGE));

/// Every metric by its name.
pub fn metrics() -> &'static BTreeMap<String, Metric> {
    &METRICS
}

/// Every name a condition may use as it is.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    SHORT_NAMES.iter().map(|(short, ..)| *short).chain(METRICS.keys().map(String::as_str))
}

/// What a written name stands for.
pub fn resolve(written: &str) -> Option<Resolved> {
    if let Some((_, name, matcher, total)) = SHORT_NAMES.iter().find(|(short, ..)| *short == written) {
        return Some(Resolved { name: (*name).to_owned(), matcher: *matcher, total: *total });
    }
    let name = if written.starts_with("watershed_") { written.to_owned() } else { format!("watershed_{written}") };
    find(&name).map(|_| Resolved { name, matcher: None, total: false })
}

/// The labels of a series.
pub fn labels(name: &str) -> Option<Vec<&'static str>> {
    let metric = find(name)?;
    let bucket = metric.kind == "histogram" && name.ends_with("_bucket");
    Some(metric.labels.iter().map(String::as_str).chain(bucket.then_some("le")).collect())
}

/// A metric by the name of one of its series.
fn find(name: &str) -> Option<&'static Metric> {
    let histogram = |suffix| METRICS.get(name.strip_suffix(suffix)?).filter(|m| m.kind == "histogram");
    let plain = || METRICS.get(name).filter(|m| m.kind != "histogram");
    plain().or_else(|| histogram("_bucket")).or_else(|| histogram("_sum")).or_else(|| histogram("_count"))
}

/// Rows such as: | `a`, `b` | gauge | `label` | meaning |. A label may be followed by its values, after a colon.
fn read(page: &str) -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [names, kind @ ("counter" | "gauge" | "histogram"), labels, meaning] = cells[..] else { continue };
        let labels = labels.split(':').next().unwrap_or("");
        let metric = Metric { kind: kind.to_owned(), labels: quoted(labels).map(str::to_owned).collect(), meaning: meaning.to_owned() };
        for name in quoted(names) {
            found.insert(name.to_owned(), metric.clone());
        }
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
