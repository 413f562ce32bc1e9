//! Kafka in and out.
//!
//! **Owns** reading topics as a replayable [`watershed_ports::Source`], delivering epochs into a topic in Kafka's own transactions
//! ([`watershed_ports::Target`]), sending rows at once, and the text of rows as JSON. **Does not own** decoding what was read,
//! checkpoints, or when an epoch ends.
//!
//! I1: a position is the offset of the next record to be read; it comes from the engine, never from a consumer group.
//! I2: records that are gone before they were read are an error or a number in the ledger, never a silent gap.
//! I3: an epoch's rows and the epoch's number are committed in one transaction.
//! I4: no value of an option that may hold a secret is printed.
//!
//! ```text
//! topic ──poll──▶ buffer of each partition ──cut──▶ RawChunk            (source)
//! rows  ──JSON──▶ transaction: messages + epoch as a group's offset     (target)
//! rows  ──JSON──▶ idempotent producer ──flush──▶ acknowledged           (live)
//! ```

pub mod client;
mod encode;
mod live;
mod produce;
mod sink_options;
mod source;
mod source_options;
mod target;
mod topics;
mod trouble;

pub use client::KafkaConnection;
pub use live::KafkaLive;
pub use sink_options::{Delivery, KafkaSinkOptions, SinkMode};
pub use source::{KafkaSource, Wants};
pub use source_options::{KafkaSourceOptions, OnDataLoss, Start, Tombstones, Topics};
pub use target::KafkaTarget;
