//! The thread that brings one route its messages.
//!
//! I1: a message that failed is sent again after a pause that grows and is never quite the same; those after it wait.
//! I2: nobody waits for this thread: not the evaluator, not the pipeline, not the end of the process beyond its patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use serde::Serialize;
use watershed_types::{Error, Result};

use crate::outbox::Outbox;
use crate::route::{Again, Client, Target};

/// How long to wait after a failure.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// After the first.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

impl Pauses {
    /// After so many failures in a row: half to one and a half of what has doubled each time.
    fn after(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(self.longest);
        doubled.mul_f64(rand::random_range(0.5..1.5))
    }
}

/// How a route does.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Health {
    /// Messages that wait.
    pub waiting: usize,
    /// Messages that arrived since the start.
    pub sent: u64,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// What the last failure said.
    pub error: Option<String>,
}

/// A thread at work.
pub struct Courier {
    outbox: Arc<Outbox>,
    health: Arc<Mutex<Health>>,
    wake: Sender<()>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Courier {
    /// Starts it; what waits already leaves at once.
    pub fn start(outbox: Outbox, target: Target, pauses: Pauses) -> Result<Courier> {
        let (wake, woken) = bounded(1);
        let (outbox, health, stop) = (Arc::new(outbox), Arc::new(Mutex::new(Health::default())), Arc::new(AtomicBool::new(false)));
        let client = Client::new()?;
        let run = Run { outbox: Arc::clone(&outbox), target, client, pauses, health: Arc::clone(&health), woken, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("alert-route".to_owned()).spawn(move || run.deliver());
        let thread = thread.map_err(|e| Error::unavailable("ALR0006", "the sender of alerts cannot be started").caused_by(e))?;
        Ok(Courier { outbox, health, wake, stop, thread: Some(thread) })
    }

    /// Puts a message on disk and lets the thread know.
    pub fn take(&self, message: &crate::message::Message) -> Result<()> {
        if let Some(dropped) = self.outbox.push(message)? {
            metrics::counter!("watershed_alert_messages_total", "route" => self.outbox.route().to_owned(), "outcome" => "dropped").increment(1);
            tracing::error!(route = self.outbox.route(), alert = dropped, "too many messages wait for this route; the oldest superfluous one was dropped");
        }
        metrics::gauge!("watershed_alert_messages_waiting", "route" => self.outbox.route().to_owned()).set(self.outbox.len() as f64);
        // Full means that it will look anyway.
        let _ = self.wake.try_send(());
        Ok(())
    }

    /// How the route does.
    pub fn health(&self) -> Health {
        Health { waiting: self.outbox.len(), ..self.health.lock().clone() }
    }

    /// Waits until everything has left, as long as it leaves; what has not by then leaves after the next start.
    pub fn finish(mut self, until: Instant) {
        while !self.outbox.is_empty() && self.health.lock().failures == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
        // A request may be under way: it has its own limit, and the process does not wait for it.
        if let Some(thread) = self.thread.take().filter(|thread| thread.is_finished() || self.outbox.is_empty()) {
            let _ = thread.join();
        }
    }
}

struct Run {
    outbox: Arc<Outbox>,
    target: Target,
    client: Client,
    pauses: Pauses,
    health: Arc<Mutex<Health>>,
    woken: Receiver<()>,
    stop: Arc<AtomicBool>,
}

impl Run {
    fn deliver(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            metrics::gauge!("watershed_alert_messages_waiting", "route" => self.outbox.route().to_owned()).set(self.outbox.len() as f64);
            match self.one() {
                Ok(true) => {}
                Ok(false) => {
                    if self.woken.recv().is_err() {
                        return;
                    }
                }
                Err(pause) => self.wait(pause),
            }
        }
    }

    /// Sends the next message; false if there is none; how long to wait if it failed.
    fn one(&self) -> std::result::Result<bool, Duration> {
        let Some((number, letter)) = self.outbox.head().map_err(|error| self.failed(&error, None))? else { return Ok(false) };
        match self.target.send(self.outbox.route(), &self.client, &letter.message, &letter.id) {
            Ok(()) => {
                self.outbox.done(number).map_err(|error| self.failed(&error, None))?;
                self.count("sent");
                let mut health = self.health.lock();
                health.sent += 1;
                (health.failures, health.error) = (0, None);
                Ok(true)
            }
            Err(refused) => match refused.again {
                Again::Later(wait) => Err(self.failed(&refused.error, wait)),
                Again::Never => {
                    tracing::error!(route = self.outbox.route(), error = %refused.error.report(), "a message was refused for good");
                    self.count("refused");
                    self.health.lock().error = Some(refused.error.message().to_owned());
                    self.outbox.set_aside(number, &letter, refused.error.message()).map_err(|error| self.failed(&error, None))?;
                    Ok(true)
                }
            },
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("watershed_alert_messages_total", "route" => self.outbox.route().to_owned(), "outcome" => outcome).increment(1);
    }

    fn failed(&self, error: &Error, wait: Option<Duration>) -> Duration {
        self.count("failed");
        let mut health = self.health.lock();
        health.failures = health.failures.saturating_add(1);
        health.error = Some(error.message().to_owned());
        let pause = wait.unwrap_or_else(|| self.pauses.after(health.failures));
        tracing::warn!(route = self.outbox.route(), error = %error.report(), failures = health.failures, again_in = pause.as_secs_f64(), "a message could not be sent");
        pause
    }

    /// Waits out a pause, but for the end.
    fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stop.load(Ordering::SeqCst) {
            match self.woken.recv_deadline(until) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
