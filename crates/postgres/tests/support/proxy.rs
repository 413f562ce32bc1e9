//! A TCP proxy that delays, and that cuts a commit: before the server hears of it, or before the client hears the answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Forwards to a port of this machine until the process ends.
pub struct Proxy {
    pub port: u16,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// Cut the answer.
    armed: AtomicBool,
    /// Cut the commit itself.
    armed_before: AtomicBool,
    cuts: AtomicUsize,
}

impl Proxy {
    /// `one_way` is added to each direction: half of the round trip.
    pub fn start(to: u16, one_way: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let faults = Arc::<Faults>::default();
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down looks the same through the proxy: the connection ends.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", to)) {
                    join(client, server, one_way, &shared);
                }
            }
        });
        Self { port, faults }
    }
    /// The next commit's answer is cut: the commit reaches the server, the server answers, the client never hears.
    #[allow(dead_code, reason = "the example cuts nothing")]
    pub fn cut_next_commit(&self) {
        self.faults.armed.store(true, Ordering::SeqCst);
    }
    /// The next commit is cut: the client has sent it, the server never hears.
    #[allow(dead_code, reason = "the example cuts nothing")]
    pub fn cut_before_next_commit(&self) {
        self.faults.armed_before.store(true, Ordering::SeqCst);
    }
    /// How many commits and answers were cut.
    #[allow(dead_code, reason = "the example cuts nothing")]
    pub fn cuts(&self) -> usize {
        self.faults.cuts.load(Ordering::SeqCst)
    }
}

fn join(client: TcpStream, server: TcpStream, one_way: Duration, faults: &Arc<Faults>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("nodelay");
    }
    let committing = Arc::new(AtomicBool::new(false));
    for answers in [false, true] {
        let (from, to) = if answers { (&server, &client) } else { (&client, &server) };
        let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
        thread::spawn(move || {
            for (due, bytes) in receiver {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let (faults, committing) = (Arc::clone(faults), Arc::clone(&committing));
        thread::spawn(move || {
            let mut buffer = vec![0u8; 64 << 10];
            let mut tail = Vec::new();
            while let Ok(read) = from.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                let bytes = &buffer[..read];
                // The word may be cut in two by the reads.
                tail.extend_from_slice(bytes);
                let commit = tail.windows(7).any(|window| window == b"COMMIT\0");
                tail.drain(..tail.len().saturating_sub(6));
                if commit && !answers && faults.armed_before.swap(false, Ordering::SeqCst) {
                    faults.cuts.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                if commit && faults.armed.load(Ordering::SeqCst) {
                    if !answers {
                        committing.store(true, Ordering::SeqCst);
                    } else if committing.load(Ordering::SeqCst) {
                        faults.armed.store(false, Ordering::SeqCst);
                        faults.cuts.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                }
                if sender.send((Instant::now() + one_way, bytes.to_vec())).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}
