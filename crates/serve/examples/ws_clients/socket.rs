//! A WebSocket client on a blocking connection: as much as following topics needs, and nothing that hides what is sent.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

/// An open WebSocket.
pub struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Socket {
    /// Opens one; `headers` are sent besides the necessary ones. Anything but 101 is an error with the answer's first line.
    pub fn open(address: &str, headers: &str) -> Result<Socket> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "GET /v1/live/ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )?;
        let mut socket = Socket { stream, read: Vec::new() };
        let end = loop {
            if let Some(at) = socket.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            socket.fill()?;
        };
        let head = String::from_utf8_lossy(&socket.read[..end]).into_owned();
        socket.read.drain(..end);
        if !head.starts_with("HTTP/1.1 101") {
            return Err(Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        Ok(socket)
    }

    /// The connection below.
    #[allow(dead_code)]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk)? {
            0 => Err(Error::from(ErrorKind::UnexpectedEof)),
            count => {
                self.read.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    /// Sends a text.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.frame(0x81, text.as_bytes())
    }

    fn frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let mut bytes = vec![first];
        match u16::try_from(payload.len()) {
            Ok(short) if short < 126 => bytes.push(0x80 | short as u8),
            Ok(short) => {
                bytes.push(0x80 | 126);
                bytes.extend(short.to_be_bytes());
            }
            Err(_) => {
                bytes.push(0x80 | 127);
                bytes.extend((payload.len() as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&bytes)
    }

    /// The next text; `None` when the server has closed. Pings are answered.
    pub fn next(&mut self) -> Result<Option<String>> {
        loop {
            let Some((kind, payload)) = self.parse() else {
                self.fill()?;
                continue;
            };
            match kind {
                0x1 => return String::from_utf8(payload).map(Some).map_err(|_| Error::from(ErrorKind::InvalidData)),
                0x8 => return Ok(None),
                0x9 => self.frame(0x8a, &payload)?,
                _ => {}
            }
        }
    }

    fn parse(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.read.first()?, *self.read.get(1)?);
        let (from, length) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        let end = from + usize::try_from(length).ok()?;
        let payload = self.read.get(from..end)?.to_vec();
        self.read.drain(..end);
        Some((first & 0x0f, payload))
    }
}
