//! The epoch engine: plans, ticks, operators, state, the ledger, recovery.
//!
//! **Owns** what happens between a source's bytes and a sink's commit. **Does not own** any adapter: sources, sinks
//! and loaders come in through [`run::Adapters`] and [`plan::StaticLoader`].
//!
//! One record's way: [`run`]`::intake` (decode) → `run::driver` (tick, watermark) → `run::table` (steps, rules,
//! fates) → `run::lane` (writers) → `run::commit` (epoch). State lives in [`operator`], durable files in
//! [`checkpoint`], SQL becomes steps in [`plan`].

pub mod checkpoint;
pub use watershed_types::failpoint;
pub mod json;
pub mod operator;
pub mod plan;
pub mod run;
pub mod time;
