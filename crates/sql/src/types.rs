//! Column types: SQL words to Arrow types.
//!
//! **Owns** the list of types a column may have. Text and bytes are views (`Utf8View`, `BinaryView`), times are
//! microseconds. A length, as in `VARCHAR(10)`, is read and not enforced, as an expectation says it better.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Error, Result, near_miss};

use crate::cursor::Cursor;
use crate::error::code;
use crate::text::Spot;

/// What to suggest for an unknown one.
const KNOWN: [&str; 24] = [
    "BOOLEAN",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "REAL",
    "DOUBLE",
    "FLOAT",
    "DECIMAL",
    "NUMERIC",
    "VARCHAR",
    "TEXT",
    "CHAR",
    "STRING",
    "BYTEA",
    "VARBINARY",
    "BINARY",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "ARRAY",
    "MAP",
    "ROW",
    "STRUCT",
];
const LARGEST_PRECISION: u8 = 38;
const DEFAULT_DECIMAL: (u8, i8) = (38, 10);
const DEEPEST: usize = 24;

/// A type at the cursor.
pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<DataType> {
    parse_nested(cursor, 0)
}

fn parse_nested(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    if depth > DEEPEST {
        return Err(cursor.spot().error(code::TOO_LARGE, format!("types are nested deeper than {DEEPEST} levels")));
    }
    let mut data_type = parse_one(cursor, depth)?;
    let mut levels = depth;
    loop {
        let spot = cursor.spot();
        if cursor.eat_token(&Token::LBracket) {
            if matches!(cursor.peek(), Token::Number(..)) {
                cursor.advance();
            }
            cursor.expect_token(&Token::RBracket)?;
        } else if !cursor.eat("ARRAY") {
            return Ok(data_type);
        }
        levels += 1;
        if levels > DEEPEST {
            return Err(spot.error(code::TOO_LARGE, format!("types are nested deeper than {DEEPEST} levels")));
        }
        data_type = list_of(data_type);
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn parse_one(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    let spot = cursor.spot();
    let word = match cursor.peek() {
        Token::Word(word) => word.value.clone(),
        _ => return Err(cursor.expected("a type")),
    };
    cursor.advance();
    Ok(match word.to_ascii_uppercase().as_str() {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "SMALLINT" | "INT2" => DataType::Int16,
        "INT" | "INTEGER" | "INT4" => DataType::Int32,
        "BIGINT" | "INT8" => DataType::Int64,
        "REAL" | "FLOAT4" => DataType::Float32,
        "DOUBLE" => {
            cursor.eat("PRECISION");
            DataType::Float64
        }
        "FLOAT8" => DataType::Float64,
        "FLOAT" => match parameters(cursor, 1)?.first() {
            Some(bits) if *bits <= 24 => DataType::Float32,
            _ => DataType::Float64,
        },
        "DECIMAL" | "NUMERIC" | "DEC" => decimal(cursor, spot)?,
        "VARCHAR" | "TEXT" | "STRING" | "BPCHAR" => {
            parameters(cursor, 1)?;
            DataType::Utf8View
        }
        "CHAR" | "CHARACTER" => {
            cursor.eat("VARYING");
            parameters(cursor, 1)?;
            DataType::Utf8View
        }
        "BYTEA" | "VARBINARY" | "BINARY" => {
            parameters(cursor, 1)?;
            DataType::BinaryView
        }
        "DATE" => DataType::Date32,
        "TIMESTAMP" => timestamp(cursor, spot, false)?,
        "TIMESTAMPTZ" | "TIMESTAMP_LTZ" => timestamp(cursor, spot, true)?,
        "ARRAY" => {
            open_angle(cursor)?;
            let item = parse_nested(cursor, depth + 1)?;
            close_angle(cursor)?;
            list_of(item)
        }
        "MAP" => map(cursor, depth)?,
        "ROW" | "STRUCT" => row(cursor, depth)?,
        unknown => return Err(unknown_type(spot, &word, unknown)),
    })
}

fn unknown_type(spot: Spot<'_>, written: &str, upper: &str) -> Error {
    let instead = match upper {
        "TIME" | "TIMETZ" => Some("Use TIMESTAMP, or keep it as VARCHAR."),
        "JSON" | "JSONB" => Some("Declare its fields by ROW<…> or MAP<VARCHAR, VARCHAR>, or keep its text as VARCHAR."),
        "UUID" => Some("Keep it as VARCHAR."),
        "INTERVAL" => Some("Keep it as BIGINT, in seconds or milliseconds."),
        "TINYINT" => Some("Use SMALLINT."),
        "SERIAL" | "BIGSERIAL" => Some("Use BIGINT; a stream gives no numbers to rows."),
        "DATETIME" => Some("Use TIMESTAMP."),
        "BLOB" => Some("Use BYTEA."),
        "MONEY" => Some("Use DECIMAL(p, s)."),
        _ => None,
    };
    match instead {
        Some(hint) => spot.error(code::UNSUPPORTED_TYPE, format!("type {upper} is not supported")).hint(hint),
        None => {
            let hint = match near_miss(written, KNOWN) {
                Some(near) => format!("Did you mean {near}?"),
                None => format!("Known types: {}.", KNOWN.join(", ")),
            };
            spot.error(code::UNKNOWN_TYPE, format!("unknown type \"{}\"", written.escape_debug())).hint(hint)
        }
    }
}

/// `(n)` or `(n, m)`, if there: at most `most` whole numbers.
fn parameters(cursor: &mut Cursor<'_>, most: usize) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    if !cursor.eat_token(&Token::LParen) {
        return Ok(numbers);
    }
    loop {
        let number = match cursor.peek() {
            Token::Number(text, _) => text.parse::<u64>().ok(),
            _ => None,
        };
        let Some(number) = number else { return Err(cursor.expected("a whole number")) };
        cursor.advance();
        numbers.push(number);
        if numbers.len() < most && cursor.eat_token(&Token::Comma) {
            continue;
        }
        cursor.expect_token(&Token::RParen)?;
        return Ok(numbers);
    }
}

fn decimal(cursor: &mut Cursor<'_>, spot: Spot<'_>) -> Result<DataType> {
    let numbers = parameters(cursor, 2)?;
    let (Some(precision), scale) = (numbers.first(), numbers.get(1).copied().unwrap_or(0)) else {
        return Ok(DataType::Decimal128(DEFAULT_DECIMAL.0, DEFAULT_DECIMAL.1));
    };
    let fits = (1..=u64::from(LARGEST_PRECISION)).contains(precision) && scale <= *precision;
    if !fits {
        let message = format!("DECIMAL({precision}, {scale}) is not possible");
        let hint = format!("The first number is 1 to {LARGEST_PRECISION} digits in all, the second how many of them are behind the point.");
        return Err(spot.error(code::TYPE_PARAMETER, message).hint(hint));
    }
    Ok(DataType::Decimal128(*precision as u8, scale as i8))
}

fn timestamp(cursor: &mut Cursor<'_>, spot: Spot<'_>, mut zoned: bool) -> Result<DataType> {
    if let Some(digits) = parameters(cursor, 1)?.first().filter(|digits| **digits > 6) {
        let message = format!("TIMESTAMP({digits}) is finer than microseconds");
        return Err(spot.error(code::TYPE_PARAMETER, message).hint("Use TIMESTAMP, which keeps microseconds."));
    }
    if cursor.eat_all(&["WITH", "TIME", "ZONE"]) || cursor.eat_all(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        zoned = true;
    } else {
        cursor.eat_all(&["WITHOUT", "TIME", "ZONE"]);
    }
    Ok(DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| Arc::from("UTC"))))
}

fn map(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    open_angle(cursor)?;
    let spot = cursor.spot();
    let key = parse_nested(cursor, depth + 1)?;
    if key != DataType::Utf8View {
        return Err(spot.error(code::UNSUPPORTED_TYPE, "the keys of a map are text").hint("Write MAP<VARCHAR, …>."));
    }
    cursor.expect_token(&Token::Comma)?;
    let value = parse_nested(cursor, depth + 1)?;
    close_angle(cursor)?;
    Ok(map_of(value))
}

/// A map from text to values of this type, as the decoder builds it.
pub(crate) fn map_of(value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8View, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
}

fn row(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType> {
    let round = cursor.eat_token(&Token::LParen);
    if !round {
        open_angle(cursor)?;
    }
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = cursor.name("a field name")?;
        if fields.iter().any(|field| *field.name() == name.value) {
            return Err(name.spot.error(code::DUPLICATE_COLUMN, format!("field \"{}\" is declared twice", name.value)));
        }
        cursor.eat_token(&Token::Colon);
        let data_type = parse_nested(cursor, depth + 1)?;
        let required = cursor.eat_all(&["NOT", "NULL"]);
        fields.push(Field::new(name.value, data_type, !required));
        if !cursor.eat_token(&Token::Comma) {
            break;
        }
    }
    if round {
        cursor.expect_token(&Token::RParen)?;
    } else {
        close_angle(cursor)?;
    }
    Ok(DataType::Struct(Fields::from(fields)))
}

fn open_angle(cursor: &mut Cursor<'_>) -> Result<()> {
    cursor.expect_token(&Token::Lt)
}

/// `>`, also as the first half of what the lexer took for an operator: `>>`, `>>>`.
fn close_angle(cursor: &mut Cursor<'_>) -> Result<()> {
    let rest = match cursor.peek() {
        Token::ShiftRight => ">".to_owned(),
        Token::CustomBinaryOperator(text) if text.starts_with('>') => text.get(1..).unwrap_or("").to_owned(),
        _ => return cursor.expect_token(&Token::Gt),
    };
    cursor.replace(match rest.as_str() {
        ">" => Token::Gt,
        ">>" => Token::ShiftRight,
        _ => Token::CustomBinaryOperator(rest),
    });
    Ok(())
}
