//! `watershed run --once`: all input there is now, then stop.

use std::time::Instant;

use watershed_types::Result;

use crate::arguments::{Format, RunArguments};
use crate::project::Project;
use crate::session::{RunOptions, begin, runtime};

/// Runs the command.
pub fn run(arguments: RunArguments, started: Instant) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let options = RunOptions { once: true, finalize: arguments.finalize, rebuild: arguments.rebuild };
    let session = begin(&project, &runtime, options, started)?;
    crate::session::close_on_signals(&runtime, session.handle.stop_flag());
    let progress = crate::progress::Progress::start(&session.handle, arguments.format);
    let outcome = session.handle.join();
    progress.finish();
    let outcome = outcome?;
    crate::output::outcome(&outcome, started.elapsed(), arguments.format == Format::Json);
    Ok(0)
}
