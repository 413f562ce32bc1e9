//! Nexmark: the benchmark's queries over its own streams, into a sink that forgets.
//!
//! Events are made by the `nexmark` crate's generator as JSON and decoded like any other records; making and decoding them is
//! in every figure, and `q0` is the measure of it: it passes bids on and does nothing else.

use std::fs;
use std::path::Path;

use crate::process;

const SOURCES: &str = "
CREATE SOURCE person (id BIGINT NOT NULL, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR, state VARCHAR, date_time TIMESTAMP NOT NULL, extra VARCHAR,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds', PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'nexmark', type = 'person', events = 'EVENTS');
CREATE SOURCE auction (id BIGINT NOT NULL, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP NOT NULL, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds', PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'nexmark', type = 'auction', events = 'EVENTS');
CREATE SOURCE bid (auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP NOT NULL, extra VARCHAR,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds') WITH (connector = 'nexmark', type = 'bid', events = 'EVENTS');
";

/// A query's name, its SQL, and events a second that are asked of it on two cores, where a figure is asked.
const QUERIES: [(&str, &str, Option<f64>); 14] = [
    ("q0", "SELECT auction, bidder, price, date_time FROM bid", Some(1.5e6)),
    ("q1", "SELECT auction, bidder, 0.908 * price AS price, date_time FROM bid", Some(1.5e6)),
    ("q2", "SELECT auction, price FROM bid WHERE auction % 123 = 0", Some(1.5e6)),
    ("q3", "SELECT p.name, p.city, p.state, a.id FROM auction AS a JOIN person AS p ON a.seller = p.id WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca')", Some(1e6)),
    (
        "q4",
        "SELECT q.category, avg(q.final) AS average FROM (SELECT max(b.price) AS final, a.category, a.id FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category) AS q GROUP BY q.category EMIT ON CHANGE",
        None,
    ),
    (
        "q5",
        "SELECT bids.auction, bids.num, bids.starttime FROM (SELECT bid.auction, count(*) AS num, window_start AS starttime FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY window_start, bid.auction) AS bids
         JOIN (SELECT max(counts.num) AS maxn, counts.starttime FROM (SELECT bid.auction, count(*) AS num, window_start AS starttime FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY window_start, bid.auction) AS counts GROUP BY counts.starttime) AS most
         ON bids.starttime = most.starttime AND bids.num >= most.maxn",
        Some(3e5),
    ),
    (
        "q7",
        "SELECT b.auction, b.price, b.bidder, b.date_time FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') AS b
         JOIN (SELECT max(price) AS maxprice, window_start, window_end FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY window_start, window_end) AS m
         ON b.window_start = m.window_start AND b.window_end = m.window_end AND b.price = m.maxprice",
        Some(3e5),
    ),
    (
        "q8",
        "SELECT p.id, p.name, p.window_start FROM (SELECT id, name, window_start, window_end FROM TUMBLE(person, date_time, INTERVAL '10 seconds') GROUP BY id, name, window_start, window_end) AS p
         JOIN (SELECT seller, window_start, window_end FROM TUMBLE(auction, date_time, INTERVAL '10 seconds') GROUP BY seller, window_start, window_end) AS a
         ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
        Some(1e6),
    ),
    (
        "q12",
        "SELECT bidder, count(*) AS bids, window_start, window_end FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY bidder, window_start, window_end",
        None,
    ),
    ("q11", "SELECT bidder, count(*) AS bids, window_start, window_end FROM SESSION(bid PARTITION BY (bidder), date_time, INTERVAL '10 seconds') GROUP BY bidder, window_start, window_end", None),
    ("q15", "SELECT date_trunc('day', date_time) AS day, count(*) AS bids, count(*) FILTER (WHERE price < 10000) AS low, count(DISTINCT bidder) AS bidders FROM bid GROUP BY 1 EMIT ON CHANGE", None),
    ("q17", "SELECT auction, date_trunc('day', date_time) AS day, count(*) AS bids, min(price) AS least, max(price) AS most, avg(price) AS mean, sum(price) AS total FROM bid GROUP BY 1, 2 EMIT ON CHANGE", None),
    ("q20", "SELECT b.auction, b.bidder, b.price, a.item_name, a.category FROM bid AS b JOIN auction AS a ON b.auction = a.id WHERE a.category = 10", None),
    ("q22", "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3 FROM bid", None),
];

/// Events of the whole run that the sources a query reads carry, of 50.
fn share(query: &str) -> u64 {
    let reads = |name: &str| query.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
    u64::from(reads("person"))
        + 3 * u64::from(reads("auction") && (query.contains("auction AS a") || query.contains("auction a ") || query.contains("TUMBLE(auction")))
        + 46 * u64::from(reads("bid"))
}

/// Prints events a second and peak memory of each query; `events` of all three types together.
pub fn measure(binary: &Path, folder: &Path, events: u64) -> std::io::Result<()> {
    println!("nexmark     {events} events of all types, made and decoded as JSON; a query reads those of its sources");
    for (name, query, asked) in QUERIES {
        let project = folder.join(name);
        fs::create_dir_all(&project)?;
        fs::write(project.join("watershed.toml"), "[engine]\nmemory = \"12GiB\"\n")?;
        let sources: String = SOURCES.replace("EVENTS", &events.to_string()).split_inclusive(";\n").filter(|source| reads_source(query, source)).collect();
        fs::write(project.join("pipeline.sql"), format!("{sources}\nCREATE VIEW result AS {query};\nCREATE SINK nowhere FROM result WITH (connector = 'blackhole');\n"))?;
        let run = process::run(binary, &["run", "--once", "--format", "json"], &project)?;
        let rate = events as f64 / run.seconds;
        let against = asked.map_or_else(String::new, |asked| format!(", {:.0}% of the {:.1} M asked", rate / asked * 100.0, asked / 1e6));
        println!(
            "nexmark     {name:<4} {rate:>9.0} events/s of the whole run ({} of 50 read), {:.2} CPU s per million, {} MiB{against}",
            share(query),
            run.cpu_seconds / (events as f64 / 1e6),
            run.peak_bytes >> 20
        );
        let _ = fs::remove_dir_all(&project);
    }
    Ok(())
}

/// True if a query reads the source that this statement makes.
fn reads_source(query: &str, statement: &str) -> bool {
    let Some(name) = statement.trim_start().strip_prefix("CREATE SOURCE ").and_then(|rest| rest.split_whitespace().next()) else { return false };
    match name {
        "auction" => query.contains("auction AS a") || query.contains("auction a ") || query.contains("TUMBLE(auction"),
        other => query.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == other),
    }
}
