//! Card transactions and auctions that never happened: for the demo, for tests, for load.
//!
//! **Owns** what a simulated record looks like and how often something is wrong with it. **Does not own** where
//! records go.
//!
//! I1: a record is a pure function of (profile, index): a replay yields the same bytes, in any order, in any slices.
//! I2: only whole numbers decide what is written, so the bytes are the same on every machine.

mod generator;
mod hash;
mod nexmark;
mod options;
mod record;
mod write;

pub use self::nexmark::{NexmarkOptions, NexmarkSource};
pub use generator::GeneratorSource;
pub use options::{GeneratorOptions, Rate};
pub use record::{Made, Profile, Simulator, customer_id};
