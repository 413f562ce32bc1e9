//! What watches a running pipeline from beside it: gauges of the machine, alerts, traces, audits.
//!
//! **Owns** their order of starting and stopping. **Does not own** rules and messages (`watershed-alerts`), nor the
//! pipeline's own metrics.
//!
//! I1: everything here has threads of its own, and the pipeline waits for none of them.

mod ask;
mod audit;
mod disk;
mod traces;

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use watershed_alerts::rule::Look;
use watershed_alerts::{Book, Options, Pauses, Plan, Service};
use watershed_engine::run::{SharedStatus, Status};
use watershed_types::{Error, Result};

use crate::project::Project;
use crate::telemetry;

pub use ask::ProjectAsk;
pub use audit::note_verify;

/// How often gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// How often disks are looked at.
const DISKS_EVERY: Duration = Duration::from_secs(30);
/// How long messages may take to leave when the process ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// Checked, not started.
pub struct Prepared {
    plan: Option<Plan>,
    traces: Option<traces::Traces>,
}

/// All of them at work.
pub struct Observers {
    alerts: Option<Service>,
    gauges: Gauges,
    traces: Option<traces::Traces>,
}

/// The rules and routes of a project.
pub fn plan(project: &Project) -> Result<Plan> {
    let plan = Plan::new(&project.settings.alerts, &|name| std::env::var(name).ok())?;
    for rule in &plan.rules {
        if let Look::Query { sql, .. } = &rule.look {
            ask::check(project, &rule.name, sql)?;
        }
    }
    Ok(plan)
}

impl Observers {
    /// Checks rules, routes and where traces go; starts collecting metrics.
    pub fn prepare(project: &Project) -> Result<Prepared> {
        let plan = project.settings.alerts.enabled.then(|| plan(project)).transpose()?;
        let traces = traces::start(project)?;
        if project.settings.telemetry.metrics {
            telemetry::collect();
        }
        Ok(Prepared { plan, traces })
    }

    /// Looks once more at everything, lets messages leave, stops.
    pub fn finish(self) {
        self.gauges.finish();
        if let Some(alerts) = self.alerts {
            alerts.finish(PATIENCE);
        }
        if let Some(traces) = self.traces {
            traces.finish();
        }
    }

    /// The alerts, for whoever shows them; `None` if they are turned off.
    pub fn book(&self) -> Option<Book> {
        self.alerts.as_ref().map(Service::book)
    }
}

impl Prepared {
    /// Starts everything over a pipeline that runs.
    pub fn start(self, project: &Project, status: &SharedStatus) -> Result<Observers> {
        let gauges = Gauges::start(project, Arc::clone(status))?;
        let alerts = match self.plan {
            Some(plan) => {
                let status = Arc::clone(status);
                // The end of the pipeline is told at the last look, before the gauges' next turn.
                let metrics = Box::new(move || {
                    set_pipeline(&status.read());
                    telemetry::render_metrics()
                });
                let ask: Box<dyn watershed_alerts::Ask> = Box::new(ProjectAsk::new(project)?);
                Some(Service::start(Options { project: project.name(), work: project.work(), plan, metrics, ask: Some(ask), pauses: Pauses::default() })?)
            }
            None => None,
        };
        Ok(Observers { alerts, gauges, traces: self.traces })
    }
}

fn set_pipeline(status: &Status) {
    metrics::gauge!("watershed_pipeline_failed").set(f64::from(u8::from(status.state == "failed")));
}

/// Gauges that nobody in the pipeline sets.
struct Gauges {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Gauges {
    fn start(project: &Project, status: SharedStatus) -> Result<Gauges> {
        let (stop, stopped) = bounded(1);
        let turning = Turning {
            status,
            places: disk::places(project),
            verdict: audit::file(project),
            root: project.root.clone(),
            verify_every: project.settings.alerts.verify_every,
            disks_looked: None,
            verified: Instant::now(),
            verifying: None,
        };
        let thread = std::thread::Builder::new().name("gauges".to_owned()).spawn(move || turning.run(&stopped));
        let thread = thread.map_err(|e| Error::unavailable("CLI0100", "the thread that watches the machine cannot be started").caused_by(e))?;
        Ok(Gauges { stop, thread })
    }

    fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

struct Turning {
    status: SharedStatus,
    places: Vec<(&'static str, PathBuf)>,
    verdict: PathBuf,
    root: PathBuf,
    verify_every: Option<Duration>,
    disks_looked: Option<Instant>,
    verified: Instant,
    verifying: Option<Child>,
}

impl Turning {
    fn run(mut self, stopped: &Receiver<()>) {
        loop {
            set_pipeline(&self.status.read());
            audit::set(&self.verdict);
            if self.disks_looked.is_none_or(|at| at.elapsed() >= DISKS_EVERY) {
                self.disks_looked = Some(Instant::now());
                disk::set(&self.places);
            }
            self.verify_if_due();
            match stopped.recv_timeout(GAUGES_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(mut child) = self.verifying.take() {
            // It only reads: nothing is lost.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts an audit when one is due, in a process of its own, so that it takes neither memory nor locks from here.
    fn verify_if_due(&mut self) {
        if let Some(child) = &mut self.verifying {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => self.verifying = None,
            }
        }
        let Some(every) = self.verify_every.filter(|every| self.verified.elapsed() >= *every) else { return };
        self.verified = Instant::now();
        match audit::start(&self.root) {
            Ok(child) => self.verifying = Some(child),
            Err(error) => tracing::warn!(%error, every = every.as_secs_f64(), "the audit could not be started"),
        }
    }
}
