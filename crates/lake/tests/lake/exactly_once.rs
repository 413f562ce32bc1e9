use std::sync::Barrier;

use watershed_lake::{Lake, LakeOptions};
use watershed_ports::{CommitOutcome, Sink, Staged};
use watershed_types::{Certainty, Epoch, Generation, Kind};

use crate::support::*;

#[test]
fn a_repeated_commit_changes_nothing_in_this_process_or_the_next() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 100)?;
    let table = lake.table(&batch.schema(), &[])?;
    assert_eq!(table.last_epoch()?, Epoch::ZERO);
    let staged = stage(&table, 1, std::slice::from_ref(&batch))?;
    assert_eq!((staged.rows, table.count_rows(true)?.rows), (100, 0), "nothing is visible before the commit");
    assert_eq!(table.commit(Epoch(1), Generation(1), std::slice::from_ref(&staged))?, CommitOutcome::Committed);
    assert_eq!(table.commit(Epoch(1), Generation(1), std::slice::from_ref(&staged))?, CommitOutcome::AlreadyThere);

    // The next process has only what the manifest kept.
    let staged: Staged = serde_json::from_str(&serde_json::to_string(&staged)?)?;
    let again = lake.table(&batch.schema(), &[])?;
    assert_eq!(again.last_epoch()?, Epoch(1));
    assert_eq!(again.commit(Epoch(1), Generation(2), &[staged])?, CommitOutcome::AlreadyThere);
    assert_eq!(lake.number(&again, "SELECT count(*) FROM t")?, 100);
    assert_eq!(again.count_rows(false)?, again.count_rows(true)?);
    Ok(())
}

#[test]
fn of_many_handles_that_commit_one_epoch_one_wins() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 10)?;
    for round in 1..=10_u64 {
        let tables: Vec<_> = (0..4).map(|_| lake.table(&batch.schema(), &[])).collect::<Result<_, _>>()?;
        let staged: Vec<_> = tables.iter().map(|table| stage(table, round, std::slice::from_ref(&batch))).collect::<Result<_, _>>()?;
        let barrier = Barrier::new(tables.len());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = tables
                .iter()
                .zip(&staged)
                .map(|(table, staged)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        table.commit(Epoch(round), Generation(1), std::slice::from_ref(staged))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
        })?;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == CommitOutcome::Committed).count(), 1, "{outcomes:?}");
    }
    let table = lake.table(&batch.schema(), &[])?;
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t")?, 100);
    Ok(())
}

#[test]
fn what_was_staged_before_a_crash_stays_invisible_until_committed() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 10)?;
    let table = lake.table(&batch.schema(), &[])?;
    write(&table, 1, std::slice::from_ref(&batch))?;
    let lost = stage(&table, 2, std::slice::from_ref(&batch))?;
    drop(table);
    let table = lake.table(&batch.schema(), &[])?;
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t")?, 10);
    // The epoch is made anew with other slices; the first attempt's files belong to nobody.
    write(&table, 2, &[ids(10, 3)?, ids(13, 4)?])?;
    assert_eq!(table.commit(Epoch(2), Generation(1), &[lost])?, CommitOutcome::AlreadyThere);
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT id) FROM t")?, 17);
    Ok(())
}

#[test]
fn writers_of_several_threads_make_one_commit_and_an_empty_epoch_none() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 1000)?;
    let table = lake.table(&batch.schema(), &[])?;
    let before = table.version();
    let staged: Vec<Staged> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|lane| {
                let table = &table;
                scope.spawn(move || stage(table, 1, &[ids(lane * 1000, 1000).expect("a batch")]).expect("staged"))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    table.commit(Epoch(1), Generation(1), &staged)?;
    assert_eq!(table.version(), before + 1);
    assert_eq!(write(&table, 2, &[])?, CommitOutcome::Committed);
    assert_eq!((table.version(), table.last_epoch()?), (before + 1, Epoch(1)));
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT id) FROM t")?, 4000);
    Ok(())
}

#[test]
fn a_commit_whose_files_are_gone_is_refused_and_surely_did_not_happen() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 10)?;
    let table = lake.table(&batch.schema(), &[])?;
    let staged = stage(&table, 1, &[batch])?;
    let path = staged.payload["files"][0]["path"].as_str().ok_or("no path")?.to_owned();
    std::fs::remove_file(lake.folder.path().join("my lake/silver/orders").join(path))?;
    let refused = table.commit(Epoch(1), Generation(1), &[staged]).expect_err("the file is gone");
    assert_eq!((refused.kind(), refused.certainty(), refused.code()), (Kind::Corrupt, Some(Certainty::Definite), "LAKE0009"));
    assert_eq!(table.last_epoch()?, Epoch::ZERO);
    Ok(())
}

#[test]
fn two_pipelines_append_to_one_table_without_losing_an_epoch() -> Any {
    let lake = fixture()?;
    let schema = ids(0, 1)?.schema();
    let tables: Vec<_> = ["one", "two"]
        .iter()
        .map(|app| {
            let mut wanted = spec(&schema, &[]);
            wanted.app_id = (*app).to_owned();
            lake.lake.table(wanted)
        })
        .collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        for (lane, table) in tables.iter().enumerate() {
            scope.spawn(move || {
                for epoch in 1..=20_u64 {
                    let batch = ids(lane as i64 * 1000 + epoch as i64, 1).expect("a batch");
                    write(table, epoch, &[batch]).expect("committed");
                }
            });
        }
    });
    assert_eq!(lake.number(&tables[0], "SELECT count(DISTINCT id) FROM t")?, 40);
    assert!(tables.iter().all(|table| table.last_epoch().is_ok_and(|epoch| epoch == Epoch(20))));
    Ok(())
}

#[test]
fn many_epochs_are_quick_and_leave_a_checkpoint() -> Any {
    let lake = fixture()?;
    let batch = ids(0, 10)?;
    let table = lake.table(&batch.schema(), &[])?;
    let mut times = Vec::new();
    for epoch in 1..=210 {
        let staged = stage(&table, epoch, std::slice::from_ref(&batch))?;
        let started = std::time::Instant::now();
        table.commit(Epoch(epoch), Generation(1), &[staged])?;
        times.push(started.elapsed());
    }
    times.sort();
    println!("commit p50 {:?} p99 {:?}", times[105], times[208]);
    assert!(times[105] < std::time::Duration::from_millis(30), "{:?}", times[105]);
    let checkpoint = lake.folder.path().join("my lake/silver/orders/_delta_log/00000000000000000200.checkpoint.parquet");
    let waited = std::time::Instant::now();
    while !checkpoint.exists() && waited.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(checkpoint.exists());
    let again = lake.table(&batch.schema(), &[])?;
    assert_eq!((again.last_epoch()?, again.count_rows(false)?.rows), (Epoch(210), 2100));
    Ok(())
}

#[test]
fn a_table_in_memory_is_found_by_its_url() -> Any {
    let fixture = fixture()?;
    let lake = Lake::open(LakeOptions::new("memory://exactly-once/lake"), fixture.runtime.handle().clone())?;
    let batch = ids(0, 50_000)?;
    let table = lake.table(spec(&batch.schema(), &[]))?;
    assert_eq!(write(&table, 1, std::slice::from_ref(&batch))?, CommitOutcome::Committed);
    let again = lake.table(spec(&batch.schema(), &[]))?;
    assert_eq!(write(&again, 1, &[batch])?, CommitOutcome::AlreadyThere);
    assert_eq!(fixture.number(&table, "SELECT count(*) FROM t")?, 50_000);
    assert_eq!((table.verify(true)?, table.count_rows(true)?.rows), (Vec::new(), 50_000));
    assert_eq!(lake.existing_tables()?.len(), 1);
    Ok(())
}
