//! `${VAR}`, `${VAR:-default}` and `$${` in settings, as in the options of SQL.
//!
//! I1: a message names the variable and where it is used, never a value.

use watershed_types::{Error, Result, Secret};

use crate::settings::Written;

/// What answers `${VAR}`.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The text with its variables put in. `place` is the setting: `[alerts.routes.pager] routing_key`.
pub fn resolve(written: &Written, place: &str, environment: Environment<'_>) -> Result<Secret> {
    let mut out = String::new();
    let mut rest = written.0.as_str();
    while let Some(dollar) = rest.find("${") {
        let (before, from) = rest.split_at(dollar);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        let (inner, after) = from
            .get(2..)
            .and_then(|t| t.split_once('}'))
            .ok_or_else(|| Error::invalid("ALR0005", format!("{place}: \"${{\" is not closed")).hint("Close it with \"}\", or write \"$${\" for the text itself."))?;
        out.push_str(&variable(inner, place, environment)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Secret::new(out))
}

fn variable(inner: &str, place: &str, environment: Environment<'_>) -> Result<String> {
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::invalid("ALR0005", format!("{place}: what stands in \"${{…}}\" is not the name of a variable")).hint("Write ${NAME} or ${NAME:-default}."));
    }
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(Error::invalid("ALR0005", format!("{place}: variable {name} is not set")).hint(format!("Set it in the environment, or give a default: ${{{name}:-value}}.")))
        }
    }
}
