//! The default rules: what every pipeline wants to be told of.
//!
//! **Owns** their conditions and thresholds. `ops/prometheus/rules.yml` is made of them, and each has a page in
//! `docs/runbooks/`; tests compare.

use std::collections::BTreeMap;
use std::time::Duration;

use watershed_types::{Error, Result, near_miss};

use crate::expression::{Names, parse};
use crate::rule::{Look, Rule, Severity};
use crate::settings::{Change, Settings};

/// A default rule.
pub struct Default {
    /// Its name, and its page's.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Its condition; `THRESHOLD` stands for the number.
    pub when: &'static str,
    /// The number, if it compares with one that a project may change.
    pub threshold: Option<f64>,
    /// What the number counts.
    pub unit: &'static str,
    /// How long it must hold, seconds.
    pub hold: u64,
    /// What a person reads first.
    pub summary: &'static str,
}

/// All of them, the worst first.
pub const DEFAULTS: [Default; 17] = [
    Default {
        name: "stopped",
        severity: Severity::P0,
        when: "watershed_pipeline_failed == 1",
        threshold: None,
        unit: "",
        hold: 0,
        summary: "the pipeline has failed: no record is read",
    },
    Default {
        name: "checkpoint-failing",
        severity: Severity::P0,
        when: "watershed_epoch_sealed > watershed_epoch_committed unless increase(watershed_epochs_total[2m]) > 0",
        threshold: None,
        unit: "",
        hold: 60,
        summary: "epoch {{value}} cannot be committed: nothing new becomes visible",
    },
    Default {
        name: "records-lost",
        severity: Severity::P0,
        when: "increase(watershed_source_lost_records_total[10m]) > THRESHOLD",
        threshold: Some(0.0),
        unit: "records in ten minutes",
        hold: 0,
        summary: "{{value}} records of source {{source}} were gone before they could be read",
    },
    Default {
        name: "verify-failed",
        severity: Severity::P0,
        when: "watershed_verify_failures > THRESHOLD",
        threshold: Some(0.0),
        unit: "findings",
        hold: 0,
        summary: "the last audit found {{value}} disagreements between ledger, checkpoint and tables",
    },
    Default {
        name: "sink-down",
        severity: Severity::P1,
        when: "watershed_sink_unavailable == 1",
        threshold: None,
        unit: "",
        hold: 60,
        summary: "sink {{sink}} does not answer: the pipeline waits for it",
    },
    Default {
        name: "lag-growing",
        severity: Severity::P1,
        when: "watershed_source_lag_records > THRESHOLD and watershed_source_falling_behind == 1",
        threshold: Some(100_000.0),
        unit: "records",
        hold: 300,
        summary: "source {{source}} is {{value}} records behind, and more comes in than is read",
    },
    Default {
        name: "quarantine-rate",
        severity: Severity::P1,
        when: "sum(rate(watershed_quarantine_rows_total{reason!=\"late\"}[5m])) / sum(rate(watershed_source_records_total[5m])) > THRESHOLD",
        threshold: Some(0.01),
        unit: "of the records read",
        hold: 120,
        summary: "{{value}} of the records read are refused",
    },
    Default {
        name: "latency-objective",
        severity: Severity::P1,
        when: "histogram_quantile(0.99, sum by (le) (rate(watershed_latency_seconds_bucket{stage=\"committed\"}[5m]))) > THRESHOLD",
        threshold: Some(60.0),
        unit: "seconds",
        hold: 300,
        summary: "one epoch in a hundred takes over {{value}} s from the arrival of a record to its commit",
    },
    Default {
        name: "state-growth",
        severity: Severity::P1,
        when: "sum(watershed_state_bytes) / sum(watershed_state_budget_bytes) > THRESHOLD",
        threshold: Some(0.8),
        unit: "of [engine] memory",
        hold: 300,
        summary: "state takes {{value}} of its budget; at 1 the pipeline stops",
    },
    Default {
        name: "disk-nearly-full",
        severity: Severity::P1,
        when: "watershed_disk_free_bytes / watershed_disk_size_bytes < THRESHOLD",
        threshold: Some(0.1),
        unit: "of the disk",
        hold: 300,
        summary: "only {{value}} of the disk with {{place}} is free",
    },
    Default {
        name: "backpressure",
        severity: Severity::P2,
        when: "rate(watershed_backpressure_seconds_sum[5m]) > THRESHOLD",
        threshold: Some(0.5),
        unit: "of the time",
        hold: 300,
        summary: "the pipeline waits for {{sink}} {{value}} of the time",
    },
    Default {
        name: "slow-epochs",
        severity: Severity::P2,
        when: "rate(watershed_epoch_duration_seconds_sum[10m]) / rate(watershed_epoch_duration_seconds_count[10m]) > THRESHOLD",
        threshold: Some(60.0),
        unit: "seconds",
        hold: 300,
        summary: "epochs are open for {{value}} s",
    },
    Default {
        name: "no-data",
        severity: Severity::P2,
        when: "rate(watershed_source_records_total[10m]) <= THRESHOLD",
        threshold: Some(0.0),
        unit: "records a second",
        hold: 600,
        summary: "source {{source}} had records, and brings none any more",
    },
    Default {
        name: "duplicate-rate",
        severity: Severity::P2,
        when: "sum by (table) (rate(watershed_ledger_rows_total{fate=\"duplicate\"}[10m])) / sum by (table) (rate(watershed_ledger_rows_total{fate=\"read\"}[10m])) > THRESHOLD",
        threshold: Some(0.2),
        unit: "of a table's rows",
        hold: 300,
        summary: "{{value}} of what table {{table}} reads are repeats",
    },
    Default {
        name: "null-rate",
        severity: Severity::P2,
        when: "rate(watershed_column_nulls_total[10m]) / on (table) group_left rate(watershed_table_rows_total[10m]) - rate(watershed_column_nulls_total[1h]) / on (table) group_left rate(watershed_table_rows_total[1h]) > THRESHOLD",
        threshold: Some(0.2),
        unit: "of a table's rows, more than in the hour before",
        hold: 300,
        summary: "the share of NULL in {{table}}.{{column}} has risen by {{value}}",
    },
    Default {
        name: "rule-failing",
        severity: Severity::P2,
        when: "increase(watershed_alert_rule_errors_total[10m]) > THRESHOLD",
        threshold: Some(2.0),
        unit: "looks in ten minutes",
        hold: 0,
        summary: "rule {{rule}} could not be looked at {{value}} times: it would not fire",
    },
    Default {
        name: "skew",
        severity: Severity::P3,
        when: "watershed_source_partition_skewed == 1",
        threshold: None,
        unit: "",
        hold: 600,
        summary: "partition {{partition}} of source {{source}} gets over five times the mean of the others",
    },
];

impl Default {
    /// Its condition with a number.
    pub fn condition(&self, threshold: Option<f64>) -> String {
        match threshold.or(self.threshold) {
            Some(number) => self.when.replace("THRESHOLD", &number.to_string()),
            None => self.when.to_owned(),
        }
    }
}

/// The default rules with a project's changes.
pub fn rules(settings: &Settings) -> Result<Vec<Rule>> {
    for name in settings.default.keys() {
        if !DEFAULTS.iter().any(|default| default.name == name) {
            let hint = match near_miss(name, DEFAULTS.iter().map(|d| d.name)) {
                Some(near) => format!("Did you mean [alerts.default.{near}]?"),
                None => format!("Default rules: {}.", DEFAULTS.map(|d| d.name).join(", ")),
            };
            return Err(Error::invalid("ALR0003", format!("there is no default rule \"{name}\"")).hint(hint));
        }
    }
    if !settings.default_rules {
        return Ok(vec![]);
    }
    let none = Change::default();
    let changed = DEFAULTS.iter().map(|default| (default, settings.default.get(default.name).unwrap_or(&none)));
    changed.filter(|(_, change)| change.enabled != Some(false)).map(|(default, change)| rule(default, change, settings.keep_firing_for)).collect()
}

fn rule(default: &Default, change: &Change, keep: Duration) -> Result<Rule> {
    let owner = format!("default rule \"{}\"", default.name);
    if change.threshold.is_some() && default.threshold.is_none() {
        return Err(Error::invalid("ALR0003", format!("{owner} has no threshold")).hint("Turn it off with enabled = false, and write a rule of your own in [[alerts.rules]]."));
    }
    if let Some(threshold) = change.threshold {
        // A share is never above one, so such a rule would never fire, or always.
        let most = if default.unit.starts_with("of ") { 1.0 } else { f64::INFINITY };
        if !threshold.is_finite() || threshold < 0.0 || threshold > most {
            let wanted = if most.is_finite() { "a share, from 0 to 1" } else { "a number from 0 on" };
            let hint = format!("Its threshold counts {}: write {wanted}. Without a threshold it is {}.", default.unit, default.threshold.unwrap_or_default());
            return Err(Error::invalid("ALR0003", format!("{owner} cannot have the threshold {threshold}")).hint(hint));
        }
    }
    let severity = match &change.severity {
        Some(text) => Severity::read(text).ok_or_else(|| crate::plan::no_severity(&owner, text))?,
        None => default.severity,
    };
    Ok(Rule {
        name: default.name.to_owned(),
        look: Look::Metrics(parse(&owner, &default.condition(change.threshold), Names::Metrics)?),
        clear: None,
        hold: change.hold.unwrap_or(Duration::from_secs(default.hold)),
        keep: change.keep_firing_for.unwrap_or(keep),
        severity,
        summary: default.summary.to_owned(),
        labels: BTreeMap::new(),
        runbook: Some(default.name.to_owned()),
        routes: change.routes.clone().unwrap_or_default(),
        default: true,
    })
}
