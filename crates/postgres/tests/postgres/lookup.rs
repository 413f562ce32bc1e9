//! Tables asked by key: every type of key finds its row by the server's equality, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use watershed_ports::LookupTable;
use watershed_postgres::read::PostgresLookup;
use watershed_types::{Kind, OptionValue, Options, Result};

use crate::server::Server;
use crate::support::{runtime, shared, sql};

/// A table whose key is its first columns.
fn table(url: &str, name: &str, fields: &[(&str, DataType)], key: usize) -> Result<PostgresLookup> {
    let mut values = BTreeMap::new();
    for (option, value) in [("url", url), ("table", name), ("connect_timeout", "2s")] {
        values.insert(option.to_owned(), OptionValue::new(value, "…", "a.sql:1:1"));
    }
    let mut options = Options::new("static table \"t\"", values);
    let schema: SchemaRef = Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()));
    let table = PostgresLookup::new(&mut options, "t", schema, (0..key).collect(), "shop", runtime().handle().clone())?;
    options.finish()?;
    Ok(table)
}

fn request(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().enumerate().map(|(index, c)| Field::new(format!("k{index}"), c.data_type().clone(), false)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a request")
}

fn words<const N: usize>(values: [&str; N]) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(values))
}

/// The keys that were found, and the last column of what was found for them, sorted by key.
fn found(table: &PostgresLookup, key: Vec<ArrayRef>) -> Vec<(u32, i64)> {
    let answer = table.ask(&[request(key)]).unwrap_or_else(|e| panic!("{}", e.report())).remove(0);
    assert!(answer.unreadable.is_empty(), "{:?}", answer.unreadable);
    let last = answer.rows.columns().last().expect("a column").as_primitive::<Int64Type>().clone();
    let mut found: Vec<(u32, i64)> = answer.of.iter().copied().zip(last.values().iter().copied()).collect();
    found.sort_unstable();
    found
}

#[test]
fn every_type_of_key_finds_its_row() {
    let url = &shared().url;
    sql(
        url,
        "CREATE TYPE colour AS ENUM ('red', 'blue');
         CREATE TABLE keyed (small int2, price numeric(10,2), word varchar(9), id uuid, hue colour, day date, at timestamptz, raw bytea, n int8);
         INSERT INTO keyed VALUES (1, 1.50, 'Ärger', '0190aab8-0000-7000-8000-00000000beef', 'red', '2024-02-29', '2024-02-29 13:05:00+02', '\\x00ff', 10),
                                  (2, -2.00, 'b ', '00000000-0000-0000-0000-000000000000', 'blue', '0001-01-01', '1969-12-31 23:59:59.999999+00', '\\x', 20)",
    );
    let ask = |column: &str, kind: DataType, keys: ArrayRef| found(&table(url, "keyed", &[(column, kind), ("n", DataType::Int64)], 1).expect("a table"), vec![keys]);
    assert_eq!(ask("small", DataType::Int64, Arc::new(Int64Array::from(vec![2, 70_000, 1]))), [(0, 20), (2, 10)], "a key beyond the column's type finds nothing");
    let money = |values: Vec<i128>| Arc::new(Decimal128Array::from(values).with_precision_and_scale(12, 3).expect("decimals")) as ArrayRef;
    assert_eq!(ask("price", DataType::Decimal128(12, 3), money(vec![1_500, 1_501, -2_000])), [(0, 10), (2, 20)]);
    assert_eq!(ask("word", DataType::Utf8View, words(["b", "b ", "Ärger", "nul\0", "ÄRGER"])), [(1, 20), (2, 10)], "blanks and case count");
    assert_eq!(ask("id", DataType::Utf8View, words(["no uuid", "0190aab8-0000-7000-8000-00000000beef", ""])), [(1, 10)]);
    assert_eq!(ask("hue", DataType::Utf8View, words(["green", "blue"])), [(1, 20)]);
    assert_eq!(ask("day", DataType::Date32, Arc::new(Date32Array::from(vec![19_782, i32::MAX, -719_162]))), [(0, 10), (2, 20)]);
    let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let times = TimestampMicrosecondArray::from(vec![-1, 1_709_204_700_000_000, i64::MAX]).with_timezone("+00:00");
    assert_eq!(ask("at", zone, Arc::new(times)), [(0, 20), (1, 10)]);
    let two = [("small", DataType::Int16), ("word", DataType::Utf8View), ("n", DataType::Int64)];
    let pairs = vec![Arc::new(arrow::array::Int16Array::from(vec![1, 1, 2])) as ArrayRef, words(["b ", "Ärger", "b "])];
    assert_eq!(found(&table(url, "keyed", &two, 2).expect("a table"), pairs), [(1, 10), (2, 20)], "both columns count");
}

#[test]
fn thousands_of_keys_are_one_request_and_requests_go_out_together() {
    let url = &shared().url;
    sql(url, "CREATE TABLE wide AS SELECT i AS id, i * 2 AS n FROM generate_series(0::int8, 49999) i; ALTER TABLE wide ADD PRIMARY KEY (id); ANALYZE wide");
    let table = table(url, "wide", &[("id", DataType::Int64), ("n", DataType::Int64)], 1).expect("a table");
    table.check().expect("fits");
    let keys = |from: i64| request(vec![Arc::new((from..from + 7_000).map(|i| i * 3).collect::<Int64Array>())]);
    let requests = [keys(0), keys(7_000), keys(14_000)];
    let answers = table.ask(&requests).unwrap_or_else(|e| panic!("{}", e.report()));
    let counts: Vec<usize> = answers.iter().map(|answer| answer.rows.num_rows()).collect();
    assert_eq!(counts, [7_000, 7_000, 2_667], "50,000 rows, every third of them");
    for (request, answer) in requests.iter().zip(&answers) {
        let asked = request.column(0).as_primitive::<Int64Type>();
        let told = answer.rows.column(1).as_primitive::<Int64Type>();
        assert!(answer.of.iter().enumerate().all(|(row, of)| told.value(row) == 2 * asked.value(*of as usize)));
    }
}

#[test]
fn what_cannot_be_asked_says_so_and_tells_no_secret() {
    let url = &shared().url;
    sql(url, "CREATE TABLE odd (padded char(5), single float4, at timestamp, any_number numeric, n int8)");
    let misfit = |fields: &[(&str, DataType)]| {
        let error = table(url, "odd", fields, 1).expect("options").check().expect_err("does not fit");
        assert_eq!((error.code(), error.kind()), ("PG0035", Kind::Invalid), "{}", error.report());
        error.report()
    };
    assert!(misfit(&[("padded", DataType::Utf8View)]).contains("whose values are equal though they differ"));
    assert!(misfit(&[("single", DataType::Float32)]).contains("which no key of ours is compared with"));
    assert!(misfit(&[("n", DataType::Int64), ("any_number", DataType::Decimal128(38, 10))]).contains("column \"any_number\" is numeric there"));
    assert!(misfit(&[("n", DataType::Int32)]).contains("column \"n\" is bigint there"));
    assert!(misfit(&[("elsewhere", DataType::Int64)]).contains("Its columns: padded"), "no name is near enough");
    table(url, "odd", &[("n", DataType::Int64), ("any_number", DataType::Utf8View)], 1).expect("options").check().expect("an unlimited numeric as text");

    let away = table("postgres://me:hunter2@127.0.0.1:1/shop", "odd", &[("n", DataType::Int64)], 1).expect("options").check().expect_err("nobody there");
    assert_eq!((away.code(), away.kind()), ("PG0034", Kind::Unavailable));
    let wrong = table("postgres://me:hunter2@host:port/shop", "odd", &[("n", DataType::Int64)], 1).err().expect("no url");
    for error in [away, wrong] {
        let report = error.report();
        assert!(report.contains("static table \"t\"") && !report.contains("hunter2") && !report.contains("sink"), "{report}");
    }
}

#[test]
fn a_server_that_came_back_is_asked_by_a_new_connection() {
    let server = Server::start(true);
    sql(&server.url, "CREATE TABLE t AS SELECT 7::int8 AS id, 70::int8 AS n");
    let table = table(&server.url, "t", &[("id", DataType::Int64), ("n", DataType::Int64)], 1).expect("a table");
    let key = || vec![Arc::new(Int64Array::from(vec![7])) as ArrayRef];
    assert_eq!(found(&table, key()), [(0, 70)]);
    server.kill();
    assert_eq!(table.ask(&[request(key())]).expect_err("it is dead").kind(), Kind::Unavailable);
    server.restart();
    assert_eq!(found(&table, key()), [(0, 70)]);
    sql(&server.url, "DROP TABLE t; CREATE TABLE t AS SELECT 7::int8 AS id, 'x'::text AS n");
    let changed = table.ask(&[request(key())]).and_then(|_| table.ask(&[request(key())])).expect_err("it is another table now");
    assert!(matches!(changed.code(), "PG0034" | "PG0035"), "{}", changed.report());
    assert_eq!(table.ask(&[request(key())]).expect_err("still").code(), "PG0035");
}
