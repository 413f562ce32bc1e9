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
    /// The newest epoch each sink shows.
    pub sinks: BTreeMap<String, Epoch>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Epoch `last` is complete everywhere: go on after it. What was staged for `last + 1` is refuse.
    Resume {
        /// The last complete epoch.
        last: Epoch,
    },
    /// Epoch `epoch` was prepared: each sink commits it (or has it), then go on after it.
    Redrive {
        /// The epoch to finish.
        epoch: Epoch,
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
    if found.prepared == found.committed {
        Verdict::Resume { last: found.committed }
    } else if found.prepared == found.committed.next() {
        Verdict::Redrive { epoch: found.prepared }
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
        }
    }

    /// Does what the verdict says and returns the last complete epoch.
    fn recover(world: &mut World) -> u64 {
        match decide(&found(world)) {
            Verdict::Resume { last } => last.0,
            Verdict::Redrive { epoch } => {
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
                assert_eq!(decide(&found(&world)), Verdict::Resume { last: Epoch(last) });
            }
        }
    }

    #[test]
    fn refuses_what_no_crash_can_explain() {
        let base = Found { mine: Generation(3), newest: Generation(3), prepared: Epoch(5), committed: Epoch(5), sinks: BTreeMap::new() };
        assert_eq!(decide(&Found { newest: Generation(4), ..base.clone() }), Verdict::Fenced { by: Generation(4) });
        assert_eq!(decide(&Found { committed: Epoch(3), ..base.clone() }), Verdict::Gap { prepared: Epoch(5), committed: Epoch(3) });
        assert_eq!(decide(&Found { committed: Epoch(6), ..base.clone() }), Verdict::Gap { prepared: Epoch(5), committed: Epoch(6) });
        let ahead = BTreeMap::from([("lake".to_owned(), Epoch(6))]);
        assert_eq!(decide(&Found { sinks: ahead, ..base }), Verdict::SinkAhead { sink: "lake".to_owned(), shows: Epoch(6), prepared: Epoch(5) });
    }
}
