//! `make bench`: the figures, each against a ceiling measured in the same run.
//!
//! **Owns** the workload, the ceilings and the report. **Does not own** the product: it runs the `watershed` binary
//! as a user would, and reads what it says and what the operating system says of it.

mod ceiling;
mod process;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(binary), rows) = (arguments.next(), arguments.next().and_then(|n| n.parse().ok()).unwrap_or(4_000_000)) else {
        eprintln!("usage: watershed-bench PATH-TO-WATERSHED [ROWS [FOLDER-TO-KEEP]]");
        return ExitCode::from(2);
    };
    match run(Path::new(&binary), rows, arguments.next().map(PathBuf::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path, rows: u64, keep: Option<PathBuf>) -> std::io::Result<()> {
    if let Some(folder) = keep {
        return measure(binary, rows, &folder);
    }
    let folder: PathBuf = std::env::temp_dir().join(format!("watershed-bench-{}", std::process::id()));
    let result = measure(binary, rows, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn measure(binary: &Path, rows: u64, folder: &Path) -> std::io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bytes = workload::write_project(folder, rows)?;
    println!("workload   {rows} transactions of {:.0} bytes, {cores} cores", bytes as f64 / rows as f64);

    let ceiling = ceiling::decode(&folder.join("data"), cores)?;
    println!("ceiling    decode to Arrow on all cores, nothing else: {:.0} rows/s, {:.2} CPU s per million", ceiling.rows_per_second, ceiling.cpu_per_million);

    let whole = process::run(binary, &["run", "--once", "--format", "json"], folder)?;
    let rate = rows as f64 / whole.seconds;
    println!("pipeline   {rate:.0} rows/s, {:.2} CPU s per million, {:.0}% of the ceiling", whole.cpu_seconds / rows as f64 * 1e6, rate / ceiling.rows_per_second * 100.0);
    println!("           peak memory {} MiB", whole.peak_bytes >> 20);
    let again = process::run(binary, &["run", "--once", "--format", "json"], folder)?;
    println!("restart    {:.0} ms from start to exit with the state of the run above and nothing to read", again.seconds * 1e3);
    Ok(())
}
