//! Walks the tokens of one statement.
//!
//! **Owns** looking, eating and expecting. **Does not own** what a statement means.
//!
//! I1: tokens hold no white space and no comments.

use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use watershed_types::{Error, Result};

use crate::error::code;
use crate::text::{Spot, Text};

static END: Token = Token::EOF;
const LONGEST_SHOWN: usize = 40;

/// A place in the tokens of one statement.
pub(crate) struct Cursor<'a> {
    pub text: &'a Text<'a>,
    tokens: Vec<TokenWithSpan>,
    at: usize,
    end: Spot<'a>,
}

/// A name as folded, and where it stands.
#[derive(Clone)]
pub(crate) struct Named<'a> {
    pub value: String,
    pub spot: Spot<'a>,
}

/// Tokens cut out of a statement, and the spot that follows them.
pub(crate) struct Cut<'a> {
    pub tokens: Vec<TokenWithSpan>,
    pub end: Spot<'a>,
}

impl Cut<'_> {
    /// From the first token's start to the last one's end.
    pub fn span(&self) -> Option<Span> {
        Some(Span::new(self.tokens.first()?.span.start, self.tokens.last()?.span.end))
    }
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a Text<'a>, tokens: Vec<TokenWithSpan>, end: Spot<'a>) -> Self {
        Self { text, tokens, at: 0, end }
    }

    pub fn from_cut(text: &'a Text<'a>, cut: Cut<'a>) -> Self {
        Self::new(text, cut.tokens, cut.end)
    }

    pub fn peek(&self) -> &Token {
        self.peek_nth(0)
    }

    pub fn peek_nth(&self, n: usize) -> &Token {
        self.tokens.get(self.at + n).map_or(&END, |token| &token.token)
    }

    pub fn previous(&self) -> &Token {
        self.at.checked_sub(1).and_then(|before| self.tokens.get(before)).map_or(&END, |token| &token.token)
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// Back to an earlier [`Cursor::position`].
    pub fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    pub fn next_token(&mut self) -> Option<TokenWithSpan> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Puts another token in the place of the current one: one half of `>>`.
    pub fn replace(&mut self, token: Token) {
        if let Some(current) = self.tokens.get_mut(self.at) {
            current.token = token;
        }
    }

    /// The current token's spot.
    pub fn spot(&self) -> Spot<'a> {
        self.tokens.get(self.at).map_or(self.end, |token| self.text.spot(token.span))
    }

    /// From the token at `start` to the one before the current.
    pub fn span_from(&self, start: usize) -> Span {
        let first = self.tokens.get(start).map_or(Location::empty(), |token| token.span.start);
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(first, |token| token.span.end);
        Span::new(first, last)
    }

    /// Whether the current token is this unquoted word, in any case.
    pub fn is(&self, word: &str) -> bool {
        self.is_nth(0, word)
    }

    pub fn is_nth(&self, n: usize, word: &str) -> bool {
        is_word(self.peek_nth(n), word)
    }

    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    pub fn eat_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, word)| self.is_nth(n, word));
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub fn expect(&mut self, word: &str) -> Result<()> {
        if self.eat(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    pub fn eat_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { Err(self.expected(&format!("\"{token}\""))) }
    }

    /// A name; `what` is for the error: `a column name`.
    pub fn name(&mut self, what: &str) -> Result<Named<'a>> {
        let spot = self.spot();
        let Token::Word(word) = self.peek() else { return Err(self.expected(what)) };
        let value = match word.quote_style {
            Some(_) => word.value.clone(),
            None => word.value.to_ascii_lowercase(),
        };
        if value.is_empty() {
            return Err(spot.error(code::BAD_NAME, "a name is empty"));
        }
        self.advance();
        Ok(Named { value, spot })
    }

    /// `(a, b)`, at least one.
    pub fn names_in_parentheses(&mut self, what: &str) -> Result<Vec<Named<'a>>> {
        self.expect_token(&Token::LParen)?;
        let mut names = Vec::new();
        loop {
            names.push(self.name(what)?);
            if self.eat_token(&Token::RParen) {
                return Ok(names);
            }
            if !self.eat_token(&Token::Comma) {
                return Err(self.expected("\",\" or \")\""));
            }
        }
    }

    /// What a string literal says, if the current token is one.
    pub fn string(&self) -> Option<String> {
        match self.peek() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) | Token::NationalStringLiteral(text) => Some(text.clone()),
            Token::DollarQuotedString(text) => Some(text.value.clone()),
            _ => None,
        }
    }

    /// `expected X, found Y` at the current token.
    pub fn expected(&self, what: &str) -> Error {
        self.spot().error(code::SYNTAX, format!("expected {what}, found {}", self.found()))
    }

    pub fn found(&self) -> String {
        describe(self.peek())
    }

    /// The tokens up to the bracket that closes the one just eaten, which is eaten too.
    pub fn group(&mut self) -> Result<Cut<'a>> {
        self.cut(|token, depth| depth == 0 && *token == Token::RParen).and_then(|cut| {
            self.expect_token(&Token::RParen)?;
            Ok(cut)
        })
    }

    /// The tokens up to the comma or closing bracket of the list we are in, which is left.
    pub fn element(&mut self) -> Result<Cut<'a>> {
        self.cut(|token, depth| depth == 0 && matches!(token, Token::Comma | Token::RParen))
    }

    /// All that is left of the statement.
    pub fn rest(&mut self) -> Cut<'a> {
        let tokens = self.tokens.split_off(self.at.min(self.tokens.len()));
        Cut { tokens, end: self.end }
    }

    fn cut(&mut self, stops: impl Fn(&Token, usize) -> bool) -> Result<Cut<'a>> {
        let start = self.at;
        let mut depth = 0usize;
        while !self.at_end() && !stops(self.peek(), depth) {
            match self.peek() {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.advance();
        }
        if self.at_end() {
            return Err(self.expected("\")\""));
        }
        let tokens = self.tokens.get(start..self.at).unwrap_or(&[]).to_vec();
        Ok(Cut { tokens, end: self.spot() })
    }
}

/// Whether a token is this unquoted word, in any case.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// A token as a message shows it.
pub(crate) fn describe(token: &Token) -> String {
    let text = match token {
        Token::EOF => return "the end of the statement".to_owned(),
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    };
    let shown: String = text.chars().take(LONGEST_SHOWN).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    match token {
        Token::SingleQuotedString(_) if dots.is_empty() => shown,
        _ => format!("\"{shown}{dots}\""),
    }
}
