//! `WITH (key = 'value', …)` and the variables in it.
//!
//! **Owns** the syntax of options and of `${VAR}`, `${VAR:-default}`, `$${`. **Does not own** which options exist: who
//! takes them refuses the rest.
//!
//! I1: a resolved variable goes into [`OptionValue`] and nowhere else.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{OptionValue, Options, Result};

use crate::cursor::Cursor;
use crate::error::code;
use crate::text::Spot;

type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// `(key = 'value', …)`; the word WITH was eaten. `owner` names the object in errors.
pub(crate) fn parse(cursor: &mut Cursor<'_>, owner: &str, env: Env<'_>) -> Result<Options> {
    cursor.expect_token(&Token::LParen)?;
    let mut values = BTreeMap::new();
    while !cursor.eat_token(&Token::RParen) {
        let spot = cursor.spot();
        let key = parse_key(cursor)?;
        if !cursor.eat_token(&Token::Eq) {
            return Err(cursor.expected("\"=\"").hint(format!("Write {key} = 'value'.")));
        }
        let value = parse_value(cursor, &key, env)?;
        if values.insert(key.clone(), value).is_some() {
            let message = format!("option \"{key}\" is given twice");
            return Err(spot.error(code::OPTION, message).hint("Keep one of them."));
        }
        if !cursor.eat_token(&Token::Comma) && *cursor.peek() != Token::RParen {
            return Err(cursor.expected("\",\" or \")\""));
        }
    }
    Ok(Options::new(owner, values))
}

fn parse_key(cursor: &mut Cursor<'_>) -> Result<String> {
    if let Some(key) = cursor.string() {
        cursor.advance();
        return Ok(key);
    }
    let mut key = cursor.name("an option's name")?.value;
    while cursor.eat_token(&Token::Period) {
        key.push('.');
        key.push_str(&cursor.name("the rest of the option's name")?.value);
    }
    Ok(key)
}

fn parse_value(cursor: &mut Cursor<'_>, key: &str, env: Env<'_>) -> Result<OptionValue> {
    let spot = cursor.spot();
    let start = cursor.position();
    if let Some(written) = cursor.string() {
        cursor.advance();
        let span = cursor.span_from(start);
        let raw = cursor.text.slice(span.start, span.end);
        let value = resolve(&written, raw, spot, env)?;
        return Ok(OptionValue::new(value, written, spot.place().to_string()));
    }
    let negative = *cursor.peek() == Token::Minus && matches!(cursor.peek_nth(1), Token::Number(..));
    if negative {
        cursor.advance();
    }
    let value = match cursor.peek() {
        Token::Number(number, _) if negative => format!("-{number}"),
        Token::Number(number, _) => number.clone(),
        Token::Word(word) if matches!(word.value.to_ascii_lowercase().as_str(), "true" | "false") => word.value.to_ascii_lowercase(),
        Token::Word(word) => {
            let message = format!("the value of option \"{key}\" is not quoted");
            return Err(spot.error(code::OPTION, message).hint(format!("Write {key} = '{}'.", word.value)));
        }
        _ => return Err(cursor.expected("a value in single quotes").hint(format!("Write {key} = 'value'."))),
    };
    cursor.advance();
    Ok(OptionValue::new(value.clone(), value, spot.place().to_string()))
}

/// Puts variables in. `raw` is the literal as it stands in the file, to point into it.
fn resolve(written: &str, raw: &str, spot: Spot<'_>, env: Env<'_>) -> Result<String> {
    let mut out = String::new();
    let mut rest = written;
    let mut searched = 0;
    while let Some(dollar) = rest.find("${") {
        let (before, from) = rest.split_at(dollar);
        let found = raw.get(searched..).and_then(|tail| tail.find("${")).map(|offset| searched + offset);
        let column = found.map_or(0, |offset| raw.get(..offset).map_or(0, |head| head.chars().count()));
        searched = found.map_or(searched, |offset| offset + 2);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        let on_one_line = !raw.contains('\n');
        let Some(close) = from.find('}') else {
            let at = if on_one_line { spot.moved(column, 2) } else { spot };
            return Err(at.error(code::VARIABLE_SYNTAX, "\"${\" is not closed").hint("Close it with \"}\", or write \"$${\" for the text itself."));
        };
        let inner = from.get(2..close).unwrap_or("");
        let at = if on_one_line { spot.moved(column, inner.chars().count() + 3) } else { spot };
        out.push_str(&variable(inner, at, env)?);
        rest = from.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    Ok(out)
}

/// One variable: what stands between the braces.
fn variable(inner: &str, spot: Spot<'_>, env: Env<'_>) -> Result<String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let starts_well = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message = format!("\"{}\" is not the name of a variable", name.escape_debug());
        return Err(spot.error(code::VARIABLE_SYNTAX, message).hint("Write ${NAME} or ${NAME:-default}."));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let hint = format!("Set it in the environment, or give a default: ${{{name}:-value}}.");
            Err(spot.error(code::VARIABLE_UNSET, format!("variable {name} is not set")).hint(hint))
        }
    }
}
