//! Every type, through the binary COPY, as SQL reads it back.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use watershed_ports::Target;
use watershed_types::Generation;

use crate::support::*;

/// Name, column of three rows (the last one NULL), its type in the table, and what SQL says of the first two.
type Case = (&'static str, ArrayRef, &'static str, [&'static str; 2]);

fn cases() -> Vec<Case> {
    let decimal = |values: [i128; 2], precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![Some(values[0]), Some(values[1]), None]).with_precision_and_scale(precision, scale).expect("a decimal"))
    };
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(1), None, Some(-3)]);
    lists.append_value([]);
    lists.append_null();
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    maps.keys().append_value("a\"b");
    maps.values().append_value(1.5);
    maps.append(true).expect("a map");
    maps.append(true).expect("an empty map");
    maps.append(false).expect("no map");
    let inner: Fields = vec![Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true), Field::new("price", DataType::Decimal128(9, 3), true)].into();
    let structs = StructArray::new(
        inner,
        vec![
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, None]).with_timezone("UTC")),
            Arc::new(Decimal128Array::from(vec![Some(-1), Some(1_234_567), None]).with_precision_and_scale(9, 3).expect("a decimal")),
        ],
        Some(vec![true, true, false].into()),
    );
    let mut fixed = FixedSizeBinaryBuilder::new(2);
    fixed.append_value([1, 255]).expect("two bytes");
    fixed.append_value([0, 0]).expect("two bytes");
    fixed.append_null();
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), Some("y"), None].into_iter().collect();
    vec![
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])), "boolean", ["t", "f"]),
        ("int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None])), "smallint", ["-128", "127"]),
        ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None])), "smallint", ["-32768", "32767"]),
        ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None])), "integer", ["-2147483648", "2147483647"]),
        ("int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])), "bigint", ["-9223372036854775808", "9223372036854775807"]),
        ("uint8", Arc::new(UInt8Array::from(vec![Some(0), Some(255), None])), "smallint", ["0", "255"]),
        ("uint16", Arc::new(UInt16Array::from(vec![Some(0), Some(u16::MAX), None])), "integer", ["0", "65535"]),
        ("uint32", Arc::new(UInt32Array::from(vec![Some(0), Some(u32::MAX), None])), "bigint", ["0", "4294967295"]),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(0), Some(u64::MAX), None])), "numeric(20,0)", ["0", "18446744073709551615"]),
        ("float32", Arc::new(Float32Array::from(vec![Some(1.5e-40), Some(f32::NEG_INFINITY), None])), "real", ["1.5e-40", "-Infinity"]),
        ("float64", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None])), "double precision", ["0.1", "NaN"]),
        ("decimal", decimal([123_456_789, -1], 18, 2), "numeric(18,2)", ["1234567.89", "-0.01"]),
        ("decimal_wide", decimal([10i128.pow(38) - 1, 0], 38, 10), "numeric(38,10)", ["9999999999999999999999999999.9999999999", "0.0000000000"]),
        ("decimal_small", decimal([1, 120_000], 38, 37), "numeric(38,37)", ["0.0000000000000000000000000000000000001", "0.0000000000000000000000000000000120000"]),
        ("decimal_whole", decimal([10_000, -70_001_000], 20, 0), "numeric(20,0)", ["10000", "-70001000"]),
        ("utf8", Arc::new(StringArray::from(vec![Some("Zoë | 'q' \\ 🦀"), Some(""), None])), "text", ["Zoë | 'q' \\ 🦀", ""]),
        ("large_utf8", Arc::new(LargeStringArray::from(vec![Some("a"), Some("b"), None])), "text", ["a", "b"]),
        ("utf8_view", Arc::new(StringViewArray::from(vec![Some("longer than twelve bytes"), Some("short"), None])), "text", ["longer than twelve bytes", "short"]),
        ("binary", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(b""), None])), "bytea", ["\\x00ff", "\\x"]),
        ("large_binary", Arc::new(LargeBinaryArray::from(vec![Some(&b"a"[..]), Some(b"b"), None])), "bytea", ["\\x61", "\\x62"]),
        ("binary_view", Arc::new(BinaryViewArray::from(vec![Some(&b"a"[..]), Some(b"b"), None])), "bytea", ["\\x61", "\\x62"]),
        ("fixed_binary", Arc::new(fixed.finish()), "bytea", ["\\x01ff", "\\x0000"]),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), Some(19_782), None])), "date", ["1969-12-31", "2024-02-29"]),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(1), Some(86_399_999_999), None])), "time without time zone", ["00:00:00.000001", "23:59:59.999999"]),
        ("time_millis", Arc::new(Time32MillisecondArray::from(vec![Some(1), Some(0), None])), "time without time zone", ["00:00:00.001", "00:00:00"]),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1_700_000_000_123_456), None])),
            "timestamp without time zone",
            ["1969-12-31 23:59:59.999999", "2023-11-14 22:13:20.123456"],
        ),
        (
            "timestamptz",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1_700_000_000_123_456), None]).with_timezone("UTC")),
            "timestamp with time zone",
            ["1969-12-31 23:59:59.999999+00", "2023-11-14 22:13:20.123456+00"],
        ),
        ("timestamp_seconds", Arc::new(TimestampSecondArray::from(vec![Some(0), Some(1), None])), "timestamp without time zone", ["1970-01-01 00:00:00", "1970-01-01 00:00:01"]),
        (
            "timestamp_millis",
            Arc::new(TimestampMillisecondArray::from(vec![Some(0), Some(1), None])),
            "timestamp without time zone",
            ["1970-01-01 00:00:00", "1970-01-01 00:00:00.001"],
        ),
        ("list", Arc::new(lists.finish()), "jsonb", ["[1, null, -3]", "[]"]),
        ("map", Arc::new(maps.finish()), "jsonb", ["{\"a\\\"b\": 1.5}", "{}"]),
        ("struct", Arc::new(structs), "jsonb", ["{\"at\": \"2023-11-14T22:13:20.123456Z\", \"price\": -0.001}", "{\"at\": null, \"price\": 1234.567}"]),
        ("dictionary", Arc::new(dictionary), "text", ["x", "y"]),
    ]
}

fn as_batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.iter().map(|(_, column)| Arc::clone(column)).collect()).expect("a batch")
}

#[test]
fn every_type_reads_back_as_it_was() {
    let url = &shared().url;
    let cases = cases();
    let whole = as_batch(&cases.iter().map(|case| (case.0, Arc::clone(&case.1))).collect::<Vec<_>>());
    for (table, more) in [("every_type", vec![]), ("every_type_upserted", vec![("mode", "upsert"), ("key", "int64")])] {
        let mut pairs = vec![("table", table)];
        pairs.extend(more);
        let target = target(url, &pairs, whole.schema());
        target.claim(Generation(1)).expect("claim");
        // A slice: offsets into the columns must count.
        let rows = if table == "every_type" { vec![whole.clone()] } else { vec![whole.slice(1, 1), whole.slice(0, 1)] };
        assert_eq!(deliver(&target, 1, 1, &rows).expect("delivered").refused, []);
        for (name, _, type_name, values) in &cases {
            let found = sql(url, &format!("SELECT \"{name}\" FROM {table} ORDER BY int64 NULLS LAST"));
            assert_eq!(found[..2], *values, "{name}");
            assert!(table != "every_type" || found[2] == "∅", "{name}");
            assert_eq!(sql(url, &format!("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = '{name}'")), [*type_name]);
        }
    }
}

#[test]
fn columns_that_are_there_take_what_fits() {
    let url = &shared().url;
    sql(
        url,
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN positive AS int8 CHECK (VALUE > 0);
         CREATE TABLE others (small int8, number numeric, price positive, name varchar(20), tag mood, id uuid, doc jsonb, raw json, wide float8)",
    );
    let text = |value: [&str; 3]| -> ArrayRef { Arc::new(StringArray::from(value.to_vec())) };
    let batch = as_batch(&[
        ("small", Arc::new(Int16Array::from(vec![-5, 0, 0]))),
        ("number", Arc::new(Int64Array::from(vec![i64::MIN, 0, 0]))),
        ("price", Arc::new(Int32Array::from(vec![10, 10, -1]))),
        ("name", text(["a", "a", "a"])),
        ("tag", text(["good", "indifferent", "bad"])),
        ("id", text(["0190aab8-0000-7000-8000-00000000beef", "0190aab8-0000-7000-8000-00000000beef", "0190aab8-0000-7000-8000-00000000beef"])),
        ("doc", text(["{\"a\": [1]}", "{}", "{}"])),
        ("raw", text(["[1]", "[]", "[]"])),
        ("wide", Arc::new(Float32Array::from(vec![0.5, 0.5, 0.5]))),
    ]);
    let target = target(url, &[("table", "others")], batch.schema());
    target.claim(Generation(1)).expect("claim");
    let delivered = deliver(&target, 1, 1, &[batch]).expect("delivered");
    assert_eq!(delivered.refused.len(), 2, "{:?}", delivered.refused);
    assert!(delivered.refused[0].detail.contains("invalid input value for enum mood"), "{:?}", delivered.refused);
    assert!(delivered.refused[1].detail.contains("violates check constraint \"positive_check\""), "{:?}", delivered.refused);
    assert_eq!(sql(url, "SELECT * FROM others"), ["-5|-9223372036854775808|10|a|good|0190aab8-0000-7000-8000-00000000beef|{\"a\": [1]}|[1]|0.5"]);
}

#[test]
fn values_postgres_does_not_have_are_refused() {
    let url = &shared().url;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 0, 1, 1, 1, 1]));
    let nul = ListArray::new(Arc::new(Field::new("item", DataType::Utf8, true)), offsets, Arc::new(StringArray::from(vec!["nul\0"])), None);
    let batch = as_batch(&[
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 0, -250_000_000_000_000_000, i64::MIN, 0]))),
        ("day", Arc::new(Date32Array::from(vec![0, 0, 0, 0, i32::MAX]))),
        ("list", Arc::new(nul)),
    ]);
    let target = target(url, &[("table", "no_such_values")], batch.schema());
    target.claim(Generation(1)).expect("claim");
    let refused: Vec<String> = deliver(&target, 1, 1, &[batch]).expect("delivered").refused.into_iter().map(|row| format!("{} {}", row.row, row.detail)).collect();
    assert_eq!(
        refused,
        [
            "1 column \"list\" holds text with a NUL byte (0x00), which Postgres cannot store",
            "2 column \"at\" holds a timestamp that is out of Postgres' range",
            "3 column \"at\" holds a timestamp that is out of Postgres' range",
            "4 column \"day\" holds a date that is out of Postgres' range",
        ]
    );
}
