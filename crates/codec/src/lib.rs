//! Raw records to typed Arrow columns, keeping what was refused.
//!
//! **Owns** the framing of a chunk into records, the formats (JSON, CSV, text), and the rules that say which text is a
//! value of which SQL type. **Does not own** reading, rules beyond the column types, or the quarantine.
//!
//! I1: every record of a chunk is either a row of [`Decoded::batch`] or one [`Refused`], never both, never neither.
//! I2: a refused record leaves no trace in the batch.
//! I3: no value is rounded, guessed or cut: what is not exactly a value of the declared type is refused.
//! I4: accepted rows keep the order of their records.
//!
//! ```text
//! RawChunk ─ frame ─▶ records ─ json | csv | text ─▶ builder (per column, can forget its last row) ─▶ RecordBatch
//!                                      └─ fault ───▶ Refused
//! ```

mod builder;
mod column;
mod csv;
mod decoder;
mod fault;
mod frame;
mod json;
mod number;
mod text;
mod timestamp;

pub use column::ColumnSpec;
pub use csv::CsvOptions;
pub use decoder::{Decoded, Decoder, Format, Refused, Scratch};
