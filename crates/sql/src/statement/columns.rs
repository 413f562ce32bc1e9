//! One declared column: physical, computed or metadata.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Result, near_miss};

use crate::cursor::{Cursor, Named};
use crate::error::code;
use crate::text::Spot;
use crate::{ColumnDef, ColumnKind, MetadataColumn, foreign, types};

fn names() -> impl Iterator<Item = &'static str> {
    MetadataColumn::ALL.into_iter().map(|(name, _)| name)
}

/// A column; its name must not be among `before`.
pub(crate) fn parse(cursor: &mut Cursor<'_>, before: &[ColumnDef]) -> Result<ColumnDef> {
    let name = cursor.name("a column name")?;
    if let Some(earlier) = before.iter().find(|column| column.name == name.value) {
        let message = format!("column \"{}\" is declared twice, first at {}", name.value, earlier.place);
        return Err(name.spot.error(code::DUPLICATE_COLUMN, message).hint("Give one of them another name."));
    }
    let place = name.spot.place();
    if cursor.eat("AS") {
        let kind = ColumnKind::Computed(expression(cursor)?);
        return Ok(ColumnDef { name: name.value, data_type: DataType::Null, nullable: true, kind, place });
    }
    if cursor.is("METADATA") && (cursor.is_nth(1, "FROM") || matches!(cursor.peek_nth(1), Token::Comma | Token::RParen)) {
        return metadata(cursor, name, None);
    }
    let type_spot = cursor.spot();
    if matches!(cursor.peek(), Token::Comma | Token::RParen | Token::EOF) {
        return Err(cursor.expected("a type").hint(format!("Write {} VARCHAR, or another type.", name.value)));
    }
    let data_type = types::parse(cursor)?;
    if cursor.is("METADATA") {
        return metadata(cursor, name, Some((data_type, type_spot)));
    }
    let mut nullable = !cursor.eat_all(&["NOT", "NULL"]);
    let generated = cursor.eat_all(&["GENERATED", "ALWAYS"]);
    if cursor.eat("AS") {
        let kind = ColumnKind::Computed(expression(cursor)?);
        nullable = !cursor.eat_all(&["NOT", "NULL"]) && nullable;
        return Ok(ColumnDef { name: name.value, data_type, nullable, kind, place });
    }
    if generated {
        return Err(cursor.expected("AS"));
    }
    if nullable {
        cursor.eat("NULL");
    }
    Ok(ColumnDef { name: name.value, data_type, nullable, kind: ColumnKind::Physical, place })
}

/// `(expr) [STORED]`, or `expr` up to the next comma.
fn expression(cursor: &mut Cursor<'_>) -> Result<datafusion::sql::sqlparser::ast::Expr> {
    let start = cursor.position();
    if cursor.eat_token(&Token::LParen) {
        let cut = cursor.group()?;
        cursor.eat("STORED");
        let ends = matches!(cursor.peek(), Token::Comma | Token::RParen) || cursor.is("NOT");
        if ends {
            return foreign::parse_expr(cursor.text, cut);
        }
        cursor.rewind(start);
    }
    let cut = cursor.element()?;
    foreign::parse_expr(cursor.text, cut)
}

/// `METADATA [FROM 'what']`.
fn metadata(cursor: &mut Cursor<'_>, name: Named<'_>, declared: Option<(DataType, Spot<'_>)>) -> Result<ColumnDef> {
    let spot = cursor.spot();
    cursor.expect("METADATA")?;
    let (what, what_spot) = match cursor.eat("FROM") {
        true => {
            let spot = cursor.spot();
            let Some(what) = cursor.string() else { return Err(cursor.expected("what it is, in quotes").hint(known())) };
            cursor.advance();
            (what, spot)
        }
        false => (name.value.clone(), spot),
    };
    let Some((_, kind)) = MetadataColumn::ALL.into_iter().find(|(known, _)| *known == what) else {
        let hint = near_miss(&what, names()).map_or_else(known, |near| format!("Did you mean '{near}'?"));
        let message = format!("a source has no metadata \"{}\"", what.escape_debug());
        return Err(what_spot.error(code::METADATA, message).hint(hint));
    };
    let natural = kind.data_type();
    if let Some((declared, type_spot)) = declared
        && declared != natural
    {
        let right = match natural {
            DataType::Utf8View => "VARCHAR",
            DataType::Map(..) => "MAP<VARCHAR, VARCHAR>",
            _ => "TIMESTAMP",
        };
        return Err(type_spot.error(code::METADATA, format!("metadata \"{what}\" is a {right}")).hint(format!("Write {right} here.")));
    }
    let nullable = !cursor.eat_all(&["NOT", "NULL"]);
    Ok(ColumnDef { name: name.value, data_type: natural, nullable, kind: ColumnKind::Metadata(kind), place: name.spot.place() })
}

fn known() -> String {
    format!("Known metadata: '{}'.", names().collect::<Vec<_>>().join("', '"))
}
