//! A real broker on the same cores: producing into it, and the whole pipeline out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::{latency, process, workload};

/// A private broker, stopped when dropped.
struct Broker {
    folder: PathBuf,
    brokers: String,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka")
}

impl Broker {
    fn start(folder: PathBuf) -> std::io::Result<Broker> {
        fs::create_dir_all(&folder)?;
        let output = Command::new(script()).arg("start").arg(&folder).args(["--parent", &std::process::id().to_string()]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().find_map(|line| line.strip_prefix("bootstrap=")) {
            Some(brokers) if output.status.success() => Ok(Broker { brokers: brokers.trim().to_owned(), folder }),
            _ => Err(std::io::Error::other(format!("no broker: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }
    /// The broker's CPU time so far.
    fn cpu_seconds(&self) -> f64 {
        let pid = fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        process::cpu_seconds_of(pid.trim())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("stop").arg(&self.folder).output();
    }
}

/// Makes a topic.
pub fn topic(brokers: &str, name: &str, partitions: i32) -> std::io::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(std::io::Error::other)?;
    let wanted = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).map_err(std::io::Error::other)?;
    made.into_iter().try_for_each(|made| made.map(drop).map_err(|(name, code)| std::io::Error::other(format!("{name}: {code}"))))
}

/// Everything that needs a broker. `from_files` is what the same pipeline does from files, rows a second.
pub fn measure(binary: &Path, folder: &Path, rows: u64, from_files: f64) -> std::io::Result<()> {
    let broker = match Broker::start(folder.join("broker")) {
        Ok(broker) => broker,
        Err(error) => {
            println!("kafka       left out: {error}");
            return Ok(());
        }
    };
    let brokers = &broker.brokers;
    topic(brokers, "bench", 4)?;
    let records = rows.to_string();
    let (started, before) = (std::time::Instant::now(), broker.cpu_seconds());
    let output = Command::new(binary).args(["produce", "--brokers", brokers, "--topic", "bench", "--rate", "max", "--records", &records, "--format", "json"]).output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(format!("watershed produce failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    println!(
        "produce     {:.0} records/s, {:.0} MB/s, idempotent, acks=all, {:.0} s; the broker took {:.2} CPU s per million (asked: 200,000/s)",
        report["records_per_second"].as_f64().unwrap_or(f64::NAN),
        report["megabytes_per_second"].as_f64().unwrap_or(f64::NAN),
        started.elapsed().as_secs_f64(),
        (broker.cpu_seconds() - before) / rows as f64 * 1e6
    );

    let project = folder.join("kafka");
    fs::create_dir_all(&project)?;
    fs::write(project.join("watershed.toml"), "")?;
    let source = format!("connector = 'kafka', brokers = '{brokers}', topic = 'bench'");
    fs::write(project.join("pipelines.sql"), workload::PIPELINE.replace("connector = 'files', path = 'data/*.ndjson'", &source))?;
    let before = broker.cpu_seconds();
    let run = process::run(binary, &["run", "--once", "--format", "json"], &project)?;
    let (spent, million) = (broker.cpu_seconds() - before, rows as f64 / 1e6);
    let rate = rows as f64 / run.seconds;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let without = rows as f64 / (run.seconds - spent / cores).max(1e-3);
    println!(
        "from kafka  {rate:.0} rows/s, {:.2} CPU s per million, the broker {:.2} besides; {:.0}% of the file source with the broker's time taken out, {:.0}% without",
        run.cpu_seconds / million,
        spent / million,
        without / from_files * 100.0,
        rate / from_files * 100.0
    );
    latency::kafka(binary, folder, brokers)
}
