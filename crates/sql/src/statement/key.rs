//! `[CONSTRAINT name] PRIMARY KEY (column, …) [NOT ENFORCED]` among what a source, table or static table declares.

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Result, near_miss};

use crate::ColumnDef;
use crate::cursor::{Cursor, Named};
use crate::error::code;

/// Whether a key starts here.
pub(super) fn starts(cursor: &Cursor<'_>) -> bool {
    let named = cursor.is("CONSTRAINT") && matches!(cursor.peek_nth(1), Token::Word(_));
    let n = if named { 2 } else { 0 };
    cursor.is_nth(n, "PRIMARY") && cursor.is_nth(n + 1, "KEY")
}

/// The key's columns. `earlier` is the key declared before, of which there may be none.
pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, earlier: &[Named<'a>]) -> Result<Vec<Named<'a>>> {
    let spot = cursor.spot();
    if cursor.eat("CONSTRAINT") {
        cursor.name("the constraint's name")?;
    }
    cursor.expect("PRIMARY")?;
    cursor.expect("KEY")?;
    if !earlier.is_empty() {
        return Err(spot.error(code::PRIMARY_KEY, "there is one primary key").hint("Name all its columns in one PRIMARY KEY (a, b)."));
    }
    let columns = cursor.names_in_parentheses("a column name")?;
    for (index, column) in columns.iter().enumerate() {
        if columns.iter().take(index).any(|before| before.value == column.value) {
            return Err(column.spot.error(code::PRIMARY_KEY, format!("column \"{}\" is in the key twice", column.value)).hint("Name it once."));
        }
    }
    cursor.eat_all(&["NOT", "ENFORCED"]);
    if cursor.is("ENFORCED") {
        let message = "a key says which row replaces which, it refuses none";
        return Err(cursor.spot().error(code::PRIMARY_KEY, message).hint("Write PRIMARY KEY (…) NOT ENFORCED."));
    }
    Ok(columns)
}

/// The key's names, each of which is a column.
pub(super) fn check(key: Vec<Named<'_>>, columns: &[ColumnDef]) -> Result<Vec<String>> {
    for name in &key {
        if !columns.iter().any(|column| column.name == name.value) {
            return Err(name.spot.error(code::PRIMARY_KEY, format!("the key names \"{}\", which is not a column", name.value)).hint(known_columns(&name.value, columns)));
        }
    }
    Ok(key.into_iter().map(|name| name.value).collect())
}

/// What to say of a name that is none.
pub(super) fn known_columns(name: &str, columns: &[ColumnDef]) -> String {
    let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    match near_miss(name, known.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Its columns: {}.", known.join(", ")),
    }
}
