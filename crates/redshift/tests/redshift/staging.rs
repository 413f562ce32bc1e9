//! What lies on S3: names, manifests, bytes, and the Parquet types COPY takes.

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;
use watershed_ports::Target;
use watershed_types::Generation;

use crate::moto::{self, BUCKET};
use crate::standin::{Fault, StandIn};
use crate::support::*;

#[test]
fn an_epoch_lies_on_s3_as_redshift_wants_it_and_a_repeat_writes_the_same_bytes() {
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let pairs = [("url", url.as_str()), ("table", "staged"), ("file_size", "1MB"), ("mode", "upsert"), ("key", "id"), ("delete_when", "gone"), ("compression", "none")];
    let staged = target(&pairs, schema());
    staged.claim(Generation(7)).expect("claim");
    let rows = many(0, 60_000);
    let snapshot = || -> Vec<(String, Vec<u8>)> { moto::list("in/staged").into_iter().map(|name| (name.clone(), moto::get(&name))).collect() };
    standin.arm(Fault::Before, "COPY watershed_stage");
    deliver(&staged, 12, 7, &rows).expect_err("cut");
    let first = snapshot();
    standin.arm(Fault::Before, "COMMIT");
    deliver(&staged, 12, 7, &rows).expect_err("cut");
    assert_eq!(standin.fired(), 2, "the faults fired");
    assert_eq!(first, snapshot(), "the same names and bytes");

    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let folder = names[0].rsplit_once('/').expect("a folder").0;
    assert!(folder.starts_with("in/staged/out/0000000007-") && folder.ends_with("/000000000012"), "{folder}");
    assert_eq!(names.last().copied(), Some(format!("{folder}/part-{:04}.parquet", names.len() - 2).as_str()));
    assert!(names.len() > 2, "several parts: {names:?}");
    let manifest: serde_json::Value = serde_json::from_slice(&first[0].1).expect("JSON");
    let entries: Vec<_> =
        first[1..].iter().map(|(name, bytes)| serde_json::json!({"url": format!("s3://{BUCKET}/{name}"), "mandatory": true, "meta": {"content_length": bytes.len()}})).collect();
    assert_eq!(manifest, serde_json::json!({ "entries": entries }));

    let mut read = 0;
    for (_, bytes) in &first[1..] {
        assert!(bytes.len() < 3 << 19, "about a megabyte each: {}", bytes.len());
        read += ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone()))
            .and_then(|builder| builder.build())
            .expect("Parquet")
            .map(|batch| batch.expect("rows").num_rows())
            .sum::<usize>();
    }
    assert_eq!(read, 60_000);
    let mut printed = Vec::new();
    let reader = SerializedFileReader::new(Bytes::from(first[1].1.clone())).expect("Parquet");
    print_schema(&mut printed, reader.metadata().file_metadata().schema());
    assert_eq!(
        String::from_utf8(printed).expect("text"),
        "message arrow_schema {
  OPTIONAL INT64 id;
  OPTIONAL BYTE_ARRAY name (STRING);
  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) amount (DECIMAL(38,2));
  OPTIONAL INT64 _watershed_order;
  OPTIONAL BOOLEAN _watershed_delete;
}
"
    );

    deliver(&staged, 12, 7, &rows).expect("delivered");
    assert_eq!(moto::list("in/staged"), Vec::<String>::new(), "removed once the epoch is there");
    assert_eq!(sql("SELECT count(*), sum(id) FROM staged"), ["60000|1799970000"]);
}

#[test]
fn timestamps_carry_the_older_note_that_redshift_reads() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int16Array, RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema};
    use parquet::basic::ConvertedType;
    if !moto::there() {
        return;
    }
    let standin = StandIn::start("REPEATABLE READ");
    let url = standin.url();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("local", Arc::new(TimestampMillisecondArray::from(vec![0]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from(vec![0]))),
        ("small", Arc::new(Int16Array::from(vec![0]))),
    ];
    let schema = Arc::new(Schema::new(columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).expect("a batch");
    let noted = target(&[("url", &url), ("table", "noted"), ("retention", "1 hour")], schema);
    noted.claim(Generation(1)).expect("claim");
    deliver(&noted, 1, 1, &[rows]).expect("delivered");
    let part = moto::list("in/noted").into_iter().find(|name| name.ends_with(".parquet")).expect("a part");
    let reader = SerializedFileReader::new(Bytes::from(moto::get(&part))).expect("Parquet");
    let columns: Vec<_> = reader.metadata().file_metadata().schema_descr().columns().iter().map(|column| (column.physical_type().to_string(), column.converted_type())).collect();
    let micros = ("INT64".to_owned(), ConvertedType::TIMESTAMP_MICROS);
    assert_eq!(columns, [micros.clone(), micros, ("INT32".to_owned(), ConvertedType::DATE), ("INT32".to_owned(), ConvertedType::NONE), ("INT64".to_owned(), ConvertedType::NONE)]);
}
