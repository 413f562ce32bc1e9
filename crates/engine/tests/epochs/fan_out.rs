//! One key with very many rows: a join says so, and stops before it fills the memory.

use std::sync::Arc;

use watershed_engine::run::Status;
use watershed_ports::SystemClock;
use watershed_types::{Kind, Result};

use crate::world::{Cut, HOT, World, run};

const CUT: Cut = Cut { slice: 10_000, rows_per_tick: 100_000, epoch_bytes: 1 << 30, fan_out: 0, once: true };

const SOURCES: &str = "CREATE SOURCE s (id BIGINT NOT NULL, k BIGINT, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at) WITH (connector = 'log');
CREATE SOURCE r (n BIGINT NOT NULL, k BIGINT, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at) WITH (connector = 'log');
CREATE STATIC TABLE hot (k BIGINT, n BIGINT) WITH (connector = 'files', path = 'hot');";

/// Where rows of a key meet, and how many there are. Pairs are looked at 16,384 at a time.
const JOINS: [(&str, i64); 3] = [
    ("SELECT s.id, r.n FROM s JOIN r ON s.k = r.k AND r.n % 2 = 0", HOT),
    ("SELECT s.id, r.n FROM s JOIN r ON s.k = r.k AND s.at BETWEEN r.at - INTERVAL '1 hour' AND r.at + INTERVAL '1 hour' WHERE r.n % 2 = 0", 2_000),
    ("SELECT s.id, hot.n FROM s JOIN hot ON s.k = hot.k AND hot.n % 2 = 0 AND hot.n < s.id + 1000000", HOT),
];

/// Two rows of `s` meet the many of `r`, of which every other one counts.
fn meet(query: &str, many: i64, fan_out: u64) -> (Result<Status>, usize) {
    let world = Arc::new(World::default());
    let folder = tempfile::tempdir().expect("a folder");
    let sql = format!("{SOURCES} CREATE VIEW both AS {query}; CREATE SINK seen FROM both WITH (connector = 'outside');");
    let mut logs = world.logs.lock();
    logs.insert(("s".to_owned(), "0".to_owned()), vec![]);
    let many = (0..if query.contains("hot") { 0 } else { many }).map(|n| format!(r#"{{"n":{n},"k":1,"at":"2026-01-01T00:00:00Z"}}"#)).collect();
    logs.insert(("r".to_owned(), "0".to_owned()), many);
    drop(logs);
    run(&world, &sql, folder.path(), Cut { fan_out, ..CUT }, Arc::new(SystemClock)).expect("starts").join().expect("one side alone multiplies nothing");
    let few = [1, 2].map(|id| format!(r#"{{"id":{id},"k":1,"at":"2026-01-01T00:00:00Z"}}"#));
    world.logs.lock().insert(("s".to_owned(), "0".to_owned()), few.into());
    let handle = run(&world, &sql, folder.path(), Cut { fan_out, ..CUT }, Arc::new(SystemClock)).expect("starts");
    let status = Arc::clone(&handle.status);
    let ended = handle.join().map(|_| status.read().clone());
    let rows = world.place("seen").lock().rows.len();
    (ended, rows)
}

#[test]
fn a_row_that_meets_too_many_stops_the_run_and_names_the_join() {
    for (query, many) in JOINS {
        let each = many as u64 / 2;
        let (ended, rows) = meet(query, many, each);
        let status = ended.unwrap_or_else(|e| panic!("{query}: {}", e.report()));
        assert_eq!(rows as u64, 2 * each, "{query}");
        let words = format!("has made {each} rows of one row by k; the run stops beyond {each}");
        let notices: Vec<&String> = status.notices.iter().filter(|notice| notice.contains(&words)).collect();
        assert_eq!(notices.len(), 1, "{query}: {:?}", status.notices);

        let (ended, rows) = meet(query, many, each - 1);
        let error = ended.expect_err(query);
        assert_eq!((error.code(), error.kind(), rows), ("RUN0034", Kind::Rejected, 0), "{query}: {}", error.report());
        let words = format!("one row at position 0 of partition 0 becomes more than {} rows in join \"both", each - 1);
        assert!(error.message().contains(&words) && error.message().ends_with(" by k"), "{query}: {}", error.message());
    }
    let (query, many) = JOINS[2];
    let (ended, rows) = meet(query, many, 0);
    assert_eq!((ended.expect("no limit").notices.len(), rows as i64), (0, many));
}
