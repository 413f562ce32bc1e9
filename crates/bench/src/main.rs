//! `make bench`: the figures, each against a ceiling measured in the same run.
//!
//! **Owns** the workload, the ceilings and the report. **Does not own** the product: it runs the `watershed` binary
//! as a user would, and reads what it says and what the operating system says of it. `WATERSHED_BENCH_ONLY=watched` measures
//! that section alone.

mod ceiling;
mod hot;
mod kafka;
mod latency;
mod nexmark;
mod observe;
mod process;
mod proxy;
mod reads;
mod server;
mod sinks;
mod state;
mod warehouse;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The figures by name, in the order they are measured. `kafka` needs `files` for its share.
const FIGURES: [&str; 14] = ["files", "nexmark", "dedup", "sessions", "http", "watched", "clients", "kafka", "postgres", "upsert", "redis", "readable", "sinks", "reads"];
const USAGE: &str = "usage: watershed-bench PATH-TO-WATERSHED [ROWS [FOLDER-TO-KEEP]] [--only NAME,NAME…]\n       names: files, nexmark, dedup, sessions, http, watched, clients, kafka, postgres, upsert, redis, readable, sinks, reads";

/// What the command line says.
struct Arguments {
    binary: PathBuf,
    rows: u64,
    keep: Option<PathBuf>,
    only: Vec<String>,
}

fn arguments() -> Option<Arguments> {
    let (mut plain, mut only) = (Vec::new(), Vec::new());
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--only" => only.extend(rest.next()?.split(',').map(|name| name.trim().to_owned())),
            _ if argument.starts_with('-') => return None,
            _ => plain.push(argument),
        }
    }
    let mut plain = plain.into_iter();
    let binary = PathBuf::from(plain.next()?);
    let rows = plain.next().map_or(Some(4_000_000), |text| text.parse().ok())?;
    let known = only.iter().all(|name| FIGURES.contains(&name.as_str()));
    known.then(|| Arguments { binary, rows, keep: plain.next().map(PathBuf::from), only })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<()> {
    if let Some(folder) = &arguments.keep {
        return figures(arguments, folder);
    }
    let folder: PathBuf = std::env::temp_dir().join(format!("watershed-bench-{}", std::process::id()));
    let result = figures(arguments, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn figures(arguments: &Arguments, folder: &Path) -> std::io::Result<()> {
    let Arguments { binary, rows, only, .. } = arguments;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let at = |name: &str| folder.join(format!("figure-{name}"));
    std::fs::create_dir_all(folder)?;
    // A share of what files gave needs what files gave.
    let from_files = if wanted("files") || wanted("kafka") { Some(files(binary, *rows, folder)?) } else { None };
    if wanted("nexmark") {
        nexmark::measure(binary, &at("nexmark"), (*rows).min(10_000_000))?;
    }
    if wanted("dedup") {
        state::dedup(binary, &at("dedup"), (*rows).min(50_000_000))?;
    }
    if wanted("sessions") {
        state::sessions(binary, &at("sessions"))?;
    }
    if wanted("http") {
        latency::http(binary, &at("http"))?;
    }
    if wanted("watched") {
        observe::measure(binary, &at("watched"), (*rows).min(2_000_000))?;
    }
    if wanted("clients") {
        observe::clients(binary, &at("clients"), (*rows).min(4_000_000))?;
    }
    if let Some(from_files) = from_files.filter(|_| wanted("kafka")) {
        kafka::measure(binary, folder, (*rows).min(2_000_000), from_files)?;
    }
    if wanted("postgres") {
        warehouse::append(&at("postgres"))?;
    }
    if wanted("upsert") {
        warehouse::upsert(&at("upsert"))?;
    }
    if wanted("redis") {
        hot::rate(&at("redis"))?;
    }
    if wanted("readable") {
        hot::readable(binary, &at("readable"))?;
    }
    if wanted("sinks") {
        sinks::together(binary, &at("sinks"))?;
    }
    if wanted("reads") {
        reads::by_key(binary, &at("reads"))?;
    }
    Ok(())
}

/// The pipeline from files; says its rows a second.
fn files(binary: &Path, rows: u64, folder: &Path) -> std::io::Result<f64> {
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
    Ok(rate)
}
