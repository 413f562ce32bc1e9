//! Lookup joins with real servers: what Postgres and Redis hold of a row's key when it comes, remembered and asked for again,
//! the servers gone and back, and the same over history.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use tokio_postgres::NoTls;
use watershed_engine::plan::{Rounds, SourceHistory, StaticLoader, batch, bind};
use watershed_files::{FilesOptions, FilesSource};
use watershed_ports::LookupTable;
use watershed_postgres::read::PostgresLookup;
use watershed_redis::RedisLookup;
use watershed_sql::{SqlFile, StaticDef, parse_project};
use watershed_types::{Error, Result};

use crate::serve::address;
use crate::servers;
use crate::support::{Project, finish, signal};

const SOURCE: &str = "CREATE SOURCE s (id BIGINT NOT NULL, customer BIGINT, region VARCHAR, sku VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
   WITH (connector = 'files', path = 'data', format = 'json', discover_interval = '50ms');\n";

fn rows(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let text = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join("|");
        messages.iter().filter_map(|message| if let tokio_postgres::SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None }).collect()
    })
}

/// Sends commands to Redis, and waits until all are answered.
fn redis(url: &str, commands: impl IntoIterator<Item = String>) {
    let server = url.trim_start_matches("redis://").trim_end_matches("/0").trim_end_matches('/');
    let mut stream = TcpStream::connect(server).expect("Redis answers");
    for command in commands {
        writeln!(stream, "{command}\r").expect("sent");
    }
    writeln!(stream, "QUIT\r").expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answered");
    assert!(!answers.lines().any(|line| line.starts_with('-')), "{answers}");
}

/// A file of rows, there at once.
fn add(project: &Project, number: u64, lines: impl IntoIterator<Item = String>) {
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    project.write(&format!("aside/{number:04}.json"), text);
    std::fs::create_dir_all(project.path("data")).expect("a folder");
    std::fs::rename(project.path(&format!("aside/{number:04}.json")), project.path(&format!("data/{number:04}.json"))).expect("moved in");
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the API answers");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// One figure of a static table.
fn figure(address: &str, name: &str, table: &str) -> Option<u64> {
    let start = format!("{name}{{table=\"{table}\"}} ");
    metrics(address).lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<f64>().ok()).map(|value| value as u64)
}

const CUSTOMERS: u64 = 5_000;
const ROWS: u64 = 12_000;

/// Customers and prices in Postgres, scores in Redis.
fn fill(postgres: &str, hot: &str) {
    rows(
        postgres,
        &format!(
            "CREATE TABLE customers (id int8 PRIMARY KEY, name text NOT NULL, tier varchar(10), balance numeric(12,2), since timestamptz, \"odd Name\" text[]);
             INSERT INTO customers SELECT i, 'customer ' || i, CASE i % 3 WHEN 0 THEN 'gold' WHEN 1 THEN 'iron' END, i * 1.25, '2024-02-29 13:05:00+02', ARRAY['a', NULL] FROM generate_series(0, {CUSTOMERS} - 1) i;
             CREATE TABLE prices (region text, sku uuid, price numeric(10,2), PRIMARY KEY (region, sku));
             INSERT INTO prices SELECT r, ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, i + length(r) FROM generate_series(0, 9) i, unnest(ARRAY['eu', 'asia']) r"
        ),
    );
    redis(hot, (0..CUSTOMERS).filter(|id| id % 2 == 0).map(|id| format!("HSET score:{id} score {id}.5 note n{id}")));
}

fn definitions(postgres: &str, hot: &str) -> String {
    format!(
        "{SOURCE}CREATE STATIC TABLE customers (id BIGINT NOT NULL, name VARCHAR NOT NULL, tier VARCHAR, balance DECIMAL(14,2), since TIMESTAMPTZ, \"odd Name\" VARCHAR[], PRIMARY KEY (id) NOT ENFORCED)
           WITH (connector = 'postgres', url = '{postgres}', table = 'public.customers', lookup.batch = 700);
         CREATE STATIC TABLE prices (sku VARCHAR, region VARCHAR, price DECIMAL(10,2), PRIMARY KEY (region, sku) NOT ENFORCED) WITH (connector = 'postgres', url = '{postgres}', table = 'prices');
         CREATE STATIC TABLE scores (id BIGINT, score DECIMAL(10,1), note VARCHAR, missing VARCHAR, PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'redis', url = '{hot}', key = 'score:{{id}}');
         CREATE TABLE joined AS SELECT s.id, s.customer, c.name, c.tier, c.balance, c.since, c.\"odd Name\" AS tags, p.price, h.score, h.note, h.missing
           FROM s LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON s.customer = c.id
           LEFT JOIN prices FOR SYSTEM_TIME AS OF PROCTIME() AS p ON p.region = s.region AND p.sku = s.sku
           LEFT JOIN scores FOR SYSTEM_TIME AS OF PROCTIME() AS h ON h.id = s.customer;
         CREATE TABLE gold AS SELECT s.id, c.name FROM s JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON s.customer = c.id AND c.tier = 'gold';"
    )
}

/// Rows whose customers are there, are not, and are NULL.
fn records() -> impl Iterator<Item = String> {
    (0..ROWS).map(|id| {
        let customer = if id % 50 == 7 { "null".to_owned() } else { (id % (CUSTOMERS + 1_000)).to_string() };
        let sku = if id % 40 == 3 { "no uuid".to_owned() } else { format!("00000000-0000-0000-0000-{:012}", id % 20) };
        let region = ["eu", "asia", "moon"][id as usize % 3];
        format!(r#"{{"id":{id},"customer":{customer},"region":"{region}","sku":"{sku}","at":"2026-01-01T10:00:00Z"}}"#)
    })
}

#[test]
fn rows_meet_what_postgres_and_redis_hold_as_a_stream_and_over_history() {
    let (postgres, hot) = (servers::postgres(), servers::redis());
    fill(&postgres.address, &hot.address);
    let sql = definitions(&postgres.address, &hot.address);
    let project = Project::new(&sql);
    add(&project, 0, records());
    project.once().ok();

    let expected = |id: u64| -> serde_json::Value {
        let customer = (id % 50 != 7).then_some(id % (CUSTOMERS + 1_000));
        let known = customer.filter(|customer| *customer < CUSTOMERS);
        let hot = known.filter(|customer| customer % 2 == 0);
        let price = (id % 40 != 3 && id % 3 < 2 && id % 20 < 10).then(|| id % 20 + if id % 3 == 0 { 2 } else { 4 });
        serde_json::json!({
            "id": id, "customer": customer, "name": known.map(|id| format!("customer {id}")),
            "tier": known.and_then(|id| ["gold", "iron"].get(id as usize % 3)),
            "price": price.map(|price| format!("{price}.00")), "score": hot.map(|id| format!("{id}.5")), "note": hot.map(|id| format!("n{id}")), "missing": null,
        })
    };
    let cast = "SELECT id, customer, name, tier, CAST(price AS VARCHAR) AS price, CAST(score AS VARCHAR) AS score, note, missing FROM";
    let shown: BTreeMap<u64, serde_json::Value> = project
        .query(&format!("{cast} joined"))
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).expect("JSON"))
        .map(|row| (row["id"].as_u64().expect("an id"), row))
        .collect();
    assert_eq!(shown.len() as u64, ROWS);
    for (id, mut row) in shown {
        let wanted = expected(id);
        // A NULL may be left out of a row's JSON.
        for (name, value) in wanted.as_object().expect("an object") {
            assert_eq!(&row[name.as_str()].take(), value, "row {id}, {name}");
        }
    }
    assert_eq!(project.number("SELECT count(*) FROM joined"), ROWS as i64, "none twice");
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE balance = customer * 1.25 AND since = TIMESTAMP '2024-02-29T11:05:00Z' AND cardinality(tags) = 2"), {
        (0..ROWS).filter(|id| id % 50 != 7 && id % (CUSTOMERS + 1_000) < CUSTOMERS).count() as i64
    });
    let gold = (0..ROWS).filter(|id| id % 50 != 7 && id % (CUSTOMERS + 1_000) < CUSTOMERS && id % (CUSTOMERS + 1_000) % 3 == 0).count();
    assert_eq!(project.number("SELECT count(*) FROM gold"), gold as i64);
    assert_eq!(project.ledger()["gold <- s"].filtered, ROWS - gold as u64, "what finds nothing is filtered, and told");
    project.run(&["verify", "--deep"]).ok();

    for table in ["joined", "gold"] {
        let columns = if table == "joined" { cast } else { "SELECT id, name FROM" };
        let found = over_history(&project, &sql, table, columns);
        let stream = project.query(&format!("{columns} {table}"));
        assert_eq!(found.len(), stream.len());
        assert!(found == stream, "{table} over history differs from the stream");
    }
}

/// Opens the static tables as the program does.
struct Loader(tokio::runtime::Handle);

impl StaticLoader for Loader {
    fn load(&self, definition: &StaticDef) -> Result<RecordBatch> {
        Err(Error::internal("TEST0001", format!("\"{}\" is not read as a whole", definition.name)))
    }
    fn asked(&self, definition: &StaticDef) -> Result<Option<Arc<dyn LookupTable>>> {
        let schema = Arc::new(Schema::new(definition.columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect::<Vec<_>>()));
        let key = definition.primary_key.iter().map(|name| schema.index_of(name).expect("a column")).collect();
        let mut options = definition.options.clone();
        Ok(Some(match options.require("connector")?.as_str() {
            "postgres" => Arc::new(PostgresLookup::new(&mut options, &definition.name, schema, key, "p", self.0.clone())?),
            _ => Arc::new(RedisLookup::new(&mut options, &definition.name, schema, key)?),
        }))
    }
}

/// A table's rows by the batch lowering, as sorted JSON.
fn over_history(project: &Project, sql: &str, table: &str, columns: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let definitions = parse_project(&[SqlFile { name: "p.sql".to_owned(), text: sql.to_owned() }], &|_| None).expect("SQL");
    let mut plan = bind(&definitions, &Loader(runtime.handle().clone())).expect("a plan");
    let mut options = plan.sources[0].options.clone();
    let files = FilesOptions::take(&mut options, &project.path("")).expect("options");
    let mut history = SourceHistory::new(&mut plan, "s").expect("a source");
    history.read(&mut FilesSource::new(files, None, runtime.handle().clone()).expect("files"), 1 << 18).expect("records");
    let history: HashMap<String, Arc<dyn TableProvider>> = HashMap::from([("s".to_owned(), history.table().expect("rows"))]);
    let lowered = batch(&plan, table, &history, Rounds::UntilDone).expect("a batch");
    let batches = runtime.block_on(lowered.collect(&plan.context)).unwrap_or_else(|e| panic!("{}", e.report()));
    let found = datafusion::datasource::MemTable::try_new(batches.first().expect("rows").schema(), vec![batches]);
    let context = datafusion::prelude::SessionContext::new();
    context.register_table(table, Arc::new(found.expect("rows of its columns"))).expect("a name of its own");
    let batches = runtime.block_on(async { context.sql(&format!("{columns} {table}")).await?.collect().await }).expect("rows");
    let mut rows: Vec<String> = batches.iter().flat_map(|b| (0..b.num_rows()).map(|row| watershed_engine::json::row_as_json(b, row)).collect::<Vec<_>>()).collect();
    rows = rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("JSON").to_string()).collect();
    rows.sort();
    rows
}

#[test]
fn answers_are_remembered_as_long_as_they_are_told_to_and_misses_too() {
    let postgres = servers::postgres();
    let url = &postgres.address;
    rows(url, "CREATE TABLE words (id int8 PRIMARY KEY, word text); INSERT INTO words SELECT i, 'old' FROM generate_series(0, 999) i");
    let table = |name: &str, more: &str| {
        format!("CREATE STATIC TABLE {name} (id BIGINT, word VARCHAR, PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'postgres', url = '{url}', table = 'words'{more});")
    };
    let names =
        [("kept", ", lookup.cache.ttl = '1 hour'"), ("fresh", ", lookup.cache.max_rows = 0"), ("brief", ", lookup.cache.ttl = '50ms'"), ("small", ", lookup.cache.max_rows = 10")];
    let tables: String = names.iter().map(|(name, more)| table(name, more)).collect();
    let joins: String = names.iter().map(|(name, _)| format!(" LEFT JOIN {name} FOR SYSTEM_TIME AS OF PROCTIME() ON s.customer = {name}.id")).collect();
    let project = Project::new(&format!(
        "{SOURCE}{tables}CREATE TABLE joined AS SELECT s.id, s.customer, kept.word AS kept, fresh.word AS fresh, brief.word AS brief, small.word AS small FROM s{joins};"
    ));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"50ms\"\n");
    let record = |id: u64, customer: u64| format!(r#"{{"id":{id},"customer":{customer},"at":"2026-01-01T10:00:00Z"}}"#);
    // A thousand that are there and a thousand that are not, each twice.
    add(&project, 0, (0..4_000).map(|id| record(id, id % 2_000)));
    let running = project.spawn_piped(&["up", "--listen", "127.0.0.1:0"]);
    let api = address(&project, running.id());
    let there = |wanted: i64| project.path(".watershed/lake/silver/joined/_delta_log").exists() && project.number("SELECT count(*) FROM joined") == wanted;
    until("the first rows are there", || there(4_000));
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE kept = 'old' AND fresh = 'old' AND brief = 'old' AND small = 'old' AND customer < 1000"), 2_000);
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE kept IS NULL AND fresh IS NULL AND brief IS NULL AND small IS NULL AND customer >= 1000"), 2_000);
    assert_eq!(figure(&api, "watershed_lookup_misses_total", "kept"), Some(2_000), "each key once");
    let requests = figure(&api, "watershed_lookup_requests_total", "kept").expect("a figure");
    assert!((2..60).contains(&requests), "{requests} requests for 2,000 keys");
    assert_eq!(figure(&api, "watershed_lookup_cached_rows", "kept"), Some(2_000));
    let small = figure(&api, "watershed_lookup_cached_rows", "small").expect("a figure");
    assert!((1..=10).contains(&small), "{small} of at most 10");
    assert!(metrics(&api).contains("watershed_lookup_duration_seconds_count{table=\"kept\"}"));

    rows(url, "UPDATE words SET word = 'new'; INSERT INTO words SELECT i, 'new' FROM generate_series(1000, 1999) i");
    add(&project, 1, (4_000..6_000).map(|id| record(id, id % 2_000)));
    until("the second rows are there", || there(6_000));
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE id >= 4000 AND fresh = 'new'"), 2_000, "nothing is remembered");
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE id >= 4000 AND kept = 'old' AND customer < 1000"), 1_000, "what was there is");
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE id >= 4000 AND kept IS NULL AND customer >= 1000"), 1_000, "and what was not is not");
    assert_eq!(figure(&api, "watershed_lookup_misses_total", "kept"), Some(2_000), "nothing was asked for again");
    assert!(figure(&api, "watershed_lookup_hits_total", "kept").is_some_and(|hits| hits >= 2_000));
    let mut next = 6_000;
    until("what lasts for a moment is asked for again", || {
        add(&project, next, [record(next, 1_500)]);
        next += 1;
        until("the row is there", || there(next as i64));
        project.number(&format!("SELECT count(*) FROM joined WHERE id = {} AND brief = 'new'", next - 1)) == 1
    });
    signal(running.id(), "TERM");
    let ended = finish(running);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_dead_server_is_waited_for_and_every_row_is_joined_once() {
    let (postgres, hot) = (servers::postgres(), servers::redis());
    fill(&postgres.address, &hot.address);
    let sql = definitions(&postgres.address, &hot.address)
        .replace("lookup.batch = 700", "lookup.cache.max_rows = 0")
        .replace("key = 'score:{id}'", "key = 'score:{id}', lookup.cache.ttl = '0s'");
    let project = Project::new(&sql);
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"50ms\"\n");
    let lines: Vec<String> = records().collect();
    let file = |number: usize| add(&project, number as u64, lines[number * 500..number * 500 + 500].iter().cloned());
    file(0);
    let running = project.spawn_piped(&["up", "--listen", "127.0.0.1:0"]);
    let api = address(&project, running.id());
    let count = || if project.path(".watershed/lake/silver/joined/_delta_log").exists() { project.number("SELECT count(*) FROM joined") } else { 0 };
    until("the first rows are there", || count() == 500);
    let mut files = 1;
    for (server, table) in [(&postgres, "customers"), (&hot, "scores")] {
        server.tell(&["kill"]);
        for _ in 0..3 {
            file(files);
            files += 1;
        }
        until("it says whom it waits for", || project.run(&["status"]).ok().stdout.contains(&format!("static table \"{table}\" is waited for")));
        assert_eq!(figure(&api, "watershed_lookup_unavailable", table), Some(1), "the fault is there");
        assert_eq!(count(), (files as i64 - 3) * 500, "no row goes on without its answer");
        server.tell(&["restart"]);
        if table == "scores" {
            // This Redis keeps nothing over a kill.
            fill_scores(&hot.address);
        }
        until("the rows come on", || count() == files as i64 * 500);
        assert_eq!(figure(&api, "watershed_lookup_unavailable", table), Some(0));
    }
    signal(running.id(), "TERM");
    let ended = finish(running);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let rows = files as u64 * 500;
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM joined"), rows as i64);
    let known = |id: &u64| id % 50 != 7;
    assert_eq!(project.number("SELECT count(*) FROM joined WHERE name = 'customer ' || customer"), (0..rows).filter(known).count() as i64, "with their answers");
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);
    project.run(&["verify", "--deep"]).ok();
}

fn fill_scores(hot: &str) {
    redis(hot, (0..CUSTOMERS).filter(|id| id % 2 == 0).map(|id| format!("HSET score:{id} score {id}.5 note n{id}")));
}

#[test]
fn what_does_not_fit_is_told_at_the_start_and_rows_with_broken_answers_wait_in_the_quarantine() {
    let (postgres, hot) = (servers::postgres(), servers::redis());
    fill(&postgres.address, &hot.address);
    let sql = definitions(&postgres.address, &hot.address);
    for (right, wrong, words) in [
        ("tier VARCHAR", "tier VARCHAR, tear VARCHAR", "it has no column \"tear\""),
        ("balance DECIMAL(14,2)", "balance DECIMAL(9,2)", "column \"balance\" is numeric(12,2) there"),
        ("tier VARCHAR,", "tier VARCHAR NOT NULL,", "column \"tier\" is declared NOT NULL, and may be NULL there"),
        ("table = 'prices'", "table = 'price'", "there is no table \"public.price\""),
    ] {
        let project = Project::new(&sql.replace(right, wrong));
        add(&project, 0, []);
        project.once().refused(&["PG0035", words]);
        project.run(&["plan"]).ok();
    }
    let project = Project::new(&sql);
    redis(&hot.address, ["HSET score:2 score much".to_owned(), "DEL score:4".to_owned(), "SET score:4 text".to_owned()]);
    rows(&postgres.address, "UPDATE customers SET since = 'infinity' WHERE id = 1");
    add(&project, 0, (0..10).map(|id| format!(r#"{{"id":{id},"customer":{id},"region":"eu","at":"2026-01-01T10:00:00Z"}}"#)));
    project.once().ok();
    assert_eq!(project.number("SELECT count(*) FROM joined"), 7);
    let details = project.query("SELECT position, detail FROM quarantine WHERE table_name = 'joined'");
    for words in ["static table \\\"scores\\\": column \\\"score\\\" of a key like", "holds a value of another type", "holds an infinite timestamp"] {
        assert!(details.iter().any(|detail| detail.contains(words)), "{words}: {details:?}");
    }
    assert_eq!(details.len(), 3);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn what_was_prepared_keeps_its_answers_and_what_was_not_is_asked_for_again() {
    let postgres = servers::postgres();
    let url = &postgres.address;
    rows(url, "CREATE TABLE words (id int8 PRIMARY KEY, word text); INSERT INTO words SELECT i, 'first' FROM generate_series(0, 99) i");
    let project = Project::new(&format!(
        "{SOURCE}CREATE STATIC TABLE words (id BIGINT, word VARCHAR, PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'postgres', url = '{url}', table = 'words');
         CREATE TABLE joined AS SELECT s.id, words.word FROM s JOIN words FOR SYSTEM_TIME AS OF PROCTIME() ON s.customer = words.id;
         CREATE SINK there FROM joined WITH (connector = 'postgres', url = '{url}', table = 'joined');"
    ));
    let record = |id: u64| format!(r#"{{"id":{id},"customer":{},"at":"2026-01-01T10:00:00Z"}}"#, id % 100);
    let held = || rows(url, "SELECT word, count(*), count(DISTINCT id) FROM joined GROUP BY word ORDER BY word");
    add(&project, 0, (0..1_000).map(record));
    assert!(project.once_but("after_prepare").died_at_failpoint(), "it was killed with its epoch prepared");
    rows(url, "UPDATE words SET word = 'second'");
    project.once().ok();
    assert_eq!(held(), ["first|1000|1000"], "an epoch that was prepared is not processed again");

    add(&project, 1, (1_000..2_000).map(record));
    assert!(project.once_but("tick").died_at_failpoint(), "it was killed before anything was prepared");
    rows(url, "UPDATE words SET word = 'third'");
    project.once().ok();
    assert_eq!(held(), ["first|1000|1000", "third|1000|1000"], "rows that come again meet what there is now, once");
    for word in ["first", "third"] {
        assert_eq!(project.number(&format!("SELECT count(DISTINCT id) FROM joined WHERE word = '{word}'")), 1_000, "the lake holds the same");
    }
    project.run(&["verify", "--deep"]).ok();
}
