//! Tokens to a tree.
//!
//! ```text
//! condition  = expression [ "for" duration ]
//! expression = operands joined by, from weak to tight:  or | and unless | == != < <= > >= | + - | * /
//!              after an operator: [ "on" "(" labels ")" [ "group_left" | "group_right" ] ]
//! operand    = "-" operand | number | "(" expression ")" | "time" "(" ")" | metric
//!            | ("sum"|"min"|"max"|"avg"|"count") [ "by" "(" labels ")" ] "(" expression ")"
//!            | ("rate"|"increase"|"delta"|"avg_over_time"|"max_over_time"|"min_over_time") "(" metric [ "[" duration "]" ] ")"
//!            | ("absent"|"abs") "(" expression ")" | "histogram_quantile" "(" number "," expression ")"
//! metric     = name [ "{" label ("="|"!="|"=~"|"!~") text { "," … } "}" ]
//! number     = digits, with a unit if wanted: 5m is 300 (seconds), 512MB is 536870912 (bytes)
//! ```

use std::time::Duration;

use regex::Regex;
use watershed_types::{Error, Result, near_miss};

use super::lexer::{Spanned, Token, Wrong, lex};
use super::tree::{Aggregation, Condition, Expression, Matcher, Matching, Operator, Selector, Side, Test, WindowFunction};
use crate::catalog;

/// A window where none is written.
const USUAL_WINDOW: Duration = Duration::from_secs(300);
/// Brackets within brackets that are followed.
const DEEPEST: usize = 64;

/// Which names there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The metrics of the reference, with or without `watershed_`, and the short names.
    Metrics,
    /// Any: the columns of a query.
    Any,
}

/// Reads a condition. `owner` names what it belongs to in errors: `rule "lag"`.
pub fn parse(owner: &str, text: &str, names: Names) -> Result<Condition> {
    let read = || {
        let mut parser = Parser { tokens: lex(text)?, at: 0, depth: 0, end_of_text: text.len(), names };
        parser.condition()
    };
    read().map_err(|wrong| explain(owner, text, &wrong))
}

/// The message with the text and a caret under the place.
fn explain(owner: &str, text: &str, wrong: &Wrong) -> Error {
    let before = text.get(..wrong.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    let (row, column) = (before.matches('\n').count() + 1, text.get(line_start..wrong.start).map_or(0, |head| head.chars().count()));
    let width = text.get(wrong.start..wrong.end).and_then(|t| t.lines().next()).map_or(1, |t| t.chars().count().max(1));
    let picture = format!("  | {line}\n  | {}{}", " ".repeat(column), "^".repeat(width));
    let code = if wrong.unknown { "ALR0002" } else { "ALR0001" };
    let error = Error::invalid(code, format!("{owner}: line {row}, column {}: {}\n{picture}", column + 1, wrong.message));
    match &wrong.hint {
        Some(hint) => error.hint(hint.clone()),
        None => error.hint("The grammar is in docs/reference/alerts.md."),
    }
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    end_of_text: usize,
    names: Names,
}

type Parsed<T> = std::result::Result<T, Wrong>;

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn span(&self) -> (usize, usize) {
        self.tokens.get(self.at).map_or((self.end_of_text, self.end_of_text), |spanned| (spanned.start, spanned.end))
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn wrong(&self, message: impl Into<String>) -> Wrong {
        let (start, end) = self.span();
        Wrong::new(start, end, message)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.eat(sign) { Ok(()) } else { Err(self.wrong(format!("expected \"{sign}\", found {}", self.found()))) }
    }

    fn found(&self) -> String {
        match self.peek() {
            Token::End => "the end".to_owned(),
            Token::Word(word) => format!("\"{word}\""),
            Token::Text(_) => "a text".to_owned(),
            Token::Number(_) | Token::Duration(_) => "a number".to_owned(),
            Token::Sign(sign) => format!("\"{sign}\""),
        }
    }

    fn condition(&mut self) -> Parsed<Condition> {
        let start = self.span().0;
        let expression = self.expression(1)?;
        let end = self.tokens.get(self.at.saturating_sub(1)).map_or(0, |t| t.end);
        if !can_fail(&expression) {
            let message = "this is a value, not a condition";
            return Err(Wrong::new(start, end, message).hint("Compare it, such as: … > 100; or use absent(…)."));
        }
        let hold = if self.eat_word("for") { Some(self.duration()?) } else { None };
        if *self.peek() != Token::End {
            let hint = "Join conditions with and, or, unless; end with for and a duration, such as for 5m.";
            return Err(self.wrong(format!("{} is left over", self.found())).hint(hint));
        }
        Ok(Condition { expression, hold })
    }

    fn duration(&mut self) -> Parsed<Duration> {
        match *self.peek() {
            Token::Duration(seconds) => {
                self.at += 1;
                Ok(Duration::from_secs_f64(seconds))
            }
            _ => Err(self.wrong(format!("expected a duration, found {}", self.found())).hint("Write a number with a unit, such as 30s, 5m or 1h.")),
        }
    }

    /// Operands joined by operators that bind at least this tightly.
    fn expression(&mut self, least: u8) -> Parsed<Expression> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("this is nested too deeply").hint(format!("At most {DEEPEST} levels are read.")));
        }
        let mut left = self.operand()?;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() >= least) {
            let compared = matches!(&left, Expression::Binary(earlier, ..) if earlier.is_comparison() && operator.is_comparison());
            if compared && !matches!(self.tokens.get(self.at.saturating_sub(1)).map(|t| &t.token), Some(Token::Sign(")"))) {
                return Err(self.wrong("comparisons cannot be chained").hint("Join them with and, such as: a > 1 and a < 5."));
            }
            self.at += 1;
            let matching = self.matching()?;
            let right = self.expression(operator.strength() + 1)?;
            left = Expression::Binary(operator, matching, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        let written = match self.peek() {
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return None,
        };
        Operator::ALL.iter().find(|(name, _)| *name == written).map(|(_, operator)| *operator)
    }

    fn matching(&mut self) -> Parsed<Option<Matching>> {
        if !self.eat_word("on") {
            return Ok(None);
        }
        let on = self.labels()?;
        let many = if self.eat_word("group_left") {
            Some(Side::Left)
        } else if self.eat_word("group_right") {
            Some(Side::Right)
        } else {
            None
        };
        Ok(Some(Matching { on, many }))
    }

    /// `(a, b)`
    fn labels(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            match self.peek().clone() {
                Token::Word(word) => labels.push(word),
                _ => return Err(self.wrong(format!("expected the name of a label, found {}", self.found()))),
            }
            self.at += 1;
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(labels)
    }

    fn operand(&mut self) -> Parsed<Expression> {
        let (start, end) = self.span();
        match self.next() {
            Token::Number(number) | Token::Duration(number) => Ok(Expression::Number(number)),
            Token::Sign("-") => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err(self.wrong("this is nested too deeply"));
                }
                let operand = self.operand()?;
                self.depth -= 1;
                Ok(Expression::Negate(Box::new(operand)))
            }
            Token::Sign("(") => {
                let inner = self.expression(1)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.named(word, start, end),
            other => {
                let found = match other {
                    Token::End => "the end".to_owned(),
                    Token::Sign(sign) => format!("\"{sign}\""),
                    _ => "a text".to_owned(),
                };
                Err(Wrong::new(start, end, format!("expected a metric, a function or a number, found {found}")))
            }
        }
    }

    fn named(&mut self, word: String, start: usize, end: usize) -> Parsed<Expression> {
        let call = matches!(self.peek(), Token::Sign("("));
        let by = matches!(self.peek(), Token::Word(next) if next.eq_ignore_ascii_case("by"));
        if let Some((_, aggregation)) = Aggregation::ALL.iter().find(|(name, _)| *name == word).filter(|_| call || by) {
            return self.aggregate(*aggregation);
        }
        if call {
            return self.call(&word, start, end);
        }
        let (selector, total) = self.selector(word, start, end)?;
        if matches!(self.peek(), Token::Sign("[")) {
            let hint = "Put the window into a function, such as rate(x[5m]).";
            return Err(self.wrong("a window needs a function").hint(hint));
        }
        Ok(summed(Expression::Select(selector), total))
    }

    fn aggregate(&mut self, aggregation: Aggregation) -> Parsed<Expression> {
        let mut by = if self.eat_word("by") { self.labels()? } else { vec![] };
        self.expect("(")?;
        let argument = self.expression(1)?;
        self.expect(")")?;
        if by.is_empty() && self.eat_word("by") {
            by = self.labels()?;
        }
        Ok(Expression::Aggregate(aggregation, by, Box::new(argument)))
    }

    fn call(&mut self, name: &str, start: usize, end: usize) -> Parsed<Expression> {
        self.expect("(")?;
        if let Some((_, function)) = WindowFunction::ALL.iter().find(|(known, _)| *known == name) {
            let (from, until) = self.span();
            let Token::Word(metric) = self.next() else {
                return Err(Wrong::new(from, until, format!("{name}() looks at a metric")).hint(format!("Write {name}(watershed_source_records_total[5m]).")));
            };
            let (selector, total) = self.selector(metric, from, until)?;
            let window = if self.eat("[") {
                let window = self.duration()?;
                self.expect("]")?;
                window
            } else {
                USUAL_WINDOW
            };
            self.expect(")")?;
            return Ok(summed(Expression::Window(*function, selector, window), total));
        }
        let parsed = match name {
            "time" => Expression::Time,
            "absent" => Expression::Absent(Box::new(self.expression(1)?)),
            "abs" => Expression::Abs(Box::new(self.expression(1)?)),
            "histogram_quantile" => {
                let quantile = match self.next() {
                    Token::Number(q) if (0.0..=1.0).contains(&q) => q,
                    _ => return Err(Wrong::new(start, end, "histogram_quantile takes a number from 0 to 1 first")),
                };
                self.expect(",")?;
                Expression::Quantile(quantile, Box::new(self.expression(1)?))
            }
            other => {
                let known = WindowFunction::ALL.iter().map(|(n, _)| *n).chain(Aggregation::ALL.iter().map(|(n, _)| *n)).chain(["time", "absent", "abs", "histogram_quantile"]);
                let known: Vec<&str> = known.collect();
                let hint = match near_miss(other, known.iter().copied()) {
                    Some(near) => format!("Did you mean {near}()?"),
                    None => format!("Functions: {}.", known.join(", ")),
                };
                return Err(Wrong { unknown: true, ..Wrong::new(start, end, format!("there is no function \"{other}\"")).hint(hint) });
            }
        };
        self.expect(")")?;
        Ok(parsed)
    }

    /// A metric whose name was read already, and whether its short name means a total.
    fn selector(&mut self, written: String, start: usize, end: usize) -> Parsed<(Selector, bool)> {
        let (name, mut matchers, total) = match self.names {
            Names::Any => (written, vec![], false),
            Names::Metrics => {
                let found = catalog::resolve(&written).ok_or_else(|| unknown_metric(&written, start, end))?;
                let matcher = |(label, value, equal): (&str, &str, bool)| {
                    let test = if equal { Test::Equal(value.to_owned()) } else { Test::NotEqual(value.to_owned()) };
                    Matcher { label: label.to_owned(), test }
                };
                (found.name, found.matcher.into_iter().map(matcher).collect(), found.total)
            }
        };
        if self.eat("{") {
            while !self.eat("}") {
                matchers.push(self.matcher(&name)?);
                if !self.eat(",") {
                    self.expect("}")?;
                    break;
                }
            }
        }
        Ok((Selector { name, matchers }, total))
    }

    fn matcher(&mut self, metric: &str) -> Parsed<Matcher> {
        let (start, end) = self.span();
        let Token::Word(label) = self.next() else { return Err(Wrong::new(start, end, "expected the name of a label")) };
        if self.names == Names::Metrics
            && let Some(known) = catalog::labels(metric)
            && !known.contains(&label.as_str())
        {
            let hint = if known.is_empty() { "It has no labels.".to_owned() } else { format!("It has: {}.", known.join(", ")) };
            return Err(Wrong { unknown: true, ..Wrong::new(start, end, format!("\"{metric}\" has no label \"{label}\"")).hint(hint) });
        }
        let (sign_start, sign_end) = self.span();
        let sign = match self.next() {
            Token::Sign(sign @ ("=" | "!=" | "=~" | "!~")) => sign,
            _ => return Err(Wrong::new(sign_start, sign_end, "expected =, !=, =~ or !~")),
        };
        let (from, until) = self.span();
        let Token::Text(value) = self.next() else {
            return Err(Wrong::new(from, until, "expected a text").hint(format!("Write {label}{sign}\"…\", with quotes.")));
        };
        let pattern = || Regex::new(&format!("^(?:{value})$")).map_err(|e| Wrong::new(from, until, "this is not a regular expression").hint(format!("{e}.")));
        let test = match sign {
            "=" => Test::Equal(value),
            "!=" => Test::NotEqual(value),
            "=~" => Test::Like(pattern()?, value),
            _ => Test::NotLike(pattern()?, value),
        };
        Ok(Matcher { label, test })
    }
}

fn summed(expression: Expression, total: bool) -> Expression {
    if total { Expression::Aggregate(Aggregation::Sum, vec![], Box::new(expression)) } else { expression }
}

fn unknown_metric(written: &str, start: usize, end: usize) -> Wrong {
    let known: Vec<&str> = catalog::all_names().collect();
    let hint = match near_miss(written, known.iter().copied()) {
        Some(near) => format!("Did you mean {near}?"),
        None => "Metrics are listed in docs/reference/metrics.md; short names in docs/reference/alerts.md.".to_owned(),
    };
    Wrong { unknown: true, ..Wrong::new(start, end, format!("there is no metric \"{written}\"")).hint(hint) }
}

/// True if there are values for which nothing is left.
fn can_fail(expression: &Expression) -> bool {
    match expression {
        Expression::Absent(_) => true,
        Expression::Binary(operator, _, left, right) => match operator {
            Operator::Or => can_fail(left) && can_fail(right),
            Operator::And | Operator::Unless => can_fail(left) || can_fail(right),
            operator => operator.is_comparison() && !(is_scalar(left) && is_scalar(right)),
        },
        _ => false,
    }
}

/// True for what is a number whatever the samples are.
fn is_scalar(expression: &Expression) -> bool {
    match expression {
        Expression::Number(_) | Expression::Time => true,
        Expression::Negate(inner) | Expression::Abs(inner) => is_scalar(inner),
        Expression::Binary(operator, _, left, right) => !operator.is_set() && is_scalar(left) && is_scalar(right),
        _ => false,
    }
}
