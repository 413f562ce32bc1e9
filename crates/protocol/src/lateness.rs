//! How late rows are, and which delay of the watermark would have taken how many of them.
//!
//! **Owns** the histogram. **Does not own** where it is kept: a manifest has one for each source.

use serde::{Deserialize, Serialize};

/// Buckets between a power of two and the next.
const PARTS: u64 = 4;

/// How far rows were behind the greatest event time before them in their partition: counts in buckets that grow by a quarter
/// of a power of two, so that a delay read from it is at most a quarter too long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lateness {
    counts: Vec<u64>,
}

impl Lateness {
    /// Counts rows that came in order.
    pub fn in_order(&mut self, rows: u64) {
        if rows > 0 {
            self.count(0, rows);
        }
    }

    /// Counts a row that is this far behind, in microseconds.
    pub fn behind(&mut self, micros: i64) {
        self.count(bucket(micros.max(0) as u64), 1);
    }

    fn count(&mut self, bucket: usize, rows: u64) {
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += rows;
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The delay, microseconds, with which at least `share` (0 to 1) of the rows would not have been late. `None` before the
    /// first row.
    pub fn delay_for(&self, share: f64) -> Option<i64> {
        let rows = self.rows();
        if rows == 0 {
            return None;
        }
        let wanted = (share.clamp(0.0, 1.0) * rows as f64).ceil() as u64;
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return Some(greatest(bucket));
            }
        }
        self.counts.len().checked_sub(1).map(greatest)
    }

    /// For each bucket with rows: the greatest lateness in it, microseconds, and its rows.
    pub fn buckets(&self) -> impl Iterator<Item = (i64, u64)> {
        self.counts.iter().enumerate().filter(|(_, rows)| **rows > 0).map(|(bucket, rows)| (greatest(bucket), *rows))
    }
}

/// Bucket 0 is 0; then 1, 2, 3, 4 to 4, 5 to 5, … with four buckets a power of two.
fn bucket(micros: u64) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let power = u64::from(63 - micros.leading_zeros());
    let part = (micros >> (power - 2)) - PARTS;
    ((power - 1) * PARTS + part) as usize
}

/// The greatest lateness that is counted in a bucket.
fn greatest(bucket: usize) -> i64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket as i64;
    }
    let (power, part) = (bucket / PARTS + 1, bucket % PARTS);
    let next = u128::from(PARTS + part + 1) << (power - 2);
    i64::try_from(next - 1).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet_without_gap_or_overlap() {
        let mut last = None;
        for micros in (0..5_000u64).chain([1 << 20, (1 << 20) + 1, i64::MAX as u64]) {
            let at = bucket(micros);
            assert!(micros as i64 <= greatest(at), "{micros} in {at}");
            assert!(at == 0 || greatest(at - 1) < micros as i64, "{micros} in {at}");
            assert!(last.is_none_or(|last| last <= at));
            last = Some(at);
        }
    }

    #[test]
    fn a_delay_covers_the_share_it_is_asked_for() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.delay_for(0.99), None);
        lateness.in_order(990);
        for _ in 0..9 {
            lateness.behind(1_000);
        }
        lateness.behind(60_000_000);
        assert_eq!(lateness.delay_for(0.99), Some(0));
        let covered = lateness.delay_for(0.999).expect("has rows");
        assert!((1_000..1_250).contains(&covered), "{covered}");
        let all = lateness.delay_for(1.0).expect("has rows");
        assert!((60_000_000..75_000_000).contains(&all), "{all}");
        assert_eq!(lateness.rows(), 1_000);
    }
}
