//! Alerts: rules over what a pipeline says of itself, and messages that are not lost.
//!
//! **Owns** rules, the life of an alert, who is told, and the way of a message to its receiver. **Does not own** metrics
//! (they are the engine's), queries (whoever starts it brings [`Ask`]) or pages that show alerts ([`Book`] feeds them).
//!
//! ```text
//! Settings ─▶ Plan ─┐
//! metrics ──────────┼─▶ Evaluator ─▶ notify ─▶ Outbox (on disk) ─▶ Courier ─▶ Target
//! answers of Ask ───┘       └─▶ Book
//! ```
//!
//! I1: an alert says that something lasted, not that a sample was odd ([`state`]).
//! I2: a message is on disk before anybody counts on it, and leaves at least once ([`outbox`]).
//! I3: a secret is never printed: settings show `${VAR}`, errors name the route.
//!
//! The files of `docs/runbooks/` and `docs/reference/metrics.md` are part of this crate: tests compare them.

pub mod book;
pub mod catalog;
pub mod courier;
pub mod defaults;
pub mod evaluator;
pub mod expression;
mod files;
pub mod marks;
pub mod message;
pub mod notify;
pub mod outbox;
pub mod plan;
pub mod prometheus;
pub mod route;
pub mod rule;
pub mod runbooks;
pub mod sample;
pub mod service;
pub mod settings;
pub mod state;
mod variables;

pub use book::{Alert, Book, Event, Page, RuleView, Scope, State};
pub use courier::{Health, Pauses};
pub use evaluator::{Cell, Evaluator, Memory, Rows, View};
pub use marks::Silence;
pub use plan::Plan;
pub use rule::{Look, Rule, Severity};
pub use service::{Ask, Options, Service, send_test};
pub use settings::Settings;
pub use state::Change;
