//! When the next records may leave.
//!
//! The plan is a line: after t seconds, `rate * t` records. A sender that was held up (a full queue) catches up, except
//! for what is more than a second old: that much load was not offered, and the report says so by its rate.

use std::time::{Duration, Instant};

use watershed_simulator::Rate;

/// Records that leave between two looks at the clock when there is no pace.
const UNPACED: u64 = 512;
/// A sleep is no shorter: about what it costs the system to wake a thread, in comparison.
const SHORTEST: Duration = Duration::from_micros(500);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// So many records may leave now.
    Send(u64),
    /// None may leave for so long.
    Wait(Duration),
}

/// A pace that records leave at.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    since: Instant,
    sent: u64,
}

impl Pace {
    /// Starts now.
    pub fn start(rate: Rate, now: Instant) -> Self {
        Self { rate, since: now, sent: 0 }
    }

    /// What to do at `now`.
    pub fn turn(&mut self, now: Instant) -> Turn {
        let Rate::PerSecond(rate) = self.rate else { return Turn::Send(UNPACED) };
        let mut planned = now.duration_since(self.since).as_secs_f64() * rate;
        let behind = planned - self.sent as f64;
        if behind > rate.max(2.0) {
            self.since += Duration::from_secs_f64((behind - rate.max(2.0)) / rate);
            planned = now.duration_since(self.since).as_secs_f64() * rate;
        }
        // The first record leaves at once.
        let due = (planned as u64 + 1).saturating_sub(self.sent);
        if due > 0 {
            return Turn::Send(due.min(UNPACED));
        }
        let next = Duration::from_secs_f64(self.sent as f64 / rate);
        Turn::Wait(next.saturating_sub(now.duration_since(self.since)).max(SHORTEST))
    }

    /// So many have left.
    pub fn sent(&mut self, records: u64) {
        self.sent += records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a pace with a clock of its own; yields (time, records) of each burst.
    fn play(rate: f64, seconds: f64, oversleep: Duration) -> Vec<(Duration, u64)> {
        let began = Instant::now();
        let mut pace = Pace::start(Rate::PerSecond(rate), began);
        let mut at = Duration::ZERO;
        let mut bursts = Vec::new();
        while at.as_secs_f64() < seconds {
            match pace.turn(began + at) {
                Turn::Send(records) => {
                    pace.sent(records);
                    bursts.push((at, records));
                }
                Turn::Wait(wait) => at += wait + oversleep,
            }
        }
        bursts
    }

    #[test]
    fn a_low_rate_has_no_bursts() {
        let bursts = play(1_000.0, 2.0, Duration::from_micros(80));
        assert!(bursts.iter().all(|(_, records)| *records <= 2), "at most two milliseconds' worth");
        let total: u64 = bursts.iter().map(|(_, records)| records).sum();
        assert!((1_998..=2_001).contains(&total), "{total}");
        let gaps = bursts.windows(2).map(|pair| pair[1].0 - pair[0].0).max().expect("some");
        assert!(gaps <= Duration::from_micros(2_100), "{gaps:?}");
    }

    #[test]
    fn a_high_rate_is_kept_with_few_turns() {
        let bursts = play(200_000.0, 1.0, Duration::from_micros(80));
        let total: u64 = bursts.iter().map(|(_, records)| records).sum();
        assert!((199_000..=200_001).contains(&total), "{total}");
        assert!(bursts.len() < 2_000, "{}", bursts.len());
    }

    #[test]
    fn less_than_one_a_second_works() {
        let bursts = play(0.5, 5.0, Duration::ZERO);
        assert_eq!(bursts.iter().map(|(_, records)| *records).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn a_long_hold_up_is_not_caught_up_whole() {
        let began = Instant::now();
        let mut pace = Pace::start(Rate::PerSecond(1_000.0), began);
        let now = began + Duration::from_secs(60);
        let mut caught_up = 0;
        while let Turn::Send(records) = pace.turn(now) {
            pace.sent(records);
            caught_up += records;
        }
        assert!((1_000..=1_002).contains(&caught_up), "{caught_up}");
    }
}
