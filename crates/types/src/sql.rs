//! What is known of SQL before anybody parses it.

/// How many operators a statement may chain. Planners go down a chain call by call, and each call takes a piece of the thread's
/// stack; threads that plan what others write have one of [`PLANNING_STACK`].
pub const MOST_CHAINED: usize = 5_000;
/// The stack of a thread that plans statements of others, bytes; three times what [`MOST_CHAINED`] takes.
pub const PLANNING_STACK: usize = 64 << 20;

/// About how many operators and set operations there are outside of quotes: an upper bound of the longest chain.
pub fn chained(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    let (mut count, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while bytes.get(at).is_some_and(|byte| byte != quote) {
                    at += 1;
                }
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'|' | b'^' | b'<' | b'>' | b'=' | b'#' | b'&' | b'~' | b'@' | b'!' | b'?' | b':' | b'[' => count += 1,
            byte if byte.is_ascii_alphabetic() => {
                let from = at;
                while bytes.get(at + 1).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                    at += 1;
                }
                let word = &bytes[from..=at];
                let words: [&[u8]; 9] = [b"and", b"or", b"not", b"union", b"except", b"intersect", b"is", b"collate", b"join"];
                count += usize::from(words.iter().any(|known| word.eq_ignore_ascii_case(known)));
            }
            _ => {}
        }
        at += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::chained;

    #[test]
    fn operators_outside_of_quotes_are_counted() {
        for (sql, count) in
            [("SELECT 1", 0), ("SELECT 1+1 - 1", 2), ("a OR b and order", 2), ("'a or b' + \"x - y\"", 1), ("'unclosed + + +", 0), ("select 1 union all select 2", 1)]
        {
            assert_eq!(chained(sql), count, "{sql}");
        }
    }
}
