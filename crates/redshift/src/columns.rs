//! Arrow columns as Redshift columns: which type is made for which, how it is staged, and which existing one takes it.
//!
//! **Owns** the mapping and the DDL of the target table. **Does not own** the connection: what is there comes in as [`Found`].

use arrow::datatypes::{DataType, Schema, TimeUnit};
use watershed_types::{Result, near_miss};

use crate::error::{Place, bad_option, mismatch, no_type};
use crate::options::{Mode, RedshiftOptions};

/// What a text column of Redshift holds at most, in bytes.
const TEXT_BYTES: usize = 65_535;
/// Bytes in a column whose hexadecimal digits still fit into one.
const BINARY_BYTES: usize = TEXT_BYTES / 2;

/// The type of a column in the staged files and in the staging table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staged {
    Boolean,
    Integer,
    BigInt,
    Real,
    Double,
    /// With this scale and all the digits there are: from 19 digits on the Parquet form is the one COPY knows.
    Decimal(i8),
    /// Up to so many bytes; ASCII alone if told.
    Text {
        bytes: usize,
        ascii: bool,
    },
    /// Hexadecimal digits of up to so many bytes.
    Hex {
        bytes: usize,
    },
    /// JSON of up to so many bytes.
    Json {
        bytes: usize,
    },
    Date,
    /// Microseconds in UTC.
    Timestamp,
    /// As text.
    Time,
}

impl Staged {
    /// The type in the staging table.
    pub fn sql(self) -> String {
        match self {
            Self::Boolean => "BOOLEAN".to_owned(),
            Self::Integer => "INTEGER".to_owned(),
            Self::BigInt => "BIGINT".to_owned(),
            Self::Real => "REAL".to_owned(),
            Self::Double => "DOUBLE PRECISION".to_owned(),
            Self::Decimal(scale) => format!("DECIMAL(38,{scale})"),
            Self::Text { bytes, .. } | Self::Json { bytes } => format!("VARCHAR({bytes})"),
            Self::Hex { bytes } => format!("VARCHAR({})", bytes * 2),
            Self::Date => "DATE".to_owned(),
            Self::Timestamp => "TIMESTAMP".to_owned(),
            Self::Time => "VARCHAR(16)".to_owned(),
        }
    }
}

/// A column of the pipeline that is stored.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// As Redshift has it: lower case.
    pub name: String,
    /// Its place in the pipeline's batches.
    pub index: usize,
    /// With dictionaries as their values.
    pub data_type: DataType,
    pub nullable: bool,
    /// The type made for it.
    pub made_as: String,
    pub staged: Staged,
    /// The type it has there, where the staged one is turned into it.
    pub turned: Turned,
    /// Part of the key: NULL is refused.
    pub key: bool,
}

/// How a staged value becomes one of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turned {
    AsIs,
    Cast(String),
    Utc,
    Json,
    Hex,
}

impl Column {
    /// The table's value, of a row of the staging table.
    pub fn expression(&self, staging_table: Option<&str>) -> String {
        let name = match staging_table {
            Some(table) => format!("{table}.{}", quote(&self.name)),
            None => quote(&self.name),
        };
        match &self.turned {
            Turned::AsIs => name,
            Turned::Cast(to) => format!("CAST({name} AS {to})"),
            Turned::Utc => format!("{name} AT TIME ZONE 'UTC'"),
            Turned::Json => format!("JSON_PARSE({name})"),
            Turned::Hex => format!("FROM_HEX({name})"),
        }
    }
}

/// The columns of a sink.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub list: Vec<Column>,
    /// The place of the column that says "delete".
    pub delete: Option<usize>,
    /// How many columns the pipeline's batches have.
    pub width: usize,
}

/// A column of the table that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub name: String,
    /// As SQL writes it: `numeric(10,2)`.
    pub shown: String,
    pub not_null: bool,
    /// Has a default, or is an identity.
    pub filled: bool,
}

impl Found {
    /// The type's name without its arguments, and the arguments.
    fn parts(&self) -> (&str, Vec<i32>) {
        let (base, rest) = self.shown.split_once('(').unwrap_or((&self.shown, ""));
        let arguments = rest.split_once(')').map_or("", |(inside, _)| inside);
        (base.trim(), arguments.split(',').filter_map(|number| number.trim().parse().ok()).collect())
    }
}

impl Columns {
    /// The columns of a schema, checked against the options. Errors: `RSH0001` for an option that names no column or names that
    /// are one to Redshift, `RSH0003` for a type Redshift does not have.
    pub fn new(options: &RedshiftOptions, schema: &Schema) -> Result<Self> {
        let sink = &options.sink;
        let known = |option: &str, name: &str| -> Result<usize> {
            let found = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let hint = match near_miss(name, names.clone()) {
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => format!("Its columns: {}.", names.collect::<Vec<_>>().join(", ")),
                };
                bad_option(sink, format!("option \"{option}\" names \"{name}\", which is not a column"), &hint)
            })
        };
        let key = options.key.iter().map(|name| known("key", name)).collect::<Result<Vec<_>>>()?;
        let delete = options.delete_when.as_deref().map(|name| known("delete_when", name)).transpose()?;
        if let Some(index) = delete
            && (*schema.field(index).data_type() != DataType::Boolean || key.contains(&index))
        {
            let name = schema.field(index).name();
            return Err(bad_option(sink, format!("option \"delete_when\" names \"{name}\", which is not a boolean column outside the key"), "Name a boolean column."));
        }
        for (option, name) in options.distkey.iter().map(|name| ("distkey", name)).chain(options.sortkey.iter().map(|name| ("sortkey", name))) {
            if Some(known(option, name)?) == delete {
                return Err(bad_option(sink, format!("option \"{option}\" names \"{name}\", which is not stored"), "Name another column."));
            }
        }
        let ordering = options.key.iter().chain(&options.distkey).chain(&options.sortkey);
        for name in ordering {
            let field = schema.field(known("key", name)?);
            if field.data_type().is_nested() {
                return Err(bad_option(sink, format!("column \"{name}\" is nested, and Redshift neither compares nor sorts SUPER"), "Name a plain column."));
            }
        }
        let mut list: Vec<Column> = Vec::new();
        for (index, field) in schema.fields().iter().enumerate().filter(|(index, _)| Some(*index) != delete) {
            let name = field.name().to_ascii_lowercase();
            if list.iter().any(|column| column.name == name) || name.starts_with("_watershed_") {
                return Err(bad_option(
                    sink,
                    format!("column \"{}\" cannot be told from another one", field.name()),
                    "Redshift folds names to lower case, and _watershed_… is taken: rename it.",
                ));
            }
            let data_type = match field.data_type() {
                DataType::Dictionary(_, values) => values.as_ref().clone(),
                other => other.clone(),
            };
            let (made_as, staged, turned) = made_as(&data_type, options.varchar_length).ok_or_else(|| no_type(sink, field.name(), field.data_type()))?;
            let key = key.contains(&index);
            list.push(Column { name, index, data_type, nullable: field.is_nullable() && !key, made_as, staged, turned, key });
        }
        Ok(Self { list, delete, width: schema.fields().len() })
    }

    /// Quoted names, comma-separated.
    pub fn names(&self) -> String {
        self.list.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Quoted names of the key.
    pub fn keys(&self) -> Vec<String> {
        self.list.iter().filter(|column| column.key).map(|column| quote(&column.name)).collect()
    }

    /// Fits the columns to the table that is there. Gives the columns to stage for and the ones to add.
    pub fn fit(&self, place: &Place, options: &RedshiftOptions, found: &[Found]) -> Result<(Self, Vec<Column>)> {
        let table = qualified(options);
        let mut fitted = self.clone();
        let mut missing = Vec::new();
        for column in &mut fitted.list {
            let name = quote(&column.name);
            let Some(there) = found.iter().find(|there| there.name.eq_ignore_ascii_case(&column.name)) else {
                if !options.grow || !column.nullable {
                    let (why, null) = if column.nullable { ("", "") } else { (", and a column without NULLs is not added to rows that are there", " NOT NULL DEFAULT …") };
                    let alter = format!("Run: ALTER TABLE {table} ADD COLUMN {name} {}{null};", column.made_as);
                    return Err(mismatch(place, format!("it has no column \"{}\"{why}", column.name), alter));
                }
                missing.push(column.clone());
                continue;
            };
            let Some((staged, turned)) = accepts(&column.data_type, there) else {
                return Err(mismatch(place, format!("column \"{}\" is {} there, and {} is needed", column.name, there.shown, column.made_as), mend(&table, column)));
            };
            (column.staged, column.turned) = (staged, turned);
            column.nullable &= !there.not_null;
        }
        let ours = |name: &str| self.list.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        if let Some(extra) = found.iter().find(|there| there.not_null && !there.filled && !ours(&there.name)) {
            let what = format!("its column \"{}\" ({}) takes no NULL, has no default, and the pipeline does not write it", extra.name, extra.shown);
            return Err(mismatch(place, what, "Redshift cannot drop NOT NULL: make the table anew without it, with a default, or let the query write the column."));
        }
        Ok((fitted, missing))
    }
}

/// Redshift changes no column's type, beyond the length of text, which fits as it is.
fn mend(table: &str, column: &Column) -> String {
    let (name, old) = (quote(&column.name), quote(&format!("{}_old", column.name)));
    format!("CAST the column in the query, or put the old one aside: ALTER TABLE {table} RENAME COLUMN {name} TO {old}; this sink then adds the new one.")
}

/// The statement that makes a sink's table.
pub(crate) fn table_ddl(options: &RedshiftOptions, columns: &Columns) -> String {
    let lines: Vec<String> = columns.list.iter().map(|column| format!("  {} {}{}", quote(&column.name), column.made_as, if column.nullable { "" } else { " NOT NULL" })).collect();
    let mut ddl = format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", qualified(options), lines.join(",\n"));
    match (&options.distkey, options.diststyle) {
        (Some(column), _) => ddl.push_str(&format!(" DISTSTYLE KEY DISTKEY ({})", quote(column))),
        (None, Some(style)) => ddl.push_str(&format!(" DISTSTYLE {style}")),
        // Rows that are merged by their key meet on the same node.
        (None, None) if options.mode == Mode::Upsert => ddl.push_str(&format!(" DISTSTYLE KEY DISTKEY ({})", quote(&options.key[0]))),
        (None, None) => {}
    }
    if !options.sortkey.is_empty() {
        ddl.push_str(&format!(" SORTKEY ({})", options.sortkey.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")));
    }
    ddl
}

/// `"schema"."table"`.
pub(crate) fn qualified(options: &RedshiftOptions) -> String {
    format!("{}.{}", quote(&options.schema), quote(&options.table))
}

/// A quoted name, in the lower case Redshift folds names to.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.to_ascii_lowercase().replace('"', "\"\""))
}

fn made_as(data_type: &DataType, varchar_length: usize) -> Option<(String, Staged, Turned)> {
    let (name, staged) = match data_type {
        DataType::Boolean => ("BOOLEAN", Staged::Boolean),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => ("SMALLINT", Staged::Integer),
        DataType::Int32 | DataType::UInt16 => ("INTEGER", Staged::Integer),
        DataType::Int64 | DataType::UInt32 => ("BIGINT", Staged::BigInt),
        DataType::UInt64 => ("DECIMAL(20,0)", Staged::Decimal(0)),
        DataType::Float32 => ("REAL", Staged::Real),
        DataType::Float64 => ("DOUBLE PRECISION", Staged::Double),
        DataType::Decimal128(precision, scale) if (0..=37).contains(scale) => {
            return Some((format!("DECIMAL({precision},{scale})"), Staged::Decimal(*scale), turned(Staged::Decimal(*scale), &format!("DECIMAL({precision},{scale})"))));
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            return Some((format!("VARCHAR({varchar_length})"), Staged::Text { bytes: varchar_length, ascii: false }, Turned::AsIs));
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            return Some((format!("VARBYTE({BINARY_BYTES})"), Staged::Hex { bytes: BINARY_BYTES }, Turned::Hex));
        }
        DataType::Date32 => ("DATE", Staged::Date),
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => ("TIME", Staged::Time),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return None,
        DataType::Timestamp(_, None) => ("TIMESTAMP", Staged::Timestamp),
        DataType::Timestamp(_, Some(_)) => return Some(("TIMESTAMPTZ".to_owned(), Staged::Timestamp, Turned::Utc)),
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) if crate::json::knows(data_type) => {
            return Some(("SUPER".to_owned(), Staged::Json { bytes: TEXT_BYTES }, Turned::Json));
        }
        _ => return None,
    };
    Some((name.to_owned(), staged, turned(staged, name)))
}

/// A staged type that is the table's own needs nothing done to it.
fn turned(staged: Staged, to: &str) -> Turned {
    if staged.sql() == to { Turned::AsIs } else { Turned::Cast(to.to_owned()) }
}

/// How a column that is there takes values of a type without losing any of it; `None` if it does not.
fn accepts(data_type: &DataType, there: &Found) -> Option<(Staged, Turned)> {
    let (base, arguments) = there.parts();
    let numeric = |digits: i32, scale: i32| {
        let (has, has_scale) = (arguments.first().copied().unwrap_or(18), arguments.get(1).copied().unwrap_or(0));
        (base == "numeric" && has_scale >= scale && has - has_scale >= digits - scale).then(|| format!("DECIMAL({has},{has_scale})"))
    };
    let integer = |bits: u32, digits: i32, staged: Staged| {
        let to = match base {
            "smallint" if bits <= 16 => "SMALLINT".to_owned(),
            "integer" if bits <= 32 => "INTEGER".to_owned(),
            "bigint" if bits <= 64 => "BIGINT".to_owned(),
            _ => numeric(digits, 0)?,
        };
        Some((staged, turned(staged, &to)))
    };
    let plain = |staged: Staged| Some((staged, Turned::AsIs));
    let length = || arguments.first().and_then(|length| usize::try_from(*length).ok());
    match (data_type, base) {
        (DataType::Boolean, "boolean") => plain(Staged::Boolean),
        (DataType::Int8 | DataType::UInt8, _) => integer(16, 3, Staged::Integer),
        (DataType::Int16, _) => integer(16, 5, Staged::Integer),
        (DataType::UInt16, _) => integer(32, 5, Staged::Integer),
        (DataType::Int32, _) => integer(32, 10, Staged::Integer),
        (DataType::UInt32, _) => integer(64, 10, Staged::BigInt),
        (DataType::Int64, _) => integer(64, 19, Staged::BigInt),
        (DataType::UInt64, _) => integer(65, 20, Staged::Decimal(0)),
        (DataType::Float32, "real") => plain(Staged::Real),
        (DataType::Float32, "double precision") => Some((Staged::Real, Turned::Cast("DOUBLE PRECISION".to_owned()))),
        (DataType::Float64, "double precision") => plain(Staged::Double),
        (DataType::Decimal128(precision, scale), _) if (0..=37).contains(scale) => {
            let staged = Staged::Decimal(*scale);
            numeric(i32::from(*precision), i32::from(*scale)).map(|to| (staged, turned(staged, &to)))
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, "character varying") => {
            plain(Staged::Text { bytes: length().unwrap_or(TEXT_BYTES).min(TEXT_BYTES), ascii: false })
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, "character") => {
            let bytes = length().unwrap_or(1);
            Some((Staged::Text { bytes, ascii: true }, Turned::Cast(format!("CHAR({bytes})"))))
        }
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_), "binary varying" | "varbyte") => {
            Some((Staged::Hex { bytes: length().unwrap_or(BINARY_BYTES).min(BINARY_BYTES) }, Turned::Hex))
        }
        (DataType::Date32, "date") => plain(Staged::Date),
        (DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond), "time without time zone" | "time") => Some((Staged::Time, Turned::Cast("TIME".to_owned()))),
        (DataType::Timestamp(_, None), "timestamp without time zone" | "timestamp") => plain(Staged::Timestamp),
        (DataType::Timestamp(_, Some(_)), "timestamp with time zone" | "timestamptz") => Some((Staged::Timestamp, Turned::Utc)),
        (DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _), "super") => Some((Staged::Json { bytes: TEXT_BYTES }, Turned::Json)),
        (DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _), "character varying") => {
            plain(Staged::Json { bytes: length().unwrap_or(TEXT_BYTES).min(TEXT_BYTES) })
        }
        _ => None,
    }
}
