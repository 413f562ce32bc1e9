//! Old rows removed, and what is said of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use watershed_ports::Target;
use watershed_types::Generation;

use crate::support::*;

fn timed(zone: Option<&str>) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into)), true)]))
}

/// A row a minute, and one without a time.
fn minutes(zone: Option<&str>, range: std::ops::Range<i64>) -> RecordBatch {
    let times: TimestampMicrosecondArray = range.clone().map(|minute| Some(minute * 60_000_000)).chain([None]).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(range.clone().chain([-range.start - 1]).collect::<Int64Array>()), Arc::new(times.with_timezone_opt(zone.map(Arc::<str>::from)))];
    RecordBatch::try_new(timed(zone), columns).expect("a batch")
}

#[test]
fn rows_behind_the_newest_go_and_the_floor_says_so() {
    let url = &shared().url;
    for (table, zone) in [("kept_zoned", Some("UTC")), ("kept_plain", None)] {
        let target = target(url, &[("table", table), ("retention", "10 minutes"), ("time", "at")], timed(zone));
        target.claim(Generation(1)).expect("claim");
        target.maintain().expect("an empty table has nothing old");
        deliver(&target, 1, 1, &[minutes(zone, 0..10)]).expect("delivered");
        target.maintain().expect("nothing is old yet");
        assert_eq!(sql(url, &format!("SELECT count(*) FROM {table}")), ["11"]);
        deliver(&target, 2, 1, &[minutes(zone, 10..30)]).expect("delivered");
        target.maintain().expect("maintained");
        // Ten minutes behind 00:29; a row without a time is never old.
        assert_eq!(sql(url, &format!("SELECT min(id) FILTER (WHERE id >= 0), count(*) FILTER (WHERE id >= 0), count(*) FILTER (WHERE at IS NULL) FROM {table}")), ["19|11|2"]);
        assert_eq!(sql(url, &format!("SELECT extract(epoch FROM floor)::int / 60 FROM watershed.floors WHERE app_id = '{table}'")), ["19"]);
        // What is gone was there: the ledger says so, and nobody counts it as lost.
        let history = target.history().expect("a history");
        assert_eq!((history.epochs.values().sum::<u64>(), history.rows_now), (32, None));
        // An older row that comes late does not lower the floor, and goes the next time.
        deliver(&target, 3, 1, &[minutes(zone, 5..6)]).expect("delivered");
        target.maintain().expect("maintained");
        assert_eq!(sql(url, &format!("SELECT count(*) FROM {table} WHERE id = 5")), ["0"]);
        assert_eq!(sql(url, &format!("SELECT extract(epoch FROM floor)::int / 60 FROM watershed.floors WHERE app_id = '{table}'")), ["19"]);
    }
}

#[test]
fn retention_needs_a_time() {
    let url = &shared().url;
    assert!(options(url, &[("table", "t"), ("retention", "1 day")]).expect_err("of what").message().contains("which column is the time"));
    assert!(options(url, &[("table", "t"), ("time", "at")]).expect_err("for what").message().contains("is for \"retention\""));
    let taken = options(url, &[("table", "t"), ("retention", "1 day"), ("time", "id")]).expect("options");
    assert!(watershed_postgres::Columns::new(&taken, &timed(None)).expect_err("no time").message().contains("is no timestamp"));
}
