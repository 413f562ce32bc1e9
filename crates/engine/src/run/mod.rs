//! A pipeline at work.
//!
//! **Owns** the threads and what passes between them. **Does not own** plans, operators or file formats.
//!
//! ```text
//! source threads ─▶ decode on the pool ─▶ tick thread ─┬─▶ sink lanes ──────▶ commit thread ─▶ checkpoint, sinks side by side
//!                                                      ├─▶ live sinks' lanes
//!                                                      └─▶ live outputs
//! ```

mod alignment;
mod budget;
mod commit;
mod consolidate;
mod driver;
mod fate;
mod figures;
mod flow;
mod intake;
mod lane;
mod live;
mod live_lane;
mod maintenance;
mod metadata;
mod observe;
mod outbox;
mod outside;
mod patience;
mod pieces;
mod quarantine;
mod recover;
mod replay;
mod side_by_side;
mod spool;
mod stages;
mod status;
mod table;
pub mod trace;
mod watermark;

pub use driver::{Driver, Outcome};
pub use fate::{Fate, fates, unfit};
pub use flow::{FlowReport, PartitionFlow};
pub use intake::{Intake, Prepare};
pub use live::Live;
pub use observe::{EpochReport, Histogram, Observed, STAGE_EVENT, STAGE_LAKE, STAGE_PROCESSED, SinkWork};
pub use outbox::{staged_files, staged_rows};
pub(crate) use patience::Patience;
pub use quarantine::schema as quarantine_schema;
pub use recover::{Adapters, Config, Handle, LiveSink, SinkTarget, start, state_of};
pub use replay::{REPLAY_SOURCE, ReplayRequest, ReplayRow, encode_hex, pending_requests, submit_replay};
pub use spool::SpoolOptions;
pub use stages::{Stage, seconds as stage_seconds, timed};
pub use status::{OperatorStatus, SharedStatus, SinkStatus, SourceStatus, SpoolStatus, Status, TableStatus};
