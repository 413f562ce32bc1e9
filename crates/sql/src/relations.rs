//! Stream relations of FROM: `DEDUPLICATE(…)`, `TUMBLE(…)` and the other windows, in the short form and in Flink's, and the
//! versioned side of a join, `t FOR SYSTEM_TIME AS OF o.ts`.
//!
//! **Owns** reading these from the tokens of a query and leaving one placeholder name for each outermost one, since
//! sqlparser does not know `KEY (a)`, `WITHIN INTERVAL …`, `TABLE t`, `DESCRIPTOR(ts)`, `PARTITION BY` in a call, `FOR
//! SYSTEM_TIME`. **Does not own** where in the query a
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
use crate::{AsOfTime, Keep, Relation, RelationInput, RelationKind, interval, legacy};

/// The calls this module knows.
pub(crate) const CALLS: [&str; 5] = ["DEDUPLICATE", "TUMBLE", "HOP", "CUMULATE", "SESSION"];
/// The versioned side of a join, as messages call it.
pub(crate) const AS_OF: &str = "FOR SYSTEM_TIME AS OF";

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
        if cursor.is("FOR") && cursor.is_nth(1, "SYSTEM_TIME") {
            as_of(&mut cursor, &mut out, &mut extracted, numbers)?;
            continue;
        }
        let called = stands_in_from(cursor.previous()) && call_starts(&cursor) && !legacy::starts(&cursor) && !is_cte_header(&mut cursor);
        if !called {
            out.extend(cursor.next_token());
            continue;
        }
        let index = parse_wrapped(&mut cursor, &mut extracted, numbers)?;
        out.push(TokenWithSpan::new(Token::make_word(&extracted.placeholder(index), None), cursor.span_from(start)));
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

/// `FOR SYSTEM_TIME AS OF column` behind a table, of which a placeholder takes the place in `out`.
fn as_of<'a>(cursor: &mut Cursor<'a>, out: &mut Vec<TokenWithSpan>, extracted: &mut Extracted<'a>, numbers: &mut usize) -> Result<()> {
    const USAGE: &str = "Write … JOIN table FOR SYSTEM_TIME AS OF stream.time_column [AS alias] ON …";
    let spot = cursor.spot();
    if !cursor.eat_all(&["FOR", "SYSTEM_TIME", "AS", "OF"]) {
        return Err(spot.error(code::AS_OF, format!("expected {AS_OF}")).hint(USAGE));
    }
    let table = out.pop().filter(|token| matches!(token.token, Token::Word(_)));
    let behind_join = out.last().is_some_and(|token| is_word(&token.token, "JOIN"));
    let (Some(table), true) = (table, behind_join) else {
        return Err(spot.error(code::AS_OF, format!("{AS_OF} stands behind the right side of a join")).hint(USAGE));
    };
    let time_spot = cursor.spot();
    let time = as_of_time(cursor).map_err(|error| error.hint(USAGE))?;
    if !matches!(cursor.peek(), Token::Word(_)) {
        return Err(time_spot.error(code::AS_OF, "the time of a version is a column of the other side, or PROCTIME()").hint(USAGE));
    }
    let word = match &table.token {
        Token::Word(word) => word.clone(),
        _ => return Err(spot.error(code::AS_OF, "expected a table").hint(USAGE)),
    };
    let value = if word.quote_style.is_some() { word.value } else { word.value.to_ascii_lowercase() };
    let table_spot = cursor.text.spot(table.span);
    let (input, innermost) = extracted.take(Named { value, spot: table_spot });
    let index = extracted.add(Call { function: AS_OF, spot: table_spot, innermost }, RelationKind::AsOf { time }, input, numbers);
    out.push(TokenWithSpan::new(Token::make_word(&extracted.placeholder(index), None), table.span));
    Ok(())
}

/// `column`, `relation.column` or `PROCTIME()`.
fn as_of_time(cursor: &mut Cursor<'_>) -> Result<AsOfTime> {
    if cursor.is("PROCTIME") && *cursor.peek_nth(1) == Token::LParen {
        cursor.advance();
        cursor.advance();
        cursor.expect_token(&Token::RParen)?;
        return Ok(AsOfTime::Processing);
    }
    let first = cursor.name("an event-time column or PROCTIME()")?.value;
    match cursor.eat_token(&Token::Period) {
        true => Ok(AsOfTime::Column { relation: Some(first), column: cursor.name("a column name")?.value }),
        false => Ok(AsOfTime::Column { relation: None, column: first }),
    }
}

impl<'a> Extracted<'a> {
    /// One more relation, with the next placeholder. Its index.
    pub fn add(&mut self, call: Call<'a>, kind: RelationKind, input: RelationInput, numbers: &mut usize) -> usize {
        *numbers += 1;
        let index = self.relations.len();
        let placeholder = format!("{PLACEHOLDER_PREFIX}{numbers}");
        self.relations.push(Relation { placeholder, kind, input, place: call.spot.place() });
        self.spots.push(call);
        self.outermost.push(index);
        index
    }

    /// The outermost relation that stands in the query by this placeholder, and the name at its innermost end.
    pub fn behind(&self, placeholder: &str) -> Option<(usize, Named<'a>)> {
        let mut relations = self.outermost.iter().filter_map(|index| Some((*index, self.relations.get(*index)?, self.spots.get(*index)?)));
        relations.find(|(_, relation, _)| relation.placeholder == placeholder).map(|(index, _, call)| (index, call.innermost.clone()))
    }

    /// What a relation around this name of the query reads: a relation, if the name is its placeholder.
    pub fn take(&mut self, name: Named<'a>) -> (RelationInput, Named<'a>) {
        match self.behind(&name.value) {
            Some((index, innermost)) => {
                self.outermost.retain(|outermost| *outermost != index);
                (RelationInput::Relation(index), innermost)
            }
            None => (RelationInput::Named(name.value.clone()), name),
        }
    }

    pub fn placeholder(&self, index: usize) -> String {
        self.relations.get(index).map(|relation| relation.placeholder.clone()).unwrap_or_default()
    }
}

fn parse_call<'a>(cursor: &mut Cursor<'a>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<usize> {
    let spot = cursor.spot();
    let Some(function) = CALLS.into_iter().find(|call| cursor.is(call)) else { return Err(cursor.expected("a window or DEDUPLICATE")) };
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
    let data = arguments.input(out)?;
    let kind = arguments.kind(data.partition_by)?;
    arguments.finish()?;
    if let RelationInput::Relation(inner) = data.input {
        out.outermost.retain(|outermost| *outermost != inner);
    }
    Ok(out.add(Call { function, spot, innermost: data.innermost }, kind, data.input, numbers))
}

enum Value<'a> {
    /// A bare name: a table or a column, by its position.
    Name(Named<'a>),
    Table(Named<'a>),
    Relation(usize),
    Columns(Vec<String>),
    Interval(i64),
    Keep(Keep),
}

struct Argument<'a> {
    label: Option<String>,
    value: Value<'a>,
    spot: Spot<'a>,
    /// `PARTITION BY` behind the value, and its spot.
    partition_by: Option<(Vec<String>, Spot<'a>)>,
}

fn parse_argument<'a>(cursor: &mut Cursor<'a>, out: &mut Extracted<'a>, numbers: &mut usize) -> Result<Argument<'a>> {
    let spot = cursor.spot();
    let mut label = parse_label(cursor)?;
    let words: [(&str, fn(&Token) -> bool); 3] =
        [("KEY", |next| *next == Token::LParen), ("WITHIN", |next| !matches!(next, Token::Comma | Token::RParen)), ("KEEP", |next| matches!(next, Token::Word(_)))];
    for (word, fits) in words {
        if label.is_none() && cursor.is(word) && fits(cursor.peek_nth(1)) {
            cursor.advance();
            label = Some(word.to_ascii_lowercase());
        }
    }
    let value = match label.as_deref() {
        Some("keep") => parse_keep(cursor)?,
        label => parse_argument_value(cursor, label, out, numbers)?,
    };
    let partition_by = parse_partition(cursor)?;
    Ok(Argument { label, value, spot, partition_by })
}

/// `name =>`, in Flink's text also with back quotes.
fn parse_label(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    let arrow = |token: &Token| matches!(token, Token::RArrow | Token::Assignment);
    let quote = Token::Char('`');
    if *cursor.peek() == quote && *cursor.peek_nth(2) == quote && arrow(cursor.peek_nth(3)) {
        cursor.advance();
        let label = cursor.name("an argument's name")?.value.to_ascii_lowercase();
        cursor.advance();
        cursor.advance();
        return Ok(Some(label));
    }
    if !(matches!(cursor.peek(), Token::Word(_)) && arrow(cursor.peek_nth(1))) {
        return Ok(None);
    }
    let label = cursor.name("an argument's name")?.value.to_ascii_lowercase();
    cursor.advance();
    Ok(Some(label))
}

fn parse_keep<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    if cursor.eat("FIRST") {
        return Ok(Value::Keep(Keep::First));
    }
    if cursor.eat("LAST") {
        return Ok(Value::Keep(Keep::Last));
    }
    Err(cursor.expected("FIRST or LAST").hint("Write KEEP FIRST or KEEP LAST."))
}

/// `PARTITION BY column` or `PARTITION BY (column, …)` behind an argument. ORDER BY is refused.
fn parse_partition<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(Vec<String>, Spot<'a>)>> {
    let spot = cursor.spot();
    let partition_by = match cursor.eat_all(&["PARTITION", "BY"]) {
        false => None,
        true if *cursor.peek() == Token::LParen => Some(cursor.names_in_parentheses("a column name")?),
        true => Some(vec![bare_name(cursor, "a column name")?]),
    };
    if cursor.is("ORDER") && cursor.is_nth(1, "BY") {
        let message = "ORDER BY cannot stand in a stream relation";
        return Err(cursor.spot().error(code::RELATION_ARGUMENT, message).hint("Leave it out: rows are taken by event time."));
    }
    let mut columns: Vec<String> = Vec::new();
    for name in partition_by.iter().flatten() {
        if columns.contains(&name.value) {
            return Err(name.spot.error(code::RELATION_ARGUMENT, format!("column \"{}\" is named twice", name.value)).hint("Name it once."));
        }
        columns.push(name.value.clone());
    }
    Ok(partition_by.map(|_| (columns, spot)))
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

/// What a call reads.
struct Data<'a> {
    input: RelationInput,
    innermost: Named<'a>,
    partition_by: Vec<String>,
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
            "DEDUPLICATE" => "Write DEDUPLICATE(table, KEY (column, …), WITHIN INTERVAL '10 minutes', KEEP FIRST).",
            "TUMBLE" => "Write TUMBLE(table, time_column, INTERVAL '1 minute').",
            "CUMULATE" => "Write CUMULATE(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes'): the step, then the size.",
            "SESSION" => "Write SESSION(table PARTITION BY (column, …), time_column, INTERVAL '5 minutes').",
            _ => "Write HOP(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes'): the slide, then the size.",
        }
    }

    fn labels(&self) -> &'static [&'static str] {
        match self.function {
            "DEDUPLICATE" => &["data", "key", "within", "keep"],
            "TUMBLE" => &["data", "timecol", "size", "offset"],
            "CUMULATE" => &["data", "timecol", "step", "size", "offset"],
            "SESSION" => &["data", "timecol", "gap"],
            _ => &["data", "timecol", "slide", "size", "offset"],
        }
    }

    /// What the call does, of all arguments but the table.
    fn kind(&mut self, partition_by: Vec<String>) -> Result<RelationKind> {
        if self.function == "DEDUPLICATE" {
            let key = self.take("key").map(|key| self.columns(key)).transpose()?;
            let key = key.ok_or_else(|| self.error(self.spot, "DEDUPLICATE needs KEY (…)"))?;
            let within_micros = self.take("within").map(|within| self.length(within, "WITHIN")).transpose()?;
            return Ok(RelationKind::Deduplicate { key, keep: self.keep()?, within_micros });
        }
        let column = self.column()?;
        Ok(match self.function {
            "TUMBLE" => {
                let size_micros = self.required_length("size")?;
                RelationKind::Tumble { column, size_micros, offset_micros: self.offset()? }
            }
            "CUMULATE" => {
                let step_micros = self.required_length("step")?;
                let size_spot = self.spot_of("size");
                let size_micros = self.required_length("size")?;
                if size_micros % step_micros != 0 {
                    return Err(self.error(size_spot, "the size of CUMULATE must be a multiple of its step"));
                }
                RelationKind::Cumulate { column, step_micros, size_micros, offset_micros: self.offset()? }
            }
            "SESSION" => RelationKind::Session { column, partition_by, gap_micros: self.required_length("gap")? },
            _ => {
                let slide_micros = self.required_length("slide")?;
                let size_micros = self.required_length("size")?;
                RelationKind::Hop { column, slide_micros, size_micros, offset_micros: self.offset()? }
            }
        })
    }

    fn keep(&mut self) -> Result<Keep> {
        match self.take("keep") {
            None => Ok(Keep::default()),
            Some(Argument { value: Value::Keep(keep), .. }) => Ok(keep),
            Some(argument) => Err(self.error(argument.spot, "expected KEEP FIRST or KEEP LAST")),
        }
    }

    /// Where the argument stands that [`Self::take`] would take.
    fn spot_of(&self, label: &str) -> Spot<'a> {
        let labelled = self.list.iter().find(|argument| argument.label.as_deref() == Some(label));
        labelled.or_else(|| self.list.iter().find(|argument| argument.label.is_none())).map_or(self.spot, |argument| argument.spot)
    }

    fn error(&self, spot: Spot<'_>, message: impl std::fmt::Display) -> Error {
        spot.error(code::RELATION_ARGUMENT, message).hint(self.usage())
    }

    /// The argument of that label, or else the first without a label.
    fn take(&mut self, label: &str) -> Option<Argument<'a>> {
        let labelled = self.list.iter().position(|argument| argument.label.as_deref() == Some(label));
        let by_position = || self.list.iter().position(|argument| argument.label.is_none());
        let index = match label {
            "key" | "within" | "keep" => labelled,
            _ => labelled.or_else(by_position),
        };
        index.map(|index| self.list.remove(index))
    }

    fn input(&mut self, out: &Extracted<'a>) -> Result<Data<'a>> {
        let missing = self.error(self.spot, format!("{} needs a table to read", self.function));
        let argument = self.take("data").ok_or(missing)?;
        let (input, innermost) = match argument.value {
            Value::Name(name) | Value::Table(name) => (RelationInput::Named(name.value.clone()), name),
            Value::Relation(index) => match out.spots.get(index) {
                Some(call) => (RelationInput::Relation(index), call.innermost.clone()),
                None => return Err(self.error(argument.spot, "the inner relation is missing")),
            },
            _ => return Err(self.error(argument.spot, format!("the first argument of {} is a table", self.function))),
        };
        let partition_by = match argument.partition_by {
            Some((columns, _)) if self.function == "SESSION" => columns,
            Some((_, spot)) => return Err(self.error(spot, format!("{} is not partitioned", self.function))),
            None => Vec::new(),
        };
        if let Some((_, spot)) = self.list.iter().find_map(|argument| argument.partition_by.as_ref()) {
            return Err(self.error(*spot, "PARTITION BY stands behind the table"));
        }
        Ok(Data { input, innermost, partition_by })
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
