//! Commands in Redis' wire form, written straight into the buffer that is sent.

use std::io::Write as _;

/// Begins a command of so many words, its name included.
pub(crate) fn command(out: &mut Vec<u8>, words: usize) {
    let _ = write!(out, "*{words}\r\n");
}

/// Adds a word.
pub(crate) fn word(out: &mut Vec<u8>, word: &[u8]) {
    let _ = write!(out, "${}\r\n", word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_counted_words() {
        let mut out = Vec::new();
        command(&mut out, 2);
        word(&mut out, b"GET");
        word(&mut out, "ü".as_bytes());
        assert_eq!(out, "*2\r\n$3\r\nGET\r\n$2\r\nü\r\n".as_bytes());
    }
}
