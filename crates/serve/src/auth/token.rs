//! Tokens and roles.

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watershed_types::{Error, Result};

use super::Origin;
use crate::problem::code;

/// What a caller may do. Each of the last three includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends records, and nothing else.
    Ingest,
    /// Reads.
    Viewer,
    /// Also replays, silences, audits and sends records.
    Operator,
    /// Also sees the settings.
    Admin,
}

impl Role {
    /// The role of that name.
    pub fn parse(text: &str) -> Option<Role> {
        [Role::Ingest, Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|role| role.name() == text)
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
    /// True if it may do what needs `needed`.
    pub fn covers(self, needed: Role) -> bool {
        match needed {
            Role::Ingest => matches!(self, Role::Ingest | Role::Operator | Role::Admin),
            Role::Viewer => self != Role::Ingest,
            Role::Operator => matches!(self, Role::Operator | Role::Admin),
            Role::Admin => self == Role::Admin,
        }
    }
}

/// A token without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Who holds it.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// Where it is kept.
    pub from: Origin,
    /// Microseconds since 1970.
    pub created_at: Option<i64>,
}

/// SHA-256.
pub fn hash_of(secret: &str) -> [u8; 32] {
    sha256(secret.as_bytes())
}

/// Equal, in constant time.
pub fn matches(one: &[u8; 32], other: &[u8; 32]) -> bool {
    openssl::memcmp::eq(one, other)
}

/// `sha256:` and 64 hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}

/// As [`parse_hash`] reads it.
pub fn show_hash(hash: &[u8; 32]) -> String {
    format!("sha256:{}", hex(hash))
}

/// A token nobody has.
pub fn fresh_token() -> Result<watershed_types::Secret> {
    random().map(|text| watershed_types::Secret::new(format!("ws_{text}")))
}

/// 256 random bits as text.
pub fn random() -> Result<String> {
    let mut bytes = [0; 32];
    openssl::rand::rand_bytes(&mut bytes).map_err(|e| Error::internal(code::TOKEN, "the system gives no random bytes").caused_by(e))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
