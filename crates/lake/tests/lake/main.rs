//! The lake against real Delta logs: exactly once, partitions, types, housekeeping.

mod exactly_once;
mod housekeeping;
mod partitions;
mod python;
mod support;
mod types;
