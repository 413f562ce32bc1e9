BEGIN;
-- Lock
LOCK watershed.lock_a795612ec0f6b2a2, watershed.owners, watershed.epochs, watershed.refused;
-- Owner
SELECT 1 / CASE WHEN count(*) = 1 THEN 1 ELSE 0 END FROM watershed.owners
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND generation = 7;
-- Epoch
SELECT 1 / CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM watershed.epochs
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND epoch = 12;
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
-- Copy
COPY watershed_stage FROM 's3://bucket/in/shop/out/0000000007-0123abcd/000000000012/manifest.json'
IAM_ROLE 'arn:aws:iam::123456789012:role/load' FORMAT AS PARQUET MANIFEST;
-- Insert
INSERT INTO "shop"."orders" ("id", "we""ird", "at", "local", "day", "time", "flag", "tiny", "whole", "big", "ratio", "mean", "name", "hash", "tags", "place", "gone")
SELECT "id", CAST("we""ird" AS DECIMAL(18,2)), "at" AT TIME ZONE 'UTC', "local", "day", CAST("time" AS TIME), "flag", CAST("tiny" AS SMALLINT), "whole", CAST("big" AS DECIMAL(20,0)), "ratio", "mean", "name", FROM_HEX("hash"), JSON_PARSE("tags"), JSON_PARSE("place"), "gone"
FROM watershed_stage;
-- Drop
DROP TABLE watershed_stage;
-- Record
INSERT INTO watershed.epochs (app_id, pipeline, sink, epoch, generation, "rows", refused, committed_at)
VALUES ('watershed/0198/out', 'o''shop', 'out', 12, 7, 1000, 0, GETDATE());
COMMIT;
