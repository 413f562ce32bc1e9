//! What can be wrong with a read, in the words of `docs/errors`.

use watershed_types::{Error, near_miss};

pub(crate) fn bad_parameter(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::invalid("TIER0001", message).hint(hint)
}

pub(crate) fn no_key(table: &str) -> Error {
    Error::invalid("TIER0002", format!("table \"{table}\" has no key to be read by"))
        .hint("Give it a sink with one: postgres with mode = 'upsert', or redis; or read a range with from and to.")
}

pub(crate) fn no_table(table: &str, known: &[&str]) -> Error {
    let hint = match near_miss(table, known.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Tables: {}.", known.join(", ")),
    };
    Error::invalid("TIER0003", format!("there is no table \"{table}\"")).hint(hint)
}

/// No tier has a part of what was asked for.
pub(crate) fn uncovered(table: &str, what: &str, why: &str) -> Error {
    Error::unavailable("TIER0004", format!("no tier of table \"{table}\" can answer {what}: {why}")).hint("Wait until one of them is back; GET /v1/status says more.")
}

pub(crate) fn not_acceptable(accept: &str) -> Error {
    Error::invalid("TIER0005", format!("rows cannot be written as \"{accept}\"")).hint("Accept application/json, application/x-ndjson or text/csv.")
}

pub(crate) fn unfit(tier: &str, table: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::corrupt("TIER0006", format!("rows of table \"{table}\" from the {tier} tier do not have the table's columns"))
        .hint("Somebody else writes there, or the table's columns were changed. `watershed verify` says more.")
        .caused_by(cause)
}
