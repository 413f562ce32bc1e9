//! What an epoch did when, for whoever draws it.
//!
//! **Owns** the times of an epoch's steps, taken from its commit. **Does not own** where they are shown: a listener gets
//! each epoch when it is over, and must not block.

use std::sync::OnceLock;

/// A step. Times are microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Which: `open`, `seal`, `prepare`, `commit`, `record`.
    pub name: &'static str,
    /// The sink that commits.
    pub sink: Option<String>,
    /// From.
    pub started_at: i64,
    /// Until.
    pub ended_at: i64,
    /// Rows it moved.
    pub rows: Option<u64>,
    /// Bytes it wrote.
    pub bytes: Option<u64>,
}

/// An epoch that is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochTrace {
    /// The pipeline.
    pub pipeline: String,
    /// Which epoch.
    pub epoch: u64,
    /// Whose.
    pub generation: u64,
    /// Records it read.
    pub records: u64,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Why it could not be committed.
    pub error: Option<String>,
}

type Listener = Box<dyn Fn(EpochTrace) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Sets who gets every epoch; once a process. False if somebody does already.
pub fn listen(listener: impl Fn(EpochTrace) + Send + Sync + 'static) -> bool {
    LISTENER.set(Box::new(listener)).is_ok()
}

/// Hands over an epoch.
pub(super) fn tell(trace: EpochTrace) {
    if let Some(listener) = LISTENER.get() {
        listener(trace);
    }
}
