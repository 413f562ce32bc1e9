//! Logins of the console, in memory: a restart ends them all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// More than this many, and the one that ends first is dropped.
const AT_MOST: usize = 1_024;

/// Sessions by the hash of their id: what somebody reads out of this process opens nothing.
#[derive(Default)]
pub struct Sessions {
    open: HashMap<[u8; 32], ([u8; 32], Instant)>,
}

impl Sessions {
    /// A session for a token.
    pub fn insert(&mut self, id: [u8; 32], token: [u8; 32], lasts: Duration) {
        let now = Instant::now();
        self.open.retain(|_, (_, ends)| *ends > now);
        if self.open.len() >= AT_MOST
            && let Some(first) = self.open.iter().min_by_key(|(_, (_, ends))| *ends).map(|(id, _)| *id)
        {
            self.open.remove(&first);
        }
        self.open.insert(id, (token, now + lasts));
    }

    /// The token a session was opened with. Ids are hashed before they are looked up, so time tells nothing of them.
    pub fn find(&self, id: &[u8; 32]) -> Option<[u8; 32]> {
        self.open.get(id).filter(|(_, ends)| *ends > Instant::now()).map(|(token, _)| *token)
    }

    /// Ends one.
    pub fn remove(&mut self, id: &[u8; 32]) {
        self.open.remove(id);
    }
}
