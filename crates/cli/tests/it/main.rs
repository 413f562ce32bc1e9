//! The whole of it from outside: projects on disk, the `watershed` binary, its tables read back.

mod crash;
mod faults;
mod goldens;
mod kafka;
#[path = "../../../postgres/tests/support/proxy.rs"]
mod proxy;
mod python;
mod redshift;
mod serve;
mod servers;
mod simulation;
mod sinks;
mod support;
mod tiers;
mod warehouse;
mod workload;
