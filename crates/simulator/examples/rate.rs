//! How fast one thread makes records: `cargo run --release -p watershed-simulator --example rate`.

use std::time::Instant;

use watershed_simulator::{Profile, Simulator};

fn main() {
    let simulator = Simulator::new(Profile::default());
    let rows = 5_000_000u64;
    let mut out = Vec::with_capacity(8 << 20);
    let mut bytes = 0u64;
    let started = Instant::now();
    for index in 0..rows {
        simulator.record(index, None, &mut out);
        out.push(b'\n');
        if out.len() > 4 << 20 {
            bytes += out.len() as u64;
            out.clear();
        }
    }
    bytes += out.len() as u64;
    let seconds = started.elapsed().as_secs_f64();
    let (rate, size) = (rows as f64 / seconds / 1e6, bytes as f64 / rows as f64);
    println!("{rate:.2} million rows/s, {size:.0} bytes a row, {:.0} MB/s", rate * size);
}
