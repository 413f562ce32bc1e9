//! The dialect as its users meet it: good projects, bad ones with their exact messages, and hostile bytes.

mod hostile;
mod messages;
mod projects;
mod queries;

use crate::{Definitions, SqlFile, parse_project};
use watershed_types::Error;

fn file(text: &str) -> SqlFile {
    SqlFile { name: "p.sql".to_owned(), text: text.to_owned() }
}

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA_BROKERS" => Some("broker:9092".to_owned()),
        "WAREHOUSE_URL" => Some("postgres://me:hunter2@host/db".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Definitions, Error> {
    parse_project(&[file(text)], &env)
}

fn good(text: &str) -> Definitions {
    match parse(text) {
        Ok(definitions) => definitions,
        Err(error) => panic!("{}", error.report()),
    }
}

/// Code, message, hint as one text.
fn bad(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("this was accepted: {text}"),
        Err(error) => format!("{} {}\nhint: {}", error.code(), error.message(), error.next_step().unwrap_or("-")),
    }
}

/// A source with an event time and the tables behind it, as in the guide.
const EXAMPLE: &str = r#"-- The payments of the shop.
CREATE SOURCE transactions (
    transaction_id VARCHAR NOT NULL,
    customer_id    VARCHAR NOT NULL,
    amount         DECIMAL(12,2) NOT NULL,
    currency       VARCHAR,
    merchant       VARCHAR,
    category       VARCHAR,
    status         VARCHAR NOT NULL,
    "timestamp"    TIMESTAMP NOT NULL,
    metadata       MAP<VARCHAR, VARCHAR>,
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 minutes'
) WITH (connector = 'kafka', brokers = '${KAFKA_BROKERS}', topic = 'transactions-raw', format = 'json');

CREATE TABLE clean_transactions (
    CONSTRAINT amount_in_range EXPECT (amount > 0 AND amount < 1000000)           ON VIOLATION QUARANTINE,
    CONSTRAINT known_currency  EXPECT (currency IN ('USD','EUR','GBP'))           ON VIOLATION QUARANTINE,
    CONSTRAINT not_in_future   EXPECT ("timestamp" <= now() + INTERVAL '1 minute') ON VIOLATION WARN
)
PARTITIONED BY (year, month, day, hour)
WITH (zone = 'silver')
AS SELECT t.*, CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'medium' ELSE 'large' END AS amount_category,
          sha256(concat_ws('|', transaction_id, customer_id, amount, status)) AS row_hash,
          date_part('year', "timestamp") AS year /* and so on */
   FROM DEDUPLICATE(transactions, KEY (transaction_id), WITHIN INTERVAL '10 minutes') AS t;

CREATE TABLE per_minute WITH (zone = 'gold') AS
SELECT window_start, window_end, status, count(*) AS transactions, sum(amount) AS total, avg(amount) AS average
FROM TUMBLE(clean_transactions, "timestamp", INTERVAL '1 minute')
GROUP BY window_start, window_end, status;

CREATE SINK warehouse FROM clean_transactions WITH (connector = 'postgres', url = '${WAREHOUSE_URL}',
    table = 'transactions', mode = 'upsert', key = 'transaction_id');
"#;
