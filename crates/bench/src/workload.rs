//! The transaction workload: the pipeline of the design document over generated files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use watershed_simulator::{Profile, Simulator};

/// The pipeline: parse, three expectations, dedup, enrichment with SHA-256, one-minute windows, partitioned Delta.
pub const PIPELINE: &str = include_str!("pipeline.sql");

/// Writes a project with `rows` records in files of a million; returns the bytes of the data.
///
/// Event time runs at 1,700 records a second, so that about a million keys are live in the ten-minute dedup interval.
pub fn write_project(folder: &Path, rows: u64) -> std::io::Result<u64> {
    fs::create_dir_all(folder.join("data"))?;
    fs::write(folder.join("watershed.toml"), "")?;
    fs::write(folder.join("pipelines.sql"), PIPELINE)?;
    let simulator = Simulator::new(Profile { events_per_second: 1_700.0, ..Profile::default() });
    let (mut bytes, mut record) = (0, Vec::new());
    for first in (0..rows).step_by(1_000_000) {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("data/part-{first:012}.ndjson")))?);
        for index in first..(first + 1_000_000).min(rows) {
            record.clear();
            simulator.record(index, None, &mut record);
            record.push(b'\n');
            bytes += record.len() as u64;
            file.write_all(&record)?;
        }
        file.flush()?;
    }
    Ok(bytes)
}
