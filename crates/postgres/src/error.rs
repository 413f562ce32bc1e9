//! What went wrong, in the words of `docs/errors`.
//!
//! **Owns** every code of this crate, and the verdict on what the server says: does it blame a row, and may the write have landed?

use std::error::Error as _;

use tokio_postgres::error::{DbError, Severity, SqlState};
use watershed_types::{Epoch, Error, Generation};

/// What errors may name: never a password, never a value.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub sink: String,
    /// `schema.table`.
    pub table: String,
    /// Host, port and database.
    pub server: String,
}

/// Where in the transaction a statement was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// No `COMMIT` was sent.
    Before,
    /// `COMMIT` was sent in the same flight.
    Commit,
}

/// A failed statement.
pub(crate) enum Fault {
    /// A row is to blame.
    Row(Blame),
    /// Something else is.
    Failed(Error),
}

/// What the server said of a row.
#[derive(Debug, Clone)]
pub(crate) struct Blame {
    /// Its words.
    pub detail: String,
    /// The row's place in the `COPY` that failed, from 1, where the server says it.
    pub line: Option<u64>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Fault {
    /// For statements that touch no row: blame is an error like any other.
    pub fn into_error(self, place: &Place) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Row(blame) => failed(place, blame.detail).definite(),
        }
    }
}

impl Place {
    /// Judges a failed statement.
    pub fn judge(&self, error: tokio_postgres::Error, moment: Moment) -> Fault {
        let Some(db) = error.as_db_error() else {
            return Fault::Failed(self.lost(moment, error));
        };
        let ended = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || db.code().code().starts_with("08") || db.code().code().starts_with("57P");
        if ended || *db.code() == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN {
            return Fault::Failed(self.lost(moment, error));
        }
        if blames_row(db) {
            return Fault::Row(Blame { detail: words(db), line: db.where_().and_then(line) });
        }
        Fault::Failed(self.refused(db).definite())
    }

    /// The same, where no row can be to blame.
    pub fn error(&self, error: tokio_postgres::Error) -> Error {
        self.judge(error, Moment::Before).into_error(self)
    }

    fn lost(&self, moment: Moment, cause: tokio_postgres::Error) -> Error {
        let Place { sink, server, .. } = self;
        match moment {
            Moment::Before => Error::unavailable("PG0008", format!("sink \"{sink}\": the connection to \"{server}\" was lost"))
                .hint("It is opened again by itself; the epoch is delivered then.")
                .definite(),
            Moment::Commit => Error::unavailable("PG0009", format!("sink \"{sink}\": the connection to \"{server}\" was lost before it answered the commit"))
                .hint("Nothing needs to be done: the next attempt looks whether the epoch is there.")
                .indefinite(),
        }
        .caused_by(cause)
    }

    /// The server's refusal of a statement, not of a row.
    fn refused(&self, db: &DbError) -> Error {
        let Place { sink, table, server } = self;
        let code = db.code();
        let error = match code.code() {
            "42501" => Error::denied("PG0004", format!("sink \"{sink}\": not allowed on table \"{table}\" at \"{server}\""))
                .hint(format!("Grant the user of the url INSERT, SELECT, UPDATE and DELETE on {table}, and the same on all tables in schema watershed.")),
            "42P01" | "42703" | "42804" | "42P10" | "22P03" => changed(self, "somebody changed it"),
            "55P03" | "57014" => Error::unavailable("PG0010", format!("sink \"{sink}\": a statement on table \"{table}\" took too long"))
                .hint("Somebody may hold a lock: look at pg_stat_activity; or raise statement_timeout."),
            "53100" => Error::unavailable("PG0010", format!("sink \"{sink}\": the disk of \"{server}\" is full")).hint("Make room there; the epoch waits."),
            "53300" => {
                Error::unavailable("PG0010", format!("sink \"{sink}\": \"{server}\" takes no more connections")).hint("Raise max_connections there, or lower connections here.")
            }
            "25006" => Error::unavailable("PG0010", format!("sink \"{sink}\": \"{server}\" is read-only"))
                .hint("It is a standby, or default_transaction_read_only is set; point url at the primary."),
            _ => failed(self, words(db)),
        };
        error.caused_by(ServerWords(words(db)))
    }
}

fn failed(place: &Place, words: String) -> Error {
    Error::unavailable("PG0010", format!("sink \"{}\": a statement on table \"{}\" failed", place.sink, place.table))
        .hint("The server's words are above; the epoch is tried again.")
        .caused_by(ServerWords(words))
}

/// The server's words as a cause.
#[derive(Debug)]
struct ServerWords(String);

impl std::fmt::Display for ServerWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerWords {}

/// Data exceptions, broken constraints, refusals by triggers and views, and rows too long for an index.
fn blames_row(db: &DbError) -> bool {
    let code = db.code().code();
    // 22P03 is a binary value of another width: the column's type changed, the row is innocent.
    (code.starts_with("22") && code != "22P03") || code.starts_with("23") || matches!(code, "44000" | "P0001" | "54000")
}

/// Message, detail, constraint and column.
fn words(db: &DbError) -> String {
    let mut words = db.message().to_owned();
    if let Some(detail) = db.detail() {
        words.push_str(": ");
        words.push_str(detail);
    }
    for (what, name) in [("constraint", db.constraint()), ("column", db.column())] {
        if let Some(name) = name
            && !words.contains(&format!("\"{name}\""))
        {
            words.push_str(&format!(" ({what} \"{name}\")"));
        }
    }
    if db.constraint().is_none()
        && db.column().is_none()
        && let Some((_, column)) = db.where_().and_then(|place| place.lines().next()).and_then(|place| place.rsplit_once(", column "))
    {
        words.push_str(&format!(" (column \"{}\")", column.split(':').next().unwrap_or(column)));
    }
    words
}

/// The row's number in `COPY orders, line 17, column price`. None in a server that speaks another language.
fn line(place: &str) -> Option<u64> {
    let (_, rest) = place.lines().find(|line| line.starts_with("COPY "))?.split_once(", line ")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The table is not there, and the server knows epochs that were put in it.
pub(crate) fn gone(place: &Place) -> Error {
    let Place { sink, table, server } = place;
    Error::corrupt("PG0036", format!("sink \"{sink}\": table \"{table}\" at \"{server}\" is gone, and watershed.epochs has the epochs that were put there"))
        .hint(
            "Restore the table from a backup. Or delete the sink's lines in watershed.epochs and run `watershed verify --repair`, which gives back the epochs that are still kept.",
        )
        .definite()
}

pub(crate) fn bad_option(sink: &str, message: impl std::fmt::Display, hint: &str) -> Error {
    Error::invalid("PG0001", format!("sink \"{sink}\": {message}")).hint(hint)
}

/// Judges a failed connection.
pub(crate) fn unreachable(place: &Place, cause: &tokio_postgres::Error) -> Error {
    let Place { sink, server, .. } = place;
    match cause.code().map(SqlState::code) {
        // The server's words name the user, and so are left out.
        Some("28P01" | "28000") => Error::denied("PG0004", format!("sink \"{sink}\": \"{server}\" does not let us in"))
            .hint("Check the user and the password of the url, and the server's pg_hba.conf.")
            .definite(),
        Some("3D000") => Error::invalid("PG0002", format!("sink \"{sink}\": there is no database at \"{server}\"")).hint("Create it, or correct the url.").definite(),
        _ => {
            let words = cause.source().map_or_else(|| cause.to_string(), ToString::to_string);
            // The client says it in words alone.
            if words.contains("does not support TLS") {
                return Error::invalid("PG0002", format!("sink \"{sink}\": \"{server}\" does not speak TLS, and the url asks for it"))
                    .hint("Turn TLS on there (ssl = on), or write sslmode=disable for a connection that anybody between can read.")
                    .definite();
            }
            absent(place).caused_by(ServerWords(words))
        }
    }
}

/// A server that took the connection and never spoke.
pub(crate) fn silent(place: &Place) -> Error {
    absent(place).caused_by(ServerWords("no answer in time".to_owned()))
}

fn absent(place: &Place) -> Error {
    Error::unavailable("PG0002", format!("sink \"{}\": no connection to \"{}\"", place.sink, place.server))
        .hint("Check that the server runs and takes connections; it is tried again.")
        .definite()
}

pub(crate) fn no_type(sink: &str, column: &str, arrow: &dyn std::fmt::Display) -> Error {
    Error::invalid("PG0003", format!("sink \"{sink}\": column \"{column}\" is {arrow}, which has no Postgres type"))
        .hint(format!("CAST {column} to a type of the table in the guide, or leave it out."))
}

pub(crate) fn mismatch(place: &Place, what: impl std::fmt::Display, alter: impl std::fmt::Display) -> Error {
    Error::invalid("PG0005", format!("sink \"{}\": table \"{}\" does not fit: {what}", place.sink, place.table)).hint(format!("Run: {alter}")).definite()
}

pub(crate) fn no_table(place: &Place) -> Error {
    Error::invalid("PG0006", format!("sink \"{}\": there is no table \"{}\" at \"{}\"", place.sink, place.table, place.server))
        .hint("Create it, or leave create_table out.")
        .definite()
}

pub(crate) fn fenced(place: &Place, ours: Generation, theirs: i64) -> Error {
    Error::fenced("PG0007", format!("sink \"{}\": generation {theirs} owns it, this run is generation {ours}", place.sink))
        .hint("Another run of the pipeline took over; stop this one.")
        .definite()
}

pub(crate) fn twin(place: &Place, ours: Generation) -> Error {
    Error::fenced("PG0016", format!("sink \"{}\": another process has claimed it as generation {ours}, which this run is, too", place.sink))
        .hint("Two copies of one project write to one table, each with a checkpoint of its own. Stop one of them for good.")
        .definite()
}

pub(crate) fn unclaimed(place: &Place) -> Error {
    Error::conflict("PG0007", format!("sink \"{}\": its line in watershed.owners at \"{}\" is gone", place.sink, place.server))
        .hint("Somebody emptied schema watershed or restored an older copy. Restart the pipeline after making sure that the table holds what the last epoch says.")
        .definite()
}

pub(crate) fn changed(place: &Place, what: &str) -> Error {
    Error::conflict("PG0011", format!("sink \"{}\": table \"{}\" is not what it was when the pipeline began: {what}", place.sink, place.table))
        .hint("Restart the pipeline: it checks the table and says what is missing.")
        .definite()
}

pub(crate) fn repeat_with_care(place: &Place, epoch: Epoch) -> Error {
    Error::unavailable("PG0012", format!("sink \"{}\": the server refused a row of epoch {epoch}", place.sink))
        .hint("Nothing needs to be done: the next attempt finds the row.")
        .definite()
}

pub(crate) fn bad_ledger(place: &Place, what: impl std::fmt::Display) -> Error {
    Error::corrupt("PG0013", format!("sink \"{}\": watershed.epochs at \"{}\" cannot be understood: {what}", place.sink, place.server))
        .hint("Somebody changed it by hand; put it back from a copy of the database.")
        .definite()
}

pub(crate) fn refused_now(place: &Place, epoch: Epoch, words: &str) -> Error {
    Error::conflict("PG0015", format!("sink \"{}\": table \"{}\" refuses a row of epoch {epoch} that it took before: {words}", place.sink, place.table))
        .hint("Nothing was changed. Somebody changed the table's constraints: make room for the row, then repair again.")
        .definite()
}

pub(crate) fn unfit_rows(sink: &str, what: impl std::fmt::Display) -> Error {
    Error::internal("PG0014", format!("sink \"{sink}\": rows do not have the declared columns: {what}")).hint("Please report this.").definite()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_is_read_from_the_servers_context() {
        assert_eq!(line("COPY orders, line 17, column price"), Some(17));
        assert_eq!(line("COPY orders, line 3"), Some(3));
        assert_eq!(line("SQL statement \"…\"\nCOPY orders, line 3: \"x\""), Some(3));
        assert_eq!(line("COPY orders, Zeile 3"), None);
    }
}
