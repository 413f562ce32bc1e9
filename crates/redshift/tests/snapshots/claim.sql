BEGIN;
-- Lock
LOCK watershed.lock_a795612ec0f6b2a2;
-- Owner
SELECT 1 / CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM watershed.owners
WHERE app_id = 'watershed/0198/out' AND sink = 'out' AND generation > 7;
-- Record
DELETE FROM watershed.owners
WHERE app_id = 'watershed/0198/out' AND sink = 'out';
-- Record
INSERT INTO watershed.owners (app_id, pipeline, sink, generation, claimed_at)
VALUES ('watershed/0198/out', 'o''shop', 'out', 7, GETDATE());
COMMIT;
