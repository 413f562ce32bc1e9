//! From a project's definitions to what runs: one logical plan, lowered here to streaming steps.
//!
//! **Owns** binding (names → logical plans), the streaming lowering, and the operators' fingerprints.
//! **Does not own** parsing (`watershed-sql`) or running (`operator`, `tick`).
//!
//! ```text
//! Definitions ──bind──▶ LogicalPlan (+ DedupNode, WindowNode) ──lower──▶ Step, Step, …   (stream)
//!                                                            └─batch──▶ DataFusion       (history)
//! ```
//!
//! I1: a table's steps are a straight line from one streaming input; everything else it joins is static.
//! I2: an operator's id and fingerprint depend on the SQL alone, so that its state finds it again.

mod aggregates;
mod as_of;
mod batch;
mod bind;
pub mod describe;
pub mod estimate;
mod functions;
mod lookup;
mod lower;
mod nodes;
mod provider;
mod streams;
mod trace;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use watershed_codec::{ColumnSpec, Format};
use watershed_sql::{MetadataColumn, OnViolation};
use watershed_types::{Options, Zone};

pub use batch::{Batch, Guard, HIDDEN_ORDINAL, HIDDEN_PARTITION, History, Meaning, Rounds, SourceHistory, batch};
pub use bind::{StaticLoader, bind};
pub use functions::TickTime;
pub use lookup::AskedTable;
pub use lower::RowTime;
pub use nodes::{DedupNode, WindowKind, WindowNode};
pub use provider::{StaticTable, StreamTable};

use crate::operator::Step;

/// Everything that runs in one project.
pub struct Plan {
    /// The sources, by index.
    pub sources: Vec<SourcePlan>,
    /// The tables, inputs before users.
    pub tables: Vec<TablePlan>,
    /// The sinks.
    pub sinks: Vec<SinkPlan>,
    /// Static tables, refreshed while running.
    pub statics: Vec<Arc<StaticTable>>,
    /// Static tables that are asked by key, while running.
    pub asked: Vec<AskedTable>,
    /// The session everything was planned in.
    pub context: SessionContext,
    /// What `now()` reads.
    pub time: TickTime,
}

/// A source as it runs.
pub struct SourcePlan {
    /// Its name.
    pub name: String,
    /// Columns that the decoder fills, in order.
    pub columns: Vec<ColumnSpec>,
    /// How records are written.
    pub format: Format,
    /// Metadata columns, appended to the decoded ones in this order.
    pub metadata: Vec<(String, MetadataColumn)>,
    /// From decoded + metadata columns to the declared columns; empty if they are the same.
    pub prepare: Vec<Step>,
    /// The declared columns.
    pub schema: SchemaRef,
    /// Index of the event-time column in `schema`, and the delay in microseconds.
    pub watermark: Option<(usize, i64)>,
    /// After how long a caught-up, silent partition stops holding the watermark back, microseconds.
    pub idle_timeout: i64,
    /// How far apart its partitions may be read, if that is bounded.
    pub drift: Option<Drift>,
    /// The connector's name.
    pub connector: String,
    /// The connector's own options.
    pub options: Options,
}

/// Up to how far ahead of the others in event time a partition is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// How far, microseconds.
    pub max: i64,
    /// The sources of one group are measured against the least of them all; without one a source against itself.
    pub group: Option<String>,
}

/// What a table reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A source, by index.
    Source(usize),
    /// A table before it, by index.
    Table(usize),
}

/// One `CONSTRAINT`.
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The condition as written.
    pub text: String,
    /// What happens to a row that breaks it.
    pub on_violation: OnViolation,
}

/// A table as it runs.
pub struct TablePlan {
    /// Its name.
    pub name: String,
    /// What it reads; several only if its first step takes several.
    pub inputs: Vec<Input>,
    /// What is done with it.
    pub steps: Vec<Step>,
    /// Yields one boolean column per rule; empty without rules.
    pub check: Vec<Step>,
    /// The rules, in the order of `check`'s columns.
    pub rules: Vec<Rule>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its partition columns.
    pub partitioned_by: Vec<String>,
    /// Its zone.
    pub zone: Zone,
    /// False for a view that is here only because sinks follow it, and for a part of another table: nothing of it is kept
    /// in the lake.
    pub stored: bool,
    /// For a changelog: the columns that name its rows. Its rows come as inserts and deletes; `None` means that a row, once
    /// there, never changes.
    pub key: Option<Vec<usize>>,
    /// How far its rows' event time may be behind the watermark of its inputs, microseconds.
    pub hold: i64,
    /// What is left of its options for the lake.
    pub options: Options,
    /// Which columns are event time, passed through untouched.
    pub rowtime: Vec<bool>,
    /// True if late rows are counted and not kept (`ON LATE DROP`).
    pub drops_late: bool,
    /// True if an operator made its rows of others: they are results, not input rows.
    pub aggregated: bool,
    /// The optimized logical plan, for `plan` and the batch lowering.
    pub logical: LogicalPlan,
    /// The query as written.
    pub sql: String,
}

/// A sink as it runs.
pub struct SinkPlan {
    /// Its name.
    pub name: String,
    /// The table it follows, by index.
    pub table: usize,
    /// The connector's name.
    pub connector: String,
    /// The connector's own options.
    pub options: Options,
}

/// The column by which a changelog tells its sinks that a row is gone.
pub const DELETED: &str = "_deleted";

impl TablePlan {
    /// The columns that sinks get: the table's, and for a changelog [`DELETED`].
    pub fn delivered_schema(&self) -> SchemaRef {
        if self.key.is_none() {
            return Arc::clone(&self.schema);
        }
        let mut fields: Vec<Field> = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        fields.push(Field::new(DELETED, DataType::Boolean, false));
        Arc::new(Schema::new(fields))
    }
    /// For a changelog: the names of the columns that name its rows.
    pub fn key_names(&self) -> Option<Vec<&str>> {
        self.key.as_ref().map(|key| key.iter().map(|column| self.schema.field(*column).name().as_str()).collect())
    }
}

impl Plan {
    /// The sources a table's rows come from in the end, each once, in the order of its inputs.
    pub fn root_sources(&self, table: usize) -> Vec<usize> {
        let mut roots = Vec::new();
        for input in &self.tables[table].inputs {
            let found = match *input {
                Input::Source(source) => vec![source],
                Input::Table(input) => self.root_sources(input),
            };
            for source in found {
                if !roots.contains(&source) {
                    roots.push(source);
                }
            }
        }
        roots
    }
    /// The source a table's rows come from in the end, the first if there are several.
    pub fn root_source(&self, table: usize) -> usize {
        self.root_sources(table).first().copied().unwrap_or_default()
    }
    /// A table's or source's name.
    pub fn input_name(&self, input: Input) -> &str {
        match input {
            Input::Source(source) => &self.sources[source].name,
            Input::Table(table) => &self.tables[table].name,
        }
    }
}
