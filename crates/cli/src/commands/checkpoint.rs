//! `watershed checkpoint`: look at the checkpoint, copy it, bring it back.

mod copy;
mod show;

use watershed_engine::checkpoint::Checkpoint;
use watershed_types::{Error, Result};

use super::verify::{audit, report};
use crate::arguments::{CheckpointAction, CheckpointArguments};
use crate::project::Project;
use crate::session::runtime;
use crate::system::open_store;

/// Runs the command.
pub fn run(arguments: CheckpointArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let store = open_store(&project, runtime.handle())?;
    let there = || {
        Checkpoint::open(store.clone())?.ok_or_else(|| {
            Error::invalid("CLI0070", format!("there is no checkpoint at \"{}\"", store.describe("")))
                .hint("The project has not run yet: start it with `watershed run --once` or `watershed up`.")
        })
    };
    match arguments.action {
        CheckpointAction::List => show::list(&there()?, arguments.format)?,
        CheckpointAction::Show { epoch } => show::show(&there()?, epoch, arguments.format)?,
        CheckpointAction::Verify => return report(&audit::checkpoint(&store).findings, arguments.format),
        CheckpointAction::Backup { to } => {
            there()?;
            copy::backup(&store, &to)?;
        }
        CheckpointAction::Restore { from } => copy::restore(&project, &store, &from)?,
    }
    Ok(0)
}
