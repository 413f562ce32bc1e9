//! Three sinks at once against the slowest of them alone: the same table into the lake, Postgres and Redis.
//!
//! In a stream of epochs, each run the same. Within one epoch they cannot run beside each other, by what is promised: Redis has
//! its rows before the epoch is prepared, Postgres gets them after that. Each run has servers of its own: what the run before
//! left in one would be rewritten in the background of the next.

use std::fs;
use std::io::Result;
use std::path::Path;

use crate::server::{Server, load};
use crate::{process, workload};

const ROWS: u64 = 500_000;
/// Ends an epoch: about 50,000 rows.
const EPOCH: &str = "16MB";

fn project(folder: &Path, name: &str, data: &Path, stored: bool, sinks: &[&str], urls: (&str, &str)) -> Result<std::path::PathBuf> {
    let project = folder.join(name);
    fs::create_dir_all(&project)?;
    fs::write(project.join("watershed.toml"), format!("[engine]\nepoch_bytes = \"{EPOCH}\"\n"))?;
    let source = workload::PIPELINE.split_once("CREATE TABLE").map_or("", |(source, _)| source).replace("data/*.ndjson", &format!("{}/*.ndjson", data.display()));
    let query = "SELECT transaction_id, customer_id, amount, currency, merchant, category, status, \"timestamp\" AS at FROM transactions WHERE amount > 0";
    let mut sql = format!("{source}\nCREATE {} passed AS {query};\n", if stored { "TABLE" } else { "VIEW" });
    for sink in sinks {
        let with = match *sink {
            "postgres" => format!("connector = 'postgres', url = '{}', table = '{name}'", urls.0),
            _ => format!("connector = 'redis', url = '{}', key = '{name}:{{transaction_id}}', fields = 'amount, status'", urls.1),
        };
        sql.push_str(&format!("CREATE SINK {sink} FROM passed WITH ({with});\n"));
    }
    fs::write(project.join("pipelines.sql"), sql)?;
    Ok(project)
}

/// Seconds that all cores together have been busy and idle, servers and all.
fn cores() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<f64> = text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok((ticks.iter().take(8).sum::<f64>() - idle, idle))
}

/// Runs each alone, then all of them.
pub fn together(binary: &Path, folder: &Path) -> Result<()> {
    let data = folder.join("input");
    workload::write_project(&data, ROWS)?;
    let data = data.join("data");
    let mut seconds = Vec::new();
    for (name, stored, sinks) in [("lake", true, &[][..]), ("postgres_alone", false, &["postgres"]), ("redis_alone", false, &["redis"]), ("together", true, &["postgres", "redis"])]
    {
        let at = folder.join(format!("servers-{name}"));
        let (postgres, redis) = match (Server::start("postgres", &at), Server::start("redis", &at)) {
            (Ok(postgres), Ok(redis)) => (postgres, redis),
            (Err(error), _) | (_, Err(error)) => {
                println!("sinks       left out: {error}");
                return Ok(());
            }
        };
        let project = project(folder, name, &data, stored, sinks, (&postgres.url, &redis.url))?;
        let before = cores()?;
        let run = process::run(binary, &["run", "--once", "--format", "json"], &project)?;
        let after = cores()?;
        let (busy, idle) = (after.0 - before.0, after.1 - before.1);
        seconds.push((name, run.seconds, run.cpu_seconds, busy / (busy + idle) * 100.0));
    }
    let (slowest, alone, ..) = seconds[..3].iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("none", f64::NAN, 0.0, 0.0));
    let all = seconds[3].1;
    let each: Vec<String> =
        seconds.iter().map(|(name, seconds, cpu, busy)| format!("{name} {seconds:.2} s ({cpu:.1} CPU s, with the servers all cores {busy:.0}% busy)")).collect();
    println!(
        "sinks       {:.0}% over the slowest alone ({slowest}) with lake, Postgres and Redis at once, {ROWS} rows in epochs of {EPOCH}: {} (asked: 15%; load {})",
        (all / alone - 1.0) * 100.0,
        each.join(", "),
        load()
    );
    Ok(())
}
