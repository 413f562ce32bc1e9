//! A tick's changes as sinks take them: one row a key, the last word on it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Result;
use hashbrown::HashMap;

use crate::operator::{DELETE, StreamBatch};

/// Folds a changelog: for each key the row it has now, or a row it had with the last column true. Rows stand in the order in
/// which they came. `key` are column indices; without any there is one key.
pub fn consolidate(changes: &[StreamBatch], key: &[usize], schema: &SchemaRef) -> Result<Option<RecordBatch>> {
    let columns: SchemaRef = Arc::new(schema.project(&(0..schema.fields().len() - 1).collect::<Vec<_>>())?);
    let mut batches = Vec::new();
    let mut deleted = Vec::new();
    for change in changes {
        batches.push(RecordBatch::try_new(Arc::clone(&columns), change.batch.columns().to_vec())?);
        deleted.extend((0..change.batch.num_rows()).map(|row| change.change(row) == DELETE));
    }
    if deleted.is_empty() {
        return Ok(None);
    }
    let all = concat_batches(&columns, &batches)?;
    let keys: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(all.column(*column))).collect();
    let encoded = if keys.is_empty() { None } else { Some(encode(&keys)?) };
    let whole = encode(all.columns())?;
    // What is left of each row once its comings and goings are summed up: the order within a tick does not matter.
    let mut sums: HashMap<&[u8], i64> = HashMap::new();
    for row in 0..all.num_rows() {
        *sums.entry(whole.row(row).data()).or_default() += if deleted[row] { -1 } else { 1 };
    }
    let mut last: HashMap<Option<&[u8]>, (usize, bool)> = HashMap::new();
    for row in 0..all.num_rows() {
        let sum = sums[whole.row(row).data()];
        if sum == 0 {
            continue;
        }
        let stays = sum > 0;
        let entry = last.entry(encoded.as_ref().map(|rows| rows.row(row).data())).or_insert((row, stays));
        if stays || !entry.1 {
            *entry = (row, stays);
        }
    }
    let mut order: Vec<(u32, bool)> = last.into_values().map(|(row, stays)| (row as u32, stays)).collect();
    order.sort_unstable();
    let flags = BooleanArray::from(order.iter().map(|(_, stays)| !stays).collect::<Vec<_>>());
    let order = UInt32Array::from(order.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
    let mut columns = all.columns().iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
    columns.push(Arc::new(flags));
    Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
}

fn encode(columns: &[ArrayRef]) -> Result<Rows> {
    Ok(RowConverter::new(columns.iter().map(|c| SortField::new(c.data_type().clone())).collect())?.convert_columns(columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    #[test]
    fn the_last_word_on_a_key_holds() {
        let fields = vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)];
        let plain = Arc::new(Schema::new(fields.clone()));
        let schema: SchemaRef = Arc::new(Schema::new([fields, vec![Field::new("_deleted", DataType::Boolean, false)]].concat()));
        let batch = |k: Vec<i64>, v: Vec<i64>| RecordBatch::try_new(Arc::clone(&plain), vec![Arc::new(Int64Array::from(k)), Arc::new(Int64Array::from(v))]).expect("fits");
        let changes =
            [StreamBatch::changelog(batch(vec![1, 1, 2], vec![10, 11, 20]), vec![-1, 1, -1]), StreamBatch::changelog(batch(vec![3, 4, 4], vec![30, 40, 40]), vec![1, 1, -1])];
        let folded = consolidate(&changes, &[0], &schema).expect("folds").expect("has rows");
        let ints = |column: usize| folded.column(column).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((ints(0), ints(1)), (vec![1, 2, 3], vec![11, 20, 30]), "4 came and went within the tick");
        assert_eq!(folded.column(2).as_boolean().iter().flatten().collect::<Vec<_>>(), [false, true, false]);
        let back = [StreamBatch::changelog(batch(vec![5, 5], vec![50, 51]), vec![1, -1]), StreamBatch::changelog(batch(vec![5], vec![51]), vec![1])];
        let folded = consolidate(&back, &[0], &schema).expect("folds").expect("has rows");
        assert_eq!(
            (folded.column(1).as_primitive::<Int64Type>().value(0), folded.column(2).as_boolean().value(0)),
            (50, false),
            "a row may come before the one it takes the place of goes"
        );
        let nothing = [StreamBatch::changelog(batch(vec![7, 7], vec![70, 70]), vec![-1, 1])];
        assert_eq!(consolidate(&nothing, &[0], &schema).expect("folds").map(|rows| rows.num_rows()), Some(0), "what goes and comes again has not changed");
        assert!(consolidate(&[], &[0], &schema).expect("folds").is_none());
    }
}
