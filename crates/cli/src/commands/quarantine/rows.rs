//! Finding quarantined rows.

use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use tokio::runtime::Runtime;
use watershed_engine::run::{encode_hex, pending_requests};
use watershed_protocol::Replayed;
use watershed_types::{Error, Result, near_miss};

use crate::arguments::QuarantineFilter;
use crate::commands::query::answer;
use crate::project::Project;
use crate::system;

const REASONS: [&str; 5] = ["corrupt", "schema", "violation", "late", "sink"];

/// One quarantined row.
#[derive(Debug, Clone)]
pub struct Row {
    pub epoch: u64,
    pub table: String,
    pub source: String,
    pub partition: String,
    pub position: String,
    pub reason: String,
    pub detail: String,
    pub raw: Vec<u8>,
    pub replayed: bool,
}

impl Row {
    /// As requests name it.
    pub fn named(&self) -> Replayed {
        Replayed {
            epoch: self.epoch,
            table_name: self.table.clone(),
            source: self.source.clone(),
            partition: self.partition.clone(),
            position: self.position.clone(),
            raw: encode_hex(&self.raw),
        }
    }
}

type Key = (u64, String, String, String, String);

/// The rows that a filter lets through, oldest first.
pub fn find(project: &Project, runtime: &Runtime, filter: &QuarantineFilter) -> Result<Vec<Row>> {
    if let Some(reason) = &filter.reason
        && !REASONS.contains(&reason.as_str())
    {
        let near = near_miss(reason, REASONS).map(|near| format!("Did you mean {near}? ")).unwrap_or_default();
        return Err(Error::invalid("CLI0080", format!("there is no reason \"{reason}\"")).hint(format!("{near}Reasons: {}.", REASONS.join(", "))));
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let conditions: Vec<String> = [
        filter.table.as_ref().map(|t| format!("table_name = {}", quoted(t))),
        filter.reason.as_ref().map(|r| format!("reason = {}", quoted(r))),
        filter.epoch.map(|e| format!("epoch = {e}")),
        filter.position.as_ref().map(|p| format!("position = {}", quoted(p))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let text = |name: &str| format!("arrow_cast({name}, 'Utf8')");
    let columns: Vec<String> = ["table_name", "source", "partition", "position", "reason", "detail"].iter().map(|name| text(name)).collect();
    let sql = format!(
        "SELECT epoch, {}, arrow_cast(raw, 'Binary') FROM system.quarantine WHERE {condition} ORDER BY epoch, table_name, partition, length(position), position",
        columns.join(", ")
    );
    let context = system::context(project, runtime.handle())?;
    let (_, batches) = runtime
        .block_on(answer(&context, &sql))
        .map_err(|e| Error::unavailable("CLI0081", "the quarantine cannot be read").hint("Run `watershed verify` to see what is wrong.").caused_by(e))?;
    let replayed = sent_before(project)?;
    let mut rows = Vec::new();
    for batch in &batches {
        let value = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        let (epochs, raw) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(7).as_binary::<i32>());
        for index in 0..batch.num_rows() {
            let mut row = Row {
                epoch: epochs.value(index) as u64,
                table: value(1, index),
                source: value(2, index),
                partition: value(3, index),
                position: value(4, index),
                reason: value(5, index),
                detail: value(6, index),
                raw: if raw.is_null(index) { vec![] } else { raw.value(index).to_vec() },
                replayed: false,
            };
            row.replayed = replayed.contains(&key(&row.named()));
            rows.push(row);
        }
    }
    Ok(rows)
}

fn key(row: &Replayed) -> Key {
    (row.epoch, row.table_name.clone(), row.source.clone(), row.partition.clone(), row.position.clone())
}

fn sent_before(project: &Project) -> Result<HashSet<Key>> {
    Ok(pending_requests(&project.work())?.iter().flat_map(|(_, request)| &request.rows).map(|row| key(&row.row)).collect())
}
