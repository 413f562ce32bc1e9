//! Random records: several partitions, repeats, disorder within the watermark's delay, nulls, bad bytes.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Records by partition.
pub type Records = Vec<Vec<String>>;

/// 2026-01-01, microseconds.
pub const MIDNIGHT: i64 = 1_767_225_600_000_000;
/// The watermark's delay in every pipeline, microseconds.
pub const DELAY: i64 = 60_000_000;

/// What records are like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub partitions: usize,
    pub records: usize,
    /// Keys a partition has for itself.
    pub keys: u32,
    /// Event time between two records, at most, microseconds.
    pub step: i64,
    /// Out of a hundred records, how many cannot be decoded.
    pub bad: u32,
}

impl Shape {
    /// The records of a seed. None is late.
    pub fn records(self, seed: u64) -> Records {
        let mut random = SmallRng::seed_from_u64(seed);
        (0..self.partitions).map(|partition| self.partition(partition, &mut random)).collect()
    }

    fn partition(self, partition: usize, random: &mut SmallRng) -> Vec<String> {
        let mut clock = MIDNIGHT + random.random_range(0..self.step * 3);
        let mut greatest = i64::MIN;
        let mut records = Vec::new();
        for n in 0..self.records {
            if random.random_range(0..100) < self.bad {
                let bad = [
                    "{\"id\":",
                    "[]",
                    r#"{"id":"x","at":null}"#,
                    r#"{"id":"x","at":"yesterday"}"#,
                    r#"{"at":"2026-01-01T00:00:00Z"}"#,
                    r#"{"id":"x","at":"2026-01-01T00:00:00Z","amount":"much"}"#,
                ];
                records.push(bad[random.random_range(0..bad.len())].to_owned());
                continue;
            }
            // Half of the records stand still: equal event times, and repeats to the microsecond.
            clock += if random.random_bool(0.5) { random.random_range(0..self.step) } else { 0 };
            let back = if random.random_bool(0.4) { random.random_range(0..=DELAY) } else { 0 };
            let at = (clock - back).max(greatest.saturating_sub(DELAY));
            greatest = greatest.max(at);
            let key = random.random_range(0..self.keys);
            let word = ["pear", "apple", "fig", "Äpfel", "quince"][random.random_range(0..5)];
            let or_null = |random: &mut SmallRng, value: String| if random.random_bool(0.15) { "null".to_owned() } else { value };
            let (cents, quarters) = (random.random_range(0..200_000), random.random_range(0..400));
            let amount = or_null(random, format!("{}.{:02}", cents / 100, cents % 100));
            let sub = or_null(random, format!("\"{}\"", random.clone().random_range(0..2)));
            let weight = or_null(random, format!("{}", f64::from(quarters) / 4.0));
            let category = or_null(random, format!("\"{}\"", ["food", "fuel", "travel", "other"][random.clone().random_range(0..4)]));
            let time = watershed_engine::time::timestamp(at);
            records.push(format!(
                r#"{{"id":"{partition}-{key}","sub":{sub},"seq":{n},"at":"{time}","amount":{amount},"weight":{weight},"category":{category},"word":"{word}","part":{partition}}}"#
            ));
        }
        records
    }
}
