//! The one error that crosses crate borders.
//!
//! Inside a crate, use whatever is most precise. At its edge, say what the reader should do ([`Kind`]), name the
//! object, and add a hint with the next step. Codes are stable; each has a page in `docs/errors/`.

use std::fmt;

/// What the person or program that gets the error should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong: fix it.
    Invalid,
    /// Somebody else changed it meanwhile: reload and try again.
    Conflict,
    /// The other side is not there at the moment: back off and try again.
    Unavailable,
    /// A newer generation owns this: stop.
    Fenced,
    /// Not allowed: ask for the right.
    Denied,
    /// The data broke a rule.
    Rejected,
    /// Something stored is damaged: repair it.
    Corrupt,
    /// A bug of ours.
    Internal,
}

/// Whether a failed write surely did not happen, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// The write did not happen. It may be repeated blindly.
    Definite,
    /// The write may have happened. Read before repeating it.
    Indefinite,
}

/// An error with a kind, a stable code, a message and a next step.
///
/// `Display` prints the message only; the program's edge prints the chain and the hint.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    code: &'static str,
    message: String,
    hint: Option<String>,
    certainty: Option<Certainty>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any kind. Prefer the constructors named after a kind.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, code, message: message.into(), hint: None, certainty: None, source: None }) }
    }
    /// The request is wrong.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }
    /// Overtaken by somebody else.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }
    /// The other side is not there.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, message)
    }
    /// A newer generation owns this.
    pub fn fenced(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Fenced, code, message)
    }
    /// Not allowed.
    pub fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, code, message)
    }
    /// The data broke a rule.
    pub fn rejected(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, code, message)
    }
    /// Something stored is damaged.
    pub fn corrupt(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, code, message)
    }
    /// A bug of ours.
    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, code, message)
    }

    /// Adds the next step, as a sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }
    /// Adds the cause.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }
    /// The failed write surely did not happen.
    pub fn definite(mut self) -> Self {
        self.inner.certainty = Some(Certainty::Definite);
        self
    }
    /// The failed write may have happened.
    pub fn indefinite(mut self) -> Self {
        self.inner.certainty = Some(Certainty::Indefinite);
        self
    }

    /// What the reader should do.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }
    /// The stable code, such as `LAKE0003`.
    pub fn code(&self) -> &'static str {
        self.inner.code
    }
    /// The message alone.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
    /// The next step.
    pub fn next_step(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
    /// For a failed write: whether it surely failed. `None` where nothing was written.
    pub fn certainty(&self) -> Option<Certainty> {
        self.inner.certainty
    }

    /// The whole story for a person: code, message, causes, hint.
    pub fn report(&self) -> String {
        let mut out = format!("{}: {}", self.code(), self.message());
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !out.contains(&text) {
                out.push_str("\n  because: ");
                out.push_str(&text);
            }
            cause = error.source();
        }
        if self.certainty() == Some(Certainty::Indefinite) {
            out.push_str("\n  note: the write may have happened; it is checked before anything is repeated");
        }
        if let Some(hint) = self.next_step() {
            out.push_str("\n  hint: ");
            out.push_str(hint);
        }
        out
    }

    /// Finds our error inside a foreign chain (DataFusion carries it as `External`).
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(found) = error.downcast_ref::<Error>() {
                return Some(found);
            }
            at = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}
