//! What a server is told, and whether it may start so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use watershed_types::{Error, Result};

use crate::scram::Verifier;

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, then those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Users and how their passwords are checked. Empty: whoever reaches the port is let in.
    pub users: BTreeMap<String, Verifier>,
    /// With it, every connection is encrypted.
    pub tls: Option<TlsFiles>,
    /// Connections at a time.
    pub max_connections: usize,
    /// How long a statement may take unless its client says otherwise.
    pub statement_timeout: Option<Duration>,
}

impl Options {
    /// Whether this may be served at an address.
    pub fn allow(&self, address: SocketAddr) -> Result<()> {
        if address.ip().is_loopback() || (!self.users.is_empty() && self.tls.is_some()) {
            return Ok(());
        }
        let missing = match (self.users.is_empty(), self.tls.is_none()) {
            (true, true) => "neither passwords nor TLS",
            (true, false) => "no passwords",
            _ => "no TLS",
        };
        Err(Error::denied("WIRE0001", format!("the Postgres port {address} can be reached from other machines, and it has {missing}"))
            .hint("Add users under [serve.postgres_users] and a certificate under [serve.postgres_tls], or listen on 127.0.0.1."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_need_a_password_and_tls() {
        let verifier = Verifier::of_password("secret").expect("a verifier");
        let tls = TlsFiles { certificate: "c".into(), key: "k".into() };
        let options = |users: bool, with_tls: bool| Options {
            users: users.then(|| ("bi".to_owned(), verifier.clone())).into_iter().collect(),
            tls: with_tls.then(|| tls.clone()),
            max_connections: 1,
            statement_timeout: None,
        };
        let (near, far): (SocketAddr, SocketAddr) = ("127.0.0.1:5433".parse().expect("an address"), "0.0.0.0:5433".parse().expect("an address"));
        for (users, with_tls) in [(false, false), (false, true), (true, false), (true, true)] {
            assert!(options(users, with_tls).allow(near).is_ok());
            assert_eq!(options(users, with_tls).allow(far).is_ok(), users && with_tls);
        }
        let error = options(true, false).allow(far).expect_err("no TLS");
        assert!(error.message().contains("no TLS") && error.code() == "WIRE0001", "{error:?}");
    }
}
