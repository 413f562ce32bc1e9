//! What to do after a start, from what the checkpoint and the sinks say. Fence first, read progress after.

use std::collections::BTreeMap;

use watershed_types::{Epoch, Generation};

/// What a start finds. `prepared` and `committed` are the newest of their kind, [`Epoch::ZERO`] if none.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The generation this start claimed.
    pub mine: Generation,
    /// The newest generation anybody claimed.
    pub newest: Generation,
    /// The newest manifest.
    pub prepared: Epoch,
    /// The newest commit record.
    pub committed: Epoch,
    /// The newest epoch each sink shows. One that may be behind and cannot be asked is left out.
    pub sinks: BTreeMap<String, Epoch>,
    /// Sinks that were left behind on purpose, because they were away: the first epoch that nothing says they took.
    pub owed: BTreeMap<String, Epoch>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Epoch `last` is complete, but for the sinks that are behind: go on after it. What was staged for `last + 1` is refuse.
    Resume {
        /// The last complete epoch.
        last: Epoch,
        /// Sinks that are given their epochs from this one on, in order, beside the run. They may hold some of them.
        behind: BTreeMap<String, Epoch>,
    },
    /// Epoch `epoch` was prepared: each sink commits it (or has it), then go on after it. A sink that is behind gets it
    /// after those it is owed.
    Redrive {
        /// The epoch to finish.
        epoch: Epoch,
        /// As with [`Verdict::Resume`].
        behind: BTreeMap<String, Epoch>,
    },
    /// Somebody newer owns the pipeline: stop.
    Fenced {
        /// Their generation.
        by: Generation,
    },
    /// A manifest or a commit record is missing in the sequence.
    Gap {
        /// The newest manifest.
        prepared: Epoch,
        /// The newest commit record.
        committed: Epoch,
    },
    /// A sink shows an epoch the checkpoint does not know: the checkpoint is older than the sink.
    SinkAhead {
        /// The sink.
        sink: String,
        /// What it shows.
        shows: Epoch,
        /// What the checkpoint knows.
        prepared: Epoch,
    },
}

/// The verdict. Total: every combination has one.
pub fn decide(found: &Found) -> Verdict {
    if found.newest > found.mine {
        return Verdict::Fenced { by: found.newest };
    }
    if let Some((sink, shows)) = found.sinks.iter().find(|(_, shows)| **shows > found.prepared) {
        return Verdict::SinkAhead { sink: sink.clone(), shows: *shows, prepared: found.prepared };
    }
    // Nothing is owed of an epoch without a commit record: finishing it comes to that.
    let behind = || found.owed.iter().filter(|(_, from)| **from <= found.committed).map(|(sink, from)| (sink.clone(), *from)).collect();
    if found.prepared == found.committed {
        Verdict::Resume { last: found.committed, behind: behind() }
    } else if found.prepared == found.committed.next() {
        Verdict::Redrive { epoch: found.prepared, behind: behind() }
    } else {
        Verdict::Gap { prepared: found.prepared, committed: found.committed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of the protocol: a history is a list of steps, each of which may be the last before a crash.
    #[derive(Clone, Default)]
    struct World {
        prepared: u64,
        committed: u64,
        sinks: [u64; 2],
    }

    fn found(world: &World) -> Found {
        Found {
            mine: Generation(2),
            newest: Generation(2),
            prepared: Epoch(world.prepared),
            committed: Epoch(world.committed),
            sinks: BTreeMap::from([("a".to_owned(), Epoch(world.sinks[0])), ("b".to_owned(), Epoch(world.sinks[1]))]),
            owed: BTreeMap::new(),
        }
    }

    /// Does what the verdict says and returns the last complete epoch.
    fn recover(world: &mut World) -> u64 {
        match decide(&found(world)) {
            Verdict::Resume { last, .. } => last.0,
            Verdict::Redrive { epoch, .. } => {
                for sink in &mut world.sinks {
                    *sink = (*sink).max(epoch.0);
                }
                world.committed = epoch.0;
                epoch.0
            }
            other => panic!("a crash alone never leads to {other:?}"),
        }
    }

    #[test]
    fn every_crash_point_of_every_history_recovers_to_all_or_nothing() {
        // Steps of one epoch: prepare, sink a, sink b, record. Crash after any number of them, in any order of sinks,
        // also again while recovering.
        for crash_after in 0..=12 {
            for swap in [false, true] {
                let mut world = World::default();
                let mut done = 0;
                'run: for epoch in 1..=3 {
                    for step in 0..4 {
                        if done == crash_after {
                            break 'run;
                        }
                        match (step, swap) {
                            (0, _) => world.prepared = epoch,
                            (1, false) | (2, true) => world.sinks[0] = epoch,
                            (1, true) | (2, false) => world.sinks[1] = epoch,
                            _ => world.committed = epoch,
                        }
                        done += 1;
                    }
                }
                let last = recover(&mut world);
                assert_eq!(last, world.prepared, "a prepared epoch is always finished");
                assert!(world.sinks.iter().all(|sink| *sink == last), "all sinks or none");
                assert_eq!(decide(&found(&world)), Verdict::Resume { last: Epoch(last), behind: BTreeMap::new() });
            }
        }
    }

    /// The same with a sink that may be left behind. It is away while `away` says so, by the step.
    #[derive(Clone, Default)]
    struct Spooling {
        prepared: u64,
        committed: u64,
        lake: Vec<u64>,
        /// What the sink took, in the order it did.
        took: Vec<u64>,
        /// Epochs whose commit record says "spooled".
        spooled: Vec<u64>,
        /// Epochs with a delivery record.
        delivered: Vec<u64>,
        /// Epochs in the memory of the run.
        queue: Vec<u64>,
        step: usize,
    }

    impl Spooling {
        fn owed(&self) -> Vec<u64> {
            self.spooled.iter().copied().filter(|epoch| !self.delivered.contains(epoch)).collect()
        }

        fn found(&self, reachable: bool) -> Found {
            let shows = reachable.then(|| ("b".to_owned(), Epoch(self.took.last().copied().unwrap_or(0))));
            Found {
                mine: Generation(2),
                newest: Generation(2),
                prepared: Epoch(self.prepared),
                committed: Epoch(self.committed),
                sinks: shows.into_iter().chain([("a".to_owned(), Epoch(self.lake.last().copied().unwrap_or(0)))]).collect(),
                owed: self.owed().first().map(|from| ("b".to_owned(), Epoch(*from))).into_iter().collect(),
            }
        }

        /// One durable step; false if the crash comes before it.
        fn step(&mut self, crash_at: usize, act: impl FnOnce(&mut Self)) -> bool {
            let alive = self.step < crash_at;
            if alive {
                act(self);
            }
            self.step += 1;
            alive
        }

        /// Gives the sink what it is owed, in order, as far as it is there.
        fn catch_up(&mut self, crash_at: usize, away: u32) -> bool {
            while let Some(epoch) = self.queue.first().copied() {
                if away >> (self.step % 32) & 1 == 1 {
                    self.step += 1;
                    return true;
                }
                // A target takes an epoch once.
                if !self.step(crash_at, |world| {
                    if !world.took.contains(&epoch) {
                        world.took.push(epoch)
                    }
                }) || !self.step(crash_at, |world| world.delivered.push(epoch))
                {
                    return false;
                }
                self.queue.remove(0);
            }
            true
        }

        /// Takes a prepared epoch to its commit record.
        fn finish(&mut self, epoch: u64, crash_at: usize, away: u32) -> bool {
            if !self.step(crash_at, |world| {
                if !world.lake.contains(&epoch) {
                    world.lake.push(epoch)
                }
            }) || !self.catch_up(crash_at, away)
            {
                return false;
            }
            let direct = self.queue.is_empty() && away >> (self.step % 32) & 1 == 0;
            if direct
                && !self.step(crash_at, |world| {
                    if !world.took.contains(&epoch) {
                        world.took.push(epoch)
                    }
                })
            {
                return false;
            }
            if !direct {
                self.queue.push(epoch);
            }
            self.step(crash_at, |world| {
                world.committed = epoch;
                if !direct {
                    world.spooled.push(epoch);
                }
            })
        }
    }

    #[test]
    fn a_sink_that_is_left_behind_gets_every_epoch_once_and_in_order() {
        let mut left_behind = 0;
        for away in (0..4096u32).map(|n| n.wrapping_mul(2_654_435_761)) {
            for crash_at in 0..24 {
                let mut world = Spooling::default();
                for epoch in 1..=4 {
                    if !world.step(crash_at, |world| world.prepared = epoch) || !world.finish(epoch, crash_at, away) {
                        break;
                    }
                }
                // What is in memory is lost, and the sink may still be away when the next run starts.
                let reachable = away & 1 == 0;
                world.queue.clear();
                match decide(&world.found(reachable)) {
                    Verdict::Resume { last, behind } => {
                        assert_eq!(last.0, world.prepared);
                        assert_eq!(behind.get("b").map(|from| from.0), world.owed().first().copied());
                        world.queue = world.owed();
                    }
                    Verdict::Redrive { epoch, behind } => {
                        assert_eq!(behind.get("b").map(|from| from.0), world.owed().first().copied());
                        world.queue = world.owed();
                        assert!(world.finish(epoch.0, usize::MAX, if reachable { 0 } else { u32::MAX }));
                    }
                    other => panic!("neither a crash nor a sink that is away leads to {other:?}"),
                }
                left_behind += usize::from(!world.queue.is_empty());
                assert!(world.catch_up(usize::MAX, 0));
                let all: Vec<u64> = (1..=world.prepared).collect();
                assert_eq!((&world.took, &world.lake), (&all, &all), "away {away:b}, crash at {crash_at}");
                assert!(world.owed().is_empty());
            }
        }
        assert!(left_behind > 1_000, "the model left the sink behind {left_behind} times");
    }

    #[test]
    fn what_a_sink_is_owed_is_no_discrepancy_and_what_it_holds_too_much_is() {
        let owed = |from| BTreeMap::from([("b".to_owned(), Epoch(from))]);
        let shows = |epoch| BTreeMap::from([("b".to_owned(), Epoch(epoch))]);
        let base = Found { mine: Generation(1), newest: Generation(1), prepared: Epoch(9), committed: Epoch(9), sinks: shows(4), owed: owed(5) };
        #[rustfmt::skip]
        let table = [
            ("behind, and there", base.clone(), Verdict::Resume { last: Epoch(9), behind: owed(5) }),
            ("behind, and away", Found { sinks: BTreeMap::new(), ..base.clone() }, Verdict::Resume { last: Epoch(9), behind: owed(5) }),
            ("took some that nothing says it took", Found { sinks: shows(7), ..base.clone() }, Verdict::Resume { last: Epoch(9), behind: owed(5) }),
            ("away, and owed nothing", Found { sinks: BTreeMap::new(), owed: BTreeMap::new(), ..base.clone() }, Verdict::Resume { last: Epoch(9), behind: BTreeMap::new() }),
            ("an epoch to finish comes after those owed", Found { prepared: Epoch(10), ..base.clone() }, Verdict::Redrive { epoch: Epoch(10), behind: owed(5) }),
            ("the epoch to finish itself is not owed yet", Found { prepared: Epoch(10), owed: owed(10), ..base.clone() }, Verdict::Redrive { epoch: Epoch(10), behind: BTreeMap::new() }),
            ("ahead is ahead, owed or not", Found { sinks: shows(10), ..base.clone() }, Verdict::SinkAhead { sink: "b".to_owned(), shows: Epoch(10), prepared: Epoch(9) }),
            ("fenced first of all", Found { newest: Generation(2), ..base.clone() }, Verdict::Fenced { by: Generation(2) }),
            ("a gap stays a gap", Found { committed: Epoch(7), ..base }, Verdict::Gap { prepared: Epoch(9), committed: Epoch(7) }),
        ];
        for (what, found, verdict) in table {
            assert_eq!(decide(&found), verdict, "{what}");
        }
    }

    #[test]
    fn refuses_what_no_crash_can_explain() {
        let base = Found { mine: Generation(3), newest: Generation(3), prepared: Epoch(5), committed: Epoch(5), sinks: BTreeMap::new(), owed: BTreeMap::new() };
        assert_eq!(decide(&Found { newest: Generation(4), ..base.clone() }), Verdict::Fenced { by: Generation(4) });
        assert_eq!(decide(&Found { committed: Epoch(3), ..base.clone() }), Verdict::Gap { prepared: Epoch(5), committed: Epoch(3) });
        assert_eq!(decide(&Found { committed: Epoch(6), ..base.clone() }), Verdict::Gap { prepared: Epoch(5), committed: Epoch(6) });
        let ahead = BTreeMap::from([("lake".to_owned(), Epoch(6))]);
        assert_eq!(decide(&Found { sinks: ahead, ..base }), Verdict::SinkAhead { sink: "lake".to_owned(), shows: Epoch(6), prepared: Epoch(5) });
    }
}
