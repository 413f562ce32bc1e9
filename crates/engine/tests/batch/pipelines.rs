//! The pipelines that are proved, each with the input it needs.

use crate::input::{Records, Shape};

/// A project and what is fed to it.
pub struct Pipeline {
    pub name: &'static str,
    /// Follows [`SOURCE`], unless it has a source of its own.
    pub sql: &'static str,
    /// Static tables, as queries.
    pub statics: &'static [(&'static str, &'static str)],
    /// The records of a seed.
    pub input: fn(u64) -> Records,
}

/// What every pipeline reads.
pub const SOURCE: &str =
    "CREATE SOURCE s (id VARCHAR NOT NULL, sub VARCHAR, seq BIGINT, at TIMESTAMP NOT NULL, amount DECIMAL(12,2), weight DOUBLE, category VARCHAR, word VARCHAR, part BIGINT,
    cents AS (CAST(amount * 100 AS BIGINT)), WATERMARK FOR at AS at - INTERVAL '1 minute') WITH (connector = 'log');\n";

const SECOND: i64 = 1_000_000;

/// Few keys that come back again and again.
pub fn chains(seed: u64) -> Records {
    Shape { partitions: 3, records: 60, keys: 4, step: 90 * SECOND, bad: 0 }.records(seed)
}

/// Some of everything.
pub fn mixed(seed: u64) -> Records {
    Shape { partitions: 3, records: 50, keys: 12, step: 40 * SECOND, bad: 6 }.records(seed)
}

/// Hours go by.
fn slow(seed: u64) -> Records {
    Shape { partitions: 2, records: 60, keys: 3, step: 2_400 * SECOND, bad: 0 }.records(seed)
}

pub const CATEGORIES: (&str, &str) = (
    "categories",
    "SELECT * FROM (VALUES ('food', 'daily', 10), ('fuel', 'daily', 20), ('fuel', 'car', 30), ('travel', 'leisure', 40), (NULL, 'nobody', 50)) AS t(category, family, rank)",
);

pub const PIPELINES: &[Pipeline] = &[
    Pipeline {
        name: "rules",
        sql: "CREATE TABLE kept (CONSTRAINT warned EXPECT (amount < 100) ON VIOLATION WARN, CONSTRAINT dropped EXPECT (seq % 7 <> 3) ON VIOLATION DROP,
                                 CONSTRAINT held EXPECT (amount > 50 AND category IN ('food','fuel','travel')) ON VIOLATION QUARANTINE,
                                 CONSTRAINT in_time EXPECT (at <= now() - INTERVAL '5 minutes') ON VIOLATION QUARANTINE, CONSTRAINT never EXPECT (seq >= 0) ON VIOLATION FAIL)
                AS SELECT *, CASE WHEN amount < 1000 THEN 'small' ELSE 'large' END AS size, date_part('minute', at) AS minute, now() - at AS age, sha256(concat_ws('|', id, amount)) AS hash
                   FROM s WHERE word <> 'fig';",
        statics: &[],
        input: mixed,
    },
    Pipeline { name: "dedup", sql: "CREATE TABLE d AS SELECT id, seq, at, amount FROM DEDUPLICATE(s, KEY (id)) WHERE seq <> 5;", statics: &[], input: mixed },
    Pipeline {
        name: "dedup_within",
        sql: "CREATE TABLE by_id AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '2 minutes') AS t;
              CREATE TABLE by_both AS SELECT id, sub, seq FROM DEDUPLICATE(s, KEY (id, sub), WITHIN INTERVAL '10 minutes') AS t;
              CREATE TABLE twice AS SELECT id, seq, at FROM DEDUPLICATE(by_id, KEY (id, word), WITHIN INTERVAL '5 minutes') AS t;
              CREATE TABLE tight AS SELECT id, seq, at FROM DEDUPLICATE(s, KEY (part, seq), WITHIN INTERVAL '1 second') AS t WHERE seq > 40;",
        statics: &[],
        input: chains,
    },
    Pipeline {
        name: "dedup_long",
        sql: "CREATE TABLE two_hours AS SELECT id, seq, at FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '2 hours') AS t;
              CREATE TABLE five_hours AS SELECT id, seq, at FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '301 minutes') AS t;",
        statics: &[],
        input: slow,
    },
    Pipeline {
        name: "tumble",
        sql: "CREATE TABLE t AS SELECT window_start, window_end, category, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, min(amount) AS least, max(word) AS most, count(amount) FILTER (WHERE amount > 500) AS dear
                FROM TUMBLE(s, at, INTERVAL '2 minutes') GROUP BY window_start, window_end, category;
              CREATE TABLE shifted AS SELECT window_time, count(*) AS n, sum(amount) AS total FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' MINUTES, INTERVAL '-7' MINUTES)) GROUP BY window_start, window_time HAVING count(*) > 1;
              CREATE TABLE ends (CONSTRAINT many EXPECT (n > 3) ON VIOLATION QUARANTINE) AS SELECT window_end AS until, count(*) AS n FROM TUMBLE(s, at, INTERVAL '1 minute') WHERE word <> 'pear' GROUP BY window_end;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "hop",
        sql: "CREATE TABLE h AS SELECT window_start, window_end, count(*) AS n, sum(amount) AS total, avg(amount) AS mean FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end;
              CREATE TABLE by_id AS SELECT window_start, id, count(*) AS n, max(at) AS latest FROM HOP(s, at, INTERVAL '2 minutes', INTERVAL '4 minutes') GROUP BY window_start, id;
              CREATE TABLE uneven AS SELECT window_start, window_end, count(*) AS n FROM HOP(s, at, INTERVAL '2 minutes', INTERVAL '5 minutes') GROUP BY window_start, window_end;
              CREATE TABLE gaps AS SELECT window_start, count(*) AS n FROM HOP(s, at, INTERVAL '3 minutes', INTERVAL '1 minute') GROUP BY window_start, window_end;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "hop_rows",
        sql: "CREATE TABLE rows (CONSTRAINT early EXPECT (window_start < TIMESTAMP '2026-01-01 00:10:00') ON VIOLATION QUARANTINE) AS
                SELECT id, seq, at, window_start, window_end, window_time FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '3 minutes') AS w;
              CREATE TABLE further (CONSTRAINT even EXPECT (date_part('minute', window_start) <> 4) ON VIOLATION DROP) AS SELECT id, seq, window_start FROM rows WHERE seq % 3 <> 0;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "window_over_dedup",
        sql: "CREATE TABLE clean (CONSTRAINT positive EXPECT (amount > 100) ON VIOLATION QUARANTINE) AS SELECT * FROM DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '90 seconds') AS t;
              CREATE TABLE per_minute AS SELECT window_start, window_end, category, count(*) AS n, sum(amount) AS total, avg(amount) AS mean FROM TUMBLE(clean, at, INTERVAL '1 minute') GROUP BY window_start, window_end, category;
              CREATE TABLE trend AS SELECT window_start, count(DISTINCT id) AS ids, sum(cents) AS cents FROM HOP(clean, at, INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end;
              CREATE TABLE inline AS SELECT window_start, count(*) AS n FROM TUMBLE(DEDUPLICATE(s, KEY (id), WITHIN INTERVAL '90 seconds'), at, INTERVAL '1 minute') GROUP BY window_start, window_end;",
        statics: &[],
        input: chains,
    },
    Pipeline {
        name: "tables_in_a_row",
        sql: "CREATE TABLE a (CONSTRAINT known EXPECT (category IS NOT NULL) ON VIOLATION DROP) AS SELECT id, seq, at, amount * 2 AS twice, category FROM s;
              CREATE TABLE b (CONSTRAINT small EXPECT (twice < 3000) ON VIOLATION QUARANTINE) AS SELECT seq, id || '/' || category AS name, at, twice FROM a WHERE seq > 3;
              CREATE TABLE c AS SELECT name, at AS moment, twice + 1 AS more FROM b;
              CREATE TABLE d AS SELECT window_start, count(*) AS n, sum(more) AS total FROM TUMBLE(c, moment, INTERVAL '1 minute') GROUP BY window_start, window_end;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "windows_of_windows",
        sql: "CREATE TABLE minutes (CONSTRAINT some EXPECT (n > 1) ON VIOLATION DROP) AS SELECT window_start AS minute, window_time AS moment, category, count(*) AS n, sum(amount) AS total FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end, window_time, category;
              CREATE TABLE fives AS SELECT window_start, window_end, count(*) AS minutes, sum(n) AS n, max(total) AS best FROM TUMBLE(minutes, moment, INTERVAL '5 minutes') GROUP BY window_start, window_end;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "lookup",
        sql: "CREATE STATIC TABLE categories WITH (connector = 'files');
              CREATE TABLE outer_join AS SELECT s.id, s.seq, s.at, s.category, c.family FROM s LEFT JOIN categories c ON s.category = c.category;
              CREATE TABLE inner_join (CONSTRAINT low EXPECT (rank < 30 OR amount < 900) ON VIOLATION QUARANTINE) AS SELECT s.id, s.seq, s.at, s.amount, c.family, c.rank FROM s JOIN categories c ON s.category = c.category AND s.seq % 20 <> c.rank;
              CREATE TABLE next (CONSTRAINT no_cars EXPECT (family <> 'car' OR seq % 2 = 0) ON VIOLATION DROP) AS SELECT id, seq, family FROM inner_join;
              CREATE TABLE known AS SELECT id, seq FROM s WHERE EXISTS (SELECT 1 FROM categories c WHERE c.category = s.category);
              CREATE TABLE unknown AS SELECT id, seq, category FROM s WHERE NOT EXISTS (SELECT 1 FROM categories c WHERE c.category = s.category AND c.rank > 15);
              CREATE TABLE by_family AS SELECT window_start, c.family, count(*) AS n, sum(s.amount) AS total FROM TUMBLE(s, at, INTERVAL '5 minutes') AS s JOIN categories c ON s.category = c.category GROUP BY window_start, window_end, c.family;",
        statics: &[CATEGORIES],
        input: mixed,
    },
    Pipeline {
        name: "distinct",
        sql: "CREATE TABLE d AS SELECT window_start, category, count(DISTINCT id) AS ids, count(DISTINCT word) AS words, approx_distinct(id) AS about, avg(weight) AS mean, sum(weight) AS total, median(cents) AS middle,
                  count(DISTINCT amount) FILTER (WHERE weight > 30) AS heavy, bool_or(word = 'fig') AS figs
                FROM TUMBLE(s, at, INTERVAL '5 minutes') GROUP BY window_start, window_end, category;
              CREATE TABLE all_of_them AS SELECT window_start, count(DISTINCT id) AS ids, approx_distinct(word) AS words FROM HOP(s, at, INTERVAL '5 minutes', INTERVAL '10 minutes') GROUP BY window_start, window_end;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "arrival_order",
        sql: "CREATE TABLE a AS SELECT window_start, part, array_agg(seq) AS seqs, string_agg(word, ',') AS words, first_value(id) AS first, last_value(word) AS last, last_value(seq ORDER BY category, seq) AS by_category,
                  first_value(seq ORDER BY at DESC) AS newest FROM TUMBLE(s, at, INTERVAL '5 minutes') GROUP BY window_start, window_end, part;",
        statics: &[],
        input: mixed,
    },
    Pipeline {
        name: "views",
        sql: "CREATE VIEW dear AS SELECT id, at AS moment, amount, word FROM s WHERE amount > 300;
              CREATE VIEW once AS SELECT * FROM DEDUPLICATE(dear, KEY (id), WITHIN INTERVAL '2 minutes') AS d;
              CREATE TABLE kept AS SELECT o.id, o.moment, upper(o.word) AS word, o.amount + o.amount * 2 AS three, o.amount * 2 AS two FROM once o;
              CREATE TABLE counted AS SELECT window_end, count(*) AS n FROM TUMBLE(once, moment, INTERVAL '3 minutes') GROUP BY window_start, window_end;",
        statics: &[],
        input: chains,
    },
];
