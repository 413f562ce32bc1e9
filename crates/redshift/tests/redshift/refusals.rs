//! Rows that are not taken: exactly those, with the reason, and the others land.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, Time64MicrosecondArray, TimestampSecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use watershed_ports::{Recount, RefusedRow, Target};
use watershed_types::{Certainty, Epoch, Generation, Kind};

use crate::moto;
use crate::standin::{POISON, StandIn};
use crate::support::*;

fn ordinals(refused: &[RefusedRow]) -> Vec<u64> {
    refused.iter().map(|row| row.row).collect()
}

#[test]
fn what_the_columns_cannot_hold_is_found_without_the_server() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let point = Field::new("x", DataType::Utf8, true);
    let moment = Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Second, None), true));
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("code", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Second, Some("+02:00".into())), true),
        Field::new("time", DataType::Time64(TimeUnit::Microsecond), true),
        Field::new("point", DataType::Struct(vec![point.clone()].into()), true),
        Field::new("day", DataType::Date32, true),
        Field::new("when", DataType::List(moment.clone()), true),
    ];
    let schema = Arc::new(Schema::new(fields));
    sql("CREATE TABLE narrow (id int8 NOT NULL, name varchar(10), code char(2), at timestamptz, time time, point super, day date, \"when\" super)");
    let narrow = target(&[("url", &url), ("table", "narrow")], Arc::clone(&schema));
    narrow.claim(Generation(1)).expect("claim");
    let long = "x".repeat(70_000);
    let texts = |values: [&str; 10]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(2), Some(3), None, Some(5), Some(6), Some(7), Some(8), Some(9)])),
        texts(["fine", "éééééé", "nul\0", "fine", "fine", "fine", "fine", "fine", "fine", "fine"]),
        texts(["ab", "ab", "ab", "é", "ab", "ab", "ab", "ab", "ab", "ab"]),
        Arc::new(TimestampSecondArray::from(vec![0, 0, 0, 0, 0, i64::MAX / 1_000, 0, 0, 0, 0]).with_timezone("+02:00")),
        Arc::new(Time64MicrosecondArray::from(vec![1, 1, 1, 1, 1, 1, -1, 1, 1, 1])),
        Arc::new(StructArray::from(vec![(Arc::new(point), texts(["é\"", "", "", "", "", "", "", &long, "", ""]))])),
        Arc::new(Date32Array::from(vec![0, 0, 0, 0, 0, 0, 0, 0, i32::MAX, 0])),
        Arc::new(ListArray::new(moment, OffsetBuffer::from_lengths([1; 10]), Arc::new(TimestampSecondArray::from(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, i64::MAX])), None)),
    ];
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch");
    let delivered = deliver(&narrow, 1, 1, std::slice::from_ref(&rows)).expect("delivered");
    let said: Vec<String> = delivered.refused.iter().map(|row| format!("{} {}", row.row, row.detail)).collect();
    assert_eq!(
        said,
        [
            "1 column \"name\" holds text of 12 bytes, and the table takes 10",
            "2 column \"name\" holds text with a NUL byte (0x00), which Redshift cannot store",
            "3 column \"code\" holds text beyond ASCII, which CHAR does not take",
            "4 column \"id\" holds NULL, and the table takes none",
            "5 column \"at\" holds a timestamp that is out of Redshift's range",
            "6 column \"time\" holds a time of day that is out of range",
            "7 column \"point\" holds JSON of 70008 bytes, and 65535 can be loaded",
            "8 column \"day\" holds a date that is out of Redshift's range",
            "9 column \"when\" holds a nested value that has no JSON form",
        ]
    );
    assert_eq!(standin.loads(), 2, "the rows and the list of the refused ones: no trial");
    assert_eq!(
        sql("SELECT id, name, code, at AT TIME ZONE 'UTC', time, point, day, \"when\" FROM narrow"),
        ["0|fine|ab|1970-01-01 00:00:00|00:00:00.000001|{\"x\": \"é\\\"\"}|1970-01-01|[\"1970-01-01T00:00:00\"]"]
    );
    let again = deliver(&narrow, 1, 1, &[rows]).expect("again");
    assert!(again.already_there);
    assert_eq!(again.refused, delivered.refused, "the refusals of then");
}

#[test]
fn rows_that_the_load_refuses_are_found_by_halving() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let bad = target(&[("url", &url), ("table", "bad_load"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone")], schema());
    bad.claim(Generation(1)).expect("claim");
    let mut rows: Vec<(Option<i64>, &str, i128, bool)> = (0..3_000).map(|id| (Some(id), "fine", 100, false)).collect();
    for row in [0, 1, 1_717, 2_999] {
        rows[row].1 = POISON;
    }
    rows[5].0 = None;
    rows.push((Some(7), "later", 700, false));
    rows.push((Some(7), POISON, 900, false)); // refused: the one before it counts
    let batches: Vec<_> = rows.chunks(700).map(batch).collect();
    let delivered = deliver(&bad, 1, 1, &batches).expect("delivered");
    assert_eq!(ordinals(&delivered.refused), [0, 1, 5, 1_717, 2_999, 3_001]);
    assert_eq!(delivered.refused[0].detail, "Invalid value (column \"name\")", "Redshift's own words");
    assert_eq!(delivered.refused[2].detail, "column \"id\" holds NULL, and it is part of the key");
    assert!(standin.loads() < 100, "{} loads", standin.loads());
    assert_eq!(sql("SELECT count(*), count(DISTINCT id) FROM bad_load"), ["2995|2995"]);
    assert_eq!(sql("SELECT name, amount FROM bad_load WHERE id = 7"), ["later|7.00"]);
    assert_eq!(sql("SELECT \"rows\", refused FROM watershed.epochs WHERE app_id = 'bad_load'"), ["2996|6"]);
    let again = deliver(&bad, 1, 1, &batches).expect("again");
    assert!(again.already_there);
    assert_eq!(again.refused, delivered.refused, "the refusals of then");
    assert_eq!(bad.recount(Epoch(1)).expect("recount"), Some(Recount { rows: 2_996 }));
    assert_eq!(moto::list("in/bad_load"), Vec::<String>::new());
}

#[test]
fn a_row_that_only_the_insert_refuses_is_found_too() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    // Postgres' jsonb takes no NUL in its text, and says so where Redshift would parse: after the load.
    let point = Field::new("x", DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![Field::new("point", DataType::Struct(vec![point.clone()].into()), true)]));
    let bad = target(&[("url", &url), ("table", "bad_insert")], Arc::clone(&schema));
    bad.claim(Generation(1)).expect("claim");
    let texts: Vec<&str> = (0..500).map(|row| if row == 321 { "a\0" } else { "a" }).collect();
    let column: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(point), Arc::new(StringArray::from(texts)) as ArrayRef)]));
    let delivered = deliver(&bad, 1, 1, &[RecordBatch::try_new(schema, vec![column]).expect("a batch")]).expect("delivered");
    assert_eq!(ordinals(&delivered.refused), [321]);
    assert!(delivered.refused[0].detail.contains("unsupported Unicode escape sequence"), "{}", delivered.refused[0].detail);
    assert_eq!(sql("SELECT count(*) FROM bad_insert"), ["499"]);
}

#[test]
fn what_no_row_is_to_blame_for_is_an_error() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let many_bad = target(&[("url", &url), ("table", "many_bad"), ("max_probes", "5")], schema());
    many_bad.claim(Generation(1)).expect("claim");
    let rows: Vec<_> = (0..100).map(|id| (Some(id), if id % 10 == 0 { POISON } else { "fine" }, 1, false)).collect();
    let error = deliver(&many_bad, 1, 1, &[batch(&rows)]).expect_err("too many");
    assert_eq!((error.code(), error.certainty()), ("RSH0016", Some(Certainty::Definite)), "{}", error.report());
    // A constraint of the table itself is in no trial.
    sql("CREATE TABLE checked (id int8, name text CHECK (name <> 'fine'), amount numeric(18,2), gone bool); ALTER TABLE checked ALTER name TYPE varchar(20)");
    let checked = target(&[("url", &url), ("table", "checked")], schema());
    checked.claim(Generation(1)).expect("claim");
    let error = deliver(&checked, 1, 1, &[batch(&rows[1..2])]).expect_err("refused");
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "RSH0016"), "{}", error.report());
    assert_eq!(sql("SELECT (SELECT count(*) FROM many_bad) + (SELECT count(*) FROM checked)"), ["0"]);
}
