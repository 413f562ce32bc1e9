//! The whole of it from outside: projects on disk, the `watershed` binary, its tables read back.

mod crash;
mod faults;
mod goldens;
mod kafka;
mod python;
mod serve;
mod servers;
mod simulation;
mod sinks;
mod support;
mod tiers;
mod workload;
