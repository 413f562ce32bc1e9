//! The sink against a real Postgres, private to this test. Without one the tests fail.

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/server.rs"]
mod server;
mod support;

mod exactly_once;
mod lookup;
mod read;
mod refusals;
mod repairs;
mod retention;
mod tables;
mod tls;
mod types;
