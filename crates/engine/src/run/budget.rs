//! The memory that state may take.
//!
//! **Owns** who gives way when there is not enough: operators put state on disk, the largest first. **Does not own** how an
//! operator does it. Between ticks, never within one.

use std::collections::BTreeMap;
use std::sync::Arc;

use watershed_types::{Error, Result};

use super::table::{Segment, TableRun};
use crate::operator::{Operator, Scratch};

/// Of all operators together, and of each.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// All of them, bytes.
    pub memory: u64,
    /// Each, bytes.
    pub operator: Option<u64>,
}

/// What of the memory the cache for state on disk takes, and how much at least.
const CACHE_SHARE: u64 = 16;
const CACHE_LEAST: u64 = 8 << 20;
/// What of the memory may be taken by what is held only until the next snapshot, and how much at least.
const UNSAVED_SHARE: u64 = 32;
const UNSAVED_LEAST: u64 = 16 << 20;

impl Budget {
    /// Memory for what is read of state on disk.
    pub fn cache(self) -> u64 {
        (self.memory / CACHE_SHARE).max(CACHE_LEAST)
    }

    /// Lets the operators of a table put state on disk.
    pub fn attach(self, segments: &mut [Segment], scratch: &Arc<Scratch>) {
        let limit = self.operator.unwrap_or(u64::MAX).min(self.memory / 2);
        operators(segments).for_each(|operator| operator.attach(scratch, limit));
    }

    /// True if there is hardly any room left.
    fn is_short(self, tables: &[TableRun]) -> bool {
        taken(tables) > self.memory / 8 * 7
    }

    /// True if a snapshot would give much of it back: now rather than later.
    pub fn wants_snapshot(self, tables: &[TableRun]) -> bool {
        let unsaved: u64 = tables.iter().flat_map(TableRun::operators).map(Operator::unsaved).sum();
        self.is_short(tables) || unsaved > (self.memory / UNSAVED_SHARE).max(UNSAVED_LEAST)
    }

    /// Makes room where too much is taken. Then there is some left, so that not every tick comes back to it.
    pub fn keep(self, tables: &mut [TableRun]) -> Result<()> {
        let failed = |id: &str, e: datafusion::common::DataFusionError| {
            Error::unavailable("RUN0045", format!("operator \"{id}\" cannot put its state on disk: {}", e.strip_backtrace()))
                .hint("The run goes on from the last epoch once there is room.")
        };
        if let Some(most) = self.operator {
            for operator in tables.iter_mut().flat_map(|table| operators(&mut table.segments)).filter(|operator| operator.bytes() > most) {
                let id = operator.id().to_owned();
                operator.shrink(most / 4 * 3).map_err(|e| failed(&id, e))?;
            }
        }
        if !self.is_short(tables) {
            return Ok(());
        }
        let mut over = taken(tables) - self.memory / 8 * 5;
        let mut largest: Vec<&mut Box<dyn Operator>> = tables.iter_mut().flat_map(|table| operators(&mut table.segments)).collect();
        largest.sort_by_key(|operator| std::cmp::Reverse(operator.bytes()));
        for operator in largest {
            let (id, had) = (operator.id().to_owned(), operator.bytes());
            operator.shrink(had.saturating_sub(over)).map_err(|e| failed(&id, e))?;
            over = over.saturating_sub(had.saturating_sub(operator.bytes()));
            if over == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Fails if too much is taken by what cannot go to disk.
    pub fn check(self, tables: &[TableRun]) -> Result<()> {
        let sizes: BTreeMap<&str, u64> = tables.iter().flat_map(TableRun::operators).map(|operator| (operator.id(), operator.bytes())).collect();
        let total: u64 = sizes.values().sum();
        let Some((largest, bytes)) = sizes.iter().max_by_key(|(_, bytes)| **bytes).filter(|_| total > self.memory) else { return Ok(()) };
        Err(Error::unavailable(
            "RUN0023",
            format!(
                "state that has to be in memory takes {} MiB, and its budget is {} MiB; the largest operator is \"{largest}\" with {} MiB",
                total >> 20,
                self.memory >> 20,
                bytes >> 20
            ),
        )
        .hint("Raise [engine] memory in watershed.toml, or let the operator remember less: a shorter WITHIN, smaller windows, fewer keys."))
    }
}

fn taken(tables: &[TableRun]) -> u64 {
    tables.iter().flat_map(TableRun::operators).map(Operator::bytes).sum()
}

fn operators(segments: &mut [Segment]) -> impl Iterator<Item = &mut Box<dyn Operator>> {
    segments.iter_mut().filter_map(|segment| match segment {
        Segment::Operator(operator) => Some(operator),
        Segment::Stateless(_) | Segment::Enrich(_) => None,
    })
}
