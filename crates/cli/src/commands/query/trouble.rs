//! What is wrong with a query, in words: where, and what was probably meant.

use datafusion::common::DataFusionError;
use watershed_types::{Error, near_miss};

use crate::system::{Names, SYSTEM_TABLES};

/// An error of DataFusion as ours.
pub fn explain(error: &DataFusionError, sql: &str, names: &Names) -> Error {
    if let Some(ours) = Error::find(error) {
        let copy = Error::new(ours.kind(), ours.code(), ours.message());
        let cause = std::error::Error::source(ours).map(ToString::to_string);
        let copy = match cause {
            Some(cause) => copy.caused_by(cause),
            None => copy,
        };
        return match ours.next_step() {
            Some(hint) => copy.hint(hint),
            None => copy,
        };
    }
    let text = words(error);
    for refused in ["DDL not supported", "DML not supported", "Statement not supported"] {
        if text.contains(refused) {
            return Error::denied("CLI0063", "a query only reads: this statement would change something")
                .hint("Tables are written by the pipeline alone. Change its SQL files, or write query results elsewhere with --format csv or json.");
        }
    }
    if text.contains("only supports a single SQL statement") {
        return Error::invalid("CLI0064", "there is more than one statement").hint("Run them one by one.");
    }
    if let Some(name) = between(&text, "table '", "' not found") {
        return unknown_table(&name, sql, names);
    }
    if text.contains("Object Store error") || text.contains("Parquet error") {
        return Error::corrupt("CLI0068", format!("a file of a table cannot be read: {}", tidy(&text))).hint("Run `watershed verify --deep` to see what is wrong with the lake.");
    }
    let place = place(error, &text);
    let shown = place.map(|(line, column)| caret(sql, line, column)).unwrap_or_default();
    let wrong = Error::invalid("CLI0065", format!("{}{shown}", tidy(&text)));
    match hint(error, &text) {
        Some(hint) => wrong.hint(hint),
        None => wrong,
    }
}

fn unknown_table(full: &str, sql: &str, names: &Names) -> Error {
    let name = full.strip_prefix("datafusion.").or_else(|| full.strip_prefix("watershed.")).unwrap_or(full);
    let name = name.strip_prefix("public.").unwrap_or(name);
    let system: Vec<String> = SYSTEM_TABLES.iter().map(|t| format!("system.{t}")).collect();
    let warehouse: Vec<String> = names.warehouse.iter().map(|t| format!("warehouse.{t}")).collect();
    let all: Vec<&str> = names.tables.keys().chain(&names.empty).chain(&system).chain(&warehouse).map(String::as_str).collect();
    let bare = name.rsplit('.').next().unwrap_or(name);
    let shown = sql.lines().enumerate().find_map(|(index, line)| Some(caret(sql, index as u64 + 1, line.find(bare)? as u64 + 1))).unwrap_or_default();
    if let Some(kind) = names.others.get(name) {
        let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let hint = match names.warehouse.iter().any(|there| there == name) {
            true => format!("What a Postgres sink wrote is warehouse.{name}. Tables: {}.", all.join(", ")),
            false => format!("Tables: {}.", all.join(", ")),
        };
        return Error::invalid("CLI0066", format!("\"{name}\" is {article} {kind}, and only tables can be queried{shown}")).hint(hint);
    }
    let near = near_miss(name, all.iter().copied()).or_else(|| all.iter().copied().find(|t| t.strip_prefix("system.").or(t.strip_prefix("warehouse.")) == Some(name)));
    let hint = match near {
        Some(near) => format!("Did you mean {near}? Tables: {}.", all.join(", ")),
        None => format!("Tables: {}.", all.join(", ")),
    };
    Error::invalid("CLI0066", format!("there is no table \"{name}\"{shown}")).hint(hint)
}

fn words(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Diagnostic(_, inner) => words(inner),
        DataFusionError::Context(_, inner) => words(inner),
        DataFusionError::Collection(all) => all.first().map(words).unwrap_or_default(),
        other => other.strip_backtrace(),
    }
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let start = text.find(before)? + before.len();
    let end = start + text[start..].find(after)?;
    Some(text[start..end].to_owned())
}

/// Without the names of DataFusion's error classes.
fn tidy(text: &str) -> String {
    let mut text = text.lines().next().unwrap_or_default().trim();
    for prefix in [
        "Error during planning: ",
        "SQL error: ",
        "Schema error: ",
        "Execution error: ",
        "Arrow error: ",
        "Optimizer rule 'simplify_expressions' failed",
        "ParserError(\"",
        "This feature is not implemented: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let text = text.trim_end_matches("\")");
    let text = text.split(" at Line: ").next().unwrap_or(text).trim_end_matches('.');
    let text = text.split(". Valid fields are").next().unwrap_or(text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn hint(error: &DataFusionError, text: &str) -> Option<String> {
    if let Some((_, fields)) = text.split_once("Valid fields are ") {
        let fields: Vec<&str> = fields.trim_end_matches('.').split(", ").collect();
        let bare = |f: &str| f.rsplit('.').next().unwrap_or(f).trim_matches('"').to_owned();
        let wrong = between(text, "No field named ", ".").map(|f| bare(&f)).unwrap_or_default();
        let columns: Vec<String> = fields.iter().map(|f| bare(f)).collect();
        let near = near_miss(&wrong, columns.iter().map(String::as_str)).map(|n| format!("Did you mean {n}? ")).unwrap_or_default();
        return Some(format!("{near}Columns: {}.", columns.join(", ")));
    }
    let help = error.diagnostic()?.helps.first()?;
    Some(format!("{}.", help.message.trim_end_matches('.')))
}

/// Line and column, from 1.
fn place(error: &DataFusionError, text: &str) -> Option<(u64, u64)> {
    if let Some(span) = error.diagnostic().and_then(|d| d.span) {
        return Some((span.start.line, span.start.column));
    }
    let (_, at) = text.rsplit_once("Line: ")?;
    let (line, column) = at.split_once(", Column: ")?;
    let digits = |t: &str| t.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(line)?, digits(column)?))
}

/// The line, and a caret below the column.
fn caret(sql: &str, line: u64, column: u64) -> String {
    let Some(text) = sql.lines().nth(line.saturating_sub(1) as usize) else { return String::new() };
    let before: String = text.chars().take(column.saturating_sub(1) as usize).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("\n  {line:>3} | {text}\n      | {before}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_column() {
        assert_eq!(caret("SELECT x\nFROM y", 2, 6), "\n    2 | FROM y\n      |      ^");
        assert_eq!(caret("SELECT 1", 7, 1), "");
    }

    #[test]
    fn class_names_and_places_are_left_out() {
        assert_eq!(tidy("SQL error: ParserError(\"Expected: an expression, found: FROM at Line: 1, Column: 8\")"), "expected: an expression, found: FROM");
    }
}
