//! Running a project: from its folder to a running pipeline.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;
use watershed_engine::checkpoint::{KeepStaged, Store};
use watershed_engine::plan::{Plan, bind};
use watershed_engine::run::{Config, Handle, start};
use watershed_ports::SystemClock;
use watershed_serve::Topology;
use watershed_sql::{Place, SqlFile, parse_project, picture};
use watershed_types::{Error, Result};

use crate::adapters::{ProjectAdapters, ProjectLoader, check};
use crate::orphans;
use crate::project::Project;
use crate::tiers::{Readable, readable};

/// What a command wants of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    pub once: bool,
    pub finalize: bool,
    pub rebuild: bool,
}

/// A project at work in this process.
pub struct Session {
    pub handle: Handle,
    pub adapters: Arc<ProjectAdapters>,
    /// Tables that can be read over their tiers.
    pub readable: Vec<Readable>,
    pub topology: Arc<Topology>,
    _lock: File,
}

/// The runtime that adapters run on.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|e| Error::unavailable("CLI0012", "the I/O runtime cannot be started").caused_by(e))
}

/// Checks and plans a project.
pub fn plan(project: &Project, runtime: &Runtime) -> Result<Plan> {
    let loader = ProjectLoader::of(project, runtime.handle());
    let files = project.sql_files()?;
    let definitions = parse_project(&files, &|name| std::env::var(name).ok())?;
    let checked = bind(&definitions, &loader).and_then(|plan| check(&plan, &project.root).map(|()| plan));
    checked.map_err(|error| with_picture(error, &files))
}

/// An error that starts with a place gets the line it stands in, with a caret.
fn with_picture(error: Error, files: &[SqlFile]) -> Error {
    let mut parts = error.message().splitn(4, ':');
    let (Some(file), Some(line), Some(column)) = (parts.next(), parts.next(), parts.next()) else { return error };
    let (Some(file), Ok(line), Ok(column)) = (files.iter().find(|f| f.name == file), line.parse(), column.parse()) else { return error };
    let picture = picture(file, &Place { file: file.name.as_str().into(), line, column }, 1);
    let placed = Error::new(error.kind(), error.code(), format!("{}\n{picture}", error.message()));
    match error.next_step().map(str::to_owned) {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

/// Starts a project's pipeline.
pub fn begin(project: &Project, runtime: &Runtime, options: RunOptions, started: Instant) -> Result<Session> {
    let plan = plan(project, runtime)?;
    let lock = project.lock()?;
    let adapters = Arc::new(ProjectAdapters::new(project, runtime.handle())?);
    let loader = Arc::new(ProjectLoader::of(project, runtime.handle()));
    let store = Store::open(&project.settings.storage.checkpoints, &project.root, runtime.handle())?;
    let stored = plan.tables.iter().filter(|table| table.stored).map(|table| table.name.as_str()).collect();
    orphans::refuse(project, runtime.handle(), &store, &stored)?;
    let engine = &project.settings.engine;
    let config = Config {
        pipeline: project.name(),
        work: project.work(),
        epoch_interval: engine.epoch_interval,
        epoch_bytes: engine.epoch_bytes,
        max_rows_per_tick: engine.max_rows_per_tick.max(1),
        max_bytes_per_tick: engine.max_bytes_per_tick.max(1) as usize,
        chunk_bytes: engine.chunk_bytes.clamp(4 << 10, 256 << 20) as usize,
        parallelism: project.parallelism(),
        key_groups: engine.key_groups,
        memory: engine.memory,
        operator_memory: engine.operator_memory,
        max_fan_out: engine.max_fan_out,
        once: options.once,
        finalize: options.finalize,
        rebuild: options.rebuild,
        maintenance_interval: engine.maintenance_interval,
        keep_staged: KeepStaged { epochs: engine.keep_staged_epochs, bytes: engine.keep_staged_bytes },
        owner: format!("process {}", std::process::id()),
        started,
    };
    let readable = readable(&plan, adapters.lake())?;
    let topology = Arc::new(Topology::of(&plan));
    let handle = start(plan, config, store, adapters.as_ref(), loader, Arc::new(SystemClock))?;
    Ok(Session { handle, adapters, readable, topology, _lock: lock })
}

/// SIGINT and SIGTERM close the epoch; a second one ends the process at once.
pub fn close_on_signals(runtime: &Runtime, stop: Arc<std::sync::atomic::AtomicBool>) {
    stop_on_signals(runtime, stop, "closing the epoch; press again to stop at once", "stopped at once; the open epoch was not committed");
}

/// SIGINT and SIGTERM set the flag and say `asked`; a second one says `forced` and ends the process at once.
pub fn stop_on_signals(runtime: &Runtime, stop: Arc<std::sync::atomic::AtomicBool>, asked: &'static str, forced: &'static str) {
    runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.swap(true, std::sync::atomic::Ordering::SeqCst) {
                eprintln!("{forced}");
                std::process::exit(130);
            }
            eprintln!("{asked}");
        }
    });
}
