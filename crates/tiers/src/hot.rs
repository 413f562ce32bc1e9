//! Redis as a tier: keys as of the last tick.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use parking_lot::Mutex;
use watershed_redis::{HotRows, HotState, RedisReader};
use watershed_types::{Error, Result};

use crate::cold::Committed;
use crate::error::unfit;
use crate::plan::{Name, Standing};
use crate::tier::{Keys, Rows, Tier, projected};

/// How long a stamp that was read is good for. Floors rise with epochs; a read by time looks again afterwards.
const FRESH: std::time::Duration = std::time::Duration::from_millis(50);

/// The keys a `redis` sink writes.
pub struct Hot {
    table: String,
    schema: SchemaRef,
    time: Option<usize>,
    app_id: String,
    reader: Arc<RedisReader>,
    committed: Committed,
    seen: Mutex<Option<(std::time::Instant, HotState)>>,
}

impl Hot {
    /// A tier over a sink's keys. `app_id` is the sink's, of this life of the pipeline.
    pub fn new(table: &str, schema: SchemaRef, time: Option<usize>, app_id: &str, reader: RedisReader, committed: Committed) -> Hot {
        Hot { table: table.to_owned(), schema, time, app_id: app_id.to_owned(), reader: Arc::new(reader), committed, seen: Mutex::default() }
    }

    /// The places of the columns a key is made of.
    pub fn key(&self) -> Vec<usize> {
        self.reader.options().key_columns()
    }

    /// On a thread that may wait: the client blocks.
    async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&RedisReader) -> Result<T> + Send + 'static) -> Result<T> {
        let reader = Arc::clone(&self.reader);
        let asked = tokio::task::spawn_blocking(move || ask(&reader)).await;
        asked.map_err(|cause| Error::internal("TIER0007", "a read of hot keys panicked").hint("Please report this.").caused_by(cause))?
    }

    /// The columns asked for, from values and, where they are not in them, from keys.
    fn rows(&self, found: &HotRows, keys: Option<&Keys>, columns: &[usize]) -> Result<RecordBatch> {
        let broken = |cause: arrow::error::ArrowError| unfit("hot", &self.table, cause);
        let values = self.reader.options().value_columns();
        let present = arrow::array::BooleanArray::from(found.found.clone());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for place in columns {
            if let Some(at) = values.iter().position(|value| value == place) {
                arrays.push(Arc::clone(found.rows.column(at)));
                continue;
            }
            let of_key = keys.and_then(|keys| keys.places.iter().position(|at| at == place).map(|at| &keys.columns[at]));
            let of_key = of_key.ok_or_else(|| unfit("hot", &self.table, "a column is in neither key nor value"))?;
            arrays.push(filter(of_key, &present).map_err(broken)?);
        }
        let schema = projected(&self.schema, columns);
        let options = RecordBatchOptions::new().with_row_count(Some(found.rows.num_rows()));
        let arrays = arrays.iter().zip(schema.fields()).map(|(array, field)| arrow::compute::cast(array, field.data_type())).collect::<std::result::Result<Vec<_>, _>>();
        arrays.and_then(|arrays| RecordBatch::try_new_with_options(schema, arrays, &options)).map_err(broken)
    }
}

#[async_trait]
impl Tier for Hot {
    fn name(&self) -> Name {
        Name::Hot
    }

    async fn standing(&self, columns: &[usize]) -> Result<Standing> {
        let options = self.reader.options();
        let (values, key) = (options.value_columns(), options.key_columns());
        if let Some(place) = columns.iter().find(|place| !values.contains(place) && !key.contains(place)) {
            return Ok(Standing::Unfit(format!("its values do not hold \"{}\"", self.schema.field(*place).name())));
        }
        let committed = (self.committed)();
        let kept = self.seen.lock().clone().filter(|(at, state)| at.elapsed() < FRESH && state.epoch >= committed);
        let state = match kept {
            Some((_, state)) => state,
            None => {
                let state = self.ask(RedisReader::state).await?;
                *self.seen.lock() = Some((std::time::Instant::now(), state.clone()));
                state
            }
        };
        if state.app_id.as_ref().is_some_and(|app_id| *app_id != self.app_id) {
            return Ok(Standing::Unfit("its keys belong to another life of the pipeline".to_owned()));
        }
        // An epoch is stamped before it counts as committed: a stamp behind is one the server lost, and values with it.
        if state.epoch < committed {
            return Ok(Standing::Unfit(format!("it is at epoch {}, and {committed} is committed", state.epoch)));
        }
        let by_time = options.retention.filter(|retention| Some(retention.time) == self.time).is_some() && columns.iter().all(|place| values.contains(place));
        Ok(match state.floor.filter(|_| by_time) {
            Some(floor) => Standing::Whole { floor, epoch: state.epoch },
            None => Standing::Keys { epoch: state.epoch },
        })
    }

    async fn by_key(&self, keys: &Keys, columns: &[usize]) -> Result<Rows> {
        let places = self.key();
        let ordered: Option<Vec<ArrayRef>> = places.iter().map(|place| keys.places.iter().position(|at| at == place).map(|at| Arc::clone(&keys.columns[at]))).collect();
        let ordered = ordered.ok_or_else(|| unfit("hot", &self.table, "its key is another one"))?;
        let found = self.ask(move |reader| reader.get(&ordered)).await?;
        let batch = self.rows(&found, Some(keys), columns)?;
        Ok(Rows { batch, found: found.found, more: false, risen: None })
    }

    async fn by_time(&self, from: i64, to: i64, limit: usize, columns: &[usize]) -> Result<Rows> {
        // The stamp after the rows: a floor rises before keys are removed, so what was removed meanwhile is below it.
        let (found, state) = self.ask(move |reader| Ok((reader.range(from, to, limit)?, reader.state()?))).await?;
        let batch = self.rows(&found, None, columns)?;
        // A key that the index names and that is gone ran out of its time.
        let gone = found.missing.map(|time| time.saturating_add(1));
        let risen = state.floor.unwrap_or(i64::MAX).max(gone.unwrap_or(i64::MIN));
        Ok(Rows { batch, found: vec![], more: found.more, risen: (risen > from).then_some(risen) })
    }
}
