//! Private servers by `scripts/`, removed when dropped.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a Postgres keeps in memory: a part of a small machine's, as its manual advises, for tables of a few gigabytes.
const BUFFERS: &str = "2GB";

/// A Postgres or a Redis.
pub struct Server {
    script: PathBuf,
    folder: PathBuf,
    /// Its URL.
    pub url: String,
}

impl Server {
    /// Starts `scripts/<name>`. It waits for its disk as a real one does.
    pub fn start(name: &str, folder: &Path) -> Result<Server> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let mut start = Command::new(&script);
        start.arg("start").arg(&folder).args(["--parent", &std::process::id().to_string()]);
        if name == "postgres" {
            start.args(["--buffers", BUFFERS]);
        }
        let output = start.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().find_map(|line| line.strip_prefix("url=")) {
            Some(url) if output.status.success() => Ok(Server { script, folder, url: url.trim().to_owned() }),
            _ => Err(Error::other(format!("no {name}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
        }
    }

    /// Its port on this machine.
    pub fn port(&self) -> Result<u16> {
        let after = self.url.rsplit_once(':').map_or("", |(_, rest)| rest);
        after.split('/').next().and_then(|port| port.parse().ok()).ok_or_else(|| Error::other("the server's URL has no port"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg("remove").arg(&self.folder).output();
    }
}

/// The machine's load now, for the figures that follow.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").map(|text| text.split(' ').take(2).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}
