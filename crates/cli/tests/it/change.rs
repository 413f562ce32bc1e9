//! A project is changed between two runs: `plan` says what becomes of its state and why, and the run does what `plan` said.

use serde_json::Value;

use crate::support::{Cut, Project};

const SOURCE: &str = "CREATE SOURCE s (id BIGINT NOT NULL, k VARCHAR NOT NULL, x BIGINT NOT NULL, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '10 seconds') WITH (connector = 'files', path = 'data', format = 'json');";

fn lines(from: u64, to: u64) -> String {
    (from..to).map(|id| format!("{{\"id\":{id},\"k\":\"k{}\",\"x\":{},\"at\":\"2026-03-01T10:{:02}:{:02}Z\"}}\n", id % 3, id % 7, id / 60, id % 60)).collect()
}

/// A project after a first input of 1,000 rows, a second apart; windows and keys are open.
fn project(tables: &str) -> Project {
    let project = Project::new(&format!("{SOURCE}\n{tables}"));
    project.cut(Cut::tiny(2));
    project.write("data/a.json", lines(0, 1_000));
    project.once().ok();
    project
}

fn change(project: &Project, tables: &str) {
    project.write("pipelines.sql", format!("{SOURCE}\n{tables}"));
}

/// What `plan` says, for a machine.
fn plan(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&project.run(&[&["plan", "--format", "json"], arguments].concat()).ok().stdout).expect("JSON")
}

/// What it says of a state.
fn of(plan: &Value, state: &str) -> Value {
    let steps = plan["tables"].as_array().expect("tables").iter().flat_map(|table| table["steps"].as_array().expect("steps"));
    steps.into_iter().find(|step| step["state"] == state).unwrap_or_else(|| panic!("no {state} in {plan:#}")).clone()
}

fn told(project: &Project, state: &str) -> Value {
    of(&plan(project, &[]), state)
}

const CLEAN: &str = "CREATE TABLE clean AS SELECT id, k, x, at FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '10 minutes');";

#[test]
fn what_plan_keeps_is_kept_and_right() {
    let project = project(&format!(
        "{CLEAN} CREATE TABLE minutes AS SELECT window_start, k, count(*) AS n, sum(x) AS total, max(x) AS most FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start, k;"
    ));
    assert_eq!(told(&project, "minutes/1:window")["fate"], "reused");
    change(
        &project,
        &format!(
            "{} CREATE TABLE minutes AS SELECT k, window_start, max(x) AS most, count(*) AS n FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY k, window_start;",
            CLEAN.replace("10 minutes", "5 minutes")
        ),
    );
    let (dedup, window) = (told(&project, "clean/1:dedup"), told(&project, "minutes/1:window"));
    assert_eq!((&dedup["fate"], &dedup["changes"][0]["words"]), (&"reused".into(), &"WITHIN was 10 minutes, is 5 minutes".into()), "{dedup:#}");
    assert_eq!((&window["fate"], &window["changes"][0]["effect"]), (&"reused".into(), &"fits".into()), "{window:#}");
    assert_eq!(window["changes"][0]["words"], "sum(x) was removed");
    assert!(window["measured"]["rows_at_most"].as_u64().is_some_and(|rows| rows >= 3), "{window:#}");

    // Repeats of 40 seconds ago, and what follows.
    project.write("data/b.json", lines(960, 2_000));
    project.to_the_end().ok();
    assert_eq!(project.number("SELECT count(*) FROM clean"), 2_000);
    let said = project.query("SELECT window_start, k, n, most FROM minutes");
    let again = project.query("SELECT date_trunc('minute', at) AS window_start, k, count(*) AS n, max(x) AS most FROM clean GROUP BY 1, 2");
    assert_eq!(said, again, "the same as over the rows themselves");
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn what_plan_would_rebuild_is_refused_and_named() {
    let tables = |window: &str| format!("{CLEAN} CREATE TABLE minutes AS SELECT window_start, count(*) AS n FROM TUMBLE(clean, at, INTERVAL '{window}') GROUP BY window_start;");
    let project = project(&tables("1 minute"));
    change(&project, &tables("5 minutes"));
    let words = "the window was TUMBLE 1 minute on at, is TUMBLE 5 minutes on at";
    let said = project.run(&["plan"]).ok().stdout;
    for part in ["state \"clean/1:dedup\": reused", "state \"minutes/1:window\": must be rebuilt", words, "--rebuild loses what the windows that are open", "refuses to start"] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    let told = told(&project, "minutes/1:window");
    assert_eq!((&told["fate"], &told["changes"][0]["part"], &told["changes"][0]["effect"]), (&"rebuild".into(), &"window".into(), &"breaks".into()), "{told:#}");
    project.once().refused(&["RUN0019", words, "--rebuild"]);
    let diagnosed = project.run(&["checkpoint", "diagnose"]);
    assert!(diagnosed.code == Some(1) && diagnosed.stdout.contains(words), "{diagnosed:?}");

    project.write("data/b.json", lines(1_000, 1_500));
    project.run(&["run", "--once", "--final", "--rebuild"]).ok();
    assert_eq!(project.number("SELECT sum(n) FROM minutes WHERE window_start >= '2026-03-01T10:20:00Z'"), 300, "windows after the change are whole");
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn conditions_mix_and_new_tables_have_no_past() {
    let tables = |least: u64| format!("CREATE TABLE counts AS SELECT k, count(*) AS n FROM s WHERE x > {least} GROUP BY k EMIT ON CHANGE;");
    let project = project(&tables(3));
    let epoch = project.checkpoint().history().expect("a history").last_committed().0;
    change(&project, &format!("{} CREATE TABLE plain AS SELECT id FROM s; CREATE TABLE once AS SELECT id FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');", tables(0)));
    let said = project.run(&["plan"]).ok().stdout;
    let words = [
        "state \"counts/1:changes\": reused".to_owned(),
        format!("in front of it was x > 3, is x > 0; rows up to epoch {epoch} came by the old one"),
        "state \"once/1:dedup\": new, and its past is not in it".to_owned(),
        format!("new, and its past is not in it: it starts with what source \"s\" yields after epoch {epoch}; the files are read again"),
    ];
    for part in words {
        assert!(said.contains(&part), "{part:?} in\n{said}");
    }
    assert_eq!(told(&project, "once/1:dedup")["fate"], "backfill");
    project.write("data/b.json", lines(1_000, 1_400));
    let ran = project.to_the_end().ok();
    assert!(ran.stderr.contains("x > 3, is x > 0"), "the run tells it too: {}", ran.stderr);
    let mixed = (0..1_400u64).filter(|id| id % 7 > if *id < 1_000 { 3 } else { 0 }).count();
    assert_eq!(project.number("SELECT sum(n) FROM counts"), mixed as i64);
    assert_eq!((project.number("SELECT count(*) FROM plain"), project.number("SELECT count(*) FROM once")), (400, 400));

    // What `plan` says of filling it: another source over the same files has it all.
    let again = SOURCE.replace("SOURCE s", "SOURCE again");
    project.write("pipelines.sql", format!("{SOURCE}\n{again}\n{} CREATE TABLE all_of_it AS SELECT id FROM again;", tables(0)));
    project.to_the_end().ok();
    assert_eq!(project.number("SELECT count(*) FROM all_of_it"), 1_400);
}

#[test]
fn state_is_estimated_from_rates_that_are_given_or_measured() {
    let tables = format!("{CLEAN} CREATE TABLE counts AS SELECT k, count(*) AS n FROM clean GROUP BY k EMIT ON CHANGE;");
    let project = Project::new(&format!("{SOURCE}\n{tables}"));
    let first = project.run(&["plan"]).ok().stdout;
    assert!(first.contains("state \"clean/1:dedup\": new\n") && !first.contains("estimate"), "{first}");

    // 50,000 a second for twice ten minutes and the ten seconds of the watermark, 38 bytes each.
    let given = plan(&project, &["--rate", "50000"]);
    assert_eq!(of(&given, "clean/1:dedup")["estimate"], serde_json::json!({ "bound": "at_most", "entries": 60_500_000.0, "bytes": 60_500_000.0 * 38.0 }), "{given:#}");
    assert_eq!(given["state"]["fits"], true);
    assert_eq!(of(&given, "counts/1:changes")["estimate"]["bound"], "grows_per_day_at_most");
    let warned = project.run(&["plan", "--rate", "s=200_000"]).ok().stdout;
    assert!(warned.contains("warning: state may need 9.2 GB, and [engine] memory is 4.3 GB"), "{warned}");
    project.run(&["plan", "--rate", "wherever=1"]).refused(&["CLI0130", "Its sources are: s."]);
    assert_eq!(project.run(&["plan", "--rate", "fast"]).code, Some(2));

    project.cut(Cut::tiny(2));
    project.write("data/a.json", lines(0, 3_000));
    project.once().ok();
    let measured = plan(&project, &[]);
    let rate = &measured["state"]["rates"]["s"];
    assert!(rate["measured"] == true && rate["events_per_second"].as_f64().is_some_and(|rate| (rate - 1.0).abs() < 0.05), "one row a second of event time: {measured:#}");
    let dedup = of(&measured, "clean/1:dedup");
    let (holds, bound) = (dedup["measured"]["rows_at_most"].as_f64().expect("rows"), dedup["estimate"]["entries"].as_f64().expect("an estimate"));
    assert!((600.0..=3_000.0).contains(&holds) && (1_150.0..1_300.0).contains(&bound), "{holds} {bound}");
}

#[test]
fn plan_says_what_a_start_would_do_with_the_tables_that_are_there() {
    let tables = |columns: &str| format!("CREATE TABLE plain AS SELECT {columns} FROM s;");
    let project = project(&tables("id, x"));
    change(&project, &tables("id, x, k, x + 1 AS more"));
    let said = project.run(&["plan"]).ok().stdout;
    assert!(said.contains("it gets new columns k, more: NULL in the rows that are there"), "{said}");

    change(&project, &tables("id, CAST(x AS VARCHAR) AS x"));
    let said = project.run(&["plan"]).ok().stdout;
    for part in ["refused: table \"plain\" exists and does not fit the query: column \"x\" is long and the query makes it string", "refuses to start"] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    let told = plan(&project, &[]);
    assert_eq!(told["tables"][0]["stored"]["fits"], Value::Bool(false), "{told:#}");
    project.once().refused(&["LAKE0003", "column \"x\" is long and the query makes it string"]);
}
