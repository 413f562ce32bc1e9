//! Our errors as Postgres clients expect them: a class they can act on, and our words.

use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use watershed_types::{Error, Kind};

/// An error of one statement.
pub(crate) fn refuse(state: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), state.to_owned(), message.into())))
}

/// The same, with a next step.
pub(crate) fn refuse_with(state: &str, message: impl Into<String>, hint: &str) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), state.to_owned(), message.into());
    info.hint = Some(hint.to_owned());
    PgWireError::UserError(Box::new(info))
}

/// An error that ends the connection.
pub(crate) fn fatal(state: &str, message: impl Into<String>, hint: Option<&str>) -> PgWireError {
    let mut info = ErrorInfo::new("FATAL".to_owned(), state.to_owned(), message.into());
    info.hint = hint.map(str::to_owned);
    PgWireError::UserError(Box::new(info))
}

/// Too slow.
pub(crate) fn timed_out() -> PgWireError {
    refuse_with("57014", "the statement took longer than statement_timeout", "SET statement_timeout = '5min', or 0 for no limit.")
}

/// A statement that writes.
pub(crate) fn read_only(what: &str) -> PgWireError {
    refuse_with("25006", format!("{what} is refused: this port only reads"), "Tables are written by the pipeline alone. Change its SQL files.")
}

/// One of ours.
pub(crate) fn worded(error: &Error) -> PgWireError {
    let message = error.message().lines().next().unwrap_or_default();
    let mut info = ErrorInfo::new("ERROR".to_owned(), state(error).to_owned(), format!("{}: {message}", error.code()));
    info.hint = error.next_step().map(str::to_owned);
    info.detail = std::error::Error::source(error).map(ToString::to_string).filter(|cause| !cause.contains(message));
    PgWireError::UserError(Box::new(info))
}

/// The SQLSTATE: from the words where the kind does not say enough.
fn state(error: &Error) -> &'static str {
    let text = error.message().to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match error.kind() {
        Kind::Corrupt => "XX001",
        Kind::Unavailable => "58030",
        Kind::Internal => "XX000",
        Kind::Denied if says(&["only reads"]) => "25006",
        Kind::Denied => "42501",
        Kind::Conflict | Kind::Fenced => "40001",
        Kind::Invalid | Kind::Rejected => match () {
            () if says(&["has no data yet"]) => "55000",
            () if says(&["there is no table", "only tables can be queried"]) => "42P01",
            () if says(&["no field named", "column '"]) => "42703",
            () if says(&["ambiguous"]) => "42702",
            () if says(&["invalid function", "unknown function", "no function matches"]) => "42883",
            () if says(&["divide by zero"]) => "22012",
            () if says(&["overflow"]) => "22003",
            () if says(&["resources exhausted"]) => "53200",
            () if says(&["cast error", "cannot cast", "parser error", "error parsing"]) => "22P02",
            () if says(&["not supported", "not implemented", "unsupported"]) => "0A000",
            () if says(&["expected", "unterminated", "unexpected"]) => "42601",
            () => "42000",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_state() {
        for (error, expected) in [
            (Error::invalid("A0001", "there is no table \"x\"\n  1 | caret"), "42P01"),
            (Error::denied("A0001", "a query only reads: this statement would change something"), "25006"),
            (Error::corrupt("A0001", "a file cannot be read"), "XX001"),
            (Error::invalid("A0001", "no field named y"), "42703"),
            (Error::invalid("A0001", "something else"), "42000"),
        ] {
            let PgWireError::UserError(info) = worded(&error.hint("Do this.")) else { panic!("a user error") };
            assert_eq!((info.code.as_str(), info.hint.as_deref(), info.message.lines().count()), (expected, Some("Do this."), 1));
        }
    }
}
