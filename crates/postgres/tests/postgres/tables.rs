//! Tables made, checked and grown.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use watershed_ports::Target;
use watershed_types::{Epoch, Generation, Kind};

use crate::support::*;

#[test]
fn a_table_that_does_not_fit_is_named_with_what_mends_it() {
    let url = &shared().url;
    sql(
        url,
        "CREATE TABLE misfit_type (id int8, name text, amount numeric(6,1), gone bool);
         CREATE TABLE misfit_extra (id int8, name text, amount numeric, gone bool, town varchar(9) NOT NULL);
         CREATE TABLE misfit_key (id int8, name text, amount numeric, gone bool)",
    );
    let claim = |pairs: &[(&str, &str)]| {
        let error = target(url, pairs, schema()).claim(Generation(1)).expect_err("does not fit");
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "PG0005"), "{}", error.report());
        error
    };
    let error = claim(&[("table", "misfit_type")]);
    assert!(error.message().contains("column \"amount\" is numeric(6,1) there, and numeric(18,2) is needed"), "{}", error.message());
    let mend = error.next_step().and_then(|hint| hint.strip_prefix("Run: ")).expect("a statement");
    sql(url, mend);
    target(url, &[("table", "misfit_type")], schema()).claim(Generation(1)).expect("mended");
    let error = claim(&[("table", "misfit_extra")]);
    assert!(error.message().contains("its column \"town\" (character varying(9)) takes no NULL"), "{}", error.message());
    let keyed = [("table", "misfit_key"), ("mode", "upsert"), ("key", "id")];
    sql(url, claim(&keyed).next_step().and_then(|hint| hint.strip_prefix("Run: ")).expect("a statement"));
    target(url, &keyed, schema()).claim(Generation(1)).expect("mended");
    let error = target(url, &[("table", "misfit_none"), ("create_table", "false")], schema()).claim(Generation(1)).expect_err("no table");
    assert_eq!(error.code(), "PG0006");
}

#[test]
fn new_nullable_columns_are_added() {
    let url = &shared().url;
    let table = [("table", "grown")];
    let old = Arc::new(schema().project(&[0, 1]).expect("two columns"));
    let before = target(url, &table, old);
    before.claim(Generation(1)).expect("claim");
    deliver(&before, 1, 1, &[batch(&[(Some(1), "a", 0, false)]).project(&[0, 1]).expect("two columns")]).expect("two columns");
    let refusing = target(url, &[("table", "grown"), ("grow", "false")], schema()).claim(Generation(2)).expect_err("may not grow");
    assert_eq!(refusing.next_step(), Some("Run: ALTER TABLE \"public\".\"grown\" ADD COLUMN \"amount\" numeric(18,2);"));
    let after = target(url, &table, schema());
    assert_eq!(after.claim(Generation(3)).expect("grows"), Epoch(1));
    deliver(&after, 2, 3, &[batch(&[(Some(2), "b", 5, true)])]).expect("four columns");
    assert_eq!(sql(url, "SELECT id, name, amount, gone FROM grown ORDER BY id"), ["1|a|∅|∅", "2|b|0.05|t"]);
    let strict = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("must", DataType::Int32, false)]));
    let error = target(url, &table, strict).claim(Generation(4)).expect_err("rows that are there have no value for it");
    assert!(error.next_step().is_some_and(|hint| hint.ends_with("ADD COLUMN \"must\" integer NOT NULL DEFAULT …;")), "{}", error.report());
}

#[test]
fn another_history_of_the_pipeline_begins_anew() {
    let url = &shared().url;
    let make = |app: &str| {
        let options = options(url, &[("table", "histories"), ("analyze_every", "1")]).expect("options");
        watershed_postgres::PostgresTarget::new(options, app, "shop", schema(), runtime().handle().clone()).expect("a target")
    };
    let (first, second) = (make("watershed/1/out"), make("watershed/2/out"));
    first.claim(Generation(7)).expect("claim");
    deliver(&first, 1, 7, &many(0, 10)).expect("first");
    assert_eq!(second.claim(Generation(1)).expect("its generations are its own"), Epoch::ZERO);
    assert!(!deliver(&second, 1, 1, &many(10, 10)).expect("second").already_there);
    second.maintain().expect("ANALYZE");
    assert_eq!(sql(url, "SELECT reltuples FROM pg_class WHERE relname = 'histories'"), ["20"]);
}
