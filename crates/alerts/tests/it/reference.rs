//! Pages, files and code say the same of metrics and rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use watershed_alerts::catalog::{SHORT_NAMES, metrics, resolve};
use watershed_alerts::defaults::DEFAULTS;
use watershed_alerts::{Look, Plan, Settings, prometheus, runbooks};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every metric the code sets, with its kind.
fn in_code() -> BTreeSet<(String, String)> {
    let setting = Regex::new(r#"(counter|gauge|histogram)!?\(\s*"(watershed_[a-z0-9_]+)""#).expect("a pattern");
    let mut files = vec![];
    for entry in fs::read_dir(root().join("crates")).expect("crates").flatten() {
        sources(&entry.path().join("src"), &mut files);
    }
    let texts = files.iter().map(|path| fs::read_to_string(path).expect("text"));
    texts.flat_map(|text| setting.captures_iter(&text).map(|c| (c[2].to_owned(), c[1].to_owned())).collect::<Vec<_>>()).collect()
}

#[test]
fn the_page_lists_every_metric_of_the_code_and_no_other() {
    let listed: BTreeSet<(String, String)> = metrics().iter().map(|(name, metric)| (name.clone(), metric.kind.clone())).collect();
    assert_eq!(listed, in_code(), "docs/reference/metrics.md against crates/*/src");
    for (short, name, matcher, _) in SHORT_NAMES {
        let metric = metrics().get(name).unwrap_or_else(|| panic!("{short} stands for {name}, which is not there"));
        assert!(matcher.is_none_or(|(label, ..)| metric.labels.iter().any(|l| l == label)), "{short}");
    }
}

#[test]
fn every_default_rule_has_its_page_and_reads_metrics_that_exist() {
    let plan = Plan::new(&Settings::default(), &|_| None).expect("a plan");
    let there: BTreeSet<String> = fs::read_dir(root().join("docs/runbooks"))
        .expect("runbooks")
        .flatten()
        .filter_map(|e| Some(e.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "README")
        .collect();
    assert_eq!(there, plan.rules.iter().map(|rule| rule.name.clone()).collect(), "docs/runbooks against the default rules");
    for rule in &plan.rules {
        let page = runbooks::page(&rule.name).unwrap_or_else(|| panic!("{} has no page in the program", rule.name));
        for part in ["## What it means", "## How to look", "## What to do"] {
            assert!(page.contains(part), "docs/runbooks/{}.md has no \"{part}\"", rule.name);
        }
        let Look::Metrics(condition) = &rule.look else { continue };
        let expression = condition.expression.to_string();
        assert!(page.contains(&format!("`{expression}`")), "docs/runbooks/{}.md does not show its condition `{expression}`", rule.name);
        // Places of the summary are labels of the metrics.
        for place in rule.summary.split("{{").skip(1).filter_map(|part| part.split("}}").next()).filter(|place| *place != "value") {
            let known = condition.selectors().iter().any(|s| watershed_alerts::catalog::labels(&s.name).is_some_and(|labels| labels.contains(&place)));
            assert!(known, "{}: no metric has a label \"{place}\"", rule.name);
        }
    }
    let commands = fs::read_to_string(root().join("docs/reference/alerts.md")).expect("the reference");
    assert!(DEFAULTS.iter().all(|d| commands.contains(&format!("`{}`", d.name))), "docs/reference/alerts.md lists every default rule");
}

#[test]
fn the_rules_file_is_the_default_rule_set() {
    let plan = Plan::new(&Settings { runbooks: Some("docs/runbooks".to_owned()), ..Settings::default() }, &|_| None).expect("a plan");
    let expected = format!("# Made by `watershed alert rules --prometheus` of a project without [alerts]; a test compares.\n{}", prometheus::rules(&plan));
    let path = root().join("ops/prometheus/rules.yml");
    if std::env::var_os("WATERSHED_UPDATE").is_some() {
        fs::write(&path, &expected).expect("is written");
    }
    assert_eq!(fs::read_to_string(&path).expect("the file"), expected, "run this test with WATERSHED_UPDATE=1");
    let Ok(checked) = Command::new("promtool").args(["check", "rules"]).arg(&path).output() else {
        eprintln!("promtool is not installed: the file is not checked with it");
        return;
    };
    assert!(checked.status.success(), "{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_dashboard_is_json_and_asks_for_metrics_that_exist() {
    let text = fs::read_to_string(root().join("ops/grafana/watershed.json")).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut asked = vec![];
    collect(&dashboard, &mut asked);
    assert!(asked.len() > 20, "{} expressions", asked.len());
    let name = Regex::new(r"watershed_[a-z0-9_]+").expect("a pattern");
    let mut used = BTreeSet::new();
    for expression in &asked {
        for found in name.find_iter(expression) {
            assert!(resolve(found.as_str()).is_some(), "no metric \"{}\" in {expression}", found.as_str());
            used.insert(found.as_str().to_owned());
        }
    }
    let mut ids: Vec<i64> = dashboard["panels"].as_array().expect("panels").iter().filter_map(|p| p["id"].as_i64()).collect();
    let panels = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), panels, "every panel has an id of its own");
}

fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("expr" | "query", Some(text)) if text.contains("watershed_") => found.push(text.to_owned()),
                    _ => collect(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
