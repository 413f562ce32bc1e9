//! A query of a table or view: placeholders for stream relations, the syntax tree, and the names it reads.
//!
//! **Owns** the names in scope (a WITH name hides one of the project), and what a query may not be.
//! **Does not own** whether the names exist: `resolve.rs` knows all of them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SetExpr, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Error, Result};

use crate::QueryDef;
use crate::clauses::{self, Clauses};
use crate::cursor::{Cursor, Cut, Named, is_word};
use crate::error::code;
use crate::relations::{AS_OF, CALLS, Call, Extracted, default_alias, extract};
use crate::text::{Spot, Text};
use crate::{foreign, legacy};

/// Reads the rest of the statement as a query. Also every mention of a name it reads.
pub(crate) fn parse<'a>(cursor: &mut Cursor<'a>, numbers: &mut usize) -> Result<(QueryDef, Vec<Named<'a>>)> {
    let starts_well = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is(word)) || *cursor.peek() == Token::LParen;
    if !starts_well {
        return Err(cursor.expected("a query").hint("Write SELECT … FROM …"));
    }
    let text = cursor.text;
    let spot = cursor.spot();
    let cut = cursor.rest();
    refuse_next_statement(text, &cut)?;
    let (cut, Clauses { emit, allowed_lateness_micros, on_late }) = clauses::strip(text, cut)?;
    let written = cut.span().map_or("", |span| text.slice(span.start, span.end)).to_owned();
    let (cut, extracted) = extract(text, cut, numbers)?;
    let mut query = foreign::parse_query(text, cut)?;

    let seen = vec![0; extracted.relations.len()];
    let mut rewriter = Rewriter { text, extracted, numbers, seen, scopes: Vec::new(), uses: Vec::new() };
    if let ControlFlow::Break(error) = VisitMut::visit(query.as_mut(), &mut rewriter) {
        return Err(error);
    }
    let Rewriter { extracted, seen, uses, .. } = rewriter;
    for index in &extracted.outermost {
        if seen.get(*index) != Some(&1)
            && let Some(call) = extracted.spots.get(*index)
        {
            return Err(misplaced(call.spot, call.function));
        }
    }
    let mut inputs: Vec<String> = Vec::new();
    for name in &uses {
        if !inputs.contains(&name.value) {
            inputs.push(name.value.clone());
        }
    }
    let place = spot.place();
    Ok((QueryDef { query, relations: extracted.relations, text: written, emit, allowed_lateness_micros, on_late, place, inputs }, uses))
}

/// A forgotten `;`: left in, `CREATE` would be read as an alias and the error stand behind it.
fn refuse_next_statement<'a>(text: &'a Text<'a>, cut: &Cut<'a>) -> Result<()> {
    let starts = |first: &Token, second: &Token| is_word(first, "CREATE") && ["OR", "SOURCE", "TABLE", "VIEW", "SINK", "STATIC"].iter().any(|word| is_word(second, word));
    for pair in cut.tokens.windows(2) {
        if let [first, second] = pair
            && starts(&first.token, &second.token)
        {
            let error = text.spot(first.span).error(code::SYNTAX, "expected \";\", found \"CREATE\"");
            return Err(error.hint("End the statement before it with \";\"."));
        }
    }
    Ok(())
}

fn misplaced(spot: Spot<'_>, function: &str) -> Error {
    let hint = match function {
        "DEDUPLICATE" => "Write … FROM DEDUPLICATE(table, KEY (column)).".to_owned(),
        "HOP" => "Write … FROM HOP(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end.".to_owned(),
        "CUMULATE" => "Write … FROM CUMULATE(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end.".to_owned(),
        AS_OF => "Write … JOIN table FOR SYSTEM_TIME AS OF stream.time_column ON …".to_owned(),
        other => format!("Write … FROM {other}(table, time_column, INTERVAL '1 minute') GROUP BY window_start, window_end."),
    };
    spot.error(code::RELATION_PLACE, format!("{function} can stand in FROM only")).hint(hint)
}

/// The WITH names that one query sees, and those still to come.
struct Scope {
    visible: Vec<String>,
    /// Address of a WITH query and the name it gets once it is behind us. Compared, never followed.
    coming: Vec<(usize, String)>,
}

struct Rewriter<'a, 'e> {
    text: &'a Text<'a>,
    extracted: Extracted<'a>,
    numbers: &'e mut usize,
    seen: Vec<usize>,
    scopes: Vec<Scope>,
    uses: Vec<Named<'a>>,
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

impl<'a> Rewriter<'a, '_> {
    fn is_with_name(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.visible.iter().any(|visible| visible == name))
    }

    fn spot_of(&self, query_part: &impl datafusion::sql::sqlparser::ast::Spanned) -> Spot<'a> {
        self.text.spot(query_part.span())
    }

    fn check_body(&self, query: &Query) -> Result<()> {
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::SetOperation { left, right, .. } => bodies.extend([right.as_ref(), left.as_ref()]),
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
                SetExpr::Table(_) => {
                    return Err(self.spot_of(query).error(code::QUERY, "expected a query, found TABLE").hint("Write SELECT * FROM name."));
                }
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                    let hint = "Write SELECT; what it gives is what the table holds.";
                    return Err(self.spot_of(query).error(code::QUERY, "a definition reads only, it does not change data").hint(hint));
                }
            }
        }
        if !query.locks.is_empty() {
            return Err(self.spot_of(query).error(code::QUERY, "there are no rows to lock").hint("Leave out FOR UPDATE or FOR SHARE."));
        }
        Ok(())
    }

    fn enter(&mut self, query: &Query) -> Result<()> {
        self.check_body(query)?;
        let mut scope = Scope { visible: Vec::new(), coming: Vec::new() };
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let name = folded(&cte.alias.name);
                if with.recursive {
                    scope.visible.push(name);
                } else {
                    scope.coming.push((address(&cte.query), name));
                }
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    fn leave(&mut self, query: &Query) {
        self.scopes.pop();
        if let Some(scope) = self.scopes.last_mut() {
            let left = address(query);
            if let Some(index) = scope.coming.iter().position(|(coming, _)| *coming == left) {
                let (_, name) = scope.coming.remove(index);
                scope.visible.push(name);
            }
        }
    }

    /// A window of the old form in GROUP BY becomes a relation of FROM.
    fn legacy(&mut self, select: &mut Select) -> Result<()> {
        let Some(found) = legacy::rewrite(self.text, select)? else { return Ok(()) };
        let Some(name) = legacy::table(select) else { return Ok(()) };
        let spot = self.text.spot(datafusion::sql::sqlparser::ast::Spanned::span(name));
        let written = name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect::<Vec<_>>().join(".");
        let (input, innermost) = self.extracted.take(Named { value: written, spot });
        let call = Call { function: found.function, spot: found.spot, innermost };
        let index = self.extracted.add(call, found.kind, input, self.numbers);
        self.seen.push(0);
        let span = datafusion::sql::sqlparser::ast::Spanned::span(name);
        *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(span, self.extracted.placeholder(index)))]);
        Ok(())
    }

    fn table(&mut self, name: &mut ObjectName, alias: &mut Option<TableAlias>) -> Result<()> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
        let spot = self.text.spot(datafusion::sql::sqlparser::ast::Spanned::span(name));
        let written = parts.join(".");
        let Some((index, innermost)) = self.extracted.behind(&written) else {
            if parts.len() > 1 || !self.is_with_name(&written) {
                self.uses.push(Named { value: written, spot });
            }
            return Ok(());
        };
        if let Some(seen) = self.seen.get_mut(index) {
            *seen += 1;
        }
        if self.is_with_name(&innermost.value) {
            let function = self.extracted.spots.get(index).map_or("it", |call| call.function);
            let message = format!("{function} cannot read the WITH query \"{}\" yet", innermost.value);
            let hint = format!("Make it a view: CREATE VIEW {} AS …", innermost.value);
            return Err(innermost.spot.error(code::NOT_AVAILABLE, message).hint(hint));
        }
        let name = default_alias(&innermost.value);
        self.uses.push(innermost);
        if alias.is_none() {
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        Ok(())
    }
}

/// Which of our calls a name is, if any.
fn called(name: &ObjectName) -> Option<&'static str> {
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    CALLS.into_iter().find(|call| name.quote_style.is_none() && name.value.eq_ignore_ascii_case(call))
}

pub(crate) fn folded(ident: &datafusion::sql::sqlparser::ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Rewriter<'_, '_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        flow(self.enter(query))
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.leave(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let joins = select.from.iter().flat_map(|from| &from.joins);
        let of_the_right = joins.filter(|join| {
            use JoinOperator::{FullOuter, Right, RightOuter};
            matches!(join.join_operator, FullOuter(JoinConstraint::Using(_)) | RightOuter(JoinConstraint::Using(_)) | Right(JoinConstraint::Using(_)))
        });
        if let Some(join) = of_the_right.into_iter().next() {
            // The columns would be the left side's alone, NULL where only the right one has a row.
            let hint = "Write ON l.key = r.key, and select coalesce(l.key, r.key).";
            return ControlFlow::Break(self.spot_of(&join.relation).error(code::QUERY, "RIGHT and FULL JOIN take no USING").hint(hint));
        }
        if select.into.is_none() {
            return flow(self.legacy(select));
        }
        let hint = "Leave out INTO; the table's name is in CREATE TABLE.";
        ControlFlow::Break(self.spot_of(select).error(code::QUERY, "SELECT INTO cannot stand in a definition").hint(hint))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => flow(self.table(name, alias)),
            TableFactor::Table { name, args: Some(_), .. } if called(name).is_some() => {
                let (call, spot) = (called(name).unwrap_or_default(), self.spot_of(name));
                let error = spot.error(code::RELATION_ARGUMENT, format!("{call} needs an event-time column"));
                ControlFlow::Break(error.hint(format!("Write {call}(table, time_column, INTERVAL '1 minute').")))
            }
            TableFactor::TableFunction { expr, .. } => {
                let hint = "Write the table's name alone, or TABLE(TUMBLE(…)).";
                ControlFlow::Break(self.spot_of(expr).error(code::RELATION_ARGUMENT, "TABLE(…) takes a window or DEDUPLICATE").hint(hint))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Function(function) = expr
            && let Some(call) = called(&function.name)
        {
            return ControlFlow::Break(misplaced(self.spot_of(&function.name), call));
        }
        foreign::bind_distinct_from(expr);
        ControlFlow::Continue(())
    }
}
