//! One file as text with places: lexing, splitting into statements, slicing back to what was written.
//!
//! **Owns** the way from a token to a [`Place`] and to its text. **Does not own** grammar.
//!
//! I1: statements handed out nest at most [`DEEPEST_NESTING`] brackets and hold no comma-free stretch longer than
//! [`LONGEST_STRETCH`] tokens. Syntax trees, which are dropped and visited recursively, stay shallow by this.
//! I2: at most [`DEEPEST_CALLS`] brackets inside each other are of the kind that sqlparser reads twice (a call's arguments,
//! a join in brackets), since its time doubles with each.

use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use watershed_types::{Error, Result};

use crate::cursor::{Cursor, is_word};
use crate::error::{code, draw};
use crate::foreign::guarded;
use crate::{Place, SqlFile};

const DEEPEST_NESTING: usize = 60;
const DEEPEST_CALLS: usize = 16;
/// Words before a bracket that call nothing.
const NOT_CALLS: [&str; 26] = [
    "ALL",
    "AND",
    "ANY",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "ELSE",
    "EXCEPT",
    "EXISTS",
    "EXPECT",
    "IN",
    "INTERSECT",
    "LIKE",
    "NOT",
    "ON",
    "OR",
    "OVER",
    "SELECT",
    "SETS",
    "THEN",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
];
const LONGEST_STRETCH: usize = 4_000;

/// A file and where its lines start.
pub(crate) struct Text<'a> {
    file: &'a SqlFile,
    name: Arc<str>,
    lines: Vec<Line>,
}

struct Line {
    start: usize,
    is_ascii: bool,
}

impl<'a> Text<'a> {
    pub fn new(file: &'a SqlFile) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in file.text.split('\n') {
            lines.push(Line { start, is_ascii: line.is_ascii() });
            start += line.len() + 1;
        }
        Self { file, name: Arc::from(file.name.as_str()), lines }
    }

    /// Its statements, each with a cursor at its first token. Empty ones are skipped.
    pub fn statements(&'a self) -> Result<Vec<Cursor<'a>>> {
        let mut statements = Vec::new();
        let mut tokens: Vec<TokenWithSpan> = Vec::new();
        for token in self.lex()? {
            match token.token {
                Token::SemiColon if tokens.is_empty() => {}
                Token::SemiColon => {
                    self.check_size(&tokens)?;
                    statements.push(Cursor::new(self, std::mem::take(&mut tokens), self.spot(token.span)));
                }
                Token::Whitespace(_) | Token::EOF => {}
                _ => tokens.push(token),
            }
        }
        if let Some(last) = tokens.last() {
            let end = self.spot_after(last.span);
            self.check_size(&tokens)?;
            statements.push(Cursor::new(self, tokens, end));
        }
        Ok(statements)
    }

    fn lex(&'a self) -> Result<Vec<TokenWithSpan>> {
        let lexed = guarded(|| Tokenizer::new(&PostgreSqlDialect {}, &self.file.text).tokenize_with_location());
        match lexed {
            Some(Ok(tokens)) => Ok(tokens.into_iter().flat_map(apart).collect()),
            Some(Err(error)) => {
                let spot = self.spot(Span::new(error.location, error.location));
                Err(spot.error(code::TOKEN, lower_first(&error.message)).hint("Close every quote and comment that was opened."))
            }
            None => {
                let start = Location::new(1, 1);
                Err(self.spot(Span::new(start, start)).error(code::TOKEN, "the file cannot be read as SQL"))
            }
        }
    }

    fn check_size(&'a self, tokens: &[TokenWithSpan]) -> Result<()> {
        let mut stretches = vec![0usize];
        // For each open bracket, whether it counts for I2.
        let mut doubling = vec![false];
        for (index, token) in tokens.iter().enumerate() {
            match token.token {
                Token::LParen | Token::LBracket | Token::LBrace => {
                    let previous = index.checked_sub(1).and_then(|before| tokens.get(before)).map(|token| &token.token);
                    let next = tokens.get(index + 1).map(|token| &token.token);
                    doubling.push(token.token == Token::LParen && is_read_twice(previous, next));
                }
                Token::RParen | Token::RBracket | Token::RBrace if doubling.len() > 1 => {
                    doubling.pop();
                }
                _ => {}
            }
            if doubling.len() > DEEPEST_CALLS && doubling.iter().filter(|counts| **counts).count() > DEEPEST_CALLS {
                let message = format!("calls are nested deeper than {DEEPEST_CALLS} levels");
                return Err(self.spot(token.span).error(code::TOO_LARGE, message).hint("Name a part by CREATE VIEW and use the name here."));
            }
            match token.token {
                Token::LParen | Token::LBracket | Token::LBrace => stretches.push(0),
                Token::RParen | Token::RBracket | Token::RBrace if stretches.len() > 1 => {
                    stretches.pop();
                }
                Token::Comma => {
                    if let Some(stretch) = stretches.last_mut() {
                        *stretch = 0;
                    }
                }
                _ => {}
            }
            if stretches.len() > DEEPEST_NESTING {
                let message = format!("brackets are nested deeper than {DEEPEST_NESTING} levels");
                return Err(self.spot(token.span).error(code::TOO_LARGE, message).hint("Name a part by CREATE VIEW and use the name here."));
            }
            if let Some(stretch) = stretches.last_mut() {
                *stretch += 1;
                if *stretch > LONGEST_STRETCH {
                    let message = format!("an expression is longer than {LONGEST_STRETCH} words");
                    let hint = "Write a list as IN (…), or keep it in a static table and join it.";
                    return Err(self.spot(token.span).error(code::TOO_LARGE, message).hint(hint));
                }
            }
        }
        Ok(())
    }

    /// The text between two locations, the second one excluded.
    pub fn slice(&self, from: Location, to: Location) -> &'a str {
        let (from, to) = (self.offset(from), self.offset(to));
        self.file.text.get(from..to.max(from)).unwrap_or("")
    }

    fn offset(&self, location: Location) -> usize {
        let characters = (location.column as usize).saturating_sub(1);
        let Some(line) = self.lines.get((location.line as usize).saturating_sub(1)) else { return self.file.text.len() };
        let rest = self.file.text.get(line.start..).unwrap_or("");
        let bytes = match line.is_ascii {
            true => characters,
            false => rest.char_indices().nth(characters).map_or(rest.len(), |(offset, _)| offset),
        };
        (line.start + bytes).min(self.file.text.len())
    }

    fn line(&self, number: u32) -> &'a str {
        let Some(line) = self.lines.get((number as usize).saturating_sub(1)) else { return "" };
        let rest = self.file.text.get(line.start..).unwrap_or("");
        rest.split('\n').next().unwrap_or("")
    }

    /// The spot a span covers. One that goes over several lines is cut at the end of its first.
    pub fn spot(&'a self, span: Span) -> Spot<'a> {
        let (start, end) = (span.start, span.end);
        let width = match end.line.cmp(&start.line) {
            std::cmp::Ordering::Equal => end.column.saturating_sub(start.column).max(1),
            std::cmp::Ordering::Greater => u64::from(u32::MAX),
            std::cmp::Ordering::Less => 1,
        };
        Spot { text: self, line: start.line.max(1) as u32, column: start.column.max(1) as u32, width: width as usize }
    }

    /// The spot right behind a span.
    pub fn spot_after(&'a self, span: Span) -> Spot<'a> {
        Spot { text: self, line: span.end.line.max(1) as u32, column: span.end.column.max(1) as u32, width: 1 }
    }
}

/// Whether sqlparser tries two readings of what this bracket holds.
fn is_read_twice(previous: Option<&Token>, next: Option<&Token>) -> bool {
    match previous {
        Some(Token::Word(_)) if previous.is_some_and(|token| ["FROM", "JOIN", "LATERAL"].iter().any(|word| is_word(token, word))) => next == Some(&Token::LParen),
        Some(Token::Word(_)) => !previous.is_some_and(|token| NOT_CALLS.iter().any(|word| is_word(token, word))),
        Some(Token::Comma) => next == Some(&Token::LParen),
        _ => false,
    }
}

/// A place with a width and the text it is in: what an error needs.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    text: &'a Text<'a>,
    line: u32,
    column: u32,
    width: usize,
}

impl<'a> Spot<'a> {
    pub fn place(&self) -> Place {
        Place { file: Arc::clone(&self.text.name), line: self.line, column: self.column }
    }

    /// The same spot, this many characters further right.
    pub fn moved(self, characters: usize, width: usize) -> Self {
        Self { column: self.column.saturating_add(characters as u32), width, ..self }
    }

    /// For the spot behind a cut: the bracket or comma that ends it, or the statement's end.
    pub fn what_ends(&self) -> String {
        match self.text.line(self.line).chars().nth((self.column as usize).saturating_sub(1)) {
            Some(end @ (')' | ',')) => format!("\"{end}\""),
            _ => "the end of the statement".to_owned(),
        }
    }

    pub fn error(&self, code: &'static str, message: impl std::fmt::Display) -> Error {
        let picture = draw(self.text.line(self.line), self.line, self.column, self.width);
        Error::invalid(code, format!("{}: {message}\n{picture}", self.place()))
    }
}

/// Messages start in lower case, also those of the parser; words in capitals stay.
pub(crate) fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(std::iter::once(second)).chain(characters).collect(),
        _ => message.to_owned(),
    }
}

/// `>-` as `>` and `-`: in Postgres an operator ends in a sign only if it has one of `~ ! @ # % ^ & | \` ?` in it.
fn apart(token: TokenWithSpan) -> Vec<TokenWithSpan> {
    let Token::CustomBinaryOperator(written) = &token.token else { return vec![token] };
    let sign = match written.chars().last() {
        Some('-') => Token::Minus,
        Some('+') => Token::Plus,
        _ => return vec![token],
    };
    let operator = match &written[..written.len() - 1] {
        "<" => Token::Lt,
        "<=" => Token::LtEq,
        ">" => Token::Gt,
        ">=" => Token::GtEq,
        "<>" => Token::Neq,
        "=" => Token::Eq,
        _ => return vec![token],
    };
    let Span { start, end } = token.span;
    let between = Location::new(end.line, end.column.saturating_sub(1));
    vec![TokenWithSpan::new(operator, Span::new(start, between)), TokenWithSpan::new(sign, Span::new(between, end))]
}
