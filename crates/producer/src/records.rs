//! Which record comes next, and under which key.

use std::ops::Range;
use std::sync::Arc;

use watershed_simulator::{Made, Simulator, customer_id};

use crate::partitioner::java_partition;
use crate::salt::Salt;

/// Records by their index: pure, so that any thread may make any of them (I1 of the crate).
#[derive(Debug, Clone)]
pub struct Records {
    simulator: Simulator,
    salt: Arc<Salt>,
    partitions: u32,
}

/// Some records in a row, in buffers that are used again.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: u32,
    value: u32,
    end: u32,
    /// Where the key would have gone without its suffix.
    unsalted: u32,
    made: Made,
}

impl Records {
    /// Records of a simulator, with keys for a topic of so many partitions.
    pub fn new(simulator: Simulator, salt: Arc<Salt>, partitions: u32) -> Self {
        Self { simulator, salt, partitions }
    }

    /// Replaces what the chunk holds with the records of these indexes.
    pub fn fill(&self, indexes: Range<u64>, chunk: &mut Chunk) {
        chunk.bytes.clear();
        chunk.rows.clear();
        let salting = self.salt.ways() > 1;
        for index in indexes {
            let start = chunk.bytes.len();
            let (made, customer) = self.simulator.record_of_customer(index, None, &mut chunk.bytes);
            let key = chunk.bytes.len();
            customer_id(customer, &mut chunk.bytes);
            let unsalted = if salting { java_partition(&chunk.bytes[key..], self.partitions) } else { 0 };
            if let Some(suffix) = self.salt.suffix(index, customer) {
                chunk.bytes.push(b'#');
                chunk.bytes.extend_from_slice(suffix.to_string().as_bytes());
            }
            chunk.rows.push(Row { value: start as u32, key: key as u32, end: chunk.bytes.len() as u32, unsalted, made });
        }
    }
}

impl Chunk {
    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A record's key.
    pub fn key(&self, row: usize) -> &[u8] {
        let row = self.rows[row];
        &self.bytes[row.key as usize..row.end as usize]
    }

    /// A record's value.
    pub fn value(&self, row: usize) -> &[u8] {
        let row = self.rows[row];
        &self.bytes[row.value as usize..row.key as usize]
    }

    /// What a record was meant to be.
    pub fn made(&self, row: usize) -> Made {
        self.rows[row].made
    }

    /// Where a record's key would have gone without its suffix; counted only where keys are salted.
    pub fn unsalted_partition(&self, row: usize) -> u32 {
        self.rows[row].unsalted
    }
}

#[cfg(test)]
mod tests;
