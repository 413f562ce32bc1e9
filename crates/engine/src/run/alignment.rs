//! Alignment: partitions that have run ahead in event time are not read until the others have come up.
//!
//! **Owns** who is held, and chunks that had come before their reader was told. **Does not own** watermarks, nor how a reader
//! leaves a partition alone.
//!
//! I1: of the partitions that are waited for the least is never held, so that something is always read.
//! I2: a partition is waited for while more may be expected of it: not while it is idle, nor once its source has ended; and
//!     where a run takes only what there is, not at its end.
//! I3: the chunks of a partition are taken in their order, and none is given up but by a stop: its position was not passed then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crossbeam_channel::Sender;

use super::driver::SourceRun;
use super::intake::Intake;
use crate::plan::Drift;

/// A source's part in it.
pub struct Alignment {
    drift: Drift,
    /// To the source's thread: who is to be left alone.
    tell: Sender<BTreeSet<String>>,
    /// Partitions too far ahead.
    ahead: BTreeSet<String>,
    /// Those, and the ones of which chunks wait; since when.
    held: BTreeMap<String, Instant>,
    /// Chunks of held partitions, in order.
    waiting: VecDeque<Intake>,
}

impl Alignment {
    /// Nobody is held yet.
    pub fn new(drift: Drift, tell: Sender<BTreeSet<String>>) -> Self {
        Self { drift, tell, ahead: BTreeSet::new(), held: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// The partitions that are held.
    pub fn held(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    /// True if chunks wait.
    pub fn keeps(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a chunk that came: it is given back if it may be used now.
    fn admit(&mut self, intake: Intake) -> Option<Intake> {
        if !self.held.contains_key(&*intake.origin.chunk.partition) {
            return Some(intake);
        }
        self.waiting.push_back(intake);
        None
    }

    /// A chunk that has waited and may be used now.
    fn release(&mut self) -> Option<Intake> {
        let at = self.waiting.iter().position(|intake| !self.ahead.contains(&*intake.origin.chunk.partition))?;
        self.waiting.remove(at)
    }

    fn waits(&self, partition: &str) -> bool {
        self.waiting.iter().any(|intake| *intake.origin.chunk.partition == *partition)
    }

    /// True if sources of these groups wait for each other.
    fn shares_group(&self, other: &Alignment) -> bool {
        self.drift.group.is_some() && self.drift.group == other.drift.group
    }
}

/// Takes a chunk of a source: it is given back if it may be used now.
pub fn admit(source: &mut SourceRun, intake: Intake) -> Option<Intake> {
    match &mut source.alignment {
        Some(alignment) => alignment.admit(intake),
        None => Some(intake),
    }
}

/// A chunk that has waited and may be used now.
pub fn release(sources: &mut [SourceRun]) -> Option<Intake> {
    sources.iter_mut().filter_map(|source| source.alignment.as_mut()).find_map(Alignment::release)
}

/// Settles anew who is held; for which sources that has changed. With `once` a run takes what there is.
pub fn settle(sources: &mut [SourceRun], once: bool) -> Vec<usize> {
    let mut changed = Vec::new();
    if sources.iter().all(|source| source.alignment.is_none()) {
        return changed;
    }
    let least: Vec<Option<i64>> = sources.iter().map(|source| least(source, once)).collect();
    let floors: Vec<Option<i64>> = (0..sources.len()).map(|index| floor(sources, &least, index)).collect();
    for (index, (source, floor)) in sources.iter_mut().zip(floors).enumerate() {
        let (Some(alignment), Some(watermarks)) = (&mut source.alignment, &source.watermarks) else { continue };
        let most = floor.map_or(i64::MAX, |floor| floor.saturating_add(alignment.drift.max));
        alignment.ahead = watermarks.by_partition().into_iter().filter(|(_, watermark)| *watermark > most).map(|(partition, _)| partition).collect();
        let waiting = alignment.waiting.iter().map(|intake| intake.origin.chunk.partition.to_string());
        let held: BTreeSet<String> = alignment.ahead.iter().cloned().chain(waiting).collect();
        if held.iter().eq(alignment.held.keys()) {
            continue;
        }
        let now = Instant::now();
        for (_, since) in alignment.held.iter().filter(|(partition, _)| !held.contains(*partition)) {
            metrics::histogram!("watershed_source_held_seconds", "source" => source.name.clone()).record(now.duration_since(*since).as_secs_f64());
        }
        metrics::gauge!("watershed_source_held_partitions", "source" => source.name.clone()).set(held.len() as f64);
        alignment.held = held.iter().map(|partition| (partition.clone(), alignment.held.get(partition).copied().unwrap_or(now))).collect();
        // A thread that has ended reads nothing any more.
        let _ = alignment.tell.send(held);
        changed.push(index);
    }
    changed
}

/// I2: the least watermark of a source's partitions that are waited for.
fn least(source: &SourceRun, once: bool) -> Option<i64> {
    let alignment = source.alignment.as_ref()?;
    source.watermarks.as_ref()?.least_awaited(|partition| alignment.waits(partition), source.done, once)
}

/// What a source is measured against: its own least, or that of its group.
fn floor(sources: &[SourceRun], least: &[Option<i64>], index: usize) -> Option<i64> {
    let mine = sources[index].alignment.as_ref()?;
    let others = sources.iter().zip(least).enumerate();
    let of_group = others.filter(|(other, (source, _))| *other == index || source.alignment.as_ref().is_some_and(|alignment| alignment.shares_group(mine)));
    of_group.filter_map(|(_, (_, least))| *least).min()
}
