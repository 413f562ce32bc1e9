//! A Redshift sink in the program, killed at named places: every row is once in the warehouse, and `verify` says so. What stands in for
//! Redshift is that of the crate's own tests: Postgres, and S3 by `moto`.

#[path = "../../../redshift/tests/redshift/moto.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod moto;
#[path = "../../../postgres/tests/support/server.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod server;
#[path = "../../../redshift/tests/redshift/standin.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod standin;
#[path = "../../../redshift/tests/redshift/support.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod support;

use std::fmt::Write as _;

use self::standin::{POISON, StandIn};
use crate::support::{Cut, Project};

const ROWS: usize = 3_000;

fn pipelines(standin: &StandIn) -> String {
    let place = format!(
        "connector = 'redshift', url = '{}', staging = 's3://{}/in', iam_role = 'default',
         aws_endpoint = 'http://127.0.0.1:{}', aws_allow_http = 'true', aws_region = 'us-east-1', aws_access_key_id = 'test', aws_secret_access_key = 'hunter2'",
        standin.url(),
        moto::BUCKET,
        moto::s3()
    );
    format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, account VARCHAR NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
           WITH (connector = 'files', path = 'data', format = 'json');
         CREATE TABLE clean AS SELECT * FROM s;
         CREATE SINK appended FROM clean WITH (table = 'appended', {place});
         CREATE SINK accounts FROM clean WITH (table = 'accounts', mode = 'upsert', key = 'account', {place});"
    )
}

#[test]
fn kills_in_the_warehouses_transactions_lose_nothing_and_repeat_nothing() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let project = Project::new(&pipelines(&standin));
    let mut lines = String::new();
    for id in 0..ROWS {
        let account = if id == 1_234 { POISON.to_owned() } else { format!("a{}", id % 50) };
        let _ = writeln!(lines, r#"{{"id":{id},"account":"{account}","amount":{}.25,"at":"2026-01-01T{:02}:{:02}:00Z"}}"#, id % 90, id / 400, id % 60);
    }
    project.write("data/a.json", lines);
    project.cut(Cut { parallelism: 2, rows_per_tick: 99, epoch_bytes: 24 << 10 });
    let places = [
        "redshift_staged",
        "redshift_sent",
        "redshift_committed",
        "after_prepare",
        "after_first_sink",
        "redshift_sent:2",
        "redshift_committed:2",
        "redshift_staged:3",
        "after_sinks",
    ];
    for place in places {
        let ran = project.once_but(place);
        assert!(ran.died_at_failpoint(), "{place}: {ran:?}");
    }
    let ran = project.once().ok();
    assert!(!format!("{ran:?}").contains("hunter2"));
    let sum: i64 = (0..ROWS as i64).filter(|id| *id != 1_234).map(|id| id % 90 * 100 + 25).sum();
    let count = ROWS - 1;
    assert_eq!(support::sql("SELECT count(*), count(DISTINCT id), (sum(amount) * 100)::bigint FROM appended"), [format!("{count}|{count}|{sum}")]);
    assert_eq!(support::sql("SELECT count(*), min(id), max(id) FROM accounts"), [format!("50|{}|{}", ROWS - 50, ROWS - 1)], "the last row of each key");
    let epochs = support::sql("SELECT count(*), count(DISTINCT (sink, epoch)), count(DISTINCT sink) FROM watershed.epochs WHERE pipeline = 'p'");
    assert!(epochs[0].ends_with("|2") && epochs[0].split('|').next() == epochs[0].split('|').nth(1), "{epochs:?}");
    assert_eq!(moto::list("in/p"), Vec::<String>::new(), "nothing lies about");
    assert_eq!(project.number("SELECT count(*) FROM quarantine WHERE reason = 'sink' AND detail LIKE '%Invalid value (column \"account\")%'"), 2, "once a sink");
    let verified = project.run(&["verify"]).ok();
    for sink in ["appended", "accounts"] {
        assert!(verified.stdout.contains(&format!("\"{sink}\" confirms")), "{}", verified.stdout);
    }
    support::sql("DELETE FROM appended WHERE id < 10");
    let found = project.run(&["verify"]);
    assert_eq!(found.code, Some(1));
    assert!(found.stdout.contains("10 lost"), "{}{}", found.stdout, found.stderr);
}
