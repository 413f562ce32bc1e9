//! Tables outside that are asked by key, as the rows of a stream pass.

use arrow::array::RecordBatch;
use watershed_types::Result;

/// A table whose rows are asked for by key.
///
/// Guarantees asked for: an answer holds what the table said at some moment between the call and its return; asking changes
/// nothing, so a call that failed is made again as a whole. An error of kind `Unavailable` means that the other side is not
/// there (yet), and the caller waits; any other is for good.
///
/// Not promised: that two requests see the same moment.
pub trait LookupTable: Send + Sync {
    /// The name in metrics and errors: the static table's.
    fn name(&self) -> &str;
    /// Connects, and checks that the table has the declared columns, with types that fit. Called once, before a run starts.
    fn check(&self) -> Result<()>;
    /// Answers requests, each a batch of the key's columns in which no key is NULL and none is there twice. All are on their
    /// way at once where the other side allows it.
    fn ask(&self, requests: &[RecordBatch]) -> Result<Vec<LookupAnswer>>;
}

/// What a table says to one request.
#[derive(Debug, Clone)]
pub struct LookupAnswer {
    /// The rows that were found, with the declared columns in order, each of which may be NULL here.
    pub rows: RecordBatch,
    /// For each of them the place of its key in the request.
    pub of: Vec<u32>,
    /// Places of keys whose rows are there and cannot be read, and why; without the row's values.
    pub unreadable: Vec<(u32, String)>,
}
