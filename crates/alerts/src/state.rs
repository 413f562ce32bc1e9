//! The life of an alert, as a pure function of what was seen when.
//!
//! ```text
//!             holds                held `for` long               not any more, for `keep` long
//!   nothing ────────▶ pending ─────────────────────▶ firing ─────────────────────────────────▶ nothing
//!      ▲                 │                              ▲ │ not any more
//!      └── not any more ─┘                    holds again└─┘
//! ```
//!
//! I1: with `for`, one sample fires nothing: two at least, that far apart, and none between them that did not hold.
//! I2: what fires goes on firing until it was over for `keep`, without a break: a value that swings round its threshold
//! makes one alert.
//! I3: a look that failed changes nothing; and a stretch nobody looked at does not count as lasting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far an alert has got. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub enum Phase {
    /// It holds, but not long enough yet.
    Pending {
        /// Since when.
        since: i64,
        /// When it was last seen to hold.
        seen: i64,
    },
    /// It was told.
    Firing {
        /// Since when it holds.
        since: i64,
        /// Since when it fires.
        fired: i64,
        /// Since when it does not hold any more.
        over: Option<i64>,
    },
}

/// How long things must last.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before it fires.
    pub hold: Duration,
    /// Before it is resolved.
    pub keep: Duration,
    /// The longest pause between two looks that still counts as having looked.
    pub gap: Duration,
}

/// What a look saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The condition holds.
    Holds,
    /// It does not, but what must hold for it to be over does not either.
    Between,
    /// It does not.
    Over,
    /// The look failed.
    Unknown,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It fires.
    Fired,
    /// It is over.
    Resolved,
}

/// The next phase, `None` for nothing, and what changed.
pub fn step(phase: Option<Phase>, timing: &Timing, seen: Seen, at: i64) -> (Option<Phase>, Option<Change>) {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let fires = |since: i64| (Some(Phase::Firing { since, fired: at, over: None }), Some(Change::Fired));
    match (phase, seen) {
        (unchanged, Seen::Unknown) => (unchanged, None),
        (None, Seen::Holds) if timing.hold.is_zero() => fires(at),
        (None, Seen::Holds) => (Some(Phase::Pending { since: at, seen: at }), None),
        (None, Seen::Between | Seen::Over) | (Some(Phase::Pending { .. }), Seen::Between | Seen::Over) => (None, None),
        (Some(Phase::Pending { since, seen }), Seen::Holds) => {
            let since = if at - seen > micros(timing.gap) { at } else { since };
            if at - since >= micros(timing.hold) { fires(since) } else { (Some(Phase::Pending { since, seen: at }), None) }
        }
        (Some(Phase::Firing { since, fired, .. }), Seen::Holds | Seen::Between) => (Some(Phase::Firing { since, fired, over: None }), None),
        (Some(Phase::Firing { since, fired, over }), Seen::Over) => {
            let over = over.unwrap_or(at);
            if at - over >= micros(timing.keep) { (None, Some(Change::Resolved)) } else { (Some(Phase::Firing { since, fired, over: Some(over) }), None) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// A look every ten seconds: `#` holds, `-` between, `.` over, `?` failed, a space: nobody looked. Says what changed, and when.
    fn story(hold: u64, keep: u64, looks: &str) -> Vec<(i64, Change)> {
        let timing = Timing { hold: Duration::from_secs(hold), keep: Duration::from_secs(keep), gap: Duration::from_secs(40) };
        let mut phase = None;
        let mut changes = Vec::new();
        for (index, look) in looks.chars().enumerate() {
            let at = index as i64 * 10;
            let seen = match look {
                '#' => Seen::Holds,
                '-' => Seen::Between,
                '.' => Seen::Over,
                '?' => Seen::Unknown,
                _ => continue,
            };
            let (next, change) = step(phase, &timing, seen, at * S);
            phase = next;
            changes.extend(change.map(|change| (at, change)));
        }
        changes
    }

    #[test]
    fn an_alert_lives_as_the_table_says() {
        use Change::{Fired, Resolved};
        let table: &[(&str, u64, u64, &str, &[(i64, Change)])] = &[
            ("without for it fires at once", 0, 0, ".#.", &[(10, Fired), (20, Resolved)]),
            ("one sample is not a symptom", 30, 0, ".#.#.#.#.", &[]),
            ("it fires when it has lasted", 30, 0, ".####.", &[(40, Fired), (50, Resolved)]),
            ("a gap in the symptom starts over", 30, 0, "###.###.", &[]),
            ("a swinging value is one alert", 0, 30, "#.#.#.#.....", &[(0, Fired), (100, Resolved)]),
            ("keep starts over when it holds again", 0, 30, "#..#...#....", &[(0, Fired), (110, Resolved)]),
            ("between the thresholds nothing is over", 0, 0, "#----.", &[(0, Fired), (50, Resolved)]),
            ("between the thresholds nothing begins", 0, 0, "-----#", &[(50, Fired)]),
            ("a failed look neither fires nor resolves", 20, 10, "?#?##???.?.?", &[(30, Fired), (100, Resolved)]),
            ("time nobody looked does not count", 60, 0, "##          ##", &[]),
            ("a short pause does count", 60, 0, "##   #  #", &[(80, Fired)]),
            ("it may come back after it was resolved", 0, 0, "#.#.", &[(0, Fired), (10, Resolved), (20, Fired), (30, Resolved)]),
        ];
        for (words, hold, keep, looks, expected) in table {
            assert_eq!(story(*hold, *keep, looks), *expected, "{words}");
        }
    }

    #[test]
    fn no_history_fires_twice_in_a_row_or_resolves_what_did_not_fire() {
        // Every story of eight looks, at two timings.
        for (hold, keep) in [(0, 0), (20, 20)] {
            for number in 0..4u32.pow(8) {
                let looks: String = (0..8).map(|place| ['#', '-', '.', '?'][(number / 4u32.pow(place) % 4) as usize]).collect();
                let changes = story(hold, keep, &looks);
                for (index, (_, change)) in changes.iter().enumerate() {
                    assert_eq!(*change == Change::Fired, index % 2 == 0, "{looks}: {changes:?}");
                }
            }
        }
    }
}
