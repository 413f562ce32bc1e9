//! The keys that come most often, by the SpaceSaving sketch.

/// Keys that are followed at a time.
const COUNTERS: usize = 64;
/// One message in so many is looked at.
const EVERY: u32 = 8;
/// Looks after which counts are halved, so that the recent ones weigh most.
const HALF_LIFE: u32 = 8_192;
/// Looks below which nothing is said.
const ENOUGH: u32 = 64;
/// The share from which on a key is called hot.
const HOT: f64 = 0.05;

/// Heavy hitters among the keys of one partition.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    skipped: u32,
    looks: u32,
    counters: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    hash: u64,
    key: Vec<u8>,
    count: u32,
    /// What the count owes to the keys that had the counter before.
    error: u32,
}

impl Sketch {
    /// Looks at a message's key, if it is its turn.
    #[inline]
    pub(super) fn see(&mut self, key: Option<&[u8]>) {
        self.skipped += 1;
        if self.skipped >= EVERY {
            self.skipped = 0;
            self.look(key);
        }
    }

    fn look(&mut self, key: Option<&[u8]>) {
        self.looks += 1;
        if self.looks >= HALF_LIFE {
            self.looks /= 2;
            self.counters.iter_mut().for_each(|counter| (counter.count, counter.error) = (counter.count / 2, counter.error / 2));
            self.counters.retain(|counter| counter.count > 0);
        }
        let Some(key) = key else { return };
        let hash = hash(key);
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.hash == hash && counter.key == key) {
            counter.count += 1;
        } else if self.counters.len() < COUNTERS {
            self.counters.push(Counter { hash, key: key.to_vec(), count: 1, error: 0 });
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            least.error = least.count;
            least.count += 1;
            least.hash = hash;
            least.key.clear();
            least.key.extend_from_slice(key);
        }
    }

    /// The most frequent key and its share, if that is worth a word.
    pub(super) fn hot(&self) -> Option<(String, f64)> {
        if self.looks < ENOUGH {
            return None;
        }
        let most = self.counters.iter().max_by_key(|counter| counter.count - counter.error)?;
        let share = f64::from(most.count - most.error) / f64::from(self.looks);
        (share >= HOT).then(|| (String::from_utf8_lossy(&most.key).chars().take(100).collect(), share.min(1.0)))
    }
}

/// FNV-1a: short keys, one look in eight.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_key_with_a_tenth_of_the_records_among_many_and_forgets_it() {
        let mut sketch = Sketch::default();
        // A step that is coprime to the sampling, so that every key has its turn.
        for at in 0..100_000u32 {
            let key = if at % 10 == 3 { "hot".to_owned() } else { format!("k{}", at.wrapping_mul(2_654_435_761) % 50_000) };
            sketch.look(Some(key.as_bytes()));
        }
        let (key, share) = sketch.hot().expect("one is hot");
        assert_eq!(key, "hot");
        assert!((0.06..0.12).contains(&share), "{share}");
        for at in 0..200_000u32 {
            sketch.look(Some(format!("n{at}").as_bytes()));
        }
        assert_eq!(sketch.hot(), None);
    }
}
