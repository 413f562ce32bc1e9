//! The whole of it from outside: projects on disk, the `watershed` binary, its tables read back.

mod alerts;
mod change;
mod console;
mod crash;
mod faults;
mod goldens;
mod kafka;
mod lookup;
#[path = "../../../postgres/tests/support/proxy.rs"]
mod proxy;
mod python;
#[path = "../../../alerts/tests/it/receivers.rs"]
#[allow(dead_code, reason = "shared with the tests of the alerts, which use all of it")]
mod receivers;
mod redshift;
mod repair;
mod serve;
mod servers;
mod simulation;
mod sinks;
mod support;
mod tiers;
mod warehouse;
mod wire;
mod workload;
