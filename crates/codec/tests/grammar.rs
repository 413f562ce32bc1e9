//! What is JSON and what is not: the published suites, a judge from outside, and sizes that break recursive parsers.

mod common;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use base64::Engine;
use common::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use watershed_codec::Format;
use watershed_types::Reason;

fn suite() -> Vec<(String, Vec<u8>)> {
    let decode = |text: &serde_json::Value| base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap_or_default()).expect("base64");
    include_str!("hostile-json/test_parsing.jsonl")
        .lines()
        .map(|line| {
            let case: serde_json::Value = serde_json::from_str(line).expect("the suite is JSON");
            let name = case["name"].as_str().expect("a name").to_owned();
            let bytes = match &case["repeat"] {
                serde_json::Value::Array(repeat) => {
                    let mut bytes = repeat[0].as_str().expect("text").repeat(repeat[1].as_u64().expect("count") as usize).into_bytes();
                    bytes.extend(decode(&case["tail"]));
                    bytes
                }
                _ => decode(&case["bytes"]),
            };
            (name, bytes)
        })
        .collect()
}

fn is_corrupt(bytes: Vec<u8>) -> bool {
    let decoded = decode(vec![column("no such key", DataType::Utf8View, true)], Format::Json, &single(bytes));
    assert!(decoded.refused.iter().all(|refused| refused.reason == Reason::Corrupt));
    !decoded.refused.is_empty()
}

fn wrapped(bytes: &[u8]) -> Vec<u8> {
    [b"{\"v\": ", bytes, b"}"].concat()
}

#[test]
fn judges_the_json_test_suite_as_its_names_say() {
    let suite = suite();
    assert_eq!(suite.len(), 318);
    for (name, bytes) in suite {
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        match &name[..2] {
            "y_" => {
                assert_eq!(is_corrupt(bytes.clone()), !is_object, "{name}");
                assert!(!is_corrupt(wrapped(&bytes)), "{name}, wrapped");
            }
            "n_" => {
                assert!(is_corrupt(bytes.clone()), "{name}");
                // Wrapped, `}`-completed cases may become valid; the judge says which.
                let judged = serde_json::from_slice::<serde_json::Value>(&wrapped(&bytes)).is_err();
                assert_eq!(is_corrupt(wrapped(&bytes)), judged, "{name}, wrapped");
            }
            _ => {
                is_corrupt(bytes.clone());
                is_corrupt(wrapped(&bytes));
            }
        }
    }
}

#[test]
fn agrees_with_serde_json_on_mutated_records() {
    const SEEDS: [&str; 5] = [
        r#"{"a":1,"b":[true,false,null,-1.5e+3],"c":{"d":"x\u00e9\ud83d\ude00\n"}}"#,
        r#" { "a" : "text" , "b" : { } , "c" : [ ] } "#,
        r#"{"a":"é€😀","b":0,"c":-0.0,"d":1E5,"\u0061":"\\\"\/"}"#,
        r#"{"k":[[],[[]],{"x":{"y":[1,2,{"z":null}]}}],"l":"0123456789abcdefghijklmnopqrstuvwxyz"}"#,
        r#"{"a":12345678901234567890,"v":0.1,"n":null,"t":true,"f":false}"#,
    ];
    const BYTES: &[u8] = b"{}[]:,\"\\ntf0123456789-+.eEu \t\n\x00\x1f\x7f\xc3\xa9\xff/abcdABCD";
    let mut random = SmallRng::seed_from_u64(11);
    let (mut good, mut bad) = (0, 0);
    for round in 0..200_000 {
        let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len().max(1));
            let byte = BYTES[random.random_range(0..BYTES.len())];
            match random.random_range(0..4) {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let judged = match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(value) => !value.is_object(),
            // A float that overflows is well-formed; only a column of that type refuses it.
            Err(error) if error.to_string().starts_with("number out of range") => continue,
            Err(_) => true,
        };
        *if judged { &mut bad } else { &mut good } += 1;
        // One typed column and three of no interest: both ways of reading must come to the same verdict.
        let decoded = decode(vec![column("a", DataType::Int64, true)], Format::Json, &single(bytes.clone()));
        let corrupt = decoded.refused.iter().any(|refused| refused.reason == Reason::Corrupt);
        assert_eq!(corrupt, judged, "{:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(good > 5_000 && bad > 50_000, "{good} good, {bad} bad");
}

#[test]
fn naughty_strings_come_back_as_they_are() {
    let strings: Vec<String> = serde_json::from_str(include_str!("hostile-json/blns.json")).expect("a list of strings");
    let mut text = String::new();
    for string in &strings {
        text += &serde_json::json!({ "v": string }).to_string();
        text.push('\n');
        let ascii: String = string.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        text += &format!("{{\"v\":\"{ascii}\"}}\n");
    }
    let decoded = decode(vec![column("v", DataType::Utf8View, false)], Format::Json, &lines(text));
    let found: Vec<_> = decoded.batch.column(0).as_string_view().iter().flatten().collect();
    let wanted: Vec<_> = strings.iter().flat_map(|string| [string.as_str(), string.as_str()]).collect();
    assert_eq!(found, wanted);
}

#[test]
fn corrupt_records_say_where() {
    let detail = |record: &[u8]| {
        let (reason, detail) = refusal(vec![column("v", DataType::Float64, true)], record);
        assert_eq!(reason, Reason::Corrupt);
        detail
    };
    assert_eq!(detail(b"[1]"), "byte 1: expected an object, found an array");
    assert_eq!(detail(b""), "byte 1: expected an object, found the end of the record");
    assert_eq!(detail(b"\xef\xbb\xbf{}"), "byte 1: expected an object, found a byte order mark");
    assert_eq!(detail(b"{\"v\" 1}"), "byte 6: expected ':' after the key, found '1'");
    assert_eq!(detail(b"{\"v\":NaN}"), "byte 6: expected a value, found 'N'");
    assert_eq!(detail(b"{\"v\":1} x"), "byte 9: expected the end of the record after the object, found 'x'");
    assert_eq!(detail(b"{\"v\":\"\xff\"}"), "byte 7: not valid UTF-8");
    assert_eq!(detail(b"{\"w\":\"\\ud800\"}"), "byte 7: a lone surrogate in an escape");
    assert_eq!(detail(b"{\"v\":\"x\""), "byte 9: expected ',' or '}', found the end of the record", "corrupt wins over schema");
}

#[test]
fn depth_is_bounded_and_size_is_not() {
    let nested = |levels: usize| format!("{{\"v\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(!is_corrupt(nested(127).into()));
    for levels in [128, 100_000] {
        let (reason, detail) = refusal(vec![column("w", DataType::Utf8View, true)], nested(levels));
        assert_eq!((reason, detail.as_str()), (Reason::Corrupt, "byte 133: nested deeper than 128 levels"));
    }
    let long = "x".repeat(100 << 20);
    let decoded = decode(vec![column("v", DataType::Utf8View, false)], Format::Json, &lines(format!("{{\"v\":\"{long}\"}}\n")));
    assert_eq!(decoded.batch.column(0).as_string_view().value(0).len(), long.len());
    assert!(is_corrupt(long.into()));
    let many: String = (0..2_000_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let decoded = decode(vec![column("m", map_of(DataType::Int64), false)], Format::Json, &lines(format!("{{\"m\":{{{many}\"k7\":-7}}}}")));
    assert_eq!(decoded.batch.column(0).as_map().value_length(0), 2_000_000);
    assert!(!is_corrupt(format!("{{{many}\"k7\":-7}}").into()));
}
