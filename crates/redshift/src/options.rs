//! What `WITH (connector = 'redshift', …)` says.

use std::collections::HashMap;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use parquet::basic::{Compression, ZstdLevel};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use watershed_types::{Options, Result, Secret, parse_duration};

use crate::error::bad_option;

/// How rows meet the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every row is added.
    Append,
    /// The last row of a key replaces the one there.
    Upsert,
}

/// How statements reach Redshift.
#[derive(Debug, Clone)]
pub enum Via {
    /// A connection to the leader node.
    Wire {
        /// `postgres://user:password@host:5439/database`.
        url: Secret,
    },
    /// The Data API: HTTPS requests, no connection.
    DataApi(DataApiOptions),
}

/// Where the Data API finds the warehouse, and as whom.
#[derive(Debug, Clone)]
pub struct DataApiOptions {
    /// A provisioned cluster, or none for a workgroup.
    pub cluster_identifier: Option<String>,
    /// A serverless workgroup, or none for a cluster.
    pub workgroup: Option<String>,
    /// The database.
    pub database: String,
    /// A secret of Secrets Manager with the user's name and password.
    pub secret_arn: Option<String>,
    /// A user of a cluster, by temporary credentials.
    pub db_user: Option<String>,
    /// The region.
    pub region: String,
    /// Another address than the region's own.
    pub endpoint: Option<String>,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After so many epochs.
    Epochs(u64),
    /// After so much time, if an epoch landed meanwhile.
    Time(Duration),
}

/// The options of a Redshift sink, checked as far as that goes without a network.
#[derive(Debug, Clone)]
pub struct RedshiftOptions {
    pub(crate) sink: String,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// How statements reach Redshift.
    pub via: Via,
    /// Append or upsert.
    pub mode: Mode,
    /// The columns that make a row the same row; empty unless upserting.
    pub key: Vec<String>,
    /// A boolean column: a row with true deletes its key. It is not stored.
    pub delete_when: Option<String>,
    /// Whether to make the table if it is not there.
    pub create_table: bool,
    /// Whether to add nullable columns that the table does not have.
    pub grow: bool,
    /// The column rows are spread by, of a table that is made here.
    pub distkey: Option<String>,
    /// `AUTO`, `EVEN` or `ALL`, of a table that is made here.
    pub diststyle: Option<&'static str>,
    /// The columns rows are sorted by, of a table that is made here.
    pub sortkey: Vec<String>,
    /// The length of text columns made here, in bytes.
    pub varchar_length: usize,
    /// The bucket files are staged in.
    pub bucket: String,
    /// The folder in it; no slash at either end; may be empty.
    pub prefix: String,
    /// The role Redshift reads the staged files as, or `default`.
    pub iam_role: String,
    /// How long staged files are kept after their epoch is there.
    pub retention: Duration,
    /// A staged file is closed at about this size.
    pub file_size: u64,
    pub(crate) compression: Compression,
    /// `VACUUM`, if at all: Redshift does it by itself when it is idle.
    pub vacuum_every: Option<Every>,
    /// `FULL`, `DELETE ONLY`, `SORT ONLY`, `RECLUSTER`.
    pub vacuum: &'static str,
    /// `ANALYZE`, if at all.
    pub analyze_every: Option<Every>,
    /// How many trial loads may look for the refused rows of one epoch.
    pub max_probes: u64,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one statement, or a batch of the Data API, may take.
    pub statement_timeout: Duration,
    /// The object store's own settings, which hold keys.
    pub(crate) storage: Vec<(String, Secret)>,
}

/// The settings of an object store that are passed on as they are.
const STORE_KEYS: &[&str] = &[
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_default_region",
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_endpoint_url_s3",
    "aws_allow_http",
    "aws_virtual_hosted_style_request",
    "aws_imdsv1_fallback",
    "aws_metadata_endpoint",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_container_authorization_token_file",
    "aws_web_identity_token_file",
    "aws_role_arn",
    "aws_role_session_name",
    "aws_server_side_encryption",
    "aws_sse_kms_key_id",
    "aws_sse_bucket_key_enabled",
    "allow_http",
    "timeout",
    "proxy_url",
];

impl RedshiftOptions {
    /// Takes what a Redshift sink knows. `environment` holds `aws_…` settings that count where no option says otherwise.
    /// Errors: `RSH0001` for what cannot be meant, `SQL0102` and `SQL0103` for what is missing or malformed.
    pub fn take(options: &mut Options, sink_name: &str, environment: &HashMap<String, String>) -> Result<Self> {
        let fail = |message: &str, hint: &str| bad_option(sink_name, message, hint);
        let storage = storage(options, environment);
        let table = options.require("table")?.to_ascii_lowercase();
        let (schema, table) = match table.trim().split_once('.') {
            Some((schema, table)) => (schema.trim().to_owned(), table.trim().to_owned()),
            None => ("public".to_owned(), table.trim().to_owned()),
        };
        let mode = options.parse("mode", "'append' or 'upsert'", |text| match word(text).as_str() {
            "append" => Some(Mode::Append),
            "upsert" => Some(Mode::Upsert),
            _ => None,
        })?;
        let staging = options.require("staging")?;
        let Some((bucket, prefix)) = staging.trim().strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
            return Err(fail("option \"staging\" does not begin with s3://", "Write staging = 's3://bucket/folder': Redshift loads from there."));
        };
        let taken = Self {
            sink: sink_name.to_owned(),
            schema,
            table,
            via: via(options, sink_name, &storage)?,
            mode: mode.unwrap_or(Mode::Append),
            key: names(options.take("key")),
            delete_when: options.take("delete_when"),
            create_table: options.flag("create_table")?.unwrap_or(true),
            grow: options.flag("grow")?.unwrap_or(true),
            distkey: options.take("distkey"),
            diststyle: options.parse("diststyle", "'auto', 'even' or 'all'", |text| ["AUTO", "EVEN", "ALL"].into_iter().find(|style| style.eq_ignore_ascii_case(text.trim())))?,
            sortkey: names(options.take("sortkey")),
            varchar_length: options.number("varchar_length")?.unwrap_or(65_535) as usize,
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            iam_role: options.require("iam_role")?.trim().to_owned(),
            retention: options.duration("retention")?.unwrap_or(Duration::ZERO),
            file_size: options.bytes("file_size")?.unwrap_or(64 << 20),
            compression: options
                .parse("compression", "'snappy', 'zstd' or 'none'", |text| match word(text).as_str() {
                    "snappy" => Some(Compression::SNAPPY),
                    "zstd" => Some(Compression::ZSTD(ZstdLevel::default())),
                    "none" => Some(Compression::UNCOMPRESSED),
                    _ => None,
                })?
                .unwrap_or(Compression::SNAPPY),
            vacuum_every: options.parse("vacuum_every", "a number of epochs or a duration such as '6 hours'", every)?,
            vacuum: options
                .parse("vacuum", "'full', 'delete only', 'sort only' or 'recluster'", |text| {
                    ["FULL", "DELETE ONLY", "SORT ONLY", "RECLUSTER"].into_iter().find(|kind| kind.eq_ignore_ascii_case(text.trim()))
                })?
                .unwrap_or("FULL"),
            analyze_every: options.parse("analyze_every", "a number of epochs or a duration such as '6 hours'", every)?,
            max_probes: options.number("max_probes")?.unwrap_or(1_000),
            connect_timeout: options.duration("connect_timeout")?.unwrap_or(Duration::from_secs(10)),
            statement_timeout: options.duration("statement_timeout")?.unwrap_or(Duration::from_secs(15 * 60)),
            storage,
        };
        taken.check()?;
        Ok(taken)
    }

    fn check(&self) -> Result<()> {
        let fail = |message: &str, hint: &str| Err(bad_option(&self.sink, message, hint));
        if self.table.is_empty() || self.schema.is_empty() || self.table.contains('.') || self.table.starts_with("watershed_") {
            return fail("option \"table\" is not a name this sink can use", "Write table = 'orders' or table = 'schema.orders'; names that begin with watershed_ are its own.");
        }
        match self.mode {
            Mode::Upsert if self.key.is_empty() => {
                return fail("mode 'upsert' needs the option \"key\"", "Add key = 'column' or key = 'column, column': what makes two rows the same row.");
            }
            Mode::Append if !self.key.is_empty() => return fail("option \"key\" is for mode 'upsert'", "Add mode = 'upsert', or leave key out."),
            Mode::Append if self.delete_when.is_some() => {
                return fail("option \"delete_when\" is for mode 'upsert'", "Add mode = 'upsert' and a key, or leave delete_when out.");
            }
            _ => {}
        }
        if self.distkey.is_some() && self.diststyle.is_some() {
            return fail("options \"distkey\" and \"diststyle\" exclude each other", "A column to spread rows by is a style of its own; leave one of them out.");
        }
        if !(1..=65_535).contains(&self.varchar_length) {
            return fail("option \"varchar_length\" is not between 1 and 65535", "Redshift's text columns hold 65535 bytes at most.");
        }
        if !((1 << 20)..=(1 << 30)).contains(&self.file_size) {
            return fail("option \"file_size\" is not between 1MB and 1GB", "Redshift loads files of that size best, several at once.");
        }
        // These stand in a COPY, which takes no expressions.
        for (option, value) in [("staging", &self.bucket), ("staging", &self.prefix), ("iam_role", &self.iam_role)] {
            if value.chars().any(|c| c == '\'' || c == '\\' || c.is_control() || (option == "staging" && c.is_whitespace())) {
                return fail(&format!("option \"{option}\" holds a character that a COPY cannot name"), "Leave out quotes, backslashes and spaces.");
            }
        }
        if self.bucket.is_empty() || object_store::path::Path::parse(&self.prefix).is_err() {
            return fail("option \"staging\" names no bucket, or no folder in it", "Write staging = 's3://bucket/folder'.");
        }
        if self.iam_role != "default" && !self.iam_role.starts_with("arn:") {
            return fail(
                "option \"iam_role\" is neither 'default' nor a role's ARN",
                "Write iam_role = 'arn:aws:iam::123456789012:role/name': the role Redshift reads the staged files as.",
            );
        }
        if let Via::Wire { url } = &self.via {
            Address::parse(&self.sink, url.expose())?;
        }
        Ok(())
    }
}

/// What no option says is taken from the environment; but a key that is written is not mixed with parts of another one.
fn storage(options: &mut Options, environment: &HashMap<String, String>) -> Vec<(String, Secret)> {
    const KEY: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
    let written = KEY.iter().any(|key| options.peek(key).is_some());
    let mut storage = Vec::new();
    for key in STORE_KEYS {
        let from_environment = || environment.get(*key).filter(|_| !(written && KEY.contains(key))).cloned();
        if let Some(value) = options.take(key).or_else(from_environment) {
            storage.push(((*key).to_owned(), Secret::new(value)));
        }
    }
    storage
}

fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

fn names(text: Option<String>) -> Vec<String> {
    text.map(|text| text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()).unwrap_or_default()
}

fn every(text: &str) -> Option<Every> {
    let nonzero = |every: &Every| !matches!(every, Every::Epochs(0) | Every::Time(Duration::ZERO));
    text.trim().parse().ok().map(Every::Epochs).or_else(|| parse_duration(text).map(Every::Time)).filter(nonzero)
}

fn via(options: &mut Options, sink: &str, storage: &[(String, Secret)]) -> Result<Via> {
    let data_api = options.parse("via", "'wire' or 'data-api'", |text| match word(text).as_str() {
        "wire" => Some(false),
        "data-api" => Some(true),
        _ => None,
    })?;
    if !data_api.unwrap_or(false) {
        return Ok(Via::Wire { url: Secret::new(options.require("url")?) });
    }
    let stored = |key: &str| storage.iter().find(|(name, _)| name == key).map(|(_, value)| value.expose().to_owned());
    let (cluster_identifier, workgroup) = (options.take("cluster_identifier"), options.take("workgroup"));
    let (secret_arn, db_user) = (options.take("secret_arn"), options.take("db_user"));
    let Some(region) = options.take("region").or_else(|| stored("aws_region")).or_else(|| stored("aws_default_region")) else {
        return Err(bad_option(sink, "via 'data-api' needs the option \"region\"", "Add region = 'eu-central-1', or set AWS_REGION."));
    };
    if cluster_identifier.is_some() == workgroup.is_some() {
        return Err(bad_option(sink, "via 'data-api' needs one of the options \"cluster_identifier\" and \"workgroup\"", "Name a provisioned cluster or a serverless workgroup."));
    }
    if secret_arn.is_some() && db_user.is_some() {
        return Err(bad_option(sink, "options \"secret_arn\" and \"db_user\" exclude each other", "The secret names the user; leave db_user out."));
    }
    if workgroup.is_some() && db_user.is_some() {
        return Err(bad_option(sink, "option \"db_user\" is for clusters", "In a workgroup the user follows from the caller's identity, or from secret_arn."));
    }
    Ok(Via::DataApi(DataApiOptions { cluster_identifier, workgroup, database: options.require("database")?, secret_arn, db_user, region, endpoint: options.take("endpoint") }))
}

/// A parsed URL.
pub(crate) struct Address {
    pub config: Config,
    pub tls: MakeTlsConnector,
    /// Host, port and database: what errors may show.
    pub shown: String,
}

impl Address {
    /// Without `sslmode` the connection is encrypted, as Redshift asks for by default.
    pub fn parse(sink: &str, url: &str) -> Result<Self> {
        let malformed = |what: String| bad_option(sink, what, "Write url = 'postgres://user:password@host:5439/database?sslmode=verify-full&sslrootcert=bundle.pem'.");
        if !["postgres://", "postgresql://", "redshift://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(malformed("option \"url\" does not begin with postgres://".to_owned()));
        }
        let url = url.replacen("redshift://", "postgres://", 1);
        // The client knows disable, prefer and require; what libpq knows besides is read here.
        let (base, query) = url.split_once('?').unwrap_or((&url, ""));
        let (mut verify, mut root, mut mode, mut kept) = (None, None, SslMode::Require, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", "verify-ca")) => verify = Some(false),
                Some(("sslmode", "verify-full")) => verify = Some(true),
                Some(("sslmode", "require")) => {}
                Some(("sslmode", "prefer" | "allow")) => mode = SslMode::Prefer,
                Some(("sslmode", "disable")) => mode = SslMode::Disable,
                Some(("sslrootcert", path)) => root = Some(path.replace("%2F", "/")),
                _ => kept.push(pair),
            }
        }
        // The client would fill in Postgres' port.
        let base = with_port(base);
        let mut config: Config = format!("{base}?{}", kept.join("&")).parse().map_err(|cause: tokio_postgres::Error| {
            let cause = std::error::Error::source(&cause).map_or_else(|| cause.to_string(), ToString::to_string);
            malformed(format!("option \"url\" cannot be read: {cause}"))
        })?;
        config.ssl_mode(mode);
        let mut tls =
            tls(verify, root.as_deref()).map_err(|cause| bad_option(sink, "the certificates named in option \"url\" cannot be used", "Check sslrootcert.").caused_by(cause))?;
        let check_name = verify == Some(true);
        tls.set_callback(move |tls, _| {
            tls.set_verify_hostname(check_name);
            Ok(())
        });
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            _ => return Err(malformed("option \"url\" names no host".to_owned())),
        };
        let port = config.get_ports().first().copied().unwrap_or(5439);
        let shown = format!("{host}:{port}/{}", config.get_dbname().or(config.get_user()).unwrap_or("dev"));
        Ok(Self { config, tls, shown })
    }
}

/// The URL with Redshift's port where it names none.
fn with_port(base: &str) -> String {
    let Some((scheme, rest)) = base.split_once("://") else { return base.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let named = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if named { base.to_owned() } else { format!("{scheme}://{authority}:5439{path}") }
}

/// `verify`: none for encryption alone, false for the chain, true for the chain and the name, as libpq has it.
fn tls(verify: Option<bool>, root: Option<&str>) -> Result<MakeTlsConnector, openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    match root {
        Some(root) => builder.set_ca_file(root)?,
        None if verify.is_none() => builder.set_verify(SslVerifyMode::NONE),
        None => {}
    }
    Ok(MakeTlsConnector::new(builder.build()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use watershed_types::OptionValue;

    use super::*;

    fn taken(pairs: &[(&str, &str)]) -> Result<RedshiftOptions> {
        let mut all = vec![("table", "Shop.Orders"), ("staging", "s3://bucket/in/"), ("iam_role", "default")];
        all.extend_from_slice(pairs);
        let values: BTreeMap<_, _> = all.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        let environment = HashMap::from([("aws_region".to_owned(), "eu-west-1".to_owned()), ("aws_secret_access_key".to_owned(), "hunter3".to_owned())]);
        RedshiftOptions::take(&mut Options::new("sink \"s\"", values), "s", &environment)
    }

    #[test]
    fn secrets_never_show() {
        let options = taken(&[("url", "postgres://me:hunter2@db.example/shop?sslmode=verify-full")]).expect("options");
        assert!(!format!("{options:?}").contains("hunter"));
        assert_eq!((options.schema.as_str(), options.table.as_str(), options.prefix.as_str()), ("shop", "orders", "in"));
        for bad in ["me:hunter2@db", "postgres://me:hunter2@db:port/shop", "postgres://me:hunter2@db/shop?nonsense=1"] {
            let error = taken(&[("url", bad)]).expect_err(bad);
            assert_eq!(error.code(), "RSH0001");
            assert!(!error.report().contains("hunter"), "{}", error.report());
        }
        let address = Address::parse("s", "redshift://me:hunter2@db.example/shop").expect("address");
        assert_eq!((address.shown.as_str(), address.config.get_ssl_mode()), ("db.example:5439/shop", SslMode::Require));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let url = ("url", "postgres://db/shop");
        for bad in [
            vec![url, ("mode", "upsert")],
            vec![url, ("key", "id")],
            vec![url, ("staging", "bucket/in")],
            vec![url, ("staging", "s3://bucket/it's")],
            vec![url, ("iam_role", "admin")],
            vec![url, ("distkey", "id"), ("diststyle", "all")],
            vec![url, ("varchar_length", "70000")],
            vec![("via", "data-api"), ("database", "dev")],
            vec![("via", "data-api"), ("database", "dev"), ("workgroup", "w"), ("cluster_identifier", "c")],
            vec![("via", "data-api"), ("database", "dev"), ("workgroup", "w"), ("db_user", "u")],
        ] {
            assert_eq!(taken(&bad).expect_err("not meant").code(), "RSH0001", "{bad:?}");
        }
        let options = taken(&[("via", "data-api"), ("database", "dev"), ("workgroup", "w"), ("vacuum_every", "12"), ("analyze_every", "6 hours")]).expect("options");
        assert_eq!((options.vacuum_every, options.analyze_every), (Some(Every::Epochs(12)), Some(Every::Time(Duration::from_secs(6 * 3600)))));
        assert!(matches!(options.via, Via::DataApi(DataApiOptions { ref region, .. }) if region == "eu-west-1"));
        let keys = |options: RedshiftOptions| options.storage.into_iter().map(|(key, value)| format!("{key}={}", value.expose())).collect::<Vec<_>>();
        assert_eq!(keys(taken(&[url]).expect("options")), ["aws_secret_access_key=hunter3", "aws_region=eu-west-1"]);
        assert_eq!(keys(taken(&[url, ("aws_access_key_id", "mine")]).expect("options")), ["aws_access_key_id=mine", "aws_region=eu-west-1"], "not with another one's secret");
    }
}
