//! The tree of a condition, and how it prints as PromQL.

use std::fmt;
use std::time::Duration;

use regex::Regex;

/// What must hold, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What must hold.
    pub expression: Expression,
    /// `for 5m` at its end.
    pub hold: Option<Duration>,
}

/// An expression over metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// `time()`: the clock in seconds.
    Time,
    /// The newest samples of a metric.
    Select(Selector),
    /// A function over a metric's samples of the last while.
    Window(WindowFunction, Selector, Duration),
    /// `absent(x)`: one series if x has none.
    Absent(Box<Expression>),
    /// `abs(x)`.
    Abs(Box<Expression>),
    /// `histogram_quantile(0.99, x)`.
    Quantile(f64, Box<Expression>),
    /// `sum by (source) (x)`.
    Aggregate(Aggregation, Vec<String>, Box<Expression>),
    /// `-x`.
    Negate(Box<Expression>),
    /// Two operands.
    Binary(Operator, Option<Matching>, Box<Expression>, Box<Expression>),
}

/// A metric and conditions on its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The metric.
    pub name: String,
    /// All must hold.
    pub matchers: Vec<Matcher>,
}

/// A condition on a label; a label that is missing is empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// How it is compared.
    pub test: Test,
}

/// How a label is compared.
#[derive(Debug, Clone)]
pub enum Test {
    /// `=`
    Equal(String),
    /// `!=`
    NotEqual(String),
    /// `=~`: the whole value matches.
    Like(Regex, String),
    /// `!~`
    NotLike(Regex, String),
}

impl Test {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Equal(value) => ("=", value),
            Self::NotEqual(value) => ("!=", value),
            Self::Like(_, pattern) => ("=~", pattern),
            Self::NotLike(_, pattern) => ("!~", pattern),
        }
    }

    /// True if a value passes.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::NotEqual(unwanted) => value != unwanted,
            Self::Like(pattern, _) => pattern.is_match(value),
            Self::NotLike(pattern, _) => !pattern.is_match(value),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && self.test.parts() == other.test.parts()
    }
}

/// Functions over a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowFunction {
    /// By how much a counter grew, a second.
    Rate,
    /// By how much a counter grew.
    Increase,
    /// By how much a gauge changed.
    Delta,
    /// The mean.
    Average,
    /// The greatest.
    Max,
    /// The least.
    Min,
}

impl WindowFunction {
    /// Every one with its name.
    pub const ALL: [(&'static str, WindowFunction); 6] =
        [("rate", Self::Rate), ("increase", Self::Increase), ("delta", Self::Delta), ("avg_over_time", Self::Average), ("max_over_time", Self::Max), ("min_over_time", Self::Min)];
}

/// Many series to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their mean.
    Average,
    /// How many.
    Count,
}

impl Aggregation {
    /// Every one with its name.
    pub const ALL: [(&'static str, Aggregation); 5] = [("sum", Self::Sum), ("min", Self::Min), ("max", Self::Max), ("avg", Self::Average), ("count", Self::Count)];
}

/// Operators between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Series of either side.
    Or,
    /// Series of the left that the right has too.
    And,
    /// Series of the left that the right has not.
    Unless,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    /// Every one as written.
    pub const ALL: [(&'static str, Operator); 13] = [
        ("or", Self::Or),
        ("and", Self::And),
        ("unless", Self::Unless),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
        ("+", Self::Add),
        ("-", Self::Subtract),
        ("*", Self::Multiply),
        ("/", Self::Divide),
    ];

    /// Higher binds tighter.
    pub fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Subtract => 4,
            Self::Multiply | Self::Divide => 5,
            _ => 3,
        }
    }

    /// True for `or`, `and`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// True for `==` and its like.
    pub fn is_comparison(self) -> bool {
        self.strength() == 3
    }
}

/// Which labels of two sides must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// These alone.
    pub on: Vec<String>,
    /// Which side may have many series for one of the other.
    pub many: Option<Side>,
}

/// A side of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `group_left`
    Left,
    /// `group_right`
    Right,
}

fn name_of<T: PartialEq + Copy>(all: &[(&'static str, T)], wanted: T) -> &'static str {
    all.iter().find(|(_, one)| *one == wanted).map_or("", |(name, _)| name)
}

/// `5m`, `90s`, `1500ms`: as Prometheus writes a duration.
pub fn duration(value: Duration) -> String {
    let millis = value.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis > 0 && millis % size == 0 {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        let matchers: Vec<String> = self
            .matchers
            .iter()
            .map(|m| {
                let (sign, value) = m.test.parts();
                format!("{}{sign}\"{}\"", m.label, value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
            })
            .collect();
        write!(f, "{{{}}}", matchers.join(", "))
    }
}

impl Expression {
    /// With brackets if it binds less tightly than its place asks for.
    fn within(&self, least: u8) -> String {
        let strength = match self {
            Self::Binary(operator, ..) => operator.strength(),
            Self::Negate(_) => 6,
            _ => 7,
        };
        if strength < least { format!("({self})") } else { self.to_string() }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Time => f.write_str("time()"),
            Self::Select(selector) => write!(f, "{selector}"),
            Self::Window(function, selector, window) => write!(f, "{}({selector}[{}])", name_of(&WindowFunction::ALL, *function), duration(*window)),
            Self::Absent(argument) => write!(f, "absent({argument})"),
            Self::Abs(argument) => write!(f, "abs({argument})"),
            Self::Quantile(q, argument) => write!(f, "histogram_quantile({q}, {argument})"),
            Self::Aggregate(aggregation, by, argument) => {
                f.write_str(name_of(&Aggregation::ALL, *aggregation))?;
                if !by.is_empty() {
                    write!(f, " by ({}) ", by.join(", "))?;
                }
                write!(f, "({argument})")
            }
            Self::Negate(argument) => write!(f, "-{}", argument.within(6)),
            Self::Binary(operator, matching, left, right) => {
                // A comparison of comparisons is written with brackets, and so is what follows on the right.
                let strength = operator.strength();
                write!(f, "{} {}", left.within(strength + u8::from(operator.is_comparison())), name_of(&Operator::ALL, *operator))?;
                if let Some(Matching { on, many }) = matching {
                    write!(f, " on ({})", on.join(", "))?;
                    match many {
                        Some(Side::Left) => f.write_str(" group_left")?,
                        Some(Side::Right) => f.write_str(" group_right")?,
                        None => {}
                    }
                }
                write!(f, " {}", right.within(strength + 1))
            }
        }
    }
}

impl Condition {
    /// Every metric it reads.
    pub fn selectors(&self) -> Vec<&Selector> {
        let mut found = Vec::new();
        walk(&self.expression, &mut |expression| {
            if let Expression::Select(selector) | Expression::Window(_, selector, _) = expression {
                found.push(selector);
            }
        });
        found
    }

    /// Every metric it looks back on, and how far.
    pub fn windows(&self) -> Vec<(&str, Duration)> {
        let mut found = Vec::new();
        walk(&self.expression, &mut |expression| {
            if let Expression::Window(_, selector, window) = expression {
                found.push((selector.name.as_str(), *window));
            }
        });
        found
    }
}

fn walk<'e>(expression: &'e Expression, visit: &mut impl FnMut(&'e Expression)) {
    visit(expression);
    match expression {
        Expression::Number(_) | Expression::Time | Expression::Select(_) | Expression::Window(..) => {}
        Expression::Absent(inner) | Expression::Abs(inner) | Expression::Quantile(_, inner) | Expression::Aggregate(_, _, inner) | Expression::Negate(inner) => walk(inner, visit),
        Expression::Binary(_, _, left, right) => {
            walk(left, visit);
            walk(right, visit);
        }
    }
}
