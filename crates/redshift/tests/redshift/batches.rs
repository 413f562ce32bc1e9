//! By the Data API: the same contract, without a connection.

use std::collections::{BTreeMap, HashMap};

use watershed_ports::{RefusedRow, Target};
use watershed_redshift::{RedshiftOptions, RedshiftTarget};
use watershed_types::{Certainty, Epoch, Generation, Kind, OptionValue, Options};

use crate::data_api::DataApi;
use crate::moto;
use crate::standin::{POISON, StandIn};
use crate::support::*;

fn by_batches(api: &DataApi, table: &str, more: &[(&str, &str)]) -> RedshiftTarget {
    let mut pairs = vec![("via", "data-api"), ("workgroup", "stand-in"), ("database", "dev"), ("endpoint", api.endpoint.as_str()), ("table", table)];
    pairs.extend_from_slice(more);
    target(&pairs, schema())
}

#[test]
fn epochs_land_once_by_batches() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let api = DataApi::start(standin.url());
    let pairs = [("mode", "upsert"), ("key", "id"), ("delete_when", "gone")];
    let batches = by_batches(&api, "by_batches", &pairs);
    assert_eq!(batches.last_epoch().expect("last"), Epoch::ZERO);
    assert_eq!(batches.claim(Generation(1)).expect("claim"), Epoch::ZERO);
    let mut rows: Vec<_> = (0..1_000).map(|id| (Some(id), if id == 333 { POISON } else { "fine" }, 100, false)).collect();
    rows.push((Some(1), "gone", 0, true));
    let delivered = deliver(&batches, 1, 1, &[batch(&rows)]).expect("delivered");
    assert_eq!(delivered.refused, [RefusedRow { row: 333, detail: "Invalid value (column \"name\")".into() }]);
    let again = deliver(&batches, 1, 1, &[batch(&rows)]).expect("again");
    assert_eq!((again.already_there, again.refused), (true, delivered.refused));
    assert_eq!(sql("SELECT count(*), count(DISTINCT id) FROM by_batches"), ["998|998"]);
    deliver(&batches, 2, 1, &many(1_000, 500)).expect("delivered");
    assert_eq!(batches.history().expect("history").epochs.into_iter().collect::<Vec<_>>(), [(1, 1_000), (2, 500)], "answers come in pages");
    let sent = api.last_batch();
    assert_eq!(sent["Sqls"].as_array().expect("statements").len(), 9);
    assert!(sent["Sqls"][0].as_str().expect("text").starts_with("LOCK watershed.lock_"));
    // A newer run takes over.
    let newer = by_batches(&api, "by_batches", &pairs);
    assert_eq!(newer.claim(Generation(2)).expect("claim"), Epoch(2));
    let error = deliver(&batches, 3, 1, &many(2_000, 10)).expect_err("fenced");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Fenced, "RSH0007", Some(Certainty::Definite)));
    assert_eq!(moto::list("in/by_batches").len(), 2, "what the fenced run staged stays until the newer one delivers");
    deliver(&newer, 3, 2, &many(2_000, 10)).expect("delivered");
    assert_eq!(moto::list("in/by_batches"), Vec::<String>::new());
}

#[test]
fn a_lost_answer_is_asked_for_and_nothing_runs_twice() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let api = DataApi::start(standin.url());
    let lost = by_batches(&api, "lost_batches", &[]);
    lost.claim(Generation(1)).expect("claim");
    let before = api.batches();
    api.lose(2);
    assert!(!deliver(&lost, 1, 1, &many(0, 1_000)).expect("the request is sent again").already_there);
    assert_eq!((api.to_lose(), api.batches() - before), (0, 1), "the faults fired, and the batch ran once");
    // Nobody ever answers: it is in doubt, and the next delivery looks.
    api.lose(6);
    let rows = many(1_000, 1_000);
    let error = deliver(&lost, 2, 1, &rows).expect_err("no answer");
    assert_eq!((api.to_lose(), error.code(), error.certainty()), (0, "RSH0009", Some(Certainty::Indefinite)), "{}", error.report());
    deliver(&lost, 2, 1, &rows).expect("again");
    // It says that the commit failed, and that is not so.
    api.slander();
    let rows = many(2_000, 1_000);
    let error = deliver(&lost, 3, 1, &rows).expect_err("slandered");
    assert_eq!((error.code(), error.certainty()), ("RSH0009", Some(Certainty::Indefinite)), "{}", error.report());
    assert!(deliver(&lost, 3, 1, &rows).expect("it looks").already_there);
    assert_eq!(sql("SELECT count(*), count(DISTINCT id) FROM lost_batches"), ["3000|3000"]);
    assert_eq!(sql("SELECT epoch, \"rows\" FROM watershed.epochs WHERE app_id = 'lost_batches' ORDER BY epoch"), ["1|1000", "2|1000", "3|1000"]);
}

#[test]
fn a_batch_that_takes_too_long_is_cancelled_and_surely_did_not_land() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let api = DataApi::start(standin.url());
    let slow = by_batches(&api, "slow_batches", &[("statement_timeout", "1s")]);
    slow.claim(Generation(1)).expect("claim");
    api.stall();
    let error = deliver(&slow, 1, 1, &many(0, 10)).expect_err("too long");
    assert_eq!((api.cancelled(), error.code(), error.certainty()), (1, "RSH0010", Some(Certainty::Definite)), "{}", error.report());
    assert!(!deliver(&slow, 1, 1, &many(0, 10)).expect("again").already_there);
    assert_eq!(sql("SELECT count(*) FROM slow_batches"), ["10"]);
}

/// Against `moto` itself, which checks every signature once it is told to.
#[test]
fn requests_are_signed_as_aws_wants_them() {
    if !moto::there() {
        return;
    }
    let port = moto::start();
    let made = |request: &str, body: &str| {
        let answer = moto::http(port, request, body);
        assert!(answer.contains(" 200 "), "{answer}");
        answer
    };
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
    let form = format!("POST / HTTP/1.1\r\n{signed}\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Unused: ");
    let form = form.as_str();
    made(form, "Action=CreateUser&Version=2010-05-08&UserName=loader");
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    made(form, &format!("Action=PutUserPolicy&Version=2010-05-08&UserName=loader&PolicyName=all&PolicyDocument={policy}"));
    let keys = made(form, "Action=CreateAccessKey&Version=2010-05-08&UserName=loader");
    let inside = |tag: &str| keys.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once('<')).expect("a key").0.to_owned();
    let (id, secret) = (inside("AccessKeyId"), inside("SecretAccessKey"));
    made("POST /moto-api/reset-auth", "0");

    let asked = |secret: &str| {
        let endpoint = format!("http://127.0.0.1:{port}");
        let pairs = [
            ("via", "data-api"),
            ("cluster_identifier", "main"),
            ("db_user", "loader"),
            ("database", "dev"),
            ("region", "us-east-1"),
            ("endpoint", &endpoint),
            ("table", "t"),
            ("staging", "s3://staging/in"),
            ("iam_role", "default"),
            ("aws_access_key_id", &id),
            ("aws_secret_access_key", secret),
            ("statement_timeout", "1s"),
        ];
        let values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        let options = RedshiftOptions::take(&mut Options::new("sink \"out\"", values), "out", &HashMap::new()).expect("options");
        let target = RedshiftTarget::new(options, "signed", "signed", schema(), runtime().handle().clone()).expect("a target");
        target.last_epoch()
    };
    // Its statements never end, so that running one, asking for it, cancelling it and asking again are all signed and understood.
    let error = asked(&secret).expect_err("cancelled");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Unavailable, "RSH0010", Some(Certainty::Definite)), "{}", error.report());
    assert!(error.report().contains("cancelled"), "{}", error.report());
    let error = asked("wrong").expect_err("the signature is wrong");
    assert_eq!((error.kind(), error.code()), (Kind::Denied, "RSH0004"), "{}", error.report());
    assert!(error.report().contains("ignature") || error.report().contains("AccessDenied"), "{}", error.report());
    assert!(!error.report().contains(&secret));
}
