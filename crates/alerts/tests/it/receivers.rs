//! Receivers of messages: real servers on free ports of this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub raw: Vec<u8>,
    pub answered: u16,
}

impl Request {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// What a server answers to its n-th request.
pub type Answers = Box<dyn Fn(usize) -> (u16, &'static str) + Send + Sync>;

/// An HTTP server; ends when dropped.
pub struct Http {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Http {
    pub fn start(answers: Answers) -> Http {
        Http::on("127.0.0.1:0".parse().expect("an address"), answers)
    }

    pub fn on(address: SocketAddr, answers: Answers) -> Http {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (requests, stop) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, answers) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                std::thread::spawn(move || drop(serve(&stream, &seen, &answers)));
            }
        });
        Http { address, requests, stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests, once there are so many.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        wait("requests", || {
            let requests = self.requests.lock().expect("no panic").clone();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Those that were answered with 200.
    pub fn taken(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").iter().filter(|r| r.answered == 200).cloned().collect()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<Request>>, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).unwrap_or("").to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (status, more) = {
        let mut seen = seen.lock().expect("no panic");
        let (status, more) = answers(seen.len());
        seen.push(Request { path, headers, body: String::from_utf8_lossy(&body).into_owned(), raw: body, answered: status });
        (status, more)
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\n{more}Content-Length: 2\r\n\r\nok")
}

/// A mail server that takes what it gets, but for the first `refusals` greetings.
pub struct Smtp {
    pub address: SocketAddr,
    pub mails: Arc<Mutex<Vec<String>>>,
    pub refused: Arc<Mutex<usize>>,
}

impl Smtp {
    pub fn start(refusals: usize) -> Smtp {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (mails, refused) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(0)));
        let (kept, count) = (Arc::clone(&mails), Arc::clone(&refused));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let refuse = {
                    let mut count = count.lock().expect("no panic");
                    let refuse = *count < refusals;
                    *count += usize::from(refuse);
                    refuse
                };
                let _ = talk(&stream, refuse, &kept);
            }
        });
        Smtp { address, mails, refused }
    }
}

fn talk(mut stream: &TcpStream, refuse: bool, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    if refuse {
        return stream.write_all(b"421 not now\r\n");
    }
    stream.write_all(b"220 here\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let answer = match line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase().as_str() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    mail.push_str(&line);
                    mail.push('\n');
                }
                kept.lock().expect("no panic").push(mail);
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 well",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Looks again and again, for half a minute.
#[track_caller]
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: not within half a minute");
}
