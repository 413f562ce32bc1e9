CREATE SCHEMA IF NOT EXISTS watershed;
CREATE TABLE IF NOT EXISTS watershed.epochs (
  app_id VARCHAR(512) NOT NULL, pipeline VARCHAR(256) NOT NULL, sink VARCHAR(256) NOT NULL, epoch BIGINT NOT NULL,
  generation BIGINT NOT NULL, "rows" BIGINT NOT NULL, refused BIGINT NOT NULL, committed_at TIMESTAMP NOT NULL,
  PRIMARY KEY (app_id, sink, epoch)
) DISTSTYLE ALL SORTKEY (app_id, sink, epoch);
CREATE TABLE IF NOT EXISTS watershed.owners (
  app_id VARCHAR(512) NOT NULL, pipeline VARCHAR(256) NOT NULL, sink VARCHAR(256) NOT NULL,
  generation BIGINT NOT NULL, claimed_at TIMESTAMP NOT NULL,
  PRIMARY KEY (app_id, sink)
) DISTSTYLE ALL;
CREATE TABLE IF NOT EXISTS watershed.refused (
  app_id VARCHAR(512), sink VARCHAR(256), epoch BIGINT, ordinal BIGINT, detail VARCHAR(4096)
) DISTSTYLE EVEN SORTKEY (app_id, sink, epoch);
CREATE TABLE IF NOT EXISTS watershed.lock_a795612ec0f6b2a2 (nothing SMALLINT);
