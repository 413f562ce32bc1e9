//! Text to tokens, each with where it starts and ends.

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name or a keyword.
    Word(String),
    /// A number, with its unit applied: seconds for durations, bytes for sizes.
    Number(f64),
    /// A number that was written as a duration, in seconds.
    Duration(f64),
    /// A quoted text.
    Text(String),
    /// Brackets, commas, operators.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and its bytes.
#[derive(Debug, Clone)]
pub struct Spanned {
    /// What it is.
    pub token: Token,
    /// Where it starts.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// What is wrong, and where.
#[derive(Debug)]
pub struct Wrong {
    /// Where it starts.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// True if a name is not known, rather than the syntax wrong.
    pub unknown: bool,
}

impl Wrong {
    /// Wrong syntax at a place.
    pub fn new(start: usize, end: usize, message: impl Into<String>) -> Wrong {
        Wrong { start, end, message: message.into(), hint: None, unknown: false }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Wrong {
        self.hint = Some(hint.into());
        self
    }
}

/// Longest first.
const SIGNS: [&str; 19] = ["==", "!=", "=~", "!~", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "(", ")", "{", "}", "[", "]"];

/// Cuts a text into tokens; the last one is [`Token::End`].
pub fn lex(text: &str) -> Result<Vec<Spanned>, Wrong> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let start = at;
        let rest = text.get(at..).unwrap_or("");
        let token = if next.is_whitespace() {
            at += next.len_utf8();
            continue;
        } else if next.is_ascii_alphabetic() || next == '_' {
            at += length_while(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            Token::Word(text.get(start..at).unwrap_or("").to_owned())
        } else if next.is_ascii_digit() || (next == '.' && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit())) {
            let (token, length) = number(rest).map_err(|message| Wrong::new(start, start + 1, message).hint("Numbers look like 5, 0.01, 1e6; with units 5m, 90s, 512MB."))?;
            at += length;
            token
        } else if next == '"' || next == '\'' {
            let (value, length) =
                quoted(rest, next).ok_or_else(|| Wrong::new(start, text.len(), "this text is not closed").hint(format!("Close it with {next} on the same line.")))?;
            at += length;
            Token::Text(value)
        } else if let Some(sign) = SIGNS.iter().chain(&[","]).find(|sign| rest.starts_with(**sign)) {
            at += sign.len();
            Token::Sign(sign)
        } else {
            return Err(Wrong::new(start, start + next.len_utf8(), format!("\"{}\" has no meaning here", next.escape_debug())));
        };
        tokens.push(Spanned { token, start, end: at });
    }
    tokens.push(Spanned { token: Token::End, start: text.len(), end: text.len() });
    Ok(tokens)
}

fn length_while(text: &str, keep: impl Fn(char) -> bool) -> usize {
    text.find(|c| !keep(c)).unwrap_or(text.len())
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let mut length = length_while(text, |c| c.is_ascii_digit() || c == '.' || c == '_');
    let tail = text.get(length..).unwrap_or("");
    // An exponent, if digits follow; "5e" alone would be a unit.
    let exponent = tail.strip_prefix(['e', 'E']).map(|t| t.strip_prefix(['+', '-']).unwrap_or(t)).filter(|t| t.starts_with(|c: char| c.is_ascii_digit()));
    if let Some(digits) = exponent {
        length += tail.len() - digits.len() + length_while(digits, |c| c.is_ascii_digit());
    }
    let digits = text.get(..length).unwrap_or("").replace('_', "");
    let value: f64 = digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))?;
    let unit_length = length_while(text.get(length..).unwrap_or(""), |c| c.is_ascii_alphabetic());
    if unit_length == 0 {
        return Ok((Token::Number(value), length));
    }
    let whole = text.get(..length + unit_length).unwrap_or("");
    if let Some(duration) = watershed_types::parse_duration(whole) {
        return Ok((Token::Duration(duration.as_secs_f64()), whole.len()));
    }
    match watershed_types::parse_bytes(whole) {
        Some(bytes) => Ok((Token::Number(bytes as f64), whole.len())),
        None => Err(format!("\"{whole}\" has a unit that is not known")),
    }
}

fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match (escaped, c) {
            (true, 'n') => value.push('\n'),
            (true, 't') => value.push('\t'),
            (true, other) => value.push(other),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, c) if c == quote => return Some((value, at + 1)),
            (false, '\n') => return None,
            (false, other) => value.push(other),
        }
        escaped = false;
    }
    None
}
