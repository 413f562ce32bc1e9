use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use watershed_lake::Lake;
use watershed_ports::Sink;
use watershed_types::Epoch;

use crate::support::*;

#[test]
fn compaction_beside_appends_keeps_every_row_and_every_epoch() -> Any {
    let lake = fixture_with(|options| options.compact_min_files = 4)?;
    let table = lake.table(&ids(0, 1)?.schema(), &[])?;
    let done = AtomicBool::new(false);
    let compacted = std::thread::scope(|scope| {
        let appends = scope.spawn(|| {
            for epoch in 1..=50_u64 {
                write(&table, epoch, &[ids(epoch as i64 * 100, 100).expect("a batch")]).expect("committed");
                std::thread::sleep(Duration::from_millis(5));
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut times = 0;
        while !done.load(Ordering::SeqCst) {
            let compacted = table.compact().expect("compacted");
            times += u64::from(compacted.files_after > 0);
        }
        appends.join().expect("no panic");
        times
    });
    assert!(compacted >= 2, "{compacted}");
    table.compact()?;
    let counts = table.count_rows(true)?;
    assert_eq!(counts.rows, 5000);
    assert!(counts.files < 10, "{counts:?}");
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT id) FROM t")?, 5000);
    assert_eq!(table.last_epoch()?, Epoch(50));
    assert_eq!(table.verify(true)?, Vec::<String>::new());
    let again = lake.table(&ids(0, 1)?.schema(), &[])?;
    assert_eq!(write(&again, 50, &[ids(0, 100)?])?, watershed_ports::CommitOutcome::AlreadyThere);

    // The files that were replaced go only once they are old; then nothing else goes.
    assert_eq!(again.vacuum()?.files, 0);
    std::thread::sleep(Duration::from_millis(20));
    assert!(again.vacuum_older_than(Duration::ZERO)?.files >= 50 - counts.files);
    assert_eq!(lake.number(&again, "SELECT count(DISTINCT id) FROM t")?, 5000);
    assert_eq!(again.verify(true)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn compaction_spans_partitions_and_columns_of_other_days() -> Any {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, Int64Array, StringViewArray};
    let lake = fixture_with(|options| options.compact_min_files = 3)?;
    let id = |epoch: i64| Arc::new(Int64Array::from_iter_values(epoch * 10..epoch * 10 + 10)) as ArrayRef;
    let shop = || Arc::new(Int32Array::from_iter((0..10).map(|row| if row % 5 == 0 { None } else { Some(row % 2) }))) as ArrayRef;
    let old = RecordBatch::try_from_iter(vec![("id", id(1)), ("shop", shop())])?;
    let table = lake.table(&old.schema(), &["shop"])?;
    write(&table, 1, &[old])?;
    let name: ArrayRef = Arc::new(StringViewArray::from(vec!["a name of some length"; 10]));
    for epoch in 2..=5 {
        let batch = RecordBatch::try_from_iter(vec![("id", id(epoch)), ("shop", shop()), ("name", name.clone())])?;
        let table = lake.table(&batch.schema(), &["shop"])?;
        write(&table, epoch as u64, &[batch])?;
    }
    let before = lake.query(&table, "SELECT * FROM t ORDER BY id")?;
    let compacted = table.compact()?;
    assert_eq!((compacted.files_before, compacted.files_after, compacted.rows, compacted.given_up), (15, 3, 50, 0));
    assert_eq!(lake.query(&table, "SELECT * FROM t ORDER BY id")?, before);
    assert_eq!(table.compact()?.files_after, 0);
    assert_eq!((table.count_rows(false)?.rows, table.count_rows(true)?.files), (50, 3));
    Ok(())
}

#[test]
fn two_compactions_at_once_do_not_double_rows() -> Any {
    let lake = fixture_with(|options| options.compact_min_files = 2)?;
    let schema = ids(0, 1)?.schema();
    let one = lake.table(&schema, &[])?;
    let two = lake.table(&schema, &[])?;
    for epoch in 1..=20_u64 {
        write(&one, epoch, &[ids(epoch as i64 * 100, 100)?])?;
    }
    std::thread::scope(|scope| {
        for table in [&one, &two] {
            scope.spawn(move || table.compact().expect("compacted or given up"));
        }
    });
    assert_eq!((one.count_rows(true)?.rows, lake.number(&two, "SELECT count(DISTINCT id) FROM t")?), (2000, 2000));
    assert_eq!(one.verify(true)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn cleaning_spares_epochs_that_are_not_committed_yet() -> Any {
    let lake = fixture()?;
    let table = lake.table(&ids(0, 1)?.schema(), &[])?;
    write(&table, 1, &[ids(0, 10)?])?;
    let lost = stage(&table, 1, &[ids(0, 10)?])?;
    let waiting = stage(&table, 2, &[ids(10, 10)?])?;
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(table.vacuum_older_than(Duration::ZERO)?.files, 1, "only what epoch 1 left behind");
    assert_eq!(lost.rows, 10);
    table.commit(Epoch(2), watershed_types::Generation(1), &[waiting])?;
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t")?, 20);
    table.maintain()?;
    Ok(())
}

#[test]
fn verify_names_what_is_missing_and_what_is_cut() -> Any {
    let lake = fixture()?;
    let table = lake.table(&ids(0, 1)?.schema(), &[])?;
    for epoch in 1..=3 {
        write(&table, epoch, &[ids(epoch as i64 * 10, 10)?])?;
    }
    let root = lake.folder.path().join("my lake/silver/orders");
    let mut files: Vec<_> = std::fs::read_dir(&root)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    std::fs::remove_file(&files[0])?;
    std::fs::OpenOptions::new().write(true).open(&files[1])?.set_len(100)?;
    let length = std::fs::metadata(&files[2])?.len();
    std::fs::write(&files[2], vec![0; length as usize])?;
    let shallow = table.verify(false)?;
    let deep = table.verify(true)?;
    println!("{deep:#?}");
    assert_eq!((shallow.len(), deep.len()), (2, 3));
    assert!(shallow.iter().any(|line| line.contains("is missing")) && shallow.iter().any(|line| line.contains("has 100 bytes")));
    assert!(deep.iter().any(|line| line.contains("cannot be read")));
    Ok(())
}

#[test]
fn the_lake_lists_its_tables() -> Any {
    let lake = fixture()?;
    let schema = ids(0, 1)?.schema();
    for (folder, name) in [("silver", "b"), ("system", "ledger"), ("gold", "a")] {
        let mut wanted = spec(&schema, &[]);
        (wanted.folder, wanted.name) = (folder.into(), name.into());
        lake.lake.table(wanted)?;
    }
    let url = format!("file://{}", lake.folder.path().join("my%20lake").display());
    let by_url = Lake::open(watershed_lake::LakeOptions::new(url), lake.runtime.handle().clone())?;
    let found = by_url.existing_tables()?;
    assert_eq!(found, lake.lake.existing_tables()?);
    let names: Vec<_> = found.iter().map(|table| format!("{}/{}", table.folder, table.name)).collect();
    assert_eq!(names, ["gold/a", "silver/b", "system/ledger"]);
    let mut bad = spec(&schema, &[]);
    bad.name = "../up".into();
    assert!(lake.lake.table(bad).is_err_and(|refused| refused.code() == "LAKE0014"));
    Ok(())
}

#[test]
fn an_existing_table_is_opened_without_a_trace() -> Any {
    let lake = fixture()?;
    assert!(lake.lake.open_existing("silver", "orders")?.is_none());
    assert!(!lake.folder.path().join("my lake/silver").exists());
    let table = lake.table(&ids(0, 1)?.schema(), &[])?;
    write(&table, 1, &[ids(0, 70)?])?;
    let version = table.version();
    let found = lake.lake.open_existing("silver", "orders")?.ok_or("it is there")?;
    assert_eq!(found.count_rows(true)?.rows, 70);
    assert_eq!(found.verify(true)?, Vec::<String>::new());
    assert_eq!(found.version(), version);
    Ok(())
}
