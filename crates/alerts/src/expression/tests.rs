use super::*;
use crate::sample::{History, Labels, Sample, Samples, read};

fn text(condition: &str) -> Result<String, String> {
    parse("rule \"r\"", condition, Names::Metrics)
        .map(|c| format!("{}{}", c.expression, c.hold.map_or(String::new(), |h| format!(" for {}", duration(h)))))
        .map_err(|e| format!("{}: {}{}", e.code(), e.message(), e.next_step().map_or(String::new(), |hint| format!("\nhint: {hint}"))))
}

#[test]
fn conditions_read_as_people_write_them_and_print_as_promql() {
    let table = [
        ("lag > 100000 for 5m", "watershed_source_lag_records > 100000 for 5m"),
        (
            "rate(quarantined) / rate(read) > 0.01 for 2m",
            "sum(rate(watershed_quarantine_rows_total{reason!=\"late\"}[5m])) / sum(rate(watershed_source_records_total[5m])) > 0.01 for 2m",
        ),
        ("state_bytes{operator=~\"dedup.*\"} >= 512MB", "watershed_state_bytes{operator=~\"dedup.*\"} >= 536870912"),
        ("watermark_lag > 10m and not_there == 1", ""),
        ("sum by (source) (rate(watershed_source_records_total[90s])) < 1", "sum by (source) (rate(watershed_source_records_total[90s])) < 1"),
        ("sum(lag) by (source) > 1", "sum by (source) (watershed_source_lag_records) > 1"),
        ("absent(processing_rate)", "absent(watershed_processing_rate)"),
        ("processing_rate - -3 * (2 + 1) < time() / 1e3", "watershed_processing_rate - -3 * (2 + 1) < time() / 1000"),
        ("(lag > 5) > 3 or lag < 1 unless lag == 0", "(watershed_source_lag_records > 5) > 3 or watershed_source_lag_records < 1 unless watershed_source_lag_records == 0"),
        ("state_bytes / on (operator) group_left state_rows > 100", "watershed_state_bytes / on (operator) group_left watershed_state_rows > 100"),
        ("latency_seconds_count{stage='lake'} > 1", "watershed_latency_seconds_count{stage=\"lake\"} > 1"),
    ];
    for (written, printed) in table {
        match (text(written), printed) {
            (Err(_), "") => {}
            (found, expected) => {
                assert_eq!(found.as_deref(), Ok(expected), "{written}");
                assert_eq!(text(expected).as_deref(), Ok(expected), "what is printed reads back");
            }
        }
    }
}

#[test]
fn errors_point_at_the_place_and_say_what_could_stand_there() {
    let table = [
        (
            "lag > > 5",
            "ALR0001: rule \"r\": line 1, column 7: expected a metric, a function or a number, found \">\"\n  | lag > > 5\n  |       ^\nhint: The grammar is in docs/reference/alerts.md.",
        ),
        ("lagg > 5", "ALR0002: rule \"r\": line 1, column 1: there is no metric \"lagg\"\n  | lagg > 5\n  | ^^^^\nhint: Did you mean lag?"),
        (
            "lag{table=\"x\"} > 5",
            "ALR0002: rule \"r\": line 1, column 5: \"watershed_source_lag_records\" has no label \"table\"\n  | lag{table=\"x\"} > 5\n  |     ^^^^^\nhint: It has: source.",
        ),
        ("rat(read[5m]) > 5", "ALR0002: rule \"r\": line 1, column 1: there is no function \"rat\"\n  | rat(read[5m]) > 5\n  | ^^^\nhint: Did you mean rate()?"),
        (
            "lag > 5 for 5",
            "ALR0001: rule \"r\": line 1, column 13: expected a duration, found a number\n  | lag > 5 for 5\n  |             ^\nhint: Write a number with a unit, such as 30s, 5m or 1h.",
        ),
        ("lag", "ALR0001: rule \"r\": line 1, column 1: this is a value, not a condition\n  | lag\n  | ^^^\nhint: Compare it, such as: … > 100; or use absent(…)."),
        (
            "1 < lag < 5",
            "ALR0001: rule \"r\": line 1, column 9: comparisons cannot be chained\n  | 1 < lag < 5\n  |         ^\nhint: Join them with and, such as: a > 1 and a < 5.",
        ),
        (
            "lag > 5\n  and lag{source=x} > 1",
            "ALR0001: rule \"r\": line 2, column 18: expected a text\n  |   and lag{source=x} > 1\n  |                  ^\nhint: Write source=\"…\", with quotes.",
        ),
        ("lag > 5 | 3", "ALR0001: rule \"r\": line 1, column 9: \"|\" has no meaning here\n  | lag > 5 | 3\n  |         ^\nhint: The grammar is in docs/reference/alerts.md."),
        ("1 > 0", "ALR0001: rule \"r\": line 1, column 1: this is a value, not a condition\n  | 1 > 0\n  | ^^^^^\nhint: Compare it, such as: … > 100; or use absent(…)."),
    ];
    for (written, expected) in table {
        assert_eq!(text(written).expect_err(written), expected);
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let pieces = ["lag", "(", ")", "{", "}", "[5m]", ">", "\"x\"", "'", "for", "5m", "1e", "rate(", "sum by", "-", "==", "é🦀", "0x", ".", "and", "on (", ",", "\n"];
    let mut seed = 7u64;
    for _ in 0..20_000 {
        let mut written = String::new();
        for _ in 0..(seed % 9) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            written.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_add(0x9e37_79b9);
        let _ = text(&written);
    }
    for deep in ["(", "-", "absent(", "rate("] {
        assert!(text(&deep.repeat(100_000)).is_err());
    }
}

/// Moments ten seconds apart, each as Prometheus' text.
fn seen(moments: &[&str], condition: &str) -> Vec<(String, f64)> {
    let condition = parse("rule \"r\"", condition, Names::Any).expect(condition);
    let mut history = History::new(condition.windows());
    let mut last = Samples::default();
    for (index, text) in moments.iter().enumerate() {
        let (samples, unreadable) = read(text);
        assert_eq!(unreadable, 0, "{text}");
        last = Samples::new(samples);
        history.take(index as i64 * 10_000_000, &last);
    }
    let at = (moments.len() as i64 - 1) * 10_000_000;
    let found = Evaluation { samples: &last, history: &history, at }.of(&condition.expression).series();
    found.into_iter().map(|(labels, value)| (labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","), value)).collect()
}

fn one(labels: &str, value: f64) -> Vec<(String, f64)> {
    vec![(labels.to_owned(), value)]
}

#[test]
fn conditions_hold_as_in_prometheus() {
    // A rate needs two samples; a counter that fell began anew.
    assert_eq!(seen(&["c 5"], "rate(c[1m]) >= 0"), vec![]);
    assert_eq!(seen(&["c 5", "c 25"], "rate(c[1m]) > 1"), one("", 2.0));
    assert_eq!(seen(&["c 90", "c 100", "c 10"], "increase(c[1m]) > 0"), one("", 20.0));
    // Only what is in the window counts.
    assert_eq!(seen(&["c 0", "c 1000", "c 1000", "c 1000"], "rate(c[20s]) > 0"), vec![]);
    assert_eq!(seen(&["g 1", "g 5", "g 3"], "max_over_time(g[1m]) - min_over_time(g[1m]) > delta(g[1m])"), one("", 4.0));
    // Labels: a comparison keeps those of its left side.
    let two = "a{s=\"x\"} 5\na{s=\"y\"} 1\nb{s=\"x\"} 2\nb{s=\"z\"} 9";
    assert_eq!(seen(&[two], "a > b"), one("s=x", 5.0));
    assert_eq!(seen(&[two], "a > 0 unless b > 0"), one("s=y", 1.0));
    assert_eq!(seen(&[two], "a > 0 and b > 0"), one("s=x", 5.0));
    assert_eq!(seen(&[two], "a > 4 or b > 4"), vec![("s=x".to_owned(), 5.0), ("s=z".to_owned(), 9.0)]);
    assert_eq!(seen(&[two], "sum(a) + max(b) == 15"), one("", 15.0));
    assert_eq!(seen(&[two], "a{s!=\"x\"} > 0"), one("s=y", 1.0));
    assert_eq!(seen(&[two], "3 < a"), one("s=x", 5.0));
    // Many to one.
    let many = "n{t=\"x\",c=\"1\"} 5\nn{t=\"x\",c=\"2\"} 1\nr{t=\"x\"} 10";
    assert_eq!(seen(&[many], "n / on (t) group_left r > 0.2"), one("c=1,t=x", 0.5));
    // Nothing divided by nothing is no number and holds nothing.
    assert_eq!(seen(&["a 0\nb 0"], "a / b > 0"), vec![]);
    assert_eq!(seen(&["a 1"], "absent(b)"), one("", 1.0));
    assert_eq!(seen(&["b NaN"], "b > 0"), vec![]);
    let buckets = "h_bucket{le=\"1\"} 50\nh_bucket{le=\"2\"} 90\nh_bucket{le=\"+Inf\"} 100";
    assert_eq!(seen(&[buckets], "histogram_quantile(0.5, h_bucket) > 0"), one("", 1.0));
    assert_eq!(seen(&[buckets], "histogram_quantile(0.7, h_bucket) > 0"), one("", 1.5));
    assert_eq!(seen(&[buckets], "histogram_quantile(0.99, h_bucket) > 0"), one("", 2.0), "beyond the last bound there is only that bound");
}

#[test]
fn the_text_format_is_read_with_its_escapes() {
    let (samples, unreadable) = read("# HELP a b\n# TYPE a counter\na{x=\"q\\\"u}o\\\\t\\ne\",y=\"\"} +Inf 1700\nbad{ 5\nc -1.5e3\n");
    let labels = Labels::from([("x".to_owned(), "q\"u}o\\t\ne".to_owned()), ("y".to_owned(), String::new())]);
    assert_eq!(samples, vec![Sample { name: "a".into(), labels, value: f64::INFINITY }, Sample { name: "c".into(), labels: Labels::new(), value: -1500.0 }]);
    assert_eq!(unreadable, 1);
}
