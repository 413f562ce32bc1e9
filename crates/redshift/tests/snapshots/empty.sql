BEGIN;
-- Lock
LOCK watershed.lock_a795612ec0f6b2a2;
-- Owner
SELECT 1 / CASE WHEN count(*) = 1 THEN 1 ELSE 0 END FROM watershed.owners
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND generation = 7;
-- Epoch
SELECT 1 / CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM watershed.epochs
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND epoch = 12;
-- Record
INSERT INTO watershed.epochs (app_id, pipeline, sink, epoch, generation, "rows", refused, committed_at)
VALUES ('watershed/0198/out', 'o''shop', 'out', 12, 7, 0, 0, GETDATE());
COMMIT;
