//! kill -9 at moments nobody chose.

use std::time::{Duration, Instant};

use crate::goldens::agrees_with_the_model;
use crate::support::{Cut, Dice, Project, finish, same};
use crate::workload::{self, CATEGORIES};

const KILLS_AT_LEAST: usize = 200;
const ROUNDS_AT_MOST: usize = 40;

fn project(lines: &str, cut: Cut) -> Project {
    let project = Project::new(workload::SQL);
    project.cut(cut);
    project.write("data/a.json", lines);
    project.write("categories.csv", CATEGORIES);
    project
}

#[test]
fn hundreds_of_kills_lose_nothing_and_repeat_nothing() {
    let mut dice = Dice::new(20_260_301);
    let made = workload::transactions(30_000, 700, 3);
    let straight = project(&made.lines, Cut { epoch_bytes: 96 << 10, ..Cut::PLAIN });
    let started = Instant::now();
    straight.to_the_end().ok();
    let expected = straight.held();
    let took = started.elapsed().min(Duration::from_secs(4)).as_millis() as u64;
    agrees_with_the_model(&straight, &made);

    let (mut kills, mut redriven, mut rounds) = (0, 0, 0);
    while kills < KILLS_AT_LEAST && rounds < ROUNDS_AT_MOST {
        rounds += 1;
        let torn = project(&made.lines, Cut { epoch_bytes: 96 << 10, ..Cut::PLAIN });
        for _ in 0..60 {
            torn.cut(Cut { parallelism: 1 + dice.below(4) as usize, rows_per_tick: 50 + dice.below(2_000), epoch_bytes: (64 << 10) + dice.below(128 << 10) });
            let mut child = torn.spawn(&["run", "--once", "--final"]);
            std::thread::sleep(Duration::from_micros(dice.below(took * 250)));
            let alive = child.try_wait().expect("its state").is_none();
            child.kill().expect("a kill");
            let ended = child.wait().expect("its end");
            if alive && ended.code().is_none() {
                kills += 1;
                if torn.path(".watershed/checkpoints/metadata.json").exists() {
                    let history = torn.checkpoint().history().expect("a history");
                    redriven += usize::from(history.last_prepared() > history.last_committed());
                }
            } else {
                assert_eq!(ended.code(), Some(0), "it ended by itself, and badly");
                break;
            }
        }
        torn.cut(Cut::PLAIN);
        finish(torn.spawn_piped(&["run", "--once", "--final"])).ok();
        same(&torn.held(), &expected, &format!("round {rounds}, after {kills} kills"));
        agrees_with_the_model(&torn, &made);
        assert_eq!(torn.number("SELECT count(*) FROM clean_transactions"), made.accepted.len() as i64);
        assert_eq!(torn.number("SELECT count(DISTINCT seq) FROM clean_transactions"), made.accepted.len() as i64, "none repeated");
        assert_eq!(torn.number("SELECT CAST(sum(amount) * 100 AS BIGINT) FROM clean_transactions"), made.accepted.values().sum::<i64>(), "money is conserved");
    }
    println!("{kills} kills of running processes in {rounds} rounds; {redriven} of them left an epoch to redrive");
    assert!(kills >= KILLS_AT_LEAST, "only {kills} kills hit a running process");
    assert!(redriven > 0, "no kill fell between prepare and commit");
}
