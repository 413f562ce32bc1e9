//! `make bench`: the figures, each against a ceiling measured in the same run.
//!
//! **Owns** the workload, the ceilings and the report. **Does not own** the product: it runs the `watershed` binary
//! as a user would, and reads what it says and what the operating system says of it.

mod ceiling;
mod kafka;
mod latency;
mod observe;
mod process;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let only = std::env::var("WATERSHED_BENCH_ONLY").ok();
    let (Some(binary), rows) = (arguments.next(), arguments.next().and_then(|n| n.parse().ok()).unwrap_or(4_000_000)) else {
        eprintln!("usage: watershed-bench PATH-TO-WATERSHED [ROWS [FOLDER-TO-KEEP]]");
        return ExitCode::from(2);
    };
    match run(Path::new(&binary), rows, arguments.next().map(PathBuf::from), only.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path, rows: u64, keep: Option<PathBuf>, only: Option<&str>) -> std::io::Result<()> {
    let measure = |folder: &Path| match only {
        Some("watched") => observe::measure(binary, &folder.join("watched"), rows),
        _ => measure(binary, rows, folder),
    };
    if let Some(folder) = keep {
        return measure(&folder);
    }
    let folder: PathBuf = std::env::temp_dir().join(format!("watershed-bench-{}", std::process::id()));
    let result = measure(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn measure(binary: &Path, rows: u64, folder: &Path) -> std::io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bytes = workload::write_project(folder, rows)?;
    let million = rows as f64 / 1e6;
    println!("workload    {rows} transactions of {:.0} bytes from files, {cores} cores", bytes as f64 / rows as f64);

    let ceiling = ceiling::decode(&folder.join("data"), cores)?;
    println!("ceiling     {:.0} rows/s, {:.2} CPU s per million: decode to Arrow on all cores, nothing else", ceiling.rows_per_second, ceiling.cpu_per_million);

    let whole = process::run(binary, &["run", "--once", "--format", "json"], folder)?;
    let rate = rows as f64 / whole.seconds;
    println!("pipeline    {rate:.0} rows/s, {:.2} CPU s per million, {:.0}% of the ceiling", whole.cpu_seconds / million, rate / ceiling.rows_per_second * 100.0);
    println!("peak memory {} MiB", whole.peak_bytes >> 20);
    if let Some(stages) = whole.last_event["stages"].as_object() {
        let total: f64 = stages.values().filter_map(serde_json::Value::as_f64).sum();
        let mut stages: Vec<(&String, f64)> = stages.iter().map(|(name, value)| (name, value.as_f64().unwrap_or(0.0))).collect();
        stages.sort_by(|a, b| b.1.total_cmp(&a.1));
        let text: Vec<String> = stages.iter().map(|(name, seconds)| format!("{name} {:.2} s ({:.0}%)", seconds / million, seconds / total * 100.0)).collect();
        println!("by stage    thread seconds per million rows: {}", text.join(", "));
    }
    for (operator, state) in whole.last_event["operators"].as_object().into_iter().flatten() {
        let (rows, bytes) = (state["rows"].as_f64().unwrap_or(0.0), state["bytes"].as_f64().unwrap_or(0.0));
        if operator.ends_with(":dedup") && rows > 0.0 {
            println!("dedup state {rows:.0} keys, {:.1} bytes a key, all included", bytes / rows);
        }
    }
    let again = process::run(binary, &["run", "--once", "--format", "json"], folder)?;
    println!("restart     {:.0} ms from start to exit, with the state of the run above loaded and nothing to read", again.seconds * 1e3);

    let small = folder.join("small");
    workload::write_project(&small, 1_000)?;
    let first = process::run(binary, &["run", "--once", "--format", "json"], &small)?;
    println!("first row   {:.0} ms after the start of the process, with an empty checkpoint", first.last_event["first_row_seconds"].as_f64().unwrap_or(0.0) * 1e3);
    process::kill_and_restart(binary, folder)?;
    latency::http(binary, &folder.join("http"))?;
    observe::measure(binary, &folder.join("watched"), rows.min(2_000_000))?;
    kafka::measure(binary, folder, rows.min(2_000_000), rate)
}
