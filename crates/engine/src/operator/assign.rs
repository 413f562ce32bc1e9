//! Window assignment: integer arithmetic on microseconds, windows half open.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result};

use super::batch::{Rows, StreamBatch};
use crate::plan::WindowKind;

/// Adds `window_start`, `window_end` and `window_time` (`window_end` less one millisecond).
#[derive(Debug)]
pub struct AssignSpec {
    /// Index of the event-time column.
    pub time: usize,
    /// Which windows.
    pub kind: WindowKind,
    /// Input columns and the three window columns.
    pub schema: SchemaRef,
}

/// Start of the window of length `size` that holds `time`, windows being shifted by `offset`.
pub fn start_of(time: i64, offset: i64, size: i64) -> i64 {
    time - (time - offset).rem_euclid(size)
}

impl AssignSpec {
    /// Runs the assignment; a hopping window multiplies rows.
    pub fn apply(&self, input: StreamBatch) -> Result<StreamBatch> {
        let times = input.batch.column(self.time).as_primitive::<TimestampMicrosecondType>();
        match self.kind {
            WindowKind::Tumble { size, offset } => {
                let starts: Vec<i64> = times.values().iter().map(|time| start_of(*time, offset, size)).collect();
                let batch = self.with_windows(&input.batch, starts, size)?;
                Ok(StreamBatch { batch, ..input })
            }
            WindowKind::Hop { slide, size, offset } => {
                let mut indices = Vec::new();
                let mut starts = Vec::new();
                for (index, time) in times.values().iter().enumerate() {
                    let mut start = start_of(*time, offset, slide);
                    while start > time - size {
                        indices.push(index as u32);
                        starts.push(start);
                        start -= slide;
                    }
                }
                let rows = indices.iter().map(|i| input.row(*i as usize)).collect();
                let taken = take_record_batch(&input.batch, &UInt32Array::from(indices))?;
                let batch = self.with_windows(&taken, starts, size)?;
                Ok(StreamBatch { batch, rows: Rows::Some(rows), ..input })
            }
            WindowKind::Cumulate { step, size, offset } => {
                let (mut indices, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
                for (index, time) in times.values().iter().enumerate() {
                    let start = start_of(*time, offset, size);
                    let mut end = start + ((time - start) / step + 1) * step;
                    while end <= start + size {
                        indices.push(index as u32);
                        starts.push(start);
                        ends.push(end);
                        end += step;
                    }
                }
                let rows = indices.iter().map(|i| input.row(*i as usize)).collect();
                let taken = take_record_batch(&input.batch, &UInt32Array::from(indices))?;
                let batch = self.with_bounds(&taken, starts, ends)?;
                Ok(StreamBatch { batch, rows: Rows::Some(rows), ..input })
            }
            WindowKind::Session { .. } => Err(DataFusionError::Internal("a session is known by its neighbours, not by one row".to_owned())),
        }
    }

    fn with_windows(&self, batch: &RecordBatch, starts: Vec<i64>, size: i64) -> Result<RecordBatch> {
        let ends: Vec<i64> = starts.iter().map(|start| start + size).collect();
        self.with_bounds(batch, starts, ends)
    }

    fn with_bounds(&self, batch: &RecordBatch, starts: Vec<i64>, ends: Vec<i64>) -> Result<RecordBatch> {
        let zone = match batch.column(self.time).data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let times: Vec<i64> = ends.iter().map(|end| end - 1_000).collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for values in [starts, ends, times] {
            let array = PrimitiveArray::<TimestampMicrosecondType>::from(values).with_timezone_opt(zone.clone());
            columns.push(Arc::new(array));
        }
        debug_assert_eq!(columns.iter().map(|c| c.len()).max(), columns.iter().map(|c| c.len()).min());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::start_of;

    #[test]
    fn offsets_may_be_negative_and_exceed_the_size() {
        // Flink's documented cases: 2021-06-30 00:00:04, windows of 10 minutes.
        let (minute, time) = (60_i64, 4_i64);
        for (offset, start) in [(-16, -6), (-6, -6), (-4, -4), (0, 0), (4, -6), (6, -4), (16, -4)] {
            assert_eq!(start_of(time, offset * minute, 10 * minute), start * minute, "offset {offset}m");
        }
    }
}
