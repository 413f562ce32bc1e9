//! `WITH (key = 'value')` options: looked up once each, so that what nobody asked for is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{Error, Result, Secret};

/// One option's value. If it came from `${VAR}` it prints as written, never as resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionValue {
    value: Secret,
    written: String,
    /// Where it stands: `file.sql:12:5`.
    pub place: String,
}

impl OptionValue {
    /// `written` is the text in the SQL, `value` the same with variables resolved.
    pub fn new(value: impl Into<String>, written: impl Into<String>, place: impl Into<String>) -> Self {
        Self { value: Secret::new(value), written: written.into(), place: place.into() }
    }
    /// The resolved value.
    pub fn expose(&self) -> &str {
        self.value.expose()
    }
    /// What may be shown to a person.
    pub fn shown(&self) -> &str {
        &self.written
    }
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.written)
    }
}

/// The options of one statement. A connector *takes* what it knows; [`Options::finish`] refuses the rest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    values: BTreeMap<String, OptionValue>,
    known: Vec<&'static str>,
    owner: String,
}

impl Options {
    /// `owner` names the object in errors: `source "transactions"`.
    pub fn new(owner: impl Into<String>, values: BTreeMap<String, OptionValue>) -> Self {
        Self { values, known: Vec::new(), owner: owner.into() }
    }
    /// The object these belong to, for errors.
    pub fn owner(&self) -> &str {
        &self.owner
    }
    /// Looks without taking.
    pub fn peek(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(OptionValue::expose)
    }
    /// Every option as written, for `plan`.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.shown()))
    }
    /// Gives an option a value that its author left out.
    pub fn set_default(&mut self, key: &str, value: &str) {
        self.values.entry(key.to_owned()).or_insert_with(|| OptionValue::new(value, value, ""));
    }
    /// Takes an optional value.
    pub fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.values.remove(key).map(|v| v.expose().to_owned())
    }
    /// Takes a value that must be there.
    pub fn require(&mut self, key: &'static str) -> Result<String> {
        self.take(key).ok_or_else(|| Error::invalid("SQL0102", format!("{} needs the option \"{key}\"", self.owner)).hint(format!("Add {key} = '…' to its WITH clause.")))
    }
    /// Takes a value and parses it; `expected` says what it should look like.
    pub fn parse<T>(&mut self, key: &'static str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        self.known.push(key);
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        match parse(value.expose()) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(Error::invalid("SQL0103", format!("{}: {}: option \"{key}\" is '{}', which is not {expected}", value.place, self.owner, value.shown()))
                .hint(format!("Write {key} as {expected}."))),
        }
    }
    /// Takes a size such as `64MB`.
    pub fn bytes(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.parse(key, "a size such as '64MB'", parse_bytes)
    }
    /// Takes a duration such as `30s`.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>> {
        self.parse(key, "a duration such as '30s' or '10 minutes'", parse_duration)
    }
    /// Takes a whole number.
    pub fn number(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.parse(key, "a whole number", |text| text.trim().replace('_', "").parse().ok())
    }
    /// Takes `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.parse(key, "true or false", |text| match text.trim().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        })
    }
    /// Refuses whatever was not taken, naming the nearest known option.
    pub fn finish(self) -> Result<()> {
        let Some((key, value)) = self.values.iter().next() else { return Ok(()) };
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        let hint = match near_miss(key, known.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Known options: {}.", known.join(", ")),
        };
        Err(Error::invalid("SQL0101", format!("{}: {} has no option \"{key}\"", value.place, self.owner)).hint(hint))
    }
}

/// The candidate nearest to what was written, if any is near enough to be a slip.
pub fn near_miss<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(3) / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `64MB`, `1GiB`, `4096`: decimal and binary units are both read as powers of 1,024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.replace('_', "").parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number * factor as f64;
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

/// `10s`, `250ms`, `5 minutes`, `1h`, `7 days`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.replace('_', "").parse().ok()?;
    let seconds = match unit.trim().to_ascii_lowercase().as_str() {
        "us" | "µs" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_option_suggests_the_near_one_and_hides_secrets() {
        let mut values = BTreeMap::new();
        values.insert("pth".to_owned(), OptionValue::new("hunter2", "${PASSWORD}", "a.sql:3:5"));
        let mut options = Options::new("source \"s\"", values);
        assert_eq!(options.take("path"), None);
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = options.finish().expect_err("pth is unknown");
        assert_eq!(error.message(), "a.sql:3:5: source \"s\" has no option \"pth\"");
        assert_eq!(error.next_step(), Some("Did you mean \"path\"?"));
    }

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        assert_eq!(parse_bytes("64MB"), Some(64 << 20));
        assert_eq!(parse_bytes("1.5 GiB"), Some(3 << 29));
        assert_eq!(parse_bytes("ten"), None);
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("10 minutes"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("10"), None);
    }
}
