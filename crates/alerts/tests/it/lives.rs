//! Alerts over time: who is told what and when, with silences, acknowledgements and restarts.

use std::collections::HashMap;

use watershed_alerts::evaluator::Cell;
use watershed_alerts::marks::{Acknowledgement, Said, Silence};
use watershed_alerts::sample::{Labels, Samples, read};
use watershed_alerts::{Evaluator, Memory, Plan, Rows, Settings, View};
use watershed_types::Error;

const S: i64 = 1_000_000;

fn plan(toml: &str) -> Plan {
    let settings: Settings = toml::from_str(toml).expect("settings");
    Plan::new(&settings, &|_| None).expect("a plan")
}

/// A look at `text`, and what leaves: route, action, firing ids, resolved ids.
fn look(evaluator: &mut Evaluator, seconds: i64, text: &str, said: &Said) -> Vec<String> {
    let samples = Samples::new(read(text).0);
    told(evaluator, View { at: seconds * S, samples: Some(&samples), answers: HashMap::new(), said })
}

fn told(evaluator: &mut Evaluator, view: View<'_>) -> Vec<String> {
    let messages = evaluator.look(view).messages;
    let ids = |told: &[watershed_alerts::message::Told]| told.iter().map(|t| t.labels.values().cloned().collect::<Vec<_>>().join("/")).collect::<Vec<_>>().join("+");
    messages.into_iter().map(|(route, m)| format!("{route} {} {} [{}] [{}]", m.action.as_str(), m.severity, ids(&m.firing), ids(&m.resolved))).collect()
}

const LAG: &str = r#"
default_rules = false
cooldown = "1m"
repeat_interval = "10m"
keep_firing_for = "0s"
[[rules]]
name = "lag"
when = "lag > 100 for 20s"
clear = "lag < 50"
severity = "P1"
summary = "{{source}} is {{value}} behind"
[routes.all]
type = "log"
[routes.p0]
type = "log"
severities = ["P0"]
[routes.payments]
type = "log"
labels = { source = "pay" }
group_by = ["source"]
"#;

fn lag(orders: u64, pay: u64) -> String {
    format!("watershed_source_lag_records{{source=\"orders\"}} {orders}\nwatershed_source_lag_records{{source=\"pay\"}} {pay}\n")
}

#[test]
fn routes_are_told_of_their_groups_once_updated_repeated_and_resolved() {
    let mut evaluator = Evaluator::new("p", plan(LAG), Memory::default());
    let said = Said::default();
    let story: &[(i64, u64, u64, &[&str])] = &[
        (0, 500, 0, &[]),
        (10, 500, 0, &[]),
        (20, 500, 0, &["all trigger P1 [orders] []"]),
        (30, 80, 500, &[]),
        (40, 80, 500, &[]),
        // Within the cooldown of `all`; `payments` has not been told anything yet.
        (50, 80, 500, &["payments trigger P1 [pay] []"]),
        (80, 80, 500, &["all update P1 [orders+pay] []"]),
        // Between the thresholds nothing is over.
        (90, 60, 500, &[]),
        (150, 10, 500, &[]),
        (690, 10, 500, &["all repeat P1 [pay] [orders]", "payments repeat P1 [pay] []"]),
        (700, 10, 10, &[]),
        (750, 10, 10, &["all resolve P1 [] [pay]", "payments resolve P1 [] [pay]"]),
        (900, 10, 10, &[]),
    ];
    for (at, orders, pay, expected) in story {
        assert_eq!(look(&mut evaluator, *at, &lag(*orders, *pay), &said), *expected, "at {at} s");
    }
    let page = evaluator.page(&said, 900 * S);
    let history: Vec<_> = page.history.iter().map(|e| (e.at / S, e.summary.as_str())).collect();
    assert_eq!(history, [(700, "pay is 500 behind"), (150, "orders is 500 behind"), (50, "pay is 500 behind"), (20, "orders is 500 behind")]);
}

#[test]
fn a_value_that_swings_makes_one_message_and_a_restart_none() {
    let mut evaluator = Evaluator::new("p", plan(&LAG.replace("keep_firing_for = \"0s\"", "keep_firing_for = \"1m\"")), Memory::default());
    let said = Said::default();
    let mut messages = vec![];
    for step in 0..60 {
        let swinging = if step % 4 == 3 { 10 } else { 500 };
        messages.extend(look(&mut evaluator, step * 10, &lag(swinging, 0), &said));
        // Every ten looks the process is another one, which knows what was written down.
        if step % 10 == 9 {
            let written = serde_json::to_string(evaluator.memory()).expect("JSON");
            evaluator = Evaluator::new("p", evaluator.plan.clone(), serde_json::from_str(&written).expect("memory"));
        }
    }
    assert_eq!(messages, ["all trigger P1 [orders] []"]);
}

#[test]
fn silences_and_acknowledgements_keep_quiet_and_the_end_is_still_told() {
    let mut evaluator = Evaluator::new("p", plan(LAG), Memory::default());
    let silence = |until: i64| Silence {
        id: "x".to_owned(),
        alert: None,
        rule: Some("lag".to_owned()),
        labels: Labels::from([("source".to_owned(), "orders".to_owned())]),
        until: until * S,
        reason: String::new(),
        by: "me".to_owned(),
        created_at: 0,
    };
    let quiet = Said { silences: vec![silence(100)], acknowledgements: vec![] };
    for at in [0, 10, 20, 30] {
        assert_eq!(look(&mut evaluator, at, &lag(500, 0), &quiet), [""; 0], "silenced at {at} s");
    }
    assert_eq!(evaluator.page(&quiet, 30 * S).alerts[0].silenced_until, Some(100 * S));
    // It ends by itself, and what still fires is told.
    assert_eq!(look(&mut evaluator, 110, &lag(500, 0), &quiet), ["all trigger P1 [orders] []"]);
    let id = evaluator.page(&quiet, 110 * S).alerts[0].id.clone();
    let in_hand = Said { silences: vec![], acknowledgements: vec![Acknowledgement { alert: id, by: "me".to_owned(), note: String::new(), at: 115 * S }] };
    assert_eq!(look(&mut evaluator, 2_000, &lag(500, 0), &in_hand), [""; 0], "not repeated");
    assert_eq!(evaluator.page(&in_hand, 2_000 * S).alerts[0].acked_by.as_deref(), Some("me"));
    // A silence given after the trigger does not hide the end.
    let late = Said { silences: vec![silence(9_000)], acknowledgements: vec![] };
    assert_eq!(look(&mut evaluator, 2_010, &lag(500, 0), &late), [""; 0]);
    assert_eq!(look(&mut evaluator, 2_020, &lag(0, 0), &late), ["all resolve P1 [] [orders]"]);
}

#[test]
fn rows_of_a_query_are_findings_or_values_to_compare() {
    let toml = r#"
default_rules = false
keep_firing_for = "0s"
[[rules]]
name = "unbalanced"
sql = "SELECT table_name, count(*) AS rows FROM system.ledger GROUP BY table_name"
every = "1m"
[[rules]]
name = "many"
sql = "SELECT table_name, count(*) AS n FROM t GROUP BY table_name"
when = "n > 5"
for = "1m"
every = "1m"
"#;
    let mut evaluator = Evaluator::new("p", plan(toml), Memory::default());
    let said = Said::default();
    let rows = |rows: &[(&str, f64)]| {
        Ok(Rows { columns: vec!["table_name".to_owned(), "n".to_owned()], rows: rows.iter().map(|(name, n)| vec![Cell::Text((*name).to_owned()), Cell::Number(*n)]).collect() })
    };
    let mut ask = |at: i64, answers: Vec<(&str, Result<Rows, Error>)>| {
        let answers = answers.into_iter().map(|(rule, answer)| (rule.to_owned(), answer)).collect();
        told(&mut evaluator, View { at: at * S, samples: None, answers, said: &said })
    };
    assert_eq!(ask(0, vec![("unbalanced", rows(&[("clean", 1.0)])), ("many", rows(&[("clean", 9.0), ("raw", 2.0)]))]), ["log trigger P2 [clean] []"]);
    assert_eq!(ask(60, vec![("many", Err(Error::unavailable("ALR0010", "too slow")))]), [""; 0], "a failed look changes nothing");
    assert_eq!(ask(70, vec![("many", rows(&[("clean", 8.0)]))]), ["log trigger P2 [clean] []"]);
    assert_eq!(ask(200, vec![("unbalanced", rows(&[])), ("many", rows(&[("clean", 8.0)]))]), ["log resolve P2 [] [clean]"]);
}

#[test]
fn a_rule_that_is_gone_takes_its_alerts_with_it() {
    let mut evaluator = Evaluator::new("p", plan(LAG), Memory::default());
    let said = Said::default();
    for at in [0, 10, 20] {
        look(&mut evaluator, at, &lag(500, 0), &said);
    }
    let without = plan("default_rules = false\ncooldown = \"1s\"\n[routes.all]\ntype = \"log\"\n");
    let mut evaluator = Evaluator::new("p", without, evaluator.memory().clone());
    assert_eq!(look(&mut evaluator, 100, &lag(500, 0), &said), ["all resolve P1 [] [orders]"]);
    assert_eq!(evaluator.page(&said, 100 * S).alerts, []);
}

/// Makes the metrics of the n-th look, ten seconds apart.
type Makes = Box<dyn Fn(u64) -> String>;

/// What each default rule is about, and the like that is nothing: series for every look.
fn symptoms() -> Vec<(&'static str, Makes, Makes)> {
    fn make(text: impl Fn(u64) -> String + 'static) -> Makes {
        Box::new(text)
    }
    let gauge = |bad: &'static str, good: &'static str| (make(move |_| bad.to_owned()), make(move |_| good.to_owned()));
    let rates = |name: &'static str, bad: u64, good: u64, of: &'static str| {
        let text = move |part: u64| move |n: u64| format!("{name} {}\n{of} {}\n", n * part, n * 1_000);
        (make(text(bad)), make(text(good)))
    };
    let buckets = |slow: u64| {
        move |n: u64| {
            let bucket = |le: &str, count: u64| format!("watershed_latency_seconds_bucket{{stage=\"committed\",le=\"{le}\"}} {count}\n");
            format!("{}{}{}", bucket("60", n * (100 - slow)), bucket("120", n * 100), bucket("+Inf", n * 100))
        }
    };
    // Half of it NULL from the 200th look on, or always.
    let nulls = |always: bool| {
        move |n: u64| {
            let nulls = if always { n * 50 } else { n.saturating_sub(200) * 50 };
            format!("watershed_column_nulls_total{{table=\"t\",column=\"c\"}} {nulls}\nwatershed_table_rows_total{{table=\"t\"}} {}\n", n * 100)
        }
    };
    let row = |name, (bad, good)| (name, bad, good);
    vec![
        row("stopped", gauge("watershed_pipeline_failed 1", "watershed_pipeline_failed 0")),
        row(
            "checkpoint-failing",
            (
                make(|_| "watershed_epoch_sealed 5\nwatershed_epoch_committed 4\nwatershed_epochs_total 4".to_owned()),
                make(|n| format!("watershed_epoch_sealed {}\nwatershed_epoch_committed {n}\nwatershed_epochs_total {n}", n + 1)),
            ),
        ),
        row(
            "records-lost",
            (make(|n| format!("watershed_source_lost_records_total{{source=\"s\"}} {}", n / 3)), make(|_| "watershed_source_lost_records_total{source=\"s\"} 7".to_owned())),
        ),
        row("verify-failed", gauge("watershed_verify_failures 2", "watershed_verify_failures 0")),
        row("sink-down", gauge("watershed_sink_unavailable{sink=\"w\"} 1", "watershed_sink_unavailable{sink=\"w\"} 0")),
        row(
            "lag-growing",
            gauge(
                "watershed_source_lag_records{source=\"s\"} 200000\nwatershed_source_falling_behind{source=\"s\"} 1",
                "watershed_source_lag_records{source=\"s\"} 200000\nwatershed_source_falling_behind{source=\"s\"} 0",
            ),
        ),
        row("quarantine-rate", rates("watershed_quarantine_rows_total{table=\"t\",reason=\"schema\"}", 20, 5, "watershed_source_records_total{source=\"s\"}")),
        row("latency-objective", (make(buckets(5)), make(buckets(0)))),
        row(
            "state-growth",
            gauge(
                "watershed_state_bytes{operator=\"a\"} 50\nwatershed_state_bytes{operator=\"b\"} 40\nwatershed_state_budget_bytes 100",
                "watershed_state_bytes{operator=\"a\"} 50\nwatershed_state_budget_bytes 100",
            ),
        ),
        row(
            "disk-nearly-full",
            gauge(
                "watershed_disk_free_bytes{place=\"lake\"} 5\nwatershed_disk_size_bytes{place=\"lake\"} 100",
                "watershed_disk_free_bytes{place=\"lake\"} 50\nwatershed_disk_size_bytes{place=\"lake\"} 100",
            ),
        ),
        row(
            "backpressure",
            (make(|n| format!("watershed_backpressure_seconds_sum{{sink=\"w\"}} {}", n * 8)), make(|n| format!("watershed_backpressure_seconds_sum{{sink=\"w\"}} {}", n * 2))),
        ),
        row(
            "slow-epochs",
            (
                make(|n| format!("watershed_epoch_duration_seconds_sum {}\nwatershed_epoch_duration_seconds_count {n}", n * 90)),
                make(|n| format!("watershed_epoch_duration_seconds_sum {}\nwatershed_epoch_duration_seconds_count {n}", n * 10)),
            ),
        ),
        row("no-data", (make(|_| "watershed_source_records_total{source=\"s\"} 700".to_owned()), make(|n| format!("watershed_source_records_total{{source=\"s\"}} {n}")))),
        row(
            "duplicate-rate",
            rates("watershed_ledger_rows_total{table=\"t\",source=\"s\",fate=\"duplicate\"}", 400, 50, "watershed_ledger_rows_total{table=\"t\",source=\"s\",fate=\"read\"}"),
        ),
        row("null-rate", (make(nulls(false)), make(nulls(true)))),
        row(
            "rule-failing",
            (make(|n| format!("watershed_alert_rule_errors_total{{rule=\"mine\"}} {}", n / 6)), make(|_| "watershed_alert_rule_errors_total{rule=\"mine\"} 3".to_owned())),
        ),
        row("skew", gauge("watershed_source_partition_skewed{source=\"s\",partition=\"1\"} 1", "watershed_source_partition_skewed{source=\"s\",partition=\"1\"} 0")),
    ]
}

#[test]
fn each_default_rule_fires_on_its_symptom_and_not_on_the_like_of_it() {
    let symptoms = symptoms();
    assert_eq!(symptoms.iter().map(|s| s.0).collect::<Vec<_>>(), watershed_alerts::defaults::DEFAULTS.iter().map(|d| d.name).collect::<Vec<_>>());
    for (rule, bad, good) in &symptoms {
        for (makes, fires) in [(bad, true), (good, false)] {
            let mut evaluator = Evaluator::new("p", plan(""), Memory::default());
            let mut fired = vec![];
            for n in 0..360 {
                let samples = Samples::new(read(&makes(n)).0);
                let messages = evaluator.look(View { at: n as i64 * 10 * S, samples: Some(&samples), answers: HashMap::new(), said: &Said::default() }).messages;
                fired.extend(messages.into_iter().filter(|(_, m)| m.action.as_str() == "trigger").flat_map(|(_, m)| m.firing));
            }
            let mine: Vec<_> = fired.iter().filter(|told| told.rule == *rule).collect();
            assert_eq!(mine.len(), usize::from(fires), "{rule} fires once on its symptom, never on its like: {fired:?}");
            assert!(mine.iter().all(|told| !told.summary.contains("{{")), "every place is filled in: {mine:?}");
        }
    }
}
