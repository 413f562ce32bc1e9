//! The bridge to sqlparser: expressions and queries.
//!
//! **Owns** calling the parser on tokens of ours and turning its errors into ours. **Does not own** the tokens: they keep
//! their places in the file, so that its errors and spans point there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, Value, Visit, VisitMut, Visitor, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;
use watershed_types::{Error, Result};

use crate::cursor::{Cut, describe};
use crate::error::code;
use crate::names::PLACEHOLDER_PREFIX;
use crate::text::{Spot, Text, lower_first};

/// The parser's own depth: several of its levels go into one bracket.
const RECURSION_LIMIT: usize = 100;

/// `x IS DISTINCT FROM y AND z` is `(x IS DISTINCT FROM y) AND z`, as in Postgres. The parser takes all that follows as the
/// right side; brackets, which it keeps, tell what was meant so.
pub(crate) fn bind_distinct_from(expr: &mut Expr) {
    fn onto_the_first(left: Box<Expr>, right: Expr, is: fn(Box<Expr>, Box<Expr>) -> Expr) -> Expr {
        match right {
            Expr::BinaryOp { left: first, op: op @ (BinaryOperator::And | BinaryOperator::Or), right: rest } => {
                Expr::BinaryOp { left: Box::new(onto_the_first(left, *first, is)), op, right: rest }
            }
            other => is(left, Box::new(other)),
        }
    }
    let nothing = || Expr::Value(Value::Null.into());
    *expr = match std::mem::replace(expr, nothing()) {
        Expr::IsDistinctFrom(left, right) => onto_the_first(left, *right, Expr::IsDistinctFrom),
        Expr::IsNotDistinctFrom(left, right) => onto_the_first(left, *right, Expr::IsNotDistinctFrom),
        other => other,
    };
}

struct BindDistinctFrom;

impl VisitorMut for BindDistinctFrom {
    type Break = ();
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        bind_distinct_from(expr);
        ControlFlow::Continue(())
    }
}

/// An expression, all of `cut`, without subqueries.
pub(crate) fn parse_expr<'a>(text: &'a Text<'a>, cut: Cut<'a>) -> Result<Expr> {
    let spot = cut.tokens.first().map_or(cut.end, |token| text.spot(token.span));
    let mut expr = parse_all(text, cut, |parser| parser.parse_expr())?;
    let _always_goes_on = VisitMut::visit(&mut expr, &mut BindDistinctFrom);
    let mut finder = FindQuery;
    if Visit::visit(&expr, &mut finder).is_break() {
        return Err(spot.error(code::SUBQUERY, "a subquery cannot stand here").hint("Join what it reads in the table's query instead."));
    }
    Ok(expr)
}

/// A query, all of `cut`.
pub(crate) fn parse_query<'a>(text: &'a Text<'a>, cut: Cut<'a>) -> Result<Box<Query>> {
    parse_all(text, cut, |parser| parser.parse_query())
}

struct FindQuery;

impl Visitor for FindQuery {
    type Break = ();
    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn parse_all<'a, T>(text: &'a Text<'a>, cut: Cut<'a>, parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>) -> Result<T> {
    let Cut { tokens, end } = cut;
    let Some(first) = tokens.first().map(|token| text.spot(token.span)) else {
        return Err(end.error(code::SYNTAX, "expected an expression, found nothing"));
    };
    let length = tokens.len();
    let parsed = guarded(|| {
        let dialect = PostgreSqlDialect {};
        let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens);
        let result = parse(&mut parser);
        let read = parser.index();
        (result, read, parser.into_tokens())
    });
    match parsed {
        Some((Ok(value), read, _)) if read >= length => Ok(value),
        Some((Ok(_), read, tokens)) => Err(leftover(text, &tokens, read, end)),
        Some((Err(error), _, tokens)) => Err(translate(text, &tokens, first, end, error)),
        None => Err(first.error(code::SYNTAX, "this cannot be read as SQL")),
    }
}

fn leftover<'a>(text: &'a Text<'a>, tokens: &[TokenWithSpan], read: usize, end: Spot<'a>) -> Error {
    let Some(token) = tokens.get(read) else { return end.error(code::SYNTAX, "unexpected end") };
    let error = text.spot(token.span).error(code::SYNTAX, format!("unexpected {}", shown(text, token)));
    match &token.token {
        Token::Word(word) if word.value.eq_ignore_ascii_case("CREATE") => error.hint("End the statement before it with \";\"."),
        _ => error,
    }
}

/// A token as its author wrote it: a placeholder shows the call it stands for.
fn shown(text: &Text<'_>, token: &TokenWithSpan) -> String {
    match &token.token {
        Token::Word(word) if word.value.starts_with(PLACEHOLDER_PREFIX) => {
            let call = text.slice(token.span.start, token.span.end);
            format!("\"{}(…)\"", call.split('(').next().unwrap_or("").trim())
        }
        other => describe(other),
    }
}

fn translate<'a>(text: &'a Text<'a>, tokens: &[TokenWithSpan], first: Spot<'a>, end: Spot<'a>, error: ParserError) -> Error {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return first.error(code::TOO_LARGE, "this is nested too deeply").hint("Name a part by CREATE VIEW and use the name here.");
        }
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
    };
    let (said, location) = match message.rsplit_once(" at Line: ") {
        Some((said, place)) => (said, read_location(place)),
        None => (message.as_str(), None),
    };
    let token = location.and_then(|(line, column)| tokens.iter().find(|t| t.span.start.line == line && t.span.start.column == column));
    let spot = token.map_or(end, |token| text.spot(token.span));
    let said = match said.split_once(", found: ") {
        Some((expected, _)) => {
            let expected = expected.trim_start_matches("Expected: ").trim_start_matches("Expected ");
            let found = token.map_or_else(|| end.what_ends(), |token| shown(text, token));
            format!("expected {expected}, found {found}")
        }
        None => lower_first(said).replace("sql parser error: ", ""),
    };
    spot.error(code::SYNTAX, said)
}

/// `3, Column: 5`.
fn read_location(place: &str) -> Option<(u64, u64)> {
    let (line, column) = place.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// Runs foreign code that may hold an `unwrap` of its own; `None` if it panicked.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
