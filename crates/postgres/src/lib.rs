//! Postgres tables as targets: a whole epoch in one transaction, by binary `COPY`.
//!
//! **Owns** the target table's columns, the rows of an epoch on their way into it, and the schema `watershed` of the target
//! database: `watershed.epochs` says which epochs are there, `watershed.owners` who may write. **Does not own** when an
//! epoch is delivered, the rows while they wait, or the quarantine.
//!
//! I1: an epoch's rows and its line in `watershed.epochs` become visible by the same commit; a second line for the same
//! epoch and part breaks the primary key, so no epoch lands twice.
//! I2: every transaction locks its line of `watershed.owners` first and goes no further if the generation there is newer.
//! I3: every transaction locks the table against `ALTER TABLE` and compares its columns with what the encoder was made for.
//!
//! ```text
//!            one flight                                         one flight
//! BEGIN · fence · epoch there? · columns · COPY ──▶ rows … ──▶ end of COPY [· merge] · epochs · COMMIT
//! ```
//!
//! While epochs follow each other without a pause, the first flight of the next one leaves before one is committed; if no
//! epoch comes within a moment it is rolled back.
//!
//! Failure: what fails before the last flight surely did not land. When the last flight's answer is lost the error is
//! indefinite; the next delivery waits for the lost transaction at the fence and then looks.
//! A row the server blames rolls the transaction back; the epoch is repeated with savepoints, which find the rows.
//!
//! | Arrow | made as | also goes into |
//! | --- | --- | --- |
//! | Boolean | boolean | |
//! | Int8, Int16, UInt8 | smallint | integer, bigint, numeric |
//! | Int32, UInt16 | integer | bigint, numeric |
//! | Int64, UInt32 | bigint | numeric |
//! | UInt64 | numeric(20,0) | numeric |
//! | Float32 | real | double precision |
//! | Float64 | double precision | |
//! | Decimal128(p, s) | numeric(p,s) | any numeric that holds it without rounding |
//! | Utf8, LargeUtf8, Utf8View | text | varchar, char, citext, uuid, json, jsonb, enums |
//! | Binary, LargeBinary, BinaryView, FixedSizeBinary | bytea | uuid (16 bytes) |
//! | Date32 | date | |
//! | Time32, Time64(µs) | time | |
//! | Timestamp(s, ms, µs) | timestamp | |
//! | Timestamp(s, ms, µs, zone) | timestamptz | |
//! | Struct, List, Map | jsonb | json |
//! | Dictionary | as its values | |
//!
//! Domains over these are taken as their base type. Text with a NUL byte and times out of Postgres' range are refused,
//! row by row.

mod ahead;
mod careful;
mod columns;
mod encode;
mod error;
mod fast;
mod json;
mod ledger;
mod maintain;
mod merge;
mod numeric;
mod options;
pub mod read;
mod redrive;
mod retention;
mod rows;
mod session;
mod table;
mod target;
mod transaction;

pub use columns::{Columns, quote, table_ddl};
pub use encode::{Encoder, Refusal, SIGNATURE, TRAILER};
pub use options::{Mode, PostgresOptions, Retention, Vacuum};
pub use target::PostgresTarget;
