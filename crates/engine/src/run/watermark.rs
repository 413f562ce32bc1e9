//! Watermarks: per partition with the rows, combined over partitions that are not idle.
//!
//! I1: after each row a partition's watermark is its greatest event time so far less the delay; it never goes back.
//! I2: the combined watermark never goes back, and an idle partition does not hold it.
//! I3: a partition is idle only if it is at its end and has been silent for the timeout. It is at its end if its source is caught
//!     up, or where that tells them apart (sources that are aligned) if nothing of it is left to read.
//! I4: a partition that is known and was never heard holds the watermark like any other, until it is idle.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use watershed_protocol::Lateness;

/// One partition.
#[derive(Debug, Clone)]
struct Partition {
    /// `None` until its first row.
    greatest: Option<i64>,
    heard: Instant,
}

/// The watermarks of one source.
#[derive(Debug, Clone)]
pub struct Watermarks {
    delay: i64,
    idle_timeout: Duration,
    partitions: BTreeMap<String, Partition>,
    caught_up: bool,
    /// The partitions that have more, from a source that says so.
    unread: Option<BTreeSet<String>>,
    combined: Option<i64>,
    lateness: Lateness,
}

impl Watermarks {
    /// No partitions yet. `delay` and `idle_timeout` in microseconds.
    pub fn new(delay: i64, idle_timeout: i64) -> Self {
        Self {
            delay,
            idle_timeout: Duration::from_micros(idle_timeout.max(0) as u64),
            partitions: BTreeMap::new(),
            caught_up: false,
            unread: None,
            combined: None,
            lateness: Lateness::default(),
        }
    }

    /// Takes up where an epoch left off.
    pub fn restore(&mut self, watermarks: &BTreeMap<String, i64>, combined: Option<i64>, lateness: Lateness) {
        self.lateness = lateness;
        for (partition, watermark) in watermarks {
            self.partitions.insert(partition.clone(), Partition { greatest: Some(watermark + self.delay), heard: Instant::now() });
        }
        self.combined = combined;
    }

    /// These partitions exist, whether they have rows or not.
    pub fn expect(&mut self, partitions: Vec<String>) {
        for partition in partitions {
            self.partitions.entry(partition).or_insert(Partition { greatest: None, heard: Instant::now() });
        }
    }

    /// Runs the watermark over rows in arrival order; returns the rows behind it, each with where it stood,
    /// and those exactly at it.
    pub fn advance(&mut self, partition: &str, times: &[i64]) -> (HashMap<u32, i64>, HashSet<u32>) {
        self.caught_up = false;
        let (mut late, mut edge) = (HashMap::new(), HashSet::new());
        let Some(first) = times.first() else { return (late, edge) };
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.to_owned(), Partition { greatest: None, heard: Instant::now() });
        }
        let Some(state) = self.partitions.get_mut(partition) else { return (late, edge) };
        state.heard = Instant::now();
        let started = state.greatest.is_some();
        let mut greatest = state.greatest.unwrap_or(*first);
        let mut watermark = greatest.saturating_sub(self.delay);
        let mut behind = 0;
        for (row, time) in times.iter().enumerate() {
            let (known, watermark_before) = (started || row > 0, watermark);
            if *time > greatest {
                greatest = *time;
                watermark = greatest.saturating_sub(self.delay);
            } else if *time < greatest {
                behind += 1;
                self.lateness.behind(greatest - *time);
                if *time < watermark {
                    late.insert(row as u32, watermark);
                }
            }
            if known && *time == watermark_before {
                edge.insert(row as u32);
            }
        }
        self.lateness.in_order(times.len() as u64 - behind);
        state.greatest = Some(greatest);
        (late, edge)
    }

    /// The source has nothing more at the moment.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// These partitions have more to be read, and no others.
    pub fn unread(&mut self, partitions: BTreeSet<String>) {
        self.unread = Some(partitions);
    }

    fn at_end(&self, name: &str) -> bool {
        self.unread.as_ref().map_or(self.caught_up, |unread| !unread.contains(name))
    }

    fn idle(&self, name: &str, partition: &Partition) -> bool {
        self.at_end(name) && partition.heard.elapsed() >= self.idle_timeout
    }

    /// The least watermark of the partitions that more is expected of, and of those that `keeps` names; [`i64::MIN`] if one of
    /// them was never heard. Nothing more comes once the source has `ended`, nor to an end if the run takes what there is.
    pub fn least_awaited(&self, keeps: impl Fn(&str) -> bool, ended: bool, once: bool) -> Option<i64> {
        // One that is empty says nothing, and nobody can be ahead of it.
        let comes = |name: &str, p: &Partition| !ended && !self.idle(name, p) && !(self.at_end(name) && (once || p.greatest.is_none()));
        let awaited = self.partitions.iter().filter(|(name, p)| keeps(name) || comes(name, p));
        awaited.map(|(_, p)| p.greatest.map_or(i64::MIN, |greatest| greatest.saturating_sub(self.delay))).min()
    }

    /// Event time up to which input is believed complete.
    pub fn combined(&mut self) -> Option<i64> {
        // NULL sorts first: a partition that was never heard has no watermark, and so has the whole.
        let least = self.partitions.iter().filter(|(name, p)| !self.idle(name, p)).map(|(_, p)| p.greatest.map(|g| g.saturating_sub(self.delay))).min().flatten();
        // With every partition idle nothing holds the watermark, and nothing moves it either.
        self.combined = self.combined.max(least);
        self.combined
    }

    /// How far the watermark is behind the greatest event time, microseconds.
    pub fn delay(&self) -> i64 {
        self.delay
    }

    /// How late rows were.
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// Each partition's watermark.
    pub fn by_partition(&self) -> BTreeMap<String, i64> {
        self.partitions.iter().filter_map(|(name, p)| Some((name.clone(), p.greatest?.saturating_sub(self.delay)))).collect()
    }

    /// The partition that holds the combined watermark back, and the idle ones.
    pub fn holder(&self) -> (Option<String>, Vec<String>) {
        let holder = self.partitions.iter().filter(|(name, p)| !self.idle(name, p)).min_by_key(|(_, p)| p.greatest).map(|(name, _)| name.clone());
        let idle = self.partitions.iter().filter(|(name, p)| self.idle(name, p)).map(|(name, _)| name.clone()).collect();
        (holder, idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_judged_by_the_row_before_them_and_slicing_does_not_matter() {
        let times = [100, 95, 120, 109, 110, 90, 121];
        let mut whole = Watermarks::new(10, 0);
        let late: Vec<_> = whole.advance("0", &times).0.into_iter().collect();
        let mut sliced = Watermarks::new(10, 0);
        let mut by_one = Vec::new();
        for (index, time) in times.iter().enumerate() {
            by_one.extend(sliced.advance("0", &[*time]).0.into_values().map(|w| (index as u32, w)));
        }
        let sort = |mut rows: Vec<(u32, i64)>| {
            rows.sort_unstable();
            rows
        };
        assert_eq!(sort(late), vec![(3, 110), (5, 110)], "109 and 90 are behind 110; 110 is not");
        assert_eq!(sort(by_one), vec![(3, 110), (5, 110)]);
        assert_eq!(whole.combined(), sliced.combined());
    }

    #[test]
    fn a_silent_partition_holds_until_it_is_idle() {
        let mut marks = Watermarks::new(0, 0);
        marks.advance("a", &[100]);
        marks.advance("b", &[50]);
        assert_eq!(marks.combined(), Some(50), "not caught up: nobody is idle");
        marks.caught_up();
        assert_eq!(marks.combined(), Some(50), "all idle: it stays");
        marks.idle_timeout = Duration::from_secs(3_600);
        marks.partitions.get_mut("b").expect("is there").heard = Instant::now() - Duration::from_secs(7_200);
        assert_eq!(marks.combined(), Some(100));
        assert_eq!(marks.holder(), (Some("a".to_owned()), vec!["b".to_owned()]));
        assert_eq!(marks.advance("b", &[60]).0.len(), 0, "its own watermark is what makes a row late");
        assert_eq!(marks.combined(), Some(100), "and the combined one never goes back");
    }

    #[test]
    fn a_partition_that_was_never_heard_holds_too() {
        let mut marks = Watermarks::new(0, 3_600_000_000);
        marks.expect(vec!["a".to_owned(), "b".to_owned()]);
        marks.advance("a", &[100]);
        marks.caught_up();
        assert_eq!(marks.combined(), None);
        assert_eq!(marks.holder().0.as_deref(), Some("b"));
        marks.advance("b", &[70]);
        assert_eq!(marks.combined(), Some(70));
    }
}
