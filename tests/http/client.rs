//! A client of one socket and no cleverness, so that what goes over the wire is what the test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for anything; far above what a loaded test machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }
}

/// A connection that stays open between requests.
pub struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what may already be refused.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads one answer; `bodiless` for the answer to a HEAD.
    pub fn answer(&mut self, bodiless: bool) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            assert!(self.read_more(), "closed before a head: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).take(end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let empty = bodiless || status == 304;
        let length: usize = if empty { 0 } else { answer.header("content-length").unwrap().parse().unwrap() };
        while self.unread.len() < length {
            assert!(self.read_more(), "closed inside a body");
        }
        answer.body = self.unread.drain(..length).collect();
        answer
    }

    /// Reads an answer that another will follow: its first line.
    pub fn interim(&mut self) -> String {
        while !self.unread.ends_with(b"\r\n\r\n") {
            assert!(self.read_more(), "closed before a head");
        }
        let head = String::from_utf8(std::mem::take(&mut self.unread)).unwrap();
        head.lines().next().unwrap().to_owned()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.answer(false)
    }

    /// What comes up to and with the next `end`, for answers that go on.
    pub fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|w| w == end.as_bytes()) {
                return String::from_utf8(self.unread.drain(..at + end.len()).collect()).unwrap();
            }
            assert!(self.read_more(), "closed before {end:?}: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    fn read_more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        match self.socket.read(&mut part) {
            Ok(n) => {
                self.unread.extend(&part[..n]);
                n > 0
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
            Err(e) => panic!("no answer: {e}"),
        }
    }

    /// Whether the server has closed this connection, waiting at most `patience` for it.
    pub fn closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        self.socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        loop {
            match self.socket.read(&mut [0; 1024]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return true,
            }
            if Instant::now() > deadline {
                return false;
            }
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).get(path)
}

/// One request of any kind: its head's first line, more header lines, and a body.
pub fn ask(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut client = Client::connect(address);
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\nhost: test\r\n{headers}\r\n{body}"));
    client.answer(line.starts_with("HEAD"))
}
