//! `connector = 'generator'`: the simulator as a source, partitioned, paced and replayable.
//!
//! A position is an ordinal: partition p of n yields the indexes `ordinal * n + p`. Nothing but the pace depends on the
//! clock (unless event time starts `now`, which makes replayed rows carry other times).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use watershed_ports::{Clock, Framing, Lag, Polled, RawChunk, Source, SystemClock};
use watershed_types::{Error, Positions, Result};

use crate::options::{GeneratorOptions, Rate};
use crate::record::Simulator;

/// Rows of one partition in a chunk: bounds how far partitions drift apart in event time.
const MOST_ROWS: u64 = 16_384;

/// A source of simulated transactions.
#[derive(Debug)]
pub struct GeneratorSource {
    options: GeneratorOptions,
    simulator: Simulator,
    names: Vec<Arc<str>>,
    /// The next ordinal of each partition.
    next: Vec<u64>,
    /// Partitions that are left alone until others have come up.
    held: Vec<bool>,
    started: Instant,
    emitted: u64,
}

impl GeneratorSource {
    /// A source of these records.
    pub fn new(options: GeneratorOptions) -> GeneratorSource {
        let partitions = options.partitions.max(1);
        GeneratorSource {
            simulator: Simulator::new(options.profile.clone()),
            names: (0..partitions).map(|p| Arc::from(p.to_string())).collect(),
            next: vec![0; partitions as usize],
            held: vec![false; partitions as usize],
            started: Instant::now(),
            emitted: 0,
            options,
        }
    }

    fn index(&self, partition: usize, ordinal: u64) -> u64 {
        ordinal * self.next.len() as u64 + partition as u64
    }

    /// Ordinals of a partition that are still to come.
    fn left(&self, partition: usize) -> u64 {
        let Some(rows) = self.options.rows else { return u64::MAX };
        let (n, p) = (self.next.len() as u64, partition as u64);
        let all = rows.saturating_sub(p).div_ceil(n);
        all.saturating_sub(self.next[partition])
    }

    /// Rows that may leave now by the pace.
    fn due(&self) -> u64 {
        match self.options.rate {
            Rate::Max => u64::MAX,
            Rate::PerSecond(rate) => ((self.started.elapsed().as_secs_f64() * rate) as u64).saturating_sub(self.emitted),
        }
    }

    fn chunk(&mut self, partition: usize, rows: u64, max_bytes: usize) -> RawChunk {
        let first = self.next[partition];
        let mut bytes = Vec::with_capacity(max_bytes.min(rows as usize * 400) + 512);
        let mut made = 0;
        while made < rows && (made == 0 || bytes.len() < max_bytes) {
            self.simulator.record(self.index(partition, first + made), None, &mut bytes);
            bytes.push(b'\n');
            made += 1;
        }
        self.next[partition] += made;
        self.emitted += made;
        RawChunk {
            partition: Arc::clone(&self.names[partition]),
            stretch: Arc::clone(&self.names[partition]),
            offset: first,
            end_offset: first + made,
            record: first,
            byte_positions: false,
            ingested_at: SystemClock.now_micros(),
            framing: Framing::Lines,
            bytes: Bytes::from(bytes),
            header: false,
            facts: None,
            lost: 0,
            skipped: 0,
        }
    }
}

impl Source for GeneratorSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        self.next.fill(0);
        for (stretch, position) in positions {
            let partition = self.names.iter().position(|name| **name == **stretch).ok_or_else(|| {
                Error::invalid("GEN0002", format!("the generator has no partition \"{stretch}\", which an earlier run read"))
                    .hint("Set partitions back to what it was, or start a new pipeline.")
            })?;
            self.next[partition] = position.offset;
        }
        if self.options.start_now {
            // Event time is the wall clock here, wherever an earlier run stopped.
            let first = (0..self.next.len()).map(|p| self.index(p, self.next[p])).min().unwrap_or(0);
            let mut profile = self.options.profile.clone();
            profile.start_micros = 0;
            profile.start_micros = SystemClock.now_micros() - Simulator::new(profile.clone()).base_micros(first);
            self.simulator = Simulator::new(profile);
        }
        (self.started, self.emitted) = (Instant::now(), 0);
        Ok(())
    }

    fn poll(&mut self, max_bytes: usize, wait: Duration) -> Result<Polled> {
        let deadline = Instant::now() + wait;
        loop {
            // The partition furthest behind goes next, so that they advance together.
            let some = |p: &usize| self.left(*p) > 0;
            let Some(partition) = (0..self.next.len()).filter(some).filter(|p| !self.held[*p]).min_by_key(|p| self.next[*p]) else {
                return Ok(if (0..self.next.len()).any(|p| some(&p)) { Polled::Held } else { Polled::End });
            };
            let due = self.due();
            if due > 0 {
                let share = due.div_ceil(self.next.len() as u64);
                let rows = share.min(self.left(partition)).min(MOST_ROWS);
                return Ok(Polled::Chunk(self.chunk(partition, rows, max_bytes)));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Polled::CaughtUp);
            }
            let Rate::PerSecond(rate) = self.options.rate else { continue };
            let due_at = Duration::try_from_secs_f64((self.emitted + 1) as f64 / rate).unwrap_or(wait);
            let pause = due_at.saturating_sub(self.started.elapsed()).max(Duration::from_micros(100));
            std::thread::sleep(pause.min(deadline - now));
        }
    }

    fn partitions(&self) -> Vec<String> {
        self.names.iter().map(|name| name.to_string()).collect()
    }

    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        self.held = self.names.iter().map(|name| partitions.contains(&**name)).collect();
        Ok(())
    }

    fn unread(&mut self) -> BTreeSet<String> {
        let due = self.due() > 0;
        (0..self.names.len()).filter(|p| due && self.left(*p) > 0).map(|p| self.names[p].to_string()).collect()
    }

    fn lag(&mut self) -> Lag {
        let due = self.due();
        let left = (0..self.next.len()).map(|p| self.left(p)).fold(0u64, u64::saturating_add);
        let records = due.min(left);
        Lag { records: (records < u64::MAX).then_some(records), bytes: None, partitions: vec![] }
    }
}

#[cfg(test)]
mod tests;
