//! Chunks of records in order, made in the sending thread or ahead of it by others.
//!
//! With n threads, thread t makes the chunks t, t+n, t+2n, …; the sender takes them in turn, so the order is that of the
//! indexes however the threads are scheduled (I1, I2 of the crate). Chunks go back and are used again.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};
use watershed_types::{Error, Result};

use crate::records::{Chunk, Records};

/// Records in a chunk: some 80 KB, which stays in a core's cache until it is sent.
const ROWS: u64 = 256;
/// Chunks a thread may be ahead.
const AHEAD: usize = 8;

/// Where the sender takes its records from.
pub(crate) struct Supply {
    maker: Maker,
    chunk: Chunk,
    /// The next row of the chunk.
    next: usize,
}

enum Maker {
    Here { records: Records, index: u64, end: u64 },
    Threads { lanes: Vec<Lane>, turn: usize },
}

struct Lane {
    full: Receiver<Chunk>,
    empty: Sender<Chunk>,
}

impl Supply {
    /// Records from index 0 to `end` (no end without it), made by so many threads.
    pub(crate) fn start(records: Records, end: Option<u64>, threads: usize) -> Result<Self> {
        let end = end.unwrap_or(u64::MAX);
        let maker = if threads == 0 {
            Maker::Here { records, index: 0, end }
        } else {
            let lanes = (0..threads).map(|thread| lane(records.clone(), thread as u64, threads as u64, end)).collect::<Result<_>>()?;
            Maker::Threads { lanes, turn: 0 }
        };
        Ok(Self { maker, chunk: Chunk::default(), next: 0 })
    }

    /// The next rows, at least one and at most `want`; `None` at the end.
    pub(crate) fn take(&mut self, want: usize) -> Option<(&Chunk, Range<usize>)> {
        if self.next == self.chunk.len() {
            self.refill(want)?;
        }
        let first = self.next;
        self.next = (first + want.max(1)).min(self.chunk.len());
        Some((&self.chunk, first..self.next))
    }

    fn refill(&mut self, want: usize) -> Option<()> {
        self.next = 0;
        match &mut self.maker {
            Maker::Here { records, index, end } => {
                let rows = (want as u64).clamp(1, ROWS).min(*end - *index);
                records.fill(*index..*index + rows, &mut self.chunk);
                *index += rows;
            }
            Maker::Threads { lanes, turn } => {
                let lane = &lanes[*turn];
                *turn = (*turn + 1) % lanes.len();
                // A lane that has ended is disconnected, and all lanes after it in turn have ended too.
                let full = lane.full.recv().unwrap_or_default();
                let _ = lane.empty.try_send(std::mem::replace(&mut self.chunk, full));
            }
        }
        (!self.chunk.is_empty()).then_some(())
    }
}

fn lane(records: Records, thread: u64, threads: u64, end: u64) -> Result<Lane> {
    let (send_full, full) = bounded(AHEAD);
    let (empty, take_empty) = bounded::<Chunk>(AHEAD + 2);
    let make = move || {
        let mut number = thread;
        loop {
            let first = number.saturating_mul(ROWS);
            if first >= end {
                return;
            }
            let mut chunk = take_empty.try_recv().unwrap_or_default();
            records.fill(first..first.saturating_add(ROWS).min(end), &mut chunk);
            if send_full.send(chunk).is_err() {
                return;
            }
            number += threads;
        }
    };
    std::thread::Builder::new()
        .name(format!("generator-{thread}"))
        .spawn(make)
        .map_err(|e| Error::unavailable("PRD0009", format!("the thread \"generator-{thread}\" cannot be started")).caused_by(e))?;
    Ok(Lane { full, empty })
}
