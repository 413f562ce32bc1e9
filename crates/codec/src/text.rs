//! Plain text: a record is one string.
//!
//! **Owns** nothing but the rule that the text must be UTF-8.

use crate::builder::{Span, Values};
use crate::decoder::Output;
use crate::fault::Fault;

/// Decodes every record into the single VARCHAR column.
pub(crate) fn decode(records: Vec<(u32, u32)>, out: &mut Output<'_>) {
    for &(start, end) in &records {
        let valid = out.utf8(start, end);
        let result = match (valid, &mut out.columns[0].values) {
            (Ok(_), Values::String(spans)) => {
                spans.push(Span::raw(start, end));
                Ok(())
            }
            (Err(at), _) => Err(Fault::corrupt(at, "not valid UTF-8")),
            _ => Err(Fault::schema(": is not VARCHAR")),
        };
        out.close(start, end, result);
    }
}
