//! Another implementation of Delta reads the same.

use std::process::Command;

use crate::support::Project;
use crate::workload;

const SCRIPT: &str = r#"
import os, sys
from deltalake import DeltaTable
import pyarrow.compute as pc
for path, column in zip(sys.argv[1::2], sys.argv[2::2]):
    table = DeltaTable(path).to_pyarrow_table()
    print(table.num_rows, pc.sum(table.column(column)).as_py())
# Its native threads sometimes abort the interpreter on its way out, after everything was read and said.
sys.stdout.flush()
os._exit(0)
"#;

#[test]
fn python_reads_what_was_written() {
    let Some(python) = std::env::var_os("WATERSHED_PYTHON") else {
        println!("SKIPPED: set WATERSHED_PYTHON to a python with the packages deltalake and pyarrow");
        return;
    };
    let made = workload::transactions(2_000, 7_000, 8);
    let project = Project::new(workload::SQL);
    project.write("data/a.json", &made.lines);
    project.write("categories.csv", workload::CATEGORIES);
    project.to_the_end().ok();
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(project.table("clean_transactions"))
        .arg("amount")
        .arg(project.table("per_minute"))
        .arg("total")
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let cents: i64 = made.accepted.values().sum();
    let money = format!("{}.{:02}", cents / 100, cents % 100);
    let minutes = project.number("SELECT count(*) FROM per_minute");
    assert_eq!(said.lines().collect::<Vec<_>>(), [format!("{} {money}", made.accepted.len()), format!("{minutes} {money}")]);
    assert_eq!(project.ledger()["clean_transactions <- transactions"].delivered as usize, made.accepted.len());
}
