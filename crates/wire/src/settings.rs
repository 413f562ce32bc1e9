//! What clients set and ask with `SET` and `SHOW`.
//!
//! I1: a setting that does not exist is refused; one that exists and cannot be what a client wants is refused too,
//! rather than taken and ignored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::error::refuse;

/// The Postgres whose catalog and answers are spoken.
const VERSION: &str = "16.6";

/// Who may change a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Never,
    Freely,
    /// Only to what it is: anything else would not be true.
    Same,
}
use Change::{Freely, Never, Same};

struct Known {
    name: &'static str,
    default: &'static str,
    change: Change,
    /// Clients are told at the start and after each change.
    reported: bool,
}

const fn known(name: &'static str, default: &'static str, change: Change, reported: bool) -> Known {
    Known { name, default, change, reported }
}

/// Every setting there is.
const KNOWN: &[Known] = &[
    known("application_name", "", Freely, true),
    known("bytea_output", "hex", Freely, false),
    known("client_encoding", "UTF8", Same, true),
    known("client_min_messages", "notice", Freely, false),
    known("DateStyle", "ISO, MDY", Freely, true),
    known("default_transaction_deferrable", "off", Freely, false),
    known("default_transaction_isolation", "repeatable read", Freely, false),
    known("default_transaction_read_only", "on", Same, true),
    known("extra_float_digits", "1", Freely, false),
    known("idle_in_transaction_session_timeout", "0", Freely, false),
    known("in_hot_standby", "off", Never, true),
    known("integer_datetimes", "on", Never, true),
    known("IntervalStyle", "postgres", Freely, true),
    known("is_superuser", "off", Never, true),
    known("jit", "off", Freely, false),
    known("lc_collate", "C", Never, false),
    known("lc_ctype", "C", Never, false),
    known("lock_timeout", "0", Freely, false),
    known("max_identifier_length", "63", Never, false),
    known("max_index_keys", "32", Never, false),
    known("quote_all_identifiers", "off", Freely, false),
    known("row_security", "on", Freely, false),
    known("search_path", "public", Freely, false),
    known("server_encoding", "UTF8", Never, true),
    known("server_version", "", Never, true),
    known("server_version_num", "160006", Never, false),
    known("session_authorization", "", Never, true),
    known("standard_conforming_strings", "on", Same, true),
    known("statement_timeout", "0", Freely, false),
    known("synchronize_seqscans", "on", Freely, false),
    known("TimeZone", "UTC", Freely, true),
    known("transaction_deferrable", "off", Freely, false),
    known("transaction_isolation", "repeatable read", Freely, false),
    known("transaction_read_only", "on", Same, false),
    known("transaction_timeout", "0", Freely, false),
];

/// One connection's settings.
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// What `RESET` goes back to.
    started: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        let mut values: BTreeMap<_, _> = KNOWN.iter().map(|k| (k.name, k.default.to_owned())).collect();
        values.insert("server_version", server_version());
        Self { started: values.clone(), values }
    }
}

/// `16.6 (Watershed 0.1.0)`.
pub(crate) fn server_version() -> String {
    format!("{VERSION} (Watershed {})", env!("CARGO_PKG_VERSION"))
}

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.name.eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> datafusion_postgres::pgwire::error::PgWireError {
    refuse("42704", format!("there is no setting \"{name}\""))
}

impl Settings {
    /// Takes over what the client sent with its first message, where it is a setting; and how long a statement may take.
    pub fn start(&mut self, parameters: &HashMap<String, String>, user: &str, timeout: Option<Duration>) {
        if let Some(timeout) = timeout {
            self.values.insert("statement_timeout", timeout.as_millis().to_string());
        }
        self.values.insert("session_authorization", user.to_owned());
        let options = parameters.get("options").map(|o| given_options(o)).unwrap_or_default();
        let sent = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain(options.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        for (name, value) in sent {
            // Clients send what they have; what is no setting is not one here.
            if let Err(error) = self.set(name, Some(value)) {
                tracing::debug!(name, %error, "a start parameter of a Postgres client is not taken");
            }
        }
        self.started = self.values.clone();
    }

    /// Changes one, to its start without a value. Returns what the client is to be told.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> PgWireResult<Option<(String, String)>> {
        let known = find(name).ok_or_else(|| unknown(name))?;
        let Some(value) = value else {
            let start = self.started.get(known.name).cloned().unwrap_or_default();
            self.values.insert(known.name, start.clone());
            return Ok(known.reported.then(|| (known.name.to_owned(), start)));
        };
        let value = check(known, value)?;
        self.values.insert(known.name, value.clone());
        Ok(known.reported.then(|| (known.name.to_owned(), value)))
    }

    /// Everything as it was at the start.
    pub fn reset(&mut self) {
        self.values = self.started.clone();
    }

    /// One value.
    pub fn get(&self, name: &str) -> PgWireResult<(&'static str, String)> {
        let known = find(name).ok_or_else(|| unknown(name))?;
        Ok((known.name, self.values.get(known.name).cloned().unwrap_or_default()))
    }

    /// Every setting, for `SHOW ALL`.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// What a client is told when it is let in.
    pub fn reported(&self) -> HashMap<String, String> {
        KNOWN.iter().filter(|k| k.reported).map(|k| (k.name.to_owned(), self.values[k.name].clone())).collect()
    }

    /// How long a statement may take.
    pub fn statement_timeout(&self) -> Option<Duration> {
        duration(&self.values["statement_timeout"]).filter(|d| !d.is_zero())
    }

    /// Where names without a schema are looked up.
    pub fn search_path(&self) -> impl Iterator<Item = String> {
        self.values["search_path"].split(',').map(|s| s.trim().trim_matches('"').to_owned())
    }

    /// The time zone's name.
    pub fn time_zone(&self) -> String {
        self.values["TimeZone"].clone()
    }

    /// How values are written as text.
    pub fn format(&self) -> Arc<FormatOptions> {
        let mut options = FormatOptions::default();
        options.date_style = self.values["DateStyle"].clone();
        options.interval_style = self.values["IntervalStyle"].clone();
        options.bytea_output = self.values["bytea_output"].clone();
        options.time_zone = self.time_zone();
        options.extra_float_digits = self.values["extra_float_digits"].parse().unwrap_or(1);
        Arc::new(options)
    }
}

/// `-c name=value` and `--name=value` of the start parameter `options`.
fn given_options(text: &str) -> Vec<(String, String)> {
    let words = text.split_whitespace().filter_map(|w| w.strip_prefix("--").or_else(|| w.strip_prefix("-c")).or(Some(w)));
    words.filter_map(|w| w.split_once('=')).map(|(name, value)| (name.replace('-', "_"), value.to_owned())).collect()
}

fn check(known: &Known, value: &str) -> PgWireResult<String> {
    let wrong = || refuse("22023", format!("\"{value}\" is no value of the setting \"{}\"", known.name));
    let same = value.eq_ignore_ascii_case(known.default) || matches!((known.default, value.to_ascii_lowercase().as_str()), ("on", "true" | "1" | "yes"));
    match known.change {
        Never => return Err(refuse("55P02", format!("the setting \"{}\" cannot be changed", known.name))),
        Same if known.name == "client_encoding" && matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => return Ok("UTF8".to_owned()),
        Same if !same => return Err(refuse("22023", format!("the setting \"{}\" can only be {}", known.name, known.default))),
        Same => return Ok(known.default.to_owned()),
        Freely => {}
    }
    match known.name {
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" | "transaction_timeout" => {
            duration(value).map(|d| d.as_millis().to_string()).ok_or_else(wrong)
        }
        "extra_float_digits" => value.parse::<i8>().ok().filter(|d| (-15..=3).contains(d)).map(|d| d.to_string()).ok_or_else(wrong),
        "bytea_output" if !matches!(value, "hex" | "escape") => Err(wrong()),
        "IntervalStyle" if !matches!(value, "postgres" | "postgres_verbose" | "sql_standard" | "iso_8601") => Err(wrong()),
        // One style of dates is written: the one every client reads.
        "DateStyle" => match value.to_ascii_uppercase().split(',').map(str::trim).find(|part| *part != "ISO") {
            Some(order @ ("MDY" | "DMY" | "YMD")) => Ok(format!("ISO, {order}")),
            None => Ok("ISO, MDY".to_owned()),
            Some(_) => Err(wrong()),
        },
        "TimeZone" => zone(value).ok_or_else(wrong),
        _ if value.len() > 1024 || value.contains('\0') => Err(wrong()),
        _ => Ok(value.to_owned()),
    }
}

/// A zone that times can be shown in.
fn zone(value: &str) -> Option<String> {
    let value = match value.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "default" | "local" | "etc/utc" => "UTC",
        _ => value,
    };
    value.parse::<arrow::array::timezone::Tz>().ok().map(|_| value.to_owned())
}

/// `5000`, `500ms`, `30s`, `5min`, `1h`; milliseconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit).filter(|ms| *ms <= i32::MAX as u64).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_units_of_postgres() {
        for (text, ms) in [("0", 0), ("5000", 5_000), ("500ms", 500), ("30s", 30_000), ("5min", 300_000), (" 1 h ", 3_600_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "s", "-1", "5 weeks", "99999999999d", "5µs"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_setting_is_taken_or_refused_and_never_ignored() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("timezone", Some("Europe/Berlin")).expect("taken"), Some(("TimeZone".to_owned(), "Europe/Berlin".to_owned())));
        assert_eq!(settings.set("statement_timeout", Some("2s")).expect("taken"), None);
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(2)));
        assert!(settings.set("client_encoding", Some("utf-8")).is_ok() && settings.set("client_encoding", Some("LATIN1")).is_err());
        assert!(settings.set("TimeZone", Some("Mars/Olympus")).is_err() && settings.set("DateStyle", Some("German")).is_err());
        assert!(settings.set("transaction_read_only", Some("off")).is_err() && settings.set("work_memory", Some("1")).is_err() && settings.get("nothing").is_err());
        settings.reset();
        assert_eq!(settings.time_zone(), "UTC");
    }

    #[test]
    fn start_parameters_and_their_options_are_taken() {
        let mut settings = Settings::default();
        let sent = [("application_name", "grafana"), ("options", "-c statement_timeout=3s --search-path=system"), ("database", "x")];
        settings.start(&sent.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(), "bi", Some(Duration::from_secs(60)));
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(3)));
        assert_eq!(settings.search_path().collect::<Vec<_>>(), ["system"]);
        assert_eq!(settings.get("session_authorization").expect("known").1, "bi");
    }
}
