//! An epoch with rows the server objects to: savepoints find them, the others land.
//!
//! **Owns** the search. **Does not own** the verdict whether a row is to blame: that is [`crate::error`].
//!
//! A row is refused only after the server refused it alone, with all rows before it in place. Where the server says the
//! line of the `COPY`, the search starts there; otherwise it halves.

use std::ops::Range;
use std::sync::Arc;

use futures::join;
use tokio_postgres::types::ToSql;
use watershed_ports::{Delivered, RefusedRow};
use watershed_types::Result;

use crate::encode::Encoder;
use crate::error::{Blame, Fault, Moment};
use crate::fast::{Ending, commit, open, sorted};
use crate::rows::{Rows, dealt};
use crate::session::Session;
use crate::transaction::{Job, Part};

/// Delivers with savepoints.
pub(crate) async fn deliver(job: Job<'_>, sessions: &[Arc<Session>], rows: &mut Rows<'_>) -> Result<Ending, Fault> {
    let mut opened = match open(job, sessions, false, None).await? {
        Ok(opened) => opened,
        Err(parts) => return Ok(Ending::Parts(parts)),
    };
    let mut refused = opened.refused();
    if opened.already_there() {
        return Ok(Ending::Delivered(Delivered { already_there: true, refused: sorted(refused) }));
    }
    for part in &opened.open {
        // A deferred constraint would speak at the commit, when it is too late to ask which row.
        part.session.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(|cause| job.place.judge(cause, Moment::Before))?;
    }
    let columns = &sessions[0].columns;
    while let Some((first, batch)) = rows.next()? {
        let encoder = Encoder::new(&job.writer.sink, columns, &batch)?;
        for part in &mut opened.open {
            let rows: Vec<(u64, usize)> = dealt(first, batch.num_rows(), part.part as u64, job.parts as u64).flatten().map(|row| (first + row as u64, row)).collect();
            copy(part, &encoder, &rows).await?;
        }
    }
    for part in &mut opened.open {
        if part.session.merge.is_some() {
            merge(part).await?;
        }
    }
    refused.extend(commit(opened.open, false).await?);
    Ok(Ending::Delivered(Delivered { already_there: false, refused: sorted(refused) }))
}

/// Pieces of a range in which one row is to blame, last first, each smaller than the whole.
fn split(range: &Range<usize>, blame: &Blame) -> Vec<Range<usize>> {
    let line = blame.line.and_then(|line| usize::try_from(line).ok()).filter(|line| (1..=range.len()).contains(line));
    match line {
        Some(line) => {
            let row = range.start + line - 1;
            vec![row + 1..range.end, row..row + 1, range.start..row]
        }
        None => {
            let middle = range.start + range.len() / 2;
            vec![middle..range.end, range.start..middle]
        }
    }
}

/// Copies rows, all but those the server refuses alone.
async fn copy(part: &mut Part<'_>, encoder: &Encoder<'_>, rows: &[(u64, usize)]) -> Result<(), Fault> {
    // What the encoder refuses is not copied, and would shift the lines the server counts.
    let mut sendable = Vec::with_capacity(rows.len());
    let mut scratch = Vec::new();
    for (ordinal, row) in rows {
        scratch.clear();
        match encoder.put(*row, &mut scratch) {
            Ok(()) => sendable.push((*ordinal, *row)),
            Err(refusal) => part.refused.push(RefusedRow { row: *ordinal, detail: refusal.detail() }),
        }
    }
    let whole = 0..sendable.len();
    let mut pieces = vec![whole];
    while let Some(piece) = pieces.pop() {
        if piece.is_empty() {
            continue;
        }
        match part.probe(encoder, &sendable[piece.clone()]).await {
            Ok(()) => {}
            Err(Fault::Row(blame)) if piece.len() == 1 => part.refused.push(RefusedRow { row: sendable[piece.start].0, detail: blame.detail }),
            Err(Fault::Row(blame)) => pieces.extend(split(&piece, &blame)),
            Err(failed) => return Err(failed),
        }
    }
    Ok(())
}

/// Merges the stage, all but the rows the server refuses alone. A refused row makes room for the one before it of its key,
/// so it goes in rounds; each but the last takes a row off the stage.
async fn merge(part: &mut Part<'_>) -> Result<(), Fault> {
    let (client, place) = (&part.session.client, part.job.place);
    let Some(merge) = &part.session.merge else { return Ok(()) };
    let judge = |cause| place.judge(cause, Moment::Before);
    loop {
        client.batch_execute(&merge.make_winners).await.map_err(judge)?;
        let winners: Vec<i64> = client.query(&merge.list_winners, &[]).await.map_err(judge)?.iter().filter_map(|row| row.try_get(0).ok()).collect();
        // Prepared anew: the table of the winners is another one in every round.
        let (delete, upsert) = join!(client.prepare(&merge.delete_range), client.prepare(&merge.upsert_range));
        let (delete, upsert) = (delete.map_err(judge)?, upsert.map_err(judge)?);
        let mut refused = 0;
        let whole = 0..winners.len();
        let mut pieces = vec![whole];
        while let Some(piece) = pieces.pop() {
            if piece.is_empty() {
                continue;
            }
            let (from, to) = (winners[piece.start], winners[piece.end - 1]);
            let range: [&(dyn ToSql + Sync); 2] = [&from, &to];
            let (saved, deleted, merged, released) =
                join!(client.batch_execute("SAVEPOINT watershed"), client.execute(&delete, &range), client.execute(&upsert, &range), client.batch_execute("RELEASE watershed"),);
            saved.map_err(judge)?;
            let Err(cause) = deleted.and(merged) else {
                released.map_err(judge)?;
                continue;
            };
            let blame = match judge(cause) {
                Fault::Row(blame) => blame,
                failed => return Err(failed),
            };
            client.batch_execute("ROLLBACK TO watershed; RELEASE watershed").await.map_err(judge)?;
            if piece.len() > 1 {
                pieces.extend(split(&piece, &Blame { line: None, ..blame }));
                continue;
            }
            client.execute(&merge.forget, &[&from]).await.map_err(judge)?;
            part.refused.push(RefusedRow { row: from as u64, detail: blame.detail });
            part.rows = part.rows.saturating_sub(1);
            refused += 1;
        }
        if refused == 0 {
            return Ok(());
        }
    }
}
