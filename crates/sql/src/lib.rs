//! The SQL text of a project, read into checked definitions.
//!
//! **Owns** the dialect: statements, column types, options, stream relations in FROM, names and their order, and errors that
//! point at the text. **Does not own** planning: expressions and queries leave as syntax trees, and connectors are
//! known by name and options only.
//!
//! I1: no input makes this crate panic or recurse without bound; it is `Ok` or an error with a place.
//! I2: every name a definition reads is defined, nothing reads itself, and [`Definitions::order`] puts inputs before users.
//! I3: a value that came from `${VAR}` never enters a message.
//! I4: unquoted names are folded to lower case here, once; quoted ones stay as they are.
//!
//! ```text
//! file ─ lex ─▶ tokens ─ split at ; ─▶ statement ─┬─ columns, types, options ─────────────▶ definition ─ resolve ─▶ Definitions
//!                                                 └─ query: stream relations → placeholders ─ sqlparser ─▲
//! ```

mod clauses;
mod cursor;
mod definitions;
mod error;
mod foreign;
mod interval;
mod legacy;
mod names;
mod options;
mod query;
mod relations;
mod resolve;
mod statement;
mod text;
mod types;

#[cfg(test)]
mod tests;

pub use definitions::{
    AsOfTime, ColumnDef, ColumnKind, ConstraintDef, Definitions, Emit, Keep, MetadataColumn, OnLate, OnViolation, Place, QueryDef, Relation, RelationInput, RelationKind, SinkDef,
    SourceDef, SqlFile, StaticDef, TableDef, ViewDef, WatermarkDef,
};
pub use error::{error_at, picture};

use watershed_types::Error;

/// Reads all files of a project, in the order given. `env` answers `${VAR}` in options.
pub fn parse_project(files: &[SqlFile], env: &dyn Fn(&str) -> Option<String>) -> Result<Definitions, Error> {
    let texts: Vec<text::Text<'_>> = files.iter().map(text::Text::new).collect();
    let mut context = statement::Context::new(env);
    let mut parsed = Vec::new();
    for text in &texts {
        for cursor in text.statements()? {
            parsed.push(statement::parse(cursor, &mut context)?);
        }
    }
    resolve::resolve(parsed)
}
