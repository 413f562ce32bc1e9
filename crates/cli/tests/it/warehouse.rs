//! Warehouses that lose epochs, go away, are cut off in a commit, or are changed by somebody else under way.

use std::io::{Read as _, Write as _};
use std::process::Child;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::proxy::Proxy;
use crate::servers;
use crate::support::{Project, finish, signal};

const STEPS: [&str; 8] = ["after_prepare", "postgres_sent", "postgres_marked", "postgres_committed", "postgres_sent:2", "postgres_marked:2", "postgres_committed:2", "after_sinks"];

/// An appended and an upserted table, following the lake.
fn project(url: &str, more: &str, engine: &str) -> Project {
    let project = Project::new(&format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, account VARCHAR NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
           WITH (connector = 'files', path = 'data', format = 'json', discover_interval = '50ms');
         CREATE TABLE clean AS SELECT * FROM s;
         CREATE SINK appended FROM clean WITH (connector = 'postgres', url = '{url}', table = 'appended'{more});
         CREATE SINK accounts FROM clean WITH (connector = 'postgres', url = '{url}', table = 'accounts', mode = 'upsert', key = 'account'{more});"
    ));
    project.write("watershed.toml", format!("name = \"p\"\n[engine]\nepoch_interval = \"100ms\"\n{engine}\n[serve]\nlisten = \"127.0.0.1:0\"\n"));
    project
}

/// A file of a hundred rows: ids from a hundred times its number, for twenty accounts, two of which are its own.
fn add(project: &Project, number: u64) {
    let account = |id: u64| if id % 10 == 9 { format!("only-{number}-{}", id % 20) } else { format!("a{}", id % 20) };
    let lines: String = (number * 100..number * 100 + 100)
        .map(|id| format!("{{\"id\":{id},\"account\":\"{}\",\"amount\":{}.25,\"at\":\"2026-01-01T10:{:02}:00Z\"}}\n", account(id), id % 90, number % 60))
        .collect();
    // Named before it is whole, it would be read in pieces; that is not what is tested here.
    project.write(&format!("aside/{number:04}.json"), lines);
    std::fs::create_dir_all(project.path("data")).expect("a folder");
    std::fs::rename(project.path(&format!("aside/{number:04}.json")), project.path(&format!("data/{number:04}.json"))).expect("moved in");
}

/// Every row as text, columns separated by `|`; an error if the server is away.
fn try_rows(url: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        let text = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join("|");
        Ok(messages.iter().filter_map(|message| if let tokio_postgres::SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None }).collect())
    })
}

fn rows(url: &str, sql: &str) -> Vec<String> {
    try_rows(url, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(mut child: Child) {
    assert!(child.try_wait().expect("its state").is_none(), "it ended by itself");
    child.kill().expect("a kill");
    child.wait().expect("its end");
}

fn stop(child: Child) {
    signal(child.id(), "TERM");
    let ended = finish(child);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// What both tables must hold of files 0 to `files`, once each and the last of each account.
#[track_caller]
fn whole(url: &str, files: u64) {
    let ids = files * 100;
    assert_eq!(rows(url, "SELECT count(*), count(DISTINCT id), sum(id) FROM appended"), [format!("{ids}|{ids}|{}", (0..ids).sum::<u64>())]);
    let mut last = std::collections::BTreeMap::new();
    for id in 0..ids {
        last.insert(if id % 10 == 9 { format!("only-{}-{}", id / 100, id % 20) } else { format!("a{}", id % 20) }, id);
    }
    let expected: Vec<String> = last.iter().map(|(account, id)| format!("{account}|{id}")).collect();
    assert_eq!(rows(url, "SELECT account, id FROM accounts ORDER BY account COLLATE \"C\""), expected, "each account has its last row");
}

#[test]
fn a_lost_epoch_is_named_and_given_back_beside_the_running_pipeline() {
    let server = servers::postgres();
    let url = server.address.as_str();
    let project = project(url, "", "");
    for number in 0..4 {
        add(&project, number);
        project.once().ok();
    }
    whole(url, 4);
    let running = project.spawn_piped(&["up"]);
    until("the run owns the warehouse", || rows(url, "SELECT min(generation) FROM watershed.owners") == ["5"]);
    project.run(&["verify"]).ok();
    // The second file's epoch, in both tables: in one its rows are gone, in the other some keys, and others are old again.
    let second = rows(url, "SELECT epoch FROM watershed.epochs WHERE sink = 'appended' ORDER BY epoch")[1].clone();
    rows(
        url,
        &format!("DELETE FROM watershed.epochs WHERE epoch = {second}; DELETE FROM appended WHERE id BETWEEN 100 AND 199; DELETE FROM accounts WHERE account LIKE 'only-1-%'"),
    );
    let found = project.run(&["verify"]);
    assert_eq!(found.code, Some(1), "{}{}", found.stdout, found.stderr);
    for sink in ["appended", "accounts"] {
        let words = format!("epoch {second}: the commit record says sink \"{sink}\" took 100 rows, and the target does not know the epoch: they are lost there");
        assert!(found.stdout.contains(&words) && found.stdout.contains("verify --repair"), "{}", found.stdout);
    }
    assert_eq!(rows(url, "SELECT count(*) FROM appended"), ["300"], "looking changes nothing");

    let repaired = project.run(&["verify", "--repair", "--format", "json"]).ok();
    let mended: Vec<serde_json::Value> =
        repaired.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|line: &serde_json::Value| line["result"] == "mend").collect();
    assert_eq!(mended.len(), 2, "{}", repaired.stdout);
    let said: Vec<&str> = mended.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(said.iter().any(|words| words.contains("\"accounts\"") && words.contains("2 epochs after it went over the table again")), "{said:?}");
    whole(url, 4);
    project.run(&["verify", "--deep"]).ok();
    assert_eq!(project.run(&["verify", "--repair"]).ok().stdout.matches("mend").count(), 0, "there is nothing left to mend");
    // The run still owns its targets.
    add(&project, 4);
    until("the run goes on", || rows(url, "SELECT count(*) FROM appended") == ["500"] && rows(url, "SELECT count(*) FROM accounts WHERE id >= 400") == ["20"]);
    stop(running);
    whole(url, 5);
    assert_eq!(rows(url, "SELECT DISTINCT generation FROM watershed.owners"), ["5"]);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn what_is_not_kept_any_more_is_said_to_be_older_than_what_is() {
    let server = servers::postgres();
    let url = server.address.as_str();
    let project = project(url, "", "keep_staged_epochs = 2");
    for number in 0..5 {
        add(&project, number);
        project.once().ok();
    }
    let epochs = rows(url, "SELECT epoch FROM watershed.epochs WHERE sink = 'appended' ORDER BY epoch");
    rows(url, &format!("DELETE FROM watershed.epochs WHERE sink = 'appended' AND epoch IN ({}, {}); DELETE FROM appended WHERE id < 100 OR id >= 400", epochs[0], epochs[4]));
    let found = project.run(&["verify", "--repair"]);
    assert_eq!(found.code, Some(1), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains(&format!("given back epoch {}", epochs[4])), "the newest is mended: {}", found.stdout);
    assert!(found.stdout.contains(&format!("epoch {} of sink \"appended\" is older than what is kept", epochs[0])), "{}", found.stdout);
    assert_eq!(rows(url, "SELECT count(*) FROM appended"), ["400"]);
}

#[test]
fn a_cut_between_any_two_steps_of_a_warehouse_commit_is_mended() {
    let server = servers::postgres();
    let url = server.address.as_str();
    for more in ["", ", on_unavailable = 'spool'"] {
        let project = project(url, more, "");
        for (number, step) in (0..).zip(STEPS) {
            add(&project, number);
            let cut = project.once_but(if step.contains(':') { step.to_owned() } else { format!("{step}:1") }.as_str());
            assert!(cut.died_at_failpoint(), "{step} was never reached: {cut:?}");
            project.run(&["run", "--once"]).ok();
        }
        whole(url, STEPS.len() as u64);
        project.run(&["verify", "--deep"]).ok();
        rows(url, "DROP SCHEMA watershed CASCADE; DROP TABLE appended, accounts");
    }
}

#[test]
fn a_connection_cut_in_the_commit_lets_the_run_go_on_and_every_row_lands_once() {
    let server = servers::postgres();
    let port = server.address.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok()).expect("a port");
    let proxy = Proxy::start(port, Duration::ZERO);
    let project = project(&server.address.replace(&format!(":{port}/"), &format!(":{}/", proxy.port)), "", "");
    add(&project, 0);
    project.once().ok();
    for (number, after) in [(1, true), (2, false), (3, true)] {
        add(&project, number);
        let before = proxy.cuts();
        if after {
            proxy.cut_next_commit()
        } else {
            proxy.cut_before_next_commit()
        }
        let ran = project.run(&["run", "--once"]).ok();
        assert_eq!(proxy.cuts(), before + 1, "the cut never came: {}", ran.stderr);
        let records = project.checkpoint().records().expect("records");
        let found = records.iter().rev().take(1).flat_map(|record| record.sinks.values()).any(|receipt| receipt.already_there);
        assert_eq!(found, after, "file {number}: found there only if the commit had arrived");
    }
    whole(&server.address, 4);
    project.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_table_changed_under_way_stops_the_run_with_what_mends_it_and_loses_nothing() {
    let server = servers::postgres();
    let url = server.address.as_str();
    let project = project(url, "", "");
    add(&project, 0);
    let running = project.spawn_piped(&["up"]);
    let there =
        |count: u64| rows(url, "SELECT CASE WHEN to_regclass('appended') IS NULL THEN 0 ELSE 1 END") == ["1"] && rows(url, "SELECT count(*) FROM appended") == [count.to_string()];
    until("the first file arrives", || there(100));
    // A column that nobody has to fill is none of ours.
    rows(url, "ALTER TABLE appended ADD COLUMN remark text");
    add(&project, 1);
    until("a new column changes nothing", || there(200));
    rows(url, "ALTER TABLE appended ALTER COLUMN amount TYPE integer USING amount::integer");
    add(&project, 2);
    let ended = finish(running);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("PG0011") && ended.stderr.contains("Restart the pipeline"), "{}", ended.stderr);
    let refused = project.once();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let mend = "ALTER TABLE \"public\".\"appended\" ALTER COLUMN \"amount\" TYPE numeric(12,2);";
    assert!(refused.stderr.contains("PG0005") && refused.stderr.contains(mend), "{}", refused.stderr);
    rows(url, mend);
    project.once().ok();
    whole(url, 3);
    project.run(&["verify", "--deep"]).ok();
}

/// What a running pipeline says on a path of its API.
fn ask(project: &Project, path: &str) -> Option<String> {
    let announced: serde_json::Value = serde_json::from_slice(&std::fs::read(project.path(".watershed/run.json")).ok()?).ok()?;
    let mut stream = std::net::TcpStream::connect(announced["address"].as_str()?).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_dead_server_leaves_the_lake_going_and_gets_every_row_once_when_it_is_back() {
    let server = servers::postgres();
    let url = server.address.as_str();
    let project = project(url, ", on_unavailable = 'spool', spool_after = '500ms', connect_timeout = '1s'", "");
    let lake = |files: u64| project.path(".watershed/lake/silver/clean/_delta_log").exists() && project.number("SELECT count(*) FROM clean") as u64 == files * 100;
    let mut running = project.spawn(&["up"]);
    add(&project, 0);
    let arrived = |count: &str| try_rows(url, "SELECT count(*) FROM appended").is_ok_and(|found| found == [count]);
    until("the first file arrives in the warehouse", || arrived("100") && try_rows(url, "SELECT count(*) FROM accounts").is_ok_and(|found| found == ["20"]));
    server.tell(&["kill"]);
    for number in 1..6 {
        add(&project, number);
        until("the lake goes on", || lake(number + 1));
    }
    let mut spooled = String::new();
    until("the status says what waits", || {
        spooled = project.run(&["status", "--format", "json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&spooled).is_ok_and(|status| status["spools"]["appended"]["rows"] == 500 && status["spools"]["accounts"]["rows"] == 500)
    });
    assert!(spooled.contains("no connection to"), "{spooled}");
    let metrics = ask(&project, "/metrics").expect("metrics");
    for name in [
        "watershed_sink_spooled_rows{sink=\"appended\"} 500",
        "watershed_sink_unavailable{sink=\"accounts\"} 1",
        "watershed_sink_spooled_bytes{sink=",
        "watershed_sink_spooled_epochs{sink=",
    ] {
        assert!(metrics.contains(name), "{name} in\n{metrics}");
    }
    let verified = project.run(&["verify"]).ok();
    assert!(verified.stdout.contains("sink \"appended\" is behind by") && verified.stdout.contains("(spooled)"), "{}", verified.stdout);
    // Killed, started without the server, killed again.
    kill(running);
    assert!(project.run(&["status"]).ok().stdout.contains("sink \"accounts\" is behind"));
    running = project.spawn(&["up"]);
    add(&project, 6);
    until("the lake goes on after a start without the server", || lake(7));
    kill(running);
    server.tell(&["restart"]);
    running = project.spawn_piped(&["up"]);
    until("the warehouse catches up", || arrived("700") && rows(url, "SELECT count(*) FROM accounts WHERE id >= 600") == ["20"]);
    // And again, this time it comes back under the same run.
    server.tell(&["kill"]);
    add(&project, 7);
    until("the lake goes on", || lake(8));
    server.tell(&["restart"]);
    add(&project, 8);
    until("the warehouse catches up", || arrived("900") && rows(url, "SELECT count(*) FROM accounts WHERE id >= 800") == ["20"]);
    until("nothing waits any more", || ask(&project, "/metrics").is_some_and(|metrics| metrics.contains("watershed_sink_spooled_epochs{sink=\"appended\"} 0")));
    stop(running);
    whole(url, 9);
    let sinks = project.checkpoint().records().expect("records");
    assert!(sinks.iter().flat_map(|record| record.sinks.values()).all(|receipt| !receipt.spooled), "every epoch has its delivery");
    let verified = project.run(&["verify", "--deep"]).ok();
    assert!(!verified.stdout.contains("behind"), "{}", verified.stdout);
}

#[test]
fn of_two_copies_of_one_project_the_later_goes_on_and_the_other_says_why_it_stops() {
    let server = servers::postgres();
    let url = server.address.as_str();
    let (original, copy) = (project(url, "", ""), project(url, "", ""));
    add(&original, 0);
    original.once().ok();
    let copied = std::process::Command::new("cp").arg("-r").arg(original.path(".watershed")).arg(original.path("data")).arg(copy.path(".")).status().expect("cp");
    assert!(copied.success());
    let running = original.spawn_piped(&["up"]);
    until("the original owns the warehouse", || rows(url, "SELECT min(generation) FROM watershed.owners") == ["2"]);
    add(&copy, 1);
    copy.once().ok();
    add(&original, 2);
    let ended = finish(running);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("PG0016") && ended.stderr.contains("Two copies of one project"), "{}", ended.stderr);
    assert_eq!(rows(url, "SELECT count(*), count(DISTINCT id), max(id) FROM appended"), ["200|200|199"], "the copy's rows, and none of the original's");
    copy.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_lake_table_whose_log_lost_its_end_is_mended_and_one_that_lost_a_file_is_not() {
    let server = servers::postgres();
    let project = project(server.address.as_str(), "", "");
    for number in 0..3 {
        add(&project, number);
        project.once().ok();
    }
    let entries = || {
        let mut entries: Vec<_> = std::fs::read_dir(project.table("clean").join("_delta_log")).expect("a log").flatten().map(|e| e.path()).collect();
        entries.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        entries.sort();
        entries
    };
    let all = entries();
    all[all.len() - 2..].iter().for_each(|entry| std::fs::remove_file(entry).expect("removed"));
    let found = project.run(&["verify"]);
    assert!(found.code == Some(1) && found.stdout.contains("table \"clean\" holds 100 rows, and its epochs put 300 there: 200 rows lost"), "{}", found.stdout);
    let mended = project.run(&["verify", "--repair"]).ok();
    assert!(mended.stdout.contains("the log of table \"clean\" had lost its end: epochs 2, 3 are committed again"), "{}", mended.stdout);
    project.run(&["verify", "--deep"]).ok();
    assert_eq!(project.number("SELECT count(DISTINCT id) FROM clean"), 300);
    // The rows of a file are nowhere else.
    let file = walk(&project.table("clean")).into_iter().find(|path| path.extension().is_some_and(|extension| extension == "parquet")).expect("a file");
    std::fs::remove_file(&file).expect("removed");
    let found = project.run(&["verify", "--repair"]);
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    assert!(found.stdout.contains(&file.file_name().expect("a name").to_string_lossy().into_owned()), "{}", found.stdout);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    crate::support::bytes_below(folder).into_keys().filter(|path| !path.display().to_string().contains("_delta_log")).collect()
}
