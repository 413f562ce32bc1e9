//! `watershed demo`: simulated card transactions over real HTTP through a whole project, for a first look.
//!
//! **Owns** the order of things and how event time runs. **Does not own** the project, which is the transactions template
//! as `watershed init` writes it, nor the pipeline, which is `up`'s.
//!
//! Event time runs faster than the clock, so that minutes close while somebody watches: however long the demo sends, its
//! records span at least twenty minutes of event time and end now. The watermark follows ten minutes behind, so about
//! the first half of the minutes is complete at the end and the rest stays open, as it would in a live system.
//!
//! ```text
//! simulator ─▶ 4 connections ─▶ POST /v1/ingest ─▶ log ─▶ pipeline ─▶ lake ─▶ what is printed
//!      └─ remembers one record a batch ───────────────────────┴─▶ live rows ─▶ latency
//! ```

mod latency;
mod report;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watershed_engine::run::Handle;
use watershed_simulator::Profile;
use watershed_types::{Error, Result};

use crate::arguments::{DemoArguments, Format};
use crate::commands::init;
use crate::commands::up::Running;
use crate::progress::{Progress, grouped};
use crate::project::Project;
use crate::session::{close_on_signals, runtime};

use latency::Latency;
use traffic::{Sent, Traffic};

/// Event time the demo spans at least, so that windows close.
const SPAN: Duration = Duration::from_secs(20 * 60);
/// How long to wait without any progress for what was sent to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(arguments: DemoArguments, started: Instant) -> Result<u8> {
    if arguments.seconds == 0 || arguments.rate == 0 {
        return Err(Error::invalid("CLI0040", "--seconds and --rate must be at least 1"));
    }
    let text = arguments.format != Format::Json;
    let folder = folder(arguments.project.as_deref())?;
    init::write_transactions(&folder)?;
    let project = Project::open(&folder)?;
    let runtime = runtime()?;
    let running = Running::launch(&project, &runtime, "127.0.0.1:0", None, false, started)?;
    let flag = running.session.handle.stop_flag();
    close_on_signals(&runtime, Arc::clone(&flag));

    let sending = Duration::from_secs(arguments.seconds);
    let span = SPAN.max(sending);
    let speed = span.as_secs_f64() / sending.as_secs_f64();
    if text {
        introduce(&project, &running, &arguments, span, speed);
    }
    let latency = Latency::follow(&running.session.handle.live, "clean_transactions")?;
    let progress = Progress::start(&running.session.handle, arguments.format);
    let traffic = Traffic {
        address: running.address(),
        rate: arguments.rate,
        sending,
        profile: Profile { start_micros: chrono::Utc::now().timestamp_micros() - span.as_micros() as i64, events_per_second: arguments.rate as f64 / speed, ..Profile::default() },
        speed,
        stop: flag,
        latency: latency.book(),
    };
    let sent = traffic.send();
    let arrived = match &sent {
        Ok(sent) => wait_until_read(&running.session.handle, sent.records),
        Err(_) => Ok(()),
    };
    let seconds = sent.as_ref().map_or(0.0, |s: &Sent| s.began.elapsed().as_secs_f64());
    let status = Arc::clone(&running.session.handle.status);
    running.session.handle.stop();
    let outcome = running.end(progress)?;
    let status = status.read().clone();
    let sent = sent?;
    arrived?;
    let figures = report::Figures { project: &project, sent: &sent, outcome: &outcome, status: &status, latency: latency.measured(), seconds, rate: arguments.rate };
    report::print(&figures, &runtime, text)
}

fn folder(chosen: Option<&Path>) -> Result<PathBuf> {
    match chosen {
        Some(folder) => Ok(folder.to_owned()),
        None => tempfile::Builder::new()
            .prefix("watershed-demo-")
            .tempdir()
            .map(tempfile::TempDir::keep)
            .map_err(|e| Error::unavailable("CLI0041", "no temporary folder can be made").hint("Name a folder with --project DIR.").caused_by(e)),
    }
}

fn introduce(project: &Project, running: &Running, arguments: &DemoArguments, span: Duration, speed: f64) {
    let customers = grouped(Profile::default().customers);
    eprintln!("project    {}", project.root.display());
    eprintln!("api        http://{}", running.address());
    eprintln!("traffic    {} records/s for {} s: {customers} customers, a fifth of them make 80%,", grouped(arguments.rate), arguments.seconds);
    eprintln!("           1% duplicates, some invalid, some corrupt, some late; NDJSON over HTTP");
    eprintln!("event time the last {} minutes, at {} times the pace of the clock, so that minutes close", span.as_secs() / 60, pace(speed));
    eprintln!();
}

fn pace(speed: f64) -> String {
    if speed < 10.0 { format!("{speed:.1}") } else { format!("{speed:.0}") }
}

/// Waits until the pipeline has taken everything that was acknowledged.
fn wait_until_read(handle: &Handle, records: u64) -> Result<()> {
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        let (read, ticked) = {
            let status = handle.status.read();
            (status.sources.get("transactions").map_or(0, |s| s.records), status.records)
        };
        if (read >= records && ticked >= records) || handle.is_finished() {
            return Ok(());
        }
        if read != before {
            (before, moved) = (read, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            return Err(Error::internal("CLI0042", format!("{} records were acknowledged, and the pipeline stopped reading at {}", grouped(records), grouped(read))));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
