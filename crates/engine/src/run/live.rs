//! Live outputs: rows of a table as each tick makes them, before their epoch is committed.
//!
//! A subscriber that does not keep up loses its subscription, never the pipeline its pace.

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The hub of live outputs.
#[derive(Default)]
pub struct Live {
    subscribers: Mutex<Vec<(String, Sender<RecordBatch>)>>,
}

impl Live {
    /// Follows a table. The stream ends when the pipeline stops or `backlog` batches are waiting.
    pub fn subscribe(&self, table: &str, backlog: usize) -> Receiver<RecordBatch> {
        let (sender, receiver) = channel(backlog);
        self.subscribers.lock().push((table.to_owned(), sender));
        receiver
    }

    /// True if anybody follows the table.
    pub fn wanted(&self, table: &str) -> bool {
        self.subscribers.lock().iter().any(|(name, _)| name == table)
    }

    /// Hands out rows.
    pub fn publish(&self, table: &str, batch: &RecordBatch) {
        self.subscribers.lock().retain(|(name, sender)| name != table || sender.try_send(batch.clone()).is_ok());
    }

    /// Ends every subscription.
    pub fn close(&self) {
        self.subscribers.lock().clear();
    }
}
