//! Lake, warehouse, topic and hot keys in one epoch: every one of them killed at random, and in the end every row is once in each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use tokio_postgres::NoTls;

use crate::servers::{self, Reader, Sender, json, kafka};
use crate::support::{Dice, Project};

const ROUNDS: usize = 45;

fn sql(postgres: &str, redis: &str) -> String {
    let brokers = &kafka().address;
    format!(
        "CREATE SOURCE s (id BIGINT NOT NULL, account VARCHAR NOT NULL, amount DECIMAL(12,2) NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
           WITH (connector = 'kafka', brokers = '{brokers}', topic = 'all-in');
         CREATE TABLE clean AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '1 hour');
         CREATE TABLE minutes AS SELECT window_start, count(*) AS n, sum(amount) AS total FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start;
         CREATE SINK appended FROM clean WITH (connector = 'postgres', url = '{postgres}', table = 'appended');
         CREATE SINK accounts FROM clean WITH (connector = 'postgres', url = '{postgres}', table = 'accounts', mode = 'upsert', key = 'account');
         CREATE SINK hot FROM minutes WITH (connector = 'redis', url = '{redis}', key = 'minute:{{window_start}}');
         CREATE SINK topic FROM clean WITH (connector = 'kafka', brokers = '{brokers}', topic = 'all-out', key = 'account');"
    )
}

fn record(id: u64) -> String {
    let minute = id / 400;
    format!(r#"{{"id":{id},"account":"a{}","amount":{}.25,"at":"2026-01-01T{:02}:{:02}:00Z"}}"#, id % 50, id % 90, minute / 60, minute % 60)
}

/// One number from Postgres.
fn number(url: &str, sql: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
        tokio::spawn(connection);
        client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e}")).get(0)
    })
}

#[test]
fn whoever_is_killed_every_row_is_once_everywhere() {
    let mut dice = Dice::new(20_261_122);
    let postgres = servers::postgres();
    let redis = servers::redis();
    servers::topic("all-in", 2);
    servers::topic("all-out", 2);
    let project = Project::new(&sql(&postgres.address, &redis.address));
    project.write("watershed.toml", "name = \"p\"\n[engine]\nepoch_interval = \"60ms\"\n[serve]\nlisten = \"127.0.0.1:0\"\n");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut kills = [0; 3];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sender = Sender::new();
            while !stop.load(Ordering::SeqCst) {
                for _ in 0..4 {
                    let id = sent.fetch_add(1, Ordering::SeqCst);
                    sender.send("all-in", &format!("a{}", id % 50), &record(id));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            sender.flush();
        });
        for round in 0..ROUNDS {
            let mut child = project.spawn(&["up"]);
            std::thread::sleep(Duration::from_millis(300 + dice.below(900)));
            // One of them, or two, or all.
            let whom = 1 + dice.below(7);
            if whom & 2 != 0 {
                postgres.tell(&["kill"]);
                kills[1] += 1;
            }
            if whom & 4 != 0 {
                redis.tell(&["kill"]);
                kills[2] += 1;
            }
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            if whom & 1 != 0 {
                kills[0] += u32::from(child.try_wait().expect("its state").is_none());
                child.kill().expect("a kill");
                child.wait().expect("its end");
            }
            if whom & 2 != 0 {
                postgres.tell(&["restart"]);
            }
            if whom & 4 != 0 {
                redis.tell(&["restart"]);
            }
            if whom & 1 == 0 {
                // It lives through the others' death, or ends and says why; either way the next start goes on.
                std::thread::sleep(Duration::from_millis(300));
                child.kill().expect("a kill");
                child.wait().expect("its end");
            }
            if round % 15 == 14 {
                let looked = project.run(&["verify"]);
                assert_eq!(looked.code, Some(0), "round {round}: {}{}", looked.stdout, looked.stderr);
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    println!("kills of Watershed, Postgres, Redis: {kills:?}");
    assert!(kills.iter().all(|n| *n >= 10), "too few kills: {kills:?}");
    let started = Instant::now();
    project.run(&["run", "--once", "--final"]).ok();
    assert!(started.elapsed() < Duration::from_secs(60));
    let sent = sent.load(Ordering::SeqCst);
    let cents = (0..sent).map(|id| (id % 90 * 100 + 25) as i64).sum::<i64>();

    assert_eq!(project.number("SELECT count(*) FROM clean"), sent as i64, "the lake");
    assert_eq!(project.number("SELECT CAST(sum(amount) * 100 AS BIGINT) FROM clean"), cents, "money is conserved in the lake");
    assert_eq!(number(&postgres.address, "SELECT count(*) FROM appended"), sent as i64, "the warehouse");
    assert_eq!(number(&postgres.address, "SELECT count(DISTINCT id) FROM appended"), sent as i64, "none twice in the warehouse");
    assert_eq!(number(&postgres.address, "SELECT (sum(amount) * 100)::bigint FROM appended"), cents, "money is conserved in the warehouse");
    // The last row of each account by the order of the stream.
    assert_eq!(number(&postgres.address, "SELECT count(*) FROM accounts"), 50);
    assert_eq!(number(&postgres.address, "SELECT sum(id)::bigint FROM accounts"), (sent - 50..sent).sum::<u64>() as i64, "the last of each account won");
    let (reader, mut seen) = (Reader::new("all-out"), std::collections::BTreeMap::<u64, u32>::new());
    reader.read_at_least(sent, |message| {
        assert!(message.key().is_some());
        *seen.entry(json(message)["id"].as_u64().expect("an id")).or_default() += 1;
    });
    assert_eq!(seen.len() as u64, sent, "the topic");
    assert!(seen.values().all(|n| *n == 1), "none twice in the topic");
    let verified = project.run(&["verify", "--deep"]).ok();
    for sink in ["appended", "accounts", "topic"] {
        assert!(verified.stdout.contains(&format!("\"{sink}\" confirms")), "{}", verified.stdout);
    }
}
