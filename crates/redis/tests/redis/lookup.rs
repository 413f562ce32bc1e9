//! Keys asked for: what a sink writes is found again, in every form.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, Schema};
use redis::Commands as _;
use watershed_ports::{LookupAnswer, LookupTable};
use watershed_redis::RedisLookup;
use watershed_types::{Kind, OptionValue, Options, Result};

use crate::{Server, batch, live, script};

/// `status` and `orders` are the key of what the sink of these tests writes.
fn table(url: &str, more: &[(&str, &str)], amount: DataType) -> Result<RedisLookup> {
    let mut values = BTreeMap::new();
    for (option, value) in [("url", url), ("key", "agg:{status}:{orders}")].iter().chain(more) {
        values.insert((*option).to_owned(), OptionValue::new(*value, "…", "a.sql:1:1"));
    }
    let fields = [("orders", DataType::Int64), ("amount", amount), ("status", DataType::Utf8View)];
    let schema = Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()));
    let mut options = Options::new("static table \"t\"", values);
    let table = RedisLookup::new(&mut options, "t", schema, vec![2, 0])?;
    options.finish()?;
    Ok(table)
}

fn ask(table: &RedisLookup, keys: &[(&str, i64)]) -> LookupAnswer {
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringViewArray::from_iter_values(keys.iter().map(|key| key.0))), Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| key.1)))];
    let schema = Arc::new(Schema::new(vec![Field::new("status", DataType::Utf8View, false), Field::new("orders", DataType::Int64, false)]));
    table.ask(&[RecordBatch::try_new(schema, columns).expect("keys")]).unwrap_or_else(|e| panic!("{}", e.report())).remove(0)
}

#[test]
fn every_form_of_value_is_found_by_its_key() {
    let server = Server::start();
    let rows = batch(&[(1_709_211_900, Some("paid"), Some(5), 250), (1_709_211_960, Some("it's: odd"), Some(6), -1)]);
    for form in [&[("type", "hash")][..], &[("type", "json")], &[("type", "string"), ("value", "amount")]] {
        let mut options = vec![("key", "agg:{status}:{orders}")];
        options.extend_from_slice(form);
        live(&server.url, &options).write(&rows).expect("written");
        let found = table(&server.url, &form[..1], DataType::Decimal128(18, 2)).expect("a table");
        found.check().expect("it is there");
        let answer = ask(&found, &[("paid", 6), ("it's: odd", 6), ("paid", 5)]);
        assert_eq!((answer.of, answer.unreadable), (vec![1, 2], vec![]), "{form:?}");
        assert_eq!(answer.rows.column(0).as_ref(), &Int64Array::from(vec![6, 5]) as &dyn arrow::array::Array, "the key's columns come from the key");
        assert_eq!(answer.rows.column(1).as_primitive::<Decimal128Type>().values(), &[-1, 250]);
        let _: () = server.connection().flushall().expect("for the next form");
    }
}

#[test]
fn what_does_not_fit_is_its_keys_trouble_and_a_dead_server_everybodys() {
    let server = Server::start();
    let mut redis = server.connection();
    let _: () = redis.hset("agg:a:1", "amount", "7").expect("set");
    let _: () = redis.hset("agg:a:2", "amount", "much").expect("set");
    let _: () = redis.set("agg:a:3", "no hash").expect("set");
    let _: () = redis.hset("agg:a:4", "other", "x").expect("set");
    let found = table(&server.url, &[], DataType::Int64).expect("a table");
    let answer = ask(&found, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]);
    assert_eq!(answer.of, [0, 3]);
    assert!(answer.rows.column(1).is_null(1), "a field that is not there is NULL");
    let troubles: Vec<u32> = answer.unreadable.iter().map(|(key, _)| *key).collect();
    assert_eq!(troubles.len(), 2);
    assert!(troubles.contains(&1) && troubles.contains(&2));
    assert!(answer.unreadable.iter().all(|(_, why)| !why.contains("much")), "no value is told: {:?}", answer.unreadable);
    script("kill", &server.folder, &[]);
    let keys = RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("status", DataType::Utf8View, false), Field::new("orders", DataType::Int64, false)])),
        vec![Arc::new(StringViewArray::from_iter_values(["a"])), Arc::new(Int64Array::from(vec![1]))],
    );
    let error = found.ask(&[keys.expect("keys")]).expect_err("it is dead");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.report().contains("static table \"t\"") && !error.report().contains("sink"), "{}", error.report());
    script("restart", &server.folder, &[]);
    assert_eq!(ask(&found, &[("a", 9)]).of, Vec::<u32>::new(), "it is asked by a new connection");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |more: &[(&str, &str)], amount: DataType| table("redis://:hunter2@127.0.0.1:1/", more, amount).err().map(|e| e.report()).unwrap_or_default();
    assert!(refused(&[("ttl", "1h")], DataType::Int64).contains("has no option \"ttl\""));
    assert!(refused(&[("type", "string"), ("value", "amount")], DataType::Int64).contains("has no option \"value\""));
    let mut options =
        Options::new("static table \"t\"", BTreeMap::from([("url", "redis://h/"), ("key", "x:{a}")].map(|(k, v)| (k.to_owned(), OptionValue::new(v, v, "a.sql:1:1")))));
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)]));
    let error = RedisLookup::new(&mut options, "t", schema, vec![0, 1]).err().expect("another key").report();
    assert!(error.contains("name different columns") && error.contains("PRIMARY KEY (a, b)"), "{error}");
    let away = table("redis://:hunter2@127.0.0.1:1/", &[("connect_timeout", "1s")], DataType::Int64).expect("a table").check().expect_err("nobody there");
    assert!(away.kind() == Kind::Unavailable && !away.report().contains("hunter2"), "{}", away.report());
}
