//! The next transaction, opened before its epoch is there.
//!
//! **Owns** the first flight of an epoch that is likely to come, and its end if it does not. **Does not own** the verdict on
//! what it brought, which is the same as if it had left later: its locks were held all the while.
//!
//! Small epochs that follow each other over a long line spend most of their time on round trips. This saves one of two: while
//! an epoch is written on one session, the first flight of the next one waits at the fence on another, and passes it the
//! moment the first commits. It is done only while epochs follow each other without a pause, and no lock is held for longer
//! than a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use watershed_types::Epoch;

use crate::error::Place;
use crate::ledger::Writer;
use crate::session::Session;
use crate::transaction::{Flight, fly};

/// Epochs that come within this of each other follow without a pause. A claim waits for the fence no longer than this.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// A flight that has left for an epoch to come.
pub(crate) struct Ahead {
    epoch: Epoch,
    session: Arc<Session>,
    wanted: oneshot::Sender<()>,
    flight: JoinHandle<Option<Flight>>,
}

impl Ahead {
    /// Leaves for `epoch`, alone on its session.
    pub fn leave(session: Arc<Session>, place: &Place, writer: &Writer, epoch: Epoch, runtime: &Handle) -> Self {
        let (wanted, asked) = oneshot::channel();
        let (own, place, writer) = (Arc::clone(&session), place.clone(), writer.clone());
        let flight = runtime.spawn(async move {
            let flight = fly(&own, &place, &writer, epoch, 1, true).await.ok();
            let asked = tokio::time::timeout(PAUSE, asked).await.is_ok_and(|asked| asked.is_ok());
            if asked && flight.is_some() {
                return flight;
            }
            // It ends the COPY first. If this fails the connection is gone, and the next statement says so.
            drop(flight);
            if let Err(cause) = own.client.batch_execute("ROLLBACK").await {
                tracing::debug!(sink = place.sink, %cause, "a transaction that nobody came for was not rolled back");
            }
            None
        });
        Self { epoch, session, wanted, flight }
    }

    /// The session it left on.
    pub fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// What it brought, if it left for this epoch on this session and has not given up. Afterwards the session is free
    /// but for what is returned.
    pub async fn arrive(self, epoch: Epoch, session: &Arc<Session>) -> Option<Flight> {
        if self.epoch == epoch && Arc::ptr_eq(&self.session, session) {
            // One that has given up does not listen any more.
            let _gave_up = self.wanted.send(()).is_err();
        } else {
            drop(self.wanted);
        }
        self.flight.await.ok().flatten()
    }
}
