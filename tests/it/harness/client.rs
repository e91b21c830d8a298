//! A client that controls what it sends, and sees what comes, when it comes.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::wait::PATIENCE;

/// Sends requests to the gateway, each on a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When the head had come.
    pub(crate) at: Instant,
}

/// A request that is sent. Dropped, it closes the connection.
pub(crate) struct Sent {
    response: Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>,
    connection: Connection,
}

/// An answer whose head has come and whose body is still to be read. Dropped, it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Connection,
}

/// What drives a connection; it ends with who holds this.
struct Connection(JoinHandle<()>);

/// Why an exchange has no answer.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    /// A client with a key.
    pub(crate) fn new(addr: SocketAddr, key: &str) -> Self {
        let authorization = ("authorization".to_owned(), format!("Bearer {key}"));
        Self { addr, headers: vec![authorization] }
    }

    /// The same with another header on every request.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, as Codex CLI calls.
    pub(crate) fn codex(self) -> Self {
        self.with("originator", "codex_exec").with("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64)")
    }

    /// Sends a request, and gives the answer once its head has come.
    pub(crate) async fn open(&self, method: &str, path: &str, body: Bytes) -> Result<Stream, Failure> {
        self.send_only(method, path, body).await?.head().await
    }

    /// Connects and sends a request, without waiting for the answer.
    pub(crate) async fn send_only(&self, method: &str, path: &str, body: Bytes) -> Result<Sent, Failure> {
        let socket = TcpStream::connect(self.addr).await?;
        socket.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(async move {
            // What goes wrong here is seen by who reads the answer.
            let _ended = connection.await;
        });
        let mut request =
            http::Request::builder().method(method).uri(path).header("host", self.addr.to_string());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let response = sender.send_request(request.body(Full::new(body))?);
        // The sender's drop ends the connection after this answer.
        Ok(Sent { response: Box::pin(response), connection: Connection(connection) })
    }

    /// Sends a request, and gives the whole answer.
    pub(crate) async fn try_send(&self, method: &str, path: &str, body: Bytes) -> Result<Answer, Failure> {
        self.send_only(method, path, body).await?.answer().await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        tokio::time::timeout(PATIENCE, self.try_send(method, path, body.into()))
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: no answer in {PATIENCE:?}"))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    /// A response from a model, as the tests mostly want one.
    pub(crate) async fn respond(&self, model: &str) -> Answer {
        self.post("/v1/responses", &ask(model)).await
    }

    /// A stream, once its head has come.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Stream {
        let opened = tokio::time::timeout(PATIENCE, self.open("POST", path, body.to_string().into())).await;
        opened.expect("the head comes in time").expect("the head comes")
    }

    /// Sends bytes as they are, and gives all that comes until the other side closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.addr).await?;
            socket.write_all(bytes).await?;
            let mut told = Vec::new();
            // A connection that is reset after the answer has been read is an end like another.
            let _reset = socket.read_to_end(&mut told).await;
            Ok::<_, std::io::Error>(told)
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time").expect("a connection")
    }

    /// The request headers, as lines.
    pub(crate) fn header_lines(&self) -> String {
        let lines: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        lines.concat()
    }
}

/// A body for `/v1/responses`.
pub(crate) fn ask(model: &str) -> Value {
    serde_json::json!({"model": model, "input": "Say hello.", "max_output_tokens": 64})
}

/// The same, streamed.
pub(crate) fn ask_stream(model: &str) -> Value {
    let mut body = ask(model);
    body["stream"] = Value::Bool(true);
    body
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The decision's id.
    pub(crate) fn decision(&self) -> String {
        decision(&self.headers)
    }

    /// A parameter of the decision.
    pub(crate) fn told(&self, name: &str) -> Option<String> {
        parameter(self.header("x-access-decision")?, name)
    }

    /// `error.type`, `error.code`.
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let member = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (member("type"), member("code"))
    }

    /// Asserts the status, and shows the whole answer where it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }
}

impl Sent {
    /// Waits for the head of the answer.
    pub(crate) async fn head(self) -> Result<Stream, Failure> {
        let (head, body) = self.response.await?.into_parts();
        let status = head.status.as_u16();
        Ok(Stream { status, headers: head.headers, body, _connection: self.connection })
    }

    /// Waits for the whole answer.
    pub(crate) async fn answer(self) -> Result<Answer, Failure> {
        let mut stream = self.head().await?;
        let at = Instant::now();
        let mut whole = Vec::new();
        while let Some(chunk) = stream.chunk().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(Answer { status: stream.status, headers: stream.headers, body: whole.into(), at })
    }
}

impl Stream {
    /// The next piece of the body. `None`: it has ended as it should.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// The rest of the body, and whether it ended as it should.
    pub(crate) async fn rest(&mut self) -> (String, bool) {
        let mut told = Vec::new();
        let whole = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.chunk().await {
                    Some(Ok(chunk)) => told.extend_from_slice(&chunk),
                    Some(Err(_cut)) => return false,
                    None => return true,
                }
            }
        });
        let whole = whole.await.expect("the stream ends in time");
        (String::from_utf8_lossy(&told).into_owned(), whole)
    }

    /// Reads until so many events have come whole; what came.
    pub(crate) async fn events(&mut self, count: usize) -> String {
        let mut told = Vec::new();
        while events_in(&told) < count {
            let chunk = tokio::time::timeout(PATIENCE, self.chunk()).await.expect("an event in time");
            let Some(Ok(chunk)) = chunk else {
                panic!("{count} events were wanted, and only came: {}", String::from_utf8_lossy(&told));
            };
            told.extend_from_slice(&chunk);
        }
        String::from_utf8_lossy(&told).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn decision(&self) -> String {
        decision(&self.headers)
    }

    /// Goes away, as a client that is closed.
    pub(crate) fn leave(self) {
        drop(self);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn events_in(told: &[u8]) -> usize {
    told.windows(2).filter(|pair| pair == b"\n\n").count()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().expect("a header in ASCII"))
}

fn decision(headers: &HeaderMap) -> String {
    let told = header(headers, "x-access-decision").unwrap_or_else(|| panic!("no decision in {headers:#?}"));
    parameter(told, "id").unwrap_or_else(|| panic!("no id in {told}"))
}

/// A parameter of a structured field, without its quotes.
pub(crate) fn parameter(field: &str, name: &str) -> Option<String> {
    let value = field.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}
