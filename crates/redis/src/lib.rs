//! Hot keys in Redis: the current state of a table, set at every tick.
//!
//! **Owns** the form of keys and values and the stamp that says how far they are. **Does not own** the state they are set
//! from, or when it is written.
//!
//! I1: values are set from state and never incremented, so a repeat changes nothing.
//! I2: the stamp of an epoch is written after its values, and never over the stamp of a newer generation.
//! I3: with `retention`, the index names every key whose row's time is at or above the stamp's `floor`, while `run` is the
//! server's own: what a restarted server may have lost is below the floor.
//!
//! Not promised: values may be newer than the stamp, never older; a reader may see some keys of a tick before others; a run
//! that was fenced may still overwrite values until it notices at its next stamp.
//!
//! Failure: a lost connection is opened again by the next call, or within the call where the rows are still at hand.
//!
//! Keys are made from a template, `agg:{window_start}:{status}`; `{{` and `}}` are braces (Redis Cluster's hash tags). In keys,
//! times are ISO 8601's basic form without separators, `20240229T130500Z`, as colons part the key; with a fraction of six
//! digits only where there is one; dates are `20240229`, NULL is `null`. In values times are `2024-02-29T13:05:00Z`,
//! decimals exact, bytes as they are (in keys and JSON, hexadecimal).

mod coverage;
mod error;
mod live;
mod lookup;
mod options;
mod read;
mod resp;
mod rows;
mod text;

pub use live::RedisLive;
pub use lookup::RedisLookup;
pub use options::{RedisOptions, Retention, Type};
pub use read::{HotRows, HotState, RedisReader};
