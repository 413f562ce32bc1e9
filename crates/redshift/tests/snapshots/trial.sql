BEGIN;
-- Make
CREATE TEMP TABLE watershed_stage (
  "id" BIGINT,
  "we""ird" DECIMAL(38,2),
  "at" TIMESTAMP,
  "local" TIMESTAMP,
  "day" DATE,
  "time" VARCHAR(16),
  "flag" BOOLEAN,
  "tiny" INTEGER,
  "whole" INTEGER,
  "big" DECIMAL(38,0),
  "ratio" REAL,
  "mean" DOUBLE PRECISION,
  "name" VARCHAR(65535),
  "hash" VARCHAR(65534),
  "tags" VARCHAR(65535),
  "place" VARCHAR(65535),
  "gone" BOOLEAN,
  _watershed_order BIGINT
);
-- Make
CREATE TEMP TABLE watershed_trial AS
SELECT "id", "we""ird", "at", "local", "day", "time", "flag", "tiny", "whole", "big", "ratio", "mean", "name", "hash", "tags", "place", "gone" FROM "shop"."orders" WHERE 1 = 0;
-- Copy
COPY watershed_stage FROM 's3://bucket/in/shop/out/0000000007-0123abcd/000000000012/manifest.json'
IAM_ROLE 'arn:aws:iam::123456789012:role/load' FORMAT AS PARQUET MANIFEST;
-- Insert
INSERT INTO watershed_trial ("id", "we""ird", "at", "local", "day", "time", "flag", "tiny", "whole", "big", "ratio", "mean", "name", "hash", "tags", "place", "gone")
SELECT "id", CAST("we""ird" AS DECIMAL(18,2)), "at" AT TIME ZONE 'UTC', "local", "day", CAST("time" AS TIME), "flag", CAST("tiny" AS SMALLINT), "whole", CAST("big" AS DECIMAL(20,0)), "ratio", "mean", "name", FROM_HEX("hash"), JSON_PARSE("tags"), JSON_PARSE("place"), "gone"
FROM watershed_stage;
-- Drop
DROP TABLE watershed_trial;
-- Drop
DROP TABLE watershed_stage;
COMMIT;
