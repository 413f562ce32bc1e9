-- Card transactions: from JSON over HTTP to clean, partitioned lake tables and windows over them.
--
--   transactions (HTTP) ──▶ clean_transactions (silver) ──┬─▶ per_minute   (gold)
--                                                         └─▶ family_trend (gold) ◀── categories (a CSV file)

-- Records arrive by POST /v1/ingest/transactions, one JSON object a line. They are on disk before the answer leaves.
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
    -- A record more than ten minutes behind the newest one is late. It is kept in system.quarantine.
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 minutes'
) WITH (connector = 'http', format = 'json');

-- Looked up, not streamed. With refresh = '5 minutes' it would be read again while the pipeline runs.
CREATE STATIC TABLE categories (
    category VARCHAR NOT NULL,
    family   VARCHAR NOT NULL
) WITH (connector = 'files', path = 'data/categories.csv');

-- Every transaction once, checked. A row that breaks a QUARANTINE rule waits in system.quarantine with its raw bytes:
-- see `watershed quarantine list`.
CREATE TABLE clean_transactions (
    CONSTRAINT amount_in_range EXPECT (amount > 0 AND amount < 1000000)            ON VIOLATION QUARANTINE,
    CONSTRAINT known_currency  EXPECT (currency IN ('USD', 'EUR', 'GBP'))          ON VIOLATION QUARANTINE,
    CONSTRAINT not_in_future   EXPECT ("timestamp" <= now() + INTERVAL '1 minute') ON VIOLATION WARN
)
PARTITIONED BY (year, month, day, hour)
WITH (zone = 'silver')
AS SELECT t.*,
          CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'medium' ELSE 'large' END AS amount_category,
          sha256(concat_ws('|', transaction_id, customer_id, amount, status)) AS row_hash,
          date_part('year',  "timestamp") AS year,
          date_part('month', "timestamp") AS month,
          date_part('day',   "timestamp") AS day,
          date_part('hour',  "timestamp") AS hour
   FROM DEDUPLICATE(transactions, KEY (transaction_id), WITHIN INTERVAL '10 minutes') AS t;

-- One row a minute and status, written when the watermark says that the minute is complete.
CREATE TABLE per_minute WITH (zone = 'gold') AS
SELECT window_start, window_end, status,
       count(*) AS transactions, sum(amount) AS total, avg(amount) AS average
FROM TUMBLE(clean_transactions, "timestamp", INTERVAL '1 minute')
GROUP BY window_start, window_end, status;

-- The last five minutes, every minute, by family of categories: a sliding window over a join with the CSV file.
CREATE TABLE family_trend WITH (zone = 'gold') AS
SELECT window_start, window_end, c.family,
       count(*) AS transactions, sum(t.amount) AS total, max(t.amount) AS largest
FROM HOP(clean_transactions, "timestamp", INTERVAL '1 minute', INTERVAL '5 minutes') AS t
JOIN categories AS c ON t.category = c.category
GROUP BY window_start, window_end, c.family;
