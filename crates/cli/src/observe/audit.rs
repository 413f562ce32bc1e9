//! The verdict of the last `watershed verify`, kept for the gauges of the process that runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::project::Project;

#[derive(Serialize, Deserialize)]
struct Verdict {
    at: i64,
    failures: usize,
}

/// Where the verdict is.
pub fn file(project: &Project) -> PathBuf {
    project.work().join("verify.json")
}

/// Keeps a verdict.
pub fn note_verify(project: &Project, failures: usize) {
    let path = file(project);
    let verdict = Verdict { at: chrono::Utc::now().timestamp_micros(), failures };
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    let written = serde_json::to_vec(&verdict).map_err(std::io::Error::other).and_then(|bytes| std::fs::write(&fresh, bytes)).and_then(|()| std::fs::rename(&fresh, &path));
    if let Err(error) = written {
        tracing::warn!(file = %path.display(), %error, "the verdict could not be kept; alerts will not know of it");
    }
}

/// Sets the gauges, if there is a verdict.
pub fn set(path: &Path) {
    let Ok(bytes) = std::fs::read(path) else { return };
    match serde_json::from_slice::<Verdict>(&bytes) {
        Ok(verdict) => {
            metrics::gauge!("watershed_verify_failures").set(verdict.failures as f64);
            metrics::gauge!("watershed_verify_timestamp_seconds").set(verdict.at as f64 / 1e6);
        }
        Err(error) => tracing::warn!(file = %path.display(), %error, "the verdict of the last audit cannot be read; run `watershed verify` again"),
    }
}

/// Starts an audit of a project.
pub fn start(root: &Path) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    Command::new(program).arg("verify").arg("--project").arg(root).env_remove("WATERSHED_FAILPOINT").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
