//! The upstream as a client on the wire sees it: raw bytes over TCP, so that chunks and cuts are what they are.

mod chat;
mod faults;
mod responses;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Options, Seen, Upstream};
use crate::units::time::{Clock, Timestamp};

const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream that runs until it is dropped.
struct Running {
    addr: SocketAddr,
    seen: Seen,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn options() -> Options {
    Options { clock: Clock::manual(Timestamp::from_ms(1_795_365_295_999)), ..Options::default() }
}

fn start(options: Options) -> Running {
    let upstream = Upstream::bind((Ipv4Addr::LOCALHOST, 0).into(), options).expect("bound");
    let (addr, seen) = (upstream.local_addr(), upstream.seen());
    Running { addr, seen, serving: tokio::spawn(upstream.serve(std::future::pending())) }
}

/// A request of one exchange per connection; `head` is `POST /v1/responses`, say.
fn request(head: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: upstream\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// An answer as its bytes say.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case, as sent.
    head: String,
    /// After the header, chunked or not.
    raw: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.raw).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The chunks, the last perhaps in part; and whether the end of the stream was told.
    fn chunks(&self) -> (Vec<Vec<u8>>, bool) {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"), "{self:?}");
        let (mut rest, mut chunks) = (&self.raw[..], Vec::new());
        while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let size = std::str::from_utf8(&rest[..at]).expect("ASCII");
            let size = usize::from_str_radix(size, 16).expect("a chunk's size");
            rest = &rest[at + 2..];
            if size == 0 {
                assert_eq!(rest, b"\r\n");
                return (chunks, true);
            }
            chunks.push(rest[..size.min(rest.len())].to_vec());
            rest = rest.get(size + 2..).unwrap_or_default();
        }
        assert!(rest.is_empty(), "{rest:?}");
        (chunks, false)
    }

    /// The events of a whole stream; each must be a chunk of its own.
    fn events(&self) -> Vec<String> {
        let (chunks, whole) = self.chunks();
        assert!(whole, "the stream is cut");
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let events: Vec<String> =
            chunks.into_iter().map(|chunk| String::from_utf8(chunk).expect("UTF-8")).collect();
        for event in &events {
            assert!(event.ends_with("\n\n") && event.trim_end().lines().count() <= 2, "{event:?}");
        }
        events
    }
}

/// Sends all of it and reads until the other side closes.
async fn exchange(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    stream.write_all(request).await.expect("written");
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time").expect("read");
    bytes
}

fn answer(bytes: &[u8]) -> Answer {
    let at = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no header: {bytes:?}"));
    let head = String::from_utf8(bytes[..at].to_vec()).expect("ASCII").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, raw: bytes[at + 4..].to_vec() }
}

async fn ask(addr: SocketAddr, head: &str, headers: &str, body: &str) -> Answer {
    answer(&exchange(addr, &request(head, headers, body.as_bytes())).await)
}

async fn respond(addr: SocketAddr, body: &str) -> Answer {
    ask(addr, "POST /v1/responses", "", body).await
}

/// The JSON in an event's `data:`, and what its `event:` says.
fn data(event: &str) -> (Option<&str>, Value) {
    let name = event.lines().find_map(|line| line.strip_prefix("event: "));
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    (name, serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
}

fn assert_has(object: &Value, members: &[&str]) {
    for member in members {
        assert!(object.get(member).is_some(), "no {member} in {object}");
    }
}
