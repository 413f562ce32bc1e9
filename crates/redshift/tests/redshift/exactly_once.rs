//! Crashes of connections at every statement: every epoch is there once.

use watershed_ports::{Recount, Target};
use watershed_types::{Certainty, Epoch, Generation, Kind};

use crate::moto;
use crate::standin::{Fault, StandIn};
use crate::support::*;

#[test]
fn the_same_epoch_is_taken_once() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let target = target(&[("url", &url), ("table", "twice"), ("file_size", "1MB")], schema());
    assert_eq!(target.last_epoch().expect("last"), Epoch::ZERO, "before schema watershed is there");
    assert_eq!(target.claim(Generation(1)).expect("claim"), Epoch::ZERO);
    let rows = many(0, 20_000);
    assert!(!deliver(&target, 1, 1, &rows).expect("first").already_there);
    let loads = standin.loads();
    assert!(deliver(&target, 1, 1, &rows).expect("second").already_there);
    assert_eq!((standin.loads(), moto::list("in/twice")), (loads, vec![]), "nothing is loaded again, and nothing lies about");
    assert!(!deliver(&target, 2, 1, &[]).expect("an epoch without rows").already_there);
    assert_eq!(sql("SELECT count(*), sum(id), sum(amount) FROM twice"), ["20000|199990000|13999500.00"]);
    assert_eq!(target.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 20_000 }));
    assert_eq!(target.recount(Epoch(9)).expect("recount"), None);
    let history = target.history().expect("history");
    assert_eq!((history.complete, history.rows_now, history.epochs.into_iter().collect::<Vec<_>>()), (true, Some(20_000), vec![(1, 20_000), (2, 0)]));
    assert_eq!(target.claim(Generation(2)).expect("claim"), Epoch(2));
}

#[test]
fn a_zombie_is_fenced() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let (old, new) = (target(&[("url", &url), ("table", "fenced")], schema()), target(&[("url", &url), ("table", "fenced")], schema()));
    old.claim(Generation(1)).expect("claim");
    deliver(&old, 1, 1, &many(0, 10)).expect("the old run delivers");
    assert_eq!(new.claim(Generation(2)).expect("claim"), Epoch(1));
    let error = deliver(&old, 2, 1, &many(10, 10)).expect_err("the old run is over");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Fenced, "RSH0007", Some(Certainty::Definite)));
    assert_eq!(old.claim(Generation(1)).expect_err("nor may it claim").kind(), Kind::Fenced);
    deliver(&new, 2, 2, &many(10, 10)).expect("the new run delivers");
    assert_eq!(sql("SELECT count(*), count(DISTINCT id) FROM fenced"), ["20|20"]);
    assert_eq!(moto::list("in/fenced"), Vec::<String>::new(), "what the old run left is gone too");
    sql("DELETE FROM watershed.owners WHERE app_id = 'fenced'");
    let error = deliver(&new, 3, 2, &many(20, 10)).expect_err("nobody's");
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "RSH0007"));
}

/// Cuts the connection at every statement of a delivery, before the server hears of it and after it answered.
fn survives_cuts(table: &'static str, pairs: &[(&str, &str)], isolation: &'static str) {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start(isolation);
    let url = standin.url();
    let mut all = vec![("url", url.as_str()), ("table", table)];
    all.extend_from_slice(pairs);
    let target = target(&all, schema());
    target.claim(Generation(1)).expect("claim");
    let statements =
        ["BEGIN", "LOCK", "SELECT 1 / CASE", "CREATE TEMP TABLE", "COPY watershed_stage", "INSERT INTO \"public\"", "DROP TABLE", "INSERT INTO watershed.epochs", "COMMIT"];
    let mut statements = statements.to_vec();
    if pairs.contains(&("mode", "upsert")) {
        statements.push("DELETE FROM \"public\"");
    }
    let (mut epoch, mut found) = (0, 0);
    for words in statements {
        for fault in [Fault::Before, Fault::After] {
            epoch += 1;
            let rows = many(epoch as i64 * 1_000, 1_000);
            let fired = standin.fired();
            standin.arm(fault, words);
            let error = deliver(&target, epoch, 1, &rows).expect_err("the connection was cut");
            assert_eq!(standin.fired(), fired + 1, "the fault fired");
            let (code, certainty) = if words == "COMMIT" { ("RSH0009", Certainty::Indefinite) } else { ("RSH0008", Certainty::Definite) };
            assert_eq!((error.code(), error.certainty(), error.kind()), (code, Some(certainty), Kind::Unavailable), "{words} {fault:?}: {}", error.report());
            let landed = words == "COMMIT" && fault == Fault::After;
            assert_eq!(deliver(&target, epoch, 1, &rows).expect("again").already_there, landed, "{words} {fault:?}");
            found += usize::from(landed);
        }
    }
    assert_eq!(found, 1);
    let ids = (1..=epoch as i64).flat_map(|epoch| epoch * 1_000..epoch * 1_000 + 1_000);
    let expected: i64 = ids.map(|id| id * 7 + 1).sum();
    let count = epoch * 1_000;
    assert_eq!(sql(&format!("SELECT count(*), count(DISTINCT id), (sum(amount) * 100)::bigint FROM {table}")), [format!("{count}|{count}|{expected}")], "every row once");
    assert_eq!(sql(&format!("SELECT count(*), count(DISTINCT epoch), sum(\"rows\") FROM watershed.epochs WHERE app_id = '{table}'")), [format!("{epoch}|{epoch}|{count}")]);
    assert_eq!(moto::list(&format!("in/{table}")), Vec::<String>::new());
}

#[test]
fn appends_survive_cuts_at_every_statement() {
    survives_cuts("cuts_append", &[], "REPEATABLE READ");
}

#[test]
fn upserts_survive_cuts_at_every_statement() {
    survives_cuts("cuts_upsert", &[("mode", "upsert"), ("key", "id"), ("delete_when", "gone")], "SERIALIZABLE");
}

#[test]
fn a_lost_commit_that_is_still_under_way_is_waited_for() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    for (table, newer) in [("linger_same", false), ("linger_newer", true)] {
        let first = target(&[("url", &url), ("table", table)], schema());
        first.claim(Generation(1)).expect("claim");
        let (rows, fired) = (many(0, 1_000), standin.fired());
        standin.arm(Fault::Linger, "COMMIT");
        assert_eq!(deliver(&first, 1, 1, &rows).expect_err("the answer is lost").certainty(), Some(Certainty::Indefinite));
        // The commit reaches the server only while somebody waits for the lock: the look before that finds nothing.
        if newer {
            let second = target(&[("url", &url), ("table", table)], schema());
            assert_eq!(second.claim(Generation(2)).expect("claim"), Epoch(1), "what was under way came first");
            assert_eq!(deliver(&first, 2, 1, &many(1_000, 10)).expect_err("too late").kind(), Kind::Fenced);
        } else {
            assert!(deliver(&first, 1, 1, &rows).expect("again").already_there, "the epoch came while its second try waited");
        }
        assert_eq!(standin.fired(), fired + 1, "the fault fired");
        assert_eq!(sql(&format!("SELECT count(*), count(DISTINCT id) FROM {table}")), ["1000|1000"]);
    }
}

#[test]
fn sinks_take_turns_where_they_would_abort_each_other() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("SERIALIZABLE");
    let url = standin.url();
    let targets: Vec<_> = ["turns_a", "turns_b", "turns_c"].into_iter().map(|table| target(&[("url", &url), ("table", table)], schema())).collect();
    std::thread::scope(|scope| {
        for target in &targets {
            scope.spawn(|| {
                target.claim(Generation(1)).expect("claim");
                for epoch in 1..=6 {
                    while let Err(error) = deliver(target, epoch, 1, &many(epoch as i64 * 100, 100)) {
                        assert_eq!((error.kind(), error.certainty()), (Kind::Unavailable, Some(Certainty::Definite)), "{}", error.report());
                    }
                }
            });
        }
    });
    for table in ["turns_a", "turns_b", "turns_c"] {
        assert_eq!(sql(&format!("SELECT count(*), count(DISTINCT id) FROM {table}")), ["600|600"]);
    }
}
