//! `watershed alert check`: every rule looked at once, now; nobody is told.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use watershed_alerts::evaluator::{Found, found_in, found_in_rows};
use watershed_alerts::rule::number;
use watershed_alerts::sample::{History, Samples, read};
use watershed_alerts::{Ask, Look, Rule};
use watershed_types::{Error, Result};

use crate::arguments::Format;
use crate::observe::{self, ProjectAsk};
use crate::output::{Cell, Sheet, count, print};
use crate::project::Project;
use crate::session::runtime;
use crate::system;

/// Between two looks at the metrics, so that rates are known.
const BETWEEN: Duration = Duration::from_secs(1);

/// Runs the command. Rules that cannot be looked at make it exit 1.
pub fn run(project: &Project, format: Format) -> Result<u8> {
    let plan = observe::plan(project)?;
    let (mut samples, mut history, mut at) = (None, History::default(), 0);
    if let Some(address) = address(project) {
        let windows = plan.rules.iter().filter_map(|rule| if let Look::Metrics(condition) = &rule.look { Some(condition.windows()) } else { None });
        history = History::new(windows.flatten());
        let runtime = runtime()?;
        for look in 0..2 {
            if look > 0 {
                std::thread::sleep(BETWEEN);
            }
            let text = runtime.block_on(fetch(&address)).map_err(|e| {
                Error::unavailable("CLI0104", format!("the running process does not give its metrics at {address}: {e}"))
                    .hint("Is it starting or stopping? `watershed status` tells.")
            })?;
            at = chrono::Utc::now().timestamp_micros();
            let now = Samples::new(read(&text).0);
            history.take(at, &now);
            samples = Some(now);
        }
    }
    let ask = ProjectAsk::new(project)?;
    let mut sheet = Sheet::new(&["rule", "severity", "now", "series", "value>", "condition"]);
    let mut failed = 0;
    for rule in &plan.rules {
        let looked = match (&rule.look, &samples) {
            (Look::Metrics(_), None) => Err("not looked at: the project does not run".to_owned()),
            (Look::Metrics(_), Some(samples)) => Ok(found_in(rule, samples, &history, at)),
            (Look::Query { sql, timeout, .. }, _) => match ask.ask(sql, *timeout).and_then(|rows| found_in_rows(rule, &rows, chrono::Utc::now().timestamp_micros())) {
                Ok(found) => Ok(found),
                Err(error) => {
                    failed += 1;
                    eprintln!("error: rule \"{}\": {}", rule.name, error.report());
                    Err(format!("{}: {}", error.code(), error.message()))
                }
            },
        };
        add(&mut sheet, rule, looked);
    }
    sheet.print(format)?;
    if format == Format::Table {
        print(&format!("({})\n", count(plan.rules.len() as u64, "rule")))?;
    }
    // A query past its time may still be reading, and would take the end of its threads for a crash: they end with the process.
    std::mem::forget(ask);
    Ok(u8::from(failed > 0))
}

fn add(sheet: &mut Sheet, rule: &Rule, looked: std::result::Result<Found, String>) {
    let mut push = |now: &str, series: String, value: Option<f64>| {
        let value = value.map_or(Cell::Null, |value| Cell::number(number(value)));
        sheet.push(vec![Cell::text(&rule.name), Cell::text(rule.severity.to_string()), Cell::text(now), Cell::text(series), value, Cell::text(rule.condition())]);
    };
    match looked {
        Err(words) => push(&words, String::new(), None),
        Ok(found) if found.holds.is_empty() => push("ok", String::new(), None),
        Ok(found) => {
            for (labels, value) in found.holds {
                let series: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
                push("holds", series.join(" "), Some(value));
            }
        }
    }
}

/// Where the running process listens.
fn address(project: &Project) -> Option<String> {
    let announced: serde_json::Value = serde_json::from_slice(&std::fs::read(project.work().join("run.json")).ok()?).ok()?;
    system::is_running(project).then(|| announced["address"].as_str().map(str::to_owned)).flatten()
}

async fn fetch(address: &str) -> std::result::Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("http://{address}/metrics").parse()?;
    let bytes = tokio::time::timeout(Duration::from_secs(5), async {
        let response = client.get(uri).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.into_body().collect().await?.to_bytes())
    })
    .await??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
