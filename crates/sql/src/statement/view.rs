//! `CREATE VIEW name AS query`.

use watershed_types::Result;

use super::{Context, Definition, Read};
use crate::cursor::Cursor;
use crate::{ViewDef, names, query};

pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, context: &mut Context<'_>) -> Result<Read<'a>> {
    let name = names::object(cursor, "view")?;
    if !cursor.eat("AS") {
        return Err(cursor.expected("AS").hint(format!("Write CREATE VIEW {} AS SELECT …", name.value)));
    }
    let (query, uses) = query::parse(cursor, &mut context.numbers)?;
    let view = ViewDef { name: name.value.clone(), query, place: name.spot.place() };
    Ok((name, Definition::View(view), uses))
}
