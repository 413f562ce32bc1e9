use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use watershed_lake::{LakeTable, TableSpec};
use watershed_types::Kind;

use crate::support::*;

fn nested() -> Any<RecordBatch> {
    let mut tags = MapBuilder::new(None, StringViewBuilder::new(), StringViewBuilder::new());
    let mut items = ListBuilder::new(StringViewBuilder::new());
    for row in 0..3 {
        if row == 1 {
            tags.append(false)?;
            items.append(false);
            continue;
        }
        tags.keys().append_value("channel");
        tags.values().append_value(format!("web {row}"));
        tags.keys().append_value("empty");
        tags.values().append_null();
        tags.append(true)?;
        items.values().append_value("one");
        items.values().append_null();
        items.append(true);
    }
    let pair = StructArray::from(vec![
        (
            Arc::new(Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true)),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(3)])) as ArrayRef,
        ),
        (Arc::new(Field::new("count", DataType::UInt32, false)), Arc::new(UInt32Array::from(vec![1, 2, u32::MAX])) as ArrayRef),
    ]);
    Ok(RecordBatch::try_from_iter(vec![
        ("small", Arc::new(Int8Array::from(vec![1, 2, 3])) as ArrayRef),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("price", Arc::new(Decimal128Array::from(vec![12_345, -1, 0]).with_precision_and_scale(12, 2)?)),
        ("wide", Arc::new(Decimal128Array::from(vec![10_i128.pow(30), -1, 0]).with_precision_and_scale(38, 4)?)),
        ("naive", Arc::new(TimestampMicrosecondArray::from(vec![1_790_000_000_000_001, 0, -1]))),
        ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![1_790_000_000_000_001, 0, -1]).with_timezone("+02:00"))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![1_790_000_000_000_001_000, 0, 1000]))),
        ("day", Arc::new(Date32Array::from(vec![0, 20_000, -1]))),
        ("many", Arc::new(UInt64Array::from(vec![0, 1, i64::MAX as u64]))),
        ("ratio", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
        ("text", Arc::new(StringViewArray::from(vec![Some("a longer text than twelve bytes"), None, Some("")]))),
        ("hash", Arc::new(BinaryViewArray::from(vec![Some(b"\x00\xff".as_slice()), None, Some(b"")]))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4], [5, 6]].into_iter())?)),
        ("word", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("red"), Some("blue"), None]))),
        ("tags", Arc::new(tags.finish())),
        ("items", Arc::new(items.finish())),
        ("pair", Arc::new(pair)),
    ])?)
}

#[test]
fn every_type_makes_the_round_trip() -> Any {
    let lake = fixture()?;
    let batch = nested()?;
    let table = lake.table(&batch.schema(), &[])?;
    write(&table, 1, &[batch])?;
    let found = lake.query(
        &table,
        "SELECT small, flag, price, wide, naive, zoned, nanos, day, many, ratio, text, encode(hash, 'hex') AS hash, encode(fixed, 'hex') AS fixed, word, tags, items, pair FROM t ORDER BY small",
    )?;
    println!("{found}");
    let expected = [
        "123.45",
        "100000000000000000000000000.0000",
        "2026-09-21T",
        "9223372036854775807",
        "NaN",
        "a longer text than twelve bytes",
        "00ff",
        "0506",
        "blue",
        "{channel: web 0, empty: }",
        "[one, ]",
        "count: 4294967295",
    ];
    for part in expected {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    let same = lake.number(&table, "SELECT count(*) FROM t WHERE naive = zoned AND (nanos = naive OR small = 3)")?;
    assert_eq!(same, 3);
    // Statistics must not hide rows.
    for condition in
        ["price >= 0.00 AND price < 200", "ratio > 5", "text = ''", "many > 5", "wide > 1000", "naive < '1970-01-01'", "day < '1970-01-01'", "pair['count'] > 4000000000"]
    {
        assert_eq!(lake.number(&table, &format!("SELECT count(*) FROM t WHERE {condition}"))?, if condition.starts_with("price") { 2 } else { 1 }, "{condition}");
    }
    Ok(())
}

#[test]
fn a_number_too_large_for_the_table_is_an_error_and_no_null() -> Any {
    let lake = fixture()?;
    let many: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let batch = RecordBatch::try_from_iter(vec![("many", many)])?;
    let table = lake.table(&batch.schema(), &[])?;
    let refused = stage(&table, 1, &[batch]).expect_err("it does not fit");
    assert!(refused.to_string().contains("column \"many\""), "{refused}");
    Ok(())
}

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect::<Vec<_>>()))
}

#[test]
fn a_table_grows_with_its_query_and_keeps_what_the_query_drops() -> Any {
    let lake = fixture()?;
    let table = lake.table(&schema(vec![("id", DataType::Int64), ("old", DataType::Utf8)]), &[])?;
    let id = |from: i64| Arc::new(Int64Array::from(vec![from, from + 1])) as ArrayRef;
    let text = |value: &str| Arc::new(StringArray::from(vec![value, value])) as ArrayRef;
    write(&table, 1, &[RecordBatch::try_from_iter(vec![("id", id(1)), ("old", text("o"))])?])?;

    let grown = lake.table(&schema(vec![("new", DataType::Utf8View), ("id", DataType::Int64)]), &[])?;
    let new: ArrayRef = Arc::new(StringViewArray::from(vec!["n", "n"]));
    write(&grown, 2, &[RecordBatch::try_from_iter(vec![("new", new), ("id", id(3))])?])?;
    let names: Vec<String> = grown.schema()?.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "old", "new"]);
    assert_eq!(lake.number(&grown, "SELECT count(*) FROM t WHERE (old IS NULL) <> (new IS NULL)")?, 4);
    assert_eq!(lake.number(&grown, "SELECT sum(id) FROM t WHERE new = 'n'")?, 7);

    // A writer that still has the old columns goes on: growing takes nothing from it.
    write(&table, 3, &[RecordBatch::try_from_iter(vec![("id", id(5)), ("old", text("o"))])?])?;
    assert_eq!(lake.number(&grown, "SELECT count(*) FROM t WHERE new IS NULL")?, 4);
    Ok(())
}

#[test]
fn changes_that_do_not_fit_are_refused_by_name() -> Any {
    let lake = fixture()?;
    lake.table(&schema(vec![("id", DataType::Int64), ("day", DataType::Date32)]), &["day"])?;
    let refuse = |fields: Vec<(&str, DataType)>, by: &[&str], word: &str| -> Any {
        let refused = lake.lake.table(spec(&schema(fields), by)).err().ok_or("it was not refused")?;
        assert_eq!((refused.kind(), refused.code()), (Kind::Invalid, "LAKE0003"), "{refused}");
        assert!(refused.message().contains(word) && refused.next_step().is_some(), "{}", refused.report());
        println!("{}\n", refused.report());
        Ok(())
    };
    refuse(vec![("id", DataType::Utf8), ("day", DataType::Date32)], &["day"], "column \"id\" is")?;
    refuse(vec![("id", DataType::Int64), ("day", DataType::Date32)], &[], "partitioned by (day)")?;
    refuse(vec![("id", DataType::Int64)], &["day"], "\"day\"")?;
    refuse(vec![("ID", DataType::Int64), ("day", DataType::Date32)], &["day"], "\"ID\"")?;
    refuse(vec![("day", DataType::Date32)], &["day"], "partition column")?;
    let odd = lake.lake.table(spec(&schema(vec![("length", DataType::Duration(arrow::datatypes::TimeUnit::Second))]), &[]));
    assert!(odd.is_err_and(|refused| refused.code() == "LAKE0002"));
    Ok(())
}

/// A table whose rows change by `id`: columns of `fields`, and a last one that says whether a row is gone.
fn changing(lake: &Fixture, fields: Vec<(&str, DataType)>) -> std::result::Result<Arc<LakeTable>, watershed_types::Error> {
    let fields = fields.into_iter().chain([("_deleted", DataType::Boolean)]).collect();
    lake.lake.table(TableSpec { key: Some(vec!["id".to_owned()]), ..spec(&schema(fields), &[]) })
}

#[test]
fn rows_that_are_written_again_keep_columns_that_the_query_does_not_make_any_more() -> Any {
    let lake = fixture()?;
    let numbers = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let stays = |rows: usize| Arc::new(BooleanArray::from(vec![false; rows])) as ArrayRef;
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let first = changing(&lake, vec![("id", DataType::Int64), ("n", DataType::Int64), ("note", DataType::Utf8)])?;
    write(&first, 1, &[RecordBatch::try_from_iter(vec![("id", numbers(&[1, 2, 3])), ("n", numbers(&[10, 20, 30])), ("note", text(&["a", "b", "c"])), ("_deleted", stays(3))])?])?;

    let second = changing(&lake, vec![("n", DataType::Int64), ("id", DataType::Int64)])?;
    write(&second, 2, &[RecordBatch::try_from_iter(vec![("n", numbers(&[21])), ("id", numbers(&[2])), ("_deleted", stays(1))])?])?;
    assert_eq!(lake.number(&second, "SELECT count(*) FROM t WHERE note = 'a' AND n = 10 OR note = 'c' AND n = 30")?, 2, "nothing came for these");
    assert_eq!(lake.number(&second, "SELECT n FROM t WHERE id = 2 AND note IS NULL")?, 21);
    assert_eq!(lake.number(&second, "SELECT count(*) FROM t")?, 3);
    Ok(())
}

#[test]
fn rows_that_change_and_rows_that_are_final_do_not_share_a_table() -> Any {
    let lake = fixture()?;
    let fields = || vec![("id", DataType::Int64), ("n", DataType::Int64)];
    changing(&lake, fields())?;
    let refused = lake.lake.table(spec(&schema(fields()), &[])).err().ok_or("it was not refused")?;
    assert_eq!(refused.code(), "LAKE0003", "{}", refused.report());
    assert!(refused.message().contains("its rows change, by (id), and the query's are final"), "{}", refused.report());
    let other = TableSpec { key: Some(vec!["n".to_owned()]), ..spec(&schema(vec![("id", DataType::Int64), ("n", DataType::Int64), ("_deleted", DataType::Boolean)]), &[]) };
    assert!(lake.lake.table(other).err().is_some_and(|refused| refused.message().contains("by (id), and the query's change, by (n)")));
    changing(&lake, fields())?;
    Ok(())
}
