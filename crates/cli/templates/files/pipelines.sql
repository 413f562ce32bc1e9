-- A folder of NDJSON files into a lake table, each line once, and a sum by the hour.

-- Files are read in the order of their names; new ones are picked up while `watershed up` runs.
CREATE SOURCE readings (
    sensor   VARCHAR NOT NULL,
    at       TIMESTAMP NOT NULL,
    celsius  DOUBLE NOT NULL,
    position VARCHAR METADATA,
    WATERMARK FOR at AS at - INTERVAL '5 minutes'
) WITH (connector = 'files', path = 'data', format = 'json');

-- The lines as rows. A line that is no JSON, or lacks a column, waits in system.quarantine with its raw bytes.
CREATE TABLE clean_readings (
    CONSTRAINT plausible EXPECT (celsius BETWEEN -60 AND 60) ON VIOLATION QUARANTINE
)
PARTITIONED BY (year, month, day)
WITH (zone = 'silver')
AS SELECT sensor, at, celsius, position,
          date_part('year', at) AS year, date_part('month', at) AS month, date_part('day', at) AS day
   FROM readings;

-- Written when the watermark says that the hour is complete; `watershed run --once --final` closes the last ones too.
CREATE TABLE hourly WITH (zone = 'gold') AS
SELECT window_start, window_end, sensor, count(*) AS readings, avg(celsius) AS mean, min(celsius) AS lowest, max(celsius) AS highest
FROM TUMBLE(clean_readings, at, INTERVAL '1 hour')
GROUP BY window_start, window_end, sensor;
