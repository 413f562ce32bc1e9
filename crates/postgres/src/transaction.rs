//! One transaction: an epoch, or one part of it.
//!
//! **Owns** the order of the statements and the two flights they go in. **Does not own** which rows go in, or retries.
//!
//! tokio-postgres sends a statement when its future is first polled, so statements joined go out in the order they are
//! written here, without waiting for each other's answers.

use std::pin::Pin;

use bytes::Bytes;
use futures::{SinkExt as _, join};
use tokio_postgres::CopyInSink;
use tokio_postgres::types::ToSql;
use watershed_ports::RefusedRow;
use watershed_types::failpoint::reach;
use watershed_types::{Epoch, Generation};

use crate::encode::{Encoder, SIGNATURE, TRAILER};
use crate::error::{Fault, Moment, Place, changed, fenced, twin, unclaimed};
use crate::ledger::{Landed, Writer, get, landed};
use crate::session::Session;

/// Size of a `CopyData` frame: a few system calls per megabyte, and still in the processor's cache when it is sent.
const FRAME: usize = 128 << 10;

type Params<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

/// What all transactions of an epoch have in common.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub place: &'a Place,
    pub writer: &'a Writer,
    pub epoch: Epoch,
    pub generation: Generation,
    /// What our own claim wrote; `None` if we have made none.
    pub claim: Option<&'a str>,
    pub parts: i32,
    /// Lines of epochs up to this one are added up in this transaction.
    pub fold: Option<i64>,
}

/// An open transaction.
pub(crate) struct Part<'a> {
    pub job: Job<'a>,
    pub session: &'a Session,
    pub part: i32,
    copy: Option<Copy>,
    /// Rows taken so far.
    pub rows: u64,
    pub refused: Vec<RefusedRow>,
    pub deletes: bool,
}

struct Copy {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    frame: Vec<u8>,
}

impl Copy {
    fn new(sink: CopyInSink<Bytes>) -> Self {
        let mut frame = Vec::with_capacity(FRAME + 4096);
        frame.extend_from_slice(SIGNATURE);
        Self { sink: Box::pin(sink), frame }
    }
    async fn send(&mut self) -> Result<(), tokio_postgres::Error> {
        let frame = std::mem::replace(&mut self.frame, Vec::with_capacity(FRAME + 4096));
        self.sink.feed(Bytes::from(frame)).await
    }
}

/// What the first flight brought. The transaction is open, and the `COPY` if it was asked for.
pub(crate) struct Flight {
    /// Generation and claim of the owner.
    owner: Option<(i64, Option<String>)>,
    found: Vec<Landed>,
    shape: String,
    copy: Option<Copy>,
}

/// The first flight. Several parts look only for their own.
pub(crate) async fn fly(session: &Session, place: &Place, writer: &Writer, epoch: Epoch, parts: i32, copy: bool) -> Result<Flight, Fault> {
    let (client, ledger) = (&session.client, &session.ledger);
    let (app_id, sink, epoch) = (&writer.app_id, &writer.sink, epoch.0 as i64);
    let fence = if parts == 1 { &ledger.fence } else { &ledger.fence_shared };
    let fence_params: Params<'_, 2> = [app_id, sink];
    let look_params: Params<'_, 3> = [app_id, sink, &epoch];
    let shape_params: Params<'_, 2> = [&session.table, &session.names];
    let (begun, owner, found, shape, opened) = join!(
        client.batch_execute(&session.begin),
        client.query_opt(fence, &fence_params),
        client.query(&ledger.look, &look_params),
        client.query_one(&session.shape, &shape_params),
        async { if copy { Some(client.copy_in::<_, Bytes>(&session.copy).await) } else { None } },
    );
    let judge = |cause| place.judge(cause, Moment::Before);
    begun.map_err(judge)?;
    let owner = owner.map_err(judge)?.map(|row| Ok::<_, watershed_types::Error>((get(place, &row, 0)?, get(place, &row, 1)?))).transpose()?;
    let found = landed(place, &found.map_err(judge)?)?;
    let shape = get(place, &shape.map_err(judge)?, 0)?;
    Ok(Flight { owner, found, shape, copy: opened.transpose().map_err(judge)?.map(Copy::new) })
}

/// What a transaction found when it began.
pub(crate) enum Begun<'a> {
    /// It may write.
    Open(Part<'a>),
    /// The epoch, or parts of it, are there; the transaction is closed.
    There(Vec<Landed>),
}

impl<'a> Part<'a> {
    /// Begins, unless the first flight came back `ahead`. With `copy` the rows may follow at once.
    pub async fn begin(job: Job<'a>, session: &'a Session, part: i32, copy: bool, ahead: Option<Flight>) -> Result<Begun<'a>, Fault> {
        let place = job.place;
        let flight = match ahead {
            Some(flight) => flight,
            None => fly(session, place, job.writer, job.epoch, job.parts, copy).await?,
        };
        let Some((owner, claim)) = flight.owner else { return Err(unclaimed(place).into()) };
        if owner > job.generation.0 as i64 {
            return Err(fenced(place, job.generation, owner).into()); // I2
        }
        if job.claim.is_some() && claim.as_deref() != job.claim {
            return Err(twin(place, job.generation).into()); // I2
        }
        if flight.found.iter().any(|there| job.parts != there.parts || there.part == part) {
            drop(flight.copy);
            session.client.batch_execute("ROLLBACK").await.map_err(|cause| place.judge(cause, Moment::Before))?;
            return Ok(Begun::There(flight.found));
        }
        if flight.shape != session.shape_seen {
            return Err(changed(place, "a column was dropped, altered or made NOT NULL").into()); // I3
        }
        Ok(Begun::Open(Self { job, session, part, copy: flight.copy, rows: 0, refused: Vec::new(), deletes: false }))
    }

    /// Appends a row to the open `COPY`. A row refused here is put down and done with.
    pub async fn put(&mut self, encoder: &Encoder<'_>, row: usize, ordinal: u64) -> Result<(), Fault> {
        let staged = self.session.merge.is_some();
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let put = if staged { encoder.put_staged(row, ordinal, &mut copy.frame) } else { encoder.put(row, &mut copy.frame) };
        match put {
            Ok(()) => {
                self.rows += 1;
                self.deletes |= encoder.deletes(row);
            }
            Err(refusal) => self.refused.push(RefusedRow { row: ordinal, detail: refusal.detail() }),
        }
        if copy.frame.len() < FRAME {
            return Ok(());
        }
        copy.send().await.map_err(|cause| self.job.place.judge(cause, Moment::Before))
    }

    /// The last flight: the rest of the rows, the merge, the line in the ledger, the commit.
    pub async fn commit(mut self, merge: bool) -> Result<Vec<RefusedRow>, Fault> {
        let (client, writer, job) = (&self.session.client, &self.job.writer, &self.job);
        self.refused.sort_by_key(|row| row.row);
        let refused = serde_json::to_string(&self.refused).unwrap_or_else(|_| "[]".to_owned());
        let (epoch, generation, rows) = (job.epoch.0 as i64, job.generation.0 as i64, self.rows as i64);
        let merging = self.session.merge.as_ref().filter(|_| merge);
        let deletes = self.deletes;
        // One part does it for all.
        let fold = job.fold.filter(|_| self.part == 0);
        let folded_to = fold.unwrap_or_default();
        let folding: Params<'_, 4> = [&writer.app_id, &writer.sink, &writer.pipeline, &folded_to];
        reach("postgres_sent");
        let line: Params<'_, 9> = [&writer.app_id, &writer.pipeline, &writer.sink, &epoch, &self.part, &job.parts, &generation, &rows, &refused];
        let copy = &mut self.copy;
        let (copied, deleted, merged, recorded, folded, (), committed) = join!(
            async {
                match copy {
                    Some(copy) => {
                        copy.frame.extend_from_slice(TRAILER);
                        copy.send().await?;
                        copy.sink.as_mut().finish().await.map(|_| ())
                    }
                    None => Ok(()),
                }
            },
            async {
                if let Some(merge) = merging
                    && deletes
                {
                    client.execute(&merge.delete, &[]).await.map(|_| ())
                } else {
                    Ok(())
                }
            },
            async { if let Some(merge) = merging { client.execute(&merge.upsert, &[]).await.map(|_| ()) } else { Ok(()) } },
            client.execute(&self.session.ledger.record, &line),
            async { if fold.is_some() { client.execute(&self.session.ledger.fold, &folding).await.map(|_| ()) } else { Ok(()) } },
            // All before it has been handed to the connection, and the commit has not.
            async { reach("postgres_marked") },
            client.batch_execute("COMMIT"),
        );
        // The first that failed is the cause; the others fail because of it.
        for result in [copied, deleted, merged] {
            result.map_err(|cause| job.place.judge(cause, Moment::Commit))?;
        }
        if let Err(cause) = recorded {
            // A broken key here is another transaction with the same epoch (I1), never a row's fault.
            return Err(Fault::Failed(job.place.judge(cause, Moment::Commit).into_error(job.place)));
        }
        folded.map_err(|cause| job.place.judge(cause, Moment::Commit))?;
        // A deferred constraint speaks now.
        committed.map_err(|cause| job.place.judge(cause, Moment::Commit))?;
        reach("postgres_committed");
        Ok(self.refused)
    }

    /// Copies some rows of a batch under a savepoint: all of them or none.
    pub async fn probe(&mut self, encoder: &Encoder<'_>, rows: &[(u64, usize)]) -> Result<(), Fault> {
        let (client, place) = (&self.session.client, self.job.place);
        let judge = |cause| place.judge(cause, Moment::Before);
        let (saved, opened) = join!(client.batch_execute("SAVEPOINT watershed"), client.copy_in::<_, Bytes>(&self.session.copy));
        saved.map_err(judge)?;
        let before = (self.rows, self.deletes, self.refused.len());
        self.copy = Some(Copy::new(opened.map_err(judge)?));
        for (ordinal, row) in rows {
            self.put(encoder, *row, *ordinal).await?;
        }
        let Some(mut copy) = self.copy.take() else { return Ok(()) };
        copy.frame.extend_from_slice(TRAILER);
        copy.send().await.map_err(judge)?;
        let (copied, released) = join!(async { copy.sink.as_mut().finish().await }, client.batch_execute("RELEASE watershed"));
        let Err(cause) = copied else { return released.map_err(judge) };
        let fault = judge(cause);
        if let Fault::Row(_) = &fault {
            (self.rows, self.deletes) = (before.0, before.1);
            self.refused.truncate(before.2);
            client.batch_execute("ROLLBACK TO watershed; RELEASE watershed").await.map_err(judge)?;
        }
        Err(fault)
    }
}
