//! Statements: which one it is, and one module for each.
//!
//! **Owns** the first words of a statement and what is said of those that are not ours.

mod columns;
mod key;
mod sink;
mod source;
mod static_table;
mod table;
mod view;

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Error, Options, Result, near_miss};

use crate::cursor::{Cursor, Named};
use crate::error::code;
use crate::{SinkDef, SourceDef, StaticDef, TableDef, ViewDef, options};

/// What all statements of a project share.
pub(crate) struct Context<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    /// Placeholders given out so far.
    numbers: usize,
}

impl<'e> Context<'e> {
    pub fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, numbers: 0 }
    }

    /// `WITH (…)`, if there.
    fn options(&self, cursor: &mut Cursor<'_>, owner: &str) -> Result<Options> {
        match cursor.eat("WITH") {
            true => options::parse(cursor, owner, self.env),
            false => Ok(Options::new(owner, Default::default())),
        }
    }
}

/// One statement, not yet checked against the others.
pub(crate) struct Parsed<'a> {
    pub definition: Definition,
    pub name: Named<'a>,
    pub replace: bool,
    /// Every mention of a name it reads.
    pub uses: Vec<Named<'a>>,
}

pub(crate) enum Definition {
    Source(SourceDef),
    Table(Box<TableDef>),
    View(ViewDef),
    Sink(SinkDef),
    Static(StaticDef),
}

impl Definition {
    pub fn kind(&self) -> &'static str {
        match self {
            Definition::Source(_) => "source",
            Definition::Table(_) => "table",
            Definition::View(_) => "view",
            Definition::Sink(_) => "sink",
            Definition::Static(_) => "static table",
        }
    }
}

/// Reads one statement.
pub(crate) fn parse<'a>(mut cursor: Cursor<'a>, context: &mut Context<'_>) -> Result<Parsed<'a>> {
    if !cursor.eat("CREATE") {
        return Err(not_ours(&cursor));
    }
    let replace = cursor.eat_all(&["OR", "REPLACE"]);
    let (name, definition, uses) = if cursor.eat("SOURCE") {
        source::parse(&mut cursor, context)?
    } else if cursor.eat("TABLE") {
        table::parse(&mut cursor, context)?
    } else if cursor.eat("VIEW") {
        view::parse(&mut cursor, context)?
    } else if cursor.eat("SINK") {
        sink::parse(&mut cursor, context)?
    } else if cursor.eat_all(&["STATIC", "TABLE"]) {
        static_table::parse(&mut cursor, context)?
    } else {
        return Err(unknown_object(&cursor));
    };
    if !cursor.at_end() {
        let error = cursor.expected("\";\"");
        let hint = "End the statement before it with \";\".";
        return Err(if cursor.is("CREATE") { error.hint(hint) } else { error });
    }
    Ok(Parsed { definition, name, replace, uses })
}

/// What the module of a statement gives.
type Read<'a> = (Named<'a>, Definition, Vec<Named<'a>>);

fn unknown_object(cursor: &Cursor<'_>) -> Error {
    let hint = match cursor.peek() {
        Token::Word(word) => match word.value.to_ascii_uppercase().as_str() {
            "MATERIALIZED" => "Write CREATE TABLE name AS …; a table is kept up to date.".to_owned(),
            "STREAM" => "Write CREATE SOURCE.".to_owned(),
            "STREAMING" | "LIVE" => "Write CREATE TABLE.".to_owned(),
            "TEMP" | "TEMPORARY" => "Write CREATE VIEW name AS …; a view is not kept.".to_owned(),
            "EXTERNAL" | "FOREIGN" => "Write CREATE SOURCE for a stream, CREATE STATIC TABLE for files to look up in.".to_owned(),
            written => match near_miss(written, ["SOURCE", "TABLE", "VIEW", "SINK", "STATIC"]) {
                Some(near) => format!("Did you mean {near}?"),
                None => "A project holds sources, tables, views, sinks and static tables.".to_owned(),
            },
        },
        _ => "A project holds sources, tables, views, sinks and static tables.".to_owned(),
    };
    cursor.expected("SOURCE, TABLE, VIEW, SINK or STATIC TABLE").hint(hint)
}

fn not_ours(cursor: &Cursor<'_>) -> Error {
    let Token::Word(word) = cursor.peek() else {
        return cursor.expected("CREATE").hint("A project's files hold CREATE statements, each ended by \";\".");
    };
    let written = word.value.to_ascii_uppercase();
    let hint = match written.as_str() {
        "SELECT" | "WITH" | "VALUES" => "Ask it by `watershed query`, or name it: CREATE TABLE name AS SELECT …",
        "INSERT" | "COPY" | "LOAD" => "A table is filled by its query; rows from outside come in by CREATE SOURCE.",
        "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" => "A table holds what its query gives; change the query.",
        "DROP" => "Remove its CREATE statement from the project instead.",
        "ALTER" => "Change its CREATE statement in the project instead.",
        "SET" | "RESET" => "Settings belong into watershed.toml.",
        "EXPLAIN" | "SHOW" | "DESCRIBE" | "ANALYZE" => "`watershed plan` shows what would run.",
        "BEGIN" | "COMMIT" | "ROLLBACK" | "START" => "Epochs commit by themselves; leave it out.",
        "GRANT" | "REVOKE" => "Leave it out; rights are not part of a project's SQL.",
        _ => match near_miss(&written, ["CREATE"]) {
            Some(_) => "Did you mean CREATE?",
            None => "A project's files hold CREATE statements, each ended by \";\".",
        },
    };
    let shown: String = written.chars().take(40).collect();
    cursor.spot().error(code::STATEMENT, format!("a project's files hold definitions, not {}", shown.escape_debug())).hint(hint)
}
