//! A source's history, decoded as the stream decodes it, with the place of each row in the stream.
//!
//! **Owns** the hidden columns. **Does not own** decoding: that is the intake's, so bad bytes, wrong types, failing
//! computed columns and missing event times fall out here exactly as they do there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use watershed_codec::Refused;
use watershed_ports::{Polled, RawChunk, Source};
use watershed_types::{Error, Positions, Result};

use crate::plan::Plan;
use crate::run::Prepare;

/// The hidden column that names a row's partition.
pub const HIDDEN_PARTITION: &str = "__ws_partition";
/// The hidden column that says which accepted row of its partition a row is.
pub const HIDDEN_ORDINAL: &str = "__ws_ordinal";

/// Gathers the decoded rows of one source.
pub struct SourceHistory {
    prepare: Prepare,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    accepted: HashMap<Arc<str>, i64>,
    /// Records that were not accepted: where they stand, and why.
    pub refused: Vec<(String, Refused)>,
}

impl SourceHistory {
    /// For a source of the plan. Takes the source's computed columns out of it: a plan that is read this way is not
    /// started as a stream.
    pub fn new(plan: &mut Plan, source: &str) -> Result<Self> {
        let index = plan.sources.iter().position(|s| s.name == source).ok_or_else(|| Error::invalid("PLAN0022", format!("there is no source \"{source}\"")))?;
        let mut fields: Vec<Field> = plan.sources[index].schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(HIDDEN_PARTITION, DataType::Utf8, false));
        fields.push(Field::new(HIDDEN_ORDINAL, DataType::Int64, false));
        let prepare = Prepare::new(index, &mut plan.sources[index])?;
        Ok(Self { prepare, schema: Arc::new(Schema::new(fields)), batches: vec![], accepted: HashMap::new(), refused: vec![] })
    }

    /// Takes everything a reader has now, from the beginning.
    pub fn read(&mut self, reader: &mut dyn Source, chunk_bytes: usize) -> Result<()> {
        reader.seek(&Positions::new())?;
        reader.drain();
        while let Polled::Chunk(chunk) = reader.poll(chunk_bytes, Duration::ZERO)? {
            self.take(chunk)?;
        }
        Ok(())
    }

    /// Takes the next records of a partition.
    pub fn take(&mut self, chunk: RawChunk) -> Result<()> {
        let partition = Arc::clone(&chunk.partition);
        let intake = self.prepare.decode(chunk)?;
        let origin = &intake.origin;
        self.refused.extend(intake.refused.into_iter().map(|refused| (format!("{partition}:{}", origin.position(refused.record)), refused)));
        let rows = intake.batch.num_rows();
        let next = self.accepted.entry(Arc::clone(&partition)).or_default();
        let mut columns: Vec<ArrayRef> = intake.batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(partition.as_ref(), rows))));
        columns.push(Arc::new(Int64Array::from_iter_values(*next..*next + rows as i64)));
        *next += rows as i64;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| Error::internal("PLAN0099", "decoded rows do not fit their source").caused_by(e))?;
        self.batches.push(batch);
        Ok(())
    }

    /// The rows as a table for [`super::History`].
    pub fn table(self) -> Result<Arc<dyn TableProvider>> {
        let table = MemTable::try_new(self.schema, vec![self.batches]).map_err(|e| Error::internal("PLAN0099", "history does not make a table").caused_by(e))?;
        Ok(Arc::new(table))
    }
}
