//! `watershed up`: the pipeline and its API until told to stop.
//!
//! **Owns** the order of starting and stopping, and `.watershed/run.json`, by which other commands find the process.
//!
//! ```text
//! lock? ─▶ port ─▶ pipeline ─▶ API ─▶ run.json … signal ─▶ close the epoch ─▶ API ends ─▶ run.json goes
//! ```

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use tokio::runtime::Runtime;
use watershed_engine::run::Outcome;
use watershed_types::{Error, Result, Secret};

use watershed_serve::Server;

use crate::api::{self, bind};
use crate::arguments::{Format, UpArguments};
use crate::backups::Schedule;
use crate::observe::Observers;
use crate::progress::Progress;
use crate::project::Project;
use crate::session::{RunOptions, Session, begin, close_on_signals, runtime};
use crate::system::open_checkpoint;
use crate::tiers::{Readable, tables};
use crate::wire;

/// Runs the command.
pub fn run(arguments: UpArguments, started: Instant) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let listen = arguments.listen.as_deref().unwrap_or(&project.settings.serve.listen);
    let running = Running::launch(&project, &runtime, listen, arguments.postgres.as_deref(), arguments.rebuild, started)?;
    let json = arguments.format == Format::Json;
    if json {
        eprintln!(
            "{}",
            serde_json::json!({ "event": "started", "pipeline": project.name(), "pid": std::process::id(), "address": running.address().to_string(), "postgres": running.postgres().map(|a| a.to_string()) })
        );
    } else {
        let postgres = running.postgres().map(|address| format!(" · postgres://{address}/watershed")).unwrap_or_default();
        eprintln!("{} is running · http://{}{postgres} · Ctrl-C or SIGTERM closes the epoch and stops", project.name(), running.address());
    }
    let outcome = running.wait(&runtime, arguments.format)?;
    crate::output::outcome(&outcome, started.elapsed(), json);
    Ok(0)
}

/// A pipeline with its API.
pub struct Running {
    /// The pipeline.
    pub session: Session,
    server: Server,
    wire: Option<watershed_wire::Server>,
    backups: Option<Schedule>,
    run_file: RunFile,
    observers: Observers,
}

impl Running {
    /// Starts both; nothing is left behind if either cannot start.
    pub fn launch(project: &Project, runtime: &Runtime, listen: &str, postgres: Option<&str>, rebuild: bool, started: Instant) -> Result<Running> {
        // Who runs already says more than that its port is taken.
        drop(project.lock()?);
        let listener = bind(listen)?;
        let taken = wire::take(project, postgres)?;
        let prepared = Observers::prepare(project)?;
        let mut session = begin(project, runtime, RunOptions { rebuild, ..RunOptions::default() }, started)?;
        let readable = std::mem::take(&mut session.readable);
        let observers = match prepared.start(project, &session.handle.status) {
            Ok(observers) => observers,
            Err(error) => {
                session.handle.stop();
                let _ = session.handle.join();
                return Err(error);
            }
        };
        let served = reads(project, runtime, &session, readable).and_then(|reads| api::serve(listener, project, runtime, &session, reads, observers.book()));
        let written = served.and_then(|(server, token)| {
            let wire = taken.map(|taken| taken.serve(project, runtime.handle())).transpose()?;
            let backups = Schedule::start(project, runtime.handle())?;
            Ok((RunFile::write(project, server.address, wire.as_ref().map(|w| w.address), &token)?, server, wire, backups))
        });
        match written {
            Ok((run_file, server, wire, backups)) => Ok(Running { session, server, wire, backups, run_file, observers }),
            Err(error) => {
                session.handle.stop();
                let _ = session.handle.join();
                observers.finish();
                Err(error)
            }
        }
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Where Postgres clients are served.
    pub fn postgres(&self) -> Option<SocketAddr> {
        self.wire.as_ref().map(|wire| wire.address)
    }

    /// Shows progress until the pipeline has ended, by a signal or by itself.
    pub fn wait(self, runtime: &Runtime, format: Format) -> Result<Outcome> {
        close_on_signals(runtime, self.session.handle.stop_flag());
        let progress = Progress::start(&self.session.handle, format);
        self.end(progress)
    }

    /// Waits until the pipeline has ended; then the rest ends too.
    pub fn end(self, progress: Progress) -> Result<Outcome> {
        let Running { session, server, wire, backups, run_file, observers } = self;
        let outcome = session.handle.join();
        progress.finish();
        observers.finish();
        server.stop();
        drop(wire);
        drop(backups);
        drop(run_file);
        outcome
    }
}

/// The route that reads tables over their tiers.
fn reads(project: &Project, runtime: &Runtime, session: &Session, readable: Vec<Readable>) -> Result<axum::Router> {
    let checkpoint = open_checkpoint(project, runtime.handle())?.ok_or_else(|| Error::internal("CLI0034", "the pipeline runs and has no checkpoint"))?;
    Ok(watershed_tiers::router(tables(readable, &project.name(), &checkpoint.metadata.id, &session.handle.status, runtime.handle())?))
}

/// `.watershed/run.json`; goes with its owner. A killed process leaves it behind, and the lock tells.
struct RunFile(PathBuf);

impl RunFile {
    fn write(project: &Project, address: SocketAddr, postgres: Option<SocketAddr>, token: &Secret) -> Result<RunFile> {
        let path = project.work().join("run.json");
        let fresh = project.work().join(format!("run.json.{}", std::process::id()));
        let content = serde_json::json!({
            "pid": std::process::id(),
            "address": address.to_string(),
            "postgres": postgres.map(|a| a.to_string()),
            // For the commands of this user alone: the file is closed to everybody else, and the token ends with the process.
            "token": token.expose(),
            "started_at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        });
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(&fresh)
            .and_then(|mut file| file.write_all(format!("{content}\n").as_bytes()))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|e| Error::unavailable("CLI0034", format!("cannot write \"{}\"", path.display())).hint("Make the project's folder writable for this user.").caused_by(e))?;
        Ok(RunFile(path))
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
