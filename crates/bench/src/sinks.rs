//! Three sinks at once against the slowest of them alone: the same table into the lake, Postgres and Redis.

use std::fs;
use std::io::Result;
use std::path::Path;

use crate::server::{Server, load};
use crate::{process, workload};

const ROWS: u64 = 500_000;

fn project(folder: &Path, name: &str, data: &Path, stored: bool, sinks: &[&str], urls: (&str, &str)) -> Result<std::path::PathBuf> {
    let project = folder.join(name);
    fs::create_dir_all(&project)?;
    fs::write(project.join("watershed.toml"), "")?;
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

/// Runs each alone, then all of them.
pub fn together(binary: &Path, folder: &Path) -> Result<()> {
    let (postgres, redis) = match (Server::start("postgres", folder), Server::start("redis", folder)) {
        (Ok(postgres), Ok(redis)) => (postgres, redis),
        (Err(error), _) | (_, Err(error)) => {
            println!("sinks       left out: {error}");
            return Ok(());
        }
    };
    let data = folder.join("input");
    workload::write_project(&data, ROWS)?;
    let data = data.join("data");
    let mut seconds = Vec::new();
    for (name, stored, sinks) in [("lake", true, &[][..]), ("postgres_alone", false, &["postgres"]), ("redis_alone", false, &["redis"]), ("together", true, &["postgres", "redis"])]
    {
        let project = project(folder, name, &data, stored, sinks, (&postgres.url, &redis.url))?;
        let run = process::run(binary, &["run", "--once", "--format", "json"], &project)?;
        seconds.push((name, run.seconds, run.cpu_seconds));
    }
    let (slowest, alone, _) = seconds[..3].iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("none", f64::NAN, 0.0));
    let all = seconds[3].1;
    let each: Vec<String> = seconds.iter().map(|(name, seconds, cpu)| format!("{name} {seconds:.2} s ({cpu:.1} CPU s)")).collect();
    println!(
        "sinks       {:.0}% over the slowest alone ({slowest}) with lake, Postgres and Redis at once, {ROWS} rows: {} (asked: 15%; load {})",
        (all / alone - 1.0) * 100.0,
        each.join(", "),
        load()
    );
    Ok(())
}
