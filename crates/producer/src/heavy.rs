//! The heaviest keys of a stream in bounded memory: SpaceSaving (Metwally, Agrawal, El Abbadi, 2005).
//!
//! With c counters over n keys, a key's count is over by at most n/c, and every key that came more than n/c times is
//! among the counters. [`HeavyHitters::surely`] subtracts what a count may be over, so that it names no key wrongly.

use hashbrown::HashMap;

#[derive(Debug, Clone, Copy)]
struct Counter {
    key: u64,
    count: u64,
    /// The count may be over by this much: what it was when the key took the counter over.
    over: u64,
}

/// Counters in a heap whose root is the smallest, and where each key's counter stands in it.
#[derive(Debug)]
pub struct HeavyHitters {
    heap: Vec<Counter>,
    place: HashMap<u64, usize>,
    capacity: usize,
    total: u64,
}

impl HeavyHitters {
    /// A sketch with so many counters.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { heap: Vec::with_capacity(capacity), place: HashMap::with_capacity(capacity), capacity, total: 0 }
    }

    /// Counts a key.
    pub fn add(&mut self, key: u64) {
        self.total += 1;
        if let Some(&at) = self.place.get(&key) {
            self.heap[at].count += 1;
            self.sink(at);
        } else if self.heap.len() < self.capacity {
            self.heap.push(Counter { key, count: 1, over: 0 });
            self.place.insert(key, self.heap.len() - 1);
            self.rise(self.heap.len() - 1);
        } else {
            let smallest = self.heap[0];
            self.place.remove(&smallest.key);
            self.heap[0] = Counter { key, count: smallest.count + 1, over: smallest.count };
            self.place.insert(key, 0);
            self.sink(0);
        }
    }

    /// How many keys were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Keys that surely came at least `least` times, with the count that is sure, the most frequent first.
    pub fn surely(&self, least: u64) -> Vec<(u64, u64)> {
        let mut found: Vec<(u64, u64)> = self.heap.iter().map(|c| (c.key, c.count - c.over)).filter(|(_, sure)| *sure >= least.max(1)).collect();
        found.sort_unstable_by_key(|(key, sure)| (std::cmp::Reverse(*sure), *key));
        found
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place.insert(self.heap[a].key, a);
        self.place.insert(self.heap[b].key, b);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].count <= self.heap[at].count {
                return;
            }
            self.swap(at, parent);
            at = parent;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let smaller = [2 * at + 1, 2 * at + 2].into_iter().filter(|child| *child < self.heap.len()).min_by_key(|child| self.heap[*child].count);
            match smaller {
                Some(child) if self.heap[child].count < self.heap[at].count => {
                    self.swap(at, child);
                    at = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_heavy_keys_among_many_and_names_no_other() {
        let mut sketch = HeavyHitters::new(256);
        // Every tenth is key 7, every twentieth key 9; the rest never comes twice.
        for n in 0..100_000u64 {
            sketch.add(match n % 20 {
                0 | 10 => 7,
                1 => 9,
                _ => 1_000 + n,
            });
        }
        let found = sketch.surely(2_000);
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [7, 9]);
        assert!(found[0].1 <= 10_000 && found[0].1 > 10_000 - 100_000 / 256, "{found:?}");
        assert_eq!(sketch.total(), 100_000);
    }

    #[test]
    fn is_exact_while_keys_fit() {
        let mut sketch = HeavyHitters::new(16);
        for n in 0..160u64 {
            sketch.add(n % 8);
        }
        assert!(sketch.surely(1).iter().all(|(_, count)| *count == 20));
        assert_eq!(sketch.surely(21), []);
    }
}
