//! The target table: made with every type, checked, grown, kept in order.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    Time32SecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Field, Int64Type, Schema};
use watershed_ports::Target;
use watershed_types::{Epoch, Generation, Kind};

use crate::moto;
use crate::standin::StandIn;
use crate::support::*;

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).expect("a batch")
}

#[test]
fn every_type_arrives_as_it_was() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let all = rows(vec![
        ("Flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(-128), None]))),
        ("whole", Arc::new(Int32Array::from(vec![Some(i32::MIN), None]))),
        ("long", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("real", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(1e300), None]))),
        ("money", Arc::new(Decimal128Array::from(vec![Some(-1234), None]).with_precision_and_scale(9, 2).expect("a decimal"))),
        ("wide", Arc::new(Decimal128Array::from(vec![Some(10i128.pow(37)), None]).with_precision_and_scale(38, 10).expect("a decimal"))),
        ("text", Arc::new(StringArray::from(vec![Some("it's \\ é"), None]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&[0u8, 255, 16][..]), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None]))),
        ("time", Arc::new(Time32SecondArray::from(vec![Some(86_399), None]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(951_782_400_123), None]).with_timezone("+05:30"))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]))),
    ]);
    let every = target(&[("url", &url), ("table", "every_type"), ("compression", "zstd")], all.schema());
    every.claim(Generation(1)).expect("claim");
    deliver(&every, 1, 1, &[all]).expect("delivered");
    let columns = "flag, tiny, whole, long, u32, u64, \"real\", double, money, wide, text, encode(bytes, 'hex'), day, time, local, at AT TIME ZONE 'UTC', list";
    assert_eq!(
        sql(&format!("SELECT {columns} FROM every_type")),
        [
            "t|-128|-2147483648|9223372036854775807|4294967295|18446744073709551615|1.5|1e+300|-12.34|1000000000000000000000000000.0000000000|it's \\ é|00ff10|1969-12-31|23:59:59|1969-12-31 23:59:59.999999|2000-02-29 00:00:00.123|[1, null]",
            "∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅|∅",
        ]
    );
}

#[test]
fn keys_are_compared_as_the_table_has_them() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    // A session far from UTC.
    let url = standin.url() + "&options=-c%20TimeZone%3DAsia/Tokyo";
    let row = |value: i64| {
        rows(vec![
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"))),
            ("bytes", Arc::new(BinaryArray::from(vec![&[171u8, 205][..]]))),
            ("time", Arc::new(Time32SecondArray::from(vec![60]))),
            ("tiny", Arc::new(Int8Array::from(vec![7]))),
            ("value", Arc::new(Int64Array::from(vec![value]))),
        ])
    };
    let keyed = target(&[("url", &url), ("table", "keyed"), ("mode", "upsert"), ("key", "at, bytes, time, tiny")], row(0).schema());
    keyed.claim(Generation(1)).expect("claim");
    for epoch in 1..=3 {
        deliver(&keyed, epoch, 1, &[row(epoch as i64 * 10), row(epoch as i64)]).expect("delivered");
    }
    assert_eq!(sql("SELECT value, at AT TIME ZONE 'UTC' FROM keyed"), ["3|1970-01-01 00:00:00.000001"]);
}

#[test]
fn tables_grow_and_mismatches_are_told() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let narrow = rows(vec![("id", Arc::new(Int64Array::from(vec![1])))]);
    let wide = rows(vec![("note", Arc::new(StringArray::from(vec!["new"]))), ("id", Arc::new(Int64Array::from(vec![2])))]);
    let first = target(&[("url", &url), ("table", "shop.grows")], narrow.schema());
    first.claim(Generation(1)).expect("claim");
    deliver(&first, 1, 1, std::slice::from_ref(&narrow)).expect("delivered");
    let kept = target(&[("url", &url), ("table", "shop.grows"), ("grow", "false")], wide.schema()).claim(Generation(2)).expect_err("it may not grow");
    assert_eq!(kept.next_step(), Some("Run: ALTER TABLE \"shop\".\"grows\" ADD COLUMN \"note\" VARCHAR(65535);"));
    let second = target(&[("url", &url), ("table", "shop.grows")], wide.schema());
    assert_eq!(second.claim(Generation(3)).expect("claim"), Epoch(1));
    deliver(&second, 2, 3, std::slice::from_ref(&wide)).expect("delivered, in the table's order of columns");
    assert_eq!(sql("SELECT id, note FROM shop.grows ORDER BY id"), ["1|∅", "2|new"]);
    // Under way.
    sql("ALTER TABLE shop.grows DROP COLUMN note");
    let error = deliver(&second, 3, 3, std::slice::from_ref(&wide)).expect_err("a column is gone");
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "RSH0011"));
    sql("ALTER TABLE shop.grows ADD COLUMN note integer");
    let error = deliver(&second, 3, 3, std::slice::from_ref(&wide)).expect_err("another type");
    assert_eq!(error.code(), "RSH0005", "{}", error.report());
    sql("DROP TABLE shop.grows");
    assert_eq!(deliver(&second, 3, 3, &[wide]).expect_err("gone").code(), "RSH0006");
}

#[test]
fn housekeeping_runs_when_it_is_due() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let kept = target(&[("url", &url), ("table", "kept"), ("vacuum_every", "2"), ("vacuum", "delete only"), ("analyze_every", "1ms"), ("retention", "1 hour")], schema());
    kept.maintain().expect("nothing to do before the claim");
    kept.claim(Generation(1)).expect("claim");
    let kinds = |standin: &StandIn| -> Vec<String> { standin.log().into_iter().filter(|sql| sql.starts_with("VACUUM") || sql.starts_with("ANALYZE")).collect() };
    kept.maintain().expect("housekeeping");
    assert_eq!(kinds(&standin), Vec::<String>::new(), "no epoch, nothing to do");
    deliver(&kept, 1, 1, &many(0, 10)).expect("delivered");
    kept.maintain().expect("housekeeping");
    assert_eq!(kinds(&standin), ["ANALYZE \"public\".\"kept\""]);
    deliver(&kept, 2, 1, &many(10, 10)).expect("delivered");
    kept.maintain().expect("housekeeping");
    assert_eq!(kinds(&standin), ["VACUUM DELETE ONLY \"public\".\"kept\"", "ANALYZE \"public\".\"kept\""]);
    assert_eq!(moto::list("in/kept").len(), 4, "two epochs' part and manifest, kept for an hour");
}
