//! Windows of the old form: `SELECT TUMBLE_START(ts, i) … FROM t GROUP BY TUMBLE(ts, i), k`.
//!
//! **Owns** rewriting one `SELECT` to what it says in the new form: `t` becomes a stream relation, the grouping
//! `window_start, window_end`, and the helpers (`TUMBLE_START`, `TUMBLE_END`, `TUMBLE_ROWTIME`; the same of `HOP` and
//! `SESSION`) these columns. The sessions of the old form are those of the other columns that are grouped by.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Interval, ObjectName, ObjectNamePart, Select, SelectItem, Spanned, TableFactor, Value,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Error, Result};

use crate::cursor::{Cursor, is_word};
use crate::error::code;
use crate::query::folded;
use crate::text::{Spot, Text};
use crate::{RelationKind, interval};

const WINDOWS: [&str; 3] = ["TUMBLE", "HOP", "SESSION"];
const HINT: &str = "Write … FROM TUMBLE(table, time_column, INTERVAL '1 minute') GROUP BY window_start, window_end.";

/// A window found in `GROUP BY`, whose `SELECT` was rewritten but for the name it reads.
pub(crate) struct Found<'a> {
    pub function: &'static str,
    pub spot: Spot<'a>,
    pub kind: RelationKind,
}

/// Whether a call of the old form is next: its second argument is an INTERVAL, where a column would stand.
pub(crate) fn starts(cursor: &Cursor<'_>) -> bool {
    let in_from = ["FROM", "JOIN", "LATERAL"].iter().any(|word| is_word(cursor.previous(), word));
    let comma = if *cursor.peek_nth(3) == Token::Period { 5 } else { 3 };
    !in_from && matches!(cursor.peek_nth(2), Token::Word(_)) && *cursor.peek_nth(comma) == Token::Comma && cursor.is_nth(comma + 1, "INTERVAL")
}

/// The one table that a `SELECT` with a window of the old form reads.
pub(crate) fn table(select: &mut Select) -> Option<&mut ObjectName> {
    match select.from.as_mut_slice() {
        [only] if only.joins.is_empty() => match &mut only.relation {
            TableFactor::Table { name, args: None, .. } => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// Rewrites a `SELECT` whose `GROUP BY` has such a window, but for the name it reads.
pub(crate) fn rewrite<'a>(text: &'a Text<'a>, select: &mut Select) -> Result<Option<Found<'a>>> {
    let GroupByExpr::Expressions(grouped, _) = &select.group_by else { return Ok(None) };
    let windows: Vec<usize> = grouped.iter().enumerate().filter(|(_, expr)| window(expr).is_some()).map(|(index, _)| index).collect();
    let Some((at, function, call)) = windows.first().and_then(|at| grouped.get(*at).and_then(window).map(|(function, call)| (*at, function, call))) else {
        return Ok(None);
    };
    let spot = text.spot(call.name.span());
    let fail = |spot: Spot<'_>, message: String| spot.error(code::LEGACY_WINDOW, message).hint(HINT);
    if windows.len() > 1 {
        return Err(fail(spot, "a query is grouped by one window".to_owned()));
    }
    let keys = grouped.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, expr)| expr);
    let kind = kind(text, function, call, spot, keys)?;

    let mut helpers = Helpers { text, function, rowtime: false };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            helpers.replace(expr)?;
        }
    }
    if let Some(having) = &mut select.having {
        helpers.replace(having)?;
    }
    let mut columns = vec!["window_start", "window_end"];
    if helpers.rowtime {
        columns.push("window_time");
    }
    if table(select).is_none() {
        return Err(fail(spot, format!("GROUP BY {function}(…) reads one table")));
    }
    if let GroupByExpr::Expressions(grouped, _) = &mut select.group_by {
        grouped.splice(at..=at, columns.into_iter().map(|column| Expr::Identifier(Ident::new(column))));
    }
    Ok(Some(Found { function, spot, kind }))
}

fn window(expr: &Expr) -> Option<(&'static str, &Function)> {
    let Expr::Function(call) = expr else { return None };
    let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return None };
    let function = WINDOWS.into_iter().find(|window| name.quote_style.is_none() && name.value.eq_ignore_ascii_case(window))?;
    Some((function, call))
}

fn kind<'e>(text: &Text<'_>, function: &str, call: &Function, spot: Spot<'_>, keys: impl Iterator<Item = &'e Expr>) -> Result<RelationKind> {
    let usage = match function {
        "HOP" => "HOP(time_column, INTERVAL 'slide', INTERVAL 'size')",
        "SESSION" => "SESSION(time_column, INTERVAL 'gap')",
        _ => "TUMBLE(time_column, INTERVAL 'size')",
    };
    let fail = |spot: Spot<'_>| spot.error(code::LEGACY_WINDOW, format!("expected {usage}")).hint(HINT);
    let FunctionArguments::List(list) = &call.args else { return Err(fail(spot)) };
    let mut arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        _ => Err(fail(spot)),
    });
    let column = match arguments.next().transpose()?.and_then(column) {
        Some(column) => column,
        None => return Err(fail(spot)),
    };
    let lengths = arguments.map(|argument| length(argument?).ok_or_else(|| fail(spot))).collect::<Result<Vec<i64>>>()?;
    match (function, lengths.as_slice()) {
        ("TUMBLE", [size]) => Ok(RelationKind::Tumble { column, size_micros: *size, offset_micros: 0 }),
        ("HOP", [slide, size]) => Ok(RelationKind::Hop { column, slide_micros: *slide, size_micros: *size, offset_micros: 0 }),
        ("SESSION", [gap]) => Ok(RelationKind::Session { column, partition_by: partition(text, keys)?, gap_micros: *gap }),
        _ => Err(fail(spot)),
    }
}

/// The columns besides the window, each of whose values has its own sessions.
fn partition<'e>(text: &Text<'_>, keys: impl Iterator<Item = &'e Expr>) -> Result<Vec<String>> {
    keys.map(|key| {
        column(key).ok_or_else(|| {
            let spot = text.spot(key.span());
            spot.error(code::LEGACY_WINDOW, "sessions are those of columns, and this is an expression").hint("Compute it in a view, and group by its column.")
        })
    })
    .collect()
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        _ => None,
    }
}

fn length(expr: &Expr) -> Option<i64> {
    let Expr::Interval(Interval { value, leading_field, last_field: None, .. }) = expr else { return None };
    let Expr::Value(value) = value.as_ref() else { return None };
    let Value::SingleQuotedString(written) = &value.value else { return None };
    let unit = leading_field.as_ref().map(ToString::to_string);
    interval::micros(written, unit.as_deref()).filter(|micros| *micros > 0)
}

/// Puts columns in the place of `TUMBLE_START(…)` and its like.
struct Helpers<'a> {
    text: &'a Text<'a>,
    function: &'static str,
    rowtime: bool,
}

impl Helpers<'_> {
    fn replace(&mut self, expr: &mut Expr) -> Result<()> {
        match VisitMut::visit(expr, self) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

impl VisitorMut for Helpers<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return ControlFlow::Continue(()) };
        let written = name.value.to_ascii_uppercase();
        let column = match written.strip_prefix(self.function) {
            Some("_START") => "window_start",
            Some("_END") => "window_end",
            Some("_ROWTIME") => "window_time",
            Some("_PROCTIME") => {
                let error = self.text.spot(name.span).error(code::LEGACY_WINDOW, "windows go by event time");
                return ControlFlow::Break(error.hint(format!("Use {}_ROWTIME or {}_END.", self.function, self.function)));
            }
            _ => return ControlFlow::Continue(()),
        };
        self.rowtime |= column == "window_time";
        *expr = Expr::Identifier(Ident::new(column));
        ControlFlow::Continue(())
    }
}
