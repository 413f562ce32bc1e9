//! `watershed produce`: simulated card transactions into a Kafka topic, as fast as asked or as fast as it goes.
//!
//! **Owns** the command from its options to its report: which record comes next and under which key, the pace, what is
//! waiting and what was acknowledged, hot keys and their salt. **Does not own** what a record looks like
//! (`watershed-simulator`), the protocol, batches and retries (librdkafka), arguments and printing (the program).
//!
//! I1: which records, under which keys, in which order is a pure function of the options; the clock decides only how
//!     many there are and when (unless event time starts `now`).
//! I2: one thread hands records over, in order, so a partition has them in the order of their indexes.
//! I3: a record that was handed over is acknowledged or counted as failed; a full queue makes the sender wait.
//!
//! ```text
//!  generator thread(s)            sending thread                         librdkafka
//!  Records ── chunks, in order ──▶ Pace ─▶ send ─▶ queue ─▶ batches ─▶ broker
//!          ◀─ empty chunks ──────         poll ◀─ delivery reports ─────┘
//! ```

mod delivery;
mod engine;
mod generate;
mod heavy;
mod histogram;
mod link;
mod options;
mod pace;
mod partitioner;
mod records;
mod report;
mod salt;
mod summary;
mod text;
mod topic;
mod transactions;

pub use engine::run;
pub use options::{Guarantee, ProduceOptions, Start, parse_property, parse_rate, parse_share, parse_start};
pub use partitioner::{java_partition, murmur2};
pub use records::{Chunk, Records};
pub use report::{Batches, Ended, Event, Failed, HotKey, Latency, PartitionCount, Progress, Report, Skew, SkewReport, Transactions};
pub use salt::Salt;
pub use watershed_simulator::Rate;
