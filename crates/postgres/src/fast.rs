//! An epoch of rows nobody objects to: two flights per connection, whatever the distance.

use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use watershed_ports::{Delivered, RefusedRow};
use watershed_types::{Certainty, Result};

use crate::encode::Encoder;
use crate::error::Fault;
use crate::ledger::{Landed, whole};
use crate::rows::{Rows, dealt};
use crate::session::Session;
use crate::transaction::{Begun, Flight, Job, Part};

/// How a delivery ended, if not by an error.
pub(crate) enum Ending {
    Delivered(Delivered),
    /// The epoch was begun with another number of connections, and has to be ended with that.
    Parts(i32),
}

/// The transactions of an epoch that are still to be made, and what is there of the others.
pub(crate) struct Opened<'a> {
    pub open: Vec<Part<'a>>,
    pub there: Vec<Landed>,
}

impl Opened<'_> {
    pub fn already_there(&self) -> bool {
        self.open.is_empty() && whole(&self.there)
    }
    /// The refusals of parts that are there.
    pub fn refused(&self) -> Vec<RefusedRow> {
        self.there.iter().flat_map(|part| part.refused.iter().cloned()).collect()
    }
}

/// Begins all parts at once, the first one with the flight that came back `ahead`. `Err` in the result: the number of parts is another one.
pub(crate) async fn open<'a>(job: Job<'a>, sessions: &'a [Arc<Session>], copy: bool, mut ahead: Option<Flight>) -> Result<Result<Opened<'a>, i32>, Fault> {
    let begun = try_join_all(sessions.iter().enumerate().map(|(part, session)| Part::begin(job, session, part as i32, copy, ahead.take()))).await?;
    let mut opened = Opened { open: Vec::new(), there: Vec::new() };
    for (index, begun) in begun.into_iter().enumerate() {
        match begun {
            Begun::Open(part) => opened.open.push(part),
            Begun::There(found) => {
                if let Some(other) = found.iter().find(|part| part.parts != job.parts) {
                    return Ok(Err(other.parts));
                }
                opened.there.extend(found.into_iter().filter(|part| part.part == index as i32));
            }
        }
    }
    Ok(Ok(opened))
}

/// Delivers without savepoints; `opened_up` is called when the fence is held. A row the server blames ends it with [`Fault::Row`].
pub(crate) async fn deliver(job: Job<'_>, sessions: &[Arc<Session>], rows: &mut Rows<'_>, ahead: Option<Flight>, mut opened_up: impl FnMut()) -> Result<Ending, Fault> {
    let mut opened = match open(job, sessions, true, ahead).await? {
        Ok(opened) => opened,
        Err(parts) => return Ok(Ending::Parts(parts)),
    };
    let mut refused = opened.refused();
    if opened.already_there() {
        return Ok(Ending::Delivered(Delivered { already_there: true, refused: sorted(refused) }));
    }
    opened_up();
    let columns = &sessions[0].columns;
    while let Some((first, batch)) = rows.next()? {
        let encoder = Encoder::new(&job.writer.sink, columns, &batch)?;
        for part in &mut opened.open {
            for row in dealt(first, batch.num_rows(), part.part as u64, job.parts as u64).flatten() {
                part.put(&encoder, row, first + row as u64).await?;
            }
        }
    }
    refused.extend(commit(opened.open, true).await?);
    Ok(Ending::Delivered(Delivered { already_there: false, refused: sorted(refused) }))
}

/// Commits all parts at once. Of several errors the one that is least sure is given.
pub(crate) async fn commit(open: Vec<Part<'_>>, merge: bool) -> Result<Vec<RefusedRow>, Fault> {
    let mut refused = Vec::new();
    let mut fault: Option<Fault> = None;
    for result in join_all(open.into_iter().map(|part| part.commit(merge))).await {
        match (result, &fault) {
            (Ok(rows), _) => refused.extend(rows),
            (Err(Fault::Failed(error)), None | Some(Fault::Row(_))) => fault = Some(Fault::Failed(error)),
            (Err(Fault::Failed(error)), _) if error.certainty() == Some(Certainty::Indefinite) => fault = Some(Fault::Failed(error)),
            (Err(row), None) => fault = Some(row),
            _ => {}
        }
    }
    fault.map_or(Ok(refused), Err)
}

pub(crate) fn sorted(mut refused: Vec<RefusedRow>) -> Vec<RefusedRow> {
    refused.sort_by_key(|row| row.row);
    refused
}
