//! The logical nodes a stream has and a plain relation has not: dedup and window assignment.
//!
//! **Owns** their schemas and what the optimizer may do around them. **Does not own** how they run: see
//! `lower.rs` (as a stream) and `batch.rs` (over history).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// Keeps one row of each key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DedupNode {
    /// What to deduplicate.
    pub input: LogicalPlan,
    /// Key columns, by name.
    pub key: Vec<String>,
    /// The event-time column, by name.
    pub time: String,
    /// For how long a key is remembered, microseconds of event time.
    pub within: i64,
    /// True if it is the last row of each key that is kept, and not the first.
    pub keep_last: bool,
    /// The operator's name in state and plans.
    pub id: String,
}

/// How rows are assigned to windows. All in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WindowKind {
    /// One window a row.
    Tumble { size: i64, offset: i64 },
    /// `size / slide` windows a row.
    Hop { slide: i64, size: i64, offset: i64 },
    /// Up to `size / step` windows a row: they start together and end a step apart.
    Cumulate { step: i64, size: i64, offset: i64 },
    /// One window a row, as long as rows follow each other within the gap.
    Session { gap: i64 },
}

impl WindowKind {
    /// The window's length, if all have the same.
    pub fn size(self) -> Option<i64> {
        match self {
            WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. } => Some(size),
            WindowKind::Cumulate { .. } | WindowKind::Session { .. } => None,
        }
    }

    /// How far apart its windows start, and where one of them does, and how long they are.
    fn starts(self) -> Option<(i64, i64, i64)> {
        match self {
            WindowKind::Tumble { size, offset } => Some((size, offset, size)),
            WindowKind::Hop { slide, offset, size } => Some((slide, offset, size)),
            WindowKind::Cumulate { .. } | WindowKind::Session { .. } => None,
        }
    }

    /// True if a window of this kind that holds the start of an `inner` one never ends before that does: all its ends are
    /// starts of inner ones, which do not overlap.
    pub fn ends_with(self, inner: WindowKind) -> bool {
        let (Some((step, start, size)), Some((inner_step, inner_start, inner_size))) = (self.starts(), inner.starts()) else { return false };
        inner_step >= inner_size && step % inner_step == 0 && (start + size - inner_start) % inner_step == 0
    }
}

/// What a window adds to its input's columns.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// Adds `window_start`, `window_end` and `window_time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowNode {
    /// What to assign.
    pub input: LogicalPlan,
    /// The event-time column, by name.
    pub time: String,
    /// Which windows.
    pub kind: WindowKind,
    /// For sessions: whose, by column name.
    pub partition_by: Vec<String>,
    schema: DFSchemaRef,
}

impl WindowNode {
    /// Plans the assignment; the time column keeps its type in the window columns.
    pub fn try_new(input: LogicalPlan, time: String, kind: WindowKind, partition_by: Vec<String>) -> Result<Self> {
        let (_, field) = input.schema().qualified_field_with_unqualified_name(&time)?;
        let time_type = match field.data_type() {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => return datafusion::common::plan_err!("a window needs a TIMESTAMP column; \"{time}\" is {other}"),
        };
        let (qualifier, _) = input.schema().qualified_field(0);
        let qualifier = qualifier.cloned();
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        for name in WINDOW_COLUMNS {
            fields.push((qualifier.clone(), Arc::new(Field::new(name, time_type.clone(), false))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        for name in &partition_by {
            input.schema().qualified_field_with_unqualified_name(name)?;
        }
        Ok(Self { input, time, kind, partition_by, schema })
    }
}

macro_rules! by_debug {
    ($node:ty) => {
        impl PartialOrd for $node {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                format!("{self:?}").partial_cmp(&format!("{other:?}"))
            }
        }
    };
}
by_debug!(DedupNode);
by_debug!(WindowNode);
by_debug!(AsOfNode);

impl UserDefinedLogicalNodeCore for DedupNode {
    fn name(&self) -> &str {
        "Deduplicate"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Deduplicate: key=[{}], within={}us", self.key.join(", "), self.within)
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self { input: inputs.swap_remove(0), ..self.clone() })
    }
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // The node's output is its input: asking for less would shift what the parent refers to.
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

/// Marks the versioned side of a temporal join.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsOfNode {
    /// The versions.
    pub input: LogicalPlan,
    /// The column of the other side whose time asks for a version, with its qualifier; `None` for processing time.
    pub time: Option<(Option<String>, String)>,
    /// The columns that name what there are versions of, where the versioned side says so; else those that the join compares.
    pub key: Vec<String>,
}

impl UserDefinedLogicalNodeCore for AsOfNode {
    fn name(&self) -> &str {
        "AsOf"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.time {
            Some((_, column)) => write!(f, "AsOf: {column}"),
            None => write!(f, "AsOf: PROCTIME()"),
        }
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self { input: inputs.swap_remove(0), ..self.clone() })
    }
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "AssignWindow"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.kind {
            WindowKind::Tumble { size, offset } => write!(f, "AssignWindow: TUMBLE on {}, size={size}us, offset={offset}us", self.time),
            WindowKind::Hop { slide, size, offset } => {
                write!(f, "AssignWindow: HOP on {}, slide={slide}us, size={size}us, offset={offset}us", self.time)
            }
            WindowKind::Cumulate { step, size, offset } => {
                write!(f, "AssignWindow: CUMULATE on {}, step={step}us, size={size}us, offset={offset}us", self.time)
            }
            WindowKind::Session { gap } => write!(f, "AssignWindow: SESSION on {}, of [{}], gap={gap}us", self.time, self.partition_by.join(", ")),
        }
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(inputs.swap_remove(0), self.time.clone(), self.kind, self.partition_by.clone())
    }
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

#[cfg(test)]
mod tests {
    use super::WindowKind::{Hop, Tumble};

    #[test]
    fn windows_over_the_starts_of_others_end_with_them() {
        let minutes = Tumble { size: 1, offset: 0 };
        let fives = Tumble { size: 5, offset: 0 };
        assert!(fives.ends_with(minutes) && fives.ends_with(fives) && Hop { slide: 5, size: 10, offset: 0 }.ends_with(fives));
        assert!(!minutes.ends_with(fives), "the first minute of five ends before them");
        assert!(!Tumble { size: 10, offset: 3 }.ends_with(fives));
        assert!(Tumble { size: 10, offset: -5 }.ends_with(fives));
        assert!(!Hop { slide: 5, size: 12, offset: 0 }.ends_with(fives));
        assert!(!fives.ends_with(Hop { slide: 1, size: 5, offset: 0 }), "hopping windows overlap");
    }
}
