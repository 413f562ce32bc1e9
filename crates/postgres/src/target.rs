//! The target: claims, delivers, recounts.
//!
//! **Owns** the connections and the decision to begin again. **Does not own** how rows get in: that is [`crate::fast`] and
//! [`crate::careful`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use watershed_ports::{Delivered, History, KeptEpochs, Recount, Redriven, Target};
use watershed_types::{Epoch, Generation, Result};

use crate::ahead::{Ahead, PAUSE};
use crate::columns::{Columns, qualified, table_ddl};
use crate::error::{Fault, Place, bad_ledger, gone, repeat_with_care};
use crate::fast::Ending;
use crate::ledger::{self, Writer, whole};
use crate::options::{Mode, PostgresOptions};
use crate::rows::Rows;
use crate::session::{Session, connect};
use crate::transaction::Job;
use crate::{careful, fast, maintain, redrive, retention, table};

/// A table in Postgres as a [`Target`].
///
/// All calls block on the given runtime, which must have threads of its own, and so must not come from its threads.
/// With `connections` above 1 the parts of an epoch become visible one after the other, within a moment of each other; a
/// repeat writes only the parts that are missing. A table with a unique index always gets one connection, as two
/// parts with the same key would wait for each other.
pub struct PostgresTarget {
    options: PostgresOptions,
    place: Place,
    writer: Writer,
    columns: Columns,
    ddl: String,
    runtime: Handle,
    state: Mutex<State>,
    /// Epochs since the last `ANALYZE`.
    unanalyzed: Mutex<u64>,
    /// What the last housekeeping found.
    advice: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Arc<Session>>,
    /// The transaction of the next epoch, if it was opened already; on the first session.
    ahead: Option<Ahead>,
    /// The session that takes turns with the first, while epochs follow each other without a pause.
    spare: Option<Arc<Session>>,
    /// When the last delivery ended.
    ended_at: Option<Instant>,
    /// An epoch too large to keep, in which a row was refused.
    careful: Option<Epoch>,
    /// What our claim wrote: no two are the same.
    claim: Option<String>,
}

impl PostgresTarget {
    /// Makes a target; no network. `app_id` tells two lives of one pipeline apart, `schema` is what the pipeline will deliver.
    /// Errors: as [`Columns::new`].
    pub fn new(options: PostgresOptions, app_id: &str, pipeline: &str, schema: SchemaRef, runtime: Handle) -> Result<Self> {
        let columns = Columns::new(&options, &schema)?;
        let ddl = table_ddl(&options, &schema)?;
        let place = Place::from(&options);
        let writer = Writer { app_id: app_id.to_owned(), pipeline: pipeline.to_owned(), sink: options.sink.clone() };
        Ok(Self { options, place, writer, columns, ddl, runtime, state: Mutex::default(), unanalyzed: Mutex::new(0), advice: Mutex::default() })
    }

    async fn session(&self) -> Result<Session> {
        Session::open(&self.options, &self.place, &self.writer.pipeline, &self.columns, &self.runtime).await
    }

    /// The first connection, opened if need be.
    async fn first(&self, state: &mut State) -> Result<Arc<Session>> {
        state.sessions.retain(|session| !session.client.is_closed());
        if state.sessions.is_empty() {
            state.sessions.push(Arc::new(self.session().await?));
        }
        Ok(Arc::clone(&state.sessions[0]))
    }

    async fn is_there(&self, client: &Client) -> Result<bool> {
        let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&qualified(&self.options)]).await.map_err(|cause| self.place.error(cause))?;
        ledger::get(&self.place, &row, 0)
    }

    /// The rows in the table, where all of them are ours to count. With retention, rows that are gone are not lost.
    async fn rows_now(&self, client: &Client) -> Result<Option<u64>> {
        if self.options.mode != Mode::Append || self.options.retention.is_some() || !self.is_there(client).await? {
            return Ok(None);
        }
        let row = client.query_one(&format!("SELECT count(*) FROM {}", qualified(&self.options)), &[]).await.map_err(|cause| self.place.error(cause))?;
        Ok(Some(ledger::get::<i64>(&self.place, &row, 0)? as u64))
    }

    async fn claim_now(&self, state: &mut State, generation: Generation) -> Result<Epoch> {
        *state = State::default();
        let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
        ledger::make(&client, &self.place).await?;
        // Fenced first: an older run changes no table.
        let claim = unlike_any_other();
        ledger::claim(&client, &self.place, &self.writer, generation, &claim).await?;
        let last = ledger::last_epoch(&client, &self.place, &self.writer).await?;
        // An empty table in its place would be taken for the whole one.
        if last > Epoch::ZERO && !self.is_there(&client).await? {
            return Err(gone(&self.place));
        }
        table::prepare(&client, &self.place, &self.options, &self.columns, &self.ddl).await?;
        state.claim = Some(claim);
        Ok(last)
    }

    async fn deliver_now(&self, state: &mut State, epoch: Epoch, generation: Generation, rows: &mut Rows<'_>) -> Result<Delivered> {
        let claim = state.claim.clone();
        let without_a_pause = state.ended_at.is_some_and(|at| at.elapsed() < PAUSE);
        let first = self.first(state).await?;
        let mut flight = match state.ahead.take() {
            Some(ahead) => ahead.arrive(epoch, &first).await,
            None => None,
        };
        if flight.is_some() && state.careful == Some(epoch) {
            // Savepoints need a transaction without an open COPY.
            flight = None;
            first.client.batch_execute("ROLLBACK").await.map_err(|cause| self.place.error(cause))?;
        }
        let mut parts = if first.unique { 1 } else { self.options.connections as i32 };
        let mut spare = None;
        if without_a_pause && parts == 1 {
            spare = match state.spare.take().filter(|session| !session.client.is_closed()) {
                Some(session) => Some(session),
                // Whatever keeps it from opening, the delivery itself says it.
                None => self.session().await.ok().map(Arc::new),
            };
        }
        // SUBTLE: a flight that does not arrive takes its session with it, since nobody knows when it will have given up.
        let mut next = None;
        // At most: as many as asked for, as many as an earlier run began with.
        for _ in 0..3 {
            while state.sessions.len() < parts as usize {
                state.sessions.push(Arc::new(self.session().await?));
            }
            let fold = self.options.prunes_in(epoch.0).then(|| (epoch.0 - self.options.keep_epochs) as i64);
            let job = Job { place: &self.place, writer: &self.writer, epoch, generation, claim: claim.as_deref(), parts, fold };
            let sessions = &state.sessions[..parts as usize];
            let leave = || next = spare.take().filter(|_| parts == 1).map(|spare| Ahead::leave(spare, &self.place, &self.writer, epoch.next(), &self.runtime));
            let quick = if state.careful == Some(epoch) { Err(None) } else { fast::deliver(job, sessions, rows, flight.take(), leave).await.map_err(Some) };
            let ending = match quick {
                Ok(ending) => ending,
                Err(Some(Fault::Failed(error))) => return Err(error),
                Err(blamed) => {
                    next = None;
                    if blamed.is_some() {
                        // Parts that did not end by themselves.
                        for session in sessions {
                            session.client.batch_execute("ROLLBACK").await.map_err(|cause| self.place.error(cause))?;
                        }
                        if !rows.rewind() {
                            state.careful = Some(epoch);
                            return Err(repeat_with_care(&self.place, epoch));
                        }
                    }
                    tracing::debug!(sink = self.place.sink, epoch = epoch.0, "a row was refused; the epoch is repeated with savepoints");
                    careful::deliver(job, sessions, rows).await.map_err(|fault| fault.into_error(&self.place))?
                }
            };
            match ending {
                Ending::Delivered(delivered) => {
                    state.careful = None;
                    state.spare = spare;
                    if let Some(ahead) = next {
                        state.spare = Some(std::mem::replace(&mut state.sessions[0], ahead.session()));
                        state.ahead = Some(ahead);
                    }
                    state.ended_at = Some(Instant::now());
                    return Ok(delivered);
                }
                Ending::Parts(other) => {
                    for session in &state.sessions {
                        session.client.batch_execute("ROLLBACK").await.map_err(|cause| self.place.error(cause))?;
                    }
                    parts = other;
                }
            }
        }
        Err(bad_ledger(&self.place, format!("epoch {epoch} changes under our hands")))
    }
}

/// A mark for a claim.
fn unlike_any_other() -> String {
    static CLAIMS: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{:x}-{nanos:x}-{:x}", std::process::id(), CLAIMS.fetch_add(1, Ordering::Relaxed))
}

impl Target for PostgresTarget {
    fn name(&self) -> &str {
        &self.place.sink
    }

    fn claim(&self, generation: Generation) -> Result<Epoch> {
        let mut state = self.state.lock();
        self.runtime.block_on(self.claim_now(&mut state, generation))
    }

    fn last_epoch(&self) -> Result<Epoch> {
        self.runtime.block_on(async {
            let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
            if ledger::there(&client, &self.place).await? { ledger::last_epoch(&client, &self.place, &self.writer).await } else { Ok(Epoch::ZERO) }
        })
    }

    fn deliver(&self, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        let mut state = self.state.lock();
        let mut rows = Rows::new(&self.place.sink, rows);
        let delivered = self.runtime.block_on(self.deliver_now(&mut state, epoch, generation, &mut rows));
        match &delivered {
            Ok(delivered) if !delivered.already_there => *self.unanalyzed.lock() += 1,
            Ok(_) => {}
            // Dropped connections roll back what they had open; the next call opens new ones.
            Err(_) => (state.sessions, state.spare, state.ahead) = (Vec::new(), None, None),
        }
        delivered
    }

    fn history(&self) -> Result<History> {
        self.runtime.block_on(async {
            let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
            if !ledger::there(&client, &self.place).await? {
                return Ok(History { complete: true, rows_now: self.rows_now(&client).await?, ..History::default() });
            }
            // One snapshot, so that lines that are being added up are seen once.
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(|cause| self.place.error(cause))?;
            let epochs = ledger::history(&client, &self.place, &self.writer).await?;
            let folded = ledger::totals(&client, &self.place, &self.writer).await?;
            if (!epochs.is_empty() || folded.epochs > 0) && !self.is_there(&client).await? {
                return Err(gone(&self.place));
            }
            let rows_now = self.rows_now(&client).await?;
            Ok(History { epochs, complete: true, rows_now, folded })
        })
    }

    fn recount(&self, epoch: Epoch) -> Result<Option<Recount>> {
        let landed = self.runtime.block_on(async {
            let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
            if ledger::there(&client, &self.place).await? { ledger::look(&client, &self.place, &self.writer, epoch).await } else { Ok(Vec::new()) }
        })?;
        Ok(whole(&landed).then(|| Recount { rows: landed.iter().map(|part| part.rows).sum() }))
    }

    fn maintain(&self) -> Result<()> {
        if let Some(kept) = &self.options.retention {
            self.runtime.block_on(async {
                let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
                retention::keep(&client, &self.place, &self.writer, &qualified(&self.options), kept).await
            })?;
        }
        let analyze = self.options.analyze_every > 0 && *self.unanalyzed.lock() >= self.options.analyze_every;
        let advice = self.runtime.block_on(maintain::keep_house(&self.options, &self.place, &self.writer.pipeline, &self.runtime, analyze))?;
        *self.advice.lock() = advice;
        if analyze {
            *self.unanalyzed.lock() = 0;
        }
        Ok(())
    }

    fn advice(&self) -> Option<String> {
        self.advice.lock().clone()
    }

    fn redrives_beside_a_run(&self) -> bool {
        true
    }

    fn redrive(&self, lost: &[Epoch], kept: &dyn KeptEpochs) -> Result<Redriven> {
        self.runtime.block_on(async {
            // A session of its own: what it leaves open ends with it.
            let client = connect(&self.options, &self.place, &self.writer.pipeline, &self.runtime).await?;
            ledger::make(&client, &self.place).await?;
            let session = self.session().await?;
            redrive::redrive(&self.place, &self.writer, &session, lost, kept).await
        })
    }
}
