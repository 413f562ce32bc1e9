//! Filters as SQL for Postgres.
//!
//! **Owns** which expressions mean the same on both sides, and how values are written. **Does not own** what is done with the
//! others: DataFusion filters by them itself.
//!
//! SUBTLE: the text is written here and not by DataFusion's unparser. That one writes `'` after a backslash unescaped (so a
//! value could end its literal), folds doubled quotes, and casts times with a zone to plain `timestamp`.
//!
//! Where the sides differ, and what is done:
//! * text is ordered by bytes here and by collation there: `COLLATE "C"`; equality under a nondeterministic collation,
//!   `char(n)`, and `ILIKE` are not pushed;
//! * floats are in total order here: -0 is below 0, and NaN may be below all. There NaN is above all and zeros are equal:
//!   zero and NaN are not compared there, and `<` also asks for NaN;
//! * times are pushed in years 1 to 9999, with a zone as UTC.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, Like};
use datafusion::logical_expr::{Expr, Operator};

use super::column::{Comparing, ReadColumn, Scalar};
use crate::columns::quote;

/// A filter as SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pushed {
    pub sql: String,
    /// False if Postgres may keep rows that DataFusion drops.
    pub exact: bool,
}

impl Pushed {
    fn exact(sql: String) -> Option<Pushed> {
        Some(Pushed { sql, exact: true })
    }
}

/// The SQL for a filter; `None` if the server cannot be asked.
pub(super) fn push(expr: &Expr, columns: &[ReadColumn]) -> Option<Pushed> {
    match expr {
        Expr::Alias(alias) => push(&alias.expr, columns),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => {
                let (left, right) = (push(left, columns)?, push(right, columns)?);
                Some(Pushed { sql: format!("({} {op} {})", left.sql, right.sql), exact: left.exact && right.exact })
            }
            _ => match (literal(right), literal(left)) {
                (Some(value), _) => compare(column(left, columns)?, *op, value),
                (_, Some(value)) => compare(column(right, columns)?, op.swap()?, value),
                _ => None,
            },
        },
        Expr::Not(inner) => {
            let inner = push(inner, columns).filter(|inner| inner.exact)?;
            Pushed::exact(format!("(NOT {})", inner.sql))
        }
        Expr::IsNull(inner) => Pushed::exact(format!("({} IS NULL)", quote(&column(inner, columns)?.name))),
        Expr::IsNotNull(inner) => Pushed::exact(format!("({} IS NOT NULL)", quote(&column(inner, columns)?.name))),
        Expr::IsTrue(inner) => truth(inner, columns, "IS TRUE"),
        Expr::IsFalse(inner) => truth(inner, columns, "IS FALSE"),
        Expr::IsNotTrue(inner) => truth(inner, columns, "IS NOT TRUE"),
        Expr::IsNotFalse(inner) => truth(inner, columns, "IS NOT FALSE"),
        // Without IS TRUE: below a NOT, NULL must stay NULL.
        Expr::Column(_) => Pushed::exact(quote(&column(expr, columns).filter(|column| column.scalar == Scalar::Bool && !column.list)?.name)),
        Expr::Between(Between { expr, negated, low, high }) => between(column(expr, columns)?, *negated, literal(low)?, literal(high)?),
        Expr::InList(InList { expr, list, negated }) => in_list(column(expr, columns)?, list, *negated),
        Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false }) => like(column(expr, columns)?, literal(pattern)?),
        _ => None,
    }
}

fn column<'a>(expr: &Expr, columns: &'a [ReadColumn]) -> Option<&'a ReadColumn> {
    let Expr::Column(Column { name, .. }) = expr else { return None };
    columns.iter().find(|column| column.name == *name)
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

fn truth(expr: &Expr, columns: &[ReadColumn], test: &str) -> Option<Pushed> {
    let column = column(expr, columns).filter(|column| column.scalar == Scalar::Bool && !column.list)?;
    Pushed::exact(format!("({} {test})", quote(&column.name)))
}

fn like(column: &ReadColumn, pattern: &ScalarValue) -> Option<Pushed> {
    let pattern = pattern.try_as_str().flatten()?;
    let plain = column.scalar == Scalar::Text && column.comparing == Comparing::Plain && column.utf8;
    if !plain || pattern.contains('\\') {
        return None;
    }
    Some(Pushed { sql: format!("({} LIKE {})", quote(&column.name), text(pattern)?), exact: false })
}

fn between(column: &ReadColumn, negated: bool, low: &ScalarValue, high: &ScalarValue) -> Option<Pushed> {
    let (low, high) = if negated {
        (compare(column, Operator::Lt, low)?, compare(column, Operator::Gt, high)?)
    } else {
        (compare(column, Operator::GtEq, low)?, compare(column, Operator::LtEq, high)?)
    };
    let word = if negated { "OR" } else { "AND" };
    Some(Pushed { sql: format!("({} {word} {})", low.sql, high.sql), exact: low.exact && high.exact })
}

fn in_list(column: &ReadColumn, list: &[Expr], negated: bool) -> Option<Pushed> {
    let (op, word) = if negated { (Operator::NotEq, " AND ") } else { (Operator::Eq, " OR ") };
    let (subject, mut values) = (subject(column, op)?, Vec::with_capacity(list.len()));
    for value in list {
        // What cannot be compared alone cannot be in the list either.
        compare(column, op, literal(value)?).filter(|compared| compared.exact)?;
        values.push(written(column, literal(value)?)?);
    }
    match values.is_empty() {
        true => None,
        false => Pushed::exact(format!("({subject} {} ({}))", if word == " OR " { "IN" } else { "NOT IN" }, values.join(", "))),
    }
}

/// What stands on the left of a comparison.
fn subject(column: &ReadColumn, op: Operator) -> Option<String> {
    let name = quote(&column.name);
    let ordering = !matches!(op, Operator::Eq | Operator::NotEq);
    if column.list {
        return None;
    }
    match (column.scalar, column.comparing) {
        (Scalar::Text, Comparing::Never) | (Scalar::Jsonb, _) => None,
        (Scalar::Text, _) if ordering && !column.utf8 => None,
        (Scalar::Text, Comparing::Plain) if ordering => Some(format!("{name} COLLATE \"C\"")),
        (Scalar::Text, Comparing::AsText) if ordering => Some(format!("{name}::text COLLATE \"C\"")),
        (Scalar::Text, Comparing::AsText) => Some(format!("{name}::text")),
        // Its text is not ordered as its bytes are, but hexadecimal digits are.
        (Scalar::Uuid, _) => Some(name),
        _ => Some(name),
    }
}

fn compare(column: &ReadColumn, op: Operator, value: &ScalarValue) -> Option<Pushed> {
    let sign = match op {
        Operator::Eq => "=",
        Operator::NotEq => "<>",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        _ => return None,
    };
    let (subject, value) = (subject(column, op)?, written(column, value)?);
    let sql = format!("({subject} {sign} {value})");
    let float = match column.scalar {
        Scalar::Float4 => "real",
        Scalar::Float8 => "double precision",
        _ => return Pushed::exact(sql),
    };
    match op {
        Operator::Eq | Operator::NotEq => Pushed::exact(sql),
        Operator::Lt | Operator::LtEq => Some(Pushed { sql: format!("({sql} OR {subject} = 'NaN'::{float})"), exact: false }),
        _ => Some(Pushed { sql, exact: false }),
    }
}

/// A value as a literal of the column's own type; `None` if it has none there, or is of another type.
fn written(column: &ReadColumn, value: &ScalarValue) -> Option<String> {
    match column.scalar {
        Scalar::Bool => match value {
            ScalarValue::Boolean(Some(value)) => Some(value.to_string()),
            _ => None,
        },
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => integer(value),
        Scalar::Numeric(..) => match value {
            ScalarValue::Decimal128(Some(value), _, scale) if *scale >= 0 => Some(decimal(*value, *scale as usize)),
            _ => integer(value),
        },
        Scalar::Float4 => match value {
            ScalarValue::Float32(Some(value)) if value.is_finite() && *value != 0.0 => Some(format!("'{value:e}'::real")),
            _ => None,
        },
        Scalar::Float8 => match value {
            ScalarValue::Float64(Some(value)) if value.is_finite() && *value != 0.0 => Some(format!("'{value:e}'::double precision")),
            _ => None,
        },
        Scalar::Text => text(value.try_as_str().flatten()?),
        Scalar::Uuid => uuid(value.try_as_str().flatten()?),
        Scalar::Bytea => match value {
            ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => {
                Some(format!("'\\x{}'::bytea", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
            }
            _ => None,
        },
        Scalar::Date => match value {
            ScalarValue::Date32(Some(days)) => Some(format!("'{}'::date", day(i64::from(*days))?)),
            _ => None,
        },
        Scalar::Timestamp => micros(value, false).and_then(|micros| Some(format!("'{}'::timestamp", time(micros)?))),
        Scalar::TimestampTz => micros(value, true).and_then(|micros| Some(format!("'{}+00'::timestamptz", time(micros)?))),
        Scalar::Time | Scalar::Jsonb => None,
    }
}

fn integer(value: &ScalarValue) -> Option<String> {
    Some(match value {
        ScalarValue::Int8(Some(value)) => value.to_string(),
        ScalarValue::Int16(Some(value)) => value.to_string(),
        ScalarValue::Int32(Some(value)) => value.to_string(),
        ScalarValue::Int64(Some(value)) => value.to_string(),
        ScalarValue::UInt8(Some(value)) => value.to_string(),
        ScalarValue::UInt16(Some(value)) => value.to_string(),
        ScalarValue::UInt32(Some(value)) => value.to_string(),
        ScalarValue::UInt64(Some(value)) => value.to_string(),
        _ => return None,
    })
}

fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// With `standard_conforming_strings` on, as every connection for reading has it, only the quote is special.
fn text(value: &str) -> Option<String> {
    // No text there holds it, and no statement can.
    (!value.contains('\0')).then(|| format!("'{}'", value.replace('\'', "''")))
}

/// Only the one spelling that a UUID is read with: any other equals none here, and one there.
fn uuid(value: &str) -> Option<String> {
    let hex = |(i, byte): (usize, u8)| if matches!(i, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) };
    (value.len() == 36 && value.bytes().enumerate().all(hex)).then(|| format!("'{value}'::uuid"))
}

fn micros(value: &ScalarValue, zoned: bool) -> Option<i64> {
    let (micros, zone) = match value {
        ScalarValue::TimestampSecond(Some(value), zone) => (value.checked_mul(1_000_000)?, zone),
        ScalarValue::TimestampMillisecond(Some(value), zone) => (value.checked_mul(1_000)?, zone),
        ScalarValue::TimestampMicrosecond(Some(value), zone) => (*value, zone),
        ScalarValue::TimestampNanosecond(Some(value), zone) if value % 1_000 == 0 => (value / 1_000, zone),
        _ => return None,
    };
    (zone.is_some() == zoned).then_some(micros)
}

/// A day of the years 1 to 9999.
fn day(days: i64) -> Option<String> {
    // 0001-01-01 to 9999-12-31.
    if !(-719_162..=2_932_896).contains(&days) {
        return None;
    }
    let at = arrow::temporal_conversions::date32_to_datetime(i32::try_from(days).ok()?)?;
    Some(at.format("%Y-%m-%d").to_string())
}

fn time(micros: i64) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let rest = micros.rem_euclid(DAY);
    let seconds = rest / 1_000_000;
    Some(format!("{} {:02}:{:02}:{:02}.{:06}", day(micros.div_euclid(DAY))?, seconds / 3_600, seconds / 60 % 60, seconds % 60, rest % 1_000_000))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::super::column::tests::made;
    use super::*;

    fn columns() -> Vec<ReadColumn> {
        let numeric = ((18 << 16) | 2) + 4;
        let bases = [("id", "int8"), ("name", "text"), ("we\"ird", "text"), ("price", "numeric"), ("x", "float8"), ("ok", "bool"), ("at", "timestamptz"), ("plain", "timestamp")];
        let more = [("day", "date"), ("key", "uuid"), ("raw", "bytea"), ("padded", "bpchar"), ("loose", "citext"), ("any", "numeric")];
        bases.iter().chain(&more).map(|(name, base)| made(name, base, if *name == "price" { numeric } else { -1 })).collect()
    }

    #[test]
    fn what_means_the_same_is_exact() {
        let at = |zone: Option<&str>| lit(ScalarValue::TimestampMicrosecond(Some(1_709_211_900_000_001), zone.map(Into::into)));
        let name = |name: &str| Expr::Column(Column::from_name(name));
        let cases = [
            (col("id").eq(lit(-5i64)), "(\"id\" = -5)"),
            (lit(3i64).lt(col("id")), "(\"id\" > 3)"),
            (col("name").not_eq(lit("O'Brien \\' OR true --")), "(\"name\" <> 'O''Brien \\'' OR true --')"),
            (col("name").gt_eq(lit("B")), "(\"name\" COLLATE \"C\" >= 'B')"),
            (name("we\"ird").is_null(), "(\"we\"\"ird\" IS NULL)"),
            (col("price").lt(lit(ScalarValue::Decimal128(Some(-5), 18, 2))), "(\"price\" < -0.05)"),
            (col("ok").and(col("id").is_not_null()), "(\"ok\" AND (\"id\" IS NOT NULL))"),
            (col("at").lt(at(Some("+02:00"))), "(\"at\" < '2024-02-29 13:05:00.000001+00'::timestamptz)"),
            (col("plain").gt_eq(at(None)), "(\"plain\" >= '2024-02-29 13:05:00.000001'::timestamp)"),
            (col("day").between(lit(ScalarValue::Date32(Some(0))), lit(ScalarValue::Date32(Some(1)))), "((\"day\" >= '1970-01-01'::date) AND (\"day\" <= '1970-01-02'::date))"),
            (col("id").in_list(vec![lit(1i64), lit(2i64)], true), "(\"id\" NOT IN (1, 2))"),
            (col("key").eq(lit("0190aab8-0000-7000-8000-00000000beef")), "(\"key\" = '0190aab8-0000-7000-8000-00000000beef'::uuid)"),
            (col("raw").eq(lit(ScalarValue::Binary(Some(vec![0, 255])))), "(\"raw\" = '\\x00ff'::bytea)"),
            (col("loose").eq(lit("a")), "(\"loose\"::text = 'a')"),
            (!col("name").eq(lit("a")), "(NOT (\"name\" = 'a'))"),
            (col("x").eq(lit(1.5e300)), "(\"x\" = '1.5e300'::double precision)"),
        ];
        for (expr, sql) in cases {
            assert_eq!(push(&expr, &columns()), Pushed::exact(sql.to_owned()), "{expr}");
        }
    }

    #[test]
    fn what_may_keep_more_is_inexact_and_what_may_keep_less_is_not_asked() {
        let inexact = |sql: &str| Some(Pushed { sql: sql.to_owned(), exact: false });
        assert_eq!(push(&col("x").lt(lit(2.0)), &columns()), inexact("((\"x\" < '2e0'::double precision) OR \"x\" = 'NaN'::double precision)"));
        assert_eq!(push(&col("name").like(lit("a%")), &columns()), inexact("(\"name\" LIKE 'a%')"));
        let refused = [
            col("x").eq(lit(0.0)),
            col("x").gt(lit(f64::NAN)),
            !col("x").lt(lit(2.0)),
            col("name").like(lit("a\\%")),
            col("name").ilike(lit("a%")),
            col("name").eq(lit("nul\0")),
            col("padded").eq(lit("a")),
            col("key").eq(lit("0190AAB8-0000-7000-8000-00000000BEEF")),
            col("plain").lt(lit(ScalarValue::TimestampMicrosecond(Some(0), Some("UTC".into())))),
            col("plain").lt(lit(ScalarValue::TimestampNanosecond(Some(1), None))),
            col("at").lt(lit(ScalarValue::TimestampMicrosecond(Some(i64::MAX), Some("UTC".into())))),
            col("id").eq(lit(ScalarValue::Int64(None))),
            col("id").eq(col("id")),
            col("nowhere").eq(lit(1)),
        ];
        for expr in refused {
            assert_eq!(push(&expr, &columns()), None, "{expr}");
        }
    }
}
