//! Redshift tables as targets: an epoch is staged on S3 as Parquet, and loaded, merged and recorded in one transaction.
//!
//! **Owns** the staged files, the target table's columns, and the schema `watershed` of the target database:
//! `watershed.epochs` says which epochs are there, `watershed.owners` who may write, `watershed.refused` which rows were
//! not taken. **Does not own** when an epoch is delivered, the rows while they wait, or the quarantine.
//!
//! I1: an epoch's rows and its line in `watershed.epochs` become visible by the same commit. Redshift enforces no primary key,
//! so what keeps a second line out is I2.
//! I2: every transaction that writes takes the sink's own lock before it reads anything, so its snapshot is younger than
//! every commit of the transactions before it. Then it fails unless the sink is still its own and the epoch is not there.
//! I3: a staged file's bytes follow from the rows and the table's columns alone: staged again they are the same.
//!
//! ```text
//! rows ─▶ checked, as types COPY takes ─▶ Parquet parts + manifest on S3
//!                                               │
//! BEGIN · lock · mine? · not there? · stage ◀─ COPY · [delete] · insert · epochs · COMMIT ─▶ staged files removed
//! ```
//!
//! Failure: what fails before the commit surely did not land. When the commit's answer is lost the error is indefinite; the
//! next delivery looks, and its own transaction waits for the lost one at the lock. A load that Redshift refuses rolls
//! everything back; trial loads of halves into temporary tables find the rows to blame, which are left out and recorded.
//!
//! | Arrow | made as | staged as | also goes into |
//! | --- | --- | --- | --- |
//! | Boolean | BOOLEAN | BOOLEAN | |
//! | Int8, Int16, UInt8 | SMALLINT | INTEGER | INTEGER, BIGINT, DECIMAL |
//! | Int32, UInt16 | INTEGER | INTEGER | BIGINT, DECIMAL |
//! | Int64, UInt32 | BIGINT | BIGINT | DECIMAL |
//! | UInt64 | DECIMAL(20,0) | DECIMAL(38,0) | DECIMAL |
//! | Float32 | REAL | REAL | DOUBLE PRECISION |
//! | Float64 | DOUBLE PRECISION | DOUBLE PRECISION | |
//! | Decimal128(p, s) | DECIMAL(p,s) | DECIMAL(38,s) | any DECIMAL that holds it without rounding |
//! | Utf8, LargeUtf8, Utf8View | VARCHAR(n) | VARCHAR(n) | CHAR(n) for ASCII |
//! | Binary, LargeBinary, BinaryView, FixedSizeBinary | VARBYTE(32767) | VARCHAR, hexadecimal | |
//! | Date32 | DATE | DATE | |
//! | Time32, Time64 | TIME | VARCHAR(16) | |
//! | Timestamp(s, ms, µs) | TIMESTAMP | TIMESTAMP | |
//! | Timestamp(s, ms, µs, zone) | TIMESTAMPTZ | TIMESTAMP in UTC | |
//! | Struct, List, Map | SUPER | VARCHAR(65535), JSON | VARCHAR |
//! | Dictionary | as its values | | |
//!
//! Staged types are the few whose Parquet form COPY is known to take; the INSERT that follows turns them into the
//! table's. Names are lower case there, as Redshift folds them.

mod backend;
mod columns;
mod convert;
mod data_api;
mod error;
mod halving;
mod json;
mod ledger;
mod options;
mod plan;
#[cfg(test)]
mod snapshots;
mod staging;
mod table;
mod target;
mod wire;

pub use options::{DataApiOptions, Every, Mode, RedshiftOptions, Via};
pub use target::RedshiftTarget;
