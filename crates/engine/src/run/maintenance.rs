//! Housekeeping beside the ticks: sinks' compaction and cleaning, static tables' refresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use watershed_ports::Sink;

use super::status::SharedStatus;
use crate::operator::Lookup;
use crate::plan::{StaticLoader, StaticTable};

/// What is to be kept in order.
pub struct Maintenance {
    /// Sinks, each asked in turn.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// How often.
    pub interval: Duration,
    /// Static tables and how often each is read again.
    pub statics: Vec<(Arc<StaticTable>, Duration)>,
    /// The joins that hold static rows.
    pub lookups: Vec<Arc<Lookup>>,
    /// Reads static tables.
    pub loader: Arc<dyn StaticLoader>,
    /// Where advice is shown.
    pub status: SharedStatus,
}

impl Maintenance {
    /// Starts the thread; it ends soon after `stop` is set. Failures are logged: nothing depends on housekeeping.
    pub fn start(self, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("maintenance".to_owned()).spawn(move || {
            let mut next = Instant::now() + self.interval;
            let mut refreshed = vec![Instant::now(); self.statics.len()];
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if Instant::now() >= next {
                    for sink in self.sinks.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
                        if let Err(error) = sink.maintain() {
                            tracing::warn!(sink = sink.name(), error = %error.report(), "housekeeping failed; it is tried again later");
                        }
                        self.advise(sink.name(), sink.advice());
                    }
                    next = Instant::now() + self.interval;
                }
                let mut changed = false;
                for ((table, every), last) in self.statics.iter().zip(&mut refreshed) {
                    if last.elapsed() < *every {
                        continue;
                    }
                    *last = Instant::now();
                    match self.loader.load(&table.definition).and_then(|rows| table.replace(rows)) {
                        Ok(()) => changed = true,
                        Err(error) => tracing::warn!(table = table.definition.name, error = %error.report(), "a static table could not be refreshed; its old rows stay"),
                    }
                }
                if changed {
                    for lookup in &self.lookups {
                        if let Err(error) = lookup.rebuild() {
                            tracing::warn!(%error, "a lookup join could not be rebuilt; its old rows stay");
                        }
                    }
                }
            }
        })
    }

    /// Shows a sink's advice, in the place of its last.
    fn advise(&self, sink: &str, advice: Option<String>) {
        let start = format!("sink \"{sink}\" advises: ");
        let mut status = self.status.write();
        status.notices.retain(|notice| !notice.starts_with(&start));
        status.notices.extend(advice.map(|words| format!("{start}{words}")));
    }
}
