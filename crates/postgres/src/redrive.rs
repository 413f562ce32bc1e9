//! Epochs that the target has lost, given back beside a run that may be at work.
//!
//! **Owns** that one transaction. **Does not own** finding out what is lost, or the rows.
//!
//! I1: the transaction holds the fence like any delivery, and goes in under the owner's generation: it waits for a delivery
//! under way, the next one waits for it, and nobody loses the claim.
//! I2: a line that is there is neither written nor changed, so a repeat changes nothing.
//! I3: where the last row of a key wins, the rows of all epochs from the first lost one on are staged in the order of the
//! stream and merged once: a key has the value of its newest epoch, as if nothing had been lost.
//! I4: rows that were refused then stay out: they may have come again with a replay.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::SinkExt as _;
use tokio_postgres::types::ToSql;
use watershed_ports::{KeptEpochs, Redriven, RefusedRow};
use watershed_types::{Epoch, Error, Result};

use crate::encode::{Encoder, SIGNATURE, TRAILER};
use crate::error::{Fault, Moment, Place, changed, refused_now, unclaimed};
use crate::ledger::{self, Landed, Writer, get, whole};
use crate::rows::{Rows, dealt, part_of};
use crate::session::Session;

const FRAME: usize = 128 << 10;
const HELD: &str = "SELECT DISTINCT epoch FROM watershed.epochs WHERE app_id = $1 AND sink = $2 AND epoch >= $3";

/// A line that is missing, and what goes with it.
struct Line {
    epoch: Epoch,
    part: i32,
    parts: i32,
    rows: u64,
    refused: Vec<RefusedRow>,
}

/// Gives back the epochs. The session is used up: after an error it must be dropped.
pub(crate) async fn redrive(place: &Place, writer: &Writer, session: &Session, lost: &[Epoch], kept: &dyn KeptEpochs) -> Result<Redriven> {
    let mut redriven = Redriven::default();
    let Some(first) = lost.iter().min() else { return Ok(redriven) };
    let client = &session.client;
    let failed = |cause| place.error(cause);
    client.batch_execute(&session.begin).await.map_err(failed)?;
    let owner = client.query_opt(&session.ledger.fence, &[&writer.app_id, &writer.sink]).await.map_err(failed)?;
    let generation: i64 = get(place, &owner.ok_or_else(|| unclaimed(place))?, 0)?; // I1
    let shape = client.query_one(&session.shape, &[&session.table, &session.names]).await.map_err(failed)?;
    if get::<String>(place, &shape, 0)? != session.shape_seen {
        return Err(changed(place, "a column was dropped, altered or made NOT NULL"));
    }
    let held = client.query(HELD, &[&writer.app_id, &writer.sink, &(first.0 as i64)]).await.map_err(failed)?;
    let mut held: BTreeSet<u64> = held.iter().map(|row| get::<i64>(place, row, 0).map(|epoch| epoch as u64)).collect::<Result<_>>()?;
    held.extend(lost.iter().map(|epoch| epoch.0));

    let upserts = session.merge.is_some();
    let (mut lines, mut ordinal, mut deletes) = (Vec::new(), 0, false);
    for epoch in held.into_iter().map(Epoch) {
        let found = ledger::look(client, place, writer, epoch).await?;
        let there = whole(&found);
        // One that is there is gone through again for its keys alone; one that is half there and was not asked for is on its way.
        if (there && !upserts) || (!there && !lost.contains(&epoch)) {
            continue;
        }
        let refused = if there { found.iter().flat_map(|part| part.refused.clone()).collect() } else { kept.refused(epoch)? };
        let mut wanted = if there { vec![Line::new(epoch, 0, 1)] } else { missing(epoch, &found) };
        let skip: BTreeSet<u64> = refused.iter().map(|row| row.row).collect(); // I4
        let (rows, deleting) = copy(place, writer, session, &mut wanted, &skip, ordinal, kept).await?;
        (ordinal, deletes) = (ordinal + rows, deletes | deleting);
        if there {
            redriven.again.push(epoch.0);
            continue;
        }
        for line in &mut wanted {
            line.refused = refused.iter().filter(|row| part_of(row.row, line.parts as u64) == line.part as u64).cloned().collect();
        }
        redriven.epochs.insert(epoch.0, found.iter().map(|part| part.rows).chain(wanted.iter().map(|line| line.rows)).sum());
        lines.extend(wanted);
    }
    if lines.is_empty() {
        client.batch_execute("ROLLBACK").await.map_err(failed)?;
        return Ok(Redriven::default());
    }
    if let Some(merge) = &session.merge {
        if deletes {
            client.execute(&merge.delete, &[]).await.map_err(|cause| refused_or_failed(place, *first, cause))?;
        }
        client.execute(&merge.upsert, &[]).await.map_err(|cause| refused_or_failed(place, *first, cause))?;
    }
    for line in &lines {
        let (epoch, rows) = (line.epoch.0 as i64, line.rows as i64);
        let refused = serde_json::to_string(&line.refused).unwrap_or_else(|_| "[]".to_owned());
        let values: [&(dyn ToSql + Sync); 9] = [&writer.app_id, &writer.pipeline, &writer.sink, &epoch, &line.part, &line.parts, &generation, &rows, &refused];
        client.execute(&session.ledger.record, &values).await.map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(|cause| match place.judge(cause, Moment::Commit) {
        Fault::Row(blame) => refused_now(place, *first, &blame.detail),
        Fault::Failed(error) => error,
    })?;
    Ok(redriven)
}

impl Line {
    fn new(epoch: Epoch, part: i32, parts: i32) -> Self {
        Self { epoch, part, parts, rows: 0, refused: Vec::new() }
    }
}

/// The lines an epoch lacks: one, or the parts that are not there.
fn missing(epoch: Epoch, found: &[Landed]) -> Vec<Line> {
    let parts = found.first().map_or(1, |part| part.parts);
    (0..parts).filter(|part| found.iter().all(|there| there.part != *part)).map(|part| Line::new(epoch, part, parts)).collect()
}

/// Copies an epoch's rows, but those to skip, and counts them by line. Returns how many rows the epoch has, and whether any deletes.
async fn copy(place: &Place, writer: &Writer, session: &Session, lines: &mut [Line], skip: &BTreeSet<u64>, offset: u64, kept: &dyn KeptEpochs) -> Result<(u64, bool)> {
    let Some(epoch) = lines.first().map(|line| line.epoch) else { return Ok((0, false)) };
    let refused = |cause| refused_or_failed(place, epoch, cause);
    let mut given = kept.rows(epoch)?;
    let mut rows = Rows::new(&writer.sink, given.as_mut());
    let mut sink = Box::pin(session.client.copy_in::<_, Bytes>(&session.copy).await.map_err(refused)?);
    let mut frame = SIGNATURE.to_vec();
    let (mut count, mut deletes) = (0, false);
    while let Some((first, batch)) = rows.next()? {
        count = first + batch.num_rows() as u64;
        let encoder = Encoder::new(&writer.sink, &session.columns, &batch)?;
        for line in &mut *lines {
            for row in dealt(first, batch.num_rows(), line.part as u64, line.parts as u64).flatten() {
                let ordinal = first + row as u64;
                if skip.contains(&ordinal) {
                    continue;
                }
                let put = if session.merge.is_some() { encoder.put_staged(row, offset + ordinal, &mut frame) } else { encoder.put(row, &mut frame) }; // I3
                put.map_err(|refusal| refused_now(place, epoch, &refusal.detail()))?;
                (line.rows, deletes) = (line.rows + 1, deletes | encoder.deletes(row));
                if frame.len() >= FRAME {
                    sink.as_mut().feed(Bytes::from(std::mem::take(&mut frame))).await.map_err(refused)?;
                }
            }
        }
    }
    frame.extend_from_slice(TRAILER);
    sink.as_mut().feed(Bytes::from(frame)).await.map_err(refused)?;
    sink.as_mut().finish().await.map_err(refused)?;
    Ok((count, deletes))
}

/// A row that was taken then and is refused now is a matter for a person.
fn refused_or_failed(place: &Place, epoch: Epoch, cause: tokio_postgres::Error) -> Error {
    match place.judge(cause, Moment::Before) {
        Fault::Row(blame) => refused_now(place, epoch, &blame.detail),
        Fault::Failed(error) => error,
    }
}
