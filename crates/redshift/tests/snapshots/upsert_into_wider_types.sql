BEGIN;
-- Lock
LOCK watershed.lock_a795612ec0f6b2a2;
-- Owner
SELECT 1 / CASE WHEN count(*) = 1 THEN 1 ELSE 0 END FROM watershed.owners
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND generation = 7;
-- Epoch
SELECT 1 / CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM watershed.epochs
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND epoch = 12;
-- Make
CREATE TEMP TABLE watershed_stage (
  "id" BIGINT,
  "day" DATE,
  "n" INTEGER,
  _watershed_order BIGINT
) DISTSTYLE KEY DISTKEY ("id");
-- Copy
COPY watershed_stage FROM 's3://bucket/in/shop/out/0000000007-0123abcd/000000000012/manifest.json'
IAM_ROLE default FORMAT AS PARQUET MANIFEST;
-- Delete
DELETE FROM "shop"."orders" USING watershed_stage
WHERE "orders"."id" = CAST(watershed_stage."id" AS DECIMAL(20,0)) AND "orders"."day" = watershed_stage."day";
-- Insert
INSERT INTO "shop"."orders" ("id", "day", "n")
SELECT CAST("id" AS DECIMAL(20,0)), "day", CAST("n" AS BIGINT)
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY "id", "day" ORDER BY _watershed_order DESC) AS _watershed_place FROM watershed_stage) AS latest
WHERE _watershed_place = 1;
-- Drop
DROP TABLE watershed_stage;
-- Record
INSERT INTO watershed.epochs (app_id, pipeline, sink, epoch, generation, "rows", refused, committed_at)
VALUES ('watershed/0198/out', 'o''shop', 'out', 12, 7, 1000, 0, GETDATE());
COMMIT;
