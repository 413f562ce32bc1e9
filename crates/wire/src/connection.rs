//! One client's side of the server: its settings, its transaction, its cursors, and how it is told to stop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::results::QueryResponse;
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::session::Snapshot;
use crate::settings::Settings;

/// A cursor's rows, read by whoever fetches next.
pub(crate) type Cursor = Arc<tokio::sync::Mutex<QueryResponse>>;

/// What is kept of a client between its messages.
pub(crate) struct Connection {
    /// What it has set.
    pub settings: Mutex<Settings>,
    /// What an open transaction sees.
    pub transaction: Mutex<Option<Snapshot>>,
    /// Open cursors by name.
    pub cursors: Mutex<BTreeMap<String, Cursor>>,
    cancels: watch::Sender<u64>,
}

impl Default for Connection {
    fn default() -> Self {
        Self { settings: Mutex::default(), transaction: Mutex::default(), cursors: Mutex::default(), cancels: watch::Sender::new(0) }
    }
}

impl Connection {
    /// Sees cancel requests from now on.
    pub fn cancels(&self) -> watch::Receiver<u64> {
        self.cancels.subscribe()
    }

    /// The end of a transaction: cursors go with it.
    pub fn end_transaction(&self) {
        *self.transaction.lock() = None;
        self.cursors.lock().clear();
    }
}

/// Every connection by the key its client got, so that another connection can cancel what it does.
#[derive(Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<(i32, Bytes), Arc<Connection>>>,
}

/// A connection's place among the others; it goes with its owner.
pub(crate) struct Registered {
    key: (i32, Bytes),
    connections: Arc<Connections>,
}

impl Connections {
    /// Makes a connection known.
    pub fn register(self: &Arc<Self>, pid: i32, secret: &SecretKey, connection: Arc<Connection>) -> Registered {
        let key = (pid, secret.to_bytes());
        self.open.lock().insert(key.clone(), connection);
        Registered { key, connections: Arc::clone(self) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.key);
    }
}

#[async_trait::async_trait]
impl CancelHandler for Connections {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = (request.pid, request.secret_key.to_bytes());
        if let Some(connection) = self.open.lock().get(&key) {
            connection.cancels.send_modify(|count| *count += 1);
        }
    }
}
