//! The sink against a real Redis, private to this test. Without one the tests fail.

mod lookup;

use std::collections::{BTreeMap, HashMap};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use redis::{Commands as _, Connection};
use tempfile::TempDir;
use watershed_redis::{RedisLive, RedisOptions, RedisReader};
use watershed_types::{Certainty, Epoch, Generation, Kind, OptionValue, Options, Result};

struct Server {
    folder: TempDir,
    url: String,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let said = script("start", &folder, &["--parent", &std::process::id().to_string()]);
        Self { url: said.trim().strip_prefix("url=").expect("the script says url=").to_owned(), folder }
    }
    fn connection(&self) -> Connection {
        redis::Client::open(self.url.as_str()).and_then(|client| client.get_connection()).expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script("remove", &self.folder, &[]);
    }
}

fn script(command: &str, folder: &TempDir, arguments: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/redis");
    let output = Command::new(script).arg(command).arg(folder.path()).args(arguments).stdin(Stdio::null()).output().expect("scripts/redis runs");
    assert!(output.status.success(), "scripts/redis {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("window_start", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("status", DataType::Utf8, true),
        Field::new("orders", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(18, 2), true),
    ]))
}

fn batch(rows: &[(i64, Option<&str>, Option<i64>, i128)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0 * 1_000_000)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Decimal128Array>().with_precision_and_scale(18, 2).expect("a decimal")),
    ];
    RecordBatch::try_new(schema(), columns).expect("a batch")
}

fn options(url: &str, pairs: &[(&str, &str)]) -> Result<RedisOptions> {
    let mut values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
    values.insert("url".to_owned(), OptionValue::new(url, "${URL}", "a.sql:1:1"));
    let mut options = Options::new("sink \"hot\"", values);
    let taken = RedisOptions::take(&mut options, "hot", &schema())?;
    options.finish()?;
    Ok(taken)
}

fn live(url: &str, pairs: &[(&str, &str)]) -> RedisLive {
    RedisLive::new(options(url, pairs).expect("options"), "life/1", "shop", schema()).expect("a sink")
}

const KEY: (&str, &str) = ("key", "agg:{window_start}:{status}");

#[test]
fn setting_twice_is_setting_once_and_nulls_leave_no_old_value() {
    let server = Server::start();
    let mut sink = live(&server.url, &[KEY, ("batch", "3")]);
    let rows: Vec<_> = (0..100).map(|i| (1_709_211_900 + 60 * i, Some("paid"), Some(i), 100)).collect();
    for _ in 0..2 {
        sink.write(&batch(&rows)).expect("written");
    }
    sink.flush().expect("flushed");
    let mut redis = server.connection();
    assert_eq!(redis.keys::<_, Vec<String>>("agg:*").expect("keys").len(), 100);
    let found: HashMap<String, String> = redis.hgetall("agg:20240229T130600Z:paid").expect("a hash");
    assert_eq!(found, HashMap::from([("orders".into(), "1".into()), ("amount".into(), "1.00".into())]));
    sink.write(&batch(&[(1_709_211_960, Some("paid"), None, 250), (0, None, Some(7), 0)])).expect("written");
    let found: HashMap<String, String> = redis.hgetall("agg:20240229T130600Z:paid").expect("a hash");
    assert_eq!(found, HashMap::from([("amount".into(), "2.50".into())]));
    assert_eq!(redis.hget::<_, _, String>("agg:19700101T000000Z:null", "orders").expect("a field"), "7");
}

#[test]
fn strings_and_json_with_a_life_time() {
    let server = Server::start();
    let rows = batch(&[(1_709_211_900, Some("a\"b"), Some(5), -1)]);
    live(&server.url, &[("key", "{{s}}:{status}"), ("type", "string"), ("value", "orders"), ("ttl", "1h")]).write(&rows).expect("written");
    live(&server.url, &[("key", "j:{orders}"), ("type", "json"), ("ttl", "300ms")]).write(&rows).expect("written");
    live(&server.url, &[("key", "h:{orders}"), ("fields", "status"), ("ttl", "1h")]).write(&rows).expect("written");
    let mut redis = server.connection();
    assert_eq!(redis.get::<_, String>("{s}:a\"b").expect("a string"), "5");
    assert_eq!(redis.get::<_, String>("j:5").expect("JSON"), r#"{"window_start":"2024-02-29T13:05:00Z","status":"a\"b","orders":5,"amount":-0.01}"#);
    for key in ["{s}:a\"b", "h:5"] {
        let left: i64 = redis.ttl(key).expect("a ttl");
        assert!((3_590..=3_600).contains(&left), "{key}: {left}");
    }
    std::thread::sleep(Duration::from_millis(350));
    assert!(!redis.exists::<_, bool>("j:5").expect("an answer"), "its life time is over");
}

#[test]
fn a_dead_server_is_unavailable_and_comes_back_with_its_stamp() {
    let server = Server::start();
    let mut sink = live(&server.url, &[KEY]);
    assert_eq!(sink.claim(Generation(3)).expect("claim"), Epoch::ZERO);
    let rows = batch(&[(0, Some("paid"), Some(1), 1)]);
    sink.write(&rows).expect("written");
    sink.stamp(Epoch(5), Generation(3)).expect("stamped");
    std::thread::sleep(Duration::from_millis(1_100)); // its log is synced each second
    script("kill", &server.folder, &[]);
    let began = Instant::now();
    let error = sink.write(&rows).expect_err("nobody there");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Unavailable, "RDS0002", Some(Certainty::Definite)), "{}", error.report());
    assert!(began.elapsed() < Duration::from_secs(1), "a dead server is not waited for");
    script("restart", &server.folder, &[]);
    sink.write(&rows).expect("connects by itself");
    script("restart", &server.folder, &[]);
    sink.write(&rows).expect("rides out a restart between calls");
    let stamp: HashMap<String, String> = server.connection().hgetall("watershed:shop:hot:epoch").expect("the stamp");
    assert_eq!((stamp["epoch"].as_str(), stamp["generation"].as_str(), stamp["app_id"].as_str()), ("5", "3", "life/1"));
    assert!(stamp["at"].ends_with('Z'), "{stamp:?}");
    let mut next = live(&server.url, &[KEY]);
    assert_eq!(next.claim(Generation(4)).expect("claim"), Epoch(5));
    let error = sink.stamp(Epoch(6), Generation(3)).expect_err("a zombie");
    assert_eq!((error.kind(), error.code()), (Kind::Fenced, "RDS0006"));
    let mut another = RedisLive::new(options(&server.url, &[KEY]).expect("options"), "life/2", "shop", schema()).expect("a sink");
    assert_eq!(another.claim(Generation(1)).expect("another life of the pipeline"), Epoch::ZERO);
}

#[test]
fn a_key_of_another_type_is_named_by_its_pattern() {
    let server = Server::start();
    let mut redis = server.connection();
    let _: () = redis.set("agg:19700101T000000Z:secret", "x").expect("set");
    let mut sink = live(&server.url, &[KEY, ("batch", "1")]);
    let error = sink.write(&batch(&[(0, Some("secret"), Some(1), 1), (60, Some("paid"), Some(1), 1)])).expect_err("a string is no hash");
    assert_eq!((error.kind(), error.code(), error.certainty()), (Kind::Conflict, "RDS0005", Some(Certainty::Indefinite)));
    assert!(error.message().contains("agg:{window_start}:{status}") && !error.report().contains("secret"), "{}", error.report());
    sink.write(&batch(&[(120, Some("paid"), Some(1), 1)])).expect("the connection is still in step");
    assert!(redis.exists::<_, bool>("agg:19700101T000200Z:paid").expect("an answer"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |pairs: &[(&str, &str)]| options("redis://:hunter2@h/0", pairs).expect_err("cannot be meant");
    assert_eq!(refused(&[("key", "a:{stauts}")]).next_step(), Some("Did you mean \"status\"?"));
    assert!(refused(&[("key", "a:{status")]).message().contains("without its }"));
    assert!(refused(&[("key", "a")]).message().contains("all rows would share one key"));
    assert!(refused(&[("key", "{status}"), ("retention", "1h"), ("time", "orders")]).message().contains("is no timestamp"));
    assert!(refused(&[("key", "{status}"), ("type", "string"), ("value", "orders"), ("retention", "1h")]).message().contains("types 'hash' and 'json'"));
    assert!(refused(&[("key", "{status}"), ("type", "string")]).message().contains("takes one column, not 3"));
    let error = options("rediss//:hunter2@h", &[KEY]).expect_err("no URL");
    assert!(error.code() == "RDS0001" && !error.report().contains("hunter2"), "{}", error.report());
    assert!(!format!("{:?}", options("redis://:hunter2@h/0", &[KEY]).expect("options")).contains("hunter2"));
}

fn reader(url: &str, pairs: &[(&str, &str)]) -> RedisReader {
    RedisReader::new(options(url, pairs).expect("options"), "shop", schema()).expect("a reader")
}

fn minutes(rows: std::ops::Range<i64>) -> RecordBatch {
    batch(&rows.map(|i| (60 * i, Some("paid"), (i % 2 == 0).then_some(i), i128::from(i) * 100 - 7)).collect::<Vec<_>>())
}

const MINUTE: i64 = 60_000_000;

#[test]
fn rows_come_back_as_they_were_by_key_and_by_time() {
    let server = Server::start();
    for (kind, key) in [("hash", "h:{window_start}:{status}"), ("json", "j:{window_start}:{status}")] {
        let pairs = [("key", key), ("type", kind), ("retention", "1 hour"), ("batch", "7")];
        let mut sink = live(&server.url, &pairs);
        sink.claim(Generation(1)).expect("claim");
        sink.write(&minutes(0..20)).expect("written");
        sink.stamp(Epoch(1), Generation(1)).expect("stamped");
        let reader = reader(&server.url, &pairs);
        let state = reader.state().expect("a state");
        assert_eq!((state.app_id.as_deref(), state.epoch, state.floor), (Some("life/1"), 1, Some(-41 * MINUTE)), "an hour before the newest: all there ever was");
        let found = reader.range(3 * MINUTE, 8 * MINUTE, 100).expect("rows");
        assert_eq!((found.missing, found.more), (None, false));
        assert_eq!(format!("{:?}", found.rows.columns()), format!("{:?}", minutes(3..8).columns()), "{kind}");
        let found = reader.range(3 * MINUTE, 8 * MINUTE, 2).expect("rows");
        assert_eq!((found.rows.num_rows(), found.more), (2, true));
        let keys: [ArrayRef; 2] =
            [Arc::new(TimestampMicrosecondArray::from(vec![5 * MINUTE, 99 * MINUTE, 6 * MINUTE]).with_timezone("UTC")), Arc::new(StringArray::from(vec!["paid", "paid", "paid"]))];
        let found = reader.get(&keys).expect("rows");
        assert_eq!((found.found, found.rows.num_rows()), (vec![true, false, true], 2));
        // A key that the index names and that is gone says how far the index is not to be believed.
        let _: () = server.connection().del(format!("{}:19700101T000500Z:paid", &kind[..1])).expect("deleted");
        let found = reader.range(3 * MINUTE, 8 * MINUTE, 100).expect("rows");
        assert_eq!((found.rows.num_rows(), found.missing), (4, Some(5 * MINUTE)));
        let _: () = server.connection().del("watershed:shop:hot:times").expect("deleted");
        let _: () = server.connection().del("watershed:shop:hot:epoch").expect("deleted");
    }
}

#[test]
fn old_keys_go_and_a_server_that_restarted_is_not_believed_about_the_past() {
    let server = Server::start();
    let pairs = [KEY, ("retention", "10 minutes"), ("time", "window_start")];
    let mut sink = live(&server.url, &pairs).with_past(|| Ok(None));
    sink.claim(Generation(1)).expect("claim");
    sink.write(&minutes(0..30)).expect("written");
    sink.stamp(Epoch(1), Generation(1)).expect("stamped");
    let reader = reader(&server.url, &pairs);
    assert_eq!(reader.state().expect("a state").floor, Some(19 * MINUTE), "ten minutes before the newest");
    assert_eq!(server.connection().keys::<_, Vec<String>>("agg:*").expect("keys").len(), 11);
    script("kill", &server.folder, &[]);
    assert_eq!(reader.range(0, i64::MAX, 10).expect_err("nobody there").code(), "RDS0002");
    script("restart", &server.folder, &[]);
    assert_eq!(reader.state().expect("another life of the server").floor, None);
    sink.write(&minutes(30..32)).expect("written");
    sink.stamp(Epoch(2), Generation(1)).expect("stamped");
    assert_eq!(reader.state().expect("a state").floor, Some(31 * MINUTE + 1), "what it may have lost is below");
    // Another process that knows nothing of what was sent asks what there is elsewhere.
    script("kill", &server.folder, &[]);
    script("restart", &server.folder, &[]);
    let mut next = live(&server.url, &pairs).with_past(|| Ok(Some(100 * MINUTE)));
    next.claim(Generation(2)).expect("claim");
    assert_eq!(reader.state().expect("a state").floor, Some(100 * MINUTE + 1));
}
