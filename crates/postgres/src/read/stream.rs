//! The rows of one statement, as batches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use openssl::ssl::{SslConnector, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::{Client, RowStream};
use watershed_types::{Error, Result};

use super::PostgresReader;
use super::column::ReadColumn;
use super::decode::Decoder;

/// Rows of a batch.
const ROWS: usize = 8_192;

/// A statement under way. Dropped before its end, it tells the server to stop.
struct Running {
    reader: Arc<PostgresReader>,
    client: Option<Client>,
    rows: std::pin::Pin<Box<RowStream>>,
    decoder: Decoder,
}

impl Running {
    async fn start(reader: Arc<PostgresReader>, sql: &str, columns: Vec<ReadColumn>) -> Result<Running> {
        let client = reader.client().await?;
        let rows = client.query_raw::<_, &str, _>(sql, []).await.map_err(|cause| reader.failed(cause))?;
        Ok(Running { reader, client: Some(client), rows: Box::pin(rows), decoder: Decoder::new(columns) })
    }

    /// The next batch; `None` after the last.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.client.is_some() && self.decoder.rows() < ROWS {
            match self.rows.next().await {
                Some(row) => self.decoder.put(self.reader.table_name(), &row.map_err(|cause| self.reader.failed(cause))?)?,
                None => self.client.take().into_iter().for_each(|client| self.reader.give_back(client)),
            }
        }
        if self.decoder.rows() == 0 { Ok(None) } else { self.decoder.batch().map(Some) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(client) = self.client.take().filter(|client| !client.is_closed()) else { return };
        let token = client.cancel_token();
        self.reader.runtime.spawn(async move {
            let Ok(tls) = SslConnector::builder(SslMethod::tls()) else { return };
            // Best effort: a statement that is not told ends when its connection does.
            let told = token.cancel_query(MakeTlsConnector::new(tls.build())).await;
            tracing::debug!(?told, "a read was given up");
            drop(client);
        });
    }
}

/// Runs a statement when it is first polled.
pub(super) fn run(reader: Arc<PostgresReader>, sql: String, columns: Vec<ReadColumn>, schema: SchemaRef) -> SendableRecordBatchStream {
    let outside = |error: Error| DataFusionError::External(Box::new(error));
    let batches = stream::once(async move {
        let running = Running::start(reader, &sql, columns).await.map_err(outside)?;
        Ok::<_, DataFusionError>(stream::try_unfold(running, move |mut running| async move {
            let next = running.next().await.map_err(outside)?;
            Ok(next.map(|batch| (batch, running)))
        }))
    })
    .try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}
