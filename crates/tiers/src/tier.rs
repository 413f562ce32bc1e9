//! A tier, as the reads see it.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use watershed_types::Result;

use crate::plan::{Name, Standing};

/// Keys that are asked for: a column for each column of the key, in its declared order.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The places of the key's columns in the table.
    pub places: Vec<usize>,
    /// Their values, a row for each key.
    pub columns: Vec<ArrayRef>,
}

impl Keys {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |column| column.len())
    }
    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows of a tier: the columns asked for, in the table's types.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The rows; by time the oldest first.
    pub batch: RecordBatch,
    /// For each key asked for, whether it is there.
    pub found: Vec<bool>,
    /// Whether the limit left rows out.
    pub more: bool,
    /// The tier turned out to be whole only from here on.
    pub risen: Option<i64>,
}

/// Where rows of a table can be read.
///
/// Nothing here writes. A failed call says nothing about the next: callers fall back, and ask again later.
#[async_trait]
pub trait Tier: Send + Sync {
    /// Which one it is.
    fn name(&self) -> Name;

    /// What it can be asked now for these columns (places in the table). An error means it is down.
    async fn standing(&self, columns: &[usize]) -> Result<Standing>;

    /// The rows of keys. A row that is in the table as of the last committed epoch is found if the tier has it at all.
    async fn by_key(&self, keys: &Keys, columns: &[usize]) -> Result<Rows>;

    /// Up to `limit` rows with times in `[from, to)`, the oldest first. `risen` is set if rows at or after `from` may be missing.
    async fn by_time(&self, from: i64, to: i64, limit: usize, columns: &[usize]) -> Result<Rows>;
}

/// Some columns of a table, all of them nullable: a tier may not know better.
pub(crate) fn projected(schema: &SchemaRef, columns: &[usize]) -> SchemaRef {
    let fields: Vec<arrow::datatypes::Field> = columns.iter().map(|place| plain(schema.field(*place))).collect();
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields))
}

/// Nullable, and without a dictionary.
fn plain(field: &arrow::datatypes::Field) -> arrow::datatypes::Field {
    let data_type = match field.data_type() {
        arrow::datatypes::DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    arrow::datatypes::Field::new(field.name(), data_type, true)
}
