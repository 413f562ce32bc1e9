//! Named places where a test kills the process.
//!
//! `name:n` kills at the n-th time the place is reached. Set once at start; without it a place costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Every place of the engine, in the order of a commit.
pub const PLACES: [&str; 9] = ["tick", "before_seal", "after_seal", "after_state", "after_prepare", "after_first_sink", "after_sinks", "after_complete", "after_prune"];

/// Places inside the transactions of outside targets: reached only where a project has such a sink.
pub const TARGET_PLACES: [&str; 10] = [
    "kafka_begun",
    "kafka_sent",
    "kafka_marked",
    "kafka_committed",
    "postgres_sent",
    "postgres_marked",
    "postgres_committed",
    "redshift_staged",
    "redshift_sent",
    "redshift_committed",
];

/// Arms a place from `name` or `name:n`; false if there is no such place.
pub fn arm(text: &str) -> bool {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let (true, Ok(left)) = (PLACES.iter().chain(&TARGET_PLACES).any(|place| *place == name), count.parse()) else { return false };
    ARMED.set(Armed { name: name.to_owned(), left: AtomicU64::new(left) }).is_ok()
}

/// True if this is the place where the process is to die.
pub fn is_armed(name: &str) -> bool {
    ARMED.get().is_some_and(|armed| armed.name == name)
}

/// Dies here if armed: no destructor runs, nothing is flushed.
pub fn reach(name: &str) {
    let Some(armed) = ARMED.get() else { return };
    if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        eprintln!("failpoint {name} fired");
        std::process::abort();
    }
}
