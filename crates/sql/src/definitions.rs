//! What a project's SQL says, as plain data.
//!
//! **Owns** the types that leave this crate. **Does not own** any behaviour beyond showing and looking up.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{Expr, Query};
use watershed_types::Options;

/// One file of a project.
#[derive(Debug, Clone)]
pub struct SqlFile {
    /// As errors should call it: `pipelines.sql`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A place in a file. Lines and columns start at 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// All definitions of a project: names are unique across every kind.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Replayable streams.
    pub sources: Vec<SourceDef>,
    /// Query results kept in the lake.
    pub tables: Vec<TableDef>,
    /// Named queries that are not kept.
    pub views: Vec<ViewDef>,
    /// Outside targets.
    pub sinks: Vec<SinkDef>,
    /// Static lookup tables.
    pub statics: Vec<StaticDef>,
    /// Every name: sources, statics, tables and views (inputs before users), sinks.
    pub order: Vec<String>,
}

impl Definitions {
    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<&SourceDef> {
        self.sources.iter().find(|source| source.name == name)
    }
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.name == name)
    }
    /// The view of that name.
    pub fn view(&self, name: &str) -> Option<&ViewDef> {
        self.views.iter().find(|view| view.name == name)
    }
    /// The sink of that name.
    pub fn sink(&self, name: &str) -> Option<&SinkDef> {
        self.sinks.iter().find(|sink| sink.name == name)
    }
    /// The static table of that name.
    pub fn static_table(&self, name: &str) -> Option<&StaticDef> {
        self.statics.iter().find(|table| table.name == name)
    }
}

/// `CREATE SOURCE`.
#[derive(Debug, Clone)]
pub struct SourceDef {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<ColumnDef>,
    /// Its event time, if it declares one.
    pub watermark: Option<WatermarkDef>,
    /// `PRIMARY KEY (…)`: what a later row replaces an earlier one by; empty without one. Every column is declared.
    pub primary_key: Vec<String>,
    /// `WITH (…)`.
    pub options: Options,
    /// Where its name stands.
    pub place: Place,
}

/// A declared column.
#[derive(Debug, Clone)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type; `Null` for a computed column whose type is to be inferred.
    pub data_type: DataType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// Where its name stands.
    pub place: Place,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one per declared column, built once")]
pub enum ColumnKind {
    /// The record.
    Physical,
    /// An expression over the other columns.
    Computed(Expr),
    /// The source itself.
    Metadata(MetadataColumn),
}

/// What a source knows about a record besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataColumn {
    /// The partition's name, VARCHAR.
    Partition,
    /// The place in the partition, VARCHAR.
    Position,
    /// When it was read, TIMESTAMP.
    IngestTime,
    /// The source's name, VARCHAR.
    Source,
    /// The record's key in its log, VARCHAR; NULL if it has none; `\\x…` if it is no UTF-8.
    Key,
    /// The record's headers, MAP<VARCHAR, VARCHAR>; of a name that comes several times the last.
    Headers,
    /// The record's own timestamp in its log, TIMESTAMP.
    Timestamp,
    /// The topic it came from, VARCHAR.
    Topic,
}

impl MetadataColumn {
    /// Every kind, by the name it has in `METADATA FROM '…'`.
    pub const ALL: [(&'static str, MetadataColumn); 8] = [
        ("partition", MetadataColumn::Partition),
        ("position", MetadataColumn::Position),
        ("ingest_time", MetadataColumn::IngestTime),
        ("source", MetadataColumn::Source),
        ("key", MetadataColumn::Key),
        ("headers", MetadataColumn::Headers),
        ("timestamp", MetadataColumn::Timestamp),
        ("topic", MetadataColumn::Topic),
    ];

    /// Its name in `METADATA FROM '…'`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The type its column has.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Partition | Self::Position | Self::Source | Self::Key | Self::Topic => DataType::Utf8View,
            Self::IngestTime | Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Headers => crate::types::map_of(DataType::Utf8View),
        }
    }

    /// Whether it may be NULL.
    pub fn nullable(self) -> bool {
        matches!(self, Self::Key | Self::Timestamp | Self::Topic)
    }

    /// True for what only a log such as Kafka's knows.
    pub fn of_logs(self) -> bool {
        matches!(self, Self::Key | Self::Headers | Self::Timestamp | Self::Topic)
    }
}

/// `WATERMARK FOR column AS column - INTERVAL '…'`.
#[derive(Debug, Clone)]
pub struct WatermarkDef {
    /// The event-time column.
    pub column: String,
    /// How far behind the greatest event time, in microseconds. Never negative.
    pub delay_micros: i64,
    /// Where `WATERMARK` stands.
    pub place: Place,
}

/// `CREATE TABLE … AS query`.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Its name.
    pub name: String,
    /// Its expectations, in order.
    pub constraints: Vec<ConstraintDef>,
    /// `PRIMARY KEY (…)`, columns of its query; empty without one.
    pub primary_key: Vec<String>,
    /// `PARTITIONED BY (…)`.
    pub partitioned_by: Vec<String>,
    /// `WITH (…)`.
    pub options: Options,
    /// What it holds.
    pub query: QueryDef,
    /// Where its name stands.
    pub place: Place,
}

/// `CONSTRAINT name EXPECT (expression) ON VIOLATION …`.
#[derive(Debug, Clone)]
pub struct ConstraintDef {
    /// Its name, unique in its table.
    pub name: String,
    /// What must be true of every row; NULL is a violation.
    pub expr: Expr,
    /// The expression as written.
    pub text: String,
    /// What happens to a row that breaks it.
    pub on_violation: OnViolation,
    /// Where its name stands.
    pub place: Place,
}

/// What happens to a row that breaks an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnViolation {
    /// It is kept and counted.
    #[default]
    Warn,
    /// It is left out and counted.
    Drop,
    /// It waits in the quarantine.
    Quarantine,
    /// The pipeline stops.
    Fail,
}

/// `CREATE VIEW … AS query`.
#[derive(Debug, Clone)]
pub struct ViewDef {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub query: QueryDef,
    /// Where its name stands.
    pub place: Place,
}

/// `CREATE SINK … FROM table`.
#[derive(Debug, Clone)]
pub struct SinkDef {
    /// Its name.
    pub name: String,
    /// The table or view it delivers.
    pub from: String,
    /// `WITH (…)`.
    pub options: Options,
    /// Where its name stands.
    pub place: Place,
}

/// `CREATE STATIC TABLE`: rows to look up in, read as a whole and again now and then, or asked for by key.
#[derive(Debug, Clone)]
pub struct StaticDef {
    /// Its name.
    pub name: String,
    /// Its columns, all physical; empty means infer.
    pub columns: Vec<ColumnDef>,
    /// `PRIMARY KEY (…)`: what a row is asked for by; empty without one. Every column is declared.
    pub primary_key: Vec<String>,
    /// `WITH (…)`.
    pub options: Options,
    /// Where its name stands.
    pub place: Place,
}

/// A query whose stream relations were replaced by placeholder tables.
#[derive(Debug, Clone)]
pub struct QueryDef {
    /// The syntax tree.
    pub query: Box<Query>,
    /// What the placeholders stand for; an inner one comes before the one that reads it.
    pub relations: Vec<Relation>,
    /// The query as written, without the clauses behind it.
    pub text: String,
    /// When results leave.
    pub emit: Emit,
    /// `ALLOWED LATENESS`: for how long a window that was emitted is kept for rows that come after it. Above zero.
    pub allowed_lateness_micros: Option<i64>,
    /// `ON LATE`.
    pub on_late: OnLate,
    /// Where it starts.
    pub place: Place,
    /// The sources, tables, views and static tables it reads, each once, in order of first mention.
    pub inputs: Vec<String>,
}

/// `EMIT ON …`: when a query's results leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once, when they are complete.
    OnClose {
        /// `EARLY EVERY`: besides, what there is so far, this often. Above zero.
        early_micros: Option<i64>,
    },
    /// With every change, as upserts.
    OnChange,
}

impl Default for Emit {
    fn default() -> Self {
        Emit::OnClose { early_micros: None }
    }
}

/// `ON LATE …`: what happens to a row that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLate {
    /// It is counted, and waits in the quarantine.
    #[default]
    Quarantine,
    /// It is counted.
    Drop,
    /// It changes a result that was emitted already.
    Update,
}

/// A stream relation of FROM: `DEDUPLICATE`, a window, the versioned side of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The table name that stands for it, unique in the project.
    pub placeholder: String,
    /// What it does.
    pub kind: RelationKind,
    /// What it reads.
    pub input: RelationInput,
    /// Where it stands.
    pub place: Place,
}

/// What a stream relation does to its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    /// Keeps one row of each key.
    Deduplicate {
        /// The key's columns.
        key: Vec<String>,
        /// Which one.
        keep: Keep,
        /// How long a key is remembered, in event time; for ever if absent.
        within_micros: Option<i64>,
    },
    /// Adds `window_start`, `window_end`, `window_time` of the one window a row belongs to.
    Tumble {
        /// The event-time column.
        column: String,
        /// The window's length, above zero.
        size_micros: i64,
        /// By how much windows are shifted.
        offset_micros: i64,
    },
    /// The same for overlapping windows.
    Hop {
        /// The event-time column.
        column: String,
        /// From one window's start to the next, above zero.
        slide_micros: i64,
        /// The window's length, above zero.
        size_micros: i64,
        /// By how much windows are shifted.
        offset_micros: i64,
    },
    /// The same for windows of one start that grow by a step until they have their size.
    Cumulate {
        /// The event-time column.
        column: String,
        /// By how much a window is longer than the one before it, above zero.
        step_micros: i64,
        /// The longest window's length, a multiple of the step.
        size_micros: i64,
        /// By how much windows are shifted.
        offset_micros: i64,
    },
    /// The same for windows that last until nothing came for a while.
    Session {
        /// The event-time column.
        column: String,
        /// Each of their values has sessions of its own; empty for one for all.
        partition_by: Vec<String>,
        /// How long nothing comes behind the last row of a session, above zero.
        gap_micros: i64,
    },
    /// The right side of a join as it was at a time: `JOIN input FOR SYSTEM_TIME AS OF time`.
    AsOf {
        /// At which time.
        time: AsOfTime,
    },
}

/// Which row of a key `DEDUPLICATE` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The one that came first.
    #[default]
    First,
    /// The one that came last: a row replaces the one before it.
    Last,
}

/// What `FOR SYSTEM_TIME AS OF` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsOfTime {
    /// A column of the join's other side: its event time.
    Column {
        /// The name or alias before the point, if there is one.
        relation: Option<String>,
        /// The column.
        column: String,
    },
    /// `PROCTIME()`: what is known when the row comes.
    Processing,
}

/// What a stream relation reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationInput {
    /// A source, table, view or static table of the project.
    Named(String),
    /// An earlier entry of [`QueryDef::relations`].
    Relation(usize),
}
