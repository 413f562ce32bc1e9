//! Joins with a table that is asked by key: the rows that a join with the same rows as a static table gives, as a stream and
//! over history. The table is in memory, and counts what it is asked; real servers are in the program's own tests.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, SortField};
use watershed_engine::plan::Rounds;
use watershed_ports::{LookupAnswer, LookupTable};
use watershed_sql::StaticDef;
use watershed_types::{Error, Result};

use crate::pipelines::{Pipeline, mixed};
use crate::same;
use crate::world::{Cut, as_batch, as_stream, streamed, try_plan};

/// Keys that were asked for, in all tables of this process.
static KEYS: AtomicU64 = AtomicU64::new(0);
/// Requests that failed before they were answered.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// A table in memory, asked by its primary key. Of family `broken` it cannot read its rows, and `flaky` in its name makes every
/// tenth call fail.
pub struct Asked {
    name: String,
    rows: RecordBatch,
    key: Vec<usize>,
    calls: AtomicU64,
}

impl Asked {
    pub fn new(definition: &StaticDef, rows: &RecordBatch) -> Asked {
        let schema = Arc::new(Schema::new(definition.columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true)).collect::<Vec<_>>()));
        let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()).expect("a type of its own")).collect();
        let key = definition.primary_key.iter().map(|name| schema.index_of(name).expect("a column")).collect();
        Asked { name: definition.name.clone(), rows: RecordBatch::try_new(schema, columns).expect("rows"), key, calls: AtomicU64::new(0) }
    }

    fn answer(&self, keys: &RecordBatch) -> LookupAnswer {
        KEYS.fetch_add(keys.num_rows() as u64, Ordering::Relaxed);
        let converter = RowConverter::new(keys.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect()).expect("keys");
        let asked = converter.convert_columns(keys.columns()).expect("keys");
        assert!(keys.columns().iter().all(|column| column.null_count() == 0), "no key is NULL");
        let places: HashMap<_, _> = (0..keys.num_rows()).map(|row| (asked.row(row).owned(), row as u32)).collect();
        assert_eq!(places.len(), keys.num_rows(), "no key is there twice");
        let own: Vec<_> = self.key.iter().map(|index| Arc::clone(self.rows.column(*index))).collect();
        let held = converter.convert_columns(&own).expect("keys");
        let broken: HashSet<usize> = match self.rows.column_by_name("family") {
            Some(families) => {
                let families = cast(families, &arrow::datatypes::DataType::Utf8).expect("text");
                let families = arrow::array::AsArray::as_string::<i32>(&families);
                (0..self.rows.num_rows()).filter(|row| families.is_valid(*row) && families.value(*row) == "broken").collect()
            }
            None => HashSet::new(),
        };
        let (mut rows, mut of, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..self.rows.num_rows() {
            match places.get(&held.row(row).owned()) {
                Some(place) if broken.contains(&row) => unreadable.push((*place, "its row is damaged".to_owned())),
                Some(place) => {
                    rows.push(row as u32);
                    of.push(*place);
                }
                None => {}
            }
        }
        LookupAnswer { rows: take_record_batch(&self.rows, &UInt32Array::from(rows)).expect("rows"), of, unreadable }
    }
}

impl LookupTable for Asked {
    fn name(&self) -> &str {
        &self.name
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn ask(&self, requests: &[RecordBatch]) -> Result<Vec<LookupAnswer>> {
        if self.name.contains("flaky") && self.calls.fetch_add(1, Ordering::Relaxed) % 10 == 0 {
            FAILED.fetch_add(1, Ordering::Relaxed);
            return Err(Error::unavailable("TEST0009", "not there for a moment"));
        }
        Ok(requests.iter().map(|keys| self.answer(keys)).collect())
    }
}

const FAMILIES: &str = "SELECT * FROM (VALUES ('food', 'daily', 10), ('fuel', 'car', 30), ('travel', NULL, 40), (NULL, 'nobody', 50)) AS t(category, family, rank)";
const PARTS: &str = "SELECT * FROM (VALUES (0, 'a', 'first'), (1, 'a', 'second'), (1, 'b', 'other')) AS t(part, side, name)";
const DECLARED: &str = "CREATE STATIC TABLE families (category VARCHAR, family VARCHAR, rank BIGINT, PRIMARY KEY (category) NOT ENFORCED) WITH (connector = 'asked', \"lookup.batch\" = '2');
     CREATE STATIC TABLE flaky_parts (part INT NOT NULL, side VARCHAR NOT NULL, name VARCHAR, PRIMARY KEY (part, side) NOT ENFORCED) WITH (connector = 'asked', lookup.cache.max_rows = 0);
     CREATE STATIC TABLE plain_families WITH (connector = 'files');
     CREATE STATIC TABLE plain_parts WITH (connector = 'files');\n";
const STATICS: &[(&str, &str)] = &[("families", FAMILIES), ("plain_families", FAMILIES), ("flaky_parts", PARTS), ("plain_parts", PARTS), ("keyless", "SELECT 'x' AS a")];

fn pipeline(sql: &str) -> Pipeline {
    Pipeline { name: "asked", sql: Box::leak(format!("{DECLARED}{sql}").into_boxed_str()), statics: STATICS, input: mixed }
}

const CUTS: [Cut; 3] =
    [Cut { slice: 1_000, rows_per_tick: 100_000, parallelism: 1 }, Cut { slice: 1, rows_per_tick: 1, parallelism: 1 }, Cut { slice: 7, rows_per_tick: 20, parallelism: 3 }];

/// Each query once with tables that are asked and once with the same rows as static tables; `{families}` and `{parts}` stand for them.
const QUERIES: &[&str] = &[
    "SELECT s.id, s.seq, c.family, c.rank FROM s LEFT JOIN {families} AS c ON s.category = c.category",
    "SELECT s.id, s.seq, c.* FROM s JOIN {families} AS c ON c.category = s.category",
    "SELECT s.id, s.seq, c.family FROM s LEFT JOIN {families} AS c ON s.category = c.category AND c.rank < 35 AND s.seq % 2 = 0",
    "SELECT s.id, s.seq, c.family FROM s JOIN {families} AS c ON s.category = c.category WHERE c.family IS NOT NULL AND c.rank > s.seq",
    "SELECT s.id, s.seq, c.family FROM s LEFT JOIN {families} AS c ON s.category = c.category WHERE c.family IS NULL",
    "SELECT s.id, s.seq, p.name FROM s LEFT JOIN {parts} AS p ON s.part = p.part AND p.side = 'a'",
    "SELECT s.id, s.seq, p.name, p.side FROM s LEFT JOIN {parts} AS p ON s.amount = p.part AND CASE WHEN s.seq % 2 = 0 THEN 'a' ELSE 'b' END = p.side",
    "SELECT s.id, s.seq, c.family, p.name FROM s LEFT JOIN {families} AS c ON s.category = c.category JOIN {parts} AS p ON p.part = s.part AND p.side = left(c.family, 0) || 'a'",
    "SELECT window_start, c.family, count(*) AS n, sum(c.rank) AS ranks FROM TUMBLE(s, at, INTERVAL '5 minutes') AS w JOIN {families} AS c ON lower(w.category) = c.category GROUP BY window_start, window_end, c.family",
    "SELECT d.id, d.seq, c.family, now() AS at FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '3 minutes') AS d LEFT JOIN {families} AS c ON c.category = d.category",
];

#[test]
fn a_table_that_is_asked_gives_what_its_rows_in_memory_give() {
    let mut sql = String::new();
    for (index, query) in QUERIES.iter().enumerate() {
        let asked = query.replace("{families}", "families FOR SYSTEM_TIME AS OF PROCTIME()").replace("{parts}", "flaky_parts FOR SYSTEM_TIME AS OF PROCTIME()");
        // A table that is held in memory may be read as of now too.
        let plain = query.replace("{families}", "plain_families FOR SYSTEM_TIME AS OF PROCTIME()").replace("{parts}", "plain_parts");
        sql.push_str(&format!("CREATE TABLE asked_{index:02} AS {asked}; CREATE TABLE plain_{index:02} AS {plain};\n"));
    }
    let pipeline = pipeline(&sql);
    for seed in 1..4 {
        let records = mixed(seed);
        let batch = as_batch(&pipeline, &records, Rounds::UntilDone).unwrap_or_else(|e| panic!("batch: {}", e.report()));
        for (index, query) in QUERIES.iter().enumerate() {
            let (asked, plain) = (&batch[&format!("asked_{index:02}")], &batch[&format!("plain_{index:02}")]);
            assert!(plain.len() > 1, "rows and not their columns alone: {query}");
            assert_eq!(asked[1..], plain[1..], "batch, seed {seed}: {query}");
        }
        for cut in CUTS {
            let stream = as_stream(&pipeline, &records, cut).unwrap_or_else(|e| panic!("{cut:?}: {}", e.report()));
            same(&stream, &batch, &format!("seed {seed}, {cut:?}"));
        }
    }
    assert!(FAILED.load(Ordering::Relaxed) > 20, "the table was away now and then");
}

#[test]
fn a_key_is_asked_for_once_while_its_answer_lasts_and_what_cannot_be_read_is_refused_alone() {
    let record = |seq: u64, category: &str| format!(r#"{{"id":"k{seq}","seq":{seq},"at":"2026-01-01T00:00:{:02}Z","category":{category}}}"#, seq % 60);
    let categories = [r#""food""#, r#""nowhere""#, "null", r#""bad""#, r#""twice""#];
    let records = vec![(0..100).map(|seq| record(seq, categories[seq as usize % 5])).collect()];
    let rows = "SELECT * FROM (VALUES ('food', 'daily', 10), ('bad', 'broken', 20), ('twice', 'one', 30), ('twice', 'two', 40)) AS t(category, family, rank)";
    let rows: &'static [(&str, &str)] = Box::leak(Box::new([("families", rows), ("plain_families", FAMILIES), ("flaky_parts", PARTS), ("plain_parts", PARTS)]));
    let pipeline = Pipeline {
        statics: rows,
        ..pipeline("CREATE TABLE t AS SELECT s.seq, c.family FROM s LEFT JOIN families FOR SYSTEM_TIME AS OF PROCTIME() AS c ON s.category = c.category;")
    };
    for cut in CUTS {
        let before = KEYS.load(Ordering::Relaxed);
        let (tables, details) = streamed(&pipeline, &records, cut).unwrap_or_else(|e| panic!("{}", e.report()));
        assert_eq!(tables["t"].len() - 1, 60, "{cut:?}: food, nowhere and NULL, below the columns");
        assert_eq!(tables["t"].iter().filter(|row| row.contains("daily")).count(), 20);
        assert_eq!(details.iter().filter(|detail| detail.contains("static table \"families\": its row is damaged")).count(), 20, "{details:?}");
        assert_eq!(details.iter().filter(|detail| detail.contains("static table \"families\" has several rows of its key")).count(), 20);
        if cut.rows_per_tick == 1 {
            // Other tests of this process ask too: at least these, and no answer that could be used was asked for again.
            assert!(KEYS.load(Ordering::Relaxed) - before >= 42, "what is wrong is looked at again");
        }
    }
    let error = as_batch(&pipeline, &records, Rounds::UntilDone).expect_err("a batch stops at it");
    assert!(error.report().contains("static table \"families\""), "{}", error.report());
}

#[test]
fn what_is_no_lookup_is_refused_with_the_way_to_write_it() {
    let refused = |sql: &str| {
        let error = try_plan(&pipeline(sql)).err().unwrap_or_else(|| panic!("{sql} is planned"));
        format!("{} | {}", error.message(), error.next_step().unwrap_or_default())
    };
    let form = "FOR SYSTEM_TIME AS OF PROCTIME()";
    for (sql, words) in [
        ("CREATE TABLE t AS SELECT s.id FROM s JOIN families AS c ON s.category = c.category", "is asked by key, and cannot be read in any other way"),
        ("CREATE TABLE t AS SELECT s.id FROM families AS c JOIN s ON s.category = c.category", form),
        ("CREATE TABLE t AS SELECT s.id FROM s WHERE category IN (SELECT category FROM families)", form),
        ("CREATE TABLE t AS SELECT s.id FROM s JOIN families FOR SYSTEM_TIME AS OF s.at AS c ON s.category = c.category", "has no versions"),
        ("CREATE TABLE t AS SELECT s.id FROM s JOIN families FOR SYSTEM_TIME AS OF PROCTIME() AS c ON s.category = c.family", "ON gives no value for \"category\""),
        ("CREATE TABLE t AS SELECT s.id FROM s JOIN flaky_parts FOR SYSTEM_TIME AS OF PROCTIME() AS p ON s.part = p.part", "ON gives no value for \"side\""),
        ("CREATE TABLE t AS SELECT s.id FROM s FULL JOIN families FOR SYSTEM_TIME AS OF PROCTIME() AS c ON s.category = c.category", "is not available"),
        (
            "CREATE TABLE n AS SELECT category, count(*) AS n FROM s GROUP BY category EMIT ON CHANGE; CREATE TABLE t AS SELECT n.n, c.family FROM n JOIN families FOR SYSTEM_TIME AS OF PROCTIME() AS c ON n.category = c.category",
            "cannot run over results that change",
        ),
        ("CREATE STATIC TABLE keyless (a VARCHAR) WITH (connector = 'asked'); CREATE TABLE t AS SELECT id FROM s", "PRIMARY KEY"),
    ] {
        let said = refused(sql);
        assert!(said.contains(words), "{sql}:\n{said}");
    }
}
