use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use watershed_ports::Sink;

use crate::support::*;

#[test]
fn values_of_every_spelling_come_back_as_they_went_in() -> Any {
    let lake = fixture()?;
    let long = "long ".repeat(100);
    let places = [Some("plain"), None, Some("a/b"), Some("k=v"), Some("two words"), Some("Zürich ☂"), Some("50%"), Some("%2F"), Some(long.as_str()), Some("..")];
    let rows = 400;
    let place: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|row| places[row % places.len()])));
    let year: ArrayRef = Arc::new(Int32Array::from_iter((0..rows).map(|row| if row % 3 == 0 { None } else { Some(2025 + (row % 3) as i32) })));
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let batch = RecordBatch::try_from_iter(vec![("id", id), ("place", place), ("year", year)])?;
    let table = lake.table(&batch.schema(), &["year", "place"])?;
    write(&table, 1, std::slice::from_ref(&batch))?;
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t")?, rows as i64);
    assert_eq!(table.verify(true)?, Vec::<String>::new());
    for (number, place) in places.iter().enumerate() {
        let condition = place.map_or("place IS NULL".to_owned(), |place| format!("place = '{place}'"));
        let found = lake.number(&table, &format!("SELECT count(*) FROM t WHERE {condition} AND id % 10 = {number}"))?;
        assert_eq!(found, rows as i64 / 10, "{place:?}");
    }
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t WHERE year IS NULL")?, 134);
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t WHERE year = 2026 AND id % 3 = 1")?, 133);
    assert!(lake.folder.path().join("my lake/silver/orders/year=2026/place=a%2Fb").is_dir());
    // Nothing of a live table is garbage, however its folders are spelt.
    assert_eq!(table.vacuum_older_than(std::time::Duration::ZERO)?.files, 0);
    assert_eq!(table.verify(true)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn an_empty_text_keeps_its_row() -> Any {
    let lake = fixture()?;
    let place: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("x")]));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter(vec![("id", id), ("place", place)])?;
    let table = lake.table(&batch.schema(), &["place"])?;
    write(&table, 1, &[batch])?;
    println!("{}", lake.query(&table, "SELECT id, place, place IS NULL AS missing FROM t ORDER BY id")?);
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t WHERE id = 1 AND coalesce(place, '') = ''")?, 1);
    assert_eq!(lake.number(&table, "SELECT count(*) FROM t WHERE id = 2 AND place IS NULL")?, 1);
    Ok(())
}

#[test]
fn more_partitions_than_open_files_lose_no_row_and_keep_the_order() -> Any {
    let lake = fixture()?;
    let batches: Vec<RecordBatch> = (0..8_i64)
        .map(|number| {
            let id: ArrayRef = Arc::new(Int64Array::from_iter_values(number * 2000..(number + 1) * 2000));
            let shop: ArrayRef = Arc::new(Int32Array::from_iter_values((0..2000).map(|row| (row * 7919 + number as i32) % 500)));
            Ok(RecordBatch::try_from_iter(vec![("id", id), ("shop", shop)])?)
        })
        .collect::<Any<_>>()?;
    let table = lake.table(&batches[0].schema(), &["shop"])?;
    let staged = stage(&table, 1, &batches)?;
    let files = staged.payload["files"].as_array().ok_or("no files")?.len();
    assert!(files > 500, "{files}");
    table.commit(watershed_types::Epoch(1), watershed_types::Generation(1), &[staged])?;
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT id) FROM t")?, 16_000);
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT shop) FROM t")?, 500);
    assert_eq!(table.count_rows(true)?.rows, 16_000);
    assert_eq!(table.verify(true)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn files_roll_at_the_target_size() -> Any {
    let lake = fixture_with(|options| options.target_file_bytes = 256 << 10)?;
    let schema = ids(0, 1)?.schema();
    let table = lake.table(&schema, &[])?;
    let batches: Vec<RecordBatch> = (0..40).map(|number| ids(number * 8192, 8192)).collect::<Any<_>>()?;
    write(&table, 1, &batches)?;
    let counts = table.count_rows(true)?;
    assert!(counts.files >= 4, "{counts:?}");
    assert_eq!(counts.rows, 40 * 8192);
    assert_eq!(lake.number(&table, "SELECT count(DISTINCT id) FROM t")?, 40 * 8192);
    Ok(())
}

#[test]
fn timestamps_dates_and_decimals_can_be_partitions() -> Any {
    let lake = fixture()?;
    let day: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![20_000, -5]));
    let at: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![1_790_000_000_123_456, -1]));
    let price: ArrayRef = Arc::new(arrow::array::Decimal128Array::from(vec![-12_345_i128, 5]).with_precision_and_scale(9, 2)?);
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter(vec![("id", id), ("day", day), ("at", at), ("price", price)])?;
    let table = lake.table(&batch.schema(), &["day", "at", "price"])?;
    write(&table, 1, &[batch])?;
    let found = lake.query(&table, "SELECT id, CAST(day AS VARCHAR) d, CAST(at AS VARCHAR) a, CAST(price AS VARCHAR) p FROM t ORDER BY id")?;
    for part in ["2024-10-04", "123456", "-123.45", "1969-12-27", "1969-12-31T23:59:59.999999", "0.05"] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    Ok(())
}
