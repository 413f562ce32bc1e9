//! The clauses behind a query: `EMIT …`, `ALLOWED LATENESS …`, `ON LATE …`, in any order, each at most once.
//!
//! **Owns** cutting them off and reading them. **Does not own** what they mean for a plan, or whether it can serve them.
//!
//! SUBTLE: left in, `EMIT` would be read as a table's alias and `ON LATE` as a join's condition. A first `ON late` is
//! a clause only if an action and the end or another clause follow; `JOIN t ON late` stays a condition.

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::{Error, Result, near_miss};

use crate::cursor::{Cursor, Cut};
use crate::error::code;
use crate::text::{Spot, Text};
use crate::{Emit, OnLate, interval};

const EMIT_HINT: &str = "Write EMIT ON CLOSE, EMIT ON CLOSE EARLY EVERY INTERVAL '10 seconds', or EMIT ON CHANGE.";
const LATENESS_HINT: &str = "Write ALLOWED LATENESS INTERVAL '1 hour'.";
const ON_LATE_HINT: &str = "Write ON LATE QUARANTINE, ON LATE DROP or ON LATE UPDATE.";

/// What the clauses say; what is not said has its default.
#[derive(Default)]
pub(crate) struct Clauses {
    pub emit: Emit,
    pub allowed_lateness_micros: Option<i64>,
    pub on_late: OnLate,
}

#[derive(Clone, Copy, PartialEq)]
enum Clause {
    Emit,
    AllowedLateness,
    OnLate,
}

impl Clause {
    fn name(self) -> &'static str {
        match self {
            Clause::Emit => "EMIT",
            Clause::AllowedLateness => "ALLOWED LATENESS",
            Clause::OnLate => "ON LATE",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Clause::Emit => code::EMIT,
            Clause::AllowedLateness | Clause::OnLate => code::LATENESS,
        }
    }

    fn misplaced(self, spot: Spot<'_>) -> Error {
        let name = self.name();
        spot.error(self.code(), format!("{name} stands at the end of a statement")).hint(format!("Move {name} … behind the whole query."))
    }
}

/// Takes the clauses off the end of a query.
pub(crate) fn strip<'a>(text: &'a Text<'a>, mut cut: Cut<'a>) -> Result<(Cut<'a>, Clauses)> {
    let mut cursor = Cursor::new(text, cut.tokens.clone(), cut.end);
    let mut depth = 0usize;
    while !cursor.at_end() {
        if let Some(clause) = first(&cursor) {
            let spot = cursor.spot();
            if depth > 0 {
                return Err(clause.misplaced(spot));
            }
            cut.tokens.truncate(cursor.position());
            cut.end = spot;
            return Ok((cut, read(cursor, clause)?));
        }
        match cursor.peek() {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        cursor.advance();
    }
    Ok((cut, Clauses::default()))
}

/// Whether the first clause starts here, where a query may still go on.
fn first(cursor: &Cursor<'_>) -> Option<Clause> {
    let clause = starts(cursor, 0)?;
    let sure = match clause {
        Clause::Emit => true,
        Clause::AllowedLateness => cursor.is_nth(2, "INTERVAL") || matches!(cursor.peek_nth(2), Token::SingleQuotedString(_)),
        Clause::OnLate => matches!(cursor.peek_nth(2), Token::Word(_)) && (*cursor.peek_nth(3) == Token::EOF || starts(cursor, 3).is_some()),
    };
    sure.then_some(clause)
}

fn starts(cursor: &Cursor<'_>, n: usize) -> Option<Clause> {
    let two = |first, second| cursor.is_nth(n, first) && cursor.is_nth(n + 1, second);
    match () {
        () if two("EMIT", "ON") => Some(Clause::Emit),
        () if two("ALLOWED", "LATENESS") => Some(Clause::AllowedLateness),
        () if two("ON", "LATE") => Some(Clause::OnLate),
        () => None,
    }
}

fn read(mut cursor: Cursor<'_>, first: Clause) -> Result<Clauses> {
    let mut clauses = Clauses::default();
    let mut seen: Vec<Clause> = Vec::new();
    while !cursor.at_end() {
        let spot = cursor.spot();
        let Some(clause) = starts(&cursor, 0) else { return Err(seen.last().copied().unwrap_or(first).misplaced(spot)) };
        if seen.contains(&clause) {
            return Err(spot.error(clause.code(), format!("{} is given twice", clause.name())).hint("Keep one of them."));
        }
        seen.push(clause);
        cursor.advance();
        cursor.advance();
        match clause {
            Clause::Emit => clauses.emit = emit(&mut cursor, spot)?,
            Clause::AllowedLateness => clauses.allowed_lateness_micros = Some(length(&mut cursor, clause, "the allowed lateness", LATENESS_HINT)?),
            Clause::OnLate => clauses.on_late = on_late(&mut cursor)?,
        }
    }
    Ok(clauses)
}

/// What follows `EMIT ON`.
fn emit(cursor: &mut Cursor<'_>, spot: Spot<'_>) -> Result<Emit> {
    if cursor.eat("CHANGE") {
        let early = cursor.is("EARLY") || (*cursor.peek() == Token::Comma && cursor.is_nth(1, "EARLY"));
        return match early {
            true => Err(cursor.spot().error(code::EMIT, "EMIT ON CHANGE has no early results").hint("Leave out EARLY EVERY: every change leaves at once.")),
            false => Ok(Emit::OnChange),
        };
    }
    cursor.eat("WINDOW");
    if !cursor.eat("CLOSE") {
        return Err(spot.error(code::EMIT, format!("expected EMIT ON CLOSE or EMIT ON CHANGE, found {}", cursor.found())).hint(EMIT_HINT));
    }
    if *cursor.peek() == Token::Comma && cursor.is_nth(1, "EARLY") {
        cursor.advance();
    }
    if !cursor.eat("EARLY") {
        return Ok(Emit::OnClose { early_micros: None });
    }
    if !cursor.eat("EVERY") {
        return Err(cursor.expected("EVERY").hint(EMIT_HINT));
    }
    let early_micros = length(cursor, Clause::Emit, "the time between early results", EMIT_HINT)?;
    Ok(Emit::OnClose { early_micros: Some(early_micros) })
}

/// What follows `ON LATE`.
fn on_late(cursor: &mut Cursor<'_>) -> Result<OnLate> {
    const ACTIONS: [(&str, OnLate); 3] = [("QUARANTINE", OnLate::Quarantine), ("DROP", OnLate::Drop), ("UPDATE", OnLate::Update)];
    for (word, action) in ACTIONS {
        if cursor.eat(word) {
            return Ok(action);
        }
    }
    let near = match cursor.peek() {
        Token::Word(word) => near_miss(&word.value, ACTIONS.map(|(word, _)| word)),
        _ => None,
    };
    let error = cursor.spot().error(code::LATENESS, format!("expected QUARANTINE, DROP or UPDATE, found {}", cursor.found()));
    Err(match near {
        Some(near) => error.hint(format!("Did you mean {near}?")),
        None => error.hint(ON_LATE_HINT),
    })
}

/// An interval above zero.
fn length(cursor: &mut Cursor<'_>, clause: Clause, what: &str, hint: &'static str) -> Result<i64> {
    let spot = cursor.spot();
    if !interval::starts(cursor) {
        return Err(cursor.expected("an INTERVAL").hint(hint));
    }
    match interval::parse(cursor)? {
        micros if micros > 0 => Ok(micros),
        _ => Err(spot.error(clause.code(), format!("{what} must be above zero")).hint(hint)),
    }
}
