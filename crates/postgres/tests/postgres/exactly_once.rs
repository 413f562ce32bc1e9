//! Crashes of the server and the network: every epoch is there once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use watershed_ports::{Recount, Target};
use watershed_types::{Certainty, Epoch, Generation, Kind};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::support::*;

#[test]
fn the_same_epoch_is_taken_once() {
    let url = &shared().url;
    let target = target(url, &[("table", "twice")], schema());
    assert_eq!(target.claim(Generation(1)).expect("claim"), Epoch::ZERO);
    let rows = many(0, 20_000);
    assert!(!deliver(&target, 1, 1, &rows).expect("first").already_there);
    assert!(deliver(&target, 1, 1, &rows).expect("second").already_there);
    assert!(!deliver(&target, 2, 1, &[]).expect("an epoch without rows").already_there);
    assert_eq!(sql(url, "SELECT count(*), sum(id), sum(amount) FROM twice"), ["20000|199990000|13999500.00"]);
    assert_eq!(target.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 20_000 }));
    assert_eq!(target.recount(Epoch(9)).expect("recount"), None);
    assert_eq!(target.claim(Generation(2)).expect("claim"), Epoch(2));
}

#[test]
fn a_zombie_is_fenced() {
    let url = &shared().url;
    let (old, new) = (target(url, &[("table", "fenced")], schema()), target(url, &[("table", "fenced")], schema()));
    old.claim(Generation(1)).expect("claim");
    deliver(&old, 1, 1, &many(0, 10)).expect("the old run delivers");
    assert_eq!(new.claim(Generation(2)).expect("claim"), Epoch(1));
    let error = deliver(&old, 2, 1, &many(10, 10)).expect_err("the old run is over");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Fenced, "PG0007", Some(Certainty::Definite)));
    assert_eq!(old.claim(Generation(1)).expect_err("nor may it claim").kind(), Kind::Fenced);
    deliver(&new, 2, 2, &many(10, 10)).expect("the new run delivers");
    assert_eq!(sql(url, "SELECT count(*), count(DISTINCT id) FROM fenced"), ["20|20"]);
}

#[test]
fn a_copy_of_the_project_takes_over_and_the_other_stops() {
    let url = &shared().url;
    let (original, copy) = (target(url, &[("table", "copied")], schema()), target(url, &[("table", "copied")], schema()));
    original.claim(Generation(4)).expect("claim");
    deliver(&original, 1, 4, &many(0, 10)).expect("delivered");
    // Its checkpoint was copied with it: the same epochs, the next generation the same.
    assert_eq!(copy.claim(Generation(4)).expect("claim"), Epoch(1));
    let error = deliver(&original, 2, 4, &many(10, 10)).expect_err("somebody else has claimed it");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Fenced, "PG0016", Some(Certainty::Definite)));
    assert!(!deliver(&copy, 2, 4, &many(20, 10)).expect("the copy delivers").already_there, "what the original has for the epoch is not taken for the copy's");
    assert_eq!(sql(url, "SELECT count(*), max(id) FROM copied"), ["20|29"]);
}

#[test]
fn a_transaction_opened_ahead_holds_nobody_up_and_overtakes_nobody() {
    let url = &shared().url;
    for (table, more) in [("ahead_append", vec![]), ("ahead_upsert", vec![("mode", "upsert"), ("key", "id")])] {
        let mut pairs = vec![("table", table)];
        pairs.extend(more);
        let (old, new) = (target(url, &pairs, schema()), target(url, &pairs, schema()));
        old.claim(Generation(1)).expect("claim");
        // Without a pause, with a gap, the same again, and with an epoch nobody expected.
        for epoch in [1, 2, 3, 5, 5, 6, 7, 9] {
            deliver(&old, epoch, 1, &many(epoch as i64 * 10, 10)).expect("delivered");
        }
        assert_eq!(sql(url, &format!("SELECT count(*), count(DISTINCT id) FROM {table}")), ["70|70"], "{table}");
        // Whoever alters the table waits for a moment at most, and is noticed by the transaction that was opened before.
        sql(url, &format!("SET lock_timeout = '5s'; ALTER TABLE {table} ADD COLUMN more text"));
        deliver(&old, 10, 1, &many(100, 10)).expect("a column that is none of ours");
        assert_eq!(new.claim(Generation(2)).expect("claim"), Epoch(10));
        assert_eq!(deliver(&old, 11, 1, &many(110, 10)).expect_err("overtaken").kind(), Kind::Fenced);
        deliver(&new, 11, 2, &many(110, 10)).expect("the new run delivers");
        assert_eq!(sql(url, &format!("SELECT count(*), count(DISTINCT id) FROM {table}")), ["90|90"], "{table}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_looked_for() {
    let server = shared();
    let proxy = Proxy::start(server.port, Duration::ZERO);
    for (table, more) in [("cut_append", vec![]), ("cut_upsert", vec![("mode", "upsert"), ("key", "id")]), ("cut_parts", vec![("connections", "3")])] {
        let mut pairs = vec![("table", table)];
        pairs.extend(more);
        let target = target(&server.through(proxy.port), &pairs, schema());
        target.claim(Generation(1)).expect("claim");
        let cuts = proxy.cuts();
        proxy.cut_next_commit();
        let rows = many(0, 30_000);
        let error = deliver(&target, 1, 1, &rows).expect_err("the answer is lost");
        assert_eq!((error.code(), error.certainty()), ("PG0009", Some(Certainty::Indefinite)), "{}", error.report());
        assert_eq!(proxy.cuts(), cuts + 1, "the fault fired");
        let again = deliver(&target, 1, 1, &rows).expect("the target connects by itself and looks");
        // Of three parts the others may or may not have heard of theirs.
        assert!(again.already_there || table == "cut_parts", "{table}");
        assert_eq!(sql(&server.url, &format!("SELECT count(*), count(DISTINCT id) FROM {table}")), ["30000|30000"], "{table}");
        assert_eq!(target.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 30_000 }));
    }
}

#[test]
fn a_commit_that_never_arrived_is_made_again() {
    let server = shared();
    let proxy = Proxy::start(server.port, Duration::ZERO);
    let target = target(&server.through(proxy.port), &[("table", "cut_before")], schema());
    target.claim(Generation(1)).expect("claim");
    proxy.cut_before_next_commit();
    let rows = many(0, 30_000);
    let error = deliver(&target, 1, 1, &rows).expect_err("the commit is lost");
    assert_eq!((error.code(), error.certainty()), ("PG0009", Some(Certainty::Indefinite)), "{}", error.report());
    assert_eq!(proxy.cuts(), 1, "the fault fired");
    assert!(!deliver(&target, 1, 1, &rows).expect("again").already_there);
    assert_eq!(sql(&server.url, "SELECT count(*), count(DISTINCT id) FROM cut_before"), ["30000|30000"]);
}

#[test]
fn a_claim_waits_for_the_delivery_under_way() {
    let url = &shared().url;
    let (old, new) = (target(url, &[("table", "overtaken")], schema()), target(url, &[("table", "overtaken")], schema()));
    old.claim(Generation(1)).expect("claim");
    thread::scope(|scope| {
        let mut rows = many(0, 70_000).into_iter().map(Ok).inspect(|_| thread::sleep(Duration::from_millis(50)));
        let delivery = scope.spawn(move || old.deliver(Epoch(1), Generation(1), &mut rows).map(|_| old));
        thread::sleep(Duration::from_millis(250));
        let shown = new.claim(Generation(2)).expect("claim");
        assert_eq!(shown, Epoch(1), "what was under way came first");
        let old = delivery.join().expect("no panic").expect("delivered");
        assert_eq!(deliver(&old, 2, 1, &many(70_000, 10)).expect_err("too late").kind(), Kind::Fenced);
    });
    assert_eq!(sql(url, "SELECT count(*) FROM overtaken"), ["70000"]);
}

#[test]
fn missing_parts_alone_are_repeated() {
    let url = &shared().url;
    let with = |connections| target(url, &[("table", "parts"), ("connections", connections)], schema());
    let three = with("3");
    three.claim(Generation(1)).expect("claim");
    let rows = many(0, 50_000);
    deliver(&three, 1, 1, &rows).expect("delivered");
    let whole = sql(url, "SELECT count(*), sum(id), sum(amount) FROM parts");
    assert_eq!(sql(url, "SELECT part, parts, rows FROM watershed.epochs WHERE app_id = 'parts' ORDER BY part"), ["0|3|17232", "1|3|16384", "2|3|16384"]);
    // As after a crash that let only the others commit. The repeat is asked to use one connection, and keeps to three parts.
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'parts' AND part = 1; DELETE FROM parts WHERE id / 4096 % 3 = 1");
    assert_eq!(three.last_epoch().expect("last epoch"), Epoch::ZERO, "an epoch in parts is not there");
    let one = with("1");
    assert!(!deliver(&one, 1, 1, &rows).expect("repeated").already_there);
    assert_eq!(sql(url, "SELECT count(*), sum(id), sum(amount) FROM parts"), whole);
    assert!(deliver(&three, 1, 1, &rows).expect("again").already_there);
    assert_eq!(sql(url, "SELECT count(*), sum(id), sum(amount) FROM parts"), whole);
}

/// Kills the server at a random moment of every epoch's delivery, and delivers until it is there.
fn survives_kills(table: &'static str, pairs: &[(&str, &str)], rounds: u64) {
    const ROWS: i64 = 60_000;
    let server = Arc::new(Server::start(true));
    let mut all = vec![("table", table), ("connect_timeout", "2s")];
    all.extend_from_slice(pairs);
    let target = target(&server.url, &all, schema());
    target.claim(Generation(1)).expect("claim");
    // Rows come in a little slower than they could, so that most kills meet a delivery.
    let slowly = |epoch: u64, rows: &[RecordBatch]| {
        let mut rows = rows.iter().cloned().map(Ok).inspect(|_| thread::sleep(Duration::from_millis(4)));
        target.deliver(Epoch(epoch), Generation(1), &mut rows)
    };
    let began = Instant::now();
    slowly(1, &many(0, ROWS)).expect("the first is left alone");
    let span = began.elapsed().as_micros() as u64 * 4 / 5;
    // Multiples of the golden ratio spread the moments over the delivery.
    let (mut failed, mut indefinite, mut resumed) = (0, 0, 0);
    for round in 1..=rounds {
        let epoch = round + 1;
        let rows = many(epoch as i64 * ROWS, ROWS);
        let delay = Duration::from_micros(span * (round * 6_180 % 10_000) / 10_000);
        let killed = Arc::new(AtomicBool::new(false));
        let killer = {
            let (server, killed) = (Arc::clone(&server), Arc::clone(&killed));
            thread::spawn(move || {
                thread::sleep(delay);
                server.kill();
                killed.store(true, Ordering::SeqCst);
                server.restart();
            })
        };
        // The script that kills takes about as long to start.
        thread::sleep(Duration::from_millis(35));
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 2_000, "epoch {epoch} never lands");
            match slowly(epoch, &rows) {
                Ok(delivered) => {
                    resumed += usize::from(delivered.already_there);
                    break;
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.report());
                    failed += usize::from(tries == 1);
                    indefinite += usize::from(error.certainty() == Some(Certainty::Indefinite));
                    assert!(error.certainty().is_some(), "{}", error.report());
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        killer.join().expect("the killer ends");
        assert!(killed.load(Ordering::SeqCst), "the fault fired");
    }
    println!("{table}: {rounds} kills, {failed} hit a delivery, {indefinite} at the commit, {resumed} found it there");
    assert!(failed as u64 * 3 > rounds, "too few kills hit a delivery: {failed} of {rounds}");
    let epochs = rounds as i64 + 1;
    let expected: i128 = (1..=epochs).map(|round| if round == 1 { 0 } else { round * ROWS }).flat_map(|first| first..first + ROWS).map(|id| i128::from(id) * 7 + 1).sum();
    assert_eq!(
        sql(&server.url, &format!("SELECT count(*), count(DISTINCT id), (sum(amount) * 100)::numeric(38,0) FROM {table}")),
        [format!("{0}|{0}|{expected}", epochs * ROWS)],
        "every row of every epoch once"
    );
    let recounted: u64 = (1..=epochs).map(|epoch| target.recount(Epoch(epoch as u64)).expect("recount").expect("is there").rows).sum();
    assert_eq!(recounted as i64, epochs * ROWS);
}

#[test]
fn appends_survive_kills() {
    survives_kills("kills_append", &[], 30);
}

#[test]
fn upserts_survive_kills() {
    survives_kills("kills_upsert", &[("mode", "upsert"), ("key", "id"), ("delete_when", "gone")], 20);
}

#[test]
fn parts_survive_kills() {
    survives_kills("kills_parts", &[("connections", "3")], 20);
}
