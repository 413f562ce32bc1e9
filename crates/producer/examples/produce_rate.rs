//! How fast records go, next to librdkafka's own client on the same broker:
//!
//! ```text
//! cargo run --release -p watershed-producer --example produce_rate -- 127.0.0.1:9092 [key=value …]
//! ```
//!
//! `records=2000000`, `rounds=5`, `partitions=8`, `only=ours|theirs`, `payload=simulated|fixed`; for ours alone
//! `generators=0`, `rate=max`, `transaction=RECORDS`; and librdkafka's properties by their names for both.
//!
//! Theirs is `rdkafka_performance`, built with gcc from the sources that rdkafka-sys carries (`$RDKAFKA_PERFORMANCE` names
//! a binary instead). It copies a payload for each record (`-D`), as ours does, and sends it to a random partition. Its
//! time includes connecting; ours starts with the first record, so let runs take seconds.
//!
//! As it comes (`payload=fixed`) it sends the same bytes again and again, which any compression makes nothing of: fair
//! without compression only. So one line of it is replaced, to take each payload from a file of simulated records; it
//! still makes none itself, as ours does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use watershed_producer::{Chunk, Guarantee, ProduceOptions, Rate, Records, Report, run};
use watershed_simulator::{Profile, Simulator};

type Failure = Box<dyn std::error::Error>;

/// What a client did in one run.
#[derive(Clone, Copy)]
struct Figures {
    records_per_second: f64,
    /// CPU time of the client per record.
    cpu_micros: f64,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().ok_or("give the address of a broker")?;
    let (mut simulated, mut rate, mut transaction) = (true, Rate::Max, None);
    let (mut records, mut rounds, mut partitions, mut generators, mut only) = (2_000_000u64, 5u32, 8u32, 0usize, None);
    let mut properties = Vec::new();
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or("give key=value")?;
        match name {
            "records" => records = value.parse()?,
            "rounds" => rounds = value.parse()?,
            "partitions" => partitions = value.parse()?,
            "generators" => generators = value.parse()?,
            "rate" => rate = watershed_producer::parse_rate(value)?,
            "transaction" => transaction = Some(value.parse()?),
            "payload" => simulated = value != "fixed",
            "only" => only = Some(value.to_owned()),
            _ => properties.push((name.to_owned(), value.to_owned())),
        }
    }
    let theirs = match only.as_deref() {
        Some("ours") => None,
        _ => rival(simulated).inspect_err(|e| eprintln!("rdkafka_performance cannot be built, only ours runs: {e}")).ok(),
    };
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut options = ProduceOptions::new(&brokers, format!("rate-{}-{round}-ours", std::process::id()));
        (options.rate, options.records, options.create_topic, options.partitions) = (rate, Some(records), true, Some(partitions));
        (options.generators, options.properties) = (generators, properties.clone());
        if let Some(records) = transaction {
            options.guarantee = Guarantee::Transactional { records, interval: Duration::from_secs(1) };
        }
        let mut bytes = 327;
        let mut our_rate = None;
        if only.as_deref() != Some("theirs") {
            let (figures, report) = ours(options.clone())?;
            bytes = report.bytes / report.acknowledged.max(1);
            our_rate = Some(figures.records_per_second);
            let batch = report.batches.unwrap_or_default();
            print_line("ours", figures);
            println!(
                "          p50 {:.0} p99 {:.0} max {:.0} ms · batch {:.0} records, {:.0} KB · compression {:.2} · waited {:.1} s · skew {:.3}",
                report.latency.p50_ms,
                report.latency.p99_ms,
                report.latency.max_ms,
                batch.records,
                batch.bytes / 1e3,
                batch.compression_ratio,
                report.waited_seconds,
                report.skew.after.ratio
            );
        }
        if let Some(program) = &theirs {
            // Makes the topic, and sends nothing worth counting.
            let mut empty = options;
            empty.topic = empty.topic.replace("ours", "theirs");
            (empty.records, empty.properties) = (Some(1), Vec::new());
            run(empty.clone(), Arc::default(), |_| {})?;
            let figures = rivals(program, &empty, &properties, records, bytes)?;
            print_line("librdkafka", figures);
            if let Some(rate) = our_rate {
                ratios.push(rate / figures.records_per_second);
            }
        }
    }
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        println!("ours / librdkafka: median {median:.3} of {:?}", ratios.iter().map(|r| format!("{r:.3}")).collect::<Vec<_>>());
    }
    Ok(())
}

fn print_line(who: &str, figures: Figures) {
    println!("{who:>10}  {:>9.0} records/s  {:.2} µs of CPU a record", figures.records_per_second, figures.cpu_micros);
}

fn ours(options: ProduceOptions) -> Result<(Figures, Report), Failure> {
    let before = cpu(13)?;
    let report = run(options, Arc::new(AtomicBool::new(false)), |_| {})?;
    report.verdict()?;
    let used = cpu(13)? - before;
    Ok((Figures { records_per_second: report.sent as f64 / report.seconds, cpu_micros: used * 1e6 / report.sent.max(1) as f64 }, report))
}

fn rivals(program: &Path, options: &ProduceOptions, properties: &[(String, String)], records: u64, bytes: u64) -> Result<Figures, Failure> {
    let defaults = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("linger.ms", "20"),
        ("compression.type", "lz4"),
        ("batch.size", "1000000"),
        ("batch.num.messages", "10000"),
        ("queue.buffering.max.messages", "32768"),
        ("queue.buffering.max.kbytes", "131072"),
        ("sticky.partitioning.linger.ms", "0"),
    ];
    let mut command = Command::new(program);
    command.args(["-P", "-D", "-q", "-t", &options.topic, "-b", &options.brokers, "-s", &bytes.to_string(), "-c", &records.to_string()]);
    for (name, value) in defaults {
        let given = properties.iter().rev().find(|(given, _)| given == name);
        command.args(["-X", &format!("{name}={}", given.map_or(value, |(_, value)| value))]);
    }
    for (name, value) in properties.iter().filter(|(name, _)| !defaults.iter().any(|(known, _)| known == name)) {
        command.args(["-X", &format!("{name}={value}")]);
    }
    let file = program.with_extension("records");
    if !file.is_file() {
        std::fs::write(&file, payloads())?;
    }
    command.env("PAYLOADS", &file);
    let before = cpu(15)?;
    let output = command.output()?;
    let used = cpu(15)? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    // "% 1000 messages produced (… bytes), 1000 delivered (offset 7, 0 failed) in 12ms: 83333 msgs/s and …"
    let line = text.lines().rfind(|line| line.contains("delivered") && line.contains("msgs/s")).ok_or_else(|| format!("no figures in {text}"))?;
    let rate = line.split(" msgs/s").next().and_then(|start| start.rsplit(' ').next()).ok_or("no rate")?.parse()?;
    if !line.contains(&format!(" {records} delivered")) {
        return Err(format!("not everything was delivered: {line}").into());
    }
    Ok(Figures { records_per_second: rate, cpu_micros: used * 1e6 / records as f64 })
}

/// Seconds of CPU this process (field 13) or its ended children (field 15) have used, from /proc/self/stat.
fn cpu(field: usize) -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit(") ").next().ok_or("no fields")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // Fields are counted from 0 and the first two stand before the bracket.
    let ticks: u64 = fields[field - 2].parse::<u64>()? + fields[field - 1].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// Simulated records one after the other, of which theirs takes stretches.
fn payloads() -> Vec<u8> {
    let records = Records::new(Simulator::new(Profile::default()), Arc::default(), 1);
    let (mut chunk, mut all) = (Chunk::default(), Vec::new());
    records.fill(0..65_536, &mut chunk);
    (0..chunk.len()).for_each(|row| all.extend_from_slice(chunk.value(row)));
    all
}

/// What is replaced in theirs, and by what, so that payloads come from a file.
const FIXED: &str = "memcpy(pbuf, sbuf, msgsize);";
const FROM_FILE: &str = "{
        static char *all; static size_t length, at;
        if (!all) {
                FILE *file = fopen(getenv(\"PAYLOADS\"), \"rb\");
                if (!file) exit(9);
                fseek(file, 0, SEEK_END); length = ftell(file); rewind(file);
                all = malloc(length);
                if (fread(all, 1, length, file) != length) exit(9);
                fclose(file);
        }
        if (at + msgsize > length) at = 0;
        memcpy(pbuf, all + at, msgsize);
        at += msgsize;
}";

/// librdkafka's `rdkafka_performance`, built against the library that is linked into this program.
fn rival(simulated: bool) -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("RDKAFKA_PERFORMANCE") {
        return Ok(program.into());
    }
    let here = std::env::current_exe()?;
    let release = here.parent().and_then(Path::parent).ok_or("no target directory")?;
    let program = release.join(if simulated { "examples/rdkafka_performance_simulated" } else { "examples/rdkafka_performance" });
    if program.is_file() {
        return Ok(program);
    }
    let built = find(&release.join("build"), "rdkafka-sys-", "out/src/librdkafka.a").ok_or("no librdkafka.a in the target directory")?;
    let zstd = find(&release.join("build"), "zstd-sys-", "out/libzstd.a").ok_or("no libzstd.a")?;
    let zlib = find(&release.join("build"), "libz-sys-", "out/lib/libz.a").ok_or("no libz.a")?;
    let sources = built.parent().and_then(Path::parent).ok_or("no sources")?;
    let mut text = std::fs::read_to_string(sources.join("examples/rdkafka_performance.c"))?;
    if simulated {
        if text.matches(FIXED).count() != 1 {
            return Err("the line to replace is not there".into());
        }
        text = text.replace(FIXED, FROM_FILE);
    }
    let source = program.with_extension("c");
    std::fs::write(&source, text)?;
    let mut gcc = Command::new("gcc");
    for folder in [sources.to_path_buf(), sources.join("src"), sources.join("examples")] {
        gcc.arg("-I").arg(folder);
    }
    let gcc = gcc.args(["-O2", "-w"]).arg(&source).args([&built, &zstd, &zlib]).args(["-lssl", "-lcrypto", "-lpthread", "-lm", "-ldl", "-o"]).arg(&program).output()?;
    if gcc.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&gcc.stderr).into_owned().into()) }
}

/// `file` in the one of a folder's children that starts with `prefix` and has it.
fn find(folder: &Path, prefix: &str, file: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).map(|entry| entry.path().join(file)).find(|path| path.is_file())
}
