-- A web server's access log: lines of text, parsed in SQL.
--
--   lines (text, gzip) ─▶ requests (silver) ─┬─▶ hits_per_hour (gold)
--                                            └─▶ failing_paths (gold)

-- A record is a line. Its time is cut out of the text: "[17/May/2015:10:05:03 +0000]" becomes "2015-05-17 10:05:03".
-- Lines are out of order by less than a minute, so the watermark waits one.
CREATE SOURCE lines (
    line VARCHAR NOT NULL,
    at   TIMESTAMP AS (TRY_CAST(
             regexp_replace(line, '^.*\[(\d{2})/(\w{3})/(\d{4}):(\d{2}:\d{2}:\d{2}) .*$', '\3-')
             || lpad(CAST((strpos('JanFebMarAprMayJunJulAugSepOctNovDec', regexp_replace(line, '^.*\[\d{2}/(\w{3})/.*$', '\1')) + 2) / 3 AS VARCHAR), 2, '0')
             || regexp_replace(line, '^.*\[(\d{2})/(\w{3})/(\d{4}):(\d{2}:\d{2}:\d{2}) .*$', '-\1 \4')
         AS TIMESTAMP(6))),
    WATERMARK FOR at AS at - INTERVAL '1 minute'
) WITH (connector = 'files', path = 'data', format = 'text');

-- A line in its parts; NULL if it does not have them.
CREATE VIEW parsed AS
SELECT line, at,
       regexp_match(line, '^(\S+) \S+ (\S+) \[[^\]]+\] "([A-Z]+) (\S+) [^"]*" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$') AS part
FROM DEDUPLICATE(lines, KEY (line), WITHIN INTERVAL '10 minutes');

CREATE TABLE requests (
    CONSTRAINT line_is_whole EXPECT (client IS NOT NULL) ON VIOLATION QUARANTINE
)
PARTITIONED BY (month, day)
WITH (zone = 'silver')
AS SELECT part[1] AS client, at, part[3] AS method, part[4] AS path, CAST(part[5] AS INT) AS status,
          CAST(NULLIF(part[6], '-') AS BIGINT) AS bytes, NULLIF(part[7], '-') AS referrer, part[8] AS agent,
          date_part('month', at) AS month, date_part('day', at) AS day
   FROM parsed;

CREATE TABLE hits_per_hour WITH (zone = 'gold') AS
SELECT window_start, window_end, status, count(*) AS hits, count(DISTINCT client) AS clients, sum(bytes) AS bytes
FROM TUMBLE(requests, at, INTERVAL '1 hour')
GROUP BY window_start, window_end, status;

CREATE TABLE failing_paths WITH (zone = 'gold') AS
SELECT window_start, window_end, path, count(*) AS failures
FROM TUMBLE(requests, at, INTERVAL '1 day')
WHERE status >= 400
GROUP BY window_start, window_end, path;
