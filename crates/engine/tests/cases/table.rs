//! The page of the docs that lists every case and its state.

use std::fmt::Write;
use std::path::PathBuf;

use crate::case::{Case, read_all};
use crate::{batch_of, unavailable};

/// The folders of cases, and what the page calls them.
pub const FAMILIES: [(&str, &str); 5] =
    [("flink", "Apache Flink"), ("spark", "Apache Spark"), ("risingwave", "RisingWave"), ("nexmark", "Nexmark over 110 fixed rows"), ("own", "Our own clauses")];

const HEAD: &str = "# Cases of other systems

Worked cases of Apache Flink, Apache Spark and RisingWave, and the queries of Nexmark with their full results, restated in
Watershed's SQL. Each is run in steps, with a restart after every step and after every row; straight; at several
parallelisms; in large and in the smallest ticks; and, where history has such a result, as a batch: always with the same
outcome. Cases of our own stand last, for what the others do not show. The files are in `crates/engine/tests/cases`; this page is written by their test.

*passes*: the same input gives the same result. *differs by rule*: our rule is another one, and the case proves ours.
*not available*: this version refuses it, or has no counterpart.
";

fn state(case: &Case) -> (&'static str, String) {
    if let Some(why) = &case.none {
        return ("not available", why.clone());
    }
    let unavailable = unavailable();
    let batch = unavailable.get(batch_of(case).as_str()).map(|why| format!("as a batch not available: {why}"));
    match (unavailable.get(case.name.as_str()), &case.differs) {
        (Some(why), _) => ("not available", (*why).to_owned()),
        (None, Some(why)) => ("differs by rule", [Some(why.clone()), batch].into_iter().flatten().collect::<Vec<_>>().join("; ")),
        (None, None) => ("passes", batch.unwrap_or_default()),
    }
}

fn page() -> String {
    let mut text = HEAD.to_owned();
    for (family, title) in FAMILIES {
        let cases = read_all(family);
        let count = |wanted: &str| cases.iter().filter(|case| state(case).0 == wanted).count();
        let counts = format!("{} pass, {} differ by rule, {} are not available.", count("passes"), count("differs by rule"), count("not available"));
        writeln!(text, "\n## {title}\n\n{counts}\n\n| case | state | why |\n|---|---|---|").expect("writes into a string");
        for case in &cases {
            let (state, why) = state(case);
            writeln!(text, "| {} | {state} | {} |", case.name.split_once('/').map_or("", |(_, name)| name), why.replace('|', "\\|")).expect("writes into a string");
        }
    }
    text
}

/// Compares the page with the cases, or writes it.
pub fn check() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/streaming-cases.md");
    let page = page();
    if std::env::var_os("WATERSHED_BLESS").is_some() {
        std::fs::write(&file, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/reference/streaming-cases.md is stale: run this test with WATERSHED_BLESS=1");
}
