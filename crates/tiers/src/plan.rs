//! Which tier answers what. Pure.
//!
//! **Owns** the borders. **Does not own** how a tier comes to its standing.

use std::fmt;

/// A tier, hottest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Redis.
    Hot,
    /// Postgres.
    Warm,
    /// The lake.
    Cold,
}

impl Name {
    /// All of them, hottest first.
    pub const ALL: [Name; 3] = [Name::Hot, Name::Warm, Name::Cold];
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Name::Hot => "hot",
            Name::Warm => "warm",
            Name::Cold => "cold",
        })
    }
}

/// What a tier can be asked at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The table has no such tier.
    Absent,
    /// It does not fit the read: a column is not there, or the key is another one.
    Unfit(String),
    /// It can be asked for keys; what it does not have may be elsewhere.
    Keys {
        /// The last epoch that is all there.
        epoch: u64,
    },
    /// It has every row from `floor` on.
    Whole {
        /// Microseconds since 1970; `i64::MIN` for every row there is.
        floor: i64,
        /// The last epoch that is all there.
        epoch: u64,
    },
    /// It does not answer: the code and the words of the error.
    Down {
        /// The error's code.
        code: &'static str,
        /// What it says.
        message: String,
    },
}

impl Standing {
    /// From which time on it has every row; `None` if that is not known.
    pub fn floor(&self) -> Option<i64> {
        match self {
            Standing::Whole { floor, .. } => Some(*floor),
            _ => None,
        }
    }

    /// Whether it can be asked for keys.
    pub fn takes_keys(&self) -> bool {
        matches!(self, Standing::Keys { .. } | Standing::Whole { .. })
    }

    /// The epoch it shows.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Standing::Keys { epoch } | Standing::Whole { epoch, .. } => Some(*epoch),
            _ => None,
        }
    }
}

/// A stretch of time, `[from, to)`, and who answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The tier.
    pub tier: Name,
    /// The first microsecond.
    pub from: i64,
    /// The first microsecond after it.
    pub to: i64,
}

/// A stretch that no tier has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncovered {
    /// The first microsecond.
    pub from: i64,
    /// The first microsecond after it.
    pub to: i64,
}

/// Divides `[from, to)` among the tiers, given hottest first: each moment goes to the hottest that is whole there (I1).
/// The shares come oldest first and touch.
pub fn divide(from: i64, to: i64, standings: &[Standing; 3]) -> Result<Vec<Share>, Uncovered> {
    let (mut shares, mut to) = (Vec::new(), to);
    for (tier, standing) in Name::ALL.into_iter().zip(standings) {
        let Some(floor) = standing.floor() else { continue };
        let begin = floor.max(from);
        if begin < to {
            shares.push(Share { tier, from: begin, to });
            to = begin;
        }
    }
    if to > from {
        return Err(Uncovered { from, to });
    }
    shares.reverse();
    Ok(shares)
}

/// Whether a tier's "no such key" settles the matter: it has every row from a time on that the key's row is not before.
/// `time` is the row's time if the key says it.
pub fn settles(standing: &Standing, time: Option<i64>) -> bool {
    standing.floor().is_some_and(|floor| floor == i64::MIN || time.is_some_and(|time| time >= floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Standing = Standing::Absent;
    const KEYS: Standing = Standing::Keys { epoch: 7 };

    fn whole(floor: i64) -> Standing {
        Standing::Whole { floor, epoch: 7 }
    }
    fn down() -> Standing {
        Standing::Down { code: "X", message: String::new() }
    }
    fn ever() -> Standing {
        whole(i64::MIN)
    }

    #[test]
    fn every_moment_is_answered_by_the_hottest_that_is_whole_there() {
        use Name::{Cold, Hot, Warm};
        let cases: [([Standing; 3], &[(Name, i64, i64)]); 10] = [
            ([whole(80), whole(40), ever()], &[(Cold, 0, 40), (Warm, 40, 80), (Hot, 80, 100)]),
            ([whole(80), ever(), ever()], &[(Warm, 0, 80), (Hot, 80, 100)]),
            ([down(), whole(40), ever()], &[(Cold, 0, 40), (Warm, 40, 100)]),
            ([whole(80), down(), ever()], &[(Cold, 0, 80), (Hot, 80, 100)]),
            ([KEYS, ABSENT, ever()], &[(Cold, 0, 100)]),
            ([whole(100), whole(100), ever()], &[(Cold, 0, 100)]),
            ([whole(-5), whole(40), ever()], &[(Hot, 0, 100)]),
            // A floor below the hotter one's has nothing left to answer.
            ([whole(40), whole(80), ever()], &[(Cold, 0, 40), (Hot, 40, 100)]),
            ([whole(80), ever(), down()], &[(Warm, 0, 80), (Hot, 80, 100)]),
            ([Standing::Unfit("a column".into()), Standing::Unfit("a column".into()), ever()], &[(Cold, 0, 100)]),
        ];
        for (standings, expected) in cases {
            let shares = divide(0, 100, &standings).expect("covered");
            assert_eq!(shares.iter().map(|share| (share.tier, share.from, share.to)).collect::<Vec<_>>(), expected, "{standings:?}");
        }
        assert_eq!(divide(0, 100, &[whole(80), whole(40), down()]), Err(Uncovered { from: 0, to: 40 }));
        assert_eq!(divide(100, 100, &[ABSENT, ABSENT, down()]), Ok(vec![]), "an empty range asks nobody");
    }

    #[test]
    fn shares_touch_and_neither_overlap_nor_leave_gaps() {
        let floors = [i64::MIN, -1, 0, 1, 50, 99, 100, 101, i64::MAX];
        for hot in floors {
            for warm in floors {
                for (from, to) in [(0, 100), (i64::MIN, i64::MAX), (50, 51)] {
                    let shares = divide(from, to, &[whole(hot), whole(warm), ever()]).expect("the lake has everything");
                    assert_eq!(shares.first().map(|share| share.from), Some(from));
                    assert_eq!(shares.last().map(|share| share.to), Some(to));
                    assert!(shares.windows(2).all(|pair| pair[0].to == pair[1].from) && shares.iter().all(|share| share.from < share.to), "{shares:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_tier_that_must_have_the_row_settles_that_there_is_none() {
        for (standing, time, settled) in
            [(ever(), None, true), (whole(5), None, false), (whole(5), Some(5), true), (whole(5), Some(4), false), (KEYS, Some(9), false), (down(), Some(9), false)]
        {
            assert_eq!(settles(&standing, time), settled, "{standing:?} {time:?}");
        }
    }
}
