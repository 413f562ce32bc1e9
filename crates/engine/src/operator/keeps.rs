//! What operators keep, for an estimate before they run: for how long, and how much an entry takes.
//!
//! **Owns** the sizes of entries. **Does not own** rates and sums: see `plan::estimate`.

use arrow::datatypes::DataType;

/// Text is counted as so many bytes: nothing says before it comes.
pub const TEXT: u64 = 32;

/// For how long entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFor {
    /// This much event time behind the watermark, microseconds.
    Time(i64),
    /// Until their window is over, and this much longer, microseconds.
    Window(i64),
    /// At least this much event time, microseconds: sessions go on.
    AtLeast(i64),
    /// So many for each key, for ever.
    EachKey(u64),
    /// For ever.
    ForEver,
}

/// What an operator keeps of one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// For how long.
    pub span: KeptFor,
    /// What an entry takes in memory, bytes.
    pub bytes: u64,
}

/// What columns of these types take in Arrow's row format, text being [`TEXT`] bytes.
pub fn width<'a>(types: impl IntoIterator<Item = &'a DataType>) -> u64 {
    types.into_iter().map(|data_type| 1 + data_type.primitive_width().map_or_else(|| of_no_width(data_type), |bytes| bytes as u64)).sum()
}

fn of_no_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Null => 0,
        DataType::Boolean => 1,
        DataType::Struct(fields) => width(fields.iter().map(|field| field.data_type())),
        _ => TEXT,
    }
}

/// An entry of a [`super::store::Store`]: its key, what finding it costs, its row.
pub fn entry(key: u64, row: u64) -> u64 {
    64 + key + 56 + 16 + row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_wide_as_their_columns() {
        assert_eq!(width(&[DataType::Int64, DataType::Utf8, DataType::Boolean]), 9 + 33 + 2);
        assert_eq!(entry(9, 44), 64 + 9 + 56 + 16 + 44);
    }
}
