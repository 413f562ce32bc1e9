//! One golden a pipeline, whatever the way it runs: straight, cut small, at other parallelisms, killed at every place of
//! a commit. And the same again from plain SQL over the accepted rows: as batch and as stream.
//!
//! `WATERSHED_BLESS=1` writes the goldens anew.

use std::fs;
use std::path::PathBuf;

use watershed_engine::failpoint::PLACES;

use crate::support::{Cut, Held, Project, same, same_rows};
use crate::workload;

type Oracle = (&'static str, &'static str);

struct Golden {
    name: &'static str,
    sql: &'static str,
    files: Vec<(&'static str, String)>,
    /// A table, and the batch query over other tables that must give the same rows.
    oracles: &'static [Oracle],
}

impl Golden {
    fn project(&self, cut: Cut) -> Project {
        let project = Project::new(self.sql);
        project.cut(cut);
        for (path, content) in &self.files {
            project.write(path, content);
        }
        project
    }

    fn expected(&self, straight: &Held) -> Held {
        let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let file = root.join(format!("tests/it/goldens/{}.json", self.name));
        if std::env::var_os("WATERSHED_BLESS").is_some() {
            fs::write(&file, serde_json::to_string_pretty(straight).expect("JSON") + "\n").expect("the golden is written");
        }
        let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing: run with WATERSHED_BLESS=1 and read what it writes", file.display()));
        serde_json::from_str(&text).expect("a golden")
    }

    /// Runs it every way there is.
    fn prove(&self) {
        let straight = self.project(Cut::PLAIN);
        straight.to_the_end().ok();
        let held = straight.held();
        let expected = self.expected(&held);
        same(&held, &expected, &format!("{}, straight", self.name));
        for (table, batch) in self.oracles {
            same_rows(&straight.query(batch), &expected.tables[*table], &format!("{}: {table} as batch", self.name));
        }
        straight.to_the_end().ok();
        same(&straight.held(), &expected, &format!("{}, run again without new input", self.name));

        for parallelism in [1, 3, 7] {
            for cut in [Cut { parallelism, ..Cut::PLAIN }, Cut::tiny(parallelism)] {
                let project = self.project(cut);
                project.to_the_end().ok();
                same(&project.held(), &expected, &format!("{}, {cut:?}", self.name));
            }
        }
        let mut fired = 0;
        for (index, place) in PLACES.iter().enumerate() {
            for n in 1..=3 {
                let parallelisms = [1 + (index + n) % 3, 1 + (index + n + 1) % 3];
                let project = self.project(Cut::tiny(parallelisms[0]));
                let died = project.to_the_end_but(&format!("{place}:{n}"));
                assert!(died.code == Some(0) || died.died_at_failpoint(), "{}, {place}:{n}: {died:?}", self.name);
                if n == 1 || died.died_at_failpoint() {
                    assert!(died.died_at_failpoint(), "{}: {place} was not reached", self.name);
                    fired += 1;
                    // And once more while recovering.
                    project.cut(Cut::tiny(parallelisms[1]));
                    project.to_the_end_but(&format!("{place}:{n}"));
                    project.cut(Cut::tiny(7));
                    project.to_the_end().ok();
                }
                same(&project.held(), &expected, &format!("{}, killed at {place}:{n}", self.name));
            }
        }
        println!("{}: {fired} kills at fail points", self.name);
        assert!(fired >= PLACES.len());
    }
}

#[test]
fn transactions_hold_the_same_however_they_are_run() {
    let made = workload::transactions(600, 7_000, 11);
    let golden = Golden {
        name: "transactions",
        sql: workload::SQL,
        files: vec![("data/a.json", made.lines.clone()), ("categories.csv", workload::CATEGORIES.to_owned())],
        oracles: &[
            (
                "per_minute",
                r#"SELECT date_bin(INTERVAL '1 minute', "timestamp") AS window_start, date_bin(INTERVAL '1 minute', "timestamp") + INTERVAL '1 minute' AS window_end,
                   status, count(*) AS transactions, sum(amount) AS total, avg(amount) AS average FROM clean_transactions GROUP BY 1, 2, 3"#,
            ),
            (
                "family_trend",
                r#"SELECT date_bin(INTERVAL '1 minute', "timestamp") - k AS window_start,
                          date_bin(INTERVAL '1 minute', "timestamp") - k + INTERVAL '5 minutes' AS window_end,
                          c.family, count(*) AS transactions, sum(amount) AS total, max(amount) AS largest
                   FROM clean_transactions t CROSS JOIN (VALUES (INTERVAL '0 minutes'),(INTERVAL '1 minute'),(INTERVAL '2 minutes'),(INTERVAL '3 minutes'),(INTERVAL '4 minutes')) AS v(k)
                   JOIN (VALUES ('grocery','daily'),('fuel','daily'),('travel','leisure, far')) AS c(category, family) ON t.category = c.category
                   GROUP BY 1, 2, 3"#,
            ),
            (
                "large_with_family",
                r#"SELECT transaction_id, amount, "timestamp" AS at, c.family FROM clean_transactions t
                   LEFT JOIN (VALUES ('grocery','daily'),('fuel','daily'),('travel','leisure, far')) AS c(category, family) ON t.category = c.category WHERE amount >= 1000"#,
            ),
        ],
    };
    golden.prove();
    let project = golden.project(Cut::tiny(2));
    project.to_the_end().ok();
    agrees_with_the_model(&project, &made);
}

/// The model of the workload and the engine say the same of every row.
#[track_caller]
pub fn agrees_with_the_model(project: &Project, made: &workload::Workload) {
    assert_eq!(project.ledger()["clean_transactions <- transactions"], made.account);
    let cents =
        |rows: Vec<String>| rows.iter().map(|r| serde_json::from_str(r).expect("JSON")).map(|r: serde_json::Value| (r["seq"].as_i64(), r["c"].as_i64())).collect::<Vec<_>>();
    let mut found = cents(project.query("SELECT seq, CAST(amount * 100 AS BIGINT) AS c FROM clean_transactions"));
    found.sort();
    assert_eq!(found, made.accepted.iter().map(|(seq, c)| (Some(*seq), Some(*c))).collect::<Vec<_>>());
    for (reason, count) in &made.quarantine {
        let sql = format!("SELECT count(*) FROM quarantine WHERE table_name = 'clean_transactions' AND reason = '{reason}'");
        assert_eq!(project.number(&sql), *count as i64, "{reason}");
    }
}

#[test]
fn flinks_documented_windows_come_out_as_documented() {
    let bids = [("08:05", 4, "C"), ("08:07", 2, "A"), ("08:09", 5, "D"), ("08:11", 3, "B"), ("08:13", 1, "E"), ("08:17", 6, "F")];
    let lines: String = bids.iter().map(|(at, price, item)| format!("{{\"bidtime\":\"2020-04-15 {at}:00\",\"price\":{price}.00,\"item\":\"{item}\"}}\n")).collect();
    let golden = Golden {
        name: "flink_bids",
        sql: "CREATE SOURCE bid (bidtime TIMESTAMP NOT NULL, price DECIMAL(10,2), item VARCHAR, WATERMARK FOR bidtime AS bidtime - INTERVAL '1' SECOND)
                WITH (connector = 'files', path = 'bids.json', format = 'json');
              CREATE TABLE tumble AS SELECT window_start, window_end, sum(price) AS total FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES)) GROUP BY window_start, window_end;
              CREATE TABLE hop AS SELECT window_start, window_end, sum(price) AS total FROM TABLE(HOP(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES, INTERVAL '10' MINUTES)) GROUP BY window_start, window_end;
              CREATE TABLE shifted AS SELECT window_start, window_end, sum(price) AS total FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES, INTERVAL '1' MINUTES)) GROUP BY window_start, window_end;",
        files: vec![("bids.json", lines)],
        oracles: &[],
    };
    let project = golden.project(Cut::PLAIN);
    project.to_the_end().ok();
    let sums = |table: &str| project.query(&format!("SELECT to_char(window_start, '%H:%M') AS s, to_char(window_end, '%H:%M') AS e, CAST(total AS BIGINT) AS t FROM {table}"));
    let row = |s: &str, e: &str, t: i64| format!("{{\"s\":\"{s}\",\"e\":\"{e}\",\"t\":{t}}}");
    assert_eq!(sums("tumble"), [row("08:00", "08:10", 11), row("08:10", "08:20", 10)]);
    assert_eq!(sums("hop"), [row("08:00", "08:10", 11), row("08:05", "08:15", 15), row("08:10", "08:20", 10), row("08:15", "08:25", 6)]);
    assert_eq!(sums("shifted"), [row("08:01", "08:11", 11), row("08:11", "08:21", 10)]);
    golden.prove();
}

#[test]
fn every_aggregate_survives_slices_and_restarts() {
    let mut dice = crate::support::Dice::fixed(5);
    let lines: String = (0..240)
        .map(|seq| {
            let behind = if seq % 37 == 36 { 600 } else { dice.below(50) as i64 };
            let at = watershed_engine::time::timestamp((1_772_366_400 + seq * 5 - behind) * 1_000_000);
            let word = ["pear", "apple", "fig", "Äpfel", "quince"][dice.below(5) as usize];
            let note = if dice.below(4) == 0 { "null".to_owned() } else { format!("\"n{}\"", dice.below(9)) };
            format!(
                "{{\"seq\":{seq},\"at\":\"{at}\",\"k\":\"{}\",\"word\":\"{word}\",\"note\":{note},\"price\":{}.{:02},\"weight\":{}.5}}\n",
                ["a", "b"][dice.below(2) as usize],
                dice.below(900),
                dice.below(100),
                dice.below(40)
            )
        })
        .collect();
    Golden {
        name: "aggregates",
        sql: "CREATE SOURCE sales (seq BIGINT NOT NULL, at TIMESTAMP NOT NULL, k VARCHAR, word VARCHAR, note VARCHAR, price DECIMAL(10,2), weight DOUBLE, WATERMARK FOR at AS at - INTERVAL '1 minute')
                WITH (connector = 'files', path = 'sales.json', format = 'json');
              CREATE TABLE raw AS SELECT * FROM sales;
              CREATE TABLE stats AS SELECT window_start, window_end, k, count(*) AS n, count(note) AS notes, count(DISTINCT word) AS words, approx_distinct(word) AS about,
                  approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY weight) AS middle, avg(price) AS mean, sum(price) AS total, stddev(weight) AS spread,
                  last_value(word) AS latest, string_agg(word, ',') AS list, array_agg(seq) AS seqs, min(word) AS least, max(word) AS most,
                  min(price) AS cheapest, count(*) FILTER (WHERE price > 450) AS dear, sum(price) FILTER (WHERE word = 'fig') AS figs
                FROM TUMBLE(sales, at, INTERVAL '3 minutes') GROUP BY window_start, window_end, k;",
        files: vec![("sales.json", lines)],
        oracles: &[(
            "stats",
            "WITH judged AS (SELECT *, max(at) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL '1 minute' AS mark FROM raw),
                  kept AS (SELECT * FROM judged WHERE mark IS NULL OR at >= mark)
             SELECT date_bin(INTERVAL '3 minutes', at) AS window_start, date_bin(INTERVAL '3 minutes', at) + INTERVAL '3 minutes' AS window_end, k, count(*) AS n, count(note) AS notes,
                  count(DISTINCT word) AS words, approx_distinct(word) AS about, approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY weight) AS middle, avg(price) AS mean,
                  sum(price) AS total, stddev(weight) AS spread, last_value(word ORDER BY seq) AS latest, string_agg(word, ',' ORDER BY seq) AS list, array_agg(seq ORDER BY seq) AS seqs,
                  min(word) AS least, max(word) AS most, min(price) AS cheapest, count(*) FILTER (WHERE price > 450) AS dear, sum(price) FILTER (WHERE word = 'fig') AS figs
             FROM kept GROUP BY 1, 2, 3",
        )],
    }
    .prove();
}

#[test]
fn csv_with_quotes_computed_and_metadata_columns_and_every_rule() {
    let mut csv = String::from("id,at,name,cents\n");
    for i in 0..120 {
        let name = ["plain", "\"with, comma\"", "\"two\nlines\"", "\"a \"\"quote\"\"\"", "", "Zürich"][i % 6];
        let cents = if i % 17 == 16 { "x".to_owned() } else { (i * 37 % 1000).to_string() };
        csv += &format!("{i},2026-03-01T00:{:02}:{:02}Z,{name},{cents}\n", i / 4, i % 60);
    }
    Golden {
        name: "csv",
        sql: "CREATE SOURCE lines (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, name VARCHAR, cents INT, euros AS (CAST(cents AS DECIMAL(10,2)) / 100), origin VARCHAR METADATA FROM 'source',
                     place VARCHAR METADATA FROM 'position', part VARCHAR METADATA FROM 'partition', WATERMARK FOR at AS at - INTERVAL '2 minutes')
                WITH (connector = 'files', path = 'lines.csv', format = 'csv');
              CREATE TABLE kept (CONSTRAINT warned EXPECT (cents < 900) ON VIOLATION WARN, CONSTRAINT dropped EXPECT (cents <> 37) ON VIOLATION DROP,
                                 CONSTRAINT held EXPECT (cents <> 74 AND name <> 'Zürich') ON VIOLATION QUARANTINE, CONSTRAINT never EXPECT (id >= 0) ON VIOLATION FAIL)
                AS SELECT * FROM lines WHERE id % 10 <> 3;
              CREATE TABLE by_minute (CONSTRAINT many EXPECT (n > 2) ON VIOLATION QUARANTINE) AS
                SELECT window_start, count(*) AS n, sum(euros) AS euros, string_agg(name, '/') AS names FROM TUMBLE(kept, at, INTERVAL '1 minute') GROUP BY window_start;",
        files: vec![("lines.csv", csv)],
        oracles: &[],
    }
    .prove();
}
