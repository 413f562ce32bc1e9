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
) WITH (connector = 'files', path = 'data/*.ndjson', format = 'json');

CREATE TABLE clean_transactions (
    CONSTRAINT amount_in_range EXPECT (amount > 0 AND amount < 1000000)           ON VIOLATION QUARANTINE,
    CONSTRAINT known_currency  EXPECT (currency IN ('USD','EUR','GBP'))           ON VIOLATION QUARANTINE,
    CONSTRAINT not_in_future   EXPECT ("timestamp" <= now() + INTERVAL '1 minute') ON VIOLATION WARN
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
