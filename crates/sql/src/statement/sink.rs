//! `CREATE SINK name FROM table WITH (…)`.

use watershed_types::Result;

use super::{Context, Definition, Read};
use crate::cursor::Cursor;
use crate::{SinkDef, names};

pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, context: &Context<'_>) -> Result<Read<'a>> {
    let name = names::object(cursor, "sink")?;
    if !cursor.eat("FROM") {
        return Err(cursor.expected("FROM").hint(format!("Write CREATE SINK {} FROM table WITH (…).", name.value)));
    }
    let from = cursor.name("the name of a table")?;
    if !cursor.is("WITH") {
        return Err(cursor.expected("WITH").hint("Say where it goes: WITH (connector = 'postgres', url = '…', table = '…')."));
    }
    let options = context.options(cursor, &format!("sink \"{}\"", name.value))?;
    let sink = SinkDef { name: name.value.clone(), from: from.value.clone(), options, place: name.spot.place() };
    Ok((name, Definition::Sink(sink), vec![from]))
}
