//! `CREATE STATIC TABLE name [(columns, PRIMARY KEY (…))] WITH (…)`.

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::Result;

use super::{Context, Definition, Read, columns, key};
use crate::cursor::{Cursor, Named};
use crate::error::code;
use crate::{ColumnDef, ColumnKind, StaticDef, names};

pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, context: &Context<'_>) -> Result<Read<'a>> {
    let name = names::object(cursor, "static table")?;
    let mut declared: Vec<ColumnDef> = Vec::new();
    let mut primary: Vec<Named<'a>> = Vec::new();
    let mut open = cursor.eat_token(&Token::LParen);
    while open {
        // A key stands behind a column: the first thing in the parentheses is one.
        match !declared.is_empty() && key::starts(cursor) {
            true => primary = key::parse(cursor, &primary)?,
            false => declared.push(physical(cursor, &declared)?),
        }
        open = !cursor.eat_token(&Token::RParen);
        if open && !cursor.eat_token(&Token::Comma) {
            return Err(cursor.expected("\",\" or \")\""));
        }
    }
    if !cursor.is("WITH") {
        return Err(cursor.expected("WITH").hint("Say where it is: WITH (connector = 'files', path = '…', format = 'csv')."));
    }
    let options = context.options(cursor, &format!("static table \"{}\"", name.value))?;
    let primary_key = key::check(primary, &declared)?;
    let table = StaticDef { name: name.value.clone(), columns: declared, primary_key, options, place: name.spot.place() };
    Ok((name, Definition::Static(table), Vec::new()))
}

/// A column that its rows come with.
fn physical(cursor: &mut Cursor<'_>, declared: &[ColumnDef]) -> Result<ColumnDef> {
    let spot = cursor.spot();
    if cursor.is("WATERMARK") && cursor.is_nth(1, "FOR") {
        return Err(spot.error(code::TABLE_SHAPE, "a static table has no watermark").hint("Use CREATE SOURCE for a stream."));
    }
    let column = columns::parse(cursor, declared)?;
    if !matches!(column.kind, ColumnKind::Physical) {
        let message = format!("column \"{}\" of a static table is not in its files", column.name);
        return Err(spot.error(code::TABLE_SHAPE, message).hint("Compute it in a view over the static table."));
    }
    Ok(column)
}
