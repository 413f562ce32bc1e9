//! Bad projects and exactly what is said of them.

use super::bad;

#[test]
fn every_mistake_is_shown_where_it_is_with_the_next_step() {
    for (text, expected) in MISTAKES {
        assert_eq!(bad(text), *expected, "for:\n{text}");
    }
}

/// A project, then code, message, picture and hint.
#[rustfmt::skip]
const MISTAKES: &[(&str, &str)] = &[
    (
        r#"CREATE SOURCE s (
    customer_id VARCHA NOT NULL,
    b INT
) WITH (connector = 'x');"#,
        r#"SQL0005 p.sql:2:17: unknown type "VARCHA"
  |
2 |     customer_id VARCHA NOT NULL,
  |                 ^^^^^^
hint: Did you mean VARCHAR?"#,
    ),
    (
        r#"CREATE SOURCE s (a TIME) WITH (connector = 'x')"#,
        r#"SQL0006 p.sql:1:20: type TIME is not supported
  |
1 | CREATE SOURCE s (a TIME) WITH (connector = 'x')
  |                    ^^^^
hint: Use TIMESTAMP, or keep it as VARCHAR."#,
    ),
    (
        r#"CREATE SOURCE s (a JSONB) WITH (connector = 'x')"#,
        r#"SQL0006 p.sql:1:20: type JSONB is not supported
  |
1 | CREATE SOURCE s (a JSONB) WITH (connector = 'x')
  |                    ^^^^^
hint: Declare its fields by ROW<…> or MAP<VARCHAR, VARCHAR>, or keep its text as VARCHAR."#,
    ),
    (
        r#"CREATE SOURCE s (a DECIMAL(40, 2)) WITH (connector = 'x')"#,
        r#"SQL0027 p.sql:1:20: DECIMAL(40, 2) is not possible
  |
1 | CREATE SOURCE s (a DECIMAL(40, 2)) WITH (connector = 'x')
  |                    ^^^^^^^
hint: The first number is 1 to 38 digits in all, the second how many of them are behind the point."#,
    ),
    (
        r#"CREATE SOURCE s (a MAP<INT, TEXT>) WITH (connector = 'x')"#,
        r#"SQL0006 p.sql:1:24: the keys of a map are text
  |
1 | CREATE SOURCE s (a MAP<INT, TEXT>) WITH (connector = 'x')
  |                        ^^^
hint: Write MAP<VARCHAR, …>."#,
    ),
    (
        r#"CREATE SOURCE s (a INT, A TEXT) WITH (connector = 'x')"#,
        r#"SQL0009 p.sql:1:25: column "a" is declared twice, first at p.sql:1:18
  |
1 | CREATE SOURCE s (a INT, A TEXT) WITH (connector = 'x')
  |                         ^
hint: Give one of them another name."#,
    ),
    (
        r#"CREATE SOURCE s (a INT b INT) WITH (connector = 'x')"#,
        r#"SQL0001 p.sql:1:24: expected "," or ")", found "b"
  |
1 | CREATE SOURCE s (a INT b INT) WITH (connector = 'x')
  |                        ^
hint: -"#,
    ),
    (
        r#"CREATE SOURCE s (a INT, at TIMESTAMP, WATERMARK FOR att AS att - INTERVAL '1 minute') WITH (connector = 'x')"#,
        r#"SQL0010 p.sql:1:53: there is no column "att" to take the watermark from
  |
1 | CREATE SOURCE s (a INT, at TIMESTAMP, WATERMARK FOR att AS att - INTERVAL '1 minute') WITH (connector = 'x')
  |                                                     ^^^
hint: Did you mean "at"?"#,
    ),
    (
        r#"CREATE SOURCE s (a INT, WATERMARK FOR a AS a) WITH (connector = 'x')"#,
        r#"SQL0010 p.sql:1:39: the watermark column "a" is not a TIMESTAMP
  |
1 | CREATE SOURCE s (a INT, WATERMARK FOR a AS a) WITH (connector = 'x')
  |                                       ^
hint: Declare it as TIMESTAMP, or add a computed column: event_time TIMESTAMP AS (to_timestamp_micros(a))."#,
    ),
    (
        r#"CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 month') WITH (connector = 'x')"#,
        r#"SQL0020 p.sql:1:66: months and years differ in length
  |
1 | CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 month') WITH (connector = 'x')
  |                                                                  ^^^^^^^^^
hint: Give the length in days, hours or minutes."#,
    ),
    (
        r#"CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL 'soon') WITH (connector = 'x')"#,
        r#"SQL0020 p.sql:1:66: "soon" is not an interval
  |
1 | CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL 'soon') WITH (connector = 'x')
  |                                                                  ^^^^^^
hint: Write it as INTERVAL '10 minutes', with seconds, minutes, hours, days or weeks."#,
    ),
    (
        r#"CREATE SOURCE s (p VARCHAR METADATA FROM 'partitions') WITH (connector = 'x')"#,
        r#"SQL0021 p.sql:1:42: a source has no metadata "partitions"
  |
1 | CREATE SOURCE s (p VARCHAR METADATA FROM 'partitions') WITH (connector = 'x')
  |                                          ^^^^^^^^^^^^
hint: Did you mean 'partition'?"#,
    ),
    (
        r#"CREATE SOURCE s (id INT, PRIMARY KEY (ids)) WITH (connector = 'x')"#,
        r#"SQL0028 p.sql:1:39: the key names "ids", which is not a column
  |
1 | CREATE SOURCE s (id INT, PRIMARY KEY (ids)) WITH (connector = 'x')
  |                                       ^^^
hint: Did you mean "id"?"#,
    ),
    (
        r#"CREATE TABLE t (PRIMARY KEY (a, a) NOT ENFORCED) AS SELECT 1 AS a"#,
        r#"SQL0028 p.sql:1:33: column "a" is in the key twice
  |
1 | CREATE TABLE t (PRIMARY KEY (a, a) NOT ENFORCED) AS SELECT 1 AS a
  |                                 ^
hint: Name it once."#,
    ),
    (
        r#"CREATE TABLE t (PRIMARY KEY (a), CONSTRAINT k PRIMARY KEY (b)) AS SELECT 1 AS a"#,
        r#"SQL0028 p.sql:1:34: there is one primary key
  |
1 | CREATE TABLE t (PRIMARY KEY (a), CONSTRAINT k PRIMARY KEY (b)) AS SELECT 1 AS a
  |                                  ^^^^^^^^^^
hint: Name all its columns in one PRIMARY KEY (a, b)."#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (connector = x)"#,
        r#"SQL0012 p.sql:1:43: the value of option "connector" is not quoted
  |
1 | CREATE SOURCE s (a INT) WITH (connector = x)
  |                                           ^
hint: Write connector = 'x'."#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (connector = 'x', connector = 'y')"#,
        r#"SQL0012 p.sql:1:48: option "connector" is given twice
  |
1 | CREATE SOURCE s (a INT) WITH (connector = 'x', connector = 'y')
  |                                                ^^^^^^^^^
hint: Keep one of them."#,
    ),
    (
        r#"CREATE SOURCE s (a INT)
WITH (connector = 'x',
      password = 'key=${NO_SUCH}')"#,
        r#"SQL0013 p.sql:3:23: variable NO_SUCH is not set
  |
3 |       password = 'key=${NO_SUCH}')
  |                       ^^^^^^^^^^
hint: Set it in the environment, or give a default: ${NO_SUCH:-value}."#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (a = '${b c}')"#,
        r#"SQL0014 p.sql:1:36: "b c" is not the name of a variable
  |
1 | CREATE SOURCE s (a INT) WITH (a = '${b c}')
  |                                    ^^^^^^
hint: Write ${NAME} or ${NAME:-default}."#,
    ),
    (
        r#"CREATE SOURCE system (a INT) WITH (connector = 'x')"#,
        r#"SQL0008 p.sql:1:15: "system" is reserved for Watershed's own tables
  |
1 | CREATE SOURCE system (a INT) WITH (connector = 'x')
  |               ^^^^^^
hint: Give the source another name."#,
    ),
    (
        r#"CREATE SOURCE "../up" (a INT) WITH (connector = 'x')"#,
        r#"SQL0008 p.sql:1:15: "../up" cannot be the name of a source
  |
1 | CREATE SOURCE "../up" (a INT) WITH (connector = 'x')
  |               ^^^^^^^
hint: Use letters, digits, "_" and "-", at most 128 of them."#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (c = 'x');
CREATE TABLE s AS SELECT 1;"#,
        r#"SQL0007 p.sql:2:14: table "s" has the name of the source at p.sql:1:15
  |
2 | CREATE TABLE s AS SELECT 1;
  |              ^
hint: Give one of them another name; all objects of a project share one set of names."#,
    ),
    (
        r#"CREATE VIEW v AS SELECT 1;
CREATE VIEW v AS SELECT 2;"#,
        r#"SQL0007 p.sql:2:13: view "v" has the name of the view at p.sql:1:13
  |
2 | CREATE VIEW v AS SELECT 2;
  |             ^
hint: Give one of them another name, or write CREATE OR REPLACE VIEW v to replace the earlier one."#,
    ),
    (
        r#"CREATE TABLE t (a INT)"#,
        r#"SQL0001 p.sql:1:17: expected CONSTRAINT, found "a"
  |
1 | CREATE TABLE t (a INT)
  |                 ^
hint: The columns of a table come from its query; only expectations and a PRIMARY KEY stand here: CONSTRAINT name EXPECT (…)."#,
    ),
    (
        r#"CREATE TABLE t AS INSERT INTO x VALUES (1)"#,
        r#"SQL0001 p.sql:1:19: expected a query, found "INSERT"
  |
1 | CREATE TABLE t AS INSERT INTO x VALUES (1)
  |                   ^^^^^^
hint: Write SELECT … FROM …"#,
    ),
    (
        r#"CREATE TABLE t (CONSTRAINT c EXPECT (true), CONSTRAINT c EXPECT (false)) AS SELECT 1"#,
        r#"SQL0011 p.sql:1:56: constraint "c" is declared twice, first at p.sql:1:28
  |
1 | CREATE TABLE t (CONSTRAINT c EXPECT (true), CONSTRAINT c EXPECT (false)) AS SELECT 1
  |                                                        ^
hint: Give one of them another name."#,
    ),
    (
        r#"CREATE TABLE t (CONSTRAINT c EXPECT (a IN (SELECT 1))) AS SELECT 1"#,
        r#"SQL0025 p.sql:1:38: a subquery cannot stand here
  |
1 | CREATE TABLE t (CONSTRAINT c EXPECT (a IN (SELECT 1))) AS SELECT 1
  |                                      ^
hint: Join what it reads in the table's query instead."#,
    ),
    (
        r#"CREATE TABLE t (CONSTRAINT c EXPECT (a >) ON VIOLATION WARN) AS SELECT 1"#,
        r#"SQL0001 p.sql:1:41: expected an expression, found ")"
  |
1 | CREATE TABLE t (CONSTRAINT c EXPECT (a >) ON VIOLATION WARN) AS SELECT 1
  |                                         ^
hint: -"#,
    ),
    (
        r#"CREATE TABLE t (CONSTRAINT c EXPECT (true) ON VIOLATION QUARANTIN) AS SELECT 1"#,
        r#"SQL0001 p.sql:1:57: expected WARN, DROP, QUARANTINE or FAIL, found "QUARANTIN"
  |
1 | CREATE TABLE t (CONSTRAINT c EXPECT (true) ON VIOLATION QUARANTIN) AS SELECT 1
  |                                                         ^^^^^^^^^
hint: Did you mean QUARANTINE?"#,
    ),
    (
        r#"CREATE SOURCE clicks (a INT) WITH (c = 'x');
CREATE TABLE t AS
SELECT * FROM click"#,
        r#"SQL0015 p.sql:3:15: there is no source, table or view "click"
  |
3 | SELECT * FROM click
  |               ^^^^^
hint: Did you mean "clicks"?"#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (c = 'x'); CREATE TABLE t AS SELECT * FROM elsewhere.orders"#,
        r#"SQL0015 p.sql:1:73: there is no source, table or view "elsewhere.orders"
  |
1 | CREATE SOURCE s (a INT) WITH (c = 'x'); CREATE TABLE t AS SELECT * FROM elsewhere.orders
  |                                                                         ^^^^^^^^^^^^^^^^
hint: Known names: s."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM system.ledger"#,
        r#"SQL0015 p.sql:1:33: a pipeline cannot read "system.ledger"
  |
1 | CREATE TABLE t AS SELECT * FROM system.ledger
  |                                 ^^^^^^^^^^^^^
hint: Read system tables by `watershed query`."#,
    ),
    (
        r#"CREATE TABLE a AS SELECT * FROM b; CREATE VIEW b AS SELECT * FROM c;
CREATE TABLE c AS SELECT * FROM a"#,
        r#"SQL0016 p.sql:2:33: tables read each other in a circle: a -> b -> c -> a
  |
2 | CREATE TABLE c AS SELECT * FROM a
  |                                 ^
hint: Take one of these reads out."#,
    ),
    (
        r#"CREATE TABLE a AS SELECT * FROM a"#,
        r#"SQL0016 p.sql:1:33: table "a" reads itself
  |
1 | CREATE TABLE a AS SELECT * FROM a
  |                                 ^
hint: Read its input, or give the new one another name."#,
    ),
    (
        r#"CREATE SOURCE s (a INT) WITH (c = 'x'); CREATE SINK k FROM s WITH (c = 'y')"#,
        r#"SQL0024 p.sql:1:60: a sink delivers a table, and "s" is a source
  |
1 | CREATE SOURCE s (a INT) WITH (c = 'x'); CREATE SINK k FROM s WITH (c = 'y')
  |                                                            ^
hint: Make a table of it: CREATE TABLE s_table AS SELECT * FROM s."#,
    ),
    (
        r#"CREATE SINK k FROM t WITH (c = 'y'); CREATE TABLE t AS SELECT * FROM k"#,
        r#"SQL0024 p.sql:1:70: "k" is a sink and cannot be read
  |
1 | CREATE SINK k FROM t WITH (c = 'y'); CREATE TABLE t AS SELECT * FROM k
  |                                                                      ^
hint: Read the table that the sink delivers."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM SESSION(s PARTITION BY k ORDER BY at, at, INTERVAL '5 minutes')"#,
        r#"SQL0018 p.sql:1:58: ORDER BY cannot stand in a stream relation
  |
1 | CREATE TABLE t AS SELECT * FROM SESSION(s PARTITION BY k ORDER BY at, at, INTERVAL '5 minutes')
  |                                                          ^^^^^
hint: Leave it out: rows are taken by event time."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE(s PARTITION BY k, at, INTERVAL '5 minutes')"#,
        r#"SQL0018 p.sql:1:42: TUMBLE is not partitioned
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE(s PARTITION BY k, at, INTERVAL '5 minutes')
  |                                          ^^^^^^^^^
hint: Write TUMBLE(table, time_column, INTERVAL '1 minute')."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM SESSION(s, at PARTITION BY k, INTERVAL '5 minutes')"#,
        r#"SQL0018 p.sql:1:47: PARTITION BY stands behind the table
  |
1 | CREATE TABLE t AS SELECT * FROM SESSION(s, at PARTITION BY k, INTERVAL '5 minutes')
  |                                               ^^^^^^^^^
hint: Write SESSION(table PARTITION BY (column, …), time_column, INTERVAL '5 minutes')."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM CUMULATE(s, at, INTERVAL '2 minutes', INTERVAL '5 minutes')"#,
        r#"SQL0018 p.sql:1:71: the size of CUMULATE must be a multiple of its step
  |
1 | CREATE TABLE t AS SELECT * FROM CUMULATE(s, at, INTERVAL '2 minutes', INTERVAL '5 minutes')
  |                                                                       ^^^^^^^^
hint: Write CUMULATE(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes'): the step, then the size."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM DEDUPLICATE(s, KEY (a), KEEP NEWEST)"#,
        r#"SQL0001 p.sql:1:62: expected FIRST or LAST, found "NEWEST"
  |
1 | CREATE TABLE t AS SELECT * FROM DEDUPLICATE(s, KEY (a), KEEP NEWEST)
  |                                                              ^^^^^^
hint: Write KEEP FIRST or KEEP LAST."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM r FOR SYSTEM_TIME AS OF s.at"#,
        r#"SQL0030 p.sql:1:35: FOR SYSTEM_TIME AS OF stands behind the right side of a join
  |
1 | CREATE TABLE t AS SELECT * FROM r FOR SYSTEM_TIME AS OF s.at
  |                                   ^^^
hint: Write … JOIN table FOR SYSTEM_TIME AS OF stream.time_column [AS alias] ON …"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM s JOIN r FOR SYSTEM_TIME AS OF s.at + INTERVAL '1 day' ON true"#,
        r#"SQL0030 p.sql:1:64: the time of a version is a column of the other side, or PROCTIME()
  |
1 | CREATE TABLE t AS SELECT * FROM s JOIN r FOR SYSTEM_TIME AS OF s.at + INTERVAL '1 day' ON true
  |                                                                ^
hint: Write … JOIN table FOR SYSTEM_TIME AS OF stream.time_column [AS alias] ON …"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM (SELECT 1 EMIT ON CLOSE) AS x"#,
        r#"SQL0023 p.sql:1:43: EMIT stands at the end of a statement
  |
1 | CREATE TABLE t AS SELECT * FROM (SELECT 1 EMIT ON CLOSE) AS x
  |                                           ^^^^
hint: Move EMIT … behind the whole query."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 EMIT ON CLOSE WHERE true"#,
        r#"SQL0023 p.sql:1:42: EMIT stands at the end of a statement
  |
1 | CREATE TABLE t AS SELECT 1 EMIT ON CLOSE WHERE true
  |                                          ^^^^^
hint: Move EMIT … behind the whole query."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 EMIT ON COMMIT"#,
        r#"SQL0023 p.sql:1:28: expected EMIT ON CLOSE or EMIT ON CHANGE, found "COMMIT"
  |
1 | CREATE TABLE t AS SELECT 1 EMIT ON COMMIT
  |                            ^^^^
hint: Write EMIT ON CLOSE, EMIT ON CLOSE EARLY EVERY INTERVAL '10 seconds', or EMIT ON CHANGE."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 EMIT ON CHANGE, EARLY EVERY INTERVAL '1 minute'"#,
        r#"SQL0023 p.sql:1:42: EMIT ON CHANGE has no early results
  |
1 | CREATE TABLE t AS SELECT 1 EMIT ON CHANGE, EARLY EVERY INTERVAL '1 minute'
  |                                          ^
hint: Leave out EARLY EVERY: every change leaves at once."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 EMIT ON CLOSE EARLY EVERY INTERVAL '0 seconds'"#,
        r#"SQL0023 p.sql:1:54: the time between early results must be above zero
  |
1 | CREATE TABLE t AS SELECT 1 EMIT ON CLOSE EARLY EVERY INTERVAL '0 seconds'
  |                                                      ^^^^^^^^
hint: Write EMIT ON CLOSE, EMIT ON CLOSE EARLY EVERY INTERVAL '10 seconds', or EMIT ON CHANGE."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 ON LATE DROP EMIT ON CLOSE ON LATE UPDATE"#,
        r#"SQL0029 p.sql:1:55: ON LATE is given twice
  |
1 | CREATE TABLE t AS SELECT 1 ON LATE DROP EMIT ON CLOSE ON LATE UPDATE
  |                                                       ^^
hint: Keep one of them."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 EMIT ON CLOSE ON LATE QUARANTIN"#,
        r#"SQL0029 p.sql:1:50: expected QUARANTINE, DROP or UPDATE, found "QUARANTIN"
  |
1 | CREATE TABLE t AS SELECT 1 EMIT ON CLOSE ON LATE QUARANTIN
  |                                                  ^^^^^^^^^
hint: Did you mean QUARANTINE?"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1 ALLOWED LATENESS '1 hour'"#,
        r#"SQL0001 p.sql:1:45: expected an INTERVAL, found '1 hour'
  |
1 | CREATE TABLE t AS SELECT 1 ALLOWED LATENESS '1 hour'
  |                                             ^^^^^^^^
hint: Write ALLOWED LATENESS INTERVAL '1 hour'."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT TUMBLE_PROCTIME(at, INTERVAL '1 minute') FROM s GROUP BY TUMBLE(at, INTERVAL '1 minute')"#,
        r#"SQL0031 p.sql:1:26: windows go by event time
  |
1 | CREATE TABLE t AS SELECT TUMBLE_PROCTIME(at, INTERVAL '1 minute') FROM s GROUP BY TUMBLE(at, INTERVAL '1 minute')
  |                          ^^^^^^^^^^^^^^^
hint: Use TUMBLE_ROWTIME or TUMBLE_END."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT count(*) FROM s JOIN r ON s.a = r.a GROUP BY HOP(s.at, INTERVAL '1 minute', INTERVAL '2 minutes')"#,
        r#"SQL0031 p.sql:1:71: GROUP BY HOP(…) reads one table
  |
1 | CREATE TABLE t AS SELECT count(*) FROM s JOIN r ON s.a = r.a GROUP BY HOP(s.at, INTERVAL '1 minute', INTERVAL '2 minutes')
  |                                                                       ^^^
hint: Write … FROM TUMBLE(table, time_column, INTERVAL '1 minute') GROUP BY window_start, window_end."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT count(*) FROM s GROUP BY a, HOP(at, INTERVAL '1 minute')"#,
        r#"SQL0031 p.sql:1:54: expected HOP(time_column, INTERVAL 'slide', INTERVAL 'size')
  |
1 | CREATE TABLE t AS SELECT count(*) FROM s GROUP BY a, HOP(at, INTERVAL '1 minute')
  |                                                      ^^^
hint: Write … FROM TUMBLE(table, time_column, INTERVAL '1 minute') GROUP BY window_start, window_end."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE(s, INTERVAL '1 minute')"#,
        r#"SQL0018 p.sql:1:43: expected a column name
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE(s, INTERVAL '1 minute')
  |                                           ^^^^^^^^
hint: Write TUMBLE(table, time_column, INTERVAL '1 minute')."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE(s, at, '1 minute')"#,
        r#"SQL0001 p.sql:1:47: expected a name or an INTERVAL, found '1 minute'
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE(s, at, '1 minute')
  |                                               ^^^^^^^^^^
hint: Write INTERVAL '1 minute'."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE(s, at)"#,
        r#"SQL0018 p.sql:1:33: TUMBLE needs its size, an INTERVAL
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE(s, at)
  |                                 ^^^^^^
hint: Write TUMBLE(table, time_column, INTERVAL '1 minute')."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '-5 minutes')"#,
        r#"SQL0018 p.sql:1:65: the size of HOP must be above zero
  |
1 | CREATE TABLE t AS SELECT * FROM HOP(s, at, INTERVAL '1 minute', INTERVAL '-5 minutes')
  |                                                                 ^^^^^^^^
hint: Write HOP(table, time_column, INTERVAL '1 minute', INTERVAL '5 minutes'): the slide, then the size."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM DEDUPLICATE(s, KEY (a), WITHN => INTERVAL '5 minutes')"#,
        r#"SQL0018 p.sql:1:57: DEDUPLICATE has no argument "withn"
  |
1 | CREATE TABLE t AS SELECT * FROM DEDUPLICATE(s, KEY (a), WITHN => INTERVAL '5 minutes')
  |                                                         ^^^^^
hint: Did you mean WITHIN?"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE((SELECT 1), at, INTERVAL '1 minute')"#,
        r#"SQL0018 p.sql:1:40: a query cannot stand inside a stream relation
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE((SELECT 1), at, INTERVAL '1 minute')
  |                                        ^
hint: Name the query: CREATE VIEW name AS SELECT …, and put the name here."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT 1, TUMBLE(s, at, INTERVAL '1 minute')"#,
        r#"SQL0019 p.sql:1:29: TUMBLE can stand in FROM only
  |
1 | CREATE TABLE t AS SELECT 1, TUMBLE(s, at, INTERVAL '1 minute')
  |                             ^^^^^^
hint: Write … FROM TUMBLE(table, time_column, INTERVAL '1 minute') GROUP BY window_start, window_end."#,
    ),
    (
        r#"CREATE TABLE t AS WITH x AS (SELECT 1) SELECT * FROM TUMBLE(x, at, INTERVAL '1 minute')"#,
        r#"SQL0017 p.sql:1:61: TUMBLE cannot read the WITH query "x" yet
  |
1 | CREATE TABLE t AS WITH x AS (SELECT 1) SELECT * FROM TUMBLE(x, at, INTERVAL '1 minute')
  |                                                             ^
hint: Make it a view: CREATE VIEW x AS …"#,
    ),
    (
        r#"CREATE TABLE t AS TABLE s"#,
        r#"SQL0001 p.sql:1:19: expected a query, found "TABLE"
  |
1 | CREATE TABLE t AS TABLE s
  |                   ^^^^^
hint: Write SELECT … FROM …"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * INTO u FROM s"#,
        r#"SQL0022 p.sql:1:19: SELECT INTO cannot stand in a definition
  |
1 | CREATE TABLE t AS SELECT * INTO u FROM s
  |                   ^^^^^^^^^^^^^^^^^^^^^^
hint: Leave out INTO; the table's name is in CREATE TABLE."#,
    ),
    (
        r#"CREATE TABLE t AS SELECT a,
  FROM s WHERE (a = 1"#,
        r#"SQL0001 p.sql:2:8: expected an expression, found "s"
  |
2 |   FROM s WHERE (a = 1
  |        ^
hint: -"#,
    ),
    (
        r#"CREATE TABLE t AS SELECT * FROM TUMBLE(s, at, INTERVAL '1 minute') x y"#,
        r#"SQL0001 p.sql:1:70: unexpected "y"
  |
1 | CREATE TABLE t AS SELECT * FROM TUMBLE(s, at, INTERVAL '1 minute') x y
  |                                                                      ^
hint: -"#,
    ),
    (
        r#"CREATE VIEW v AS SELECT 1
CREATE VIEW w AS SELECT 2"#,
        r#"SQL0001 p.sql:2:1: expected ";", found "CREATE"
  |
2 | CREATE VIEW w AS SELECT 2
  | ^^^^^^
hint: End the statement before it with ";"."#,
    ),
    (
        r#"SELECT * FROM t"#,
        r#"SQL0003 p.sql:1:1: a project's files hold definitions, not SELECT
  |
1 | SELECT * FROM t
  | ^^^^^^
hint: Ask it by `watershed query`, or name it: CREATE TABLE name AS SELECT …"#,
    ),
    (
        r#"DROP TABLE t"#,
        r#"SQL0003 p.sql:1:1: a project's files hold definitions, not DROP
  |
1 | DROP TABLE t
  | ^^^^
hint: Remove its CREATE statement from the project instead."#,
    ),
    (
        r#"CREAT TABLE t"#,
        r#"SQL0003 p.sql:1:1: a project's files hold definitions, not CREAT
  |
1 | CREAT TABLE t
  | ^^^^^
hint: Did you mean CREATE?"#,
    ),
    (
        r#"CREATE MATERIALIZED VIEW v AS SELECT 1"#,
        r#"SQL0001 p.sql:1:8: expected SOURCE, TABLE, VIEW, SINK or STATIC TABLE, found "MATERIALIZED"
  |
1 | CREATE MATERIALIZED VIEW v AS SELECT 1
  |        ^^^^^^^^^^^^
hint: Write CREATE TABLE name AS …; a table is kept up to date."#,
    ),
    (
        r#"CREATE VIEW v AS SELECT 'open"#,
        r#"SQL0002 p.sql:1:25: unterminated string literal
  |
1 | CREATE VIEW v AS SELECT 'open
  |                         ^
hint: Close every quote and comment that was opened."#,
    ),
];
