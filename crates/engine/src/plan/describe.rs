//! Plans in words, for people.

use arrow::datatypes::Schema;
use watershed_codec::Format;

use super::WindowKind;
use crate::operator::{GroupColumn, Step};
use crate::time::interval;

/// A record format's name.
pub fn format(format: &Format) -> &'static str {
    match format {
        Format::Json => "json",
        Format::Csv(_) => "csv",
        Format::Text => "text",
    }
}

/// Columns with their types.
pub fn columns(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
}

/// One step.
pub fn step(step: &Step) -> String {
    match step {
        Step::Project { schema, .. } => {
            // The key of a table that is asked is named where that is.
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).filter(|name| !name.starts_with("__ws_key_")).collect();
            format!("compute {}", shortened(&names))
        }
        Step::Filter { condition, .. } => format!("keep rows where {condition}"),
        Step::Try(expressions) => {
            let tried: Vec<String> = expressions.iter().map(ToString::to_string).collect();
            format!("keep rows on which {} can be evaluated", tried.join(", "))
        }
        Step::Assign(spec) => {
            let time = spec.schema.field(spec.time).name();
            match spec.kind {
                WindowKind::Tumble { size, .. } => format!("assign windows of {} on {time}", interval(size)),
                WindowKind::Hop { slide, size, .. } => format!("assign windows of {} every {} on {time}", interval(size), interval(slide)),
                WindowKind::Cumulate { step, size, .. } => format!("assign windows that grow by {} up to {} on {time}", interval(step), interval(size)),
                WindowKind::Session { gap } => format!("assign sessions with a gap of {} on {time}", interval(gap)),
            }
        }
        Step::Lookup(lookup) => format!("look up in a static table, giving {} columns", lookup.schema().fields().len()),
        Step::Enrich(spec) => {
            let (table, options) = (&spec.table, spec.table.options());
            let key: Vec<&str> = table.key().iter().map(|index| table.schema().field(*index).name().as_str()).collect();
            let micros = i64::try_from(options.ttl.as_micros()).unwrap_or(i64::MAX);
            let kept = match options.max_rows {
                0 => "keeping no answers".to_owned(),
                rows => format!("keeping up to {rows} answers for {}", interval(micros)),
            };
            format!("ask static table {} by {}, up to {} keys a request, {kept}", table.name(), key.join(", "), options.batch)
        }
        Step::Settle(spec) => match spec.outer {
            true => format!("join what {} holds, or NULLs", spec.table),
            false => format!("join what {} holds", spec.table),
        },
        Step::Dedup(spec) => format!(
            "keep the first row of each key within {} (128-bit hashes of {})",
            interval(spec.within),
            if spec.key.len() == 1 { "one key column".to_owned() } else { format!("{} key columns", spec.key.len()) }
        ),
        Step::Operator(spec) => spec.describe(),
        Step::Expand(spec) => format!("once for each of {} grouping sets", spec.sets.len()),
        Step::Aggregate(spec) => {
            let groups: Vec<&str> = spec
                .groups
                .iter()
                .zip(spec.schema.fields())
                .map(|(group, field)| match group {
                    GroupColumn::WindowStart(_) => "window_start",
                    GroupColumn::WindowEnd(_) => "window_end",
                    GroupColumn::WindowTime(_) => "window_time",
                    GroupColumn::Key(_) => field.name(),
                })
                .collect();
            let functions: Vec<String> = spec.functions.iter().map(|f| f.name().replace("count(Int64(1))", "count(*)")).collect();
            format!("aggregate {} by {}, emitted when a window closes", functions.join(", "), groups.join(", "))
        }
    }
}

fn shortened(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    if names.len() <= SHOWN { names.join(", ") } else { format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN) }
}
