-- The smallest project that runs: what is posted to /v1/ingest/events becomes rows of the table "received".
-- Replace it with your own columns.

CREATE SOURCE events (
    id          VARCHAR NOT NULL,
    kind        VARCHAR,
    ingest_time TIMESTAMP METADATA
) WITH (connector = 'http', format = 'json');

CREATE TABLE received WITH (zone = 'bronze') AS
SELECT id, kind, ingest_time FROM events;
