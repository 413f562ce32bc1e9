//! What a statement is: one that reads, one about the connection, or one that is refused.

use datafusion::sql::sqlparser::ast::{CloseCursor, DeclareType, DiscardObject, Expr, FetchDirection, Query, Reset, Set, Statement, Value};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};

use crate::error::{read_only, refuse, refuse_with};

/// What to do for a statement.
pub(crate) enum Action<'a> {
    /// Plan it and answer with rows.
    Read,
    /// Change settings; without a value, back to the start.
    Set(Vec<(String, Option<String>)>),
    /// One setting, or all.
    Show(String),
    ResetAll,
    Begin,
    Commit,
    Rollback,
    Declare {
        name: &'a str,
        query: &'a Query,
        hold: bool,
    },
    /// So many rows; all without a number.
    Fetch {
        name: &'a str,
        rows: Option<u64>,
    },
    CloseCursor(Option<&'a str>),
    DiscardAll,
    /// A prepared statement that is not needed any more; every one without a name.
    Deallocate(Option<&'a str>),
    /// Nothing to do, and a tag to say so.
    Nothing(&'static str),
}

/// Decides.
pub(crate) fn action(statement: &Statement) -> PgWireResult<Action<'_>> {
    Ok(match statement {
        Statement::Query(_) | Statement::Explain { .. } | Statement::ExplainTable { .. } | Statement::ShowTables { .. } | Statement::ShowColumns { .. } => Action::Read,
        Statement::Set(set) => settings(set)?,
        Statement::ShowVariable { variable } => Action::Show(shown(&variable.iter().map(|v| v.value.to_ascii_lowercase()).collect::<Vec<_>>().join(" "))),
        Statement::Reset(reset) => match &reset.reset {
            Reset::ALL => Action::ResetAll,
            Reset::ConfigurationParameter(name) => Action::Set(vec![(name.to_string(), None)]),
        },
        Statement::StartTransaction { .. } => Action::Begin,
        Statement::Commit { .. } => Action::Commit,
        Statement::Rollback { savepoint: Some(_), .. } => Action::Nothing("ROLLBACK"),
        Statement::Rollback { .. } => Action::Rollback,
        Statement::Savepoint { .. } => Action::Nothing("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => Action::Nothing("RELEASE"),
        Statement::Declare { stmts } => match &stmts[..] {
            [one] => match (&one.declare_type, &one.names[..], &one.for_query) {
                (Some(DeclareType::Cursor), [name], Some(query)) => Action::Declare { name: &name.value, query, hold: one.hold == Some(true) },
                _ => return Err(refuse("0A000", "only DECLARE name CURSOR FOR a query is known")),
            },
            _ => return Err(refuse("0A000", "only one cursor can be declared at a time")),
        },
        Statement::Fetch { name, direction, into: None, .. } => Action::Fetch { name: &name.value, rows: forward(direction)? },
        Statement::Close { cursor: CloseCursor::All } => Action::CloseCursor(None),
        Statement::Close { cursor: CloseCursor::Specific { name } } => Action::CloseCursor(Some(&name.value)),
        Statement::Discard { object_type: DiscardObject::ALL } => Action::DiscardAll,
        Statement::Discard { .. } => Action::Nothing("DISCARD"),
        Statement::Deallocate { name, .. } if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") => Action::Deallocate(None),
        Statement::Deallocate { name, .. } => Action::Deallocate(Some(&name.value)),
        Statement::UNLISTEN { .. } => Action::Nothing("UNLISTEN"),
        Statement::Copy { .. } | Statement::CopyIntoSnowflake { .. } => {
            return Err(refuse_with("0A000", "COPY is not known at this port", "Take rows with SELECT; in psql: \\copy does not work, \\pset format csv does."));
        }
        Statement::Prepare { .. } | Statement::Execute { .. } => {
            return Err(refuse_with("0A000", "PREPARE and EXECUTE are not known as SQL", "Clients prepare statements by the protocol; that works."));
        }
        Statement::LISTEN { .. } | Statement::NOTIFY { .. } => return Err(refuse("0A000", "LISTEN and NOTIFY are not known at this port")),
        other => return Err(read_only(&keyword(other))),
    })
}

/// The first words of a statement, such as `INSERT` or `CREATE TABLE`.
fn keyword(statement: &Statement) -> String {
    let text = statement.to_string();
    let mut words = text.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_alphabetic()));
    match words.next() {
        Some(first @ ("CREATE" | "DROP" | "ALTER" | "TRUNCATE")) => [Some(first), words.next()].into_iter().flatten().collect::<Vec<_>>().join(" "),
        Some(first) => first.to_owned(),
        None => "this statement".to_owned(),
    }
}

/// The setting that a SHOW means.
fn shown(words: &str) -> String {
    match words {
        "time zone" => "TimeZone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        other => other.to_owned(),
    }
}

fn settings(set: &Set) -> PgWireResult<Action<'_>> {
    Ok(match set {
        Set::SingleAssignment { variable, values, .. } => {
            let name = variable.to_string().trim_matches('"').to_owned();
            let default = matches!(&values[..], [Expr::Identifier(word)] if word.value.eq_ignore_ascii_case("default"));
            let value = values.iter().map(text).collect::<Vec<_>>().join(", ");
            Action::Set(vec![(name, (!default).then_some(value))])
        }
        Set::SetTimeZone { value, .. } => Action::Set(vec![("TimeZone".to_owned(), Some(text(value)))]),
        Set::SetNames { charset_name, .. } => Action::Set(vec![("client_encoding".to_owned(), Some(charset_name.value.clone()))]),
        Set::SetNamesDefault {} => Action::Set(vec![("client_encoding".to_owned(), None)]),
        // A transaction reads one epoch whatever level is asked for, which is more than any level promises.
        Set::SetTransaction { modes, .. } if modes.iter().any(|m| m.to_string() == "READ WRITE") => return Err(read_only("READ WRITE")),
        Set::SetTransaction { .. } => Action::Nothing("SET"),
        Set::SetRole { .. } | Set::SetSessionAuthorization(_) => return Err(refuse("0A000", "a connection keeps its user")),
        _ => return Err(refuse("0A000", format!("{set} is not known at this port"))),
    })
}

/// A setting's value as it was meant.
fn text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.clone(),
            other => other.clone().into_string().unwrap_or_else(|| other.to_string()),
        },
        Expr::Identifier(word) => word.value.clone(),
        other => other.to_string(),
    }
}

fn forward(direction: &FetchDirection) -> PgWireResult<Option<u64>> {
    let count = |value: &datafusion::sql::sqlparser::ast::ValueWithSpan| -> Result<Option<u64>, PgWireError> {
        match &value.value {
            Value::Number(number, _) => number.parse().map(Some).map_err(|_| refuse("22023", format!("cannot fetch {number} rows"))),
            other => Err(refuse("22023", format!("cannot fetch {other} rows"))),
        }
    };
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => count(limit),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(None),
        _ => Err(refuse("55000", "a cursor goes forward only")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn refused(sql: &str) -> Option<(String, String)> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql).remove(0);
        match action(&statement) {
            Ok(_) => None,
            Err(PgWireError::UserError(info)) => Some((info.code, info.message)),
            Err(other) => panic!("{sql}: {other}"),
        }
    }

    #[test]
    fn whatever_writes_is_refused_by_its_name() {
        for (sql, word) in [
            ("INSERT INTO t VALUES (1)", "INSERT"),
            ("UPDATE t SET a = 1", "UPDATE"),
            ("DELETE FROM t", "DELETE"),
            ("CREATE TABLE t (a int)", "CREATE TABLE"),
            ("DROP TABLE t", "DROP TABLE"),
            ("TRUNCATE TABLE t", "TRUNCATE TABLE"),
            ("ALTER TABLE t ADD COLUMN b int", "ALTER TABLE"),
            ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
            ("GRANT SELECT ON t TO u", "GRANT"),
            ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", "MERGE"),
            ("VACUUM t", "VACUUM"),
        ] {
            let (state, message) = refused(sql).expect(sql);
            assert_eq!(state, "25006", "{sql}");
            assert!(message.starts_with(word), "{sql}: {message}");
        }
        for (sql, state) in
            [("COPY t TO STDOUT", "0A000"), ("LISTEN x", "0A000"), ("PREPARE p AS SELECT 1", "0A000"), ("SET ROLE x", "0A000"), ("SET TRANSACTION READ WRITE", "25006")]
        {
            assert_eq!(refused(sql).expect(sql).0, state, "{sql}");
        }
    }

    #[test]
    fn what_clients_send_around_their_queries_is_known() {
        for sql in [
            "SELECT 1",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "VALUES (1)",
            "EXPLAIN SELECT 1",
            "BEGIN",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "BEGIN READ ONLY",
            "COMMIT",
            "END",
            "ROLLBACK",
            "SAVEPOINT a",
            "RELEASE SAVEPOINT a",
            "ROLLBACK TO SAVEPOINT a",
            "SET extra_float_digits = 3",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET TIME ZONE 'UTC'",
            "SET application_name TO 'x'",
            "SET search_path = public, system",
            "SHOW server_version",
            "SHOW ALL",
            "SHOW TRANSACTION ISOLATION LEVEL",
            "RESET ALL",
            "DISCARD ALL",
            "DEALLOCATE ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "FETCH 10 FROM c",
            "FETCH FORWARD ALL FROM c",
            "CLOSE c",
            "UNLISTEN *",
        ] {
            assert_eq!(refused(sql), None, "{sql}");
        }
    }
}
