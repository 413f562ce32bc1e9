//! A hash table of 128-bit keys and 32-bit values, made for dedup: no deletes, little memory, cheap growth.
//!
//! Open addressing with linear probing. Twenty bytes a slot, filled to 80%, grown by half and by a quarter once large, so
//! 25 to 38 bytes a key, and 25 to 31 where there are many. Keys are hashes already: the first half picks the slot by multiplication, so any capacity will do.
//!
//! SUBTLE: [`Table128::iter`] goes by slot, that is by hash. Inserted in that order into a table that is still small,
//! keys pile up in one place and probing becomes quadratic: [`Table128::reserve`] first.

/// The table.
#[derive(Debug, Default, Clone)]
pub struct Table128 {
    keys: Vec<(u64, u64)>,
    values: Vec<u32>,
    used: usize,
}

/// What a slot holds that holds nothing. A key that happens to be this is moved aside by one.
const EMPTY: (u64, u64) = (0, 0);

/// From so many slots on, memory matters more than how often a table grows.
const LARGE: usize = 1 << 16;

fn normal(key: (u64, u64)) -> (u64, u64) {
    if key == EMPTY { (0, 1) } else { key }
}

impl Table128 {
    /// How many keys are in it.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<(u64, u64)>() + self.values.capacity() * size_of::<u32>()
    }

    fn slot(&self, key: (u64, u64)) -> usize {
        ((u128::from(key.0) * self.keys.len() as u128) >> 64) as usize
    }

    /// The value of a key.
    pub fn get(&self, key: (u64, u64)) -> Option<u32> {
        if self.used == 0 {
            return None;
        }
        let key = normal(key);
        let mut at = self.slot(key);
        loop {
            if self.keys[at] == key {
                return Some(self.values[at]);
            }
            if self.keys[at] == EMPTY {
                return None;
            }
            at += 1;
            if at == self.keys.len() {
                at = 0;
            }
        }
    }

    /// Adds a key unless it is there; true if it was added.
    pub fn insert(&mut self, key: (u64, u64), value: u32) -> bool {
        if (self.used + 1) * 5 > self.keys.len() * 4 {
            self.grow();
        }
        let key = normal(key);
        let mut at = self.slot(key);
        loop {
            if self.keys[at] == key {
                return false;
            }
            if self.keys[at] == EMPTY {
                self.keys[at] = key;
                self.values[at] = value;
                self.used += 1;
                return true;
            }
            at += 1;
            if at == self.keys.len() {
                at = 0;
            }
        }
    }

    /// Adds a key, or raises its value.
    pub fn raise(&mut self, key: (u64, u64), value: u32) {
        if self.insert(key, value) {
            return;
        }
        let key = normal(key);
        let mut at = self.slot(key);
        while self.keys[at] != key {
            at = (at + 1) % self.keys.len();
        }
        self.values[at] = self.values[at].max(value);
    }

    /// Makes room for so many keys in all.
    pub fn reserve(&mut self, keys: usize) {
        let capacity = keys + keys / 4 + 1;
        if capacity > self.keys.len() {
            self.resize(capacity);
        }
    }

    fn grow(&mut self) {
        let slots = self.keys.len();
        self.resize((slots + slots / if slots < LARGE { 2 } else { 4 }).max(16));
    }

    fn resize(&mut self, capacity: usize) {
        let mut larger = Table128 { keys: vec![EMPTY; capacity], values: vec![0; capacity], used: 0 };
        for (key, value) in self.iter() {
            larger.insert(key, value);
        }
        *self = larger;
    }

    /// Every key and value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ((u64, u64), u32)> {
        self.keys.iter().zip(&self.values).filter(|(key, _)| **key != EMPTY).map(|(key, value)| (*key, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn agrees_with_a_map_and_stays_small() {
        let mut table = Table128::default();
        let mut map = HashMap::new();
        let mut state = 1u64;
        for i in 0..200_000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = if i % 3 == 0 { (state % 1_000, 7) } else { (state, u64::from(i)) };
            let fresh = !map.contains_key(&key);
            assert_eq!(table.insert(key, i), fresh);
            map.entry(key).or_insert(i);
        }
        assert!(table.insert(EMPTY, 9) && !table.insert(EMPTY, 9));
        table.raise(EMPTY, 11);
        table.raise(EMPTY, 10);
        assert_eq!(table.get(EMPTY), Some(11));
        assert_eq!(table.len(), map.len() + 1);
        assert!(map.iter().all(|(key, value)| table.get(*key) == Some(*value)));
        assert!(table.bytes() / table.len() <= 38, "{} bytes a key", table.bytes() / table.len());
    }
}
