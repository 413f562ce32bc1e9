//! `sslmode`, against a server with a certificate of its own making.

use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use watershed_ports::Target;
use watershed_types::{Epoch, Generation};

use crate::server::Server;
use crate::support::*;

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
fn certificate() -> Result<(String, String), Box<dyn std::error::Error>> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "watershed test")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(64, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(2)?.as_ref())?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((String::from_utf8(builder.build().to_pem()?)?, String::from_utf8(key.private_key_to_pem_pkcs8()?)?))
}

#[test]
fn the_url_decides_how_much_the_server_has_to_prove() {
    let server = Server::start(true);
    let (certificate, key) = certificate().expect("a certificate");
    for (file, text) in [("server.crt", &certificate), ("server.key", &key)] {
        let lines: Vec<String> = text.lines().map(|line| format!("('{line}')")).collect();
        sql(&server.url, &format!("COPY (VALUES {}) TO PROGRAM 'umask 077; cat > {file}'", lines.join(", ")));
    }
    sql(&server.url, "ALTER SYSTEM SET ssl = on");
    server.restart();
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root.crt");
    std::fs::write(&root, &certificate).expect("written");
    let claim = |host: &str, mode: &str, root: Option<&Path>| {
        let root = root.map_or(String::new(), |root| format!("&sslrootcert={}", root.display()));
        let url = server.url.replace("127.0.0.1", host).replace("sslmode=disable", &format!("sslmode={mode}{root}"));
        let target = target(&url, &[("table", "sealed")], schema());
        target.claim(Generation(1)).map(|_| target)
    };
    for mode in ["prefer", "require"] {
        claim("127.0.0.1", mode, None).expect(mode);
    }
    let sealed = claim("127.0.0.1", "verify-full", Some(&root)).expect("it vouches for itself");
    deliver(&sealed, 1, 1, &many(0, 10)).expect("delivered");
    let sessions = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'watershed shop/out' AND state = 'idle'";
    assert_eq!(sql(&server.url, sessions), ["t"]);
    assert_eq!(sealed.last_epoch().expect("last epoch"), Epoch(1));
    for (host, mode, root, why) in [("127.0.0.1", "verify-full", None, "nobody vouches for it"), ("localhost", "verify-full", Some(root.as_path()), "another name")] {
        assert_eq!(claim(host, mode, root).map(|_| ()).expect_err(why).code(), "PG0002", "{why}");
    }
    claim("localhost", "verify-ca", Some(&root)).expect("the name does not matter");
}
