//! Random streams of several partitions, random slices, random restarts; an auditor looks at what is left.

use std::time::Duration;

use watershed_engine::failpoint::PLACES;

use crate::support::{Cut, Dice, Held, Project, finish, same};

fn sql(seed: u64, rows: u64, partitions: u64) -> String {
    format!(
        r#"CREATE SOURCE s (transaction_id VARCHAR NOT NULL, customer_id VARCHAR, amount DECIMAL(12,2) NOT NULL, currency VARCHAR, status VARCHAR, "timestamp" TIMESTAMP NOT NULL,
                part VARCHAR METADATA FROM 'partition', pos VARCHAR METADATA FROM 'position', WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '20 seconds')
           WITH (connector = 'generator', format = 'json', rate = 'max', events_per_second = '100', rows = '{rows}', partitions = '{partitions}', seed = '{seed}', duplicates = '0.05', late = '0.03', corrupt = '0.02', invalid = '0.02');
           CREATE TABLE seen AS SELECT part, pos, "timestamp" FROM s;
           CREATE TABLE clean (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION QUARANTINE) AS
             SELECT * FROM DEDUPLICATE(s, KEY (transaction_id), WITHIN INTERVAL '20 seconds');
           CREATE TABLE windows AS SELECT window_start, window_end, status, count(*) AS n, sum(amount) AS total FROM TUMBLE(clean, "timestamp", INTERVAL '10 seconds') GROUP BY window_start, window_end, status;"#
    )
}

/// Conservation, and no key twice within the interval.
fn audit(project: &Project, held: &Held, rows: u64) {
    let account = held.ledger["clean <- s"];
    assert!(account.balances());
    assert_eq!(account.read, rows, "every record was read once");
    assert_eq!(account.delivered as usize, held.tables["clean"].len());
    assert_eq!(account.quarantined + account.late, project.number("SELECT count(*) FROM quarantine WHERE table_name = 'clean'") as u64);
    assert!(account.duplicate > 0 && account.late > 0 && account.quarantined > 0, "the stream has trouble in it: {account:?}");
    let repeats = r#"SELECT count(*) FROM clean a JOIN clean b ON a.transaction_id = b.transaction_id AND concat(a.part, '/', a.pos) <> concat(b.part, '/', b.pos)
                     WHERE a."timestamp" <= b."timestamp" AND b."timestamp" - a."timestamp" <= INTERVAL '20 seconds'"#;
    assert_eq!(project.number(repeats), 0, "a key came twice within the interval");
    assert_eq!(project.number("SELECT count(*) FROM (SELECT DISTINCT part, pos FROM seen) AS d"), held.tables["seen"].len() as i64, "a position came twice");
    assert_eq!(project.number("SELECT sum(n) FROM windows") as u64, held.ledger["windows <- clean"].delivered);
    assert_eq!(held.ledger["windows <- clean"].late, 0, "a row that its own partition does not call late is in its window");
    let cents = |sql: &str| project.number(&format!("SELECT CAST(sum({sql}) * 100 AS BIGINT) FROM {}", if sql == "total" { "windows" } else { "clean" }));
    assert_eq!(cents("total"), cents("amount"), "money is conserved");
}

/// Runs it in pieces, each of which ends in its own way, and then to the end.
fn simulate(seed: u64, rows: u64, partitions: u64, restarts: u64) -> Held {
    let mut dice = Dice::fixed(seed);
    let project = Project::new(&sql(seed, rows, partitions));
    for _ in 0..restarts {
        project.cut(Cut { parallelism: 1 + dice.below(5) as usize, rows_per_tick: 1 + dice.below(700), epoch_bytes: (4 << 10) + dice.below(64 << 10) });
        if dice.below(2) == 0 {
            let place = PLACES[dice.below(PLACES.len() as u64) as usize];
            let ran = project.to_the_end_but(&format!("{place}:{}", 1 + dice.below(12)));
            assert!(ran.code == Some(0) || ran.died_at_failpoint(), "{ran:?}");
        } else {
            let mut child = project.spawn(&["run", "--once", "--final"]);
            std::thread::sleep(Duration::from_millis(dice.below(120)));
            let _ = child.kill();
            child.wait().expect("its end");
        }
    }
    project.cut(Cut { parallelism: 1 + dice.below(5) as usize, ..Cut::PLAIN });
    finish(project.spawn_piped(&["run", "--once", "--final"])).ok();
    let held = project.held();
    audit(&project, &held, rows);
    held
}

/// Which of two copies in different partitions comes first is not promised, only that one of them does: what the row
/// says must be the same, where it came from need not.
fn without_places(mut held: Held) -> Held {
    let strip = |rows: &mut Vec<String>| {
        for row in rows.iter_mut() {
            let mut value: serde_json::Value = serde_json::from_str(row).expect("rows are JSON");
            if let Some(fields) = value.as_object_mut() {
                ["part", "pos", "partition", "position"].iter().for_each(|place| drop(fields.remove(*place)));
            }
            *row = value.to_string();
        }
        rows.sort();
    };
    held.tables.get_mut("clean").into_iter().for_each(strip);
    strip(&mut held.quarantine);
    held
}

fn same_through_restarts(partitions: u64) {
    let simulate = |seed, rows, partitions, restarts| {
        let held = simulate(seed, rows, partitions, restarts);
        if partitions > 1 { without_places(held) } else { held }
    };
    let mut dice = Dice::new(77);
    for _ in 0..6 {
        let seed = dice.below(1 << 32);
        println!("stream {seed}");
        let rows = 1_500 + dice.below(1_500);
        let straight = simulate(seed, rows, partitions, 0);
        same(&simulate(seed, rows, partitions, 6), &straight, &format!("stream {seed} with restarts"));
        same(&simulate(seed, rows, partitions, 0), &straight, &format!("stream {seed} a second time"));
    }
}

#[test]
fn the_same_seed_gives_the_same_tables_through_any_restarts() {
    same_through_restarts(1);
}

#[test]
fn the_same_seed_gives_the_same_tables_with_several_partitions() {
    same_through_restarts(3);
}
