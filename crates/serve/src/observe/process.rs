//! What this process takes of the machine, where the system says so.

/// Resident memory in bytes, and processor seconds since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes.
    pub memory: Option<f64>,
    /// Seconds on any core.
    pub cpu_seconds: Option<f64>,
}

/// Clock ticks a second in `/proc/self/stat`: the same on every Linux that we build for.
const TICKS: f64 = 100.0;

/// Reads both; on a system without `/proc` neither is known.
pub fn usage() -> Usage {
    Usage { memory: memory(), cpu_seconds: cpu_seconds() }
}

fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name is in brackets and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}
