//! State: what a key costs in memory, what state on disk costs in time, and what an epoch's snapshot costs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use crate::process;

/// One key in so many comes twice.
const REPEATED: u64 = 10;
const SESSIONS: u64 = 1_000_000;
/// Records of an epoch that extends open sessions, and how many such epochs.
const EXTENDED: u64 = 10_000;
const EPOCHS: u64 = 20;

fn other(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// A number from the first column of a query's first row.
fn number(binary: &Path, project: &Path, sql: &str) -> std::io::Result<u64> {
    let output = Command::new(binary).args(["query", sql, "--format", "json", "--project"]).arg(project).output()?;
    let row: serde_json::Value = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let row = row.get(0).unwrap_or(&row).clone();
    row.as_object().and_then(|row| row.values().next()?.as_u64()).ok_or_else(|| other(format!("{sql}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Deduplication of very many keys: in memory, and with a fraction of that memory.
pub fn dedup(binary: &Path, folder: &Path, keys: u64) -> std::io::Result<()> {
    for (what, memory) in [("in memory", keys * 60), ("with much less", keys * 8)] {
        let project = folder.join(memory.to_string());
        fs::create_dir_all(&project)?;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(project.join("keys.json"))?);
        for key in 0..keys {
            let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            writeln!(file, "{{\"k\":\"{spread:016x}\"}}")?;
            if key % REPEATED == 0 && key > 0 {
                // An early key comes again late.
                writeln!(file, "{{\"k\":\"{:016x}\"}}", (key / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15))?;
            }
        }
        file.flush()?;
        fs::write(project.join("watershed.toml"), format!("name = \"dedup\"\n[engine]\nmemory = {memory}\n"))?;
        fs::write(
            project.join("pipeline.sql"),
            "CREATE SOURCE s (k VARCHAR NOT NULL, at TIMESTAMP METADATA FROM 'ingest_time', WATERMARK FOR at AS at) WITH (connector = 'files', path = 'keys.json');
             CREATE VIEW once AS SELECT * FROM DEDUPLICATE(s, KEY (k), WITHIN INTERVAL '1 day');
             CREATE SINK nowhere FROM once WITH (connector = 'blackhole');",
        )?;
        let run = process::run(binary, &["run", "--once", "--format", "json"], &project)?;
        let rows = keys + (keys - 1) / REPEATED;
        let repeats = number(binary, &project, "SELECT CAST(sum(duplicate) AS BIGINT) FROM system.ledger")?;
        println!(
            "dedup       {keys} distinct keys of {rows} rows, {what} ({} MiB): {:.0} rows/s, peak memory of the process {} MiB, {repeats} repeats found ({})",
            memory >> 20,
            rows as f64 / run.seconds,
            run.peak_bytes >> 20,
            if repeats == rows - keys { "right" } else { "WRONG" }
        );
        fs::remove_dir_all(&project)?;
    }
    Ok(())
}

/// A million open sessions, of which each epoch extends one in a hundred: what its snapshot holds.
pub fn sessions(binary: &Path, folder: &Path) -> std::io::Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let mut file = BufWriter::new(File::create(data.join("0.json"))?);
    for user in 0..SESSIONS {
        writeln!(file, "{{\"u\":{user},\"at\":\"2026-01-01T00:00:00Z\"}}")?;
    }
    for epoch in 0..EPOCHS {
        for row in 0..EXTENDED {
            writeln!(file, "{{\"u\":{},\"at\":\"2026-01-01T00:00:01Z\"}}", (epoch * EXTENDED + row) * 5 % SESSIONS)?;
        }
    }
    file.flush()?;
    fs::write(folder.join("watershed.toml"), format!("name = \"sessions\"\n[engine]\nmax_rows_per_tick = {EXTENDED}\nepoch_bytes = 400000\n"))?;
    fs::write(
        folder.join("pipeline.sql"),
        "CREATE SOURCE s (u BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at) WITH (connector = 'files', path = 'data/*.json');
         CREATE VIEW visits AS SELECT u, window_start, window_end, count(*) AS n FROM SESSION(s PARTITION BY (u), at, INTERVAL '30 minutes') GROUP BY u, window_start, window_end;
         CREATE SINK nowhere FROM visits WITH (connector = 'blackhole');",
    )?;
    let run = process::run(binary, &["run", "--once", "--format", "json"], folder)?;
    let mut files: Vec<(String, u64)> = Vec::new();
    for entry in fs::read_dir(folder.join(".watershed/checkpoints/state"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.contains("source") {
            files.push((name, entry.metadata()?.len()));
        }
    }
    files.sort();
    let last: Vec<u64> = files.iter().rev().take(EPOCHS as usize / 2).map(|(_, bytes)| *bytes).collect();
    let mean = last.iter().sum::<u64>() / (last.len() as u64).max(1);
    println!(
        "sessions    {SESSIONS} open, {} MiB peak; an epoch that extends {EXTENDED} of them writes {mean} bytes of state, {} a session extended; all of it would be about {} MiB",
        run.peak_bytes >> 20,
        mean / EXTENDED,
        mean * (SESSIONS / EXTENDED) >> 20
    );
    fs::remove_dir_all(folder)
}
