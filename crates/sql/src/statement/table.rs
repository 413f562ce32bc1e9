//! `CREATE TABLE name (CONSTRAINT … EXPECT (…) ON VIOLATION …, PRIMARY KEY (…)) PARTITIONED BY (…) WITH (…) AS query`.

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Options, Result, near_miss};

use super::{Context, Definition, Read, key};
use crate::cursor::{Cursor, Named};
use crate::error::code;
use crate::{ConstraintDef, OnViolation, TableDef, foreign, names, query};

pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, context: &mut Context<'_>) -> Result<Read<'a>> {
    if cursor.is("IF") && cursor.is_nth(1, "NOT") {
        let hint = "Leave it out: a project says what there is, and what is unchanged stays.";
        return Err(cursor.spot().error(code::TABLE_SHAPE, "IF NOT EXISTS has no meaning in a project").hint(hint));
    }
    let name = names::object(cursor, "table")?;
    let (constraints, primary_key) = match cursor.eat_token(&Token::LParen) {
        true => parse_constraints(cursor)?,
        false => (Vec::new(), Vec::new()),
    };
    let owner = format!("table \"{}\"", name.value);
    let mut partitioned_by: Option<Vec<String>> = None;
    let mut options: Option<Options> = None;
    loop {
        if cursor.is("PARTITIONED") && partitioned_by.is_none() {
            partitioned_by = Some(parse_partitions(cursor)?);
        } else if cursor.is("PARTITION") && cursor.is_nth(1, "BY") {
            return Err(cursor.expected("PARTITIONED BY").hint("Write PARTITIONED BY (column, …)."));
        } else if cursor.is("WITH") && options.is_none() {
            options = Some(context.options(cursor, &owner)?);
        } else {
            break;
        }
    }
    if !cursor.eat("AS") {
        let hint = format!("A table is a query that is kept: CREATE TABLE {} AS SELECT … FROM …", name.value);
        return Err(cursor.expected("AS").hint(hint));
    }
    let (query, uses) = query::parse(cursor, &mut context.numbers)?;
    let options = options.unwrap_or_else(|| Options::new(owner, Default::default()));
    let place = name.spot.place();
    let partitioned_by = partitioned_by.unwrap_or_default();
    let table = TableDef { name: name.value.clone(), constraints, primary_key, partitioned_by, options, query, place };
    Ok((name, Definition::Table(Box::new(table)), uses))
}

fn parse_partitions(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    cursor.expect("PARTITIONED")?;
    cursor.expect("BY")?;
    let mut columns: Vec<String> = Vec::new();
    for column in cursor.names_in_parentheses("a column name")? {
        if columns.contains(&column.value) {
            let message = format!("column \"{}\" partitions the table twice", column.value);
            return Err(column.spot.error(code::DUPLICATE_COLUMN, message).hint("Name it once."));
        }
        columns.push(column.value);
    }
    Ok(columns)
}

/// The list in brackets, of which the first one was eaten.
fn parse_constraints<'a>(cursor: &mut Cursor<'a>) -> Result<(Vec<ConstraintDef>, Vec<String>)> {
    let mut constraints: Vec<ConstraintDef> = Vec::new();
    let mut key: Vec<Named<'a>> = Vec::new();
    loop {
        if key::starts(cursor) {
            key = key::parse(cursor, &key)?;
        } else {
            constraints.push(parse_constraint(cursor, &constraints)?);
        }
        if cursor.eat_token(&Token::RParen) {
            return Ok((constraints, key.into_iter().map(|name| name.value).collect()));
        }
        if !cursor.eat_token(&Token::Comma) {
            return Err(cursor.expected("ON VIOLATION, \",\" or \")\""));
        }
    }
}

fn parse_constraint(cursor: &mut Cursor<'_>, before: &[ConstraintDef]) -> Result<ConstraintDef> {
    if !cursor.is("CONSTRAINT") {
        let error = cursor.expected("CONSTRAINT");
        return Err(match cursor.peek() {
            Token::Word(_) => error.hint("The columns of a table come from its query; only expectations and a PRIMARY KEY stand here: CONSTRAINT name EXPECT (…)."),
            _ => error,
        });
    }
    cursor.expect("CONSTRAINT")?;
    let name = cursor.name("the constraint's name")?;
    if let Some(earlier) = before.iter().find(|constraint| constraint.name == name.value) {
        let message = format!("constraint \"{}\" is declared twice, first at {}", name.value, earlier.place);
        return Err(name.spot.error(code::DUPLICATE_CONSTRAINT, message).hint("Give one of them another name."));
    }
    if !cursor.eat("EXPECT") {
        return Err(cursor.expected("EXPECT").hint("Write CONSTRAINT name EXPECT (condition) ON VIOLATION QUARANTINE."));
    }
    cursor.expect_token(&Token::LParen)?;
    let cut = cursor.group()?;
    let text = cut.span().map_or("", |span| cursor.text.slice(span.start, span.end)).to_owned();
    let expr = foreign::parse_expr(cursor.text, cut)?;
    let on_violation = match cursor.eat_all(&["ON", "VIOLATION"]) {
        true => parse_action(cursor)?,
        false => OnViolation::default(),
    };
    Ok(ConstraintDef { name: name.value, expr, text, on_violation, place: name.spot.place() })
}

fn parse_action(cursor: &mut Cursor<'_>) -> Result<OnViolation> {
    let action = if cursor.eat("WARN") {
        OnViolation::Warn
    } else if cursor.eat("DROP") {
        cursor.eat("ROW");
        OnViolation::Drop
    } else if cursor.eat("QUARANTINE") {
        OnViolation::Quarantine
    } else if cursor.eat("FAIL") {
        cursor.eat("UPDATE");
        OnViolation::Fail
    } else {
        let near = match cursor.peek() {
            Token::Word(word) => near_miss(&word.value, ["WARN", "DROP", "QUARANTINE", "FAIL"]),
            _ => None,
        };
        let error = cursor.expected("WARN, DROP, QUARANTINE or FAIL");
        return Err(match near {
            Some(near) => error.hint(format!("Did you mean {near}?")),
            None => error,
        });
    };
    Ok(action)
}
