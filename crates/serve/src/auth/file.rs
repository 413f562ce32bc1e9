//! Tokens that `watershed token create` made: a file with names, roles and hashes.
//!
//! A running process sees changes within a second. A file that has become unreadable lets nobody in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use watershed_types::{Error, Result, Secret};

use super::Origin;
use super::token::{Role, TokenRecord, fresh_token, hash_of, parse_hash, show_hash};
use crate::problem::code;

/// How long the file is believed before it is looked at again.
const BELIEF: Duration = Duration::from_millis(500);

/// The file.
#[derive(Clone)]
pub struct TokenFile {
    path: PathBuf,
    seen: Arc<Mutex<Option<Seen>>>,
}

struct Seen {
    looked: Instant,
    stamp: Option<(SystemTime, u64)>,
    tokens: Vec<TokenRecord>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    tokens: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    role: Role,
    hash: String,
    created_at: i64,
}

impl TokenFile {
    /// There need not be a file yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    pub fn read(&self) -> Result<Vec<TokenRecord>> {
        let wrong = || {
            Error::corrupt(code::TOKEN_FILE, format!("the token file \"{}\" is damaged", self.path.display()))
                .hint("Remove it, and make the tokens anew with `watershed token create`.")
        };
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(Error::unavailable(code::TOKEN_FILE, format!("the token file \"{}\" cannot be read", self.path.display())).caused_by(error)),
        };
        let content: Content = serde_json::from_str(&text).map_err(|e| wrong().caused_by(e))?;
        let record = |line: Line| Some(TokenRecord { hash: parse_hash(&line.hash)?, name: line.name, role: line.role, from: Origin::File, created_at: Some(line.created_at) });
        content.tokens.into_iter().map(record).collect::<Option<_>>().ok_or_else(wrong)
    }

    /// What is in it as of half a second ago at most.
    pub fn current(&self) -> Vec<TokenRecord> {
        let mut seen = self.seen.lock();
        if let Some(known) = &*seen
            && known.looked.elapsed() < BELIEF
        {
            return known.tokens.clone();
        }
        let stamp = fs::metadata(&self.path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        let unchanged = seen.as_ref().filter(|known| known.stamp == stamp).map(|known| known.tokens.clone());
        let tokens = unchanged.unwrap_or_else(|| match self.read() {
            Ok(tokens) => tokens,
            Err(error) => {
                tracing::error!(error = %error.report(), "nobody gets in by the token file");
                // Not empty: without any token the API would ask nobody.
                vec![TokenRecord { name: "nobody".to_owned(), role: Role::Ingest, hash: [0; 32], from: Origin::File, created_at: None }]
            }
        });
        *seen = Some(Seen { looked: Instant::now(), stamp, tokens: tokens.clone() });
        tokens
    }

    /// Makes a token. It is shown once; the file keeps its hash.
    pub fn create(&self, name: &str, role: Role, now: i64) -> Result<Secret> {
        let good = !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c));
        if !good || name == "local" {
            return Err(Error::invalid(code::TOKEN, format!("\"{name}\" is not a name for a token")).hint("Use 1 to 64 letters, digits, and . _ - @; \"local\" is taken."));
        }
        let mut tokens = self.read()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(Error::conflict(code::TOKEN, format!("there is a token \"{name}\" already")).hint(format!("Revoke it first: watershed token revoke --name {name}")));
        }
        let token = fresh_token()?;
        tokens.push(TokenRecord { name: name.to_owned(), role, hash: hash_of(token.expose()), from: Origin::File, created_at: Some(now) });
        self.write(&tokens)?;
        Ok(token)
    }

    /// Takes a token back; false if there is none of that name.
    pub fn revoke(&self, name: &str) -> Result<bool> {
        let mut tokens = self.read()?;
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            return Ok(false);
        }
        self.write(&tokens)?;
        Ok(true)
    }

    fn write(&self, tokens: &[TokenRecord]) -> Result<()> {
        let fail = |e: std::io::Error| Error::unavailable(code::TOKEN_FILE, format!("the token file \"{}\" cannot be written", self.path.display())).caused_by(e).definite();
        let line = |token: &TokenRecord| Line { name: token.name.clone(), role: token.role, hash: show_hash(&token.hash), created_at: token.created_at.unwrap_or(0) };
        let content = Content { format: 1, tokens: tokens.iter().map(line).collect() };
        let bytes = serde_json::to_vec_pretty(&content).map_err(|e| Error::internal(code::TOKEN_FILE, "the tokens cannot be written").caused_by(e))?;
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(fail)?;
        }
        let fresh = self.path.with_extension(format!("{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&fresh).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all())).and_then(|()| fs::rename(&fresh, &self.path));
        *self.seen.lock() = None;
        written.map_err(fail)
    }
}
