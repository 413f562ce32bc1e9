-- upsert: spread by the key
CREATE TABLE IF NOT EXISTS "shop"."orders" (
  "id" BIGINT NOT NULL,
  "we""ird" DECIMAL(18,2),
  "at" TIMESTAMPTZ,
  "local" TIMESTAMP,
  "day" DATE,
  "time" TIME,
  "flag" BOOLEAN,
  "tiny" SMALLINT,
  "whole" INTEGER,
  "big" DECIMAL(20,0),
  "ratio" REAL,
  "mean" DOUBLE PRECISION,
  "name" VARCHAR(65535),
  "hash" VARBYTE(32767),
  "tags" SUPER,
  "place" SUPER
) DISTSTYLE KEY DISTKEY ("id") SORTKEY ("at", "id");

-- append: as Redshift likes
CREATE TABLE IF NOT EXISTS "shop"."orders" (
  "id" BIGINT NOT NULL,
  "we""ird" DECIMAL(18,2),
  "at" TIMESTAMPTZ,
  "local" TIMESTAMP,
  "day" DATE,
  "time" TIME,
  "flag" BOOLEAN,
  "tiny" SMALLINT,
  "whole" INTEGER,
  "big" DECIMAL(20,0),
  "ratio" REAL,
  "mean" DOUBLE PRECISION,
  "name" VARCHAR(65535),
  "hash" VARBYTE(32767),
  "tags" SUPER,
  "place" SUPER,
  "gone" BOOLEAN
);

-- append: told
CREATE TABLE IF NOT EXISTS "shop"."orders" (
  "id" BIGINT NOT NULL,
  "we""ird" DECIMAL(18,2),
  "at" TIMESTAMPTZ,
  "local" TIMESTAMP,
  "day" DATE,
  "time" TIME,
  "flag" BOOLEAN,
  "tiny" SMALLINT,
  "whole" INTEGER,
  "big" DECIMAL(20,0),
  "ratio" REAL,
  "mean" DOUBLE PRECISION,
  "name" VARCHAR(256),
  "hash" VARBYTE(32767),
  "tags" SUPER,
  "place" SUPER,
  "gone" BOOLEAN
) DISTSTYLE EVEN SORTKEY ("at");

-- append: spread by a column
CREATE TABLE IF NOT EXISTS "shop"."orders" (
  "id" BIGINT NOT NULL,
  "we""ird" DECIMAL(18,2),
  "at" TIMESTAMPTZ,
  "local" TIMESTAMP,
  "day" DATE,
  "time" TIME,
  "flag" BOOLEAN,
  "tiny" SMALLINT,
  "whole" INTEGER,
  "big" DECIMAL(20,0),
  "ratio" REAL,
  "mean" DOUBLE PRECISION,
  "name" VARCHAR(65535),
  "hash" VARBYTE(32767),
  "tags" SUPER,
  "place" SUPER,
  "gone" BOOLEAN
) DISTSTYLE KEY DISTKEY ("name");

