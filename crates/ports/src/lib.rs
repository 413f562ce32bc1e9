//! The traits between the engine and the outside: where records come from, what is
//! looked up on their way, where results go, what time it is.
//!
//! **Owns** the contracts. **Does not own** any adapter: those live in crates of their own and never see the engine.
//!
//! Everything here is blocking. The engine gives each source a thread of its own and each sink a commit thread; an
//! adapter that is asynchronous inside keeps a handle to the runtime it was given and blocks on it.

mod clock;
mod lookup;
mod sink;
mod source;

pub use clock::{Clock, ManualClock, SystemClock};
pub use lookup::{LookupAnswer, LookupTable};
pub use sink::{CommitOutcome, Delivered, EpochRows, Folded, History, KeptEpochs, Recount, Redriven, RefusedRow, Sink, SinkWriter, Staged, Target};
pub use source::{Framing, HeaderItem, Lag, PartitionLag, Polled, RawChunk, RecordFacts, Source};
