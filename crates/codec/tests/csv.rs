//! Delimited records: quotes, headers, spans, types.

mod common;

use arrow::datatypes::DataType;
use common::*;
use watershed_codec::{ColumnSpec, CsvOptions, Decoder, Format};

fn columns() -> Vec<ColumnSpec> {
    vec![
        column("id", DataType::Int32, false),
        column("name", DataType::Utf8View, true),
        column("amount", DataType::Decimal128(8, 2), true),
        column("at", TIMESTAMP, true),
        column("ok", DataType::Boolean, true),
    ]
}

#[test]
fn fields_are_typed_and_spans_are_exact() {
    let text = concat!(
        "1,plain, 12.50 ,2024-01-01 00:00:00,t\r\n\n",
        "2,\"a, \"\"b\"\"\nc\",,,\n",
        "3,\"\",\"007.5\",,0\n",
        "4,a\"b,1,,\n",
        "5,six fields,1,,,\n",
        "x,y,1,,\n",
        ",y,1,,\n",
        "7,y,1.234,,\n",
        "8,\"open\"x,1,,\n",
        "9,last,-.5,2024-01-01,false",
    );
    let decoded = decode(columns(), Format::Csv(CsvOptions::default()), &lines(text));
    assert_eq!(
        show(&decoded.batch),
        ["1|plain|12.50|2024-01-01T00:00:00|true", "2|a, \"b\"\nc|NULL|NULL|NULL", "3||7.50|NULL|false", "4|a\"b|1.00|NULL|NULL", "9|last|-0.50|2024-01-01T00:00:00|false",]
    );
    let refused: Vec<_> = decoded.refused.iter().map(|r| format!("{} {} {}", r.record, r.reason.as_str(), r.detail)).collect();
    assert_eq!(
        refused,
        [
            "4 corrupt byte 18: expected 5 fields, found 6",
            "5 schema column \"id\": expected INT, found the text \"x\"",
            "6 schema column \"id\" is NOT NULL but null",
            "7 schema column \"amount\": expected DECIMAL(8,2), found the text \"1.234\", which has more than 2 fractional digits",
            "8 corrupt byte 9: text after the closing quote of a field",
        ]
    );
    let spans: Vec<_> = decoded.records.iter().map(|&(start, end)| &text[start as usize..end as usize]).collect();
    assert_eq!(spans[0], "1,plain, 12.50 ,2024-01-01 00:00:00,t");
    assert_eq!(spans[1], "2,\"a, \"\"b\"\"\nc\",,,");
    assert_eq!(spans[8], "8,\"open\"x,1,,");
    assert_eq!(spans[9], "9,last,-.5,2024-01-01,false");
}

#[test]
fn a_header_maps_columns_by_name() {
    let mut chunk = lines("\u{feff}\"name\";extra;id\nä;x;1\n\\N;y;2\nz;\"q\n".to_owned());
    chunk.header = true;
    let options = CsvOptions { delimiter: b';', header: true, null: "\\N".to_owned(), ..CsvOptions::default() };
    let decoded = decode(columns(), Format::Csv(options), &chunk);
    assert_eq!(show(&decoded.batch), ["1|ä|NULL|NULL|NULL", "2|NULL|NULL|NULL|NULL"]);
    assert_eq!(decoded.refused[0].detail, "byte 3: a quoted field without its closing quote");
    assert_eq!(decoded.records.len(), 3, "the header is no record");
}

#[test]
fn bad_bytes_cost_one_record_and_nested_types_are_refused_early() {
    let options = || Format::Csv(CsvOptions::default());
    let decoded = decode(vec![column("a", DataType::Utf8View, true)], options(), &lines(b"x\n\xff\"\"\n\"\xfe\"\"\"\ny\n".to_vec()));
    assert_eq!(show(&decoded.batch), ["x", "y"]);
    assert_eq!(decoded.refused.iter().map(|r| r.detail.as_str()).collect::<Vec<_>>(), ["byte 1: not valid UTF-8", "byte 2: not valid UTF-8"]);
    let error = Decoder::new(vec![column("m", map_of(DataType::Int32), true)], options()).expect_err("no maps in CSV");
    assert_eq!(error.message(), "column \"m\": CSV cannot carry MAP<VARCHAR, INT>");
}

#[test]
fn any_bytes_split_into_records_in_order() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let mut random = SmallRng::seed_from_u64(9);
    for round in 0..50_000 {
        let bytes: Vec<u8> = (0..random.random_range(0..40)).map(|_| b"a1,,\"\"\n\r\xff\xc3\xa9"[random.random_range(0..11)]).collect();
        let mut chunk = lines(bytes.clone());
        chunk.header = round % 3 == 0;
        let columns = vec![column("a", DataType::Utf8View, true), column("1", DataType::Int16, true)];
        let decoded = decode(columns, Format::Csv(CsvOptions::default()), &chunk);
        let mut last = 0;
        for &(start, end) in &decoded.records {
            assert!(last <= start && start < end && end as usize <= bytes.len(), "{bytes:?}");
            assert!(bytes[last as usize..start as usize].iter().all(|b| chunk.header && last == 0 || b"\r\n".contains(b)), "{bytes:?}");
            last = end;
        }
    }
}
