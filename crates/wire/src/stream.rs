//! Rows on their way to a client, until it has enough, cancels, or takes too long.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::{Stream, StreamExt};
use tokio::sync::watch;

use crate::database::Database;
use crate::error::{timed_out, worded};
use crate::rows::RowWriter;

/// What ends a statement early.
pub(crate) struct Limits {
    deadline: Option<Instant>,
    cancels: watch::Receiver<u64>,
}

impl Limits {
    /// From now on.
    pub fn new(timeout: Option<Duration>, cancels: watch::Receiver<u64>) -> Limits {
        Limits { deadline: timeout.and_then(|t| Instant::now().checked_add(t)), cancels }
    }

    /// Waits for something, not for too long.
    pub async fn within<T>(&mut self, work: impl Future<Output = T>) -> PgWireResult<T> {
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let cancelled = async {
            if self.cancels.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Err(PgWireError::QueryCanceled),
            () = late => Err(timed_out()),
            done = work => Ok(done),
        }
    }
}

struct Reading {
    batches: SendableRecordBatchStream,
    writer: RowWriter,
    batch: Option<(RecordBatch, usize)>,
    limits: Limits,
    database: Arc<dyn Database>,
    sql: String,
}

/// An answer: its columns, and its rows as they come.
pub(crate) fn answer(batches: SendableRecordBatchStream, fields: Vec<FieldInfo>, limits: Limits, database: Arc<dyn Database>, sql: String) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(fields);
    let writer = RowWriter::new(&batches.schema(), Arc::clone(&fields))?;
    Ok(QueryResponse::new(fields, rows(Reading { batches, writer, batch: None, limits, database, sql })))
}

fn rows(reading: Reading) -> impl Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    futures::stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(row)) => Some((Ok(row), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .fuse()
}

impl Reading {
    async fn next(&mut self) -> PgWireResult<Option<DataRow>> {
        loop {
            if let Some((batch, row)) = &mut self.batch
                && *row < batch.num_rows()
            {
                *row += 1;
                return self.writer.row(batch, *row - 1).map(Some);
            }
            match self.limits.within(self.batches.next()).await? {
                None => return Ok(None),
                Some(Ok(batch)) => self.batch = Some((batch, 0)),
                Some(Err(error)) => return Err(worded(&self.database.explain(error, &self.sql).await)),
            }
        }
    }
}
