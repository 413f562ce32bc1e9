//! `watershed checkpoint`: look at the checkpoint, copy it, bring it back.

pub mod copy;
mod diagnose;
mod look;
mod rebuild;
mod repair;
mod show;

use tokio::runtime::Runtime;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_types::{Error, Result};

use super::verify::{audit, report};
use crate::arguments::{CheckpointAction, CheckpointArguments};
use crate::backups;
use crate::orphans;
use crate::project::Project;
use crate::session::runtime;
use crate::system::open_store;

/// Runs the command.
pub fn run(arguments: CheckpointArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let store = open_store(&project, runtime.handle())?;
    let there = || match Checkpoint::open(store.clone())? {
        Some(checkpoint) => Ok(checkpoint),
        None => Err(orphans::lost(&project, runtime.handle(), &store)?.unwrap_or_else(|| {
            Error::invalid("CLI0070", format!("there is no checkpoint at \"{}\"", store.describe("")))
                .hint("The project has not run yet: start it with `watershed run --once` or `watershed up`.")
        })),
    };
    match arguments.action {
        CheckpointAction::List => show::list(&there()?, arguments.format)?,
        CheckpointAction::Show { epoch } => show::show(&there()?, epoch, arguments.format)?,
        CheckpointAction::Verify => return report(&audit::checkpoint(&store).findings, arguments.format),
        CheckpointAction::Backup { to: Some(to) } => {
            there()?;
            copy::backup(&store, &named(&to, &runtime)?)?;
        }
        CheckpointAction::Backup { to: None } => {
            there()?;
            scheduled(&project, &store, &runtime)?;
        }
        CheckpointAction::Restore { from } => copy::restore(&project, &store, &named(&from, &runtime)?)?,
        CheckpointAction::Diagnose { from } => {
            let backup = backup(&project, from.as_deref(), &runtime)?;
            return diagnose::report(&diagnose::diagnose(&project, &runtime, &store, backup.as_ref())?, arguments.format);
        }
        CheckpointAction::Repair { plan, yes, way, from } => {
            let backup = backup(&project, from.as_deref(), &runtime)?;
            let wish = repair::Wish { plan, yes, way };
            return repair::repair(&project, &runtime, &store, backup.as_ref(), &wish, arguments.format);
        }
    }
    Ok(0)
}

/// A place as it is named on the command line: a folder from here, or a URL.
fn named(place: &str, runtime: &Runtime) -> Result<Store> {
    let here = std::env::current_dir().map_err(|e| Error::unavailable("CLI0115", "the present folder is not there any more").caused_by(e))?;
    Store::open(place, &here, runtime.handle())
}

/// The backup that pieces may be taken from: the named one, or the newest of the schedule.
fn backup(project: &Project, from: Option<&str>, runtime: &Runtime) -> Result<Option<Store>> {
    match from {
        Some(place) => named(place, runtime).map(Some),
        None => backups::newest(project, runtime.handle()),
    }
}

/// Takes a backup where the schedule takes them.
fn scheduled(project: &Project, store: &Store, runtime: &Runtime) -> Result<()> {
    let settings = project.settings.checkpoints.backup.as_ref().ok_or_else(|| {
        Error::invalid("CLI0114", "there is no place for backups").hint("Name one: `watershed checkpoint backup FOLDER`, or set [checkpoints.backup] to in watershed.toml.")
    })?;
    let to = backups::place(project, settings, runtime.handle())?;
    let record = backups::take(store, &to)?;
    backups::check(&to, &record)?;
    let removed = backups::clean(&to, settings.keep)?;
    let place = to.below(&record.name);
    let cleaned = if removed.is_empty() { String::new() } else { format!("; {} removed, older than is kept", crate::output::count(removed.len() as u64, "backup")) };
    crate::output::print(&format!("backed up epoch {} to \"{}\"{cleaned}\n", record.epoch, place.describe("").trim_end_matches('/')))
}
