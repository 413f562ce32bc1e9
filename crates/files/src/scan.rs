//! Where records end.
//!
//! I3 lives here: a scanner remembers how far it looked, so a long record that arrives in pieces is looked at once.
//!
//! SUBTLE: a quote opens a CSV field only at the field's start. The delimiter is not known here, so a quote after a
//! letter, a digit, a space or a byte beyond ASCII (`5" pipe`) is taken as part of the text.

use memchr::{memchr, memchr_iter, memchr2_iter, memrchr};

use crate::options::CsvFraming;

/// Looks for record ends in a buffer that starts at a record and grows at its end.
#[derive(Debug, Clone)]
pub(crate) struct Scanner {
    csv: Option<CsvFraming>,
    scanned: usize,
    in_quotes: bool,
}

impl Scanner {
    pub(crate) fn new(csv: Option<CsvFraming>) -> Self {
        Self { csv, scanned: 0, in_quotes: false }
    }

    /// Looks at what is new; the end of the last whole record, if a record ended in the new part.
    pub(crate) fn scan(&mut self, buffer: &[u8]) -> Option<usize> {
        let from = self.scanned;
        self.scanned = buffer.len();
        match self.csv {
            None => memrchr(b'\n', &buffer[from..]).map(|at| from + at + 1),
            Some(csv) => {
                let mut last = None;
                for_each_end(buffer, from, csv.quote, &mut self.in_quotes, |end| {
                    last = Some(end);
                    true
                });
                last
            }
        }
    }

    pub(crate) fn csv(&self) -> Option<CsvFraming> {
        self.csv
    }

    /// The first `bytes` were taken away; the rest, all scanned, moved to the front.
    pub(crate) fn removed(&mut self, bytes: usize) {
        self.scanned -= bytes;
    }

    /// The buffer ends inside a quoted field.
    pub(crate) fn in_quotes(&self) -> bool {
        self.in_quotes
    }
}

/// Calls `found` with each record end at or after `from` until it says false.
fn for_each_end(buffer: &[u8], from: usize, quote: u8, in_quotes: &mut bool, mut found: impl FnMut(usize) -> bool) {
    for at in memchr2_iter(quote, b'\n', &buffer[from..]) {
        let at = from + at;
        if buffer[at] == quote {
            if *in_quotes {
                *in_quotes = false;
            } else {
                let before = if at == 0 { b'\n' } else { buffer[at - 1] };
                let inside_text = before.is_ascii_alphanumeric() || before == b' ' || before >= 0x80;
                *in_quotes = before == quote || !inside_text;
            }
        } else if !*in_quotes && !found(at + 1) {
            return;
        }
    }
}

/// Where to cut whole records so that about `max_bytes` come first: the last end within them, else the first after.
pub(crate) fn cut(records: &[u8], max_bytes: usize, csv: Option<CsvFraming>) -> usize {
    if records.len() <= max_bytes {
        return records.len();
    }
    match csv {
        None => match memrchr(b'\n', &records[..max_bytes]) {
            Some(at) => at + 1,
            None => memchr(b'\n', &records[max_bytes..]).map_or(records.len(), |at| max_bytes + at + 1),
        },
        Some(csv) => {
            let (mut best, mut in_quotes) = (0, false);
            for_each_end(records, 0, csv.quote, &mut in_quotes, |end| {
                if end <= max_bytes || best == 0 {
                    best = end;
                }
                end < max_bytes
            });
            if best == 0 { records.len() } else { best }
        }
    }
}

/// The end of the first record that is not blank: a CSV file's header with what blank lines stand before it.
pub(crate) fn first_record_end(records: &[u8], csv: CsvFraming) -> Option<usize> {
    let (mut start, mut first, mut in_quotes) = (0, None, false);
    for_each_end(records, 0, csv.quote, &mut in_quotes, |end| {
        let blank = records[start..end].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        start = end;
        if !blank {
            first = Some(end);
        }
        blank
    });
    first
}

/// Line ends in these bytes; positions count lines, so that an editor finds the record.
pub(crate) fn lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Option<CsvFraming> = Some(CsvFraming { quote: b'"', header: false });

    #[test]
    fn quoted_newlines_stay_inside_however_the_bytes_arrive() {
        let text = b"a,\"x\ny\"\n1,\"he said \"\"hi\n\"\"\"\n5\" pipe,2\n\"\",3\nrest";
        for step in 1..text.len() {
            let mut scanner = Scanner::new(CSV);
            let mut last = None;
            let mut seen = 0;
            while seen < text.len() {
                seen = (seen + step).min(text.len());
                last = scanner.scan(&text[..seen]).or(last);
            }
            assert_eq!(last, Some(text.len() - 4), "step {step}");
            assert!(!scanner.in_quotes());
        }
    }

    #[test]
    fn cuts_fall_on_record_ends() {
        assert_eq!(cut(b"aa\nbb\ncc\n", 7, None), 6);
        assert_eq!(cut(b"aaaaaaaa\nbb\n", 3, None), 9);
        assert_eq!(cut(b"\"a\n\n\n\"\nb\n", 3, CSV), 7);
        assert_eq!(cut(b"a\nb\n\"a\n\"\n", 5, CSV), 4);
    }

    #[test]
    fn header_takes_blank_lines_before_it_along() {
        let csv = CsvFraming { quote: b'"', header: true };
        assert_eq!(first_record_end(b"\r\n\na,\"b\nc\"\n1,2\n", csv), Some(11));
        assert_eq!(first_record_end(b"\n\n", csv), None);
    }
}
