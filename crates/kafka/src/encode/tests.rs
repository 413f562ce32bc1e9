use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder, StringViewArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type};

use super::*;

fn lines(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("columns of one length");
    let encoder = RowEncoder::new(&batch).expect("every type has JSON");
    (0..batch.num_rows())
        .map(|row| {
            let mut out = Vec::new();
            encoder.row(row, &mut out);
            let text = String::from_utf8(out).expect("JSON is UTF-8");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON that parses");
            text
        })
        .collect()
}

#[test]
fn every_type_is_json_that_says_exactly_what_the_column_held() {
    let amounts = Decimal128Array::from(vec![Some(-5), Some(123_456_789_012_345_678_901), None]).with_precision_and_scale(38, 2).expect("fits");
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k\"1");
    map.values().append_value("v");
    map.append(true).expect("one key, one value");
    map.append(true).expect("empty");
    map.append(false).expect("null");
    let nested = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef)]);
    let found = lines(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0)]))),
        ("d", Arc::new(amounts)),
        ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN, f64::INFINITY]))),
        ("t", Arc::new(StringArray::from(vec!["a \"quoted\"\nline\u{1}", "plain", "naïve \\ 😀"]))),
        ("v", Arc::new(StringViewArray::from(vec![Some("a view that is longer than twelve bytes"), None, Some("")]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_767_225_600_123_456, 1_767_225_600_120_000, -1]).with_timezone("UTC"))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![1_767_225_600_000, 0, 951_782_400_000]))),
        ("day", Arc::new(Date32Array::from(vec![20_454, 0, -1]))),
        ("raw", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"a"]))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![]), None]))),
        ("map", Arc::new(map.finish())),
        ("s", Arc::new(nested)),
    ]);
    assert_eq!(
        found[0],
        "{\"i\":-9223372036854775808,\"d\":-0.05,\"f\":1.5,\"t\":\"a \\\"quoted\\\"\\nline\\u0001\",\"v\":\"a view that is longer than twelve bytes\",\"b\":true,\
         \"at\":\"2026-01-01T00:00:00.123456Z\",\"ms\":\"2026-01-01T00:00:00Z\",\"day\":\"2026-01-01\",\"raw\":\"00ff\",\"list\":[1,null],\"map\":{\"k\\\"1\":\"v\"},\"s\":{\"x\":1}}"
    );
    assert_eq!(
        found[1],
        "{\"i\":null,\"d\":1234567890123456789.01,\"f\":null,\"t\":\"plain\",\"v\":null,\"b\":false,\"at\":\"2026-01-01T00:00:00.120Z\",\"ms\":\"1970-01-01T00:00:00Z\",\"day\":\"1970-01-01\",\
         \"raw\":\"\",\"list\":[],\"map\":{},\"s\":{\"x\":null}}"
    );
    let third: serde_json::Value = serde_json::from_str(&found[2]).expect("parses");
    assert_eq!(third["t"], "naïve \\ 😀");
    assert_eq!(third["at"], "1969-12-31T23:59:59.999999Z");
    assert_eq!(third["ms"], "2000-02-29T00:00:00Z");
    assert_eq!(third["day"], "1969-12-31");
    assert!(third["d"].is_null() && third["f"].is_null() && third["list"].is_null() && third["map"].is_null());
}

#[test]
fn times_read_as_the_rest_of_the_product_writes_them() {
    for micros in [0, 1, 1_000, 1_500_000, -62_167_219_200_000_000, 253_402_300_799_999_999, 1_709_164_800_000_000, -1_000_001] {
        let mut out = Vec::new();
        timestamp(micros, &mut out);
        let expected = chrono::DateTime::from_timestamp_micros(micros).expect("in range").to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        assert_eq!(String::from_utf8(out).expect("ASCII"), format!("\"{expected}\""));
    }
}

#[test]
fn keys_are_text_without_quotes() {
    let mut out = Vec::new();
    let day: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None]));
    let column = TextColumn::new("day", &day).expect("dates have text");
    assert!(column.append(0, &mut out) && !column.append(1, &mut out));
    assert_eq!(out, b"1970-01-01");
}
