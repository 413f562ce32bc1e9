//! How often one caller may ask.

use std::num::NonZeroU32;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::problem::{Answer, Problem, code};

/// Tries of callers with a wrong token, and logins, a second, all together.
const STRANGERS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// The limits.
pub struct Rate {
    clock: DefaultClock,
    callers: DefaultKeyedRateLimiter<String>,
    strangers: DefaultDirectRateLimiter,
}

impl Rate {
    /// So many requests a second and caller, with bursts of as many again.
    pub fn new(per_second: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        Self { clock: DefaultClock::default(), callers: RateLimiter::keyed(quota), strangers: RateLimiter::direct(Quota::per_second(STRANGERS).allow_burst(STRANGERS)) }
    }

    /// Counts a request of a caller we know.
    pub fn caller(&self, name: &str) -> Answer<()> {
        self.callers.check_key(&name.to_owned()).map_err(|until| too_many(until.wait_time_from(self.clock.now())))
    }

    /// Counts a try of one we do not know.
    pub fn strangers(&self) -> Answer<()> {
        self.strangers.check().map_err(|until| too_many(until.wait_time_from(self.clock.now())))
    }
}

fn too_many(wait: std::time::Duration) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code::RATE, "too many requests")
        .hint("Wait as long as Retry-After says; [serve] requests_per_second sets the limit.")
        .retry_after(wait.as_secs_f64().ceil() as u64)
}
