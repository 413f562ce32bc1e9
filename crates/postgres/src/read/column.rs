//! Postgres' types as Arrow has them.
//!
//! | Postgres | Arrow |
//! | --- | --- |
//! | boolean, smallint, integer, bigint, real, double precision | Boolean, Int16, Int32, Int64, Float32, Float64 |
//! | numeric(p,s) up to 38 digits | Decimal128(p, s) |
//! | date, time, timestamp, timestamptz | Date32, Time64(µs), Timestamp(µs), Timestamp(µs, UTC) |
//! | bytea | Binary |
//! | arrays of these | List |
//! | text, varchar, char, uuid, json, jsonb, and everything else | Utf8: numeric without a scale is exact that way |

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use tokio_postgres::Client;
use watershed_types::Result;

use super::PostgresReader;
use crate::columns::{qualified, quote};
use crate::ledger::get;

const FIND: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), coalesce(b.typname, t.typname)::text,
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       a.attnotnull, coalesce(e.typname, '')::text, coalesce(c.collisdeterministic, true), current_setting('server_encoding') = 'UTF8'
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
     LEFT JOIN pg_type e ON e.oid = coalesce(b.typelem, t.typelem) AND coalesce(b.typcategory, t.typcategory) = 'A'
     LEFT JOIN pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// One value's form on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric(u8, i8),
    Text,
    Uuid,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
}

/// How a text column may be compared there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparing {
    /// As it is; equality is equality of bytes.
    Plain,
    /// After a cast to text: its own comparison means something else.
    AsText,
    /// Not at all.
    Never,
}

/// A column that can be read.
#[derive(Debug, Clone)]
pub struct ReadColumn {
    /// Its name.
    pub name: String,
    /// Its type as SQL writes it.
    pub shown: String,
    pub(crate) scalar: Scalar,
    pub(crate) list: bool,
    /// Sent as `"name"::text`.
    pub(crate) cast: bool,
    pub(crate) comparing: Comparing,
    /// Whether `COLLATE "C"` orders text as bytes of UTF-8.
    pub(crate) utf8: bool,
    pub(crate) nullable: bool,
}

impl ReadColumn {
    /// What it is in Arrow.
    pub fn field(&self) -> Field {
        let scalar = match self.scalar {
            Scalar::Bool => DataType::Boolean,
            Scalar::Int2 => DataType::Int16,
            Scalar::Int4 => DataType::Int32,
            Scalar::Int8 => DataType::Int64,
            Scalar::Float4 => DataType::Float32,
            Scalar::Float8 => DataType::Float64,
            Scalar::Numeric(precision, scale) => DataType::Decimal128(precision, scale),
            Scalar::Text | Scalar::Uuid | Scalar::Jsonb => DataType::Utf8,
            Scalar::Bytea => DataType::Binary,
            Scalar::Date => DataType::Date32,
            Scalar::Time => DataType::Time64(TimeUnit::Microsecond),
            Scalar::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Scalar::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        let data_type = if self.list { DataType::List(Arc::new(Field::new("item", scalar, true))) } else { scalar };
        Field::new(&self.name, data_type, self.nullable)
    }

    /// What stands in the list of a `SELECT`.
    pub fn selected(&self) -> String {
        if self.cast { format!("{}::text", quote(&self.name)) } else { quote(&self.name) }
    }
}

/// The form of a type by its name; `None` for one that is sent as text.
fn scalar(base: &str, modifier: i32) -> Option<Scalar> {
    Some(match base {
        "bool" => Scalar::Bool,
        "int2" => Scalar::Int2,
        "int4" => Scalar::Int4,
        "int8" => Scalar::Int8,
        "float4" => Scalar::Float4,
        "float8" => Scalar::Float8,
        "numeric" if modifier >= 4 => {
            // As `numeric_typmod` packs them: precision above, scale in the low eleven bits with its sign.
            let (precision, scale) = (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024);
            if precision > 38 || !(0..=precision).contains(&scale) {
                return None;
            }
            Scalar::Numeric(precision as u8, scale as i8)
        }
        "text" | "varchar" | "bpchar" | "citext" | "json" => Scalar::Text,
        "uuid" => Scalar::Uuid,
        "jsonb" => Scalar::Jsonb,
        "bytea" => Scalar::Bytea,
        "date" => Scalar::Date,
        "time" => Scalar::Time,
        "timestamp" => Scalar::Timestamp,
        "timestamptz" => Scalar::TimestampTz,
        _ => return None,
    })
}

fn column(name: String, shown: String, base: &str, element: &str, modifier: i32, not_null: bool, deterministic: bool, utf8: bool) -> ReadColumn {
    let (known, list) = if element.is_empty() { (scalar(base, modifier), false) } else { (scalar(element, modifier), true) };
    let (scalar, list, cast) = match known {
        Some(scalar) => (scalar, list, false),
        None => (Scalar::Text, false, true),
    };
    let comparing = match base {
        _ if list => Comparing::Never,
        "text" | "varchar" if deterministic => Comparing::Plain,
        // The blanks at the end are part of the value here, and of no meaning there.
        "text" | "varchar" | "bpchar" => Comparing::Never,
        _ => Comparing::AsText,
    };
    ReadColumn { name, shown, scalar, list, cast, comparing, utf8, nullable: !not_null }
}

/// The columns of the reader's table; empty without a table.
pub(super) async fn find(client: &Client, reader: &PostgresReader) -> Result<Vec<ReadColumn>> {
    let rows = client.query(FIND, &[&qualified(reader.options())]).await.map_err(|cause| reader.failed(cause))?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        let place = &reader.place;
        let (base, element): (String, String) = (get(place, row, 2)?, get(place, row, 5)?);
        columns.push(column(get(place, row, 0)?, get(place, row, 1)?, &base, &element, get(place, row, 3)?, get(place, row, 4)?, get(place, row, 6)?, get(place, row, 7)?));
    }
    Ok(columns)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A column of a type, as `pg_attribute` would say it.
    pub fn made(name: &str, base: &str, modifier: i32) -> ReadColumn {
        column(name.to_owned(), base.to_owned(), base, "", modifier, false, true, true)
    }

    #[test]
    fn what_arrow_lacks_is_sent_as_text() {
        assert_eq!(made("n", "numeric", ((18 << 16) | 2) + 4).field().data_type(), &DataType::Decimal128(18, 2));
        for (base, modifier) in [("numeric", -1), ("numeric", ((50 << 16) | 2) + 4), ("inet", -1), ("interval", -1)] {
            let column = made("we\"ird", base, modifier);
            assert_eq!((column.field().data_type(), column.selected().as_str()), (&DataType::Utf8, "\"we\"\"ird\"::text"), "{base}");
        }
    }
}
