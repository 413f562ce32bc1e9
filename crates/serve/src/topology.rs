//! The shape of a pipeline: what there is and what flows where. Made once, from the plan.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use watershed_engine::plan::{Input, Plan};
use watershed_types::Options;

/// A pipeline's parts.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Topology {
    /// Sources.
    pub sources: Vec<SourceInfo>,
    /// Tables.
    pub tables: Vec<TableInfo>,
    /// Targets.
    pub sinks: Vec<SinkInfo>,
    /// Static tables.
    pub statics: Vec<StaticInfo>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// May it be NULL?
    pub nullable: bool,
}

/// A source.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// Where it reads.
    pub connector: String,
    /// `WITH (…)` as written, secrets masked.
    pub options: BTreeMap<String, String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Its event time and how far the watermark is behind it.
    pub watermark: Option<String>,
}

/// A table.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Where in the lake: bronze, silver or gold.
    pub zone: String,
    /// The nodes it reads: `source:orders`, `table:clean`.
    pub inputs: Vec<String>,
    /// Static tables it looks up.
    pub lookups: Vec<String>,
    /// False if it is kept nowhere: a view with a sink, or a part of another table's query.
    pub stored: bool,
    /// True if its rows change: it holds inserts and deletes.
    pub changelog: bool,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Its partition columns.
    pub partitioned_by: Vec<String>,
    /// Its query.
    pub sql: String,
    /// Its expectations.
    pub rules: Vec<RuleInfo>,
}

/// An expectation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RuleInfo {
    /// Its name.
    pub name: String,
    /// The condition.
    pub text: String,
    /// What happens to a row that breaks it.
    pub on_violation: String,
}

/// A target.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SinkInfo {
    /// Its name.
    pub name: String,
    /// Where it writes.
    pub connector: String,
    /// The table it follows.
    pub table: String,
    /// `WITH (…)` as written, secrets masked.
    pub options: BTreeMap<String, String>,
}

/// A static table.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StaticInfo {
    /// Its name.
    pub name: String,
    /// How it is stored; the connector of one that is asked by key.
    pub format: String,
}

impl Topology {
    /// The shape of a plan.
    pub fn of(plan: &Plan) -> Topology {
        let columns = |schema: &arrow::datatypes::SchemaRef| {
            schema.fields().iter().map(|f| ColumnInfo { name: f.name().clone(), r#type: f.data_type().to_string(), nullable: f.is_nullable() }).collect::<Vec<_>>()
        };
        let sources = plan.sources.iter().map(|source| SourceInfo {
            name: source.name.clone(),
            connector: source.connector.clone(),
            options: masked(&source.options),
            columns: columns(&source.schema),
            watermark: source.watermark.map(|(column, delay)| format!("{} - {} s", source.schema.field(column).name(), delay as f64 / 1e6)),
        });
        let tables = plan.tables.iter().map(|table| TableInfo {
            name: table.name.clone(),
            zone: table.zone.as_str().to_owned(),
            inputs: table.inputs.iter().map(|input| node(*input, plan)).collect(),
            lookups: statics(plan).map(|(name, _)| name.clone()).filter(|name| mentions(&table.sql, name)).collect(),
            stored: table.stored,
            changelog: table.key.is_some(),
            columns: columns(&table.schema),
            partitioned_by: table.partitioned_by.clone(),
            sql: table.sql.clone(),
            rules: table
                .rules
                .iter()
                .map(|rule| RuleInfo { name: rule.name.clone(), text: rule.text.clone(), on_violation: format!("{:?}", rule.on_violation).to_uppercase() })
                .collect(),
        });
        let sinks = plan.sinks.iter().map(|sink| SinkInfo {
            name: sink.name.clone(),
            connector: sink.connector.clone(),
            table: plan.tables[sink.table].name.clone(),
            options: masked(&sink.options),
        });
        let format = |options: &Options| options.peek("format").or_else(|| options.peek("connector")).unwrap_or("files").to_owned();
        let statics = statics(plan).map(|(name, options)| StaticInfo { name: name.clone(), format: format(options) });
        Topology { sources: sources.collect(), tables: tables.collect(), sinks: sinks.collect(), statics: statics.collect() }
    }
}

/// Static tables, those that are read as a whole and those that are asked by key.
fn statics(plan: &Plan) -> impl Iterator<Item = (&String, &Options)> {
    let definitions = plan.statics.iter().map(|table| &table.definition).chain(plan.asked.iter().map(|table| &table.definition));
    definitions.map(|definition| (&definition.name, &definition.options))
}

fn node(input: Input, plan: &Plan) -> String {
    let kind = match input {
        Input::Source(_) => "source",
        Input::Table(_) => "table",
    };
    format!("{kind}:{}", plan.input_name(input))
}

/// True if a query names a table.
fn mentions(sql: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    sql.match_indices(name).any(|(at, _)| !sql[..at].ends_with(word) && !sql[at + name.len()..].starts_with(word))
}

fn masked(options: &Options) -> BTreeMap<String, String> {
    options.shown().map(|(key, value)| (key.to_owned(), mask(key, value))).collect()
}

/// What may be shown of a setting: nothing of a secret, and of a URL everything but its password.
pub fn mask(key: &str, value: &str) -> String {
    let key = key.to_ascii_lowercase();
    let secret = ["password", "passwd", "secret", "token", "credential", "private", "access_key", "api_key", "apikey", "sasl.jaas", "webhook", "authorization"];
    if secret.iter().any(|word| key.contains(word)) && !is_variable(value) {
        return "***".to_owned();
    }
    mask_urls(value)
}

/// `${NAME}` and nothing else: the name is no secret. A default behind `:-` may be one.
fn is_variable(value: &str) -> bool {
    value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn mask_urls(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace()).unwrap_or(after.len());
        // The last @ ends the user's part: a password may hold one.
        let Some(user_end) = after[..end].rfind('@') else {
            rest = after;
            continue;
        };
        let user = &after[..user_end];
        out.push_str(user.split_once(':').map_or(user, |(name, _)| name));
        if user.contains(':') {
            out.push_str(":***");
        }
        rest = &after[user_end..];
    }
    out.push_str(rest);
    // Postgres' other form: password=… among words; and what a query string carries.
    for word in ["password=", "secret=", "token=", "sslpassword="] {
        let Some(at) = out.to_ascii_lowercase().find(word) else { continue };
        let from = at + word.len();
        let end = out[from..].find(|c: char| c.is_whitespace() || c == '&').map_or(out.len(), |end| from + end);
        out.replace_range(from..end, "***");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_their_variables_are_not() {
        assert_eq!(mask("password", "hunter2"), "***");
        assert_eq!(mask("sasl.password", "${KAFKA_PASSWORD}"), "${KAFKA_PASSWORD}");
        assert_eq!(mask("sasl.password", "${KAFKA_PASSWORD:-hunter2}"), "***");
        assert_eq!(mask("url", "postgres://bob:hun@ter2@db:5432/shop?x=1"), "postgres://bob:***@db:5432/shop?x=1");
        assert_eq!(mask("url", "host=db user=bob password=hunter2 dbname=shop"), "host=db user=bob password=*** dbname=shop");
        assert_eq!(mask("brokers", "a:9092,b:9092"), "a:9092,b:9092");
        assert_eq!(mask("key", "id"), "id");
    }

    #[test]
    fn a_name_is_a_whole_word() {
        assert!(mentions("SELECT * FROM a JOIN customers c ON x", "customers"));
        assert!(!mentions("SELECT * FROM a JOIN old_customers", "customers"));
    }
}
