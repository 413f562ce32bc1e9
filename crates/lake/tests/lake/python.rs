use std::process::Command;

use crate::support::*;

/// Runs if WATERSHED_PYTHON names an interpreter that has the package `deltalake`.
#[test]
fn another_reader_sees_the_same_rows() -> Any {
    let Some(python) = std::env::var_os("WATERSHED_PYTHON") else {
        println!("SKIPPED: set WATERSHED_PYTHON to an interpreter with the package deltalake");
        return Ok(());
    };
    let lake = fixture_with(|options| options.compact_min_files = 4)?;
    let table = lake.table(&ids(0, 1)?.schema(), &[])?;
    for epoch in 1..=105 {
        write(&table, epoch, &[ids(epoch as i64 * 100, 100)?])?;
    }
    table.compact()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_with_deltalake.py");
    let root = lake.folder.path().join("my lake/silver/orders");
    let output = Command::new(python).arg(script).arg(root).arg("10500").output()?;
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    Ok(())
}
