//! State made to fit a changed definition: what the new one does not keep is dropped, the rest put into its order.
//!
//! **Owns** how the files of a snapshot change. **Does not own** which changes are sound: see `fingerprint`.
//!
//! I1: files are changed on their way to [`super::Operator::restore`] and not in the checkpoint. The first snapshot after a
//!     start is a whole one, and takes their place.
//! I2: what was given up stays given up: where windows take late rows for longer, the time up to which they were given up
//!     moves on with their own times.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt8Type};
use datafusion::common::{DataFusionError, Result};

use super::fingerprint::{Fingerprint, Item};
use super::store::{FOR_EVER, RowCodec};

/// The files of a snapshot and how far results were yielded.
pub type Saved = (Vec<Vec<RecordBatch>>, Option<i64>);

/// Makes what was saved by one definition fit another.
pub fn convert(was: &Fingerprint, is: &Fingerprint, (files, emitted_to): Saved) -> Result<Saved> {
    match is.kind.as_str() {
        "window" => {
            let picks = window_columns(was, is)?;
            Ok((changed(files, |batch| batch.project(&picks).map_err(Into::into))?, emitted_to))
        }
        "changes" => {
            let (keys, states) = (Recode::of(was.part("groups"), is.part("groups"))?, Recode::of(was.part("functions"), is.part("functions"))?);
            let later = is.micros("lateness").unwrap_or(0) - was.micros("lateness").unwrap_or(0);
            let files = changed(files, |batch| {
                let batch = keys.iter().try_fold(batch, |batch, keys| with_column(&batch, "key", |_, column| keys.apply(column, &|_| true)))?;
                let batch = states.iter().try_fold(batch, |batch, states| with_column(&batch, "row", |_, column| states.apply(column, &|_| true)))?;
                if later == 0 { Ok(batch) } else { with_column(&batch, "time", |_, column| shifted(column, later)) }
            })?;
            // I2.
            Ok((files, emitted_to.map(|to| to.saturating_add(later.max(0)))))
        }
        _ => {
            let sides = ["left columns", "right columns"].map(|part| Recode::of(was.part(part), is.part(part)));
            let [left, right] = sides;
            let recodes = [Recode::of(was.part("columns"), is.part("columns"))?.or(left?), right?];
            let mut files = files;
            for (tag, recode) in recodes.iter().enumerate() {
                let Some(recode) = recode else { continue };
                files = changed(files, |batch| {
                    with_column(&batch, "row", |batch, column| {
                        let tags = batch.column_by_name("store").and_then(|c| c.as_primitive_opt::<UInt8Type>()).ok_or_else(damaged)?;
                        recode.apply(column, &|row| usize::from(tags.value(row)) == tag)
                    })
                })?;
            }
            Ok((files, emitted_to))
        }
    }
}

fn damaged() -> DataFusionError {
    DataFusionError::Internal("a snapshot has other columns than its fingerprint says".to_owned())
}

fn changed(files: Vec<Vec<RecordBatch>>, change: impl Fn(RecordBatch) -> Result<RecordBatch>) -> Result<Vec<Vec<RecordBatch>>> {
    files.into_iter().map(|file| file.into_iter().map(&change).collect()).collect()
}

/// Which columns of a window's snapshot the new definition keeps: bounds, then keys, then the states of functions.
fn window_columns(was: &Fingerprint, is: &Fingerprint) -> Result<Vec<usize>> {
    let groups = was.part("groups");
    let mut picks = vec![0, 1];
    for index in places(groups, is.part("groups"))? {
        picks.push(2 + index);
    }
    let functions = was.part("functions");
    for index in places(functions, is.part("functions"))? {
        let first = 2 + groups.len() + functions[..index].iter().map(|f| f.of.len()).sum::<usize>();
        picks.extend(first..first + functions[index].of.len());
    }
    Ok(picks)
}

/// Where each of the new values was among the old ones.
fn places(was: &[Item], is: &[Item]) -> Result<Vec<usize>> {
    is.iter().map(|item| was.iter().position(|other| other == item).ok_or_else(damaged)).collect()
}

fn with_column(batch: &RecordBatch, name: &str, change: impl Fn(&RecordBatch, &ArrayRef) -> Result<ArrayRef>) -> Result<RecordBatch> {
    let at = batch.schema().index_of(name)?;
    let mut columns = batch.columns().to_vec();
    columns[at] = change(batch, &columns[at])?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn shifted(times: &ArrayRef, by: i64) -> Result<ArrayRef> {
    let times = times.as_primitive_opt::<Int64Type>().ok_or_else(damaged)?;
    let shift = |time: &i64| if *time == FOR_EVER { FOR_EVER } else { time.saturating_add(by).min(FOR_EVER - 1) };
    Ok(Arc::new(Int64Array::from_iter_values(times.values().iter().map(shift))))
}

/// From rows of some columns to rows of some of them.
struct Recode {
    from: RowCodec,
    to: Option<RowCodec>,
    picks: Vec<usize>,
}

impl Recode {
    /// `None` if nothing is to be done.
    fn of(was: &[Item], is: &[Item]) -> Result<Option<Self>> {
        if was == is {
            return Ok(None);
        }
        let types = |items: &[Item]| items.iter().flat_map(|item| &item.of).map(|text| text.parse::<DataType>()).collect::<Result<Vec<_>, _>>();
        let mut picks = Vec::new();
        for index in places(was, is)? {
            let first = was[..index].iter().map(|item| item.of.len()).sum::<usize>();
            picks.extend(first..first + was[index].of.len());
        }
        let to = types(is)?;
        Ok(Some(Self { from: RowCodec::new(types(was)?)?, to: (!to.is_empty()).then(|| RowCodec::new(to)).transpose()?, picks }))
    }

    /// Changes the rows for which `mine` is true; those that are taken out have none.
    fn apply(&self, column: &ArrayRef, mine: &dyn Fn(usize) -> bool) -> Result<ArrayRef> {
        let rows: &BinaryArray = column.as_binary_opt::<i32>().ok_or_else(damaged)?;
        let chosen: Vec<usize> = (0..rows.len()).filter(|row| rows.is_valid(*row) && mine(*row)).collect();
        let columns = self.from.decode(chosen.iter().map(|row| rows.value(*row)))?;
        let encoded = match &self.to {
            Some(codec) if !chosen.is_empty() => {
                let picked: Vec<ArrayRef> = self.picks.iter().map(|pick| Arc::clone(&columns[*pick])).collect();
                Some(codec.encode(&picked)?)
            }
            _ => None,
        };
        let mut out = BinaryBuilder::with_capacity(rows.len(), rows.value_data().len());
        let mut next = 0;
        for row in 0..rows.len() {
            if chosen.get(next) == Some(&row) {
                out.append_value(encoded.as_ref().map_or(&[][..], |encoded| encoded.row(next).data()));
                next += 1;
            } else if rows.is_valid(row) {
                out.append_value(rows.value(row));
            } else {
                out.append_null();
            }
        }
        Ok(Arc::new(out.finish()))
    }
}
