//! How long what is outside is waited for: a target, or a table that is asked by key.
//!
//! **Owns** trying again while the other side is not there, and saying so. **Does not own** what is tried: every attempt
//! is idempotent, so that an indefinite failure may be repeated too.
//!
//! While an attempt waits, its epoch stays open behind it: ticks block on full lanes, sources are read no further. That is
//! the backpressure; nothing is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use watershed_types::{Certainty, Kind, Result};

use super::status::SharedStatus;
use crate::operator::Waits;

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a run that was told to stop goes on trying.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// How long to wait, and who is told.
#[derive(Clone)]
pub struct Patience {
    stop: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
    limit: Option<Duration>,
    status: SharedStatus,
}

impl Patience {
    /// Without a limit it ends only when `stop` is set.
    pub fn new(stop: Arc<AtomicBool>, limit: Option<Duration>, status: SharedStatus) -> Self {
        Self { stop, given_up: Arc::default(), limit, status }
    }

    /// The same patience, which also ends once `given_up` is set: what is waited for would not help any more.
    pub fn unless(&self, given_up: Arc<AtomicBool>) -> Self {
        Self { given_up, ..self.clone() }
    }

    /// Tries until it works, fails for good, or patience ends: then the last error is the answer.
    pub fn attempt<T>(&self, sink: &str, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        self.attempt_at(Whom::Sink(sink), attempt)
    }

    fn attempt_at<T>(&self, whom: Whom<'_>, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let error = match attempt() {
                Err(error) if error.kind() == Kind::Unavailable => error,
                other => {
                    if told {
                        self.tell_of(whom, None);
                    }
                    return other;
                }
            };
            let waited = started.elapsed();
            if self.is_over(waited) {
                return Err(error);
            }
            let certainty = if error.certainty() == Some(Certainty::Indefinite) { "may have happened" } else { "did not happen" };
            tracing::warn!(%whom, error = %error.report(), certainty, waited = waited.as_secs_f64(), "trying again");
            // A moment's trouble is no news.
            if waited > Duration::from_secs(1) {
                told = true;
                self.tell_of(whom, Some(error.message()));
            }
            std::thread::sleep(jittered(pause).min(self.limit.map_or(LONGEST_PAUSE, |limit| limit.saturating_sub(waited)).max(FIRST_PAUSE)));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// True once something has been waited for long enough.
    pub fn is_over(&self, waited: Duration) -> bool {
        self.limit.is_some_and(|limit| waited >= limit) || self.is_stopped_for(waited) || self.given_up.load(Ordering::SeqCst)
    }

    /// True once a run that was told to stop has waited long enough.
    pub fn is_stopped_for(&self, waited: Duration) -> bool {
        self.stop.load(Ordering::SeqCst) && waited >= AFTER_STOP
    }

    /// Says that a sink is waited for, and why; or that it is not any more.
    pub fn tell(&self, sink: &str, trouble: Option<&str>) {
        self.tell_of(Whom::Sink(sink), trouble);
    }

    fn tell_of(&self, whom: Whom<'_>, trouble: Option<&str>) {
        let away = if trouble.is_some() { 1.0 } else { 0.0 };
        match whom {
            Whom::Sink(sink) => metrics::gauge!("watershed_sink_unavailable", "sink" => sink.to_owned()).set(away),
            Whom::Table(table) => metrics::gauge!("watershed_lookup_unavailable", "table" => table.to_owned()).set(away),
        }
        let mut status = self.status.write();
        let start = format!("{whom} is waited for: ");
        status.notices.retain(|notice| !notice.starts_with(&start));
        status.notices.extend(trouble.map(|words| format!("{start}{words}")));
        if let Whom::Sink(sink) = whom {
            status.sinks.entry(sink.to_owned()).or_default().waiting = trouble.map(str::to_owned);
        }
    }
}

impl Waits for Patience {
    fn wait_for(&self, table: &str, attempt: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.attempt_at(Whom::Table(table), attempt)
    }
}

/// Who is waited for.
#[derive(Clone, Copy)]
enum Whom<'a> {
    Sink(&'a str),
    Table(&'a str),
}

impl std::fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whom::Sink(sink) => write!(f, "sink \"{sink}\""),
            Whom::Table(table) => write!(f, "static table \"{table}\""),
        }
    }
}

/// Half to one and a half of it, so that many clients of one server do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    pause.mul_f64(0.5 + f64::from(nanos % 1_000) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use watershed_types::Error;

    use super::*;

    #[test]
    fn waits_for_what_comes_back_and_gives_up_on_what_does_not() {
        let (stop, status) = (Arc::new(AtomicBool::new(false)), SharedStatus::default());
        let patience = Patience::new(Arc::clone(&stop), Some(Duration::from_millis(300)), status);
        let mut left = 3;
        let found = patience.attempt("s", || {
            left -= 1;
            if left > 0 { Err(Error::unavailable("AWAY", "away").definite()) } else { Ok(7) }
        });
        assert_eq!(found.expect("it came back"), 7);
        let gone: Result<()> = patience.attempt("s", || Err(Error::unavailable("AWAY", "away").definite()));
        assert_eq!(gone.expect_err("it stays away").code(), "AWAY");
        let mut tries = 0;
        let wrong: Result<()> = patience.attempt("s", || {
            tries += 1;
            Err(Error::invalid("WRONG", "no such table"))
        });
        assert_eq!((wrong.expect_err("it is wrong").code(), tries), ("WRONG", 1));
    }
}
