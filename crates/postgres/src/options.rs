//! What `WITH (connector = 'postgres', …)` says.

use std::time::Duration;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use watershed_types::{Options, Result, Secret};

use crate::error::bad_option;

/// Lines in `watershed.epochs` for one sink, where nothing else is said: some 30 hours of epochs of ten seconds.
const KEEP_EPOCHS: u64 = 10_000;
const LEAST_EPOCHS: u64 = 100;

/// How rows meet the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every row is added.
    Append,
    /// The last row of a key replaces the one there.
    Upsert,
}

/// What is done about dead rows, which every upsert leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacuum {
    /// `VACUUM` between epochs; needs a user that owns the table.
    Auto,
    /// A notice; the server's own autovacuum does the work, or a person.
    Advise,
    /// Nothing is looked at.
    Off,
}

/// The options of a Postgres sink, checked as far as that goes without a network.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    pub(crate) sink: String,
    url: Secret,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Append or upsert.
    pub mode: Mode,
    /// The columns that make a row the same row; empty unless upserting.
    pub key: Vec<String>,
    /// Parts of an epoch written at the same time, each in a transaction of its own.
    pub connections: usize,
    /// Whether to make the table if it is not there.
    pub create_table: bool,
    /// Whether to add nullable columns that the table does not have.
    pub grow: bool,
    /// A boolean column: a row with true deletes its key. It is not stored.
    pub delete_when: Option<String>,
    /// `ANALYZE` after so many epochs; 0 leaves it to autovacuum.
    pub analyze_every: u64,
    /// What is done about dead rows.
    pub vacuum: Vacuum,
    /// So many epochs keep a line of their own in `watershed.epochs`; older ones are added up.
    pub keep_epochs: u64,
    /// For how long of event time rows are kept; `None` for ever.
    pub retention: Option<Retention>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one statement may take, waiting for locks included; 0 is without end.
    pub statement_timeout: Duration,
}

impl PostgresOptions {
    /// Takes what a Postgres sink knows. Errors: `PG0001` for what cannot be meant, `SQL0102` and `SQL0103` for what is missing or malformed.
    pub fn take(options: &mut Options, sink_name: &str) -> Result<Self> {
        let url = options.require("url")?;
        let table = options.require("table")?;
        let mode = options.parse("mode", "'append' or 'upsert'", |text| match text.trim().to_ascii_lowercase().as_str() {
            "append" => Some(Mode::Append),
            "upsert" => Some(Mode::Upsert),
            _ => None,
        })?;
        let names = |text: &str| -> Vec<String> { text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect() };
        let (schema, table) = split(&table);
        let taken = Self {
            sink: sink_name.to_owned(),
            url: Secret::new(url),
            schema,
            table,
            mode: mode.unwrap_or(Mode::Append),
            key: options.take("key").as_deref().map(names).unwrap_or_default(),
            connections: options.number("connections")?.unwrap_or(1) as usize,
            create_table: options.flag("create_table")?.unwrap_or(true),
            grow: options.flag("grow")?.unwrap_or(true),
            delete_when: options.take("delete_when"),
            analyze_every: options.number("analyze_every_epochs")?.or(options.number("analyze_every")?).unwrap_or(0),
            vacuum: options.parse("vacuum", "'auto', 'advise' or 'off'", vacuum)?.unwrap_or(Vacuum::Advise),
            keep_epochs: options.number("keep_epochs")?.unwrap_or(KEEP_EPOCHS),
            retention: retention(options, sink_name)?,
            connect_timeout: options.duration("connect_timeout")?.unwrap_or(Duration::from_secs(10)),
            statement_timeout: options.duration("statement_timeout")?.unwrap_or(Duration::from_secs(300)),
        };
        taken.check()?;
        Ok(taken)
    }

    /// Takes what a table that is only asked knows: where it is, and how long it is waited for.
    pub(crate) fn for_lookup(options: &mut Options, name: &str, timeout: Duration) -> Result<Self> {
        let url = options.require("url")?;
        let (schema, table) = split(&options.require("table")?);
        let taken = Self {
            sink: name.to_owned(),
            url: Secret::new(url),
            schema,
            table,
            mode: Mode::Append,
            key: vec![],
            connections: 1,
            create_table: false,
            grow: false,
            delete_when: None,
            analyze_every: 0,
            vacuum: Vacuum::Off,
            keep_epochs: KEEP_EPOCHS,
            retention: None,
            connect_timeout: options.duration("connect_timeout")?.unwrap_or(Duration::from_secs(10)),
            statement_timeout: timeout,
        };
        taken.check()?;
        Ok(taken)
    }

    fn check(&self) -> Result<()> {
        let sink = &self.sink;
        if self.table.is_empty() || self.schema.is_empty() || self.table.contains('.') {
            return Err(bad_option(sink, "option \"table\" is not a table's name", "Write table = 'orders' or table = 'schema.orders'."));
        }
        match self.mode {
            Mode::Upsert if self.key.is_empty() => {
                return Err(bad_option(sink, "mode 'upsert' needs the option \"key\"", "Add key = 'column' or key = 'column, column': what makes two rows the same row."));
            }
            Mode::Append if !self.key.is_empty() => {
                return Err(bad_option(sink, "option \"key\" is for mode 'upsert'", "Add mode = 'upsert', or leave key out."));
            }
            Mode::Append if self.delete_when.is_some() => {
                return Err(bad_option(sink, "option \"delete_when\" is for mode 'upsert'", "Add mode = 'upsert' and a key, or leave delete_when out."));
            }
            Mode::Upsert if self.connections > 1 => {
                return Err(bad_option(sink, "option \"connections\" is for mode 'append'", "Leave connections out: an upsert is one transaction."));
            }
            _ => {}
        }
        if self.keep_epochs < LEAST_EPOCHS {
            let hint = "Recovery and `watershed verify --repair` look epochs up there: leave keep_epochs out, or make it larger.";
            return Err(bad_option(sink, format!("option \"keep_epochs\" is below {LEAST_EPOCHS}"), hint));
        }
        if self.connections == 0 || self.connections > 64 {
            return Err(bad_option(sink, "option \"connections\" is not between 1 and 64", "Two to four connections are plenty for one table."));
        }
        Address::parse(sink, self.url.expose()).map(|_| ())
    }

    /// True in the epochs whose transaction also adds up old lines.
    pub(crate) fn prunes_in(&self, epoch: u64) -> bool {
        epoch > self.keep_epochs && epoch % (self.keep_epochs / 20).max(1) == 0
    }

    pub(crate) fn address(&self) -> Result<Address> {
        Address::parse(&self.sink, self.url.expose())
    }
}

/// Schema and table.
fn split(name: &str) -> (String, String) {
    match name.trim().split_once('.') {
        Some((schema, table)) => (schema.trim().to_owned(), table.trim().to_owned()),
        None => ("public".to_owned(), name.trim().to_owned()),
    }
}

fn vacuum(text: &str) -> Option<Vacuum> {
    match text.trim().to_ascii_lowercase().as_str() {
        "auto" => Some(Vacuum::Auto),
        "advise" => Some(Vacuum::Advise),
        "off" => Some(Vacuum::Off),
        _ => None,
    }
}

/// How long rows are kept by their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The time column.
    pub time: String,
    /// How far behind the newest time a row is kept.
    pub keep: Duration,
}

fn retention(options: &mut Options, sink: &str) -> Result<Option<Retention>> {
    match (options.duration("retention")?, options.take("time")) {
        (Some(keep), Some(time)) => Ok(Some(Retention { time, keep })),
        (Some(_), None) => Err(bad_option(sink, "option \"retention\" needs to know which column is the time", "Add time = 'column'.")),
        (None, Some(_)) => Err(bad_option(sink, "option \"time\" is for \"retention\"", "Add retention = '30 days', or leave time out.")),
        (None, None) => Ok(None),
    }
}

/// A parsed URL.
pub(crate) struct Address {
    pub config: Config,
    pub tls: MakeTlsConnector,
    /// Host, port and database: what errors may show.
    pub shown: String,
}

impl Address {
    fn parse(sink: &str, url: &str) -> Result<Self> {
        let malformed = |what: String| bad_option(sink, what, "Write url = 'postgres://user:password@host:5432/database?sslmode=require'.");
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(malformed("option \"url\" does not begin with postgres://".to_owned()));
        }
        let server = url.split_once("://").map_or("", |(_, rest)| rest);
        if server.split(['/', '?']).next().is_some_and(|server| server.matches('@').count() > 1) {
            return Err(malformed("option \"url\" has an @ in its user or password; write it as %40".to_owned()));
        }
        // The client knows disable, prefer and require; what libpq knows besides is read here.
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut verify, mut root, mut cert, mut key, mut kept) = (None, None, None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", "verify-ca")) => verify = Some(false),
                Some(("sslmode", "verify-full")) => verify = Some(true),
                Some(("sslmode", "allow")) => kept.push("sslmode=prefer"),
                Some(("sslrootcert", path)) => root = Some(path.replace("%2F", "/")),
                Some(("sslcert", path)) => cert = Some(path.replace("%2F", "/")),
                Some(("sslkey", path)) => key = Some(path.replace("%2F", "/")),
                _ => kept.push(pair),
            }
        }
        let mut config: Config = format!("{base}?{}", kept.join("&")).parse().map_err(|cause: tokio_postgres::Error| {
            let cause = std::error::Error::source(&cause).map_or_else(|| cause.to_string(), ToString::to_string);
            malformed(format!("option \"url\" cannot be read: {cause}"))
        })?;
        if verify.is_some() {
            config.ssl_mode(SslMode::Require);
        }
        let connector = tls(verify, root.as_deref(), cert.as_deref(), key.as_deref())
            .map_err(|cause| bad_option(sink, "the certificates named in option \"url\" cannot be used", "Check sslrootcert, sslcert and sslkey.").caused_by(cause))?;
        let mut tls = MakeTlsConnector::new(connector);
        let check_name = verify == Some(true);
        tls.set_callback(move |tls, _| {
            tls.set_verify_hostname(check_name);
            Ok(())
        });
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(_) => "a socket".to_owned(),
            None => "localhost".to_owned(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
        let shown = format!("{host}:{port}/{database}");
        Ok(Self { config, tls, shown })
    }
}

/// `verify`: none for encryption alone, false for the chain, true for the chain and the name, as libpq has it.
fn tls(verify: Option<bool>, root: Option<&str>, cert: Option<&str>, key: Option<&str>) -> Result<SslConnector, openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    match root {
        Some(root) => builder.set_ca_file(root)?,
        None if verify.is_none() => builder.set_verify(SslVerifyMode::NONE),
        None => {}
    }
    if let Some(cert) = cert {
        builder.set_certificate_chain_file(cert)?;
    }
    if let Some(key) = key {
        builder.set_private_key_file(key, SslFiletype::PEM)?;
    }
    Ok(builder.build())
}

impl From<&PostgresOptions> for crate::error::Place {
    fn from(options: &PostgresOptions) -> Self {
        Self { sink: options.sink.clone(), table: format!("{}.{}", options.schema, options.table), server: options.address().map(|address| address.shown).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use watershed_types::{Error, OptionValue};

    use super::*;

    fn taken(pairs: &[(&str, &str)]) -> Result<PostgresOptions, Error> {
        let values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        PostgresOptions::take(&mut Options::new("sink \"s\"", values), "s")
    }

    #[test]
    fn passwords_never_show() {
        let options = taken(&[("url", "postgres://me:hunter2@db.example:6543/shop?sslmode=verify-full"), ("table", "orders")]).expect("options");
        assert!(!format!("{options:?}").contains("hunter2"));
        let address = options.address().expect("address");
        assert_eq!(address.shown, "db.example:6543/shop");
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        for bad in ["postgres://me:hunter2@db:port/shop", "me:hunter2@db", "postgres://me:hunter2@db/shop?sslmode=maybe", "postgres://me:hunter2@db/shop?nonsense=1"] {
            let error = taken(&[("url", bad), ("table", "orders")]).expect_err(bad);
            assert_eq!(error.code(), "PG0001");
            assert!(!error.report().contains("hunter2"), "{}", error.report());
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let url = ("url", "postgres://db/shop");
        assert!(taken(&[url, ("table", "t"), ("mode", "upsert")]).expect_err("no key").message().contains("needs the option \"key\""));
        assert!(taken(&[url, ("table", "t"), ("key", "id")]).is_err());
        assert!(taken(&[url, ("table", "t"), ("mode", "upsert"), ("key", "id"), ("connections", "2")]).is_err());
        assert!(taken(&[url, ("table", "a.b.c")]).is_err());
        assert_eq!(taken(&[url, ("table", "t"), ("mode", "upsert"), ("key", "a, b")]).expect("options").key, ["a", "b"]);
    }
}
