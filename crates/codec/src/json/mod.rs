//! JSON records.
//!
//! **Owns** the way from an object to one row. **Does not own** the grammar ([`scan`]) or the types ([`value`]).
//!
//! A record is read once, from left to right, straight into the builders. The order of the keys is remembered from the
//! record before: where it repeats, a key costs one comparison of bytes. Anything unusual (a key given twice, a value
//! that does not fit, bytes that are not JSON) makes the record forgotten and read again with care: first its grammar
//! as a whole, so that what is not JSON is called corrupt whatever else is wrong with it, and then the last value of each key.
//!
//! I1: the quick and the careful way accept the same records with the same values; the quick way only gives up more often.
//! I2: a record is read a bounded number of times, however it is made.

mod nested;
mod scan;
mod value;

use crate::column::Fields;
use crate::decoder::Output;
use crate::fault::{Fault, Step};

/// What is remembered from record to record.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The keys of the records before, in their order.
    shape: Vec<Known>,
    /// For each column the last record that held it.
    seen: Vec<u64>,
    stamp: u64,
}

/// A key as it stood in a record, with what followed up to its value.
#[derive(Debug)]
struct Known {
    text: Box<[u8]>,
    /// The column, if the key names one.
    column: Option<usize>,
}

/// A record being read.
pub(crate) struct Record<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where the record starts in its chunk.
    pub(crate) base: u32,
    pub(crate) side: &'a mut String,
    /// True on the second reading.
    pub(crate) careful: bool,
}

/// Decodes every record into a row.
pub(crate) fn decode(records: Vec<(u32, u32)>, fields: &Fields, memory: &mut Memory, out: &mut Output<'_>) {
    memory.seen.resize(fields.nodes.len(), 0);
    for &(start, end) in &records {
        let result = match out.utf8(start, end) {
            Ok(()) => row(fields, memory, out, start, end),
            Err(at) => Err(Fault::corrupt(at, "not valid UTF-8")),
        };
        out.close(start, end, result);
    }
}

#[inline]
fn row(fields: &Fields, memory: &mut Memory, out: &mut Output<'_>, start: u32, end: u32) -> Step<()> {
    let bytes = &out.bytes[start as usize..end as usize];
    let mut record = Record { bytes, base: start, side: out.side, careful: false };
    if quick(fields, memory, &mut record, out.columns).is_ok() {
        return Ok(());
    }
    out.undo();
    let mut record = Record { bytes, base: start, side: out.side, careful: true };
    careful(fields, &mut record, out.columns)
}

fn quick(fields: &Fields, memory: &mut Memory, record: &mut Record<'_>, columns: &mut [crate::builder::Builder]) -> Step<()> {
    let bytes = record.bytes;
    memory.stamp += 1;
    let mut found = 0;
    let mut guess = 0;
    let mut at = opening(bytes)?;
    at = scan::blank(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        at += 1;
    } else {
        loop {
            let column;
            match memory.shape.get(guess) {
                Some(known) if bytes.get(at..).is_some_and(|rest| rest.starts_with(&known.text)) => {
                    at = scan::blank(bytes, at + known.text.len());
                    column = known.column;
                }
                _ => (column, at) = memory.look_up(fields, record, at, &mut guess)?,
            }
            guess += 1;
            at = match column {
                Some(column) => {
                    if std::mem::replace(&mut memory.seen[column], memory.stamp) == memory.stamp {
                        return Err(twice(at));
                    }
                    found += 1;
                    value::decode(record, &fields.nodes[column], &mut columns[column], at, 1)?
                }
                None => scan::skip(bytes, at, 1)?,
            };
            at = scan::blank(bytes, at);
            match bytes.get(at) {
                Some(b',') => at = scan::blank(bytes, at + 1),
                Some(b'}') => {
                    at += 1;
                    break;
                }
                _ => return Err(scan::expected(bytes, at, "',' or '}'")),
            }
        }
    }
    ending(bytes, at)?;
    if found < fields.nodes.len() {
        for (column, seen) in memory.seen.iter().enumerate() {
            if *seen != memory.stamp {
                nested::missing(&fields.nodes[column], &mut columns[column])?;
            }
        }
    }
    Ok(())
}

/// The second reading: the grammar first, then the last value of each column.
fn careful(fields: &Fields, record: &mut Record<'_>, columns: &mut [crate::builder::Builder]) -> Step<()> {
    let bytes = record.bytes;
    let at = opening(bytes)?;
    let (values, end) = nested::last_values(fields, record, at, 1)?;
    ending(bytes, end)?;
    nested::children(fields, record, &values, columns, 1, "")
}

fn opening(bytes: &[u8]) -> Step<usize> {
    let at = scan::blank(bytes, 0);
    match bytes.get(at) {
        Some(b'{') => Ok(at),
        Some(b'[') => Err(Fault::corrupt(at, "expected an object, found an array")),
        Some(b'"') => Err(Fault::corrupt(at, "expected an object, found a string")),
        Some(b'-' | b'0'..=b'9') => Err(Fault::corrupt(at, "expected an object, found a number")),
        Some(0xef) if bytes[at..].starts_with(b"\xef\xbb\xbf") => Err(Fault::corrupt(at, "expected an object, found a byte order mark")),
        _ => Err(scan::expected(bytes, at, "an object")),
    }
}

#[inline]
fn ending(bytes: &[u8], at: usize) -> Step<()> {
    let at = scan::blank(bytes, at);
    if at == bytes.len() { Ok(()) } else { Err(scan::expected(bytes, at, "the end of the record after the object")) }
}

#[cold]
fn twice(at: usize) -> Box<Fault> {
    Fault::corrupt(at, "a key stands twice")
}

impl Memory {
    /// Finds the column of a key that is not the expected one, and remembers the key there.
    fn look_up(&mut self, fields: &Fields, record: &Record<'_>, at: usize, guess: &mut usize) -> Step<(Option<usize>, usize)> {
        const AHEAD: usize = 4;
        const LONGEST: usize = 256;
        let bytes = record.bytes;
        let rest = bytes.get(at..).unwrap_or_default();
        for ahead in 1..AHEAD {
            if let Some(known) = self.shape.get(*guess + ahead).filter(|known| rest.starts_with(&known.text)) {
                *guess += ahead;
                return Ok((known.column, scan::blank(bytes, at + known.text.len())));
            }
        }
        let (key_end, value) = scan::key(bytes, at)?;
        let column = nested::find(fields, bytes, at, key_end, 0)?;
        // Keys beyond a sensible number are found by name each time: records of ever new keys must not fill the memory.
        let most = 2 * fields.nodes.len() + 64;
        if value - at <= LONGEST && *guess < most {
            if self.shape.len() >= most {
                self.shape.truncate(*guess);
            }
            let place = (*guess).min(self.shape.len());
            self.shape.insert(place, Known { text: bytes[at..value].into(), column });
            *guess = place;
        }
        Ok((column, value))
    }
}
