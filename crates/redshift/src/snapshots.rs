//! Every statement this crate issues, as text files that a person can read: `tests/snapshots`.
//!
//! After a wanted change: `UPDATE_SNAPSHOTS=1 cargo test -p watershed-redshift snapshots`, and read the difference.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use watershed_types::{Epoch, Generation, OptionValue, Options};

use crate::columns::{Columns, Found, table_ddl};
use crate::error::Place;
use crate::ledger::{self, Writer};
use crate::options::RedshiftOptions;
use crate::plan::{Delivery, analyze, claim_plan, grow, trial_plan, vacuum};

const MANIFEST: &str = "s3://bucket/in/shop/out/0000000007-0123abcd/000000000012/manifest.json";
const REFUSED: &str = "s3://bucket/in/shop/out/0000000007-0123abcd/000000000012/refused-manifest.json";

fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("the snapshot can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, kept, "{} differs; UPDATE_SNAPSHOTS=1 writes it anew", path.display());
}

fn options(pairs: &[(&str, &str)]) -> RedshiftOptions {
    let mut all = vec![("url", "postgres://db/dev"), ("table", "shop.orders"), ("staging", "s3://bucket/in"), ("iam_role", "arn:aws:iam::123456789012:role/load")];
    all.extend_from_slice(pairs);
    let values: BTreeMap<_, _> = all.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
    RedshiftOptions::take(&mut Options::new("sink \"out\"", values), "out", &HashMap::new()).expect("options")
}

fn upsert() -> RedshiftOptions {
    options(&[("mode", "upsert"), ("key", "Id"), ("delete_when", "gone"), ("sortkey", "at, id")])
}

fn writer() -> Writer {
    Writer { app_id: "watershed/0198/out".into(), pipeline: "o'shop".into(), sink: "out".into() }
}

/// A column of every kind.
fn schema() -> Schema {
    let item = |kind| Arc::new(Field::new("item", kind, true));
    Schema::new(vec![
        Field::new("Id", DataType::Int64, false),
        Field::new("we\"ird", DataType::Decimal128(18, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("day", DataType::Date32, true),
        Field::new("time", DataType::Time64(TimeUnit::Microsecond), true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("tiny", DataType::Int8, true),
        Field::new("whole", DataType::Int32, true),
        Field::new("big", DataType::UInt64, true),
        Field::new("ratio", DataType::Float32, true),
        Field::new("mean", DataType::Float64, true),
        Field::new("name", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), true),
        Field::new("hash", DataType::FixedSizeBinary(32), true),
        Field::new("tags", DataType::List(item(DataType::Utf8)), true),
        Field::new("place", DataType::Struct(Fields::from(vec![Field::new("x", DataType::Float64, true)])), true),
        Field::new("gone", DataType::Boolean, true),
    ])
}

fn place(options: &RedshiftOptions) -> Place {
    Place::from(options)
}

fn delivery(options: &RedshiftOptions, columns: &Columns, rows: u64, refused: u64, alone: bool) -> String {
    let writer = writer();
    let delivery = Delivery {
        options,
        writer: &writer,
        columns,
        epoch: Epoch(12),
        generation: Generation(7),
        manifest: (rows > 0).then_some(MANIFEST),
        refused_manifest: (refused > 0).then_some(REFUSED),
        rows,
        refused,
        alone,
    };
    delivery.plan().to_string()
}

#[test]
fn schema_watershed_and_claims() {
    compare("watershed.sql", &ledger::making(&writer(), &[]).iter().fold(String::new(), |text, statement| text + statement + ";\n"));
    compare("claim.sql", &claim_plan(&writer(), Generation(7), false).to_string());
    assert!(ledger::making(&writer(), &["epochs".into(), "owners".into(), "refused".into(), format!("lock_{}", writer().hash())]).is_empty());
}

#[test]
fn tables_are_made_and_grow() {
    let mut text = String::new();
    for (options, what) in [
        (upsert(), "upsert: spread by the key"),
        (options(&[("mode", "append")]), "append: as Redshift likes"),
        (options(&[("diststyle", "even"), ("sortkey", "at"), ("varchar_length", "256")]), "append: told"),
        (options(&[("distkey", "name")]), "append: spread by a column"),
    ] {
        let columns = Columns::new(&options, &schema()).expect("columns");
        let _ = writeln!(text, "-- {what}\n{};\n", table_ddl(&options, &columns));
    }
    compare("create.sql", &text);
    let options = upsert();
    let columns = Columns::new(&options, &schema()).expect("columns");
    let found: Vec<Found> = [("id", "bigint", true), ("at", "timestamp with time zone", false), ("name", "character varying(40)", false)]
        .map(|(name, shown, not_null)| Found { name: name.into(), shown: shown.into(), not_null, filled: false })
        .into();
    let (_, missing) = columns.fit(&place(&options), &options, &found).expect("it fits");
    compare("grow.sql", &grow(&options, &missing).iter().fold(String::new(), |text, statement| text + statement + ";\n"));
}

#[test]
fn deliveries() {
    let append = options(&[("mode", "append")]);
    let columns = Columns::new(&append, &schema()).expect("columns");
    compare("append.sql", &delivery(&append, &columns, 1_000, 0, false));
    compare("append_with_refusals.sql", &delivery(&append, &columns, 998, 2, false));
    compare("empty.sql", &delivery(&append, &columns, 0, 0, false));
    compare("append_taking_turns.sql", &delivery(&append, &columns, 1_000, 0, true));
    compare("trial.sql", &trial_plan(&append, &columns, MANIFEST).to_string());
    let upsert = upsert();
    let columns = Columns::new(&upsert, &schema()).expect("columns");
    compare("upsert_with_deletes.sql", &delivery(&upsert, &columns, 1_000, 0, false));
    let two = options(&[("mode", "upsert"), ("key", "id, day"), ("iam_role", "default")]);
    let narrow = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("day", DataType::Date32, false), Field::new("n", DataType::Int16, true)]);
    let found = [("id", "numeric(20,0)"), ("day", "date"), ("n", "bigint"), ("noted", "timestamp without time zone")];
    let found = found.map(|(name, shown)| Found { name: name.into(), shown: shown.into(), not_null: false, filled: false });
    let (columns, missing) = Columns::new(&two, &narrow).expect("columns").fit(&place(&two), &two, &found).expect("it fits");
    assert!(missing.is_empty(), "the table has a column more");
    compare("upsert_into_wider_types.sql", &delivery(&two, &columns, 1_000, 0, false));
}

#[test]
fn housekeeping_is_outside_transactions() {
    let mut text = String::new();
    for kind in ["full", "delete only", "sort only", "recluster"] {
        let _ = writeln!(text, "{};", vacuum(&options(&[("vacuum", kind)])));
    }
    let _ = writeln!(text, "{};", analyze(&options(&[])));
    compare("housekeeping.sql", &text);
}

#[test]
fn a_table_that_does_not_fit_says_which_column_and_how_to_mend_it() {
    let options = options(&[]);
    let columns = Columns::new(&options, &Schema::new(vec![Field::new("name", DataType::Utf8, true), Field::new("paid", DataType::Decimal128(18, 2), false)])).expect("columns");
    let fit = |found: &[(&str, &str, bool)]| {
        let found: Vec<Found> = found.iter().map(|(name, shown, not_null)| Found { name: (*name).into(), shown: (*shown).into(), not_null: *not_null, filled: false }).collect();
        let error = columns.fit(&place(&options), &options, &found).expect_err("it does not fit");
        assert_eq!(error.code(), "RSH0005");
        format!("{}\n  {}\n", error.message(), error.next_step().unwrap_or_default())
    };
    let text = [
        fit(&[("name", "integer", false), ("paid", "numeric(18,2)", false)]),
        fit(&[("name", "character varying(10)", false), ("paid", "numeric(18,1)", false)]),
        fit(&[("name", "character varying(10)", false)]),
        fit(&[("name", "character varying(10)", false), ("paid", "numeric(20,4)", false), ("other", "date", true)]),
    ]
    .concat();
    compare("mismatch.txt", &text);
}
