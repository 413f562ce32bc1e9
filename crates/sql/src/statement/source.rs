//! `CREATE SOURCE name (columns, WATERMARK FOR …, PRIMARY KEY (…)) WITH (…)`.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::Result;

use super::{Context, Definition, Read, columns, key};
use crate::cursor::{Cursor, Named};
use crate::error::code;
use crate::text::Spot;
use crate::{ColumnDef, ColumnKind, SourceDef, WatermarkDef, interval, names};

pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, context: &Context<'_>) -> Result<Read<'a>> {
    let name = names::object(cursor, "source")?;
    if *cursor.peek() != Token::LParen {
        return Err(cursor.expected("\"(\"").hint(format!("Declare its columns: CREATE SOURCE {} (id VARCHAR, …) WITH (…).", name.value)));
    }
    cursor.advance();
    let mut declared = Vec::new();
    let mut watermark: Option<Watermark<'a>> = None;
    let mut key: Vec<Named<'a>> = Vec::new();
    loop {
        if cursor.is("WATERMARK") && cursor.is_nth(1, "FOR") {
            let spot = cursor.spot();
            if watermark.is_some() {
                return Err(spot.error(code::WATERMARK, "a source has one watermark").hint("Keep one WATERMARK FOR."));
            }
            watermark = Some(parse_watermark(cursor)?);
        } else if key::starts(cursor) {
            key = key::parse(cursor, &key)?;
        } else {
            refuse_constraint(cursor)?;
            declared.push(columns::parse(cursor, &declared)?);
        }
        if cursor.eat_token(&Token::RParen) {
            break;
        }
        if !cursor.eat_token(&Token::Comma) {
            return Err(cursor.expected("\",\" or \")\""));
        }
    }
    if !declared.iter().any(|column| matches!(column.kind, ColumnKind::Physical)) {
        let message = format!("source \"{}\" has no column of its records", name.value);
        return Err(name.spot.error(code::SYNTAX, message).hint("Declare at least one, such as id VARCHAR."));
    }
    let watermark = watermark.map(|watermark| watermark.check(&declared)).transpose()?;
    let primary_key = key::check(key, &declared)?;
    if !cursor.is("WITH") {
        return Err(cursor.expected("WITH").hint("Say where it comes from: WITH (connector = 'files', path = '…', format = 'json')."));
    }
    let options = context.options(cursor, &format!("source \"{}\"", name.value))?;
    let source = SourceDef { name: name.value.clone(), columns: declared, watermark, primary_key, options, place: name.spot.place() };
    Ok((name, Definition::Source(source), Vec::new()))
}

/// What a table may have and a source may not.
fn refuse_constraint(cursor: &Cursor<'_>) -> Result<()> {
    let expectation = cursor.is("CONSTRAINT") && matches!(cursor.peek_nth(1), Token::Word(_)) && cursor.is_nth(2, "EXPECT");
    match expectation {
        true => Err(cursor.spot().error(code::SYNTAX, "a source has no place for an expectation").hint("Put it on the table that reads the source.")),
        false => Ok(()),
    }
}

struct Watermark<'a> {
    column: Named<'a>,
    delay_micros: i64,
    spot: Spot<'a>,
}

/// `WATERMARK FOR column AS column [- INTERVAL '…']`.
fn parse_watermark<'a>(cursor: &mut Cursor<'a>) -> Result<Watermark<'a>> {
    let spot = cursor.spot();
    cursor.expect("WATERMARK")?;
    cursor.expect("FOR")?;
    let column = cursor.name("the event-time column")?;
    cursor.expect("AS")?;
    let again = cursor.name("the event-time column")?;
    if again.value != column.value {
        let message = format!("the watermark for \"{}\" is computed from \"{}\"", column.value, again.value);
        let hint = format!("Write \"{0}\" - INTERVAL '10 minutes', or add a computed column and name it in WATERMARK FOR.", column.value);
        return Err(again.spot.error(code::WATERMARK, message).hint(hint));
    }
    if matches!(cursor.peek(), Token::Comma | Token::RParen) {
        return Ok(Watermark { column, delay_micros: 0, spot });
    }
    if *cursor.peek() != Token::Minus {
        return Err(cursor.expected("\"-\", \",\" or \")\"").hint("Write … - INTERVAL '10 minutes'."));
    }
    cursor.advance();
    let delay_spot = cursor.spot();
    let delay_micros = interval::parse(cursor)?;
    if delay_micros < 0 {
        return Err(delay_spot.error(code::WATERMARK, "a watermark cannot run ahead of the events").hint("Use an interval of zero or more."));
    }
    Ok(Watermark { column, delay_micros, spot })
}

impl Watermark<'_> {
    fn check(self, columns: &[ColumnDef]) -> Result<WatermarkDef> {
        let name = &self.column.value;
        let Some(column) = columns.iter().find(|column| column.name == *name) else {
            let hint = key::known_columns(name, columns);
            return Err(self.column.spot.error(code::WATERMARK, format!("there is no column \"{name}\" to take the watermark from")).hint(hint));
        };
        if !matches!(column.data_type, DataType::Timestamp(..) | DataType::Null) {
            let message = format!("the watermark column \"{name}\" is not a TIMESTAMP");
            let hint = format!("Declare it as TIMESTAMP, or add a computed column: event_time TIMESTAMP AS (to_timestamp_micros({name})).");
            return Err(self.column.spot.error(code::WATERMARK, message).hint(hint));
        }
        Ok(WatermarkDef { column: self.column.value, delay_micros: self.delay_micros, place: self.spot.place() })
    }
}
