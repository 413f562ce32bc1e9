use watershed_types::Certainty;

use super::*;

fn report() -> Report {
    Report {
        topic: "t".to_owned(),
        ended: Ended::Records,
        seconds: 2.0,
        sent: 1_000,
        acknowledged: 1_000,
        bytes: 320_000,
        records_per_second: 500.0,
        megabytes_per_second: 0.16,
        batches: Some(Batches { count: 10, records: 100.0, bytes: 16_000.0, wire_bytes: 160_000, compression_ratio: 2.0, retries: 0 }),
        latency: Latency { p50_ms: 3.0, p95_ms: 5.5, p99_ms: 9.0, max_ms: 12.25, samples: 1_000, every: 1 },
        failed: Failed::default(),
        errors: BTreeMap::new(),
        last_error: None,
        waited_seconds: 0.0,
        made: BTreeMap::from([("good", 990), ("wrong_type", 10)]),
        skew: SkewReport { hot_keys: vec![HotKey { key: "C000007".to_owned(), share: 0.3 }], salt: 2, before: Some(Skew::of(&[700, 300])), after: Skew::of(&[550, 450]) },
        partitions: vec![PartitionCount { partition: 0, records: 550, unsalted: Some(700) }, PartitionCount { partition: 1, records: 450, unsalted: Some(300) }],
        transactions: None,
        fatal: None,
    }
}

#[test]
fn a_report_reads_like_this() {
    let expected = "\
1,000 of 1,000 records acknowledged by \"t\" in 2.00 s
  500 records/s, 0.2 MB/s, 320 B a record with its key
  10 batches of 100 records and 16.0 KB; compression 2.00 (320.0 KB as 160.0 KB)
  acknowledged after p50 3.0 ms, p95 5.5 ms, p99 9.0 ms, max 12.2 ms (every record)
  made: 990 good, 10 wrong type
  hot keys: C000007 30.0%
  skew without salt 1.40 (fullest 700, mean 500)
  skew with 2 suffixes 1.10 (fullest 550, mean 500)
    partition   0             550   (without salt 700)
    partition   1             450   (without salt 300)
";
    assert_eq!(report().render(), expected);
    let json = serde_json::to_value(report()).expect("JSON");
    assert_eq!((&json["ended"], &json["skew"]["before"]["max"], &json["latency"]["p99_ms"]), (&"records".into(), &700.into(), &9.0.into()));
}

#[test]
fn the_verdict_says_what_surely_failed_and_what_may_have_landed() {
    report().verdict().expect("fine");
    let mut failed = report();
    failed.failed = Failed { surely: 1_200, perhaps: 34, by_error: BTreeMap::from([("_MSG_TIMED_OUT".to_owned(), 1_234)]) };
    failed.last_error = Some("1/1 brokers are down".to_owned());
    let error = failed.verdict().expect_err("failed");
    assert_eq!((error.code(), error.certainty()), ("PRD0006", Some(Certainty::Indefinite)));
    assert_eq!(error.message(), "of 1,000 records for \"t\", 1,200 records surely failed and 34 may have landed");
    assert!(error.report().contains("1/1 brokers are down"));
    failed.failed.perhaps = 0;
    assert_eq!(failed.verdict().expect_err("failed").certainty(), Some(Certainty::Definite));
    failed.fatal = Some("fenced".to_owned());
    assert_eq!(failed.verdict().expect_err("failed").code(), "PRD0008");
    failed.transactions = Some(Transactions::default());
    assert_eq!(failed.verdict().expect_err("failed").code(), "PRD0007");
}

#[test]
fn a_live_line_has_the_figures() {
    let progress = Progress { seconds: 3.0, sent: 5_000, acknowledged: 4_000, records_per_second: 1_333.4, megabytes_per_second: 0.42, in_flight: 1_000, ..Progress::default() };
    assert_eq!(Event::Progress(progress).render(), "   3 s · 1,333/s · 0.4 MB/s · 4,000 acknowledged · 1,000 in flight");
    let trouble = Progress { batch_records: 99.6, batch_bytes: 15_000.0, failed: 2, errors: 1, ..progress };
    assert!(trouble.render().ends_with(" · batch 100, 15.0 KB · 2 FAILED · 1 errors"), "{}", trouble.render());
    assert!(serde_json::to_string(&Event::Progress(progress)).expect("JSON").starts_with("{\"event\":\"progress\",\"seconds\":3.0"));
}
