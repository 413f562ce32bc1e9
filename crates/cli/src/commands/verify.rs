//! `watershed verify`: does everything that is stored agree with everything else?
//!
//! ```text
//! checkpoint files ─▶ records ─▶ ledger ─▶ receipts ─▶ lake tables, quarantine
//! ```
//!
//! **Owns** the comparisons. **Does not own** repairs: each finding names the next step.
//!
//! It works beside a running pipeline: the checkpoint is read before and after the lake, and the lake may hold any
//! number of rows between the two. As long as the two differ it looks again, a few times.

pub mod audit;
mod finding;
mod lake;
mod ledger;
mod targets;

use std::time::Duration;

use watershed_types::{Error, Result};

use crate::arguments::VerifyArguments;
use crate::project::Project;
use crate::session::{plan, runtime};
use crate::system::open_store;

pub use finding::{Finding, report};

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
    let mut found = Vec::new();
    for look in 1..=LOOKS {
        let before = audit::checkpoint(&store);
        found = before.findings.clone();
        if before.absent {
            break;
        }
        found.extend(ledger::check(&before, plan.as_ref()));
        let counts = lake::look(&project, &runtime, arguments.deep)?;
        let after = audit::checkpoint(&store);
        let moved = before.newest() != after.newest();
        found.extend(lake::compare(&before, &after, &counts, plan.as_ref()));
        if let Some(plan) = plan.as_ref().filter(|_| !before.failed() && !after.failed()) {
            found.extend(targets::check(&project, &runtime, plan, &before, &after)?);
        }
        if !moved && found.iter().all(|f| !f.failed()) {
            break;
        }
        if look < LOOKS {
            if !moved && !crate::system::is_running(&project) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200 * look as u64));
        }
    }
    findings.extend(found);
    if findings.is_empty() {
        return Err(Error::internal("CLI0067", "nothing was checked"));
    }
    report(&findings, arguments.format)
}
