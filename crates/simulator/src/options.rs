//! What a `generator` source may be told in its `WITH` clause.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `rows` | ends after so many | unlimited |
//! | `rate` | rows per second of wall clock, or `max` | `1000` |
//! | `events_per_second` | how fast event time advances with the index | `rate`, 1000 with `max` |
//! | `start` | event time of the first row, or `now` | `2026-01-01T00:00:00Z` |
//! | `seed`, `customers`, `duplicates`, `invalid`, `corrupt`, `late` | see [`Profile`] | as there |
//! | `partitions` | partition p of n yields indexes p, p+n, … | `1` |

use watershed_types::{Error, Options, Result};

use crate::record::Profile;

/// Rows per second of wall clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// At most so many.
    PerSecond(f64),
    /// As fast as they are taken.
    Max,
}

/// The options of one `generator` source.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// How many rows there are over all partitions; `None`: no end.
    pub rows: Option<u64>,
    /// How fast they come.
    pub rate: Rate,
    /// Event time starts at the wall clock, so a replay has other times.
    pub start_now: bool,
    /// How many partitions they are spread over.
    pub partitions: u32,
    /// What they look like.
    pub profile: Profile,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self { rows: None, rate: Rate::PerSecond(1_000.0), start_now: false, partitions: 1, profile: Profile::default() }
    }
}

impl GeneratorOptions {
    /// Takes this connector's options.
    pub fn take(options: &mut Options) -> Result<GeneratorOptions> {
        let mut profile = Profile::default();
        let rows = options.number("rows")?;
        let rate = options.parse("rate", "rows per second, or 'max'", parse_rate)?.unwrap_or(Rate::PerSecond(1_000.0));
        if let Some(seed) = options.number("seed")? {
            profile.seed = seed;
        }
        if let Some(customers) = options.parse("customers", "a whole number from 1", |text| whole(text, u64::MAX))? {
            profile.customers = customers;
        }
        let positive = |text: &str| text.trim().replace('_', "").parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0);
        let by_rate = if let Rate::PerSecond(rate) = rate { rate } else { profile.events_per_second };
        profile.events_per_second = options.parse("events_per_second", "a number above 0", positive)?.unwrap_or(by_rate);
        for (key, share) in [("duplicates", &mut profile.duplicates), ("invalid", &mut profile.invalid), ("corrupt", &mut profile.corrupt), ("late", &mut profile.late)] {
            if let Some(given) = options.parse(key, "a share between 0 and 1, such as '0.01'", parse_share)? {
                *share = given;
            }
        }
        if profile.duplicates + profile.invalid + profile.corrupt + profile.late > 1.0 {
            return Err(Error::invalid("GEN0001", format!("{}: duplicates, invalid, corrupt and late add up to more than 1", options.owner()))
                .hint("They are shares of all rows; the rest are good ones."));
        }
        let start = options.parse("start", "a time such as '2026-01-01T00:00:00Z', or 'now'", parse_start)?;
        if let Some(Some(micros)) = start {
            profile.start_micros = micros;
        }
        let partitions = options.parse("partitions", "a whole number from 1 to 1024", |text| whole(text, 1_024))?;
        Ok(GeneratorOptions { rows, rate, start_now: start == Some(None), partitions: partitions.unwrap_or(1) as u32, profile })
    }
}

fn whole(text: &str, most: u64) -> Option<u64> {
    text.trim().replace('_', "").parse().ok().filter(|n| (1..=most).contains(n))
}

fn parse_share(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn parse_rate(text: &str) -> Option<Rate> {
    if text.trim().eq_ignore_ascii_case("max") {
        return Some(Rate::Max);
    }
    let rate: f64 = text.trim().replace('_', "").parse().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(Rate::PerSecond(rate))
}

/// `Some(None)` is now.
fn parse_start(text: &str) -> Option<Option<i64>> {
    if text.trim().eq_ignore_ascii_case("now") {
        return Some(None);
    }
    chrono::DateTime::parse_from_rfc3339(text.trim()).ok().map(|at| Some(at.timestamp_micros()))
}
