//! Epochs given back, old lines added up, dead rows cleared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use watershed_ports::{EpochRows, Folded, KeptEpochs, RefusedRow, Target};
use watershed_types::{Epoch, Error, Generation, Result};

use crate::support::*;

/// What the engine keeps: an epoch's rows, and which of them were refused.
#[derive(Default)]
struct Kept(BTreeMap<u64, (Vec<RecordBatch>, Vec<RefusedRow>)>);

impl KeptEpochs for Kept {
    fn rows(&self, epoch: Epoch) -> Result<EpochRows<'_>> {
        let (rows, _) = self.0.get(&epoch.0).ok_or_else(|| Error::invalid("TEST0001", "not kept"))?;
        Ok(Box::new(rows.iter().cloned().map(Ok)))
    }
    fn refused(&self, epoch: Epoch) -> Result<Vec<RefusedRow>> {
        Ok(self.0.get(&epoch.0).map(|(_, refused)| refused.clone()).unwrap_or_default())
    }
}

#[test]
fn a_lost_epoch_comes_back_beside_the_run_that_owns_the_table() {
    let url = &shared().url;
    let running = target(url, &[("table", "given_back")], schema());
    running.claim(Generation(3)).expect("claim");
    let mut kept = Kept::default();
    for epoch in 1..=4 {
        let rows = many(epoch * 10_000, 9_000);
        deliver(&running, epoch as u64, 3, &rows).expect("delivered");
        kept.0.insert(epoch as u64, (rows, vec![]));
    }
    let whole = sql(url, "SELECT count(*), sum(id), sum(amount) FROM given_back");
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'given_back' AND epoch IN (2, 3); DELETE FROM given_back WHERE id BETWEEN 20000 AND 39999");
    assert_eq!(running.history().expect("history").epochs.keys().copied().collect::<Vec<_>>(), [1, 4]);
    // Another process, as `verify --repair` is: it never claims.
    let repairing = target(url, &[("table", "given_back")], schema());
    let redriven = repairing.redrive(&[Epoch(2), Epoch(3)], &kept).expect("given back");
    assert_eq!(redriven.epochs, BTreeMap::from([(2, 9_000), (3, 9_000)]));
    assert!(redriven.again.is_empty(), "rows are only added: the others are left alone");
    assert_eq!(sql(url, "SELECT count(*), sum(id), sum(amount) FROM given_back"), whole);
    assert_eq!(sql(url, "SELECT DISTINCT generation FROM watershed.epochs WHERE app_id = 'given_back'"), ["3"]);
    assert!(repairing.redrive(&[Epoch(2), Epoch(3)], &kept).expect("nothing to do").epochs.is_empty(), "a repeat changes nothing");
    deliver(&running, 5, 3, &many(50_000, 10)).expect("the run still owns it");
    assert_eq!(sql(url, "SELECT count(*) FROM given_back"), ["36010"]);
    // What is not kept is not given back, and nothing else is either.
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'given_back' AND epoch IN (1, 5); DELETE FROM given_back WHERE id < 20000 OR id >= 50000");
    let error = repairing.redrive(&[Epoch(1), Epoch(5)], &kept).expect_err("epoch 5 is not kept");
    assert_eq!(error.code(), "TEST0001");
    assert_eq!(sql(url, "SELECT count(*) FROM given_back"), ["27000"], "all or nothing");
}

#[test]
fn an_old_epoch_that_comes_back_overwrites_no_newer_value() {
    let url = &shared().url;
    let pairs = [("table", "keyed_back"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone")];
    let running = target(url, &pairs, schema());
    running.claim(Generation(1)).expect("claim");
    let mut kept = Kept::default();
    // Key 1 is written in all epochs; 2 in the first two; 3 is made in the second and deleted in the third; 4 only in the second.
    let epochs = [
        vec![(Some(1), "first", 1, false), (Some(2), "first", 1, false)],
        vec![(Some(1), "second", 2, false), (Some(2), "second", 2, false), (Some(3), "second", 2, false), (Some(4), "second", 2, false)],
        vec![(Some(1), "third", 3, false), (Some(3), "third", 3, true)],
    ];
    for (epoch, rows) in (1..).zip(&epochs) {
        deliver(&running, epoch, 1, &[batch(rows)]).expect("delivered");
        kept.0.insert(epoch, (vec![batch(rows)], vec![]));
    }
    let all = "SELECT id, name, amount FROM keyed_back ORDER BY id";
    let whole = sql(url, all);
    assert_eq!(whole, ["1|third|0.03", "2|second|0.02", "4|second|0.02"]);
    // As after somebody put the second epoch's keys back to what they were before it.
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'keyed_back' AND epoch = 2; DELETE FROM keyed_back WHERE id = 4; UPDATE keyed_back SET name = 'first' WHERE id = 2");
    let redriven = target(url, &pairs, schema()).redrive(&[Epoch(2)], &kept).expect("given back");
    assert_eq!((redriven.epochs, redriven.again), (BTreeMap::from([(2, 4)]), vec![3]));
    assert_eq!(sql(url, all), whole);
    assert_eq!(running.history().expect("history").epochs, BTreeMap::from([(1, 2), (2, 4), (3, 2)]));
}

#[test]
fn rows_that_were_refused_then_stay_out() {
    let url = &shared().url;
    sql(url, "CREATE TABLE refused_then (id int8 CHECK (id <> 7), name text, amount numeric(18,2), gone bool)");
    let pairs = [("table", "refused_then")];
    let running = target(url, &pairs, schema());
    running.claim(Generation(1)).expect("claim");
    let rows = many(0, 10);
    let refused = deliver(&running, 1, 1, &rows).expect("delivered").refused;
    assert_eq!(refused.iter().map(|row| row.row).collect::<Vec<_>>(), [7]);
    // The table was mended and the row came again with a replay, in an epoch of its own.
    sql(url, "ALTER TABLE refused_then DROP CONSTRAINT refused_then_id_check");
    deliver(&running, 2, 1, &many(7, 1)).expect("replayed");
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'refused_then' AND epoch = 1; DELETE FROM refused_then WHERE id <> 7");
    let kept = Kept(BTreeMap::from([(1, (rows, refused))]));
    let redriven = target(url, &pairs, schema()).redrive(&[Epoch(1)], &kept).expect("given back");
    assert_eq!(redriven.epochs, BTreeMap::from([(1, 9)]));
    assert_eq!(sql(url, "SELECT count(*), count(DISTINCT id) FROM refused_then"), ["10|10"], "row 7 is there once");
    assert!(deliver(&running, 1, 1, &many(0, 10)).expect("asked again").refused.len() == 1, "the refusal is remembered");
    // A constraint that came later refuses what was taken then: a person has to decide.
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'refused_then' AND epoch = 1; DELETE FROM refused_then WHERE id <> 7; ALTER TABLE refused_then ADD CHECK (id <> 3)");
    let error = target(url, &pairs, schema()).redrive(&[Epoch(1)], &kept).expect_err("refused now");
    assert_eq!(error.code(), "PG0015", "{}", error.report());
    assert!(error.message().contains("refused_then_id_check"), "{}", error.message());
    assert_eq!(sql(url, "SELECT count(*) FROM refused_then"), ["1"]);
}

#[test]
fn a_missing_part_comes_back_alone() {
    let url = &shared().url;
    let target = target(url, &[("table", "parts_back"), ("connections", "3")], schema());
    target.claim(Generation(1)).expect("claim");
    let rows = many(0, 50_000);
    deliver(&target, 1, 1, &rows).expect("delivered");
    let whole = sql(url, "SELECT count(*), sum(id), sum(amount) FROM parts_back");
    sql(url, "DELETE FROM watershed.epochs WHERE app_id = 'parts_back' AND part = 1; DELETE FROM parts_back WHERE id / 4096 % 3 = 1");
    let redriven = target.redrive(&[Epoch(1)], &Kept(BTreeMap::from([(1, (rows, vec![]))]))).expect("given back");
    assert_eq!(redriven.epochs, BTreeMap::from([(1, 50_000)]));
    assert_eq!(sql(url, "SELECT count(*), sum(id), sum(amount) FROM parts_back"), whole);
    assert_eq!(target.last_epoch().expect("last epoch"), Epoch(1));
}

#[test]
fn old_lines_are_added_up_and_the_sums_still_hold() {
    let url = &shared().url;
    let target = target(url, &[("table", "folded"), ("keep_epochs", "100")], schema());
    target.claim(Generation(1)).expect("claim");
    for epoch in 1..=232 {
        // Not every epoch has rows for every sink.
        if epoch % 7 != 0 {
            deliver(&target, epoch, 1, &many(epoch as i64 * 10, 3)).expect("delivered");
        }
    }
    // Lines went in epochs that are multiples of five: the last was 230.
    assert_eq!(sql(url, "SELECT min(epoch), max(epoch) FROM watershed.epochs WHERE app_id = 'folded'"), ["131|232"]);
    let history = target.history().expect("history");
    let gone = (1..=130).filter(|epoch| epoch % 7 != 0).count() as u64;
    assert_eq!(history.folded, Folded { up_to: 130, epochs: gone, rows: gone * 3 });
    assert_eq!(history.epochs.values().sum::<u64>() + history.folded.rows, history.rows_now.expect("an appended table is counted"));
    assert!(deliver(&target, 232, 1, &many(2_320, 3)).expect("asked again").already_there);
    assert_eq!(target.claim(Generation(2)).expect("claim"), Epoch(232));
}

#[test]
fn dead_rows_are_told_of_or_cleared() {
    let url = &shared().url;
    sql(url, "CREATE TABLE dead (id int8 PRIMARY KEY, name text, amount numeric(18,2), gone bool) WITH (autovacuum_enabled = off)");
    let with = |vacuum| target(url, &[("table", "dead"), ("mode", "upsert"), ("key", "id"), ("vacuum", vacuum), ("analyze_every_epochs", "2")], schema());
    let advising = with("advise");
    advising.claim(Generation(1)).expect("claim");
    for epoch in 1..=3 {
        deliver(&advising, epoch, 1, &many(0, 12_000)).expect("delivered");
    }
    // The server counts a session's dead rows some time after its transaction.
    let until = Instant::now() + Duration::from_secs(60);
    let advice = loop {
        advising.maintain().expect("housekeeping");
        if let Some(advice) = advising.advice() {
            break advice;
        }
        assert!(Instant::now() < until, "the server never counted the dead rows");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(advice.contains("run VACUUM \"public\".\"dead\""), "{advice}");
    assert_eq!(sql(url, "SELECT analyze_count > 0, vacuum_count FROM pg_stat_user_tables WHERE relname = 'dead'"), ["t|0"]);
    let clearing = with("auto");
    clearing.maintain().expect("housekeeping");
    assert_eq!(clearing.advice(), None);
    assert_eq!(sql(url, "SELECT vacuum_count, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'dead'"), ["1|0"]);
    let idle = with("off");
    idle.maintain().expect("housekeeping");
    assert_eq!(idle.advice(), None);
}
