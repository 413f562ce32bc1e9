//! Functions that clients ask a Postgres about itself, beside those `datafusion-pg-catalog` brings.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;

use crate::settings::{Settings, server_version};

type Answer = Arc<dyn Fn(&[Option<&str>]) -> Result<Option<String>> + Send + Sync>;

/// A function of any arguments, answered from their text.
struct About {
    name: &'static str,
    kind: DataType,
    signature: Signature,
    answer: Answer,
}

impl About {
    fn function(name: &'static str, kind: DataType, answer: Answer) -> ScalarUDF {
        let signature = Signature::new(TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]), Volatility::Stable);
        ScalarUDF::new_from_impl(About { name, kind, signature, answer })
    }
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for About {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.answer, &other.answer)
    }
}

impl Eq for About {}

impl Hash for About {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for About {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.clone())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let texts = columns.iter().map(|c| Ok(cast(c, &DataType::Utf8)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let rows = texts.first().map_or(args.number_rows, |t| t.len());
        let answers = (0..rows).map(|row| {
            let given: Vec<Option<&str>> = texts.iter().map(|t| t.as_string::<i32>()).map(|t| t.is_valid(row).then(|| t.value(row))).collect();
            (self.answer)(&given)
        });
        let answers: StringArray = answers.collect::<Result<Vec<_>>>()?.into();
        Ok(ColumnarValue::Array(cast(&answers, &self.kind)?))
    }
}

const TOAST_OPTIONS: &str = "pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ')";

/// How Grafana spells the schemas of the search path; it cannot be planned.
const SEARCH_PATH: &str = r#"select case when trim(s[i]) = '"$user"' then user else trim(s[i]) end from generate_series( array_lower(string_to_array(current_setting('search_path'),','),1), array_upper(string_to_array(current_setting('search_path'),','),1) ) as i, string_to_array(current_setting('search_path'),',') s"#;

/// A statement of a known tool that could not be planned, in words that can; `None` for any other.
pub(crate) fn spelled_otherwise(sql: &str, settings: &Settings) -> Option<String> {
    // JDBC asks which types are arrays; the catalog keeps functions by their names.
    if sql.contains("'pg_catalog.array_in'::regproc") {
        return Some(sql.replace("'pg_catalog.array_in'::regproc", "'array_in'"));
    }
    // psql's \d+ asks for storage options; nothing here has any.
    if sql.contains(TOAST_OPTIONS) {
        return Some(sql.replace(TOAST_OPTIONS, "NULL"));
    }
    if !sql.contains("string_to_array(current_setting('search_path')") || sql.contains("--") {
        return None;
    }
    let mut plain = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let schemas: Vec<String> = settings.search_path().map(|schema| format!("'{}'", schema.replace('\'', "''"))).collect();
    while let Some(at) = plain.to_ascii_lowercase().find(SEARCH_PATH) {
        plain.replace_range(at..at + SEARCH_PATH.len(), &schemas.join(", "));
    }
    Some(plain)
}

/// Functions whose answer is the same for everybody.
pub(crate) fn register(context: &SessionContext) {
    let version = format!("PostgreSQL {}", server_version());
    context.register_udf(About::function("version", DataType::Utf8, Arc::new(move |_| Ok(Some(version.clone())))));
    let nothing: Answer = Arc::new(|_| Ok(None));
    let no: Answer = Arc::new(|_| Ok(Some("false".to_owned())));
    let known = context.state();
    let add = |name: &'static str, kind: DataType, answer: &Answer| {
        if !known.scalar_functions().contains_key(name) {
            context.register_udf(About::function(name, kind, Arc::clone(answer)));
        }
    };
    // Nothing here has a comment, a definition or a lock.
    for name in [
        "obj_description",
        "col_description",
        "shobj_description",
        "pg_get_viewdef",
        "pg_get_indexdef",
        "pg_get_ruledef",
        "pg_get_triggerdef",
        "pg_get_functiondef",
        "pg_get_function_result",
        "pg_get_function_identity_arguments",
        "pg_get_serial_sequence",
        "pg_tablespace_location",
        "pg_size_pretty",
        "pg_advisory_unlock_all",
    ] {
        add(name, DataType::Utf8, &nothing);
    }
    for name in ["pg_table_size", "pg_indexes_size", "pg_database_size", "txid_current"] {
        add(name, DataType::Int64, &nothing);
    }
    for name in ["pg_is_in_recovery", "pg_is_other_temp_schema", "pg_has_role", "pg_function_is_visible", "pg_type_is_visible"] {
        add(name, DataType::Boolean, &no);
    }
}

/// Functions that read a connection's settings.
pub(crate) fn register_settings(context: &SessionContext, settings: &Settings) {
    let values: BTreeMap<String, String> = settings.all().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let answer: Answer = Arc::new(move |given: &[Option<&str>]| {
        let Some(Some(name)) = given.first() else { return Ok(None) };
        match values.get(&name.to_ascii_lowercase()) {
            Some(value) => Ok(Some(value.clone())),
            None if given.get(1).copied().flatten() == Some("true") => Ok(None),
            None => exec_err!("there is no setting \"{name}\""),
        }
    });
    context.register_udf(About::function("current_setting", DataType::Utf8, answer));
}
