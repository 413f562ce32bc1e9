//! What is asked for: the parameters of a read.

use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::SchemaRef;
use watershed_types::{Result, near_miss};

use crate::error::bad_parameter;

/// Rows of an answer where nothing is said, and at most.
const LIMIT: usize = 1_000;
const MOST: usize = 100_000;
const KEYS: usize = 1_000;
/// 0001-01-01 to 9999-12-31.
const YEARS: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
const PARAMETERS: [&str; 5] = ["from", "to", "key", "limit", "columns"];

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The first microsecond.
    pub from: i64,
    /// The first microsecond after it.
    pub to: i64,
    /// Keys, as they are written.
    pub keys: Vec<String>,
    /// At most so many rows.
    pub limit: usize,
    /// The columns by name; all of them if there are none.
    pub columns: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Request { from: i64::MIN, to: i64::MAX, keys: vec![], limit: LIMIT, columns: vec![] }
    }
}

impl Request {
    /// Reads the query of a URL. Errors: `TIER0001`.
    pub fn parse(query: &str) -> Result<Request> {
        let mut request = Request::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "from" => request.from = time("from", &value)?,
                "to" => request.to = time("to", &value)?,
                "key" => request.keys.push(value.into_owned()),
                "columns" => request.columns.extend(value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    request.limit = limit.ok_or_else(|| bad_parameter(format!("parameter \"limit\" is \"{value}\""), format!("Write a number from 1 to {MOST}.")))?;
                }
                other => {
                    let hint = match near_miss(other, PARAMETERS) {
                        Some(near) => format!("Did you mean \"{near}\"?"),
                        None => format!("Parameters: {}.", PARAMETERS.join(", ")),
                    };
                    return Err(bad_parameter(format!("there is no parameter \"{other}\""), hint));
                }
            }
        }
        if request.from > request.to {
            return Err(bad_parameter("parameter \"from\" is after \"to\"", "Swap them: rows from `from` on and before `to` are answered."));
        }
        if request.keys.len() > KEYS {
            return Err(bad_parameter(format!("there are {} keys", request.keys.len()), format!("Ask for at most {KEYS} at a time.")));
        }
        Ok(request)
    }

    /// Whether a URL's query has a parameter of a read.
    pub(crate) fn has_parameters(query: &str) -> bool {
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| PARAMETERS.contains(&name.as_ref()))
    }

    /// The places of the columns asked for.
    pub(crate) fn places(&self, schema: &SchemaRef) -> Result<Vec<usize>> {
        if self.columns.is_empty() {
            return Ok((0..schema.fields().len()).collect());
        }
        let place = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let hint = match near_miss(name, names.iter().copied()) {
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => format!("Its columns: {}.", names.join(", ")),
                };
                bad_parameter(format!("parameter \"columns\" names \"{name}\", which is not a column"), hint)
            })
        };
        self.columns.iter().map(place).collect()
    }
}

/// A time of the years 1 to 9999; without a zone it is UTC.
fn time(name: &str, text: &str) -> Result<i64> {
    // In a URL a + that nobody escaped is a blank.
    let text = if text.contains('T') { text.replace(' ', "+") } else { text.to_owned() };
    let read = string_to_datetime(&chrono::Utc, &text).ok().map(|at| at.timestamp_micros());
    read.filter(|micros| YEARS.contains(micros))
        .ok_or_else(|| bad_parameter(format!("parameter \"{name}\" is \"{text}\", which is no time"), "Write 2026-01-01T00:00:00Z; years go from 1 to 9999."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keys_and_columns_are_read_from_a_query() {
        let read = Request::parse("from=2026-01-01T00:00:00Z&to=2026-01-01T03:00:00+02:00&key=a%2Cb&key=c&limit=7&columns=x,+y").expect("a request");
        let from = 1_767_225_600_000_000;
        assert_eq!(read, Request { from, to: from + 3_600_000_000, keys: vec!["a,b".into(), "c".into()], limit: 7, columns: vec!["x".into(), "y".into()] });
        assert_eq!(Request::parse("from=2026-01-01").expect("a day").from, from);
        assert_eq!(Request::parse("").expect("everything"), Request::default());
        for (query, hint) in
            [("form=2026-01-01", "Did you mean \"from\"?"), ("limit=0", "Write a number"), ("from=2&to=1", "2026-01-01T00:00:00Z"), ("from=2026-01-02&to=2026-01-01", "Swap them")]
        {
            let error = Request::parse(query).expect_err(query);
            assert!(error.code() == "TIER0001" && error.report().contains(hint), "{query}: {}", error.report());
        }
    }
}
