//! A private Postgres by `scripts/postgres`, gone with this process.

use std::process::{Command, Stdio};

use tempfile::TempDir;

pub struct Server {
    folder: TempDir,
    pub url: String,
    pub port: u16,
}

impl Server {
    /// Starts one. `fast` leaves syncing to the kernel: it survives the death of processes, not of the machine.
    pub fn start(fast: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut arguments = vec!["--parent".to_owned(), std::process::id().to_string()];
        if fast {
            arguments.push("--fast".to_owned());
        }
        let said = script("start", &folder, &arguments);
        let url = said.trim().strip_prefix("url=").expect("the script says url=").to_owned();
        let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok()).expect("a port");
        Self { folder, url, port }
    }
    #[allow(dead_code, reason = "the example does not kill")]
    pub fn kill(&self) {
        script("kill", &self.folder, &[]);
    }
    #[allow(dead_code, reason = "the example does not restart")]
    pub fn restart(&self) {
        script("restart", &self.folder, &[]);
    }
    /// The URL through a proxy.
    pub fn through(&self, port: u16) -> String {
        self.url.replace(&format!(":{}/", self.port), &format!(":{port}/"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script("remove", &self.folder, &[]);
    }
}

fn script(command: &str, folder: &TempDir, arguments: &[String]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres");
    let output = Command::new(script).arg(command).arg(folder.path()).args(arguments).stdin(Stdio::null()).output().expect("scripts/postgres runs");
    assert!(output.status.success(), "scripts/postgres {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
