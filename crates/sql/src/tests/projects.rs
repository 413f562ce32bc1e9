//! Whole projects: the guide's example, columns, options, OR REPLACE, order.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::{EXAMPLE, file, good, parse};
use crate::{ColumnKind, Keep, MetadataColumn, OnViolation, RelationInput, RelationKind, parse_project};

const MICROS: i64 = 1_000_000;

#[test]
fn reads_the_example_of_the_guide() {
    let project = good(EXAMPLE);
    assert_eq!(project.order, ["transactions", "clean_transactions", "per_minute", "warehouse"]);

    let source = project.source("transactions").expect("it is declared");
    assert_eq!(source.place.to_string(), "p.sql:2:15");
    assert_eq!(source.columns.len(), 9);
    let amount = source.columns.get(2).expect("nine columns");
    assert_eq!((amount.name.as_str(), &amount.data_type, amount.nullable), ("amount", &DataType::Decimal128(12, 2), false));
    let watermark = source.watermark.as_ref().expect("it is declared");
    assert_eq!((watermark.column.as_str(), watermark.delay_micros), ("timestamp", 600 * MICROS));
    assert_eq!(source.options.peek("brokers"), Some("broker:9092"));
    assert_eq!(source.options.owner(), "source \"transactions\"");

    let clean = project.table("clean_transactions").expect("it is declared");
    assert_eq!(clean.partitioned_by, ["year", "month", "day", "hour"]);
    assert_eq!(clean.options.peek("zone"), Some("silver"));
    let rules: Vec<_> = clean.constraints.iter().map(|rule| (rule.name.as_str(), rule.text.as_str(), rule.on_violation)).collect();
    assert_eq!(
        rules,
        [
            ("amount_in_range", "amount > 0 AND amount < 1000000", OnViolation::Quarantine),
            ("known_currency", "currency IN ('USD','EUR','GBP')", OnViolation::Quarantine),
            ("not_in_future", "\"timestamp\" <= now() + INTERVAL '1 minute'", OnViolation::Warn),
        ]
    );
    assert_eq!(clean.query.inputs, ["transactions"]);
    let dedup = clean.query.relations.first().expect("one relation");
    assert_eq!(dedup.kind, RelationKind::Deduplicate { key: vec!["transaction_id".to_owned()], keep: Keep::First, within_micros: Some(600 * MICROS) });
    assert_eq!(dedup.input, RelationInput::Named("transactions".to_owned()));
    assert!(clean.query.query.to_string().ends_with(&format!("FROM {} AS t", dedup.placeholder)), "{}", clean.query.query);
    assert!(clean.query.text.starts_with("SELECT t.*, CASE") && clean.query.text.ends_with("'10 minutes') AS t"));

    let window = project.table("per_minute").expect("it is declared").query.relations.first().cloned().expect("one relation");
    assert_eq!(window.kind, RelationKind::Tumble { column: "timestamp".to_owned(), size_micros: 60 * MICROS, offset_micros: 0 });
    assert_ne!(window.placeholder, dedup.placeholder);

    let sink = project.sink("warehouse").expect("it is declared");
    assert_eq!(sink.from, "clean_transactions");
}

#[test]
fn a_resolved_variable_is_usable_and_never_printed() {
    let project = good(EXAMPLE);
    let sink = project.sink("warehouse").expect("it is declared");
    assert_eq!(sink.options.peek("url"), Some("postgres://me:hunter2@host/db"));
    assert!(!format!("{project:?}").contains("hunter2"));

    let text = "CREATE SOURCE s (a INT) WITH (a.b = '${EMPTY:-x}-${NO:-y}', 'C d' = '$${KEEP}', e = -1.5, f = TRUE, G = 'it''s')";
    let source = good(text).sources.pop().expect("one source");
    let values = ["a.b", "C d", "e", "f", "g"].map(|key| source.options.peek(key).map(str::to_owned));
    assert_eq!(values, ["x-y", "${KEEP}", "-1.5", "true", "it's"].map(|value| Some(value.to_owned())));
    let shown: Vec<_> = source.options.shown().collect();
    assert!(shown.contains(&("a.b", "${EMPTY:-x}-${NO:-y}")), "{shown:?}");
}

#[test]
fn columns_are_physical_computed_or_metadata() {
    let text = r#"CREATE SOURCE s (
        Id BIGINT NOT NULL, "Case" TEXT, at TIMESTAMP(3) WITH TIME ZONE,
        tags ARRAY<ARRAY<INT>>, more DOUBLE PRECISION[], attributes MAP<TEXT, ARRAY<VARCHAR(10)>>,
        place ROW<lat REAL, lon STRUCT<deg: SMALLINT NOT NULL>>, raw BYTEA,
        day AS date_trunc('day', at), twice BIGINT GENERATED ALWAYS AS (id * 2) STORED, half DOUBLE AS (id / 2.0) NOT NULL,
        partition VARCHAR METADATA, pos VARCHAR METADATA FROM 'position', ingest_time METADATA,
        watermark INT, WATERMARK FOR at AS at
    ) WITH (connector = 'x')"#;
    let source = good(text).sources.pop().expect("one source");
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let timestamp = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
    let lon = DataType::Struct(Fields::from(vec![Field::new("deg", DataType::Int16, false)]));
    let entries = vec![Field::new("key", DataType::Utf8View, false), Field::new("value", list(DataType::Utf8View), true)];
    let expected = [
        ("id", DataType::Int64),
        ("Case", DataType::Utf8View),
        ("at", timestamp(Some("UTC"))),
        ("tags", list(list(DataType::Int32))),
        ("more", list(DataType::Float64)),
        ("attributes", DataType::Map(Arc::new(Field::new("entries", DataType::Struct(Fields::from(entries)), false)), false)),
        ("place", DataType::Struct(Fields::from(vec![Field::new("lat", DataType::Float32, true), Field::new("lon", lon, true)]))),
        ("raw", DataType::BinaryView),
        ("day", DataType::Null),
        ("twice", DataType::Int64),
        ("half", DataType::Float64),
        ("partition", DataType::Utf8View),
        ("pos", DataType::Utf8View),
        ("ingest_time", timestamp(None)),
        ("watermark", DataType::Int32),
    ];
    let found: Vec<_> = source.columns.iter().map(|column| (column.name.as_str(), column.data_type.clone())).collect();
    assert_eq!(found, expected);
    let kinds: Vec<String> = source
        .columns
        .iter()
        .filter_map(|column| match &column.kind {
            ColumnKind::Physical => None,
            ColumnKind::Computed(expr) => Some(expr.to_string()),
            ColumnKind::Metadata(MetadataColumn::Partition) => Some("partition".to_owned()),
            ColumnKind::Metadata(other) => Some(format!("{other:?}")),
        })
        .collect();
    assert_eq!(kinds, ["date_trunc('day', at)", "id * 2", "id / 2.0", "partition", "Position", "IngestTime"]);
    assert_eq!(source.watermark.map(|watermark| watermark.delay_micros), Some(0));
}

#[test]
fn sources_and_tables_may_have_a_key() {
    let text = "CREATE SOURCE s (id INT, k INT, PRIMARY KEY (id, K) NOT ENFORCED) WITH (connector='x');
        CREATE TABLE t (CONSTRAINT c EXPECT (id > 0), CONSTRAINT pk PRIMARY KEY (id)) AS SELECT * FROM s; CREATE TABLE u (PRIMARY KEY (k)) AS SELECT * FROM t";
    let project = good(text);
    assert_eq!(project.source("s").expect("it is declared").primary_key, ["id", "k"]);
    let table = project.table("t").expect("it is declared");
    assert_eq!((table.primary_key.as_slice(), table.constraints.len()), (["id".to_owned()].as_slice(), 1));
    assert_eq!(project.table("u").expect("it is declared").primary_key, ["k"]);
}

#[test]
fn inputs_come_before_users_across_files() {
    let first = file("CREATE SINK out FROM c WITH (connector='x'); CREATE TABLE c AS SELECT * FROM b JOIN rates USING (id);");
    let second = file(";; CREATE VIEW b AS SELECT * FROM s\n;CREATE SOURCE s (id INT) WITH (connector='x'); CREATE STATIC TABLE rates WITH (connector='files')");
    let project = parse_project(&[first, second], &super::env).expect("it is right");
    assert_eq!(project.order, ["s", "rates", "b", "c", "out"]);
    assert_eq!(project.table("c").expect("it is declared").query.inputs, ["b", "rates"]);
}

#[test]
fn or_replace_takes_the_place_of_the_earlier_one() {
    let text = "CREATE SOURCE s (id INT) WITH (connector='x'); CREATE VIEW v AS SELECT 1 AS one FROM s;
        CREATE OR REPLACE VIEW v AS SELECT 2 AS two FROM s; CREATE OR REPLACE SOURCE s (id INT, b INT) WITH (connector='y')";
    let project = good(text);
    assert_eq!(project.sources.iter().map(|source| source.columns.len()).collect::<Vec<_>>(), [2]);
    assert_eq!(project.view("v").map(|view| view.query.text.as_str()), Some("SELECT 2 AS two FROM s"));
}

#[test]
fn a_long_chain_of_views_is_ordered_without_recursion() {
    let mut text = String::from("CREATE SOURCE v0 (id INT) WITH (connector='x');");
    for number in (1..20_000).rev() {
        text.push_str(&format!("CREATE VIEW v{number} AS SELECT * FROM v{};\n", number - 1));
    }
    let project = parse(&text).expect("it is right");
    assert_eq!(project.order.iter().take(3).collect::<Vec<_>>(), ["v0", "v1", "v2"]);
    assert_eq!(project.order.len(), 20_000);
}

#[test]
fn a_static_table_may_say_what_it_is_asked_by() {
    let project = good(
        "CREATE STATIC TABLE c (id BIGINT NOT NULL, region VARCHAR, name VARCHAR, PRIMARY KEY (region, id) NOT ENFORCED) WITH (connector = 'postgres', lookup.cache.ttl = '1 minute', \"lookup.batch\" = '7')",
    );
    let table = project.static_table("c").expect("it is declared");
    assert_eq!((table.columns.len(), &table.primary_key), (3, &vec!["region".to_owned(), "id".to_owned()]));
    assert_eq!((table.options.peek("lookup.cache.ttl"), table.options.peek("lookup.batch")), (Some("1 minute"), Some("7")));
}
