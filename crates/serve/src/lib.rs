//! The HTTP API of a running project: what the web console is built from, and scripts besides.
//!
//! **Owns** the listener and its limits, who may do what, the routes and their description, live topics, series of the last
//! hours, and the files of the console. **Does not own** a project's folder, its lake or its alerts: they come in through
//! [`ProjectAccess`] and [`AlertBook`]; nor the door for records, which is a router handed in.
//!
//! I1: the pipeline never waits for a reader: it is looked at, and what a reader does not take is dropped.
//! I2: what all readers see is written once. I3: a route that is in no table of roles, or in no document, is closed.
//! I4: beyond loopback nobody is let in without a token.
//!
//! ```text
//!                ┌ host, origin ─ caller, role, rate ─ route ─▶ project (traits) ─▶ lake, checkpoint
//!  listener ─────┤
//!  (limits)      └ WebSocket ─▶ topics ◀─ 250 ms ─ hub ─▶ status, latencies, live rows of the engine
//! ```
//!
//! It has threads of its own, and queries have others, so that neither a busy lake nor a heavy query slows answers down.

mod access;
mod auth;
mod body;
mod console;
mod hub;
mod io;
mod observe;
mod problem;
mod rate;
mod routes;
mod server;
mod shared;
mod sql;
mod topology;

pub use access::{AlertBook, AlertChange, AlertList, AlertView, AuditFinding, LeftOut, NoAlerts, ProjectAccess, QuarantineFilter, ReplayWanted, Replayed, RowKey};
pub use auth::{Origin, Role, TokenFile, TokenRecord, fresh_token, hash_of, parse_hash};
pub use observe::{Constants, SourceOfFigures};
pub use problem::{Problem, ProblemBody, code};
pub use routes::document;
pub use server::{Parts, ServeOptions, Server};
pub use topology::{ColumnInfo, RuleInfo, SinkInfo, SourceInfo, StaticInfo, TableInfo, Topology, mask};
