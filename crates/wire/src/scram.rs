//! SCRAM-SHA-256 (RFC 5802, RFC 7677) from the server's side.
//!
//! I1: what is kept of a password checks it and cannot be used to log in: the salt, the stored key and the server key,
//! in the text form Postgres keeps in `pg_authid`.
//! I2: who names a user that does not exist gets the same exchange as anybody, and fails at its end.

use datafusion_postgres::pgwire::api::auth::sasl::scram::gen_salted_password;
use openssl::base64::{decode_block, encode_block};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::rand::rand_bytes;
use openssl::sha::sha256;
use openssl::sign::Signer;
use watershed_types::{Error, Result};

/// Rounds for a password that is given in the clear.
const ITERATIONS: usize = 4096;
/// More would let a setting stall every login.
const MOST_ITERATIONS: usize = 1_000_000;

/// What checks a password. Does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: usize,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(***)")
    }
}

fn broken(cause: ErrorStack) -> Error {
    Error::internal("WIRE0002", "a password cannot be checked").caused_by(cause)
}

fn hmac(key: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let key = PKey::hmac(key).map_err(broken)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key).map_err(broken)?;
    signer.sign_oneshot_to_vec(message).map_err(broken)
}

fn random(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    rand_bytes(&mut buffer).map_err(broken)?;
    Ok(buffer)
}

impl Verifier {
    /// Of a password, with a salt of its own.
    pub fn of_password(password: &str) -> Result<Verifier> {
        let salt = random(16)?;
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        let stored_key = sha256(&hmac(&salted, b"Client Key")?).to_vec();
        Ok(Verifier { iterations: ITERATIONS, salt, stored_key, server_key: hmac(&salted, b"Server Key")? })
    }

    /// Of the text Postgres keeps: `SCRAM-SHA-256$4096:salt$stored:server`; `None` if it is none.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (rounds, keys) = text.trim().strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (rounds.split_once(':')?, keys.split_once(':')?);
        let iterations = iterations.parse().ok().filter(|i| (1..=MOST_ITERATIONS).contains(i))?;
        let key = |text: &str| decode_block(text).ok().filter(|key| key.len() == 32);
        Some(Verifier { iterations, salt: decode_block(salt).ok().filter(|s| !s.is_empty())?, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// One nobody has the password of.
    pub(crate) fn of_nobody() -> Result<Verifier> {
        Ok(Verifier { iterations: ITERATIONS, salt: random(16)?, stored_key: random(32)?, server_key: random(32)? })
    }
}

/// An exchange after the client's first message.
pub(crate) struct Exchange {
    verifier: Verifier,
    /// Base64 of the client's header: it repeats it at the end.
    binding: String,
    nonce: String,
    /// Both first messages.
    said: String,
}

impl Exchange {
    /// Takes the client's first message; the text is the answer. `None` if it is not one this server takes.
    pub fn begin(verifier: Verifier, message: &[u8]) -> Result<Option<(Exchange, String)>> {
        let Some((header, bare)) = std::str::from_utf8(message).ok().and_then(split_header) else { return Ok(None) };
        let Some(nonce) = bare.strip_prefix("n=").and_then(|b| b.split_once(",r=")).map(|(_, nonce)| nonce).filter(|n| !n.is_empty() && !n.contains(',')) else {
            return Ok(None);
        };
        let nonce = format!("{nonce}{}", encode_block(&random(18)?));
        let answer = format!("r={nonce},s={},i={}", encode_block(&verifier.salt), verifier.iterations);
        let said = format!("{bare},{answer}");
        Ok(Some((Exchange { verifier, binding: encode_block(header.as_bytes()), nonce, said }, answer)))
    }

    /// Takes the client's last message; the text is the answer. `None` if the password is wrong.
    pub fn finish(&self, message: &[u8]) -> Result<Option<String>> {
        let Some((unproven, proof)) = std::str::from_utf8(message).ok().and_then(|m| m.rsplit_once(",p=")) else { return Ok(None) };
        if unproven != format!("c={},r={}", self.binding, self.nonce) {
            return Ok(None);
        }
        let Some(proof) = decode_block(proof).ok().filter(|p| p.len() == 32) else { return Ok(None) };
        let said = format!("{},{unproven}", self.said);
        let signature = hmac(&self.verifier.stored_key, said.as_bytes())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !memcmp::eq(&sha256(&client_key), &self.verifier.stored_key) {
            return Ok(None);
        }
        Ok(Some(format!("v={}", encode_block(&hmac(&self.verifier.server_key, said.as_bytes())?))))
    }
}

/// The header and the rest. A client that wants the channel bound is not served: it was not offered.
fn split_header(message: &str) -> Option<(&str, &str)> {
    let (flag, rest) = message.split_once(',')?;
    let (_, bare) = rest.split_once(',')?;
    matches!(flag, "n" | "y").then(|| message.split_at(message.len() - bare.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677: password "pencil", fixed nonces.
    #[test]
    fn keys_are_those_of_the_rfc() {
        let salt = decode_block("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let salted = gen_salted_password("pencil", &salt, 4096);
        let client_key = hmac(&salted, b"Client Key").expect("a key");
        let verifier = Verifier { iterations: 4096, salt, stored_key: sha256(&client_key).to_vec(), server_key: hmac(&salted, b"Server Key").expect("a key") };
        let exchange = Exchange {
            verifier,
            binding: encode_block(b"n,,"),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            said: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_owned(),
        };
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = exchange.finish(last.as_bytes()).expect("no failure");
        assert_eq!(answer.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert_eq!(exchange.finish(last.replace("dHzb", "eHzb").as_bytes()).expect("no failure"), None);
        assert_eq!(exchange.finish(last.replace("c=biws", "c=eSws").as_bytes()).expect("no failure"), None);
    }

    #[test]
    fn a_verifier_is_read_as_postgres_writes_it() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(text).expect("a verifier");
        let salt = decode_block("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let client_key = hmac(&gen_salted_password("pencil", &salt, 4096), b"Client Key").expect("a key");
        assert_eq!(verifier.stored_key, sha256(&client_key));
        for wrong in ["", "pencil", "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$a:b", &text.replace("4096", "99999999"), &text.replace("SHA-256", "SHA-1"), "md5abc"] {
            assert!(Verifier::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{verifier:?}"), "Verifier(***)");
    }

    #[test]
    fn hostile_first_messages_are_refused() {
        let nobody = Verifier::of_nobody().expect("a verifier");
        for message in [&b""[..], b"n", b"n,", b"n,,", b"n,,n=", b"n,,n=,r=", b"p=tls-unique,,n=,r=abc", b"n,,m=x,n=,r=abc", b"n,,n=,r=abc,x=y", b"\xff\xfe"] {
            assert!(Exchange::begin(nobody.clone(), message).expect("no failure").is_none(), "{message:?}");
        }
        assert!(Exchange::begin(nobody, b"n,,n=,r=abc").expect("no failure").is_some());
    }
}
