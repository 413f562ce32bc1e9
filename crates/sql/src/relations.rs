//! Stream relations of FROM: `DEDUPLICATE(…)`, `TUMBLE(…)`, `HOP(…)`, in the short form and in Flink's.
//!
//! **Owns** reading these calls from the tokens of a query and leaving one placeholder name for each outermost call, since
//! sqlparser does not know `KEY (a)`, `WITHIN INTERVAL …`, `TABLE t`, `DESCRIPTOR(ts)`. **Does not own** where in the query a
//! placeholder ended up: `query.rs` checks that on the syntax tree.
//!
//! I1: a relation reads a name or a relation of a smaller index.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use watershed_types::{Error, Result, near_miss};

use crate::cursor::{Cursor, Cut, Named, is_word};
use crate::error::code;
use crate::names::PLACEHOLDER_PREFIX;
use crate::text::{Spot, Text};
use crate::{Relation, RelationInput, RelationKind, interval};

/// The calls this module knows, also those that are not available yet.
pub(crate) const CALLS: [&str; 5] = ["DEDUPLICATE", "TUMBLE", "HOP", "CUMULATE", "SESSION"];
const NOT_AVAILABLE: [&str; 2] = ["CUMULATE", "SESSION"];

/// The relations of one query.
#[derive(Default)]
pub(crate) struct Extracted<'a> {
    pub relations: Vec<Relation>,
    /// For each relation, the call and the name at its innermost end.
    pub spots: Vec<Call<'a>>,
    /// Those that stand in the query by a placeholder; the others are inputs of these.
    pub outermost: Vec<usize>,
}

/// Where a relation stands and what it reads in the end.
pub(crate) struct Call<'a> {
    pub function: &'static str,
    pub spot: Spot<'a>,
    pub innermost: Named<'a>,
}

/// Replaces every call in `cut` by a placeholder; `numbers` counts placeholders over the project.
pub(crate) fn extract<'a>(text: &'a Text<'a>, cut: Cut<'a>, numbers: &mut usize) -> Result<(Cut<'a>, Extracted<'a>)> {
    let end = cut.end;
    let mut cursor = Cursor::from_cut(text, cut);
    let mut out = Vec::new();
    let mut extracted = Extracted::default();
    while !cursor.at_end() {
        let start = cursor.position();
        if !(stands_in_from(cursor.previous()) && call_starts(&cursor) && !is_cte_header(&mut cursor)) {
            out.extend(cursor.next_token());
            continue;
        }
        let index = parse_wrapped(&mut cursor, &mut extracted, numbers)?;
        extracted.outermost.push(index);
        let placeholder = extracted.relations.get(index).map_or("", |relation| relation.placeholder.as_str());
        out.push(TokenWithSpan::new(Token::make_word(placeholder, None), cursor.span_from(start)));
    }
    Ok((Cut { tokens: out, end }, extracted))
}

/// Whether a table may stand behind this token.
fn stands_in_from(previous: &Token) -> bool {
    matches!(previous, Token::Comma | Token::LParen) || ["FROM", "JOIN", "LATERAL"].iter().any(|word| is_word(previous, word))
}

/// `TUMBLE (`, or `TABLE ( TUMBLE (`.
fn call_starts(cursor: &Cursor<'_>) -> bool {
    let wrapped = cursor.is("TABLE") && *cursor.peek_nth(1) == Token::LParen;
    let n = if wrapped { 2 } else { 0 };
    CALLS.iter().any(|call| cursor.is_nth(n, call)) && *cursor.peek_nth(n + 1) == Token::LParen
}

/// `WITH hop (a, b) AS (…)` gives a name; it calls nothing.
fn is_cte_header(cursor: &mut Cursor<'_>) -> bool {
    let mut n = 1;
    let mut depth = 0usize;
    loop {
        match cursor.peek_nth(n) {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => break,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::EOF => return false,
            _ => {}
        }
        n += 1;
    }
    let body = cursor.peek_nth(n + 2);
    cursor.is_nth(n + 1, "AS") && (*body == Token::LParen || is_word(body, "MATERIALIZED") || is_word(body, "NOT"))
}

/// A call, perhaps as `TABLE(call)`. Its index.
fn parse_wrapped<'a>(cursor: &mut Cursor<'a>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<usize> {
    if !cursor.eat("TABLE") {
        return parse_call(cursor, out, numbers);
    }
    cursor.expect_token(&Token::LParen)?;
    let index = parse_call(cursor, out, numbers)?;
    cursor.expect_token(&Token::RParen)?;
    Ok(index)
}

fn parse_call<'a>(cursor: &mut Cursor<'a>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<usize> {
    let spot = cursor.spot();
    let Some(function) = CALLS.into_iter().find(|call| cursor.is(call)) else { return Err(cursor.expected("TUMBLE, HOP or DEDUPLICATE")) };
    if NOT_AVAILABLE.contains(&function) {
        return Err(spot.error(code::NOT_AVAILABLE, format!("{function} is not available yet")).hint("Use TUMBLE or HOP."));
    }
    cursor.advance();
    cursor.expect_token(&Token::LParen)?;
    let mut arguments = Arguments { function, spot, list: Vec::new() };
    while !cursor.eat_token(&Token::RParen) {
        let argument = parse_argument(cursor, out, numbers)?;
        arguments.list.push(argument);
        if !cursor.eat_token(&Token::Comma) && *cursor.peek() != Token::RParen {
            return Err(cursor.expected("\",\" or \")\"").hint(arguments.usage()));
        }
    }
    let (input, innermost) = arguments.input(out)?;
    let kind = match function {
        "DEDUPLICATE" => {
            let key = arguments.take("key").map(|key| arguments.columns(key)).transpose()?;
            let key = key.ok_or_else(|| arguments.error(spot, "DEDUPLICATE needs KEY (…)"))?;
            let within_micros = arguments.take("within").map(|within| arguments.length(within, "WITHIN")).transpose()?;
            RelationKind::Deduplicate { key, within_micros }
        }
        "TUMBLE" => {
            let column = arguments.column()?;
            let size_micros = arguments.required_length("size")?;
            RelationKind::Tumble { column, size_micros, offset_micros: arguments.offset()? }
        }
        _ => {
            let column = arguments.column()?;
            let slide_micros = arguments.required_length("slide")?;
            let size_micros = arguments.required_length("size")?;
            RelationKind::Hop { column, slide_micros, size_micros, offset_micros: arguments.offset()? }
        }
    };
    arguments.finish()?;
    *numbers += 1;
    let placeholder = format!("{PLACEHOLDER_PREFIX}{numbers}");
    out.relations.push(Relation { placeholder, kind, input, place: spot.place() });
    out.spots.push(Call { function, spot, innermost });
    Ok(out.relations.len() - 1)
}

enum Value<'a> {
    /// A bare name: a table or a column, by its position.
    Name(Named<'a>),
    Table(Named<'a>),
    Relation(usize),
    Columns(Vec<String>),
    Interval(i64),
}

struct Argument<'a> {
    label: Option<String>,
    value: Value<'a>,
    spot: Spot<'a>,
}

fn parse_argument<'a>(cursor: &mut Cursor<'a>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<Argument<'a>> {
    let spot = cursor.spot();
    let mut label = None;
    if matches!(cursor.peek(), Token::Word(_)) && matches!(cursor.peek_nth(1), Token::RArrow | Token::Assignment) {
        label = Some(cursor.name("an argument's name")?.value.to_ascii_lowercase());
        cursor.advance();
    } else if cursor.is("KEY") && *cursor.peek_nth(1) == Token::LParen {
        cursor.advance();
        label = Some("key".to_owned());
    } else if cursor.is("WITHIN") && !matches!(cursor.peek_nth(1), Token::Comma | Token::RParen) {
        cursor.advance();
        label = Some("within".to_owned());
    }
    let value = parse_argument_value(cursor, label.as_deref(), out, numbers)?;
    Ok(Argument { label, value, spot })
}

fn parse_argument_value<'a>(cursor: &mut Cursor<'a>, label: Option<&str>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<Value<'a>> {
    if call_starts(cursor) {
        return parse_wrapped(cursor, out, numbers).map(Value::Relation);
    }
    if interval::starts(cursor) {
        return interval::parse(cursor).map(Value::Interval);
    }
    let described = cursor.is("DESCRIPTOR") && *cursor.peek_nth(1) == Token::LParen;
    if described {
        cursor.advance();
    }
    if described || (label == Some("key") && *cursor.peek() == Token::LParen) {
        let names = cursor.names_in_parentheses("a column name")?;
        return Ok(Value::Columns(names.into_iter().map(|name| name.value).collect()));
    }
    if cursor.is("TABLE") && matches!(cursor.peek_nth(1), Token::LParen | Token::Word(_)) {
        cursor.advance();
        let bracketed = cursor.eat_token(&Token::LParen);
        let name = bare_name(cursor, "a table name")?;
        if bracketed {
            cursor.expect_token(&Token::RParen)?;
        }
        return Ok(Value::Table(name));
    }
    match cursor.peek() {
        Token::LParen => {
            let hint = "Name the query: CREATE VIEW name AS SELECT …, and put the name here.";
            Err(cursor.spot().error(code::RELATION_ARGUMENT, "a query cannot stand inside a stream relation").hint(hint))
        }
        Token::SingleQuotedString(text) => {
            let hint = format!("Write INTERVAL '{text}'.");
            Err(cursor.expected("a name or an INTERVAL").hint(hint))
        }
        _ => bare_name(cursor, "a name or an INTERVAL").map(Value::Name),
    }
}

fn bare_name<'a>(cursor: &mut Cursor<'a>, what: &str) -> Result<Named<'a>> {
    let name = cursor.name(what)?;
    if *cursor.peek() == Token::Period {
        let message = "a name in a stream relation has one part";
        return Err(cursor.spot().error(code::RELATION_ARGUMENT, message).hint("Leave out what stands before the point."));
    }
    Ok(name)
}

/// The arguments of one call, taken out one by one.
struct Arguments<'a> {
    function: &'static str,
    spot: Spot<'a>,
    list: Vec<Argument<'a>>,
}

impl<'a> Arguments<'a> {
    fn usage(&self) -> &'static str {
        match self.function {
            "DEDUPLICATE" => "Write DEDUPLICATE(table, KEY (column, …), WITHIN INTERVAL '10 minutes').",
            "TUMBLE" => "Write TUMBLE(table, time_column, INTERVAL '1 minute').",
            _ => "Write HOP(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes'): the slide, then the size.",
        }
    }

    fn labels(&self) -> &'static [&'static str] {
        match self.function {
            "DEDUPLICATE" => &["data", "key", "within"],
            "TUMBLE" => &["data", "timecol", "size", "offset"],
            _ => &["data", "timecol", "slide", "size", "offset"],
        }
    }

    fn error(&self, spot: Spot<'_>, message: impl std::fmt::Display) -> Error {
        spot.error(code::RELATION_ARGUMENT, message).hint(self.usage())
    }

    /// The argument of that label, or else the first without a label.
    fn take(&mut self, label: &str) -> Option<Argument<'a>> {
        let labelled = self.list.iter().position(|argument| argument.label.as_deref() == Some(label));
        let by_position = || self.list.iter().position(|argument| argument.label.is_none());
        let index = match label {
            "key" | "within" => labelled,
            _ => labelled.or_else(by_position),
        };
        index.map(|index| self.list.remove(index))
    }

    fn input(&mut self, out: &Extracted<'a>) -> Result<(RelationInput, Named<'a>)> {
        let missing = self.error(self.spot, format!("{} needs a table to read", self.function));
        let argument = self.take("data").ok_or(missing)?;
        match argument.value {
            Value::Name(name) | Value::Table(name) => Ok((RelationInput::Named(name.value.clone()), name)),
            Value::Relation(index) => match out.spots.get(index) {
                Some(call) => Ok((RelationInput::Relation(index), call.innermost.clone())),
                None => Err(self.error(argument.spot, "the inner relation is missing")),
            },
            _ => Err(self.error(argument.spot, format!("the first argument of {} is a table", self.function))),
        }
    }

    fn column(&mut self) -> Result<String> {
        let missing = self.error(self.spot, format!("{} needs an event-time column", self.function));
        let argument = self.take("timecol").ok_or(missing)?;
        let spot = argument.spot;
        let mut columns = self.columns(argument)?;
        match (columns.pop(), columns.is_empty()) {
            (Some(column), true) => Ok(column),
            _ => Err(self.error(spot, format!("{} takes one event-time column", self.function))),
        }
    }

    fn columns(&self, argument: Argument<'a>) -> Result<Vec<String>> {
        let columns = match argument.value {
            Value::Columns(columns) => columns,
            Value::Name(name) => vec![name.value],
            _ => return Err(self.error(argument.spot, "expected a column name")),
        };
        for (index, column) in columns.iter().enumerate() {
            if columns.iter().take(index).any(|earlier| earlier == column) {
                return Err(self.error(argument.spot, format!("column \"{column}\" is named twice")));
            }
        }
        Ok(columns)
    }

    fn required_length(&mut self, label: &str) -> Result<i64> {
        let missing = self.error(self.spot, format!("{} needs its {label}, an INTERVAL", self.function));
        let argument = self.take(label).ok_or(missing)?;
        self.length(argument, &format!("the {label} of {}", self.function))
    }

    fn length(&self, argument: Argument<'a>, what: &str) -> Result<i64> {
        match argument.value {
            Value::Interval(micros) if micros > 0 => Ok(micros),
            Value::Interval(_) => Err(self.error(argument.spot, format!("{what} must be above zero"))),
            _ => Err(self.error(argument.spot, format!("{what} is an INTERVAL"))),
        }
    }

    fn offset(&mut self) -> Result<i64> {
        let Some(argument) = self.take("offset") else { return Ok(0) };
        match argument.value {
            Value::Interval(micros) => Ok(micros),
            _ => Err(self.error(argument.spot, format!("the offset of {} is an INTERVAL", self.function))),
        }
    }

    /// Refuses what is left over.
    fn finish(self) -> Result<()> {
        let Some(argument) = self.list.first() else { return Ok(()) };
        let Some(label) = &argument.label else {
            return Err(self.error(argument.spot, format!("{} has no further argument", self.function)));
        };
        if self.labels().contains(&label.as_str()) {
            return Err(self.error(argument.spot, format!("argument {} is given twice", label.to_ascii_uppercase())));
        }
        let error = argument.spot.error(code::RELATION_ARGUMENT, format!("{} has no argument \"{label}\"", self.function));
        Err(match near_miss(label, self.labels().iter().copied()) {
            Some(near) => error.hint(format!("Did you mean {}?", near.to_ascii_uppercase())),
            None => error.hint(self.usage()),
        })
    }
}

/// The alias a relation gets where its author gave none: the name at its innermost end, exactly.
pub(crate) fn default_alias(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
