//! Arrow columns as Postgres columns: which type is made for which, and which existing one takes it.
//!
//! **Owns** the mapping and the DDL. **Does not own** the connection: what is there comes in as [`Found`].

use arrow::datatypes::{DataType, Schema, TimeUnit};
use watershed_types::{Result, near_miss};

use crate::error::{Place, bad_option, mismatch, no_type};
use crate::options::{Mode, PostgresOptions};

/// How a value goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Json,
    Jsonb,
    Uuid,
}

/// A column of the pipeline that is stored.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    /// Its place in the pipeline's batches.
    pub index: usize,
    /// With dictionaries as their values.
    pub data_type: DataType,
    pub nullable: bool,
    /// The type made for it.
    pub made_as: String,
    pub wire: Wire,
    /// Part of the key: NULL is refused.
    pub key: bool,
}

/// The columns of a sink.
#[derive(Debug, Clone)]
pub struct Columns {
    pub(crate) list: Vec<Column>,
    /// The place of the column that says "delete".
    pub(crate) delete: Option<usize>,
    /// How many columns the pipeline's batches have.
    pub(crate) width: usize,
}

/// A column of the table that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub name: String,
    /// As SQL writes it: `numeric(10,2)`.
    pub shown: String,
    /// The base type: `numeric`, `int4`.
    pub base: String,
    pub is_enum: bool,
    /// Precision and scale of a limited numeric.
    pub numeric: Option<(i32, i32)>,
    pub not_null: bool,
    /// Has a default, or is filled by the server.
    pub filled: bool,
}

impl Columns {
    /// The columns of a schema, checked against the options. Errors: `PG0001` for an option that names no column, `PG0003` for a type Postgres does not have.
    pub fn new(options: &PostgresOptions, schema: &Schema) -> Result<Self> {
        let sink = &options.sink;
        let known = |option: &str, name: &str| -> Result<usize> {
            schema.index_of(name).map_err(|_| {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let hint = match near_miss(name, names.clone()) {
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => format!("Its columns: {}.", names.collect::<Vec<_>>().join(", ")),
                };
                bad_option(sink, format!("option \"{option}\" names \"{name}\", which is not a column"), &hint)
            })
        };
        for key in &options.key {
            known("key", key)?;
        }
        if let Some(retention) = &options.retention {
            let index = known("time", &retention.time)?;
            if !matches!(schema.field(index).data_type(), DataType::Timestamp(..)) {
                return Err(bad_option(sink, format!("option \"time\" names \"{}\", which is no timestamp", retention.time), "Name a TIMESTAMP column."));
            }
        }
        let delete = match &options.delete_when {
            None => None,
            Some(name) => {
                let index = known("delete_when", name)?;
                if *schema.field(index).data_type() != DataType::Boolean || options.key.contains(name) {
                    return Err(bad_option(sink, format!("option \"delete_when\" names \"{name}\", which is not a boolean column outside the key"), "Name a boolean column."));
                }
                Some(index)
            }
        };
        let mut list = Vec::new();
        for (index, field) in schema.fields().iter().enumerate().filter(|(index, _)| Some(*index) != delete) {
            let data_type = match field.data_type() {
                DataType::Dictionary(_, values) => values.as_ref().clone(),
                other => other.clone(),
            };
            let (made_as, wire) = made_as(&data_type).ok_or_else(|| no_type(sink, field.name(), field.data_type()))?;
            let key = options.key.contains(field.name());
            list.push(Column { name: field.name().clone(), index, data_type, nullable: field.is_nullable() && !key, made_as, wire, key });
        }
        Ok(Self { list, delete, width: schema.fields().len() })
    }

    /// Quoted names, comma-separated.
    pub(crate) fn names(&self) -> String {
        self.list.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Fits the columns to the table that is there. Gives the columns to encode for and the ones to add.
    pub(crate) fn fit(&self, place: &Place, options: &PostgresOptions, found: &[Found]) -> Result<(Self, Vec<Column>)> {
        let table = qualified(options);
        let mut fitted = self.clone();
        let mut missing = Vec::new();
        for column in &mut fitted.list {
            let Column { name, made_as, nullable, data_type, .. } = &*column;
            let Some(there) = found.iter().find(|there| there.name == *name) else {
                if !options.grow || !nullable {
                    let (why, alter) = if *nullable { ("", "") } else { (", and a column without NULLs is not added to rows that are there", " NOT NULL DEFAULT …") };
                    return Err(mismatch(place, format!("it has no column \"{name}\"{why}"), format!("ALTER TABLE {table} ADD COLUMN {} {made_as}{alter};", quote(name))));
                }
                missing.push(column.clone());
                continue;
            };
            column.wire = accepts(data_type, there).ok_or_else(|| {
                let alter = format!("ALTER TABLE {table} ALTER COLUMN {} TYPE {made_as};", quote(name));
                mismatch(place, format!("column \"{name}\" is {} there, and {made_as} is needed", there.shown), alter)
            })?;
        }
        let ours = |name: &str| self.list.iter().any(|column| column.name == name);
        if let Some(extra) = found.iter().find(|there| there.not_null && !there.filled && !ours(&there.name)) {
            let name = quote(&extra.name);
            let alter = format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;");
            return Err(mismatch(place, format!("its column \"{}\" ({}) takes no NULL, has no default, and the pipeline does not write it", extra.name, extra.shown), alter));
        }
        Ok((fitted, missing))
    }
}

/// The statement that makes a sink's table; with a primary key when upserting. Errors as [`Columns::new`].
pub fn table_ddl(options: &PostgresOptions, schema: &Schema) -> Result<String> {
    let columns = Columns::new(options, schema)?;
    let mut lines: Vec<String> =
        columns.list.iter().map(|column| format!("  {} {}{}", quote(&column.name), column.made_as, if column.nullable { "" } else { " NOT NULL" })).collect();
    if options.mode == Mode::Upsert {
        lines.push(format!("  PRIMARY KEY ({})", key_names(options)));
    }
    Ok(format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", qualified(options), lines.join(",\n")))
}

pub(crate) fn key_names(options: &PostgresOptions) -> String {
    options.key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

/// `"schema"."table"`.
pub(crate) fn qualified(options: &PostgresOptions) -> String {
    format!("{}.{}", quote(&options.schema), quote(&options.table))
}

/// A quoted name, whatever it holds.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How values of a type go into a statement's parameters; `None` if they are not compared with columns.
pub(crate) fn sent_as(name: &str, data_type: &DataType) -> Option<Column> {
    let (made_as, wire) = made_as(data_type)?;
    if matches!(wire, Wire::Json | Wire::Jsonb | Wire::Float4 | Wire::Float8) {
        return None;
    }
    Some(Column { name: name.to_owned(), index: 0, data_type: data_type.clone(), nullable: true, made_as, wire, key: false })
}

fn made_as(data_type: &DataType) -> Option<(String, Wire)> {
    let (name, wire) = match data_type {
        DataType::Boolean => ("boolean", Wire::Bool),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => ("smallint", Wire::Int2),
        DataType::Int32 | DataType::UInt16 => ("integer", Wire::Int4),
        DataType::Int64 | DataType::UInt32 => ("bigint", Wire::Int8),
        DataType::UInt64 => ("numeric(20,0)", Wire::Numeric),
        DataType::Float32 => ("real", Wire::Float4),
        DataType::Float64 => ("double precision", Wire::Float8),
        DataType::Decimal128(precision, scale) if *scale >= 0 => return Some((format!("numeric({precision},{scale})"), Wire::Numeric)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ("text", Wire::Text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => ("bytea", Wire::Bytea),
        DataType::Date32 => ("date", Wire::Date),
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => ("time", Wire::Time),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return None,
        DataType::Timestamp(_, None) => ("timestamp", Wire::Timestamp),
        DataType::Timestamp(_, Some(_)) => ("timestamptz", Wire::Timestamp),
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) if crate::json::knows(data_type) => ("jsonb", Wire::Jsonb),
        _ => return None,
    };
    Some((name.to_owned(), wire))
}

/// How a column that is there takes values of a type without losing any of it; `None` if it does not.
fn accepts(data_type: &DataType, there: &Found) -> Option<Wire> {
    let digits = |needed: i32, scale: i32| there.numeric.is_none_or(|(has, has_scale)| has_scale >= scale && has - has_scale >= needed - scale);
    let base = there.base.as_str();
    let integer = |bits: u32, decimal_digits: i32| match base {
        "int2" if bits <= 16 => Some(Wire::Int2),
        "int4" if bits <= 32 => Some(Wire::Int4),
        "int8" if bits <= 64 => Some(Wire::Int8),
        "numeric" if digits(decimal_digits, 0) => Some(Wire::Numeric),
        _ => None,
    };
    match (data_type, base) {
        (DataType::Boolean, "bool") => Some(Wire::Bool),
        (DataType::Int8 | DataType::UInt8, _) => integer(16, 3),
        (DataType::Int16, _) => integer(16, 5),
        (DataType::UInt16, _) => integer(32, 5),
        (DataType::Int32, _) => integer(32, 10),
        (DataType::UInt32, _) => integer(64, 10),
        (DataType::Int64, _) => integer(64, 19),
        (DataType::UInt64, _) => integer(65, 20),
        (DataType::Float32, "float4") => Some(Wire::Float4),
        (DataType::Float32 | DataType::Float64, "float8") => Some(Wire::Float8),
        (DataType::Decimal128(precision, scale), "numeric") => digits(i32::from(*precision), i32::from(*scale)).then_some(Wire::Numeric),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _) => match base {
            "text" | "varchar" | "bpchar" | "citext" => Some(Wire::Text),
            "json" => Some(Wire::Json),
            "jsonb" => Some(Wire::Jsonb),
            "uuid" => Some(Wire::Uuid),
            _ if there.is_enum => Some(Wire::Text),
            _ => None,
        },
        (DataType::FixedSizeBinary(16), "uuid") => Some(Wire::Bytea),
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_), "bytea") => Some(Wire::Bytea),
        (DataType::Date32, "date") => Some(Wire::Date),
        (DataType::Time32(_) | DataType::Time64(_), "time") => Some(Wire::Time),
        (DataType::Timestamp(_, None), "timestamp") | (DataType::Timestamp(_, Some(_)), "timestamptz") => Some(Wire::Timestamp),
        (DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _), "jsonb") => Some(Wire::Jsonb),
        (DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _), "json") => Some(Wire::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::datatypes::Field;
    use watershed_types::{OptionValue, Options};

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> PostgresOptions {
        let mut values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        values.insert("url".to_owned(), OptionValue::new("postgres://h/d", "…", "a.sql:1:1"));
        PostgresOptions::take(&mut Options::new("sink \"s\"", values), "s").expect("options")
    }

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("we\"ird", DataType::Decimal128(18, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("gone", DataType::Boolean, false),
        ])
    }

    #[test]
    fn ddl_quotes_names_and_leaves_out_the_delete_column() {
        let upsert = options(&[("table", "shop.orders"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone")]);
        assert_eq!(
            table_ddl(&upsert, &schema()).expect("ddl"),
            "CREATE TABLE IF NOT EXISTS \"shop\".\"orders\" (\n  \"id\" bigint NOT NULL,\n  \"we\"\"ird\" numeric(18,2),\n  \"at\" timestamptz NOT NULL,\n  PRIMARY KEY (\"id\")\n)"
        );
        let error = Columns::new(&options(&[("table", "t"), ("mode", "upsert"), ("key", "idd")]), &schema()).expect_err("no such column");
        assert_eq!(error.next_step(), Some("Did you mean \"id\"?"));
        let nanos = Schema::new(vec![Field::new("n", DataType::Timestamp(TimeUnit::Nanosecond, None), true)]);
        assert_eq!(table_ddl(&options(&[("table", "t")]), &nanos).expect_err("nanoseconds").code(), "PG0003");
    }

    #[test]
    fn a_numeric_that_would_round_is_no_match() {
        let found = |numeric| Found { name: "x".into(), shown: "numeric".into(), base: "numeric".into(), is_enum: false, numeric, not_null: false, filled: false };
        let money = DataType::Decimal128(18, 2);
        assert_eq!(accepts(&money, &found(None)), Some(Wire::Numeric));
        assert_eq!(accepts(&money, &found(Some((20, 4)))), Some(Wire::Numeric));
        assert_eq!(accepts(&money, &found(Some((18, 1)))), None);
        assert_eq!(accepts(&money, &found(Some((18, 4)))), None);
        assert_eq!(accepts(&DataType::Int64, &found(Some((19, 0)))), Some(Wire::Numeric));
    }
}
