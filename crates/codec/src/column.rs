//! Declared columns, compiled into what the decoders walk.
//!
//! **Owns** which Arrow types can be decoded and their SQL names. **Does not own** values.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, TimeUnit};
use watershed_types::{Error, Result};

/// One declared column.
#[derive(Debug, Clone)]
pub struct ColumnSpec {
    /// The column's name: the JSON key, the name in a CSV header.
    pub name: String,
    /// Its Arrow type.
    pub data_type: DataType,
    /// False for NOT NULL.
    pub nullable: bool,
}

/// A declared type, ready to be walked.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) data_type: DataType,
    /// The type as a person wrote it.
    pub(crate) declared: String,
}

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Kind {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal { precision: u8, scale: u8 },
    String,
    Binary,
    Date,
    Timestamp,
    List(Box<Node>),
    Map(Box<Node>),
    Struct(Fields),
}

/// Named children, found by position first and by name second.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) names: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    index: HashMap<Vec<u8>, usize>,
}

impl Fields {
    /// Compiles columns; a name may occur once.
    pub(crate) fn new<'a>(columns: impl Iterator<Item = (&'a str, &'a DataType, bool)>) -> Result<Self> {
        let mut out = Fields { names: Vec::new(), nodes: Vec::new(), index: HashMap::new() };
        for (name, data_type, nullable) in columns {
            let node = Node::new(name, data_type, nullable)?;
            if out.index.insert(name.as_bytes().to_vec(), out.nodes.len()).is_some() {
                return Err(Error::invalid("CODEC0001", format!("column \"{name}\" is declared twice")));
            }
            out.names.push(name.to_owned());
            out.nodes.push(node);
        }
        Ok(out)
    }
    /// The child of this name; `guess` is looked at first.
    #[inline]
    pub(crate) fn find(&self, name: &[u8], guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|n| n.as_bytes() == name) {
            return Some(guess);
        }
        self.index.get(name).copied()
    }
}

impl Node {
    /// Compiles a type; `name` is for the error only.
    pub(crate) fn new(name: &str, data_type: &DataType, nullable: bool) -> Result<Node> {
        let child = |field: &Field| Node::new(name, field.data_type(), field.is_nullable()).map(Box::new);
        let kind = match data_type {
            DataType::Boolean => Kind::Boolean,
            DataType::Int16 => Kind::Int16,
            DataType::Int32 => Kind::Int32,
            DataType::Int64 => Kind::Int64,
            DataType::Float32 => Kind::Float32,
            DataType::Float64 => Kind::Float64,
            DataType::Decimal128(precision @ 1..=38, scale) if (0..=*precision as i8).contains(scale) => Kind::Decimal { precision: *precision, scale: *scale as u8 },
            DataType::Utf8View => Kind::String,
            DataType::BinaryView => Kind::Binary,
            DataType::Date32 => Kind::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Kind::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => Kind::Timestamp,
            DataType::List(item) => Kind::List(child(item)?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && pair[0].data_type() == &DataType::Utf8View => Kind::Map(child(&pair[1])?),
                _ => return Err(unsupported(name, data_type)),
            },
            DataType::Struct(fields) => Kind::Struct(Fields::new(fields.iter().map(|f| (f.name().as_str(), f.data_type(), f.is_nullable())))?),
            _ => return Err(unsupported(name, data_type)),
        };
        Ok(Node { kind, nullable, data_type: data_type.clone(), declared: declared(data_type) })
    }
    /// True for LIST, MAP and STRUCT.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Map(_) | Kind::Struct(_))
    }
}

fn unsupported(name: &str, data_type: &DataType) -> Error {
    Error::invalid("CODEC0001", format!("column \"{name}\": records cannot be decoded into {data_type}"))
        .hint("Use BOOLEAN, SMALLINT, INT, BIGINT, REAL, DOUBLE, DECIMAL, VARCHAR, BYTEA, DATE, TIMESTAMP, arrays, MAP<VARCHAR, …> or STRUCT.")
}

/// The SQL name of a type.
fn declared(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Utf8View => "VARCHAR".into(),
        DataType::BinaryView => "BYTEA".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::List(item) => format!("ARRAY<{}>", declared(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP<{}, {}>", declared(pair[0].data_type()), declared(pair[1].data_type()))
            }
            other => other.to_string(),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{} {}", f.name(), declared(f.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}
