//! Errors that point at the text.
//!
//! **Owns** the codes of this crate and the caret picture. **Does not own** the error type.
//!
//! The first line of a message is `file.sql:12:17: what is wrong`, the picture follows; the next step is the hint.

use std::fmt::{Display, Write};

use watershed_types::Error;

use crate::{Place, SqlFile};

/// Stable codes, one per way to be wrong.
pub(crate) mod code {
    pub const SYNTAX: &str = "SQL0001";
    pub const TOKEN: &str = "SQL0002";
    pub const STATEMENT: &str = "SQL0003";
    pub const TOO_LARGE: &str = "SQL0004";
    pub const UNKNOWN_TYPE: &str = "SQL0005";
    pub const UNSUPPORTED_TYPE: &str = "SQL0006";
    pub const DUPLICATE_NAME: &str = "SQL0007";
    pub const BAD_NAME: &str = "SQL0008";
    pub const DUPLICATE_COLUMN: &str = "SQL0009";
    pub const WATERMARK: &str = "SQL0010";
    pub const DUPLICATE_CONSTRAINT: &str = "SQL0011";
    pub const OPTION: &str = "SQL0012";
    pub const VARIABLE_UNSET: &str = "SQL0013";
    pub const VARIABLE_SYNTAX: &str = "SQL0014";
    pub const UNKNOWN_INPUT: &str = "SQL0015";
    pub const CYCLE: &str = "SQL0016";
    pub const NOT_AVAILABLE: &str = "SQL0017";
    pub const RELATION_ARGUMENT: &str = "SQL0018";
    pub const RELATION_PLACE: &str = "SQL0019";
    pub const INTERVAL: &str = "SQL0020";
    pub const METADATA: &str = "SQL0021";
    pub const QUERY: &str = "SQL0022";
    pub const EMIT: &str = "SQL0023";
    pub const NOT_READABLE: &str = "SQL0024";
    pub const SUBQUERY: &str = "SQL0025";
    pub const TABLE_SHAPE: &str = "SQL0026";
    pub const TYPE_PARAMETER: &str = "SQL0027";
    pub const PRIMARY_KEY: &str = "SQL0028";
    pub const LATENESS: &str = "SQL0029";
    pub const AS_OF: &str = "SQL0030";
    pub const LEGACY_WINDOW: &str = "SQL0031";
}

/// Lines longer than this are shown as a window around the place.
const LONGEST_LINE: usize = 160;
/// What such a window shows before the place, and in all.
const WINDOW_BEFORE: usize = 60;
const WINDOW: usize = 120;

/// An error of kind `Invalid` at a place: `file.sql:12:17: message`, then the picture if the file is among `files`.
pub fn error_at(code: &'static str, files: &[SqlFile], place: &Place, width: usize, message: impl Display) -> Error {
    let mut text = format!("{place}: {message}");
    if let Some(file) = files.iter().find(|file| *file.name == *place.file) {
        text.push('\n');
        text.push_str(&picture(file, place, width));
    }
    Error::invalid(code, text)
}

/// The line of a place with carets under it.
///
/// ```text
///    |
/// 12 |     customer_id VARCHA NOT NULL,
///    |                 ^^^^^^
/// ```
pub fn picture(file: &SqlFile, place: &Place, width: usize) -> String {
    let line = file.text.split('\n').nth(place.line.saturating_sub(1) as usize).unwrap_or("");
    draw(line, place.line, place.column, width)
}

pub(crate) fn draw(line: &str, number: u32, column: u32, width: usize) -> String {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let before = column.saturating_sub(1) as usize;
    let length = line.chars().count();
    let (skipped, shown) = match length > LONGEST_LINE {
        true => (before.saturating_sub(WINDOW_BEFORE).min(length), WINDOW),
        false => (0, length),
    };
    let visible: String = line.chars().skip(skipped).take(shown).collect();
    let shown_before = before - skipped.min(before);

    let mut padding = String::new();
    let mut text = String::new();
    if skipped > 0 {
        text.push('…');
        padding.push(' ');
    }
    for (index, character) in visible.chars().enumerate() {
        let printable = match character {
            '\t' => '\t',
            c if c.is_control() => '\u{fffd}',
            c => c,
        };
        text.push(printable);
        if index < shown_before {
            padding.push(if printable == '\t' { '\t' } else { ' ' });
        }
    }
    let visible_length = visible.chars().count();
    if shown_before > visible_length {
        padding.push_str(&" ".repeat((shown_before - visible_length).min(1)));
    }
    if skipped + shown < length {
        text.push('…');
    }
    let carets = width.clamp(1, visible_length.saturating_sub(shown_before).max(1));

    let number = number.to_string();
    let gutter = " ".repeat(number.len() + 1);
    let mut out = String::new();
    let drawn = writeln!(out, "{gutter}|")
        .and_then(|()| writeln!(out, "{}", format!("{number} | {text}").trim_end()))
        .and_then(|()| write!(out, "{gutter}| {padding}{}", "^".repeat(carets)));
    debug_assert!(drawn.is_ok(), "writing into a string cannot fail");
    out
}
