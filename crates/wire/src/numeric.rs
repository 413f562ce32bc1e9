//! `numeric` of any precision, as text and in Postgres' binary form.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use datafusion_postgres::pgwire::types::ToSqlText;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A decimal as it is written, such as `-12.50`.
#[derive(Debug)]
pub(crate) struct Numeric(pub String);

type Written = Result<IsNull, Box<dyn Error + Sync + Send>>;

impl ToSqlText for Numeric {
    fn to_sql_text(&self, _: &Type, out: &mut BytesMut, _: &FormatOptions) -> Written {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        let (negative, digits) = match self.0.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, self.0.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        // Groups of four digits, counted from the point to both sides.
        let left = whole.len().div_ceil(4);
        let padded = format!("{whole:0>width$}{fraction}{:0<pad$}", "", width = left * 4, pad = fraction.len().next_multiple_of(4) - fraction.len());
        let groups =
            padded.as_bytes().chunks(4).map(|group| std::str::from_utf8(group)?.parse::<i16>().map_err(Into::into)).collect::<Result<Vec<_>, Box<dyn Error + Sync + Send>>>()?;
        let first = groups.iter().position(|g| *g != 0).unwrap_or(groups.len());
        let last = groups.iter().rposition(|g| *g != 0).map_or(first, |at| at + 1);
        let kept = &groups[first..last];
        let weight = if kept.is_empty() { 0 } else { i16::try_from(left)? - 1 - i16::try_from(first)? };
        out.put_i16(i16::try_from(kept.len())?);
        out.put_i16(weight);
        out.put_u16(if negative && !kept.is_empty() { 0x4000 } else { 0 });
        out.put_u16(u16::try_from(fraction.len())?);
        for group in kept {
            out.put_i16(*group);
        }
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(text: &str) -> Vec<i16> {
        let mut out = BytesMut::new();
        Numeric(text.to_owned()).to_sql(&Type::NUMERIC, &mut out).expect("a number");
        out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// As `numeric_send` of Postgres 15 writes them.
    #[test]
    fn binary_is_as_postgres_has_it() {
        assert_eq!(binary("12.50"), [2, 0, 0, 2, 12, 5000]);
        assert_eq!(binary("-12345678.9"), [3, 1, 0x4000, 1, 1234, 5678, 9000]);
        assert_eq!(binary("0.00"), [0, 0, 0, 2]);
        assert_eq!(binary("0.00001"), [1, -2, 0, 5, 1000]);
        assert_eq!(binary("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(binary("99999999999999999999999999999999999999").len(), 4 + 10);
    }
}
