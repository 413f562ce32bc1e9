//! `watershed verify`: does everything that is stored agree with everything else?
//!
//! ```text
//! checkpoint files ─▶ records ─▶ ledger ─▶ receipts ─▶ lake tables, quarantine
//! ```
//!
//! **Owns** the comparisons. Each finding names the next step; what an outside target has lost and the outbox still keeps is
//! given back with `--repair`, and then everything is looked at again. Without it nothing is written.
//!
//! It works beside a running pipeline: the checkpoint is read before and after the lake, and the lake may hold any
//! number of rows between the two. As long as the two differ it looks again, a few times.

pub mod audit;
mod finding;
mod lake;
mod ledger;
mod repair;
mod targets;

use std::time::Duration;

use tokio::runtime::Runtime;
use watershed_engine::checkpoint::Store;
use watershed_engine::plan::Plan;
use watershed_types::{Error, Result};

use crate::arguments::VerifyArguments;
use crate::project::Project;
use crate::session::{plan, runtime};
use crate::system::open_store;

pub use finding::{Finding, report};
use targets::Lost;

/// How often a moving target is looked at before what was found is believed.
const LOOKS: usize = 5;

/// Runs the command.
pub fn run(arguments: VerifyArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let store = open_store(&project, runtime.handle())?;
    let mut findings = Vec::new();
    let plan = match plan(&project, &runtime) {
        Ok(plan) => Some(plan),
        Err(error) => {
            findings.push(Finding::note("project", format!("the project cannot be planned, so tables are checked without their queries: {error}")));
            None
        }
    };
    let checks = Checks { project: &project, runtime: &runtime, store: &store, plan: plan.as_ref(), deep: arguments.deep };
    let (mut found, lost) = checks.look()?;
    if arguments.repair
        && let Some(plan) = &plan
    {
        let mut repaired = repair::repair(&project, &runtime, plan, &store, lost)?;
        if found.iter().any(|finding| finding.failed() && finding.check() == "lake") {
            repaired.extend(repair::repair_lake(&project, &runtime, plan, &store)?);
        }
        if !repaired.is_empty() {
            findings.extend(repaired);
            (found, _) = checks.look()?;
        }
    }
    findings.extend(found);
    if findings.is_empty() {
        return Err(Error::internal("CLI0067", "nothing was checked"));
    }
    crate::observe::note_verify(&project, findings.iter().filter(|f| f.failed()).count());
    report(&findings, arguments.format)
}

/// Does everything agree? Repairs nothing.
pub fn findings(project: &Project, runtime: &Runtime) -> Result<Vec<Finding>> {
    let store = open_store(project, runtime.handle())?;
    let plan = plan(project, runtime)?;
    let checks = Checks { project, runtime, store: &store, plan: Some(&plan), deep: false };
    checks.look().map(|(found, _)| found)
}

/// What is looked at.
struct Checks<'a> {
    project: &'a Project,
    runtime: &'a Runtime,
    store: &'a Store,
    plan: Option<&'a Plan>,
    deep: bool,
}

impl Checks<'_> {
    /// Looks until what is found holds still, and gives what outside targets have lost besides.
    fn look(&self) -> Result<(Vec<Finding>, Vec<Lost>)> {
        let Checks { project, runtime, store, plan, deep } = self;
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        for look in 1..=LOOKS {
            let before = audit::checkpoint(store);
            found = before.findings.clone();
            lost.clear();
            if before.absent {
                // A loss, where tables are there that a checkpoint wrote.
                let stored = plan.iter().flat_map(|plan| &plan.tables).filter(|table| table.stored).map(|table| table.name.as_str()).collect();
                let left = crate::orphans::written(project, runtime.handle(), &stored)?;
                if !left.is_empty() {
                    let words = format!("there is no checkpoint, and the lake has tables that one wrote: {}", crate::orphans::names(&left));
                    found.push(Finding::failed_with("checkpoint", words, "`watershed checkpoint diagnose` shows the ways out; with a backup nothing is lost."));
                }
                break;
            }
            found.extend(ledger::check(&before, *plan));
            let counts = lake::look(project, runtime, *deep)?;
            let after = audit::checkpoint(store);
            let moved = before.newest() != after.newest();
            found.extend(lake::compare(&before, &after, &counts, *plan));
            if let Some(plan) = plan.filter(|_| !before.failed() && !after.failed()) {
                let (findings, missing) = targets::check(project, runtime, plan, store, &before, &after)?;
                found.extend(findings);
                lost = missing;
            }
            if !moved && found.iter().all(|f| !f.failed()) {
                break;
            }
            if look < LOOKS {
                if !moved && !crate::system::is_running(project) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200 * look as u64));
            }
        }
        Ok((found, lost))
    }
}
