//! A keep-alive HTTP/1.1 client that costs next to nothing: requests are bytes made beforehand, answers are looked at
//! where they lie. It shares the machine with what it measures.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READ_BYTES: usize = 16 << 10;
/// The last chunk of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    parsed: usize,
}

/// An answer, while its connection is not used again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The status.
    pub(crate) status: u16,
    head: &'a [u8],
    /// The body; chunks still in their frames.
    pub(crate) body: &'a [u8],
}

/// How a head says where its body ends.
enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(2 * READ_BYTES), parsed: 0 })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        let head = self.begin(request).await?;
        match framing(&self.received[..head])? {
            Framing::Length(length) => {
                while self.received.len() < head + length {
                    self.read().await?;
                }
            }
            Framing::Chunked => {
                while !self.received[head..].ends_with(LAST_CHUNK) {
                    self.read().await?;
                }
            }
        }
        self.answer(head)
    }

    /// Sends a request and reads the answer's head. Says where the body begins; what has come of it lies there.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.received.clear();
        self.parsed = 0;
        self.stream.write_all(request).await?;
        loop {
            self.read().await?;
            let from = self.parsed.saturating_sub(3);
            if let Some(place) = memchr::memmem::find(&self.received[from..], b"\r\n\r\n") {
                return Ok(from + place + 4);
            }
            self.parsed = self.received.len();
        }
    }

    /// Reads what has come, at least something. Says how much.
    pub(crate) async fn read(&mut self) -> anyhow::Result<usize> {
        self.received.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.received).await?;
        anyhow::ensure!(count > 0, "the connection was closed after {} bytes", self.received.len());
        Ok(count)
    }

    /// All that has come since the request.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Whether a chunked body has come to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.received.ends_with(LAST_CHUNK)
    }

    /// The answer as far as it has come.
    pub(crate) fn answer(&self, head: usize) -> anyhow::Result<Answer<'_>> {
        let (head, body) = self.received.split_at(head);
        let status = head
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|text| text.parse().ok());
        Ok(Answer { status: status.context("no status line")?, head, body })
    }
}

impl Answer<'_> {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\nUser-Agent: overfall-bench\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The value of a header in a head.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.find_map(|line| {
        let value = line.get(name.len()..)?.strip_prefix(b":")?;
        let is_named = line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        is_named.then(|| std::str::from_utf8(value).ok().map(str::trim))?
    })
}

fn framing(head: &[u8]) -> anyhow::Result<Framing> {
    match header(head, "content-length") {
        Some(length) => Ok(Framing::Length(length.parse()?)),
        None if header(head, "transfer-encoding").is_some() => Ok(Framing::Chunked),
        None => Ok(Framing::Length(0)),
    }
}
