//! Files that can be made again from others, exactly.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use watershed_engine::checkpoint::encode_state;
use watershed_protocol::{Account, Claim, CommitRecord, LedgerRow, Manifest, Paths, SinkReceipt, StateFile, checksum, seal};
use watershed_types::{Epoch, Generation, Positions, Result};

use super::look::Look;

/// A generation's claim. Only its number matters to anybody.
pub fn claim(number: u64) -> Result<Vec<u8>> {
    seal(&Claim { generation: Generation(number), owner: "unknown; written again by a repair".to_owned(), claimed_at: 0 })
}

/// The record of a complete epoch, from its manifest: what was put aside is what each sink took.
/// `outside` says which table an outside sink follows; rows that it refused are not known any more.
pub fn record(manifest: &Manifest, outside: &dyn Fn(&str) -> Option<String>) -> Result<Vec<u8>> {
    let mut ledger = manifest.ledger.clone();
    let mut sinks = std::collections::BTreeMap::new();
    for (sink, parts) in &manifest.staged {
        let sum = |what: &str| parts.iter().filter_map(|part| part[what].as_u64()).sum::<u64>();
        let rows = sum("rows");
        sinks.insert(sink.clone(), SinkReceipt { rows, bytes: sum("bytes"), already_there: true, refused: 0, spooled: false });
        if let Some(table) = outside(sink) {
            let account = Account { read: rows, delivered: rows, ..Account::default() };
            ledger.push(LedgerRow { epoch: manifest.epoch.0, table_name: sink.clone(), source: table, account });
        }
    }
    seal(&CommitRecord {
        format: manifest.format,
        epoch: manifest.epoch,
        generation: manifest.generation,
        committed_at: manifest.prepared_at,
        sinks,
        ledger,
        behind: std::collections::BTreeMap::new(),
    })
}

/// A file of a source's positions, from the manifests, which say how far each epoch moved them. Proven by its checksum.
pub fn positions(look: &Look, operator: &str, file: &StateFile) -> Result<Option<Vec<u8>>> {
    let (Some(source), Some(epoch)) = (operator.strip_prefix("source:"), Paths::number(&file.path)) else { return Ok(None) };
    let moved = |epoch: u64| look.manifest(epoch).and_then(|m| m.sources.get(source)).map(|progress| progress.moved.clone()).unwrap_or_default();
    let mut all = Positions::new();
    for earlier in 1..=epoch {
        all.extend(moved(earlier));
    }
    // A whole file holds every position, another one those of its epoch.
    for candidate in [all, moved(epoch)] {
        let bytes = encode_state(operator, &[batch(&candidate)?])?;
        if bytes.len() as u64 == file.bytes && checksum(&bytes) == file.checksum {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn batch(positions: &Positions) -> Result<RecordBatch> {
    let schema = Schema::new(vec![Field::new("stretch", DataType::Utf8, false), Field::new("offset", DataType::UInt64, false), Field::new("record", DataType::UInt64, false)]);
    let names = StringArray::from_iter_values(positions.keys());
    let offsets = UInt64Array::from_iter_values(positions.values().map(|p| p.offset));
    let records = UInt64Array::from_iter_values(positions.values().map(|p| p.record));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names), Arc::new(offsets), Arc::new(records)])
        .map_err(|e| watershed_types::Error::internal("CLI0110", "positions cannot be written again").caused_by(e))
}

/// A manifest without the state of some operators.
pub fn without(manifest: &Manifest, operators: &[String]) -> Result<Vec<u8>> {
    let mut changed = manifest.clone();
    changed.state.retain(|operator, _| !operators.contains(operator));
    seal(&changed)
}

/// The path of a manifest.
pub fn offsets(epoch: u64) -> String {
    Paths::offsets(Epoch(epoch))
}
