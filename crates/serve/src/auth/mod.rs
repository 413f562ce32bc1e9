//! Who asks, and what they may do.
//!
//! **Owns** tokens, roles, sessions of the console, and the checks that keep foreign pages out. **Does not own** which
//! route needs what: that is [`crate::routes`]' table.
//!
//! I1: a token is never stored, only its SHA-256; tokens are 256 random bits, so a slow hash would gain nothing.
//! I2: secrets are compared in constant time, and every stored one is compared.
//! I3: without tokens, and on loopback only, whoever reaches the port is the operator of this machine.
//! I4: a token that is gone takes its sessions with it.

mod file;
mod guard;
mod sessions;
mod token;

pub use file::TokenFile;
pub(crate) use guard::{Caller, guard, outer};
pub use token::{Role, TokenRecord, fresh_token, hash_of, parse_hash};

use std::time::Duration;

use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;
use watershed_types::{Result, Secret};

use crate::problem::{Answer, Problem, code};
use sessions::Sessions;
use token::matches;

/// How long a login lasts.
pub const SESSION: Duration = Duration::from_secs(12 * 3_600);
/// The cookie that holds a session.
pub const COOKIE: &str = "watershed_session";

/// Where a token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `[serve] tokens` of the settings.
    Settings,
    /// `watershed token create`.
    File,
    /// Made at the start for the commands of this machine.
    Process,
}

/// Everybody who may come in.
pub struct Door {
    required: bool,
    fixed: Vec<TokenRecord>,
    file: TokenFile,
    local: Option<TokenRecord>,
    sessions: Mutex<Sessions>,
}

impl Door {
    /// `required` asks everybody; otherwise nobody is asked, until there is a token.
    pub fn new(required: bool, fixed: Vec<TokenRecord>, file: TokenFile, local: Option<&Secret>) -> Result<Door> {
        // Damage is to be seen at the start.
        file.read()?;
        let local = local.map(|secret| TokenRecord { name: "local".to_owned(), role: Role::Admin, hash: hash_of(secret.expose()), from: Origin::Process, created_at: None });
        Ok(Door { required, fixed, file, local, sessions: Mutex::new(Sessions::default()) })
    }

    /// Every token, for the settings' page; the process' own is left out.
    pub fn tokens(&self) -> Vec<TokenRecord> {
        self.fixed.iter().cloned().chain(self.file.current()).collect()
    }

    /// True if a caller has to say who they are.
    pub fn required(&self) -> bool {
        self.required || !self.fixed.is_empty() || !self.file.current().is_empty()
    }

    fn find(&self, hash: &[u8; 32]) -> Option<TokenRecord> {
        let mut found = None;
        for token in self.tokens().into_iter().chain(self.local.clone()) {
            // No early return: how long it takes says nothing about which one fits.
            if matches(&token.hash, hash) {
                found = Some(token);
            }
        }
        found
    }

    /// Who sends these headers. `None` if they do not say.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Answer<Option<Caller>> {
        let unknown = || Problem::new(axum::http::StatusCode::UNAUTHORIZED, code::UNKNOWN_CALLER, "that token is not known").hint("Make one with `watershed token create`.");
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
            let found = token.and_then(|token| self.find(&hash_of(token)));
            return found.map(|token| Some(Caller { name: token.name, role: token.role })).ok_or_else(unknown);
        }
        if !self.required() {
            return Ok(Some(Caller { name: "local".to_owned(), role: Role::Admin }));
        }
        let session = cookie(headers).and_then(|id| self.sessions.lock().find(&hash_of(id)));
        let token = session.and_then(|hash| self.find(&hash));
        Ok(token.map(|token| Caller { name: token.name, role: token.role }))
    }

    /// Starts a session; returns its secret id and who it belongs to.
    pub(crate) fn login(&self, token: &str) -> Answer<(String, Caller)> {
        let found = self.find(&hash_of(token.trim()));
        let found = found
            .ok_or_else(|| Problem::new(axum::http::StatusCode::UNAUTHORIZED, code::UNKNOWN_CALLER, "that token is not known").hint("Make one with `watershed token create`."))?;
        let id = token::random()?;
        self.sessions.lock().insert(hash_of(&id), found.hash, SESSION);
        Ok((id, Caller { name: found.name, role: found.role }))
    }

    /// Ends the session these headers belong to.
    pub(crate) fn logout(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers) {
            self.sessions.lock().remove(&hash_of(id));
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn tokens_open_sessions_and_take_them_along_when_they_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = TokenFile::new(folder.path().join("tokens.json"));
        let door = Door::new(false, vec![], file.clone(), None).expect("a door");
        assert!(!door.required());
        assert_eq!(door.caller(&HeaderMap::new()).expect("an answer").expect("local").role, Role::Admin);

        let token = file.create("bob", Role::Viewer, 1).expect("a token");
        assert!(token.expose().starts_with("ws_"));
        assert!(!std::fs::read_to_string(folder.path().join("tokens.json")).expect("a file").contains(token.expose()), "I1");
        assert!(file.create("bob", Role::Admin, 1).is_err(), "a name stands for one token");
        assert!(door.required(), "with a token everybody is asked");
        assert!(door.caller(&HeaderMap::new()).expect("an answer").is_none());
        let bob = door.caller(&headers("authorization", &format!("Bearer {}", token.expose()))).expect("an answer").expect("bob");
        assert_eq!((bob.name.as_str(), bob.role), ("bob", Role::Viewer));
        assert!(door.caller(&headers("authorization", "Bearer ws_wrong")).is_err());
        assert!(door.caller(&headers("authorization", "Basic YTpi")).is_err());

        assert!(door.login("ws_wrong").is_err());
        let (id, _) = door.login(token.expose()).expect("a session");
        let with_cookie = headers("cookie", &format!("a=b; {COOKIE}={id}"));
        assert_eq!(door.caller(&with_cookie).expect("an answer").expect("bob").name, "bob");
        assert!(file.revoke("bob").expect("is written"));
        file.create("eve", Role::Admin, 1).expect("a token");
        assert!(door.caller(&with_cookie).expect("an answer").is_none(), "I4");
    }
}
