//! The sinks of a prepared epoch, several at a time: the slowest sets the pace, not the sum.
//!
//! **Owns** which sink is begun when, and what a failure means for the others. **Does not own** an epoch's order of steps: all
//! of this lies between `offsets/e` and `commits/e`.
//!
//! I1: a sink has an epoch to itself: the next one begins when all sinks are done with this one.
//! I2: after a failure no sink is begun, and none waits any longer for a target that is away. The epoch is prepared: what has
//! not got it is given it by the next run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::unbounded;
use watershed_ports::{Clock, CommitOutcome, Staged};
use watershed_protocol::{LedgerRow, SinkReceipt};
use watershed_types::{Epoch, Error, Generation, Result};

use super::commit::{Destination, deliver, retry};
use super::outside::{Landed, waiting};
use super::patience::Patience;
use super::spool::Taken;
use super::trace::Step;
use crate::failpoint::{is_armed, reach};

/// How many at a time. Each may hold a staged file in memory.
const AT_A_TIME: usize = 8;

/// A sink and its part of an epoch.
pub struct Part<'a> {
    /// The sink's name.
    pub name: &'a str,
    /// The sink.
    pub sink: &'a Destination,
    /// What its writers put aside.
    pub staged: Vec<Staged>,
}

/// A sink that has its part, or for which it waits.
pub struct Finished<'a> {
    /// The sink's name.
    pub name: &'a str,
    /// The sink.
    pub sink: &'a Destination,
    /// When, and how much.
    pub step: Step,
    /// What the commit record says of it.
    pub receipt: SinkReceipt,
    /// The account, where the rows have arrived outside.
    pub row: Option<LedgerRow>,
}

/// An epoch on its way to its sinks.
pub struct SideBySide<'a> {
    /// Which.
    pub epoch: Epoch,
    /// Whose.
    pub generation: Generation,
    /// Wall clock.
    pub clock: &'a dyn Clock,
    /// How long outside targets are waited for.
    pub patience: Patience,
    /// True after a start.
    pub recovering: bool,
}

impl SideBySide<'_> {
    /// Commits all of them. The answers are in the order of `parts`, without those that were not done if one failed; the
    /// failure is the first there was.
    pub fn commit<'a>(mut self, parts: Vec<Part<'a>>) -> (Vec<Finished<'a>>, Result<()>) {
        // A place that is named "after the first" has to be one where no other has begun.
        let at_a_time = if is_armed("after_first_sink") { 1 } else { AT_A_TIME.min(parts.len()) };
        let failed = Arc::new(AtomicBool::new(false));
        let any_done = AtomicBool::new(false);
        self.patience = self.patience.unless(Arc::clone(&failed));
        let mut finished: Vec<Option<Finished>> = parts.iter().map(|_| None).collect();
        let mut first_failure: Option<Error> = None;
        let (give, queue) = unbounded();
        let (answer, answers) = unbounded();
        for part in parts.into_iter().enumerate() {
            let _ = give.send(part); // The other end is below.
        }
        drop(give);
        let this = &self;
        std::thread::scope(|scope| {
            for _ in 0..at_a_time {
                let (queue, answer, failed, any_done) = (queue.clone(), answer.clone(), &failed, &any_done);
                scope.spawn(move || {
                    for (index, part) in queue {
                        if failed.load(Ordering::SeqCst) {
                            return;
                        }
                        let done = this.commit_one(part);
                        failed.fetch_or(done.is_err(), Ordering::SeqCst);
                        // Here, where this thread has begun no other.
                        if done.is_ok() && !any_done.swap(true, Ordering::SeqCst) {
                            reach("after_first_sink");
                        }
                        let _ = answer.send((index, done));
                    }
                });
            }
            drop(answer);
            for (index, done) in answers {
                match done {
                    Ok(done) => finished[index] = Some(done),
                    Err(error) => first_failure = first_failure.take().or(Some(error)),
                }
            }
        });
        (finished.into_iter().flatten().collect(), first_failure.map_or(Ok(()), Err))
    }

    fn commit_one<'a>(&self, Part { name, sink, staged }: Part<'a>) -> Result<Finished<'a>> {
        let started_at = self.clock.now_micros();
        let arrived = |Landed { receipt, row }| (receipt, Some(row));
        let (receipt, row) = match sink {
            Destination::Sink(sink) => {
                let outcome = retry(|| sink.commit(self.epoch, self.generation, &staged))?;
                (SinkReceipt { spooled: false, already_there: outcome == CommitOutcome::AlreadyThere, ..waiting(&staged) }, None)
            }
            Destination::Outside(outside, None) => arrived(deliver(outside, self.epoch, self.generation, &staged, self.clock, &self.patience)?),
            Destination::Outside(_, Some(spool)) => match spool.take(self.epoch, &staged, &self.patience, self.recovering)? {
                Taken::Landed(landed) => arrived(landed),
                Taken::Spooled => (waiting(&staged), None),
            },
        };
        let (rows, bytes) = (staged.iter().map(|part| part.rows).sum(), staged.iter().map(|part| part.bytes).sum());
        let step = Step { name: "commit", sink: Some(name.to_owned()), started_at, ended_at: self.clock.now_micros(), rows: Some(rows), bytes: Some(bytes) };
        Ok(Finished { name, sink, step, receipt, row })
    }
}
