//! Words every other crate uses: ids, epochs, positions, errors, secrets.
//!
//! **Owns** the vocabulary of `docs/glossary.md` as types. **Does not own** any I/O, clock or thread.
//!
//! I1: an [`Error`] always says what the reader should do (its [`Kind`]) and carries a stable code.
//! I2: a [`Secret`] never prints its value, neither by `Debug` nor by `Display`.

mod error;
pub mod failpoint;
mod ids;
mod options;
mod secret;
pub mod sql;

pub use error::{Certainty, Error, Kind, Result};
pub use ids::{Epoch, Generation, PartitionPosition, Positions, Reason, Zone};
pub use options::{OptionValue, Options, near_miss, parse_bytes, parse_duration};
pub use secret::Secret;
