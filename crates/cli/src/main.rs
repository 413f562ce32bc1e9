//! `watershed`: the one place that reads the environment and names every adapter.
//!
//! **Owns** arguments, the project folder, what is printed where (results on stdout, the rest on stderr) and exit codes
//! (0 done, 1 failed, 2 wrong usage). **Does not own** anything a library could use: that lives in the crates below.

mod adapters;
mod api;
mod arguments;
mod backups;
mod commands;
mod observe;
mod orphans;
mod output;
mod progress;
mod project;
mod session;
mod system;
mod telemetry;
mod tiers;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use watershed_types::failpoint;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = arguments::Arguments::parse();
    telemetry::install(&arguments);
    if let Ok(place) = std::env::var("WATERSHED_FAILPOINT")
        && !failpoint::arm(&place)
    {
        eprintln!("error: there is no fail point \"{place}\"; they are: {}", [&failpoint::PLACES[..], &failpoint::TARGET_PLACES].concat().join(", "));
        return ExitCode::from(2);
    }
    match commands::run(arguments, started) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}
