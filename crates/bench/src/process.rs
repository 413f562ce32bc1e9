//! Running the product, and what the operating system says of it afterwards.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One run.
pub struct Run {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
    /// The last progress event the product wrote.
    pub last_event: serde_json::Value,
}

/// User and system time from `/proc/<pid>/stat`, in seconds (clock ticks are hundredths on Linux).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// CPU time of a process so far.
pub fn cpu_seconds_of(pid: &str) -> f64 {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| cpu_seconds(&stat)).unwrap_or(0.0)
}

/// CPU time of this process so far.
pub fn own_cpu_seconds() -> f64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)).unwrap_or(0.0)
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Runs the product in a project and waits; CPU time and peak memory are sampled until it ends.
pub fn run(binary: &Path, arguments: &[&str], project: &Path) -> std::io::Result<Run> {
    let started = Instant::now();
    let mut child = Command::new(binary).args(arguments).arg("--project").arg(project).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let folder = format!("/proc/{}", child.id());
    let (mut cpu, mut memory) = (0.0, 0);
    let mut errors = child.stderr.take();
    let drained = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(errors) = &mut errors {
            let _ = std::io::Read::read_to_string(errors, &mut text);
        }
        text
    });
    let status = loop {
        if let Ok(stat) = std::fs::read_to_string(format!("{folder}/stat")) {
            cpu = cpu_seconds(&stat).unwrap_or(cpu);
        }
        if let Ok(text) = std::fs::read_to_string(format!("{folder}/status")) {
            memory = peak(&text).unwrap_or(memory);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = started.elapsed().as_secs_f64();
    let text = drained.join().unwrap_or_default();
    if !status.success() {
        return Err(std::io::Error::other(format!("watershed {} failed: {text}", arguments.join(" "))));
    }
    let last_event = text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    Ok(Run { seconds, cpu_seconds: cpu, peak_bytes: memory, last_event })
}

/// Kills a run at work with SIGKILL, starts it again, and reports how soon it processes rows again.
pub fn kill_and_restart(binary: &Path, project: &Path) -> std::io::Result<()> {
    // New data after the state of a million keys, so that there is work when it is killed and when it is back.
    let from = project.join("data");
    let mut files: Vec<_> = std::fs::read_dir(&from)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    if let Some(last) = files.last() {
        for copy in 0..3 {
            std::fs::copy(last, from.join(format!("zz-again-{copy}.ndjson")))?;
        }
    }
    let mut child = Command::new(binary).args(["run", "--once", "--project"]).arg(project).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(450));
    let alive = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    let back = run(binary, &["run", "--once", "--format", "json"], project)?;
    let first = back.last_event["first_row_seconds"].as_f64().unwrap_or(f64::NAN) * 1e3;
    let rows = back.last_event["state_rows"].as_u64().unwrap_or(0);
    println!("kill -9     {} at work; {first:.0} ms from the next start to the first row, {rows} rows of state", if alive { "killed" } else { "was too late to kill it" });
    Ok(())
}
