//! Why a record is refused, and how that is put into words.
//!
//! **Owns** the wording. **Does not own** the decision.

use watershed_types::Reason;

use crate::column::Node;

/// The result of one decoding step.
pub(crate) type Step<T> = Result<T, Box<Fault>>;

/// What is wrong with a record.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The bytes are not of the format; `at` counts from 0 within the record.
    Corrupt { at: usize, what: String },
    /// A value is not of its column's type. `path` starts below the column while the fault travels up to it.
    Schema { path: String, rest: String },
}

impl Fault {
    /// Bytes that are not of the format.
    #[cold]
    pub(crate) fn corrupt(at: usize, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault::Corrupt { at, what: what.into() })
    }
    /// A value that is not of its type; `rest` follows the quoted name of the column.
    #[cold]
    pub(crate) fn schema(rest: impl Into<String>) -> Box<Fault> {
        Box::new(Fault::Schema { path: String::new(), rest: rest.into() })
    }
    /// `expected T, found …`, plus a clause that says why a value of the right kind does not fit.
    #[cold]
    pub(crate) fn mismatch(node: &Node, found: &str, clause: &str) -> Box<Fault> {
        Self::schema(format!(": expected {}, found {found}{clause}", node.declared))
    }
    /// A NULL where there must be none.
    #[cold]
    pub(crate) fn not_null(how: &str) -> Box<Fault> {
        Self::schema(format!(" is NOT NULL but {how}"))
    }
    /// Says in which part of a nested value, or in which column, the fault lies.
    #[cold]
    pub(crate) fn within(mut self: Box<Self>, step: &str) -> Box<Fault> {
        if let Fault::Schema { path, .. } = &mut *self {
            path.insert_str(0, step);
        }
        self
    }
    /// The words for the quarantine.
    pub(crate) fn into_words(self) -> (Reason, String) {
        match self {
            Fault::Corrupt { at, what } => (Reason::Corrupt, format!("byte {}: {what}", at + 1)),
            Fault::Schema { path, rest } => (Reason::Schema, format!("column \"{path}\"{rest}")),
        }
    }
}

/// At most forty characters of some bytes.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    let mut out: String = head.chars().take(MOST).collect();
    if out.len() < bytes.len() {
        out.push('…');
    }
    out
}

/// Names the byte at a position, for "expected …, found …".
pub(crate) fn found_byte(bytes: &[u8], at: usize) -> String {
    match bytes.get(at) {
        None => "the end of the record".to_owned(),
        Some(byte) if byte.is_ascii_graphic() => format!("'{}'", char::from(*byte)),
        Some(byte) => format!("byte 0x{byte:02x}"),
    }
}
