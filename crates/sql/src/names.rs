//! Which names an object may have.
//!
//! Names become folders of the lake and keys of the checkpoint, so they hold nothing that a path could mean.

use watershed_types::Result;

use crate::cursor::{Cursor, Named};
use crate::error::code;

/// What the tables that stand for stream relations are called.
pub(crate) const PLACEHOLDER_PREFIX: &str = "__ws_relation_";
const RESERVED_PREFIX: &str = "__ws_";
const RESERVED_SCHEMAS: [&str; 2] = ["system", "information_schema"];
const LONGEST: usize = 128;

/// The name in `CREATE kind name`.
pub(crate) fn object<'a>(cursor: &mut Cursor<'a>, kind: &str) -> Result<Named<'a>> {
    let name = cursor.name(&format!("the {kind}'s name"))?;
    let value = &name.value;
    if RESERVED_SCHEMAS.contains(&value.as_str()) {
        let message = format!("\"{value}\" is reserved for Watershed's own tables");
        return Err(name.spot.error(code::BAD_NAME, message).hint(format!("Give the {kind} another name.")));
    }
    if *cursor.peek() == datafusion::sql::sqlparser::tokenizer::Token::Period {
        let message = format!("the name of a {kind} has one part");
        return Err(cursor.spot().error(code::BAD_NAME, message).hint("Leave the schema out; a project is one schema."));
    }
    if value.starts_with(RESERVED_PREFIX) {
        let message = format!("names that start with \"{RESERVED_PREFIX}\" are reserved");
        return Err(name.spot.error(code::BAD_NAME, message).hint(format!("Give the {kind} another name.")));
    }
    let fits = value.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') && value.chars().count() <= LONGEST;
    if !fits {
        let message = format!("\"{}\" cannot be the name of a {kind}", value.escape_debug());
        let hint = format!("Use letters, digits, \"_\" and \"-\", at most {LONGEST} of them.");
        return Err(name.spot.error(code::BAD_NAME, message).hint(hint));
    }
    Ok(name)
}
