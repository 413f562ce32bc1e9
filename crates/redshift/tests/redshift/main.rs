//! The sink against S3 as `moto` has it, and against a Postgres that stands in for Redshift: it runs every statement in real
//! transactions and loads the staged files where Redshift would. Without Python the tests say that they are left out; without
//! Postgres they fail.

mod data_api;
mod moto;
#[path = "../../../postgres/tests/support/server.rs"]
mod server;
mod standin;
mod support;

mod batches;
mod exactly_once;
mod refusals;
mod staging;
mod tables;
