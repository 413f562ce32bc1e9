//! Which value is a value of which type, and that a refused record leaves no trace.

mod common;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use common::*;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use watershed_codec::{Decoder, Format, Scratch};
use watershed_types::Reason;

#[test]
fn values_are_strict_by_type() {
    let refused = |data_type: DataType, value: &str| {
        let (reason, detail) = refusal(vec![column("x", data_type, false)], format!("{{\"x\":{value}}}"));
        assert_eq!(reason, Reason::Schema);
        detail
    };
    let amount = || DataType::Decimal128(12, 2);
    assert_eq!(refused(amount(), "\"12.5\""), "column \"x\": expected DECIMAL(12,2), found the string \"12.5\"");
    assert_eq!(refused(amount(), "12.345"), "column \"x\": expected DECIMAL(12,2), found the number 12.345, which has more than 2 fractional digits");
    assert_eq!(refused(amount(), "1e10"), "column \"x\": expected DECIMAL(12,2), found the number 1e10, which has more than 10 digits before the point");
    assert_eq!(refused(DataType::Utf8View, "5"), "column \"x\": expected VARCHAR, found the number 5");
    assert_eq!(refused(DataType::Int16, "32768"), "column \"x\": expected SMALLINT, found the number 32768, which is out of range");
    assert_eq!(refused(DataType::Int64, "9223372036854775808"), "column \"x\": expected BIGINT, found the number 9223372036854775808, which is out of range");
    assert_eq!(refused(DataType::Int32, "1.0"), "column \"x\": expected INT, found the number 1.0");
    assert_eq!(refused(DataType::Float64, "1e400"), "column \"x\": expected DOUBLE, found the number 1e400, which is out of range");
    assert_eq!(refused(DataType::Float32, "1e39"), "column \"x\": expected REAL, found the number 1e39, which is out of range");
    assert_eq!(refused(DataType::Boolean, "1"), "column \"x\": expected BOOLEAN, found the number 1");
    assert_eq!(refused(DataType::Boolean, "{}"), "column \"x\": expected BOOLEAN, found an object");
    assert!(refused(TIMESTAMP, "\"2023-02-29\"").starts_with("column \"x\": expected TIMESTAMP, found the string \"2023-02-29\", which is"));
    assert!(refused(DataType::Date32, "\"2024-1-1\"").starts_with("column \"x\": expected DATE, found the string \"2024-1-1\""));
    assert_eq!(refused(DataType::BinaryView, "\"a\""), "column \"x\": expected BYTEA, found the string \"a\", which is not base64");
    assert_eq!(refused(DataType::Int32, "null"), "column \"x\" is NOT NULL but null");
    assert_eq!(refused(list_of(DataType::Int32, false), "[1,null]"), "column \"x[1]\" is NOT NULL but null");
    assert_eq!(refused(map_of(DataType::Int32), "{\"k\":\"v\"}"), "column \"x['k']\": expected INT, found the string \"v\"");
    let (reason, detail) = refusal(vec![column("x", DataType::Int32, false)], "{\"y\":1}");
    assert_eq!((reason, detail.as_str()), (Reason::Schema, "column \"x\" is NOT NULL but missing"));
}

#[test]
fn every_type_reads_its_values() {
    let inner = DataType::Struct(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8View, false)].into());
    let columns = vec![
        column("bool", DataType::Boolean, true),
        column("small", DataType::Int16, true),
        column("big", DataType::Int64, true),
        column("real", DataType::Float32, true),
        column("double", DataType::Float64, true),
        column("amount", DataType::Decimal128(38, 10), true),
        column("bytes", DataType::BinaryView, true),
        column("day", DataType::Date32, true),
        column("at", TIMESTAMP, true),
        column("list", list_of(list_of(DataType::Decimal128(5, 2), true), true), true),
        column("map", map_of(inner.clone()), true),
        column("inner", inner, true),
    ];
    let text = concat!(
        r#"{"bool":true,"small":-32768,"big":-9223372036854775808,"real":3,"double":-2.5e-3,"amount":-1234567890123456789012345678.0123456789,"#,
        r#""bytes":"aGk=","day":"2024-02-29","at":"2024-02-29T01:00:00+01:00","list":[[1.5,null],null,[]],"map":{"k\n":{"b":"x"},"l":null},"inner":{"b":"\u00e9","a":1,"z":[]}}"#,
        "\r\n\n",
        r#"{"unknown":{"deep":[1,{"x":"\""}]}}"#,
        "\n",
        r#"{"inner":{"a":1,"a":2,"b":"y"},"big":1,"map":{"a":{"b":"1"},"a":{"b":"2"},"\u0061":{"b":"3"}},"big":"no","big":7,"list":[],"at":"2024\u002d01-01"}"#,
    );
    let decoded = decode(columns, Format::Json, &lines(text));
    assert_eq!(decoded.refused, []);
    assert_eq!(
        show(&decoded.batch),
        [
            "true|-32768|-9223372036854775808|3.0|-0.0025|-1234567890123456789012345678.0123456789|6869|2024-02-29|2024-02-29T00:00:00|[[1.50, NULL], NULL, []]|{k\n: {a: NULL, b: x}, l: NULL}|{a: 1, b: é}",
            "NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
            "NULL|NULL|7|NULL|NULL|NULL|NULL|NULL|2024-01-01T00:00:00|[]|{a: {a: NULL, b: 3}}|{a: 2, b: y}",
        ]
    );
    let spans: Vec<_> = decoded.records.iter().map(|&(start, end)| &text[start as usize..end as usize]).collect();
    assert_eq!(spans, text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>());
}

/// Rows with nested values, in one of several spellings that mean the same or nothing at all.
fn random_record(random: &mut SmallRng, good: bool) -> String {
    let texts = ["plain", "a longer text than twelve bytes", "é😀", "", "with \"quotes\" and \\"];
    let mut fields = vec![
        format!("\"t\":{}", serde_json::json!(texts.choose(random))),
        format!("\"d\":{}.{:02}", random.random_range(-99..99), random.random_range(0..100)),
        format!("\"l\":[{}]", (0..random.random_range(0..4)).map(|n| format!("{{\"s\":\"i{n}\"}}")).collect::<Vec<_>>().join(",")),
        format!("\"m\":{{{}}}", (0..random.random_range(0..20)).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(", ")),
    ];
    if random.random_bool(0.3) {
        fields.swap(0, 3);
    }
    if random.random_bool(0.2) {
        fields.remove(2);
    }
    if random.random_bool(0.3) {
        fields.insert(1, "\"extra\" : [1, {\"t\":2}]".to_owned());
    }
    if !good {
        let bad = ["\"d\":1.234", "\"l\":[{\"s\":\"x\"},{\"s\":1}]", "\"m\":{\"a\":1,\"b\":true}", "\"t\":null", "\"t\":\"\\ud800\"", "\"q\":+1", "\"l\":[{}]"];
        let mut at = random.random_range(0..fields.len() + 1);
        let bad = *bad.choose(random).expect("some");
        // A later good value of the same key would heal it.
        if fields.iter().skip(at).any(|field| field[..3] == bad[..3]) {
            at = fields.len();
        }
        fields.insert(at, bad.to_owned());
    }
    format!("{{{}}}", fields.join(","))
}

#[test]
fn refused_records_leave_no_trace() {
    let item = DataType::Struct(vec![Field::new("s", DataType::Utf8View, false)].into());
    let columns = || {
        vec![
            column("t", DataType::Utf8View, false),
            column("d", DataType::Decimal128(6, 2), false),
            column("l", DataType::List(Arc::new(Field::new("item", item.clone(), true))), true),
            column("m", map_of(DataType::Int32), false),
        ]
    };
    let decoder = Decoder::new(columns(), Format::Json).expect("supported");
    let mut scratch = Scratch::default();
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..200 {
        let records: Vec<(bool, String)> = (0..100)
            .map(|_| {
                let good = random.random_bool(0.7);
                (good, random_record(&mut random, good))
            })
            .collect();
        let join = |keep: &dyn Fn(bool) -> bool| -> String { records.iter().filter(|r| keep(r.0)).map(|r| r.1.clone() + "\n").collect() };
        let mixed = decoder.decode(&lines(join(&|_| true)), &mut scratch).expect("decodes");
        let clean = decode(columns(), Format::Json, &lines(join(&|good| good)));
        assert_eq!(clean.refused, []);
        assert_eq!(mixed.batch, clean.batch);
        let good = |wanted: bool| records.iter().enumerate().filter(move |r| r.1.0 == wanted).map(|r| r.0 as u32).collect::<Vec<_>>();
        assert_eq!(mixed.rows, good(true));
        assert_eq!(mixed.refused.iter().map(|r| r.record).collect::<Vec<_>>(), good(false));
        // A key given twice forces the careful reading; the values must be those of the quick one.
        let twice: String = records.iter().filter(|r| r.0).map(|r| format!("{{\"t\":0,{}\n", &r.1[1..])).collect();
        assert_eq!(decode(columns(), Format::Json, &lines(twice)).batch, clean.batch);
    }
}

#[test]
fn text_takes_whole_lines() {
    let decoded = decode(vec![column("line", DataType::Utf8View, false)], Format::Text, &lines(b"one\r\n\ntwo \xff\n three".to_vec()));
    assert_eq!(show(&decoded.batch), ["one", " three"]);
    assert_eq!((decoded.refused[0].record, decoded.refused[0].detail.as_str()), (1, "byte 5: not valid UTF-8"));
    assert!(Decoder::new(vec![column("n", DataType::Int32, true)], Format::Text).is_err());
}

#[test]
fn values_are_those_that_serde_json_reads() {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type};
    let mut random = SmallRng::seed_from_u64(5);
    let mut text = String::new();
    let mut wanted = Vec::new();
    for row in 0..20_000u32 {
        let string: String = (0..random.random_range(0..30)).map(|_| random.random_range('\u{1}'..'\u{2ff}')).collect();
        let float = format!("{}{}e{}", random.random_range(-99..99), [".5", "", ".000123456789012345"][row as usize % 3], random.random_range(-300..300));
        let record = format!("{{ \"s\":{},\"i\" : {},\n\"f\":{float}}}", serde_json::json!(string), random.random::<i64>() >> (row % 64));
        let record = record.replace('\n', if row % 5 == 0 { "\t" } else { " " });
        wanted.push(serde_json::from_str::<serde_json::Value>(&record).expect("JSON"));
        text += &record;
        text.push('\n');
    }
    let columns = vec![column("f", DataType::Float64, true), column("i", DataType::Int64, true), column("s", DataType::Utf8View, true)];
    let decoded = decode(columns, Format::Json, &lines(text));
    assert_eq!(decoded.refused, []);
    let (floats, integers) = (decoded.batch.column(0).as_primitive::<Float64Type>(), decoded.batch.column(1).as_primitive::<Int64Type>());
    for (row, wanted) in wanted.iter().enumerate() {
        assert_eq!(Some(integers.value(row)), wanted["i"].as_i64());
        assert_eq!(Some(decoded.batch.column(2).as_string_view().value(row)), wanted["s"].as_str());
        // The judge's quick float parser may be off by one in the last place; ours is exact.
        let judged = wanted["f"].as_f64().expect("a float");
        assert!((floats.value(row) - judged).abs() <= judged.abs() * f64::EPSILON, "{row}");
    }
}

#[test]
fn a_chunk_that_breaks_its_contract_is_an_error_and_a_scratch_serves_many_decoders() {
    use watershed_ports::Framing;
    let mut scratch = Scratch::default();
    let numbers = Decoder::new(vec![column("n", DataType::Int32, true)], Format::Json).expect("supported");
    let texts = Decoder::new(vec![column("t", DataType::Utf8View, true), column("n", DataType::Int64, true)], Format::Json).expect("supported");
    let ranges = |ranges: &[(u32, u32)]| chunk("{\"n\":1}{\"t\":\"x\"}é", Framing::Ranges(ranges.into()));
    for _ in 0..2 {
        let decoded = numbers.decode(&ranges(&[(0, 7), (0, 0), (7, 16), (16, 17)]), &mut scratch).expect("decodes");
        assert_eq!((show(&decoded.batch), decoded.rows), (vec!["1".to_owned(), "NULL".to_owned()], vec![0, 2]));
        assert_eq!(decoded.refused[1].detail, "byte 1: not valid UTF-8");
        let decoded = texts.decode(&ranges(&[(7, 16), (0, 7)]), &mut scratch).expect("decodes");
        assert_eq!(show(&decoded.batch), ["x|NULL", "NULL|1"]);
        assert_eq!(texts.decode(&ranges(&[(7, 19)]), &mut scratch).expect_err("outside").code(), "CODEC0003");
    }
}
