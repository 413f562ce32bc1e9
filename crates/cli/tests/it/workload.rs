//! Transactions with every kind of trouble, and what should become of each: a model written apart from the engine.

use std::collections::{BTreeMap, HashMap};

use watershed_protocol::Account;

use crate::support::Dice;

/// The pipeline that runs over them: DESIGN.md section 6 made small.
pub const SQL: &str = r#"
CREATE SOURCE transactions (
    seq BIGINT NOT NULL, transaction_id VARCHAR NOT NULL, customer_id VARCHAR NOT NULL, amount DECIMAL(12,2) NOT NULL,
    currency VARCHAR, category VARCHAR, status VARCHAR NOT NULL, "timestamp" TIMESTAMP NOT NULL,
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 minutes'
) WITH (connector = 'files', path = 'data', format = 'json');

CREATE STATIC TABLE categories (category VARCHAR NOT NULL, family VARCHAR NOT NULL) WITH (path = 'categories.csv');

CREATE TABLE clean_transactions (
    CONSTRAINT amount_in_range EXPECT (amount > 0 AND amount < 1000000) ON VIOLATION QUARANTINE,
    CONSTRAINT known_currency EXPECT (currency IN ('USD','EUR','GBP')) ON VIOLATION DROP,
    CONSTRAINT not_in_future EXPECT ("timestamp" <= now() + INTERVAL '1 minute') ON VIOLATION WARN
)
PARTITIONED BY (year, month, day, hour)
WITH (zone = 'silver')
AS SELECT t.*, CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'medium' ELSE 'large' END AS amount_category,
          sha256(concat_ws('|', transaction_id, customer_id, amount, status)) AS row_hash,
          date_part('year', "timestamp") AS year, date_part('month', "timestamp") AS month,
          date_part('day', "timestamp") AS day, date_part('hour', "timestamp") AS hour
   FROM DEDUPLICATE(transactions, KEY (transaction_id), WITHIN INTERVAL '10 minutes') AS t;

CREATE TABLE per_minute WITH (zone = 'gold') AS
SELECT window_start, window_end, status, count(*) AS transactions, sum(amount) AS total, avg(amount) AS average
FROM TUMBLE(clean_transactions, "timestamp", INTERVAL '1 minute')
GROUP BY window_start, window_end, status;

CREATE TABLE family_trend WITH (zone = 'gold') AS
SELECT window_start, window_end, c.family, count(*) AS transactions, sum(t.amount) AS total, max(t.amount) AS largest
FROM HOP(clean_transactions, "timestamp", INTERVAL '1 minute', INTERVAL '5 minutes') AS t
JOIN categories AS c ON t.category = c.category
GROUP BY window_start, window_end, c.family;

CREATE VIEW large AS SELECT * FROM clean_transactions WHERE amount >= 1000;
CREATE TABLE large_with_family AS
SELECT l.transaction_id, l.amount, l."timestamp" AS at, c.family FROM large AS l LEFT JOIN categories AS c ON l.category = c.category;
"#;

pub const CATEGORIES: &str = "category,family\ngrocery,daily\nfuel,daily\ntravel,\"leisure, far\"\n";

/// 2026-03-01 12:00 in milliseconds.
const START: i64 = 1_772_366_400_000;
const DELAY: i64 = 600_000;

/// Lines, and the model's verdict on them.
pub struct Workload {
    pub lines: String,
    /// The rows of clean_transactions: `seq` and the amount in cents.
    pub accepted: BTreeMap<i64, i64>,
    pub account: Account,
    /// By reason.
    pub quarantine: BTreeMap<&'static str, usize>,
}

/// The same for the same arguments. Event time moves `step` milliseconds a row.
pub fn transactions(rows: i64, step: i64, seed: u64) -> Workload {
    let mut dice = Dice::fixed(seed);
    let mut made: Vec<(String, i64)> = Vec::new();
    let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
    let mut greatest = i64::MIN;
    let mut out = Workload { lines: String::new(), accepted: BTreeMap::new(), account: Account::default(), quarantine: BTreeMap::new() };
    for seq in 0..rows {
        let mut at = START + seq * step + dice.below(3_000) as i64;
        let mut id = format!("t-{seq:06}-{:08x}", dice.roll() as u32);
        let mut cents = 1 + dice.below(300_000) as i64;
        let mut currency = ["USD", "EUR", "GBP"][dice.below(3) as usize];
        let category = ["grocery", "fuel", "travel", "unheard of"][dice.below(4) as usize];
        let mut trouble = dice.below(100);
        if made.is_empty() {
            trouble = 99;
        }
        match trouble {
            // A repeat, a little later; one long after it, which is a new row; one out of order.
            0..=7 => id.clone_from(&made[made.len() - 1 - dice.below(made.len().min(20) as u64) as usize].0),
            8 | 9 => id.clone_from(&made[dice.below(made.len() as u64) as usize].0),
            10 | 11 => at -= 20 * 60_000,
            12..=19 => at -= dice.below(500_000) as i64,
            20 => cents = -cents,
            21 => currency = "XXX",
            _ => {}
        }
        let amount = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
        let time = watershed_engine::time::timestamp(at * 1_000);
        let whole = format!(
            r#"{{"seq":{seq},"transaction_id":"{id}","customer_id":"c-{}","amount":{amount},"currency":"{currency}","category":"{category}","status":"{}","timestamp":"{time}"}}"#,
            dice.below(50),
            ["approved", "declined"][dice.below(2) as usize],
        );
        out.account.read += 1;
        let refused = match trouble {
            22 => Some(("corrupt", whole[..whole.len() / 2].to_owned())),
            23 => Some(("schema", whole.replace("\"customer_id\":", "\"customer\":"))),
            _ => None,
        };
        if let Some((reason, line)) = refused {
            out.lines += &line;
            out.lines.push('\n');
            out.account.quarantined += 1;
            *out.quarantine.entry(reason).or_default() += 1;
            continue;
        }
        out.lines += &whole;
        out.lines.push('\n');
        let late = greatest != i64::MIN && at < greatest - DELAY;
        greatest = greatest.max(at);
        if late {
            out.account.late += 1;
            *out.quarantine.entry("late").or_default() += 1;
            continue;
        }
        made.push((id.clone(), at));
        let times = seen.entry(id).or_default();
        if times.iter().any(|t| (t - at).abs() <= DELAY) {
            out.account.duplicate += 1;
            continue;
        }
        times.push(at);
        if cents < 0 {
            out.account.quarantined += 1;
            *out.quarantine.entry("violation").or_default() += 1;
        } else if currency == "XXX" {
            out.account.filtered += 1;
        } else {
            out.account.delivered += 1;
            out.accepted.insert(seq, cents);
        }
    }
    out
}
