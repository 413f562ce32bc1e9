//! `watershed checkpoint repair`: takes a way out, keeps everything that was there, and proves the result.
//!
//! **Owns** doing the steps. **Does not own** choosing them, which is `diagnose`'s.
//!
//! I1: nothing is deleted: whatever a step replaces is moved aside before it.
//! I2: no run can start meanwhile, and none is running: the project is taken first.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use watershed_engine::checkpoint::Store;
use watershed_types::{Epoch, Error, Result};

use super::copy;
use super::diagnose::{Act, choose, diagnose};
use crate::adapters::storage_options;
use crate::arguments::{Format, ProjectArgument, VerifyArguments};
use crate::commands::verify;
use crate::output::{count, print};
use crate::project::Project;

/// What was asked for.
pub struct Wish {
    /// Show the steps and do nothing.
    pub plan: bool,
    /// Do them.
    pub yes: bool,
    /// Which way; the recommended one without.
    pub way: Option<String>,
}

/// Runs the command.
pub fn repair(project: &Project, runtime: &Runtime, store: &Store, backup: Option<&Store>, wish: &Wish, format: Format) -> Result<u8> {
    let _lock = if wish.plan { None } else { Some(project.lock()?) };
    let found = diagnose(project, runtime, store, backup)?;
    if found.troubles.is_empty() {
        print("nothing is wrong, and nothing was changed\n")?;
        return Ok(0);
    }
    let way = choose(found, wish.way.as_deref())?;
    let mut text = format!("{}: {}\n  loses:   {}\n  repeats: {}\n", way.name, way.does, way.loses, way.repeats);
    for (at, act) in way.acts.iter().enumerate() {
        text.push_str(&format!("{:>3}. {}\n", at + 1, act.describe()));
    }
    print(&text)?;
    if wish.plan {
        return Ok(0);
    }
    if !wish.yes {
        return Err(Error::invalid("CLI0112", "a repair changes the checkpoint, and nothing was changed yet").hint("Say --yes to take these steps, or --way NAME for others."));
    }
    let aside = Aside::new(store);
    for act in &way.acts {
        apply(project, runtime, store, backup, &aside, act)?;
    }
    print(&format!("{} done; what was there is kept at \"{}\"\n\n", count(way.acts.len() as u64, "step"), aside.describe()))?;
    if way.name == "fresh" {
        return Ok(0);
    }
    let again = diagnose(project, runtime, store, None)?;
    if let Some(trouble) = again.troubles.iter().find(|t| t.kind != "unfit") {
        return Err(
            Error::corrupt("CLI0113", format!("the repair is not whole: {}", trouble.message)).hint("Run `watershed checkpoint diagnose` again; what was there is kept aside.")
        );
    }
    verify::run(VerifyArguments { project: ProjectArgument { project: project.root.clone() }, deep: false, repair: false, format })
}

/// Where things go that are replaced.
struct Aside {
    place: Store,
    stamp: String,
}

impl Aside {
    fn new(store: &Store) -> Aside {
        let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string();
        Aside { place: store.beside(&format!("before-repair-{stamp}")), stamp }
    }

    fn describe(&self) -> String {
        self.place.describe("").trim_end_matches('/').to_owned()
    }

    fn keep(&self, store: &Store, path: &str) -> Result<()> {
        match (store.read(path)?, store, &self.place) {
            (Some(Ok(bytes)), ..) => self.place.put(path, &bytes),
            // What cannot be read can still be moved.
            (Some(Err(_)), Store::Local(from), Store::Local(to)) => {
                let (from, to) = (from.join(path), to.join(path));
                if let Some(folder) = to.parent() {
                    fs::create_dir_all(folder).map_err(|e| Error::unavailable("CLI0074", format!("the folder \"{}\" cannot be made", folder.display())).caused_by(e).definite())?;
                }
                rename(&from, &to)
            }
            _ => Ok(()),
        }
    }
}

fn apply(project: &Project, runtime: &Runtime, store: &Store, backup: Option<&Store>, aside: &Aside, act: &Act) -> Result<()> {
    match act {
        Act::Aside(path) => {
            aside.keep(store, path)?;
            store.delete(path)
        }
        Act::Write(path, bytes) => {
            aside.keep(store, path)?;
            store.put(path, bytes)
        }
        Act::RollBack { location, app_id, epoch, .. } => {
            runtime.block_on(watershed_lake::roll_back(location, &storage_options(), app_id, Epoch(*epoch)))?;
            Ok(())
        }
        Act::AsideAll => match (store, &aside.place) {
            (Store::Local(from), Store::Local(to)) => {
                if from.exists() || from.is_symlink() {
                    rename(from, to)
                } else {
                    Ok(())
                }
            }
            _ => Err(Error::invalid("CLI0075", "a checkpoint in an object store is not moved by this command").hint("Move its files with the store's own tools.")),
        },
        Act::AsideLake => {
            let lake = PathBuf::from(project.lake());
            let name = lake.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if lake.exists() { rename(&lake, &lake.with_file_name(format!("{name}.before-repair-{}", aside.stamp))) } else { Ok(()) }
        }
        Act::CopyBackup => {
            let Some(backup) = backup else { return Err(Error::internal("CLI0110", "the backup is not known any more")) };
            copy::copy(backup, store).map(|_| ())
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::unavailable("CLI0074", format!("cannot move \"{}\" aside", from.display())).caused_by(e).definite())
}
