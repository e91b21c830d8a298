//! An HTTP/1.1 client that does what it is told, byte by byte.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// An answer as its bytes say.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// Whether the body ended as its framing says it must.
    pub(super) whole: bool,
}

/// A request's bytes; the body's length is told.
pub(super) fn request(method: &str, target: &str, key: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request whose body comes in one chunk of unstated length.
pub(super) fn chunked(target: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, ahead: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Says that nothing more is sent; the answer is still wanted.
    pub(super) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half closed");
    }

    pub(super) fn exchange(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes);
        self.answer()
    }

    /// Reads until `text` has come.
    pub(super) fn read_until(&mut self, text: &str) -> String {
        while !String::from_utf8_lossy(&self.ahead).contains(text) {
            assert!(
                self.more(),
                "the connection ended before {text}: {}",
                String::from_utf8_lossy(&self.ahead)
            );
        }
        String::from_utf8_lossy(&self.ahead).into_owned()
    }

    /// Whether the other side has closed the connection.
    pub(super) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more()
    }

    /// Reads an answer, 1xx left out.
    pub(super) fn answer(&mut self) -> Answer {
        loop {
            let head = self.head();
            let mut lines = head.lines();
            let status =
                lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("no status: {head}"));
            if status < 200 {
                continue;
            }
            let headers: HashMap<_, _> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let (body, whole) = self.body(status, &headers);
            return Answer { status, headers, body, whole };
        }
    }

    fn body(&mut self, status: u16, headers: &HashMap<String, String>) -> (Vec<u8>, bool) {
        if status == 204 {
            return (Vec::new(), true);
        }
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            return self.chunks();
        }
        let Some(length) = headers.get("content-length") else {
            while self.more() {}
            return (std::mem::take(&mut self.ahead), true);
        };
        let whole = self.take(length.parse().expect("a length"));
        let is_whole = whole.is_some();
        (whole.unwrap_or_else(|| std::mem::take(&mut self.ahead)), is_whole)
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line() else { return (body, false) };
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no size: {line}"));
            let Some(chunk) = self.take(size + 2) else {
                body.append(&mut self.ahead);
                return (body, false);
            };
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return (body, true);
            }
        }
    }

    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            assert!(self.more(), "no answer: {}", String::from_utf8_lossy(&self.ahead));
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Some(String::from_utf8(line).expect("text"));
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < count {
            if !self.more() {
                return None;
            }
        }
        Some(self.ahead.drain(..count).collect())
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.ahead.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.ahead)),
        }
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `error.code` of a refusal.
    pub(super) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of each event, its lines joined.
    pub(super) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let events = text.split("\n\n").map(|event| {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
        });
        let events = events.filter(|data| !data.is_empty() && data != "[DONE]");
        events
            .map(|data| serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {text}")))
            .collect()
    }

    /// The id in `X-Access-Decision`.
    pub(super) fn decision(&self) -> crate::units::DecisionId {
        let told = self.header("x-access-decision");
        let id = told.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
        id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no decision: {self:?}"))
    }
}
