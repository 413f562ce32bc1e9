//! Rules as Prometheus has them, for whoever watches many projects from one place.

use std::fmt::Write;

use crate::expression::{Condition, Expression, duration};
use crate::plan::Plan;
use crate::rule::Look;

/// What Prometheus calls who was asked; kept apart where series are put together.
const WHO: &str = "instance";

/// A rules file. Rules over queries are not in it: Prometheus cannot ask them.
pub fn rules(plan: &Plan) -> String {
    let mut out = String::from("groups:\n  - name: watershed\n    rules:\n");
    for rule in &plan.rules {
        let Look::Metrics(condition) = &rule.look else { continue };
        let apart = Condition { expression: apart(&condition.expression), hold: None };
        let _ = write!(out, "      - alert: {}\n        expr: {}\n", rule.name, quoted(&apart.expression.to_string()));
        if !rule.hold.is_zero() {
            let _ = writeln!(out, "        for: {}", duration(rule.hold));
        }
        if !rule.keep.is_zero() {
            let _ = writeln!(out, "        keep_firing_for: {}", duration(rule.keep));
        }
        let _ = writeln!(out, "        labels:\n          severity: {}", rule.severity);
        for (label, value) in &rule.labels {
            let _ = writeln!(out, "          {label}: {}", quoted(value));
        }
        let _ = writeln!(out, "        annotations:\n          summary: {}", quoted(&annotation(&rule.summary)));
        if let Some(page) = plan.runbook(rule) {
            let _ = writeln!(out, "          runbook_url: {}", quoted(&page));
        }
    }
    out
}

/// The same with who was asked kept apart in sums, and in what must agree.
fn apart(expression: &Expression) -> Expression {
    let with = |labels: &[String]| -> Vec<String> {
        let mut labels = labels.to_vec();
        if !labels.iter().any(|label| label == WHO) {
            labels.push(WHO.to_owned());
        }
        labels
    };
    match expression {
        Expression::Aggregate(aggregation, by, inner) => Expression::Aggregate(*aggregation, with(by), Box::new(apart(inner))),
        Expression::Absent(inner) => Expression::Absent(Box::new(apart(inner))),
        Expression::Abs(inner) => Expression::Abs(Box::new(apart(inner))),
        Expression::Negate(inner) => Expression::Negate(Box::new(apart(inner))),
        Expression::Quantile(q, inner) => Expression::Quantile(*q, Box::new(apart(inner))),
        Expression::Binary(operator, matching, left, right) => {
            let matching = matching.clone().map(|mut matching| {
                matching.on = with(&matching.on);
                matching
            });
            Expression::Binary(*operator, matching, Box::new(apart(left)), Box::new(apart(right)))
        }
        leaf => leaf.clone(),
    }
}

/// `{{source}}` as Prometheus writes it.
fn annotation(summary: &str) -> String {
    let mut out = String::new();
    let mut rest = summary;
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, after) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        match place {
            "value" => out.push_str("{{ $value | humanize }}"),
            label => {
                let _ = write!(out, "{{{{ $labels.{label} }}}}");
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
