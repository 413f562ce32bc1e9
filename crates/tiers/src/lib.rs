//! Reads of one table over three tiers: hot keys in Redis, warm rows in Postgres, cold rows in the lake.
//!
//! **Owns** which tier answers what, the merge, and the form of the answer. **Does not own** what is in a tier: the sinks and
//! the lake write them, all by one epoch, and say from which time on each is whole.
//!
//! I1: every moment of a range is answered by exactly one tier, the hottest that is whole there; borders are times, `[from, to)`.
//! I2: everything of the last committed epoch is in every answer. What a tier has of the epoch under way may be in it too.
//! I3: a tier that cannot answer is replaced by the next colder one that is whole there, and the answer says so. Where none
//! is, the read fails; an answer never leaves out a part silently.
//!
//! ```text
//!            cold.floor = ever        warm.floor            hot.floor
//!  lake      ├────────────────────────┼─────────────────────┼──────────────▶ newest
//!  Postgres                           ├─────────────────────┼──────────────▶
//!  Redis                                                    ├──────────────▶
//!  answered by  cold                     warm                   hot
//! ```
//!
//! Not promised: two reads see the same epoch of the running one; a key whose rows move in time is shown with its current
//! row by hot and warm, and with older ones by the lake.

mod answer;
mod cold;
mod error;
mod hot;
mod http;
mod key;
pub mod plan;
mod request;
mod table;
mod tier;
mod warm;

pub use cold::{Cold, Committed};
pub use hot::Hot;
pub use http::{Reads, router};
pub use plan::{Name, Share, Standing};
pub use request::Request;
pub use table::{Answer, TieredTable};
pub use tier::{Keys, Rows, Tier};
pub use warm::Warm;
