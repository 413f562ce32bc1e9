//! What went wrong, in the words of `docs/errors`.
//!
//! **Owns** every code of this crate, and the verdict on what Redshift says: does it blame a row, and may the write have landed?
//!
//! Redshift answers most failures with SQLSTATE `XX000`, so its words are read too.

use std::error::Error as StdError;

use watershed_types::{Error, Generation};

use crate::plan::Step;

/// What errors may name: never a password, never a value.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub sink: String,
    /// `schema.table`.
    pub table: String,
    /// Host, port and database; or the cluster or workgroup and the database.
    pub server: String,
    /// `s3://bucket/prefix`.
    pub staging: String,
}

/// A transaction that did not commit, or may not have.
#[derive(Debug)]
pub(crate) enum Fault {
    /// One of the guards said no: the sink is not ours, or the epoch is there.
    Guard(Step),
    /// A row is to blame; Redshift's words.
    Row(String),
    /// Another transaction came between in a database with serializable isolation.
    Overtaken(String),
    /// Something else.
    Failed(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Fault {
    /// Where no row, guard or overtaking is expected, each is an error like any other.
    pub fn into_error(self, place: &Place) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Row(words) | Self::Overtaken(words) => failed(place, words),
            Self::Guard(_) => changed(place, "another run of the pipeline came between"),
        }
    }
}

/// A failed statement, as the server tells it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// SQLSTATE, where it is known: the Data API gives words alone.
    pub code: Option<String>,
    /// Message and detail.
    pub words: String,
}

impl Place {
    /// Judges a failed statement that surely rolled back.
    pub fn judge(&self, step: Step, said: &Said) -> Fault {
        let words = said.words.to_ascii_lowercase();
        let code = said.code.as_deref().unwrap_or_default();
        let has = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
        if matches!(step, Step::Owner | Step::Epoch) && (code == "22012" || has(&["division by zero", "divide by zero"])) {
            return Fault::Guard(step);
        }
        if code == "40001" || has(&["serializable isolation violation", "deadlock detected", "conflict with concurrent transaction"]) {
            return Fault::Overtaken(said.words.clone());
        }
        let loads = matches!(step, Step::Copy | Step::Refused);
        // Neither a file that cannot be read nor one whose columns do not fit is a row's fault.
        const FILES: [&str; 12] = [
            "s3serviceexception",
            "access denied",
            "accessdenied",
            "forbidden",
            "not authorized",
            "iam role",
            "iam_role",
            "nosuchbucket",
            "nosuchkey",
            "no such key",
            "incompatible parquet schema",
            "manifest",
        ];
        if loads && has(&FILES) {
            return Fault::Failed(unreadable(self, &said.words));
        }
        const ROWS: [&str; 12] = [
            "stl_load_errors",
            "sys_load_error_detail",
            "spectrum scan error",
            "value too long",
            "exceeds ddl length",
            "length of the data column",
            "overflow",
            "out of range",
            "invalid digit",
            "cannot insert a null value",
            "invalid input syntax",
            "parsing error",
        ];
        let rows = code.starts_with("22") || code.starts_with("23") || has(&ROWS);
        if rows && matches!(step, Step::Copy | Step::Insert) {
            return Fault::Row(said.words.clone());
        }
        Fault::Failed(self.refused(code, &said.words, &has))
    }

    /// The refusal of a statement, not of a row.
    fn refused(&self, code: &str, words: &str, has: &dyn Fn(&[&str]) -> bool) -> Error {
        let Place { sink, table, server, .. } = self;
        let error = if code == "42501" || has(&["permission denied", "not authorized", "must be owner"]) {
            Error::denied("RSH0004", format!("sink \"{sink}\": not allowed on table \"{table}\" at \"{server}\""))
                .hint(format!("Grant the user INSERT, SELECT and DELETE on {table}, CREATE TEMPORARY TABLES on the database, and USAGE and all rights on schema watershed."))
        } else if matches!(code, "42P01" | "42703" | "42804" | "3F000") || has(&["does not exist", "but expression is of type"]) {
            return changed(self, "somebody changed it").caused_by(ServerWords(words.to_owned()));
        } else if code == "57014" || has(&["statement timeout", "canceled on user", "cancelled on user", "query cancelled"]) {
            Error::unavailable("RSH0010", format!("sink \"{sink}\": a statement on table \"{table}\" took too long or was cancelled at \"{server}\""))
                .hint("Somebody may hold a lock: look at svv_transactions; or the queue is full: look at stv_wlm_query_state; or raise statement_timeout.")
        } else if code.starts_with("53") || has(&["disk full", "too many connections"]) {
            Error::unavailable("RSH0010", format!("sink \"{sink}\": \"{server}\" has no room: {words}")).hint("Make room there; the epoch waits.")
        } else {
            return failed(self, words);
        };
        error.caused_by(ServerWords(words.to_owned())).definite()
    }

    /// The connection is gone. With `committing`, the commit may have happened.
    pub fn lost(&self, committing: bool, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let Place { sink, server, .. } = self;
        if committing {
            Error::unavailable("RSH0009", format!("sink \"{sink}\": nobody knows whether \"{server}\" committed the epoch"))
                .hint("Nothing needs to be done: the next attempt looks whether the epoch is there.")
                .caused_by(cause)
                .indefinite()
        } else {
            Error::unavailable("RSH0008", format!("sink \"{sink}\": the connection to \"{server}\" was lost"))
                .hint("It is opened again by itself; the epoch is delivered then.")
                .caused_by(cause)
                .definite()
        }
    }

    /// Nobody there.
    pub fn absent(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::unavailable("RSH0002", format!("sink \"{}\": no connection to \"{}\"", self.sink, self.server))
            .hint("Check that the cluster or workgroup is available, and that its security group lets this machine in; it is tried again.")
            .caused_by(cause)
            .definite()
    }

    /// There are no keys to ask with, at the moment.
    pub fn keyless(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::unavailable("RSH0004", format!("sink \"{}\": there are no keys to ask \"{}\" with", self.sink, self.server))
            .hint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the options of these names, or run where a role is given.")
            .caused_by(cause)
            .definite()
    }

    /// We are not let in.
    pub fn denied(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::denied("RSH0004", format!("sink \"{}\": \"{}\" does not let us in", self.sink, self.server))
            .hint(
                "Check the user and the password of the url; with the Data API the keys, secret_arn or db_user, and the rights redshift-data:* and redshift:GetClusterCredentials.",
            )
            .caused_by(cause)
            .definite()
    }
}

/// The server's words as a cause.
#[derive(Debug)]
pub(crate) struct ServerWords(pub String);

impl std::fmt::Display for ServerWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for ServerWords {}

pub(crate) fn failed(place: &Place, words: impl Into<String>) -> Error {
    Error::unavailable("RSH0010", format!("sink \"{}\": a statement on table \"{}\" failed", place.sink, place.table))
        .hint("The server's words are above; the epoch is tried again.")
        .caused_by(ServerWords(words.into()))
        .definite()
}

pub(crate) fn bad_option(sink: &str, message: impl std::fmt::Display, hint: &str) -> Error {
    Error::invalid("RSH0001", format!("sink \"{sink}\": {message}")).hint(hint)
}

pub(crate) fn no_type(sink: &str, column: &str, arrow: &dyn std::fmt::Display) -> Error {
    Error::invalid("RSH0003", format!("sink \"{sink}\": column \"{column}\" is {arrow}, which has no Redshift type"))
        .hint(format!("CAST {column} to a type of the table in the guide, or leave it out."))
}

pub(crate) fn mismatch(place: &Place, what: impl std::fmt::Display, mend: impl std::fmt::Display) -> Error {
    Error::invalid("RSH0005", format!("sink \"{}\": table \"{}\" does not fit: {what}", place.sink, place.table)).hint(format!("{mend}")).definite()
}

pub(crate) fn no_table(place: &Place) -> Error {
    Error::invalid("RSH0006", format!("sink \"{}\": there is no table \"{}\" at \"{}\"", place.sink, place.table, place.server))
        .hint("Create it, or leave create_table out.")
        .definite()
}

pub(crate) fn fenced(place: &Place, ours: Generation, theirs: i64) -> Error {
    Error::fenced("RSH0007", format!("sink \"{}\": generation {theirs} owns it, this run is generation {ours}", place.sink))
        .hint("Another run of the pipeline took over; stop this one.")
        .definite()
}

pub(crate) fn unclaimed(place: &Place) -> Error {
    Error::conflict("RSH0007", format!("sink \"{}\": its line in watershed.owners at \"{}\" is gone or an older one", place.sink, place.server))
        .hint("Somebody emptied schema watershed or restored an older copy. Restart the pipeline after making sure that the table holds what the last epoch says.")
        .definite()
}

pub(crate) fn changed(place: &Place, what: &str) -> Error {
    Error::conflict("RSH0011", format!("sink \"{}\": table \"{}\" is not what it was when the pipeline began: {what}", place.sink, place.table))
        .hint("Restart the pipeline: it checks the table and says what is missing.")
        .definite()
}

pub(crate) fn staging_failed(place: &Place, what: &str, cause: object_store::Error) -> Error {
    let denied = matches!(cause, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
    let message = format!("sink \"{}\": {what} at \"{}\"", place.sink, place.staging);
    let error = if denied { Error::denied("RSH0012", message) } else { Error::unavailable("RSH0012", message) };
    error.hint("Check that the bucket exists in the warehouse's region, and that the keys may PutObject, GetObject, DeleteObject and ListBucket there.").caused_by(cause).definite()
}

fn unreadable(place: &Place, words: &str) -> Error {
    Error::denied("RSH0013", format!("sink \"{}\": \"{}\" cannot read what was staged at \"{}\"", place.sink, place.server, place.staging))
        .hint("Check that iam_role is attached to the cluster or workgroup, that it may GetObject and ListBucket there, and that the bucket is in the same region.")
        .caused_by(ServerWords(words.to_owned()))
        .definite()
}

pub(crate) fn unfit_rows(sink: &str, what: impl std::fmt::Display) -> Error {
    Error::internal("RSH0014", format!("sink \"{sink}\": rows do not have the declared columns: {what}")).hint("Please report this.").definite()
}

pub(crate) fn bad_ledger(place: &Place, what: impl std::fmt::Display) -> Error {
    Error::corrupt("RSH0015", format!("sink \"{}\": schema watershed at \"{}\" cannot be understood: {what}", place.sink, place.server))
        .hint("Somebody changed it by hand; put it back from a snapshot of the warehouse.")
        .definite()
}

pub(crate) fn blameless(place: &Place, words: &str) -> Error {
    Error::unavailable("RSH0016", format!("sink \"{}\": a load of table \"{}\" is refused, and no row is found to be to blame", place.sink, place.table))
        .hint("The server's words are above; the epoch waits. Look at sys_load_error_detail.")
        .caused_by(ServerWords(words.to_owned()))
        .definite()
}

pub(crate) fn too_many_probes(place: &Place, probes: u64, found: usize, words: &str) -> Error {
    Error::unavailable("RSH0016", format!("sink \"{}\": {found} refused rows were found by {probes} trial loads of table \"{}\", and there are more", place.sink, place.table))
        .hint("Mend the table so that it takes these rows, or raise max_probes.")
        .caused_by(ServerWords(words.to_owned()))
        .definite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(step: Step, words: &str) -> Fault {
        let place = Place { sink: "s".into(), table: "public.t".into(), server: "c/dev".into(), staging: "s3://b".into() };
        place.judge(step, &Said { code: Some("XX000".into()), words: words.into() })
    }

    #[test]
    fn words_tell_rows_from_files_and_guards() {
        let too_long = "The length of the data column name is longer than the length defined in the table. Table: 10, Data: 25";
        assert!(matches!(judge(Step::Copy, too_long), Fault::Row(_)));
        assert!(matches!(judge(Step::Copy, "Load into table 'watershed_stage' failed. Check 'sys_load_error_detail' system table for details."), Fault::Row(_)));
        assert!(matches!(judge(Step::Insert, "Numeric data overflow (result precision)"), Fault::Row(_)));
        for files in [
            "Spectrum Scan Error: File 'https://s3.eu-west-1.amazonaws.com/b/part-0000.parquet' has an incompatible Parquet schema for column 's3://b'. Column type: INT",
            "S3ServiceException:Access Denied,Status 403,Error AccessDenied",
        ] {
            assert!(matches!(judge(Step::Copy, files), Fault::Failed(error) if error.code() == "RSH0013"), "{files}");
        }
        assert!(matches!(judge(Step::Owner, "ERROR: division by zero"), Fault::Guard(Step::Owner)));
        assert!(matches!(judge(Step::Record, "Serializable isolation violation on table - 100, transactions forming the cycle are: 1, 2"), Fault::Overtaken(_)));
        assert!(matches!(judge(Step::Delete, "Value too long for character type"), Fault::Failed(error) if error.code() == "RSH0010"));
    }
}
