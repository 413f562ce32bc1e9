//! S3, IAM and the Data API's front, by `moto`: a server of its own, gone with this process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;

use super::support::runtime;

/// Ends when its standard input does, which this process holds.
const SERVE: &str = "import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])";

pub const BUCKET: &str = "staging";

/// Whether the tests can run, said aloud if not.
pub fn there() -> bool {
    let there = std::env::var_os("WATERSHED_PYTHON").is_some();
    if !there {
        println!("SKIPPED: set WATERSHED_PYTHON to an interpreter with the package moto[server]");
    }
    there
}

/// A server of its own.
pub fn start() -> u16 {
    let python = std::env::var_os("WATERSHED_PYTHON").expect("asked before");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let child = Command::new(python).args(["-c", SERVE, &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python starts");
    // Kept open until this process ends.
    std::mem::forget(child);
    let deadline = Instant::now() + Duration::from_secs(120);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "moto does not start; scripts/setup --test installs it");
        std::thread::sleep(Duration::from_millis(50));
    }
    port
}

/// One request; the answer's head and body.
pub fn http(port: u16, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("moto answers");
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The S3 of this test process, with its bucket.
pub fn s3() -> u16 {
    static PORT: LazyLock<u16> = LazyLock::new(|| {
        let port = start();
        let answer = http(port, &format!("PUT /{BUCKET}"), "");
        assert!(answer.contains(" 200 "), "{answer}");
        port
    });
    *PORT
}

pub fn store() -> &'static AmazonS3 {
    static STORE: OnceLock<AmazonS3> = OnceLock::new();
    STORE.get_or_init(|| {
        let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1").with_access_key_id("test").with_secret_access_key("test");
        builder.with_endpoint(format!("http://127.0.0.1:{}", s3())).with_allow_http(true).build().expect("a store")
    })
}

pub fn get(path: &str) -> Vec<u8> {
    runtime().block_on(async { store().get(&Path::parse(path).expect("a path")).await.expect("it is there").bytes().await.expect("its bytes") }).to_vec()
}

/// Every object's name below a folder.
pub fn list(folder: &str) -> Vec<String> {
    use futures::TryStreamExt as _;
    use object_store::ObjectStore as _;
    let objects: Vec<_> = runtime().block_on(store().list(Some(&Path::parse(folder).expect("a path"))).try_collect()).expect("a list");
    let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
    names.sort_unstable();
    names
}
