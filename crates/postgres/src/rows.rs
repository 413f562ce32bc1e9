//! An epoch's rows on their way in, kept as long as they are few, in case they have to be gone through again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use watershed_types::Result;

use crate::error::unfit_rows;

/// Rows are kept up to this size; of a larger epoch the engine is asked again.
const KEPT_BYTES: usize = 64 << 20;
/// Rows per turn when an epoch is dealt out to several connections. Recorded epochs depend on it: never change it.
const BLOCK: u64 = 4096;

pub(crate) struct Rows<'a> {
    sink: &'a str,
    rest: &'a mut dyn Iterator<Item = Result<RecordBatch>>,
    kept: Vec<RecordBatch>,
    kept_bytes: usize,
    /// The next of `kept` to give; past it comes `rest`.
    at: usize,
    ordinal: u64,
}

impl<'a> Rows<'a> {
    pub fn new(sink: &'a str, rest: &'a mut dyn Iterator<Item = Result<RecordBatch>>) -> Self {
        Self { sink, rest, kept: Vec::new(), kept_bytes: 0, at: 0, ordinal: 0 }
    }

    /// The next batch, dictionaries unpacked, and the ordinal of its first row.
    pub fn next(&mut self) -> Result<Option<(u64, RecordBatch)>> {
        let batch = match self.kept.get(self.at) {
            Some(batch) => batch.clone(),
            None => {
                let Some(batch) = self.rest.next() else { return Ok(None) };
                // Nothing of the epoch is committed while rows still come in.
                let batch = batch.map_err(|error| if error.certainty().is_none() { error.definite() } else { error })?;
                let batch = unpacked(self.sink, batch)?;
                self.kept_bytes += size(&batch);
                if self.kept_bytes <= KEPT_BYTES {
                    self.kept.push(batch.clone());
                } else {
                    self.kept.clear();
                }
                batch
            }
        };
        self.at = (self.at + 1).min(self.kept.len());
        let first = self.ordinal;
        self.ordinal += batch.num_rows() as u64;
        Ok(Some((first, batch)))
    }

    /// Starts over. False if the rows were too many to keep.
    pub fn rewind(&mut self) -> bool {
        if self.kept_bytes > KEPT_BYTES {
            return false;
        }
        self.at = 0;
        self.ordinal = 0;
        true
    }
}

/// The rows of one part among a batch's, as ranges.
pub(crate) fn dealt(first: u64, rows: usize, part: u64, parts: u64) -> impl Iterator<Item = std::ops::Range<usize>> {
    let end = first + rows as u64;
    (first / BLOCK..end.div_ceil(BLOCK))
        .filter(move |block| block % parts == part)
        .map(move |block| ((block * BLOCK).max(first) - first) as usize..(((block + 1) * BLOCK).min(end) - first) as usize)
}

/// The part that a row is dealt to.
pub(crate) fn part_of(ordinal: u64, parts: u64) -> u64 {
    ordinal / BLOCK % parts.max(1)
}

/// What the rows take, without what else their buffers hold.
fn size(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(column.len() * 64)).sum()
}

fn unpacked(sink: &str, batch: RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| matches!(field.data_type(), DataType::Dictionary(..))) {
        return Ok(batch);
    }
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        match field.data_type() {
            DataType::Dictionary(_, values) => {
                columns.push(cast(column, values).map_err(|cause| unfit_rows(sink, cause))?);
                fields.push(Arc::new(Field::new(field.name(), values.as_ref().clone(), field.is_nullable())));
            }
            _ => {
                columns.push(Arc::clone(column));
                fields.push(Arc::clone(field));
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|cause| unfit_rows(sink, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_dealt_to_one_part_however_batches_are_cut() {
        let whole = |part| (0..3).flat_map(|i| dealt(i * 5000, 5000, part, 3).flatten().map(move |row| i * 5000 + row as u64)).collect::<Vec<_>>();
        let mut all: Vec<u64> = (0..3).flat_map(whole).collect();
        all.sort_unstable();
        assert_eq!(all, (0..15_000).collect::<Vec<_>>());
        let single: Vec<u64> = dealt(0, 15_000, 1, 3).flatten().map(|row| row as u64).collect();
        assert_eq!(whole(1), single);
        assert_eq!(dealt(7, 10, 0, 1).flatten().count(), 10);
    }
}
