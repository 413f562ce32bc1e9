//! The Postgres wire: a project's tables for `psql`, Grafana and BI tools.
//!
//! **Owns** the port, who may connect and how (SCRAM-SHA-256, TLS), the protocol's statements and errors, and what
//! Postgres clients ask about the database itself (`pg_catalog`). **Does not own** which tables there are, nor how
//! they are read: that is a [`Database`].
//!
//! I1: nothing that arrives here changes a table: a statement is refused by what it is, and its plan by what it does.
//! I2: every table of one statement is of one epoch; inside `BEGIN … COMMIT`, every statement is.
//! I3: a connection that fails, hangs or lies takes down nothing but itself: it has a task of its own, on threads of
//! this crate's, with limits on connections, time and memory.
//! I4: an address other machines can reach is served with passwords and TLS, or not at all.
//!
//! ```text
//! socket ─ TLS? ─ startup: SCRAM ─▶ connection ─ statement ─▶ settings · transaction · cursor
//!                                                     └────▶ plan over one epoch ─▶ rows
//! ```

mod catalog;
mod connection;
mod database;
mod error;
mod json;
mod moment;
mod numeric;
mod options;
mod rows;
mod scram;
mod server;
mod service;
mod session;
mod settings;
mod startup;
mod statement;
mod stream;

pub use database::Database;
pub use options::{Options, TlsFiles};
pub use scram::Verifier;
pub use server::{Server, bind};
