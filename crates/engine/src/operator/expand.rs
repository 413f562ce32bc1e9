//! Grouping sets: each row once for each set, with the keys that are not in the set left out.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;

use super::batch::{Rows, StreamBatch};

/// Appends one column for each key and the number of the set.
pub struct ExpandSpec {
    /// The keys of all sets.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// For each set which keys it has.
    pub sets: Vec<Vec<bool>>,
    /// For each set its number, of the type of the last column.
    pub numbers: Vec<ScalarValue>,
    /// The input's columns, the keys, the set's number.
    pub schema: SchemaRef,
}

impl ExpandSpec {
    /// Runs it. Copies of a row stand side by side.
    pub fn apply(&self, input: StreamBatch) -> Result<StreamBatch> {
        let (rows, sets) = (input.batch.num_rows(), self.sets.len());
        let indices: UInt32Array = (0..rows as u32).flat_map(|row| std::iter::repeat_n(row, sets)).collect();
        let mut columns: Vec<ArrayRef> = take_record_batch(&input.batch, &indices)?.columns().to_vec();
        // By set and then by row is how values are made; by row and then by set is how copies stand.
        let interleaved: UInt32Array = (0..rows as u32).flat_map(|row| (0..sets as u32).map(move |set| set * rows as u32 + row)).collect();
        let plain = input.batch.num_columns();
        for (nth, key) in self.keys.iter().enumerate() {
            let wanted = self.schema.field(plain + nth).data_type();
            let value = cast(&key.evaluate(&input.batch)?.into_array(rows)?, wanted)?;
            let absent = new_null_array(wanted, rows);
            let of_sets: Vec<&dyn arrow::array::Array> = self.sets.iter().map(|set| if set[nth] { value.as_ref() } else { absent.as_ref() }).collect();
            columns.push(take(&concat(&of_sets)?, &interleaved, None)?);
        }
        let numbers = self.numbers.iter().map(|number| number.to_array_of_size(rows)).collect::<Result<Vec<_>>>()?;
        columns.push(take(&concat(&numbers.iter().map(AsRef::as_ref).collect::<Vec<_>>())?, &interleaved, None)?);
        let copies = indices.values().iter().map(|row| input.row(*row as usize)).collect();
        let batch = super::relation::conform(&super::relation::relaxed(&self.schema), columns, rows * sets)?;
        Ok(StreamBatch { batch, rows: Rows::Some(copies), ..input })
    }
}
